"""Types of tensors, also inside of model-local functions: what all calls of a function have in common.

Edits leave the inside of a function untyped, because another call may bring other types. A fusion is made in the model
as it is, with the calls that there are.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import onnx
import onnx_ir as ir

from ..edits.draft import Draft
from ..model.dims import common

Kinds = dict[ir.Value, onnx.TypeProto]
_inside: WeakKeyDictionary[Draft, dict[ir.Graph, Kinds]] = WeakKeyDictionary()


def forget(draft: Draft) -> None:
    """The graph may be another one than it was: what is known of functions is inferred again when it is asked for."""
    _inside.pop(draft, None)


def type_of(draft: Draft, value: ir.Value) -> onnx.TypeProto | None:
    """The type of a tensor as far as it is known; to be used until the graph changes (see ``forget``)."""
    found = draft.types.of(value)
    if found is not None or value.graph is None:
        return found
    root = draft.around(draft.graph_of_value(value))[-1]
    if root is draft.model.graph:
        return None
    known = _inside.setdefault(draft, {})
    if root not in known:
        known[root] = _infer(draft, root)
    return known[root].get(value)


def _infer(draft: Draft, graph: ir.Graph) -> Kinds:
    function = next(item for item in draft.model.functions.values() if item.graph is graph)
    calls = [
        node
        for node in draft.nodes.values()
        if node.op_type == function.name
        and (node.domain, node.op_type, node.overload) == function.identifier()
    ]
    written = ir.serde.serialize_function(function)
    for node in written.node:
        if any(attribute.ref_attr_name for attribute in node.attribute):
            node.domain = "?"  # what it makes depends on an attribute of the call
    model = onnx.ModelProto(ir_version=draft.model.ir_version)
    model.opset_import.extend([*written.opset_import, onnx.helper.make_opsetid("?", 1)])
    model.functions.extend(map(ir.serde.serialize_function, draft.called(function.identifier())[1:]))
    model.graph.name = function.name
    model.graph.node.extend(written.node)
    for index, port in enumerate(function.inputs):
        info = model.graph.input.add(name=port.name)
        given = [call.inputs[index] if index < len(call.inputs) else None for call in calls]
        kinds = [type_of(draft, value) if value is not None else None for value in given]
        if kinds and None not in kinds:
            info.type.CopyFrom(common([kind for kind in kinds if kind is not None]))
    model.graph.output.extend(onnx.ValueInfoProto(name=port.name) for port in function.outputs)
    try:
        found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # of an odd function nothing is known
        return {}
    names = draft.values[graph]
    infos = (*found.input, *found.value_info, *found.output)
    return {
        names[info.name]: info.type for info in infos if info.name in names and info.type.WhichOneof("value")
    }
