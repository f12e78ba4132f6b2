"""The steps that rules are made of: new nodes and weights in the place of matched ones, with their origins.

A new name is always a free one: an initializer is never replaced because another one happens to be called the same.
What a fused node makes keeps the name of the tensor that it replaces, so any two stages can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ..edits import origins, place
from ..edits.draft import Draft
from ..edits.schema import attribute as make_attribute
from ..edits.schema import find as find_schema
from .match import Match, Refusal, constant, is_constant
from .types import type_of

RULE = "workbench.fusion"
"""Key, in a node's metadata, of the rule that made it."""
DOMAIN = "workbench"
"""Domain of the functions that stand for what ONNX has no operator for."""
INLINE = 64
"""Elements of a constant up to which it goes into a function's body; a larger one stays an input of the call."""


def weight(match: Match, name: str, array: np.ndarray, like: ir.Value | None = None) -> ir.Value:
    """A new weight under a free name, in the dtype of another tensor."""
    if like is not None:
        kind = type_of(match.draft, like)
        assert kind is not None
        array = array.astype(ir.DataType(kind.tensor_type.elem_type).numpy())
    tensor = ir.Tensor(np.asarray(array, order="C"), name=name)
    return place.constant(match.draft, match.graph, name, tensor)


def reshaped(match: Match, rule: str, name: str, shape: tuple[int, ...]) -> None:
    """Let a variable that is a weight be a new one of another shape."""
    value, array = match.values[name], constant(match.values[name])
    assert array is not None
    match.values[name] = weight(match, f"{value.name}_{rule}", array.reshape(shape))


def node(
    draft: Draft,
    graph: ir.Graph,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str,
    domain: str = "",
    outputs: int = 1,
) -> ir.Node:
    """A node that is not in the graph yet, with outputs under free names."""
    schema = find_schema(op_type, domain, draft.opsets(graph).get(domain, 0))
    made = [
        value
        if isinstance(value, ir.Attr)
        else make_attribute(f"node {name!r} ({op_type})", key, value, schema)
        for key, value in (attributes or {}).items()
    ]
    new = ir.Node(domain, op_type, (), made, num_outputs=outputs, name=draft.free_node(name))
    wires = tuple(inputs)
    for output in new.outputs:
        output.name = draft.free(graph, f"{name}_output{output.index()}")
    draft.do(lambda: _wire(new, wires), lambda: _wire(new, ()))
    return new


def _wire(new: ir.Node, inputs: tuple[ir.Value | None, ...]) -> None:
    new.resize_inputs(0)
    new.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        if value is not None:
            new.replace_input_with(index, value)


def fuse_into(
    match: Match,
    rule: str,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    domain: str = "",
) -> list[ir.Node]:
    """Put one node in the place of all matched ones."""
    new = node(
        match.draft,
        match.graph,
        op_type,
        inputs,
        attributes,
        name=f"{match.anchor.name}_{op_type}",
        domain=domain,
    )
    replace(match.draft, rule, match.nodes, [new], {match.anchor.outputs[0]: new.outputs[0]}, match.anchor)
    return [new]


def replace(
    draft: Draft,
    rule: str,
    old: Sequence[ir.Node],
    new: Sequence[ir.Node],
    outputs: Mapping[ir.Value, ir.Value],
    anchor: ir.Node,
) -> None:
    """Put new nodes in the place of old ones: readers read the new tensors, which get the names of the old ones."""
    graph = draft.graph_of(anchor)
    named = {made: (value.name or "", origins.of_value(value)) for value, made in outputs.items()}
    draft.insert(graph, new, anchor)
    stamp(draft, rule, old, new)
    for value, made in outputs.items():
        readers = list(dict.fromkeys(user for user, _ in value.uses()))
        swap(draft, graph, value, made)
        if value.producer() is not anchor:  # such a reader may stand before the new node
            for reader in readers:
                if reader.graph is not None:
                    place.arrange(draft, reader)
    fed = [value for item in old for value in item.inputs]
    remove_unused(draft, graph, old)
    tidy(draft, fed)
    for made, (name, origin) in named.items():
        take_name(draft, made, name, origin)


def take_name(draft: Draft, made: ir.Value, name: str, origin: str) -> None:
    """Give a tensor the name of one that is gone, and note that it comes from where that one did."""
    maker, old = made.producer(), made.name
    assert maker is not None
    if draft.values[draft.graph_of(maker)].get(name) is None:
        draft.rename_value(made, name)
    noted = json.loads(maker.metadata_props.get(origins.TENSORS, "{}"))
    noted.pop(old, None)
    if origin != made.name:
        noted[made.name] = origin
    draft.note(maker, origins.TENSORS, json.dumps(noted) if noted else None)


def stamp(draft: Draft, rule: str, old: Sequence[ir.Node], new: Sequence[ir.Node]) -> None:
    """Note on new nodes which rule made them and which nodes they stand for."""
    sources = [origin for item in old for origin in origins.of_node(item)]
    for item in new:
        origins.note_node(draft, item, sources)
        draft.note(item, RULE, rule)


def swap(draft: Draft, graph: ir.Graph, value: ir.Value, made: ir.Value) -> None:
    """Let everything that reads a tensor, the outputs of the graph included, read another one."""
    draft.redirect(value, made)
    if value.is_graph_output():
        draft.types.state_like(made, value)
        draft.set_ports(graph, "outputs", [made if item is value else item for item in graph.outputs])
    elif value.type is not None and made.type is None:
        draft.types.state_like(made, value)


def remove_unused(draft: Draft, graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
    """Take out those of some nodes that nothing reads any more."""
    gone: list[ir.Node] = []
    for item in reversed(list(nodes)):
        used = any(
            value.is_graph_output() or any(user not in gone for user, _ in value.uses())
            for value in item.outputs
        )
        if not used:
            gone.append(item)
    if gone:
        draft.remove(graph, gone)


def tidy(draft: Draft, values: Iterable[ir.Value | None]) -> None:
    """Remove what made tensors that nothing reads any more: weights, and nodes up to where something else is read."""
    waiting = [value for value in values if value is not None]
    while waiting:
        value = waiting.pop()
        if value.uses() or value.is_graph_output() or value.is_graph_input():
            continue
        maker = value.producer()
        if maker is None:
            if value.const_value is not None and value.graph in draft.values and value.is_initializer():
                draft.remove_initializer(draft.graph_of_value(value), value)
        elif maker.graph is not None and not any(
            item.uses() or item.is_graph_output() for item in maker.outputs
        ):
            before = list(maker.inputs)
            draft.remove(draft.graph_of(maker), [maker])
            waiting += [item for item in before if item is not None]


def stand_in(draft: Draft, old: ir.Node, instead: ir.Value) -> None:
    """Let what reads a node's output read another tensor, and remove the node; see ``may_stand_in``."""
    graph, value = draft.graph_of(old), old.outputs[0]
    name, origin, outside = value.name or "", origins.of_value(value), value.is_graph_output()
    swap(draft, graph, value, instead)
    before = list(old.inputs)
    draft.remove(graph, [old])
    if outside and graph is draft.model.graph:
        take_name(draft, instead, name, origin)
    tidy(draft, [item for item in before if item is not instead])


def may_stand_in(draft: Draft, old: ir.Node, instead: ir.Value) -> None:
    """Refuse to let a tensor take the place of a graph output that it cannot be."""
    value = old.outputs[0]
    if not value.is_graph_output():
        return
    graph = draft.graph_of(old)
    maker = instead.producer()
    if maker is None or draft.graph_of(maker) is not graph or instead.is_graph_output():
        what = "an input, a weight or an output" if maker is None or instead.is_graph_output() else "outside"
        raise Refusal(f"it makes the output {value.name!r} of the graph, and {instead.name!r} is {what}", old)


def to_constant(draft: Draft, old: ir.Node, array: np.ndarray) -> None:
    """Put a weight of the same name in the place of a node's output, and remove the node."""
    graph, output = draft.graph_of(old), old.outputs[0]
    name = output.name or ""
    draft.rename_value(output, draft.free(graph, f"{name}_folded"))
    value = place.constant(draft, graph, name, ir.Tensor(np.asarray(array, order="C"), name=name))
    draft.redirect(output, value)
    before = list(old.inputs)
    draft.remove(graph, [old])
    tidy(draft, before)


# -- functions ------------------------------------------------------------------------------------------------


def outline(
    draft: Draft,
    rule: str,
    name: str,
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    anchor: ir.Node,
) -> list[ir.Node]:
    """Put a call of a function in the place of nodes; its body is these nodes, so that it runs everywhere.

    Args:
        inputs: what the function reads, in its order; small constants besides go into the body.
        outputs: what others read of the nodes.
    """
    graph = draft.graph_of(anchor)
    function = body(draft, graph, name, nodes, inputs, outputs)
    key = function.identifier()
    if key not in draft.model.functions:
        draft.add_function(function)
    for opsets in (draft.model.opset_imports, draft.opsets(graph)):
        if DOMAIN not in opsets:
            draft.put(opsets, DOMAIN, 1)
    if draft.model.ir_version < 8:
        draft.set(draft.model, "ir_version", 8)
    call = node(
        draft,
        graph,
        function.name,
        inputs,
        name=f"{anchor.name}_{function.name}",
        domain=DOMAIN,
        outputs=len(outputs),
    )
    replace(draft, rule, nodes, [call], dict(zip(outputs, call.outputs, strict=True)), anchor)
    return [call]


def body(
    draft: Draft,
    graph: ir.Graph,
    name: str,
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
) -> ir.Function:
    """The function for some nodes: one that the model has already where its body is the same."""
    number, candidate = 1, name
    while True:
        made = _function(draft, graph, candidate, nodes, inputs, outputs)
        known = draft.model.functions.get(made.identifier())
        if known is None:
            return made
        if _text(known) == _text(made):
            return known
        number += 1
        candidate = f"{name}_{number}"


def _text(function: ir.Function) -> bytes:
    proto = ir.serde.serialize_function(function)
    for item in proto.node:
        item.ClearField("name")
    proto.ClearField("value_info")
    return bytes(proto.SerializeToString(deterministic=True))


def _function(
    draft: Draft,
    graph: ir.Graph,
    name: str,
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
) -> ir.Function:
    there = {value: ir.Value(name=f"x{index}") for index, value in enumerate(inputs)}
    made: list[ir.Node] = []

    def inside(value: ir.Value | None) -> ir.Value | None:
        if value is None:
            return None
        if value not in there:
            array = constant(value) if is_constant(value) else None
            if array is None or array.size > INLINE:
                raise Refusal(f"it reads {value.name!r}, which the function {name!r} does not get")
            tensor = ir.Tensor(np.array(array), name="")
            holder = ir.Node("", "Constant", (), [ir.AttrTensor("value", tensor)], name=next(names))
            there[value] = holder.outputs[0]
            holder.outputs[0].name = f"c{len(there)}"
            made.append(holder)
        return there[value]

    names = (f"{name}.{number}" for number in range(1 << 30) if f"{name}.{number}" not in draft.nodes)
    domains = {""}
    for item in nodes:
        copy = ir.Node(
            item.domain,
            item.op_type,
            [inside(value) for value in item.inputs],
            list(item.attributes.values()),
            overload=item.overload,
            num_outputs=len(item.outputs),
        )
        copy.name = next(names)
        for value, new in zip(item.outputs, copy.outputs, strict=True):
            there[value] = new
            new.name = f"v{len(there)}" if value.name else ""
        domains.add(item.domain)
        made.append(copy)
    opsets = {domain: draft.opsets(graph).get(domain, 1) for domain in sorted(domains)}
    held = ir.Graph(
        [there[value] for value in inputs],
        [there[value] for value in outputs],
        nodes=made,
        opset_imports=opsets,
        name=name,
    )
    return ir.Function(DOMAIN, name, graph=held, attributes=())
