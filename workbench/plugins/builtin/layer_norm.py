"""LayerNorm over the last dim: y = (x - mean) / √(variance + ε) · weight + bias (Ba, Kiros, Hinton 2016).

Nine operators become one pass. How it is fast: one row per group of threads; the row stays in registers between the
mean, the variance (two-pass, so exact) and the result, so that it is read once. A row that does not fit in registers,
or whose length is no multiple of 16 bytes, is read three times, mostly from cache.
"""

from __future__ import annotations

import numpy as np

from ..declare import plugin

ROW_BLOCK = (
    "32 if cols(x) <= 128 * width(x) else min(512, round_up(ceil_div(cols(x), width(x) * 4), 32))",
    "4 if cols(x) <= 128 * width(x) else 1",
)
"""Threads of a row (up to 4 packs for each of them) and rows of a block, for kernels that hold a row in registers."""

_SOURCE = r"""
constexpr int W = wb::width<T>, HELD = 4;

extern "C" __global__ void __launch_bounds__(512) fused_layer_norm(
    const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias, T* __restrict__ y,
    long long rows, long long cols, float epsilon)
{
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps: blockDim.x is 32 where a block has several rows
    x += row * cols;
    y += row * cols;
    const long long packs = cols / W;
    if (cols % W == 0 && packs <= HELD * blockDim.x) {
        wb::Pack<T> held[HELD];
        float sum = 0.f, squares = 0.f;
#pragma unroll
        for (int u = 0; u < HELD; u++)
            if (threadIdx.x + u * blockDim.x < packs) held[u] = wb::load(x, threadIdx.x + u * blockDim.x);
#pragma unroll
        for (int u = 0; u < HELD; u++)
            if (threadIdx.x + u * blockDim.x < packs)
#pragma unroll
                for (int i = 0; i < W; i++) sum += float(held[u].at[i]);
        const float mean = wb::row_sum(sum) / cols;
#pragma unroll
        for (int u = 0; u < HELD; u++)
            if (threadIdx.x + u * blockDim.x < packs)
#pragma unroll
                for (int i = 0; i < W; i++) {
                    const float d = float(held[u].at[i]) - mean;
                    squares += d * d;
                }
        const float scale = rsqrtf(wb::row_sum(squares) / cols + epsilon);
#pragma unroll
        for (int u = 0; u < HELD; u++) {
            const int pack = threadIdx.x + u * blockDim.x;
            if (pack >= packs) break;
            const wb::Pack<T> w = wb::load(weight, pack), b = wb::load(bias, pack);
#pragma unroll
            for (int i = 0; i < W; i++)
                held[u].at[i] = T((float(held[u].at[i]) - mean) * scale * float(w.at[i]) + float(b.at[i]));
            wb::store(y, pack, held[u]);
        }
        return;
    }
    float sum = 0.f, squares = 0.f;
    for (long long i = threadIdx.x; i < cols; i += blockDim.x) sum += float(x[i]);
    const float mean = wb::row_sum(sum) / cols;
    for (long long i = threadIdx.x; i < cols; i += blockDim.x) {
        const float d = float(x[i]) - mean;
        squares += d * d;
    }
    const float scale = rsqrtf(wb::row_sum(squares) / cols + epsilon);
    for (long long i = threadIdx.x; i < cols; i += blockDim.x)
        y[i] = T((float(x[i]) - mean) * scale * float(weight[i]) + float(bias[i]));
}
"""


def normalised(x: np.ndarray, epsilon: float) -> np.ndarray:
    """(x - mean) / √(variance + ε) over the last dim."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + epsilon)


def _reference(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    return normalised(x, epsilon) * weight + bias


layer_norm = plugin(
    "FusedLayerNorm",
    body="""FusedLayerNorm <epsilon: float = 1e-5> (x, weight, bias) => (y) {
        axis = Constant <value_ints: ints = [-1]> ()
        two = Constant <value_float: float = 2.0> ()
        small = Constant <value_float: float = @epsilon> ()
        two_x = CastLike (two, x)
        small_x = CastLike (small, x)
        mean = ReduceMean (x, axis)
        centred = Sub (x, mean)
        squared = Pow (centred, two_x)
        variance = ReduceMean (squared, axis)
        shifted = Add (variance, small_x)
        deviation = Sqrt (shifted)
        normalised = Div (centred, deviation)
        weighted = Mul (normalised, weight)
        y = Add (weighted, bias)
    }""",
    cuda=_SOURCE,
    args={"rows": "rows(x)", "cols": "cols(x)", "epsilon": "epsilon"},
    grid="ceil_div(rows(x), block_y)",
    block=ROW_BLOCK,
    requires=("size(weight) == cols(x)", "size(bias) == cols(x)"),
    example={"x": (4096, 4096), "weight": (4096,), "bias": (4096,)},
    reference=_reference,
)
