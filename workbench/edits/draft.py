"""A graph while it is edited: steps that know how to go back, names that are found at once, types that are known.

Every edit is made of the steps below and of nothing else. Each step notes how to do it again and how to undo it, so
going back restores the same graph: order of nodes, of initializers and of metadata included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import onnx
import onnx_ir as ir

from ..model.facts import of_tensor
from ..model.inferred import take
from ..model.nodewise import reads_values
from ..model.scopes import nested
from .names import Names
from .types import Types

Step = tuple[Callable[[], None], Callable[[], None]]
"""(do, undo)."""


class Draft(Names):
    """An ``onnx_ir.Model`` with an index of its names, and the steps that change both.

    Attributes:
        types: what is known of the type of each value.
        log: the steps since ``start``.
        touched: nodes whose operator, attributes or inputs a step changed; they are checked when the edit ends. With
            what they read before, where nothing else of them has changed; else None.
        new: nodes that were put in, and of whose outputs nothing was known.
        retyped: values whose type a step changed, with the type before.
        renamed: things (nodes, values) whose name or metadata a step changed.
        afterwards: called when types have been inferred, for an edit that knows more of them than onnx can infer.
    """

    def __init__(self, model: ir.Model):
        super().__init__(model)
        self.types = Types(self, take(model))
        self.start()

    def start(self) -> None:
        """Begin to note steps."""
        self.log: list[Step] = []
        self.touched: dict[ir.Node, tuple[ir.Value | None, ...] | None] = {}
        self.new: set[ir.Node] = set()
        self.retyped: dict[ir.Value, onnx.TypeProto | None] = {}
        self.renamed: dict[Any, None] = {}
        self.types.start()
        self.afterwards: list[Callable[[], None]] = []

    def back(self) -> None:
        """Undo all noted steps."""
        for _, undo in reversed(self.log):
            undo()
        self.start()

    def do(self, step: Callable[[], None], undo: Callable[[], None]) -> None:
        """Take a step and note it."""
        step()
        self.log.append((step, undo))

    # -- steps: names and plain fields ------------------------------------------------------------------------

    def set(self, thing: Any, field: str, new: Any) -> None:
        """Set a plain field of a node, graph or value."""
        old = getattr(thing, field)

        def step(value: Any) -> None:
            setattr(thing, field, value)

        self.do(lambda: step(new), lambda: step(old))
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
        self.renamed[node] = None

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
        self.renamed[value] = None

    def put(self, mapping: Any, key: str, new: Any) -> None:
        """Set an entry of operator sets or attributes; None removes it."""
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

    def note(self, thing: Any, key: str, new: str | None) -> None:
        """Set an entry of the metadata of a model, graph, node or value; None removes it."""
        self.put(thing.metadata_props, key, new)
        self.renamed[thing] = None

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
        self._rewire(node, (), wires)
        return node

    def _rewire(
        self, node: ir.Node, old: tuple[ir.Value | None, ...], new: tuple[ir.Value | None, ...]
    ) -> None:
        def step(inputs: tuple[ir.Value | None, ...]) -> None:
            _wire(node, inputs)

        self.do(lambda: step(new), lambda: step(old))

    def set_inputs(self, node: ir.Node, inputs: Iterable[ir.Value | None]) -> None:
        """Set all inputs of a node."""
        old = tuple(node.inputs)
        self._rewire(node, old, tuple(inputs))
        self.touched.setdefault(node, old)

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
            self._insert(graph, nodes, before)
            for node in nodes:
                self._enter(node)

        def undo() -> None:
            for node in nodes:
                self._leave(node)
            self._remove(graph, nodes)
            for node, _ in wires:
                _wire(node, ())

        self.do(step, undo)
        self.touched.update(dict.fromkeys(nodes))
        self.new.update(node for node in nodes if not any(map(self.types.knows, node.outputs)))

    def remove(self, graph: ir.Graph, nodes: Iterable[ir.Node]) -> None:
        """Take nodes out of a graph; nothing may use their outputs any more."""
        places = self._places(graph, nodes)
        gone = [node for node, _ in places]
        wires = [(node, tuple(node.inputs)) for outer, _ in places for node in (outer, *nested(outer))]

        def step() -> None:
            for node in gone:
                self._leave(node)
            self._remove(graph, gone)
            for node, _ in wires:
                _wire(node, ())

        def undo() -> None:
            for node, inputs in wires:
                _wire(node, inputs)
            for node, following in reversed(places):
                self._insert(graph, [node], following)
                self._enter(node)

        self.do(step, undo)
        for node, _ in wires:
            self.touched.pop(node, None)

    def move(self, graph: ir.Graph, nodes: Iterable[ir.Node], before: ir.Node) -> None:
        """Put nodes, in their order, before another node."""
        places = self._places(graph, nodes)
        moved = [node for node, _ in places]

        def step() -> None:
            self._remove(graph, moved)
            self._insert(graph, moved, before)

        def undo() -> None:
            self._remove(graph, moved)
            for node, following in reversed(places):
                self._insert(graph, [node], following)

        self.do(step, undo)

    def _insert(self, graph: ir.Graph, nodes: list[ir.Node], before: ir.Node | None) -> None:
        order = self.order(graph)  # which reads the graph the first time
        if before is None:
            graph.extend(nodes)
        else:
            graph.insert_before(before, nodes)
        order.insert(nodes, before)

    def _remove(self, graph: ir.Graph, nodes: list[ir.Node]) -> None:
        self.order(graph).remove(nodes)
        graph.remove(nodes)

    def _places(self, graph: ir.Graph, nodes: Iterable[ir.Node]) -> list[tuple[ir.Node, ir.Node | None]]:
        """(node, the one after it) for some nodes of a graph, in order."""
        order = self.order(graph)
        return [(node, order.after(node)) for node in sorted(set(nodes), key=order.__getitem__)]

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
        if value.const_value is not None:
            self.types.learn({value: of_tensor(value.const_value)})

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
        self.set(value, "const_value", tensor)
        self.types.settled({value: of_tensor(tensor)})
        self.touch_readers(value, tensor)

    def touch_readers(self, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        """The values of a constant are others now."""
        self.touched.update((user, None) for user, index in value.uses() if reads_values(user, index, tensor))

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


def held(graph: Any) -> list[str]:
    """Names of a graph's initializers, in order."""
    return list(graph.initializers)


def _wire(node: ir.Node, inputs: tuple[ir.Value | None, ...]) -> None:
    if tuple(node.inputs) == inputs:
        return
    node.resize_inputs(0)
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        if value is not None:
            node.replace_input_with(index, value)
