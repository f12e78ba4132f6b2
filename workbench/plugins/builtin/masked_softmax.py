"""Masked softmax of attention scores: y = softmax(scores · scale + mask) over the last dim.

Scores are (batch, heads, queries, keys); the mask is added and broadcasts over any of the first three dims. A mask of
-inf leaves a key out; a row that is masked whole is NaN, as in ONNX. One pass; the row is held in registers.
"""

from __future__ import annotations

import numpy as np

from ..declare import plugin

_SOURCE = r"""
constexpr int W = wb::width<T>;

// A row of at most HELD packs for each thread, held in registers; powers of 2 instead of e.
template <int HELD> __device__ void held_row(const T* scores, const T* mask, T* y, int packs, float scale)
{
    wb::Pack<T> held[HELD], added[HELD];
    float value[HELD * W], most = wb::Max::start(), sum = 0.f;
#pragma unroll
    for (int u = 0; u < HELD; u++)
        if (threadIdx.x + u * blockDim.x < packs) {
            held[u] = wb::load(scores, threadIdx.x + u * blockDim.x);
            added[u] = wb::load(mask, threadIdx.x + u * blockDim.x);
        }
#pragma unroll
    for (int u = 0; u < HELD; u++)
        if (threadIdx.x + u * blockDim.x < packs)
#pragma unroll
            for (int i = 0; i < W; i++) {
                value[u * W + i] = float(held[u].at[i]) * scale + float(added[u].at[i]) * wb::LOG2_E;
                most = wb::Max::of(value[u * W + i], most);
            }
    most = wb::row_max(most);
#pragma unroll
    for (int u = 0; u < HELD; u++)
        if (threadIdx.x + u * blockDim.x < packs)
#pragma unroll
            for (int i = 0; i < W; i++) sum += value[u * W + i] = wb::fast_exp2(value[u * W + i] - most);
    const float share = 1.f / wb::row_sum(sum);
#pragma unroll
    for (int u = 0; u < HELD; u++)
        if (threadIdx.x + u * blockDim.x < packs) {
#pragma unroll
            for (int i = 0; i < W; i++) held[u].at[i] = T(value[u * W + i] * share);
            wb::store(y, threadIdx.x + u * blockDim.x, held[u]);
        }
}

extern "C" __global__ void __launch_bounds__(512) fused_masked_softmax(
    const T* __restrict__ scores, const T* __restrict__ mask, T* __restrict__ y, long long rows, long long cols,
    long long heads, long long queries, long long mask_batch, long long mask_heads, long long mask_queries,
    float scale)
{
    const long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps: blockDim.x is 32 where a block has several rows
    scores += row * cols;
    y += row * cols;
    // 64-bit division is slow, and there are no 2^32 rows
    const unsigned above = unsigned(row) / unsigned(queries), query = unsigned(row) - above * unsigned(queries);
    const unsigned batch = above / unsigned(heads), head = above - batch * unsigned(heads);
    mask += (((mask_batch == 1 ? 0 : batch) * mask_heads + (mask_heads == 1 ? 0 : head)) * mask_queries
             + (mask_queries == 1 ? 0 : query)) * cols;
    scale *= wb::LOG2_E;
    if (cols % W == 0 && cols <= 4 * W * blockDim.x) {
        if (cols <= 2 * W * blockDim.x) held_row<2>(scores, mask, y, cols / W, scale);
        else held_row<4>(scores, mask, y, cols / W, scale);
        return;
    }
    float most = wb::Max::start(), sum = 0.f;
    for (long long i = threadIdx.x; i < cols; i += blockDim.x)
        most = wb::Max::of(float(scores[i]) * scale + float(mask[i]) * wb::LOG2_E, most);
    most = wb::row_max(most);
    for (long long i = threadIdx.x; i < cols; i += blockDim.x)
        sum += wb::fast_exp2(float(scores[i]) * scale + float(mask[i]) * wb::LOG2_E - most);
    const float share = 1.f / wb::row_sum(sum);
    for (long long i = threadIdx.x; i < cols; i += blockDim.x)
        y[i] = T(wb::fast_exp2(float(scores[i]) * scale + float(mask[i]) * wb::LOG2_E - most) * share);
}
"""


def _reference(scores: np.ndarray, mask: np.ndarray, scale: float) -> np.ndarray:
    values = scores * scale + mask
    powers = np.exp(values - values.max(-1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(-1, keepdims=True)


masked_softmax = plugin(
    "FusedMaskedSoftmax",
    body="""FusedMaskedSoftmax <scale: float = 1.0> (scores, mask) => (y) {
        factor = Constant <value_float: float = @scale> ()
        factor_x = CastLike (factor, scores)
        scaled = Mul (scores, factor_x)
        masked = Add (scaled, mask)
        y = Softmax <axis: int = -1> (masked)
    }""",
    cuda=_SOURCE,
    args={
        "rows": "rows(scores)", "cols": "cols(scores)", "heads": "dim(scores, -3)", "queries": "dim(scores, -2)",
        "mask_batch": "dim(mask, -4)", "mask_heads": "dim(mask, -3)", "mask_queries": "dim(mask, -2)",
        "scale": "scale",
    },
    grid="ceil_div(rows(scores), block_y)",
    block=(
        "32 if cols(scores) <= 128 * width(scores) else "
        "min(512, round_up(ceil_div(cols(scores), width(scores) * 4), 32))",
        "4 if cols(scores) <= 128 * width(scores) else 1",
    ),
    requires=(
        "cols(mask) == cols(scores)",
        "1 if dim(mask, -2) == dim(scores, -2) else dim(mask, -2) == 1",
        "1 if dim(mask, -3) == dim(scores, -3) else dim(mask, -3) == 1",
        "1 if dim(mask, -4) == dim(scores, -4) else dim(mask, -4) == 1",
        "rank(scores) <= 4",
        "rows(scores) < 4294967296",
    ),
    example={"scores": (8, 16, 512, 512), "mask": (8, 1, 1, 512)},
    reference=_reference,
)  # fmt: skip
