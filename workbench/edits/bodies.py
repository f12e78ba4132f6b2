"""The bodies of If, Loop and Scan nodes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


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
