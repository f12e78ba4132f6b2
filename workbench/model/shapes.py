"""Shapes of every tensor of a graph for given input shapes, without running it or touching its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from .info import Shape, TensorInfo
from .walk import Walk


def infer(proto: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    """What is known of every tensor when the inputs have the given shapes.

    Symbolic dims (and expressions of them) that the given shapes fix are filled in everywhere. Inputs that
    are not given keep their declared shape.

    Args:
        proto: any model; it is not changed, its weights are neither read nor copied.
        input_shapes: input name -> shape.

    Returns:
        Tensor name -> TensorInfo; dims that cannot be known are None. Tensors inside bodies are under
        ``<node>.<attribute>/<name>``, inside functions under ``<domain>::<function>/<name>``. Outputs of
        operators that onnx has no schema for are as the model declares them, if it does. Never raises on an
        odd model: what is not known is missing, or has no shape.
    """
    found = Walk(proto, input_shapes, count=False).tensors
    return {key: replace(info, shape=_concrete(info.shape)) for key, info in found.items()}


def _concrete(shape: Shape | None) -> Shape | None:
    return shape and tuple(dim if isinstance(dim, int) else None for dim in shape)
