"""A graph while it is edited: steps that know how to go back, names that are found at once, types that are known.

Every edit is made of the steps below and of nothing else. Each step notes how to do it again and how to undo it, so
going back restores the same graph: order of nodes, of initializers and of metadata included.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import onnx
import onnx_ir as ir

from ..errors import EditError, NotInModelError
from ..model import scopes
from .bodies import bodies, nested
from .infer import SMALL
from .types import Types

Step = tuple[Callable[[], None], Callable[[], None]]
"""(do, undo)."""


class Draft:
    """An ``onnx_ir.Model`` with an index of its names, and the steps that change both.

    Attributes:
        model: the graph, changed in place.
        types: what is known of the type of each value.
        log: the steps since ``start``.
        touched: nodes whose operator, attributes or inputs a step changed; they are checked when the edit ends.
        retyped: values whose type a step changed, with the type before.
    """

    def __init__(self, model: ir.Model):
        self.model = model
        self.nodes: dict[str, ir.Node] = {}
        self.values: dict[ir.Graph, dict[str, ir.Value]] = {}
        self.owners: dict[ir.Graph, tuple[ir.Node, str]] = {}
        self.types = Types(self)
        self.start()
        self._enter_graph(model.graph)
        for function in model.functions.values():
            self._enter_graph(function.graph)

    def start(self) -> None:
        """Begin to note steps."""
        self.log: list[Step] = []
        self.touched: dict[ir.Node, None] = {}
        self.retyped: dict[ir.Value, onnx.TypeProto | None] = {}
        self.checks: list[Callable[[], None]] = []

    def back(self) -> None:
        """Undo all noted steps."""
        for _, undo in reversed(self.log):
            undo()
        self.start()

    def do(self, step: Callable[[], None], undo: Callable[[], None]) -> None:
        """Take a step and note it."""
        step()
        self.log.append((step, undo))

    # -- finding ----------------------------------------------------------------------------------------------

    def node(self, name: str) -> ir.Node:
        """The node of a name (unique in the whole model); NotInModelError when there is none."""
        if name not in self.nodes:
            raise NotInModelError(f"there is no node {name!r} in the model{_similar(name, self.nodes)}")
        return self.nodes[name]

    def value(self, key: str) -> ir.Value:
        """The tensor of a key as in ``Model.tensors``: ``<scope>/<name>``, the plain name in the main graph."""
        main = self.values[self.model.graph]
        if key in main:
            return main[key]
        where = {scope: graph for scope, graph in self.graphs() if scope}
        cut = key.rfind("/")
        while cut > 0:
            graph = where.get(key[:cut])
            if graph is not None and key[cut + 1 :] in self.values[graph]:
                return self.values[graph][key[cut + 1 :]]
            cut = key.rfind("/", 0, cut)
        known = [scopes.within(scope, name) for scope, graph in self.graphs() for name in self.values[graph]]
        raise NotInModelError(f"there is no tensor {key!r} in the model{_similar(key, known)}")

    def port(self, kind: str, name: str) -> ir.Value:
        """An input or output (``inputs``, ``outputs``) of the main graph, by name."""
        found = {value.name or "": value for value in getattr(self.model.graph, kind)}
        if name not in found:
            raise NotInModelError(
                f"the model has no {kind[:-1]} {name!r}; expected one of {', '.join(map(repr, found))}"
            )
        return found[name]

    def graph_of_value(self, value: ir.Value) -> ir.Graph:
        """The graph that a tensor is in."""
        graph = value.graph
        assert graph is not None
        return graph if isinstance(graph, ir.Graph) else graph.graph

    def graphs(self) -> Iterator[tuple[str, ir.Graph]]:
        """(scope, graph) of the main graph, of bodies and of functions."""
        return ((self.scope(graph), graph) for graph in self.values)

    def scope(self, graph: ir.Graph) -> str:
        """The scope of a graph, as ``Model.nodes`` shows it."""
        if graph in self.owners:
            node, attribute = self.owners[graph]
            return scopes.body(self.scope(self.graph_of(node)), node.name or "", attribute)
        for function in self.model.functions.values():
            if function.graph is graph:
                return scopes.function(function.domain, function.name, function.overload)
        return ""

    def key(self, value: ir.Value) -> str:
        """The key of a tensor."""
        graph = value.graph
        return (
            scopes.within(self.scope(graph), value.name or "") if graph in self.values else value.name or ""
        )

    def graph_of(self, node: ir.Node) -> ir.Graph:
        """The graph that a node is in."""
        graph = node.graph
        assert graph is not None
        return graph if isinstance(graph, ir.Graph) else graph.graph

    def around(self, graph: ir.Graph) -> list[ir.Graph]:
        """A graph and those around it, inmost first."""
        found = [graph]
        while found[-1] in self.owners:
            found.append(self.graph_of(self.owners[found[-1]][0]))
        return found

    def opsets(self, graph: ir.Graph) -> Mapping[str, int]:
        """The operator sets that hold for a graph."""
        root = self.around(graph)[-1]
        if root is self.model.graph:
            return self.model.opset_imports
        return root.opset_imports or self.model.opset_imports

    def is_function(self, graph: ir.Graph) -> bool:
        """Whether a graph is, or is inside of, a model-local function."""
        return self.around(graph)[-1] is not self.model.graph

    def taken(self, graph: ir.Graph, name: str) -> bool:
        """Whether a tensor name is used anywhere in the same main graph or function, bodies included."""
        root = self.around(graph)[-1]
        return any(name in names for other, names in self.values.items() if self.around(other)[-1] is root)

    def free(self, graph: ir.Graph, name: str) -> str:
        """A tensor name that is not taken: this one, or with ``_1``, ``_2``, ..."""
        return _free(name, lambda candidate: self.taken(graph, candidate))

    def free_node(self, name: str) -> str:
        """A node name that is not taken."""
        return _free(name, self.nodes.__contains__)

    def new_node_name(self, name: str | None, base: str) -> str:
        """The name for a new node: the given one, if it is free, else one made from ``base``."""
        if name and name in self.nodes:
            raise EditError(
                f"cannot name a new node {name!r}: node {name!r} ({self.nodes[name].op_type}) has that name; "
                "expected a free one; give another, or none for a name of its own"
            )
        return name or self.free_node(base)

    def new_name(self, graph: ir.Graph, name: str, what: str) -> str:
        """Refuse a tensor name that is empty or taken."""
        if not isinstance(name, str) or not name:
            raise EditError(f"cannot {what}: got the name {name!r}, expected text of at least one character")
        if self.taken(graph, name):
            raise EditError(f"cannot {what}: the name {name!r} is taken by another tensor; give a free one")
        return name

    # -- steps: names and plain fields ------------------------------------------------------------------------

    def set(self, thing: Any, field: str, new: Any) -> None:
        """Set a plain field of a node, graph or value."""
        old = getattr(thing, field)
        self.do(lambda: setattr(thing, field, new), lambda: setattr(thing, field, old))
        if isinstance(thing, ir.Node):
            self.touched[thing] = None

    def rename_node(self, node: ir.Node, name: str) -> None:
        """Give a node another name."""

        def step(old: str, new: str) -> None:
            del self.nodes[old]
            node.name = new
            self.nodes[new] = node

        old = node.name or ""
        self.do(lambda: step(old, name), lambda: step(name, old))

    def rename_value(self, value: ir.Value, name: str) -> None:
        """Give a tensor another name; an initializer keeps its place."""

        def step(old: str, new: str) -> None:
            graph = value.graph
            order = [new if key == old else key for key in held(graph)] if value.is_initializer() else []
            value.name = new
            if order:
                data = graph.initializers.data  # type: ignore[union-attr]
                graph.initializers.data = {key: data[key] for key in order}  # type: ignore[union-attr]
            if graph in self.values:
                names = self.values[graph]
                names.pop(old, None)
                names[new] = value

        old = value.name or ""
        self.do(lambda: step(old, name), lambda: step(name, old))

    def put(self, mapping: Any, key: str, new: Any) -> None:
        """Set an entry of metadata, attributes or operator sets; None removes it."""
        old = dict(mapping)

        def step() -> None:
            if new is None:
                mapping.pop(key, None)
            else:
                mapping[key] = new

        def undo() -> None:
            mapping.clear()
            mapping.update(old)

        self.do(step, undo)

    def set_attribute(self, node: ir.Node, name: str, attribute: ir.Attr | None) -> None:
        """Set or remove a node's attribute (not a body)."""
        self.put(node.attributes, name, attribute)
        self.touched[node] = None

    # -- steps: edges and nodes -------------------------------------------------------------------------------

    def create(
        self,
        domain: str,
        op_type: str,
        inputs: Iterable[ir.Value | None],
        attributes: Iterable[ir.Attr],
        name: str,
    ) -> ir.Node:
        """A new node with one output, not in a graph yet."""
        wires = tuple(inputs)
        node = ir.Node(domain, op_type, (), attributes, name=name)
        self.do(lambda: _wire(node, wires), lambda: _wire(node, ()))
        return node

    def set_inputs(self, node: ir.Node, inputs: Iterable[ir.Value | None]) -> None:
        """Set all inputs of a node."""
        old, new = tuple(node.inputs), tuple(inputs)
        self.do(lambda: _wire(node, new), lambda: _wire(node, old))
        self.touched[node] = None

    def redirect(
        self, value: ir.Value, new: ir.Value, uses: Iterable[tuple[ir.Node, int]] | None = None
    ) -> None:
        """Let nodes read another tensor: all that read ``value``, or the given (node, input) ones."""
        wanted: dict[ir.Node, set[int]] = {}
        for node, index in value.uses() if uses is None else uses:
            wanted.setdefault(node, set()).add(index)
        for node, indices in wanted.items():
            self.set_inputs(node, [new if i in indices else old for i, old in enumerate(node.inputs)])

    def insert(self, graph: ir.Graph, nodes: Iterable[ir.Node], before: ir.Node | None) -> None:
        """Put new nodes before another node, or at the end."""
        nodes = list(nodes)
        wires = [(node, tuple(node.inputs)) for outer in nodes for node in (outer, *nested(outer))]

        def step() -> None:
            for node, inputs in wires:
                _wire(node, inputs)
            _insert(graph, nodes, before)
            for node in nodes:
                self._enter(node)

        def undo() -> None:
            for node in nodes:
                self._leave(node)
            graph.remove(nodes)
            for node, _ in wires:
                _wire(node, ())

        self.do(step, undo)
        self.touched.update(dict.fromkeys(nodes))

    def remove(self, graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
        """Take nodes out of a graph; nothing may use their outputs any more."""
        gone = set(nodes)
        places = _places(graph, gone)
        wires = [(node, tuple(node.inputs)) for outer, _ in places for node in (outer, *nested(outer))]

        def step() -> None:
            for node, _ in places:
                self._leave(node)
            graph.remove(gone)
            for node, _ in wires:
                _wire(node, ())

        def undo() -> None:
            for node, inputs in wires:
                _wire(node, inputs)
            for node, following in reversed(places):
                _insert(graph, [node], following)
                self._enter(node)

        self.do(step, undo)
        for node, _ in wires:
            self.touched.pop(node, None)

    def move(self, graph: ir.Graph, nodes: Iterable[ir.Node], before: ir.Node) -> None:
        """Put nodes, in their order, before another node."""
        places = _places(graph, set(nodes))
        moved = [node for node, _ in places]

        def step() -> None:
            graph.remove(moved)
            _insert(graph, moved, before)

        def undo() -> None:
            graph.remove(moved)
            for node, following in reversed(places):
                _insert(graph, [node], following)

        self.do(step, undo)

    # -- steps: what a graph holds ----------------------------------------------------------------------------

    def set_ports(self, graph: ir.Graph, kind: str, values: Iterable[ir.Value]) -> None:
        """Set the ``inputs`` or ``outputs`` of a graph."""
        old, new = list(getattr(graph, kind)), list(values)

        def step(before: list[ir.Value], after: list[ir.Value]) -> None:
            getattr(graph, kind)[:] = after
            if kind == "inputs":
                names = self.values[graph]
                for value in before:
                    if value not in after and not value.is_initializer():
                        names.pop(value.name or "", None)
                names.update((value.name or "", value) for value in after)

        self.do(lambda: step(old, new), lambda: step(new, old))

    def add_initializer(self, graph: ir.Graph, value: ir.Value) -> None:
        """Add an initializer, as the last."""
        self.do(lambda: self._hold(graph, value), lambda: self._drop(graph, value))

    def remove_initializer(self, graph: ir.Graph, value: ir.Value) -> None:
        """Remove an initializer that nothing uses."""
        order = held(graph)

        def undo() -> None:
            self._hold(graph, value)
            data = graph.initializers.data
            graph.initializers.data = {key: data[key] for key in order}

        self.do(lambda: self._drop(graph, value), undo)

    def _hold(self, graph: ir.Graph, value: ir.Value) -> None:
        graph.initializers.add(value)
        self.values[graph][value.name or ""] = value

    def _drop(self, graph: ir.Graph, value: ir.Value) -> None:
        del graph.initializers[value.name or ""]
        if not value.is_graph_input():
            self.values[graph].pop(value.name or "", None)

    def set_weight(self, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        """Replace the data of an initializer."""
        before = self.types.of(value)
        self.set(value, "const_value", tensor)
        self.retyped.setdefault(value, before)
        self.types.declare(value, self.types.of(value))
        self.touched.update((user, None) for user, _ in value.uses() if tensor.size <= SMALL)

    def remove_function(self, key: ir.OperatorIdentifier) -> None:
        """Remove a model-local function that nothing calls."""
        functions = self.model.functions
        order, function = list(functions), functions[key]

        def step() -> None:
            self._leave_graph(function.graph)
            del functions[key]

        def undo() -> None:
            self._enter_graph(function.graph)
            kept = {other: function if other == key else functions[other] for other in order}
            functions.clear()
            functions.update(kept)

        self.do(step, undo)

    def add_function(self, function: ir.Function) -> None:
        """Add a model-local function, as the last."""
        functions, key = self.model.functions, function.identifier()

        def step() -> None:
            functions[key] = function
            self._enter_graph(function.graph)

        def undo() -> None:
            self._leave_graph(function.graph)
            del functions[key]

        self.do(step, undo)

    # -- the index --------------------------------------------------------------------------------------------

    def _enter_graph(self, graph: ir.Graph) -> None:
        names = self.values[graph] = {value.name or "": value for value in graph.inputs}
        names.update(graph.initializers)
        for node in graph:
            self._enter(node, names)

    def _enter(self, node: ir.Node, names: dict[str, ir.Value] | None = None) -> None:
        self.nodes[node.name or ""] = node
        names = self.values[self.graph_of(node)] if names is None else names
        for value in node.outputs:
            if value.name:
                names[value.name] = value
        for attribute, graph in bodies(node):
            self.owners[graph] = (node, attribute)
            self._enter_graph(graph)

    def _leave_graph(self, graph: ir.Graph) -> None:
        for inner in graph:
            self._leave(inner)
        del self.values[graph]

    def _leave(self, node: ir.Node) -> None:
        for _, graph in bodies(node):
            self._leave_graph(graph)
            del self.owners[graph]
        names = self.values[self.graph_of(node)]
        for value in node.outputs:
            names.pop(value.name or "", None)
        del self.nodes[node.name or ""]


def held(graph: Any) -> list[str]:
    """Names of a graph's initializers, in order."""
    return list(graph.initializers)


def _insert(graph: ir.Graph, nodes: list[ir.Node], before: ir.Node | None) -> None:
    if before is None:
        graph.extend(nodes)
    else:
        graph.insert_before(before, nodes)


def _places(graph: ir.Graph, nodes: set[ir.Node]) -> list[tuple[ir.Node, ir.Node | None]]:
    """(node, the one after it) for some nodes of a graph, in order."""
    found: list[tuple[ir.Node, ir.Node | None]] = []
    last = None
    for node in graph:
        if last is not None:
            found.append((last, node))
        last = node if node in nodes else None
    return [*found, (last, None)] if last is not None else found


def _wire(node: ir.Node, inputs: tuple[ir.Value | None, ...]) -> None:
    if tuple(node.inputs) == inputs:
        return
    node.resize_inputs(0)
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        if value is not None:
            node.replace_input_with(index, value)


def _free(name: str, taken: Callable[[str], bool]) -> str:
    candidate, number = name, 0
    while taken(candidate):
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _similar(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
