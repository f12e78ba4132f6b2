"""The graphs of a model: the main one, the bodies of If, Loop and Scan nodes at any depth, and functions."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

GraphLike = ir.Graph | ir.Function
_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def scopes(model: ir.Model) -> Iterator[tuple[str, GraphLike]]:
    """(scope, graph) of every graph; ``''`` for the main one, see ``body`` and ``function``."""
    yield from _below("", model.graph)
    for item in model.functions.values():
        yield from _below(function(item.domain, item.name, item.overload), item)


def body(scope: str, node: str, attribute: str) -> str:
    """Scope of the body that a node has in an attribute: ``<scope>/<node>.<attribute>``."""
    return within(scope, f"{node}.{attribute}")


def function(domain: str, name: str, overload: str = "") -> str:
    """Scope of a model-local function: ``<domain>::<name>``, with ``:<overload>`` when it has one."""
    return f"{domain}::{name}:{overload}" if overload else f"{domain}::{name}"


def within(scope: str, name: str) -> str:
    """A name that is unique in the whole model for what is unique in a scope."""
    return f"{scope}/{name}" if scope else name


def _below(scope: str, graph: GraphLike) -> Iterator[tuple[str, GraphLike]]:
    yield scope, graph
    for node in graph:
        for attribute, inner in bodies(node):
            yield from _below(body(scope, node.name or "", attribute), inner)


def bodies(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    """(attribute, graph) of the bodies of an If, Loop or Scan node."""
    for attribute in node.attributes.data.values():  # of the dict itself: its own iteration is slow
        if attribute.type not in _BODIES or attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.name, attribute.value
        else:
            yield from ((f"{attribute.name}[{i}]", graph) for i, graph in enumerate(attribute.value))


def nested(node: ir.Node) -> Iterator[ir.Node]:
    """The nodes in a node's bodies, at any depth."""
    for _, graph in bodies(node):
        for inner in graph:
            yield inner
            yield from nested(inner)


def initializers(model: ir.Model) -> Iterator[ir.Value]:
    """Every initializer with a value, of the main graph and of bodies."""
    for _, graph in scopes(model):
        if isinstance(graph, ir.Graph):
            yield from (value for value in graph.initializers.values() if value.const_value is not None)


def tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Their weights."""
    for value in initializers(model):
        if value.const_value is not None:
            yield value.const_value


def nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node, graph by graph."""
    for _, graph in scopes(model):
        yield from graph
