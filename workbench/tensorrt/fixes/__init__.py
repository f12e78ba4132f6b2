"""Edits that make a model acceptable to TensorRT and leave what it computes as it is, or say that they do not."""

from __future__ import annotations

from .common import MOVES
from .graph import (
    BoundLoop,
    CompressToGather,
    DoubleToFloat,
    ExpandOperator,
    FoldNode,
    TakeBranch,
    TransposeOutside,
    at_edge,
    endless,
)
from .quantized import (
    BypassPair,
    CastToDequantize,
    CastToQuantize,
    DequantizeFirst,
    FakeQuantize,
    QuantizeWeight,
    cancel,
    channels,
    dequantizers,
    fp8_casts,
)

__all__ = [
    "MOVES",
    "BoundLoop",
    "BypassPair",
    "CastToDequantize",
    "CastToQuantize",
    "CompressToGather",
    "DequantizeFirst",
    "DoubleToFloat",
    "ExpandOperator",
    "FakeQuantize",
    "FoldNode",
    "QuantizeWeight",
    "TakeBranch",
    "TransposeOutside",
    "at_edge",
    "cancel",
    "channels",
    "dequantizers",
    "endless",
    "fp8_casts",
]
