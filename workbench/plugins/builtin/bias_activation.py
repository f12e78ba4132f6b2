"""Bias + activation, what follows a MatMul: y = f(x + bias), bias over the last dim; f is GELU, ReLU or SiLU.

One pass over 2 tensors instead of 4 and more. A thread's packs lie a whole number of rows apart where that can be, so
that the bias is fetched from cache.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..declaration import Plugin
from ..declare import plugin
from .gelu import exact

_SOURCE = r"""
constexpr int UNROLL = 2;

__device__ float activate(float v) { return ACTIVATION; }

extern "C" __global__ void fused_bias_activation(const T* __restrict__ x, const T* __restrict__ bias,
                                                 T* __restrict__ y, long long n, long long cols)
{
    constexpr int W = wb::width<T>;
    if (cols % W) {  // rows that begin anywhere
        for (int u = 0; u < UNROLL * W; u++) {
            const long long i = ((long long)blockIdx.x * UNROLL * W + u) * blockDim.x + threadIdx.x;
            if (i < n) y[i] = T(activate(float(x[i]) + float(bias[i % cols])));
        }
        return;
    }
    const long long packs = n / W;
    const long long first = (long long)blockIdx.x * blockDim.x * UNROLL + threadIdx.x;
    const unsigned row = cols / W, step = blockDim.x % row;  // in packs of a row; 64-bit division is slow
    unsigned at = packs >> 32 ? first % row : unsigned(first) % row;
    wb::Pack<T> held[UNROLL], added[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const long long pack = first + u * blockDim.x;
        if (pack < packs) {
            held[u] = wb::load(x, pack);
            added[u] = wb::load(bias, at);
        }
        at += step;
        if (at >= row) at -= row;
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const long long pack = first + u * blockDim.x;
        if (pack >= packs) break;
#pragma unroll
        for (int i = 0; i < W; i++) held[u].at[i] = T(activate(float(held[u].at[i]) + float(added[u].at[i])));
        wb::store(y, pack, held[u]);
    }
}
"""


def _made(name: str, activation: str, body: str, reference: Callable[[np.ndarray], np.ndarray]) -> Plugin:
    return plugin(
        name,
        body=f"""{name} (x, bias) => (y) {{
            sum = Add (x, bias)
            {body}
        }}""",
        cuda=_SOURCE.replace("ACTIVATION", activation),
        args={"n": "size(x)", "cols": "cols(x)"},
        grid="ceil_div(size(x), width(x) * block_x * 2)",
        block=128,
        requires=("size(bias) == cols(x)",),
        example={"x": (4096, 4096), "bias": (4096,)},
        reference=lambda x, bias: reference(x + bias),
    )


bias_gelu = _made(
    "FusedBiasGelu",
    "wb::gelu_as<T>(v)",
    """root = Constant <value_float: float = 1.41421356237> ()
            one = Constant <value_float: float = 1.0> ()
            half = Constant <value_float: float = 0.5> ()
            root_x = CastLike (root, x)
            one_x = CastLike (one, x)
            half_x = CastLike (half, x)
            scaled = Div (sum, root_x)
            erf = Erf (scaled)
            shifted = Add (erf, one_x)
            product = Mul (sum, shifted)
            y = Mul (product, half_x)""",
    exact,
)

# a NaN stays one, which fmaxf would not do
bias_relu = _made("FusedBiasRelu", "v < 0.f ? 0.f : v", "y = Relu (sum)", lambda v: np.where(v < 0, 0.0, v))

bias_silu = _made(
    "FusedBiasSilu",
    "wb::silu(v)",
    """sigmoid = Sigmoid (sum)
            y = Mul (sum, sigmoid)""",
    lambda v: v / (1.0 + np.exp(-v)),
)
