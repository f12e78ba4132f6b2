"""Rules about what is quantized."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ...edits.base import Edit
from ..fixes import (
    MOVES,
    BypassPair,
    CastToDequantize,
    DequantizeFirst,
    FakeQuantize,
    FoldNode,
    QuantizeWeight,
    cancel,
    channels,
    dequantizers,
)
from .view import Finding, View, found

_PRODUCTS = frozenset(("Conv", "ConvTranspose", "MatMul", "Gemm"))


def offset(view: View) -> Iterator[Finding]:
    """Zero points other than 0: the parser refuses them."""
    for node in view.nodes:
        if node.op_type == "QuantizeLinear" and len(node.inputs) > 2:
            zero = view.constant(node.inputs[2])
            if zero is not None and np.any(zero):
                fits = zero.size == 1 and dequantizers(node) is not None
                reason = f"its zero point is {zero.ravel()[0]}: TensorRT quantizes symmetrically"
                yield found("offset", "error", node, reason, FakeQuantize(node.name or "") if fits else None)


def bias(view: View) -> Iterator[Finding]:
    """DequantizeLinear of 32-bit weights: the parser takes 8 and 4 bits only."""
    for node in view.nodes:
        source = view.constant(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
        if source is not None and source.dtype.name in ("int32", "int16", "uint16"):
            reason = f"it dequantizes a weight of type {source.dtype.name}: TensorRT takes 8 bits or less"
            yield found("bias", "error", node, reason, FoldNode(node.name or ""))


def bare_int8(view: View) -> Iterator[Finding]:
    """int8 weights that anything but DequantizeLinear reads: the builder takes int8 constants for quantized ones."""
    for node in view.nodes:
        if node.op_type == "DequantizeLinear" or not node.inputs:
            continue
        source = view.constant(node.inputs[0])
        if source is None or source.dtype != np.int8:
            continue
        edit: Edit | None = None
        if node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.FLOAT and source.size > 1:
            edit = CastToDequantize(node.name or "")
        elif node.op_type == "Gather" and _one_dequantizer(view, node):
            edit = DequantizeFirst(node.name or "")
        reason = "it reads an int8 weight: TensorRT takes that for a quantized one, which DequantizeLinear must read"
        yield found("bare_int8", "error", node, reason, edit)


def _one_dequantizer(view: View, node: ir.Node) -> bool:
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) != 1 or users[0].op_type != "DequantizeLinear" or node.outputs[0].is_graph_output():
        return False
    scale = view.constant(users[0].inputs[1])
    return scale is not None and scale.size == 1


def repeated(view: View) -> Iterator[Finding]:
    """Pairs of nodes of which the second undoes the first."""
    taken: set[str] = set()
    for node in view.nodes:
        first = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if first is None or node.domain or {node.name, first.name} & taken or first.graph is not node.graph:
            continue
        if node.op_type in ("Transpose", "DequantizeLinear") and cancel(first, node):
            taken.update((node.name or "", first.name or ""))
            what = "Transpose" if node.op_type == "Transpose" else "quantization"
            reason = f"it undoes {first.name!r}: both together change nothing and cost a pass over the tensor ({what})"
            yield found("repeated", "cost", node, reason, BypassPair(first.name or "", node.name or ""))


def half_quantized(view: View) -> Iterator[Finding]:
    """Products of which one side alone is quantized: they run in floating point."""
    for node in view.nodes:
        if node.op_type not in _PRODUCTS or len(node.inputs) < 2:
            continue
        sides = [_quantized(value) for value in node.inputs[:2]]
        if sides[0] == sides[1]:
            continue
        weight = view.constant(node.inputs[1])
        fits = sides[0] and weight is not None and weight.dtype == np.float32 and channels(node) is not None
        which = "the second" if sides[0] else "the first"
        reason = f"{which} of its inputs is not quantized: it runs in floating point"
        advice = (
            "the edit rounds the weight to int8 with one scale for each output channel, which changes the numbers: "
            "Check.fix applies it only by name"
            if fits
            else "its scale has to come from data: quantize it with the tool that quantized the other, or leave that "
            "one in floating point, too"
        )
        edit = QuantizeWeight(node.name or "") if fits else None
        yield found("half_quantized", "cost", node, reason, edit, advice)


def _quantized(value: ir.Value | None) -> bool:
    while value is not None and (maker := value.producer()) is not None:
        if maker.op_type == "DequantizeLinear":
            return True
        if maker.op_type not in MOVES:
            return False
        value = maker.inputs[0]
    return False
