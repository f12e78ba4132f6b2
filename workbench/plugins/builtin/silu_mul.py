"""SiLU-mul, the middle of a SwiGLU block: y = x σ(x) · gate (Shazeer 2020, "GLU Variants Improve Transformer").

Three operators (Sigmoid, Mul, Mul: 8 tensors of traffic) become one pass over 3.
"""

from __future__ import annotations

import numpy as np

from ..declare import plugin

_SOURCE = r"""
constexpr int UNROLL = 2;

extern "C" __global__ void fused_silu_mul(const T* __restrict__ x, const T* __restrict__ gate, T* __restrict__ y,
                                          long long n)
{
    constexpr int W = wb::width<T>;
    const long long packs = n / W;
    const long long first = (long long)blockIdx.x * blockDim.x * UNROLL + threadIdx.x;
    wb::Pack<T> a[UNROLL], b[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const long long pack = first + u * blockDim.x;
        if (pack < packs) {
            a[u] = wb::load(x, pack);
            b[u] = wb::load(gate, pack);
        }
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const long long pack = first + u * blockDim.x;
        if (pack >= packs) break;
#pragma unroll
        for (int i = 0; i < W; i++) a[u].at[i] = T(wb::silu(float(a[u].at[i])) * float(b[u].at[i]));
        wb::store(y, pack, a[u]);
    }
    const long long rest = packs * W + threadIdx.x;  // fewer than W elements at the end
    if (blockIdx.x == 0 && rest < n) y[rest] = T(wb::silu(float(x[rest])) * float(gate[rest]));
}
"""


def _reference(x: np.ndarray, gate: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x)) * gate


silu_mul = plugin(
    "FusedSiluMul",
    body="""FusedSiluMul (x, gate) => (y) {
        sigmoid = Sigmoid (x)
        silu = Mul (x, sigmoid)
        y = Mul (silu, gate)
    }""",
    cuda=_SOURCE,
    args={"n": "size(x)"},
    grid="ceil_div(size(x), width(x) * block_x * 2)",
    block=128,
    requires=("size(gate) == size(x)", "rank(gate) == rank(x)"),
    example={"x": (4096, 4096), "gate": (4096, 4096)},
    reference=_reference,
)
