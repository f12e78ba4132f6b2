"""Skip-add + LayerNorm: total = x + skip; y = LayerNorm(total) · weight + bias. Both are outputs.

The sum goes on to the next skip connection, the normalised to the layer: one pass reads two tensors and writes
two. As in
ONNX, the sum is rounded to the tensors' type before it is normalised. The row is held as in ``layer_norm.py``.
"""

from __future__ import annotations

import numpy as np

from ..declare import plugin
from .layer_norm import ROW_BLOCK, normalised

_SOURCE = r"""
constexpr int W = wb::width<T>, HELD = 4;

extern "C" __global__ void __launch_bounds__(512) fused_skip_layer_norm(
    const T* __restrict__ x, const T* __restrict__ skip, const T* __restrict__ weight, const T* __restrict__ bias,
    T* __restrict__ y, T* __restrict__ total, long long rows, long long cols, float epsilon)
{
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps: blockDim.x is 32 where a block has several rows
    x += row * cols;
    skip += row * cols;
    y += row * cols;
    total += row * cols;
    const long long packs = cols / W;
    float sum = 0.f, squares = 0.f;
    if (cols % W == 0 && packs <= HELD * blockDim.x) {
        wb::Pack<T> held[HELD], other[HELD];
#pragma unroll
        for (int u = 0; u < HELD; u++)
            if (threadIdx.x + u * blockDim.x < packs) {
                held[u] = wb::load(x, threadIdx.x + u * blockDim.x);
                other[u] = wb::load(skip, threadIdx.x + u * blockDim.x);
            }
#pragma unroll
        for (int u = 0; u < HELD; u++)
            if (threadIdx.x + u * blockDim.x < packs) {
#pragma unroll
                for (int i = 0; i < W; i++) {
                    held[u].at[i] = T(float(held[u].at[i]) + float(other[u].at[i]));
                    sum += float(held[u].at[i]);
                }
                wb::store(total, threadIdx.x + u * blockDim.x, held[u]);
            }
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
    for (long long i = threadIdx.x; i < cols; i += blockDim.x) {
        total[i] = T(float(x[i]) + float(skip[i]));
        sum += float(total[i]);
    }
    const float mean = wb::row_sum(sum) / cols;
    for (long long i = threadIdx.x; i < cols; i += blockDim.x) {  // each thread reads what it wrote
        const float d = float(total[i]) - mean;
        squares += d * d;
    }
    const float scale = rsqrtf(wb::row_sum(squares) / cols + epsilon);
    for (long long i = threadIdx.x; i < cols; i += blockDim.x)
        y[i] = T((float(total[i]) - mean) * scale * float(weight[i]) + float(bias[i]));
}
"""


def _reference(
    x: np.ndarray, skip: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    total = x + skip
    return normalised(total, epsilon) * weight + bias, total


skip_layer_norm = plugin(
    "FusedSkipLayerNorm",
    body="""FusedSkipLayerNorm <epsilon: float = 1e-5> (x, skip, weight, bias) => (y, total) {
        axis = Constant <value_ints: ints = [-1]> ()
        two = Constant <value_float: float = 2.0> ()
        small = Constant <value_float: float = @epsilon> ()
        two_x = CastLike (two, x)
        small_x = CastLike (small, x)
        total = Add (x, skip)
        mean = ReduceMean (total, axis)
        centred = Sub (total, mean)
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
    requires=("size(skip) == size(x)", "size(weight) == cols(x)", "size(bias) == cols(x)"),
    example={"x": (4096, 4096), "skip": (4096, 4096), "weight": (4096,), "bias": (4096,)},
    reference=_reference,
)
