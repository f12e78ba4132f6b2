"""The model as it was, with what each fusion made beside it: one graph, so that a fusion is judged on the values that
are there, and all of them in one pass.

Each fused node is added under names of its own, reading the tensors of the model as it was; what it makes should equal
the tensor whose place it took. A fusion inside of a body, or of a function, is judged by the node that holds the body,
by the calls of the function. At last comes the affected cone: what follows from all fusions, up to the outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir

from ..compare.plan import unused_prefix
from ..edits.changes import changed, draft_of
from ..edits.draft import Draft
from ..model import Model
from ..model.scopes import nested
from ..segments import RANDOM, Graph, bodies, rename_inputs
from .edit import Done
from .rule import Site

Key = tuple[str, str, str]


@dataclass
class Added:
    """Nodes that are put beside those of a model.

    Attributes:
        pairs: tensor that they make -> tensor that it should equal.
        holders: for a fusion inside of a body or function, the nodes by which it is judged, with all that was fused in
            there before.
    """

    nodes: list[tuple[int, onnx.NodeProto]] = field(default_factory=list)
    functions: dict[Key, onnx.FunctionProto] = field(default_factory=dict)
    weights: dict[str, ir.TensorProtocol] = field(default_factory=dict)
    pairs: dict[str, str] = field(default_factory=dict)
    holders: frozenset[ir.Node] = frozenset()


class Beside:
    """A model to which nodes are added.

    Args:
        model: as it was; what is added comes from later versions of it.
    """

    def __init__(self, model: Model):
        self.model, self.proto = model, model.to_proto()
        self.graph = Graph(self.proto)
        self.prefix = unused_prefix("fused", self.graph)
        graph = model.ir.graph
        self._weights = {name: value.const_value for name, value in graph.initializers.items()}
        self._nodes = set(graph)
        self._functions = set(model.ir.functions)
        self._place = {name: node.index for node in self.graph.nodes for name in node.outputs}
        # of tensors that are not in the model as it was, and of those that took the place of some that are
        self._names: dict[ir.Value, str] = {}
        self._made: dict[int, tuple[ir.TensorProtocol, str]] = {}  # new weights by their identity
        self.count = 0

    def forget(self) -> None:
        """Begin anew with the model as it was."""
        self._names.clear()
        self._made.clear()

    # -- one fusion -------------------------------------------------------------------------------------------

    def replaced(self, sites: Iterable[Site]) -> dict[str, str]:
        """Before a fusion: the tensors that it may replace -> their names here."""
        values = [value for site in sites for node in site.nodes for value in node.outputs if value.name]
        return {value.name or "": self._names.get(value, value.name or "") for value in values}

    def fusion(self, draft: Draft, done: Done, replaced: Mapping[str, str]) -> Added:
        """After a fusion: what it made, as nodes beside those of the model."""
        self.count += 1
        added, start = Added(), f"{self.prefix}{self.count}/"
        made = [draft.nodes[name] for name in done.after if name in draft.nodes]
        main = draft.model.graph
        inner = {draft.graph_of(node) for node in made} - {main}
        if not inner:
            for node in made:
                self._add(added, draft, node, start, {}, replaced)
            return added
        keys, holders = _around(draft, inner)
        added.holders = frozenset(holders)
        names = {key: self._function_name(draft, key) for key in keys}
        for key in keys:
            self._function(added, draft, key, names)
        for node in holders:
            outputs = {value.name or "": self._name(added, value) for value in node.outputs if value.name}
            self._add(added, draft, node, start, names, outputs)
        return added

    def _function_name(self, draft: Draft, key: Key) -> str:
        taken = {name for _, name, _ in (*draft.model.functions, *self._functions)}
        name = f"{key[1]}_{self.count}"
        while name in taken:
            name += "_"
        return name

    def _function(self, added: Added, draft: Draft, key: Key, names: Mapping[Key, str]) -> None:
        """A function, in which calls of the given ones go to those of the given names."""
        proto = ir.serde.serialize_function(draft.model.functions[key])
        proto.name = names.get(key, proto.name)
        for node in proto.node:
            _call(node, names)
        added.functions[key[0], proto.name, key[2]] = proto
        for called in _called(proto.node):
            new = called in draft.model.functions and called not in self._functions
            if new and called not in added.functions:
                self._function(added, draft, called, {})

    def _add(
        self,
        added: Added,
        draft: Draft,
        node: ir.Node,
        start: str,
        names: Mapping[Key, str],
        replaced: Mapping[str, str],
    ) -> None:
        """Put a node beside the others. ``replaced``: what it makes -> tensor that it should equal."""
        proto = ir.serde.serialize_node(node)
        wires = {value.name or "": self._name(added, value) for value in _reads(draft, node)}
        rename_inputs(proto, {name: other for name, other in wires.items() if name != other})
        proto.name = f"{start}{proto.name}"
        places = [self._place.get(name, -1) for name in wires.values()]
        for index, value in enumerate(node.outputs):
            if not value.name:
                continue
            own = proto.output[index] = f"{start}{value.name}"
            known = replaced.get(value.name, "")
            if known in self._place:
                added.pairs[own] = known
                places.append(self._place[known])
            self._names[value] = known or own
        place = max(places, default=-1)
        self._place.update((name, place) for name in proto.output if name)
        for called in _called([proto]):
            if called in draft.model.functions and called not in (*self._functions, *added.functions):
                self._function(added, draft, called, {})
        _call(proto, names)
        added.nodes.append((place, proto))

    def _name(self, added: Added, value: ir.Value) -> str:
        """The name of a tensor here."""
        name = value.name or ""
        if value in self._names:
            name = self._names[value]
        elif value.is_initializer() and not value.is_graph_input() and value.const_value is not None:
            if self._weights.get(name) is value.const_value:
                return name
            tensor = value.const_value
            _, name = self._made.setdefault(
                id(tensor), (tensor, f"{self.prefix}weight {len(self._made)}/{name}")
            )
            added.weights[name] = tensor
        return name

    # -- all of them ------------------------------------------------------------------------------------------

    def cone(self, model: Model) -> Added:
        """The nodes of a later version that a fusion changed, and those that follow; pairs are of the outputs."""
        touched, *_ = changed(self.model, model) or (set(),)
        draft = draft_of(model)
        self.count += 1
        added, start, kept = Added(), f"{self.prefix}{self.count}/", dict(self._names)
        self._names = {}
        main = draft.model.graph
        inner = {draft.graph_of(node) for node in touched if node.graph is not None} - {main}
        keys, holders = _around(draft, {graph for graph in inner if graph in draft.values})
        keys = [key for key in keys if key in self._functions]
        names = {key: self._function_name(draft, key) for key in keys}
        for key in keys:
            self._function(added, draft, key, names)
        touched = touched | set(holders)
        for node in main:
            if node in self._nodes and node.op_type in RANDOM:
                continue  # what was drawn stays: other numbers would tell nothing
            same = node in self._nodes and node not in touched
            if not same or any(self._name(added, value) != value.name for value in _reads(draft, node)):
                self._add(added, draft, node, start, names, {})
        for value, output in zip(main.outputs, self.graph.outputs, strict=False):
            name = self._name(added, value)
            if name != output and name in self._place and output in self._place:
                added.pairs[name] = output
        self._names = kept
        return added

    def with_all(self, parts: Iterable[Added], opsets: Mapping[str, int], ir_version: int) -> Graph:
        """The model with what was added."""
        parts = list(parts)
        shell = onnx.ModelProto(ir_version=max(self.proto.ir_version, ir_version))
        shell.opset_import.extend(onnx.helper.make_opsetid(*item) for item in opsets.items())
        functions = {key: proto for part in parts for key, proto in part.functions.items()}
        shell.functions.extend([*self.proto.functions, *functions.values()])
        graph = self.proto.graph
        shell.graph.input.extend(graph.input)
        shell.graph.output.extend(graph.output)
        shell.graph.sparse_initializer.extend(graph.sparse_initializer)
        later = sorted((item for part in parts for item in part.nodes), key=lambda item: item[0])
        shell.graph.node.extend(_merged([node.proto for node in self.graph.nodes], later))
        shell.graph.node.extend(self.graph.constants.values())
        weights = {name: tensor for part in parts for name, tensor in part.weights.items()}
        return Graph(shell, [*graph.initializer, *(_written(*item) for item in weights.items())])


def _merged(nodes: list[onnx.NodeProto], later: list[tuple[int, onnx.NodeProto]]) -> Iterator[onnx.NodeProto]:
    """Nodes, each followed by those that have its place."""
    at = 0
    for place in range(-1, len(nodes)):
        if place >= 0:
            yield nodes[place]
        while at < len(later) and later[at][0] == place:
            yield later[at][1]
            at += 1


def _written(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    proto = ir.serde.serialize_tensor(tensor)
    proto.name = name
    return proto


def _reads(draft: Draft, node: ir.Node) -> Iterator[ir.Value]:
    """The tensors of a node's graph, and of those around it, that it and its bodies read."""
    graphs = set(draft.around(draft.graph_of(node)))
    for reader in (node, *nested(node)):
        for value in reader.inputs:
            if value is not None and value.name and (value.graph is None or value.graph in graphs):
                yield value


def _around(draft: Draft, inner: Iterable[ir.Graph]) -> tuple[list[Key], list[ir.Node]]:
    """For bodies and functions: the functions that hold or call them, and the nodes of the main graph that do."""
    main, functions = draft.model.graph, draft.model.functions
    by_graph = {function.graph: key for key, function in functions.items()}
    keys: dict[Key, None] = {}
    holders: dict[ir.Node, None] = {}
    waiting = list(inner)
    while waiting:
        around = draft.around(waiting.pop())
        if around[-1] is main:
            holders[draft.owners[around[-2]][0]] = None
            continue
        key = by_graph[around[-1]]
        if key in keys:
            continue
        keys[key] = None
        for node in draft.nodes.values():
            if (node.domain, node.op_type, node.overload) == key:
                graph = draft.graph_of(node)
                if graph is main:
                    holders[node] = None
                else:
                    waiting.append(graph)
    return list(keys), list(holders)


def _called(nodes: Iterable[onnx.NodeProto]) -> Iterator[Key]:
    """Operators of nodes, and of those in their bodies."""
    for node in nodes:
        yield node.domain, node.op_type, node.overload
        for _, body in bodies(node):
            yield from _called(body.node)


def _call(node: onnx.NodeProto, names: Mapping[Key, str]) -> None:
    """Let calls of functions go to others."""
    node.op_type = names.get((node.domain, node.op_type, node.overload), node.op_type)
    for _, body in bodies(node):
        for inner in body.node:
            _call(inner, names)
