"""What one layer of an engine is and does: its kind, precision, multiply-accumulates, sizes, bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .layers import BITS, Layer, Tensor, parse_dtype

CONV, DECONV, GEMM, POOL, REFORMAT, QUANTIZE, DEQUANTIZE, NOTHING, MYELIN, PLUGIN, SYNC, CONSTANT = (
    "Convolution", "Deconvolution", "Gemm", "Pooling", "Reformat", "Quantize", "Dequantize", "NoOp", "Myelin", "Plugin",
    "Sync", "Constant",
)  # fmt: skip
COPIES = (REFORMAT, NOTHING)
"""Kinds that only move data."""
_TENSOR_CORE = re.compile(r"[ihqw]?mma|tensorop|i8816|16816|1688|884|tf32", re.I)
_INTEGERS = {"INT64", "INT32", "BOOL", ""}  # indices, shapes and masks do not tell in what a layer computes


@dataclass(frozen=True)
class Work:
    """What a layer computes.

    Attributes:
        precision: of its weights, else of the data that it reads; ``''`` when not known.
        math: the same, but ``TF32`` where the tactic computes fp32 data in that.
        macs: multiply-accumulates; None when not known.
        m, n, k: sizes of the (implicit) matrix product, per group; None where there is none.
        weights: bytes of weights and bias.
        moved: bytes read and written, weights included, each once; None when a size is not known.
        tensor_core: whether the tactic's name tells of tensor cores; None without a tactic or a product.
    """

    kind: str
    precision: str = ""
    math: str = ""
    macs: int | None = None
    m: int | None = None
    n: int | None = None
    k: int | None = None
    groups: int | None = None
    weights: int | None = 0
    bytes_in: int | None = None
    bytes_out: int | None = None
    tensor_core: bool | None = None

    @property
    def moved(self) -> int | None:
        """Bytes read and written, weights included; 0 for a layer that does nothing at run time."""
        if self.kind in (NOTHING, CONSTANT, SYNC):
            return 0
        parts = (self.weights, self.bytes_in, self.bytes_out)
        return None if None in parts else sum(part or 0 for part in parts)


def work(layer: Layer) -> Work:
    """What the layer's own description tells; shapes of a layer that are not there leave numbers unknown."""
    kind = kind_of(layer)
    precision = precision_of(layer, kind)
    sizes = _sizes(layer, kind)
    product = kind in (CONV, DECONV, GEMM)
    known = bool(sizes) or not (product or kind in (MYELIN, PLUGIN))
    return Work(
        kind=kind,
        precision=precision,
        math="TF32" if precision == "FP32" and "tf32" in layer.tactic.lower() else precision,
        weights=_weights(layer),
        bytes_in=_total(layer.inputs),
        bytes_out=_total(layer.outputs),
        tensor_core=bool(_TENSOR_CORE.search(layer.tactic)) if product and layer.tactic else None,
        **({**sizes} if sizes else {"macs": 0 if known else None}),
    )


_BY_TYPE = (
    (NOTHING, r"^noop$"),
    (CONSTANT, r"constant"),
    (SYNC, r"^(signal|wait)$"),
    (PLUGIN, r"plugin"),
    (DECONV, r"deconv"),
    (CONV, r"conv|correlation"),
    (GEMM, r"gemm|matrix|matmul|fullyconnected"),
    (POOL, r"pool"),
    (REFORMAT, r"reformat"),
    (MYELIN, r"myelin|^kgen$|^fusion$|foreign"),
)


def kind_of(layer: Layer) -> str:
    """The kind of work: of the few above, else what TensorRT calls it (``Softmax``, ``PointWise`` ...)."""
    parameter = str(layer.attributes.get("ParameterType") or "")
    text = f"{parameter} {layer.type}" if parameter else layer.type
    for kind, pattern in _BY_TYPE:
        if re.search(pattern, layer.type, re.I) or (parameter and re.search(pattern, text, re.I)):
            return _reformat(layer) if kind == REFORMAT else kind
    if not layer.type:
        return "ForeignNode" if "ForeignNode" in layer.name else "unknown"
    return spelled(parameter or layer.type)


_SPELLED = {
    name.lower(): name
    for name in (
        "ElementWise", "PointWise", "SoftMax", "RaggedSoftMax", "TopK", "NMS", "LRN", "MoE", "ParametricReLU",
        "KVCacheUpdate",
    )
}  # fmt: skip
"""As in the names of TensorRT's interfaces (``IElementWiseLayer``), where parts of a name tell no words."""


def spelled(kind: str) -> str:
    """One spelling of a layer's type, for that of the inspector's JSON (``Shuffle``, ``Softmax``) and for the constant
    that a network has before it is built (``SHUFFLE``, ``SOFTMAX``, ``GRID_SAMPLE`` -> ``GridSample``)."""
    if known := _SPELLED.get(kind.replace("_", "").lower()):
        return known
    return "".join(part.capitalize() for part in kind.split("_")) if kind.isupper() else kind


def _reformat(layer: Layer) -> str:
    """Quantize and Dequantize nodes that were not fused run as reformats."""
    if str(layer.attributes.get("Origin") or "") != "QDQ" or not layer.inputs or not layer.outputs:
        return REFORMAT
    low = {"INT8", "FP8", "INT4", "FP4"}
    before, after = layer.inputs[0].dtype in low, layer.outputs[0].dtype in low
    return QUANTIZE if after and not before else DEQUANTIZE if before and not after else REFORMAT


def precision_of(layer: Layer, kind: str) -> str:
    """Of the weights, else of the first input that is not indices, else of the output."""
    for name in ("Weights", "Constant"):
        described = layer.attribute(name)
        if isinstance(described, Mapping) and described.get("Count"):
            return parse_dtype(str(described.get("Type") or ""))
    tensors = [*layer.inputs, *layer.outputs]
    if kind in (QUANTIZE, DEQUANTIZE):
        tensors = [t for t in tensors if t.dtype not in ("FP32", "FP16", "BF16")] or tensors
    named = [t.dtype for t in tensors if t.dtype not in _INTEGERS] or [t.dtype for t in tensors if t.dtype]
    return named[0] if named else ""


def _weights(layer: Layer) -> int | None:
    total = 0
    for name in ("Weights", "Bias"):
        described = layer.attribute(name)
        if not isinstance(described, Mapping):
            continue
        dtype = parse_dtype(str(described.get("Type") or ""))
        count = described.get("Count") or 0
        if not isinstance(count, int) or count < 0 or (count and dtype not in BITS):
            return None
        total += -(-count * BITS.get(dtype, 0) // 8)
    return total


def _total(tensors: tuple[Tensor, ...]) -> int | None:
    sizes = [tensor.nbytes for tensor in tensors]
    return None if not sizes or None in sizes else sum(size or 0 for size in sizes)


def _sizes(layer: Layer, kind: str) -> dict[str, int] | None:
    """macs, m, n, k, groups from attributes and shapes; None where these do not tell."""
    try:
        if kind == CONV:
            return _conv(layer)
        if kind == DECONV:
            return _deconv(layer)
        if kind == GEMM:
            return _gemm(layer)
    except (TypeError, IndexError, ValueError, ZeroDivisionError, KeyError):
        return None  # an attribute or a shape that counts is missing or not as expected
    return None


def _known(tensor: Tensor) -> tuple[int, ...]:
    if tensor.shape is None or any(dim < 0 for dim in tensor.shape):
        raise ValueError("unknown shape")
    return tensor.shape


def _filters(layer: Layer) -> tuple[int, int, int]:
    """(weights, output channels, groups)"""
    return (
        int(layer.attribute("Weights")["Count"]),
        int(layer.attribute("OutMaps")),
        int(layer.attribute("Groups") or 1),
    )


def _conv(layer: Layer) -> dict[str, int]:
    """Every position of the output takes each weight once. With a pooling behind, the positions are those
    before it."""
    count, maps, groups = _filters(layer)
    shape = _known(layer.inputs[0])
    if "ConvKernel" in layer.attributes:
        spatial = [
            (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, before, after, stride, dilation in zip(
                shape[2:],
                *(
                    layer.attribute(key)
                    for key in ("Kernel", "PrePadding", "PostPadding", "Stride", "Dilation")
                ),
                strict=True,
            )
        ]
    else:
        spatial = list(_known(layer.outputs[0])[2:])
    positions = shape[0] * math.prod(spatial)
    return {
        "macs": positions * count,
        "m": positions,
        "n": maps // groups,
        "k": count // maps,
        "groups": groups,
    }


def _deconv(layer: Layer) -> dict[str, int]:
    """Every position of the input takes each weight once."""
    count, maps, groups = _filters(layer)
    shape = _known(layer.inputs[0])
    positions = shape[0] * math.prod(shape[2:])
    channels = shape[1]
    return {
        "macs": positions * count,
        "m": positions,
        "n": count // channels,
        "k": channels // groups,
        "groups": groups,
    }


def _gemm(layer: Layer) -> dict[str, int]:
    """A[..., M, K] times B[..., K, N], or times weights [K, N]; ``MatrixOpA`` says whether A is
    transposed."""
    a, out = _known(layer.inputs[0]), _known(layer.outputs[0])
    described = layer.attribute("Weights")
    if isinstance(described, Mapping) and described.get("Count") and layer.attribute("OutMaps"):
        count, maps, _ = _filters(layer)
        rows = math.prod(out) // maps
        return {"macs": rows * count, "m": rows, "n": maps, "k": count // maps, "groups": 1}
    turned = str(layer.attributes.get("MatrixOpA") or "NONE").upper().endswith("TRANSPOSE")
    k = a[-2] if turned and len(a) > 1 else a[-1]
    operands = [t for t in layer.inputs[1:] if t.shape and len(t.shape) > 1]
    if operands and k not in _known(operands[0])[-2:]:
        raise ValueError("the operands do not fit")
    m, n = (out[-2] if len(out) > 1 else 1), out[-1]
    return {"macs": math.prod(out) * k, "m": m, "n": n, "k": k, "groups": math.prod(out[:-2])}


def text(tensors: tuple[Tensor, ...]) -> str:
    """``FP16 NHWC8[32,64,56,56]`` of each, with commas between."""
    return ", ".join(
        f"{t.format or '?'}[{','.join(map(str, t.shape)) if t.shape is not None else '?'}]" for t in tensors
    )


def attribute_text(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attributes as short text, for tables and the graph view."""
    return {key: value if isinstance(value, str) else repr(value) for key, value in attributes.items()}
