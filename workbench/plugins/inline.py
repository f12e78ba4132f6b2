"""Putting the bodies of functions in the place of the nodes that call them, as an edit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx
import onnx.inliner
import onnx_ir as ir

from ..edits import origins, whole
from ..edits.base import Whole
from ..errors import EditError
from ..segments import Node, constant


@dataclass(frozen=True)
class InlineFunctions(Whole):
    """Put the bodies of the model's functions, those of plugins among them, in the place of the nodes that call them.

    For runtimes that know no model-local functions. The nodes keep the origins of the call.
    """

    method: ClassVar[str] = "inline_functions"

    def replace(self, model: ir.Model) -> ir.Model:
        if not model.functions:
            raise EditError("cannot inline: the model has no functions; nothing to do")
        calls = {
            node.name: origins.of_node(node)
            for node in model.graph
            if node.op_identifier() in model.functions
        }
        before = {value.name for node in model.graph for value in node.outputs}
        made = onnx.inliner.inline_local_functions(_with_defaults(whole.full(model, "inline functions")))
        made = typed_constants(made)
        own = {node.name for node in model.graph} - set(calls)
        after = whole.rebuilt(made, model)
        _carry(after, calls, own, before)
        return after


def _carry(after: ir.Model, calls: dict[str | None, list[str]], own: set[Any], before: set[Any]) -> None:
    """Note the call's origins on the nodes of its body: those between it and the nodes that were there before."""
    waiting: list[ir.Node] = []
    order = iter(calls.values())
    for node in after.graph:
        if node.name in own:
            continue
        waiting.append(node)
        if any(value.name in before for value in node.outputs):
            known = next(order, None)
            for inner in waiting if known else ():
                inner.metadata_props[origins.NODES] = json.dumps(known)
            waiting = []


def _with_defaults(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Every call with the attributes that it leaves to the function's defaults: onnx's inliner loses those."""
    functions = {(f.domain, f.name): f for f in proto.functions}
    for nodes in (proto.graph.node, *(f.node for f in proto.functions)):
        for node in nodes:
            called = functions.get((node.domain, node.op_type))
            given = {attribute.name for attribute in node.attribute}
            for default in called.attribute_proto if called is not None else ():
                if default.name not in given:
                    node.attribute.append(default)
    return proto


def typed_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with ``CastLike(constant, x)`` as a constant of x's type: the form that exporters write.

    Runtimes' own fusions look for that form; ONNX Runtime 1.31 even fuses a norm whose epsilon is such a CastLike and
    takes its own default for the epsilon.
    """
    known = onnx.shape_inference.infer_shapes(proto).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*known.input, *known.value_info, *known.output)}
    constants = {node.output[0]: constant(node) for node in proto.graph.node if node.op_type == "Constant"}
    typed = {}
    for node in proto.graph.node:
        if node.op_type != "CastLike" or node.domain:
            continue
        value, kind = constants.get(node.input[0]), kinds.get(node.input[1], 0)
        if value is not None and kind and onnx.TensorProto.STRING not in (kind, value.data_type):
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
            array = onnx.numpy_helper.to_array(value).astype(dtype)
            typed[node.output[0]] = onnx.numpy_helper.from_array(array, node.output[0])
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    made.graph.initializer.extend(typed.values())
    kept = [node for node in made.graph.node if node.output[0] not in typed]
    read = {name for node in kept for name in Node(0, node).inputs} | {output.name for output in made.graph.output}
    del made.graph.node[:]
    made.graph.node.extend(node for node in kept if node.op_type != "Constant" or node.output[0] in read)
    return made
