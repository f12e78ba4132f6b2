"""The names of a graph that is edited: nodes and tensors by name, wherever they are; names that are free."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping

import onnx_ir as ir

from ..errors import EditError, NotInModelError
from ..model import scopes
from ..model.scopes import bodies, nested
from .order import Order


class Names:
    """An index of the nodes and tensors of an ``onnx_ir.Model``.

    Attributes:
        model: the graph.
        nodes: name -> node, of the whole model.
        values: graph -> name -> tensor that is defined in it.
        owners: body -> (node that it belongs to, attribute).
    """

    def __init__(self, model: ir.Model):
        self.model = model
        self.nodes: dict[str, ir.Node] = {}
        self.values: dict[ir.Graph, dict[str, ir.Value]] = {}
        self.owners: dict[ir.Graph, tuple[ir.Node, str]] = {}
        self._orders: dict[ir.Graph, Order] = {}
        self._enter_graph(model.graph)
        for function in model.functions.values():
            self._enter_graph(function.graph)

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

    def order(self, graph: ir.Graph) -> Order:
        """The order of the nodes of a graph."""
        if graph not in self._orders:
            self._orders[graph] = Order(graph)
        return self._orders[graph]

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

    def called(self, key: ir.OperatorIdentifier) -> list[ir.Function]:
        """A model-local function, then those that it calls at any depth."""
        functions = self.model.functions
        found = {key: functions[key]}
        waiting = [functions[key]]
        while waiting:
            body = waiting.pop().graph
            for node in (inner for outer in body for inner in (outer, *nested(outer))):
                other = (node.domain, node.op_type, node.overload)
                if other in functions and other not in found:
                    found[other] = functions[other]
                    waiting.append(functions[other])
        return list(found.values())

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

    # -- the index --------------------------------------------------------------------------------------------

    def _enter_graph(self, graph: ir.Graph) -> None:
        names = self.values[graph] = {value.name or "": value for value in graph.inputs}
        names.update(graph.initializers)
        nodes = self.nodes
        for node in graph:  # this runs for every node before the first edit
            if node.attributes.data and any(bodies(node)):
                self._enter(node, names)
                continue
            nodes[node.name or ""] = node
            for value in node.outputs:
                if name := value.name:
                    names[name] = value

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
        self._orders.pop(graph, None)

    def _leave(self, node: ir.Node) -> None:
        for _, graph in bodies(node):
            self._leave_graph(graph)
            del self.owners[graph]
        names = self.values[self.graph_of(node)]
        for value in node.outputs:
            names.pop(value.name or "", None)
        del self.nodes[node.name or ""]


def _free(name: str, taken: Callable[[str], bool]) -> str:
    candidate, number = name, 0
    while taken(candidate):
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _similar(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
