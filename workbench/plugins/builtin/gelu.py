"""GELU: y = x Φ(x), with the erf of Φ(x) = (1 + erf(x / √2)) / 2.

Five operators that each read and write the whole tensor become one pass: 10 (or more) tensors of traffic become 2.
How it is fast: every thread loads two packs of 16 bytes before it uses the first, so that enough bytes are on
their way.
"""

from __future__ import annotations

import math

import numpy as np

from ..declare import plugin

_SOURCE = r"""
constexpr int UNROLL = 2;

extern "C" __global__ void fused_gelu(const T* __restrict__ x, T* __restrict__ y, long long n)
{
    constexpr int W = wb::width<T>;
    const long long packs = n / W;
    const long long first = (long long)blockIdx.x * blockDim.x * UNROLL + threadIdx.x;
    wb::Pack<T> held[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const long long pack = first + u * blockDim.x;
        if (pack < packs) held[u] = wb::load(x, pack);
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const long long pack = first + u * blockDim.x;
        if (pack >= packs) break;
#pragma unroll
        for (int i = 0; i < W; i++) held[u].at[i] = T(wb::gelu_as<T>(float(held[u].at[i])));
        wb::store(y, pack, held[u]);
    }
    const long long rest = packs * W + threadIdx.x;  // fewer than W elements at the end
    if (blockIdx.x == 0 && rest < n) y[rest] = T(wb::gelu_as<T>(float(x[rest])));
}
"""

_TRITON = """
import torch, triton, triton.language as tl

@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr, SHORT: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n).to(tl.float32)
    if SHORT:  # the series of fast_gelu in workbench.cuh: an erf takes longer than the memory does with 16 bits
        t = 1.0 / (1.0 + 0.231641888 * tl.abs(x))
        series = t * (0.127414796 + t * (-0.142248368 + t * (0.710706871 + t * (-0.726576014 + t * 0.530702715))))
        tail = series * tl.exp2(x * x * -0.7213475204444817)
        y = x * tl.where(x > 0.0, 1.0 - tail, tail)
    else:
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=at < n)

def launch(inputs, outputs):
    n, size = inputs[0].numel(), inputs[0].element_size()
    block = 8192 // size
    kernel[(triton.cdiv(n, block),)](inputs[0], outputs[0], n, BLOCK=block, SHORT=size == 2, num_warps=8)
"""


def exact(x: np.ndarray) -> np.ndarray:
    """GELU in float64."""
    erf = np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2.0))
    return 0.5 * x * (1.0 + np.asarray(erf, np.float64))


gelu = plugin(
    "FusedGelu",
    body="""FusedGelu (x) => (y) {
        root = Constant <value_float: float = 1.41421356237> ()
        one = Constant <value_float: float = 1.0> ()
        half = Constant <value_float: float = 0.5> ()
        root_x = CastLike (root, x)
        one_x = CastLike (one, x)
        half_x = CastLike (half, x)
        scaled = Div (x, root_x)
        erf = Erf (scaled)
        shifted = Add (erf, one_x)
        product = Mul (x, shifted)
        y = Mul (product, half_x)
    }""",
    cuda=_SOURCE,
    args={"n": "size(x)"},
    grid="ceil_div(size(x), width(x) * block_x * 2)",
    block=128,
    example={"x": (4096, 4096)},
    reference=exact,
    triton=_TRITON,
)
