"""What onnx infers for every tensor of a model, kept with its graph from loading on, because an edit needs it at once.
Python's own walk (walk.py) knows more, and takes fifty times as long."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx
import onnx_ir as ir

from .facts import UNKNOWN, Fact, of_tensor, of_type
from .nodewise import Mini, Result, Signature, World, infer, of_constant, signature, world_of
from .scopes import bodies

KEY = "workbench.inferred"
"""Key in ``onnx_ir.Model.meta``, which is not written anywhere."""


class Inferred:
    """What is known of a graph.

    Attributes:
        facts: of every tensor outside of functions.
        signatures: of the nodes of the main graph, but for Constants and those that hold bodies.
        odd: nodes that did not fit when the model was read.
    """

    def __init__(self) -> None:
        self.facts: dict[ir.Value, Fact] = {}
        self.signatures: dict[ir.Node, Signature] = {}
        self.odd: set[ir.Node] = set()


def keep(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Infer the model that was just read from a proto."""
    model.meta[KEY] = read(model, proto.graph)


def take(model: ir.Model) -> Inferred | None:
    """What ``keep`` found, once; None when there is nothing."""
    found: Inferred | None = model.meta.pop(KEY, None)
    return found


def read(model: ir.Model, proto: onnx.GraphProto) -> Inferred:
    """Infer a whole model.

    Args:
        model: the model.
        proto: its graph, of which the stated types are read.
    """
    made, graph, world = Inferred(), model.graph, world_of(model)
    facts = made.facts
    stated = {info.name: info.type.SerializeToString() for info in (*proto.value_info, *proto.output)}
    for value, info in zip(graph.inputs, proto.input, strict=True):
        facts[value] = of_type(info.type)
    for value in graph.initializers.values():
        if value.const_value is not None:
            facts[value] = of_tensor(value.const_value)
    known = facts.get
    for node, written in zip(graph, proto.node, strict=True):
        outputs = node.outputs
        constant = of_constant(node)
        if constant is not None:
            facts[outputs[0]] = constant
            continue
        if node.attributes.data and any(bodies(node)):
            result, inner = infer_bodies(node, written, world, facts, stated)
            facts |= inner
        else:
            made.signatures[node] = item = signature(node, world)
            if not stated.keys().isdisjoint([value.name for value in outputs]):
                item = signature(node, world, tuple(stated.get(value.name or "", b"") for value in outputs))
            result = infer(item, *[known(v, UNKNOWN) if v is not None else None for v in node.inputs])
        for value, fact in zip(outputs, result.outputs, strict=True):
            facts[value] = fact
        if result.error is not None:
            made.odd.add(node)
    return made


def infer_bodies(
    node: ir.Node,
    written: onnx.NodeProto,
    world: World,
    facts: Mapping[ir.Value, Fact],
    stated: Mapping[str, bytes] = {},
    affected: Collection[ir.Value] = (),
) -> tuple[Result, dict[ir.Value, Fact]]:
    """Infer a node that holds bodies, and what is in them.

    Args:
        node: the node.
        written: as it is written.
        world: of its model.
        facts: of the tensors around it.
        stated: the encoded types that the model states of what the node makes.
        affected: tensors in the bodies for which what is stated holds no longer; it counts where onnx infers nothing.

    Returns:
        (what it makes, facts of the tensors in its bodies).
    """
    mini = Mini(world)
    inside = list(_graphs(node))
    own = {value for graph in inside for value in _values(graph)}
    read = [*node.inputs, *(v for graph in inside for item in graph for v in item.inputs)]
    for value in dict.fromkeys([*read, *(v for graph in inside for v in graph.outputs)]):
        if value is not None and value not in own:
            mini.give(value.name or "", facts.get(value, UNKNOWN))
    mini.proto.graph.node.append(written)
    if affected:
        _forget(mini.proto.graph.node[-1], node, {v for v in affected if _inferable(v, world)})
    for value in node.outputs:
        name = value.name or ""
        mini.proto.graph.output.add(name=name).type.ParseFromString(stated.get(name, b""))
    found, error = mini.infer(node.name or "")
    kinds = {info.name: info.type for info in found.graph.output}
    outputs = tuple(of_type(kinds.get(value.name or "")) for value in node.outputs)
    inner = dict.fromkeys(own, UNKNOWN)
    if found.graph.node:
        _collect(found.graph.node[-1], node, inner)
    return Result(outputs, error), inner


def _graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The bodies of a node, at any depth."""
    for _, graph in bodies(node):
        yield graph
        for inner in graph:
            yield from _graphs(inner)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """The tensors that a graph defines."""
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _pairs(written: onnx.NodeProto, node: ir.Node) -> Iterator[tuple[onnx.GraphProto, ir.Graph]]:
    """The bodies of a node as they are written, with the node's own."""
    written_bodies = [
        graph
        for attribute in written.attribute
        for graph in ([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs)
    ]
    for proto, (_, graph) in zip(written_bodies, bodies(node), strict=True):
        yield proto, graph
        for item, inner in zip(proto.node, graph, strict=True):
            yield from _pairs(item, inner)


def _inferable(value: ir.Value, world: World) -> bool:
    node = value.producer()
    return node is not None and world.knows(node)


def _forget(written: onnx.NodeProto, node: ir.Node, values: Collection[ir.Value]) -> None:
    """State nothing of some of the tensors in bodies."""
    for proto, graph in _pairs(written, node):
        names = {value.name for value in _values(graph) if value in values}
        kept = [info for info in proto.value_info if info.name not in names]
        del proto.value_info[:]
        proto.value_info.extend(kept)
        for info in proto.output:
            if info.name in names:
                info.ClearField("type")


def _collect(found: onnx.NodeProto, node: ir.Node, facts: dict[ir.Value, Fact]) -> None:
    """What was inferred for the tensors in bodies."""
    for proto, graph in _pairs(found, node):
        infos = (*proto.input, *proto.output, *proto.value_info)
        kinds = {info.name: info.type for info in infos if info.type.WhichOneof("value")}
        for value in _values(graph):
            kind = kinds.get(value.name or "")
            facts[value] = of_type(kind) if value.const_value is None else of_tensor(value.const_value)
