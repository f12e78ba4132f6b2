"""RMSNorm over the last dim: y = x / √(mean(x²) + ε) · weight (Zhang, Sennrich 2019).

Six operators become one pass; the row is held in registers as in ``layer_norm.py``.
"""

from __future__ import annotations

import numpy as np

from ..declare import plugin
from .layer_norm import ROW_BLOCK

_SOURCE = r"""
constexpr int W = wb::width<T>, HELD = 4;

extern "C" __global__ void __launch_bounds__(512) fused_rms_norm(
    const T* __restrict__ x, const T* __restrict__ weight, T* __restrict__ y, long long rows, long long cols,
    float epsilon)
{
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps: blockDim.x is 32 where a block has several rows
    x += row * cols;
    y += row * cols;
    const long long packs = cols / W;
    float squares = 0.f;
    if (cols % W == 0 && packs <= HELD * blockDim.x) {
        wb::Pack<T> held[HELD];
#pragma unroll
        for (int u = 0; u < HELD; u++)
            if (threadIdx.x + u * blockDim.x < packs) held[u] = wb::load(x, threadIdx.x + u * blockDim.x);
#pragma unroll
        for (int u = 0; u < HELD; u++)
            if (threadIdx.x + u * blockDim.x < packs)
#pragma unroll
                for (int i = 0; i < W; i++) squares += float(held[u].at[i]) * float(held[u].at[i]);
        const float scale = rsqrtf(wb::row_sum(squares) / cols + epsilon);
#pragma unroll
        for (int u = 0; u < HELD; u++) {
            const int pack = threadIdx.x + u * blockDim.x;
            if (pack >= packs) break;
            const wb::Pack<T> w = wb::load(weight, pack);
#pragma unroll
            for (int i = 0; i < W; i++) held[u].at[i] = T(float(held[u].at[i]) * scale * float(w.at[i]));
            wb::store(y, pack, held[u]);
        }
        return;
    }
    for (long long i = threadIdx.x; i < cols; i += blockDim.x) squares += float(x[i]) * float(x[i]);
    const float scale = rsqrtf(wb::row_sum(squares) / cols + epsilon);
    for (long long i = threadIdx.x; i < cols; i += blockDim.x) y[i] = T(float(x[i]) * scale * float(weight[i]));
}
"""


def _reference(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


rms_norm = plugin(
    "FusedRMSNorm",
    body="""FusedRMSNorm <epsilon: float = 1e-6> (x, weight) => (y) {
        axis = Constant <value_ints: ints = [-1]> ()
        two = Constant <value_float: float = 2.0> ()
        small = Constant <value_float: float = @epsilon> ()
        two_x = CastLike (two, x)
        small_x = CastLike (small, x)
        squared = Pow (x, two_x)
        mean = ReduceMean (squared, axis)
        shifted = Add (mean, small_x)
        root = Sqrt (shifted)
        normalised = Div (x, root)
        y = Mul (normalised, weight)
    }""",
    cuda=_SOURCE,
    args={"rows": "rows(x)", "cols": "cols(x)", "epsilon": "epsilon"},
    grid="ceil_div(rows(x), block_y)",
    block=ROW_BLOCK,
    requires=("size(weight) == cols(x)",),
    example={"x": (4096, 4096), "weight": (4096,)},
    reference=_reference,
)
