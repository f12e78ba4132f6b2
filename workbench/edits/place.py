"""Where new nodes go, and keeping nodes in an order in which they can run."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from ..errors import EditError
from ..model.scopes import nested
from .base import names
from .draft import Draft


def following(draft: Draft, graph: ir.Graph, values: Iterable[ir.Value | None]) -> ir.Node | None:
    """The node before which one that reads these tensors can stand; None for the end."""
    order = draft.order(graph)
    makers = {value.producer() for value in values if value is not None} - {None}
    here = [node for node in makers if node is not None and node in order]
    return order.after(max(here, key=order.__getitem__, default=None))


def needs(draft: Draft, node: ir.Node, graph: ir.Graph) -> Iterable[ir.Node]:
    """The nodes of a graph whose outputs a node, or a body in it, reads."""
    for reader in (node, *nested(node)):
        for value in reader.inputs:
            maker = value.producer() if value is not None else None
            if maker is not None and draft.graph_of(maker) is graph:
                yield maker


def arrange(draft: Draft, node: ir.Node) -> None:
    """Put what a node reads before it. EditError when that is a cycle."""
    graph = draft.graph_of(node)
    inner: ir.Node | None = node
    while inner is not None:
        _arrange(draft, inner, graph)
        owner = draft.owners.get(graph)
        inner = owner[0] if owner else None
        graph = draft.graph_of(inner) if inner is not None else graph


def _arrange(draft: Draft, node: ir.Node, graph: ir.Graph) -> None:
    place = draft.order(graph)
    late: set[ir.Node] = set()
    stack = [maker for maker in needs(draft, node, graph) if place[maker] >= place[node]]
    while stack:
        other = stack.pop()
        if other is node:
            raise EditError(
                f"node {node.name!r} ({node.op_type}) would read what follows from its own output: that is a cycle; "
                "connect a tensor that does not depend on it"
            )
        if other not in late:
            late.add(other)
            stack += [maker for maker in needs(draft, other, graph) if place[maker] >= place[node]]
    if late:
        draft.move(graph, late, node)


Readers = str | tuple[str | tuple[str, int], ...] | None
"""Which readers of a tensor: names of nodes or ``(node, input)`` pairs; None: all."""


def uses(draft: Draft, value: ir.Value, to: Readers) -> list[tuple[ir.Node, int]]:
    """The (node, input) pairs that read a tensor: all, or those of the given nodes or ``(node, input)`` pairs."""
    every = list(value.uses())
    if to is None:
        return [(node, index) for node, index in every]
    found = []
    for item in names(to) if isinstance(to, str) else to:
        name, index = (item, None) if isinstance(item, str) else item
        node = draft.node(name)
        here = [(user, at) for user, at in every if user is node and index in (None, at)]
        if not here:
            where = f"input {index} of node {name!r}" if index is not None else f"node {name!r}"
            raise EditError(
                f"there is no edge from tensor {value.name!r} to {where}; got {name!r}, expected one of "
                f"{', '.join(sorted({repr(user.name) for user, _ in every})) or 'none: nothing reads it'}"
            )
        found += here
    return found


def constant(draft: Draft, graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A new constant in a graph: an initializer, or in a function a Constant node at its start."""
    name = draft.free(graph, name)
    tensor.name = name
    if draft.is_function(graph):
        node = draft.create(
            "", "Constant", [], [ir.AttrTensor("value", tensor)], draft.free_node(f"Constant_{name}")
        )
        node.outputs[0].name = name
        draft.insert(graph, [node], next(iter(graph), None))
        return node.outputs[0]
    value = ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy())
    )
    draft.add_initializer(graph, value)
    return value
