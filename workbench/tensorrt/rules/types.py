"""Rules about types: of Casts, of inputs, of what is computed."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from ...edits import DeleteNodes, SetAttribute, SetInput  # type: ignore[attr-defined]
from ...edits.base import Edit
from ..fixes import CastToQuantize, DoubleToFloat, FoldNode, fp8_casts
from .view import Finding, View, found, of_input

TYPES = frozenset(("float32", "float16", "bfloat16", "float64", "int64", "int32", "int8", "bool", "int4",
                   "float8_e4m3fn", "float4_e2m1fn"))  # fmt: skip
"""What tensors may be; uint8 only as an input or output of the model (measured with TensorRT-RTX 1.7)."""
_NARROWED = {"uint8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64"}
_QUANTIZED = frozenset(("int4", "float8_e4m3fn", "float4_e2m1fn"))
_NO_TYPE = (
    "what reads it computes with that type, or the model returns it: Cast to int32 or float32 there, where the values "
    "fit, and let the caller convert"
)
_DOUBLE = (
    "TensorRT has no float64; the edit computes all of it in float32, which rounds, and wants float32 data: Check.fix "
    "applies it only by name"
)


def casts(view: View) -> Iterator[Finding]:
    """Casts to types that TensorRT does not have, and casts that do nothing."""
    for node in view.nodes:
        if node.op_type != "Cast" or not node.outputs:
            continue
        to = _name(node.attributes.get_int("to"))
        out = node.outputs[0]
        edit: Edit | None = None
        if to not in TYPES and not (to == "uint8" and out.is_graph_output()):
            if to in _NARROWED and not out.is_graph_output():
                edit = SetAttribute(node.name or "", "to", int(_number(_NARROWED[to])))
            reason = f"it casts to {to}, which TensorRT does not have"
            yield found("cast_type", "error", node, reason, edit, "" if edit else _NO_TYPE)
        elif to in _QUANTIZED:
            yield _to_quantized(node, to)
        elif to == view.dtype(node.inputs[0]) and not out.is_graph_output():
            constant = view.constant(node.inputs[0]) is not None
            edit = FoldNode(node.name or "") if constant else DeleteNodes((node.name or "",))
            yield found("no_cast", "cost", node, f"its input is {to} already", edit)


def _to_quantized(node: ir.Node, to: str) -> Finding:
    """Casts to 4 bits and 8-bit floats."""
    edit = CastToQuantize(node.name or "") if fp8_casts(node) else None
    advice = (
        ""
        if edit
        else "runtimes differ in how such a Cast rounds and in what it makes of values that do not fit, so nothing is "
        "equal to it everywhere: put QuantizeLinear and DequantizeLinear with a scale of 1 there"
    )
    reason = f"TensorRT makes {to} by QuantizeLinear, not by Cast"
    return found("cast_quantized", "error", node, reason, edit, advice)


def _name(number: int | None) -> str:
    from ...model.info import DTYPES

    return DTYPES.get(number or 0, str(number))


def _number(name: str) -> int:
    return {"int32": onnx.TensorProto.INT32, "int64": onnx.TensorProto.INT64}[name]


def inputs(view: View) -> Iterator[Finding]:
    """Inputs of types that TensorRT does not have, and 64-bit ones."""
    for info in view.model.inputs:
        users = [user for user, _ in _input(view, info.name).uses()]
        edit: Edit | None = None
        if info.dtype not in TYPES and not (
            info.dtype == "uint8" and all(u.op_type == "Cast" for u in users)
        ):
            if info.dtype in _NARROWED and all(user.op_type == "Cast" for user in users):
                edit = SetInput(info.name, dtype=_NARROWED[info.dtype])
            reason = f"TensorRT has no {info.dtype} inputs"
            yield of_input("input_type", "error", info, reason, edit, "" if edit else _NO_TYPE)
        elif info.dtype == "int64" and info.shape != ():
            reason = "64-bit integers: twice the bytes to copy, and slower to compute with"
            edit = (
                SetInput(info.name, dtype="int32")
                if all(_any_integer(u, i) for u, i in _input(view, info.name).uses())
                else None
            )
            advice = (
                "the edit wants int32 data: Check.fix applies it only by name"
                if edit
                else "what reads it takes int64 alone: Cast there, from an int32 input"
            )
            yield of_input("int64_input", "cost", info, reason, edit, advice)
        elif info.dtype == "float64":
            reason = "TensorRT computes it as float32, and wants float32 data"
            yield of_input("float64", "warning", info, reason, DoubleToFloat(), _DOUBLE)


def doubles(view: View) -> Iterator[Finding]:
    """Casts to float64 inside the model."""
    for node in view.nodes:
        if node.op_type == "Cast" and _name(node.attributes.get_int("to")) == "float64":
            reason = "TensorRT computes float64 as float32"
            yield found("float64", "warning", node, reason, DoubleToFloat(), _DOUBLE)


def _any_integer(node: ir.Node, index: int) -> bool:
    """Whether a node takes int32 in the place of int64, without that its outputs change their type."""
    if node.op_type in ("Gather", "GatherElements"):
        return index == 1
    return node.op_type == "Cast" and node.domain == ""


def _input(view: View, name: str) -> ir.Value:
    return next(value for value in view.graph.inputs if value.name == name)
