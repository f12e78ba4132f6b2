"""Shape inference of single nodes: what onnx is given, and how its errors read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model import proto
from ..model.info import from_type

if TYPE_CHECKING:
    from .draft import Draft

SMALL = 1024  # elements of a constant that shape inference may look at
_INTS = (ir.DataType.INT64, ir.DataType.INT32)
_FLOATS = {"Resize": (1, 2), "Upsample": (1,), "Range": (0, 1, 2)}
"""Operators whose output shape depends on values of floats -> the inputs that hold these."""


def write_node(node: ir.Node) -> onnx.NodeProto:
    """A node as a proto, with no weights of its bodies."""

    def place(tensor: ir.TensorProtocol, where: str) -> Any:
        return tensor if tensor.size <= SMALL else proto.reference(tensor, "", None, None)

    return ir.serde.serialize_node(proto.stand_in(node, place))


def reads_values(node: ir.Node, index: int, tensor: ir.TensorProtocol) -> bool:
    """Whether the shapes of what a node makes may depend on the values of a constant that it reads."""
    ints = tensor.dtype in _INTS or index in _FLOATS.get(node.op_type, ())
    return ints and tensor.size <= SMALL


def small_data(node: ir.Node, index: int) -> onnx.TensorProto | None:
    """The data of an input of a node, where it is a small constant and shapes may depend on it."""
    value = node.inputs[index]
    assert value is not None
    tensor, producer = value.const_value, value.producer()
    if tensor is None and producer is not None and producer.op_type == "Constant" and producer.domain == "":
        attribute = producer.attributes.get("value")
        if attribute is not None and not attribute.is_ref():
            tensor = attribute.value
    if tensor is None or not reads_values(node, index, tensor):
        return None
    return onnx.numpy_helper.from_array(tensor.numpy(), value.name)


def strictly(encoded: bytes) -> onnx.ModelProto:
    """Inference of a whole model that raises where a node does not fit."""
    return onnx.shape_inference.infer_shapes(encoded, check_type=True, strict_mode=True, data_prop=True)


def infer_call(
    draft: Draft,
    node: onnx.NodeProto,
    types: dict[str, onnx.TypeProto],
    known: dict[Any, list[onnx.TypeProto]],
) -> dict[str, onnx.TypeProto]:
    """What a call of a model-local function gives: the inference of a model with that node alone.

    Args:
        known: what calls gave, for as long as no function changes; filled here.
    """
    given = [types[name].SerializeToString() if name else b"" for name in node.input]
    attributes = [attribute.SerializeToString() for attribute in node.attribute]
    key = node.domain, node.op_type, node.overload, tuple(given), tuple(attributes), len(node.output)
    if key not in known:
        known[key] = _infer_call(draft, node, types)
    pairs = zip(node.output, known[key], strict=True)
    return {name: kind for name, kind in pairs if name and kind.WhichOneof("value")}


def _infer_call(draft: Draft, node: onnx.NodeProto, types: dict[str, onnx.TypeProto]) -> list[onnx.TypeProto]:
    model = onnx.ModelProto(ir_version=draft.model.ir_version)
    model.opset_import.extend(onnx.helper.make_opsetid(*item) for item in draft.model.opset_imports.items())
    key = (node.domain, node.op_type, node.overload)
    model.functions.extend(map(ir.serde.serialize_function, draft.called(key)))
    model.graph.name = "call"
    model.graph.node.append(node)
    model.graph.input.extend(onnx.ValueInfoProto(name=name, type=kind) for name, kind in types.items())
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    found = {info.name: info.type for info in strictly(model.SerializeToString()).graph.output}
    return [found.get(name, onnx.TypeProto()) for name in node.output]


def misfit(node: ir.Node, inputs: Any, error: Exception) -> EditError:
    reason = str(error).replace("\n", " ").split("] ")[-1].strip() or type(error).__name__
    listed = ", ".join(f"{value.name} {text(kind)}" for value, kind in inputs if value is not None)
    return EditError(
        f"node {node.name!r} ({node.op_type}) would not fit its inputs: got {listed}; {reason}; "
        "change its inputs or attributes first"
    )


def first_error(error: Exception) -> str | None:
    """The first of the errors that onnx's inference lists: ``node 'a' (Add): Incompatible dimensions``. None where all
    it says is that types are not known, as behind an operator without a schema."""
    found = re.findall(r"\(op_type:([^,]*), node name: (.*?)\): (?:\[\w+\] )?([^\n]*)", str(error))
    if not found:
        return str(error).strip()
    misfits = [item for item in found if "expected to have type but instead is null" not in item[2]]
    return f"node {misfits[0][1]!r} ({misfits[0][0]}): {misfits[0][2]}" if misfits else None


def text(kind: onnx.TypeProto | None) -> str:
    """``float32[1, n]``."""
    if kind is None:
        return "of unknown type"
    dtype, shape = from_type(kind)
    dims = "unknown rank" if shape is None else ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"{dtype or '?'}[{dims}]"
