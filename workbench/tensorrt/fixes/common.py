"""What several fixes need: constants that a node reads, replacing an output, sweeping up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

from ...edits import origins
from ...edits.draft import Draft
from ...edits.weights import data
from ...errors import EditError

MOVES = frozenset(
    ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Identity", "Expand", "Tile")
)
"""Operators that only move the elements of their first input."""


def same(one: ir.Node, two: ir.Node) -> bool:
    try:
        pairs = ((scale_of(one), scale_of(two)), (zero_of(one), zero_of(two)))
    except EditError:
        return False
    return all(a.dtype == b.dtype and np.array_equal(a.ravel(), b.ravel()) for a, b in pairs)


def scale_of(node: ir.Node) -> np.ndarray:
    return constant_of(node.inputs[1], node)


def zero_of(node: ir.Node, kind: Any = np.uint8) -> np.ndarray:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros((), kind)
    return constant_of(node.inputs[2], node)


def constant_of(value: ir.Value | None, node: ir.Node) -> np.ndarray:
    """The array of a constant that a node reads."""
    maker = value.producer() if value is not None else None
    held = maker is not None and maker.op_type == "Constant" and maker.domain == ""
    if value is None or (value.const_value is None and not held) or value.is_graph_input():
        name = value.name if value is not None else None
        raise EditError(
            f"node {node.name!r} ({node.op_type}): its input {name!r} is no constant, expected one"
        )
    array: np.ndarray = data(value).numpy()
    return array


def replace_output(draft: Draft, node: ir.Node, value: ir.Value) -> None:
    """Let everything read another tensor than a node's output, and remove the node."""
    graph, out = draft.graph_of(node), node.outputs[0]
    name, outside = out.name or "", out.is_graph_output()
    draft.redirect(out, value)
    if not outside:
        draft.remove(graph, [node])
        return
    new = draft.create("", "Identity", [value], [], draft.free_node(f"{node.name}_output"))
    origins.note_node(draft, new, origins.of_node(node))
    draft.insert(graph, [new], None)
    draft.set_ports(graph, "outputs", [new.outputs[0] if v is out else v for v in graph.outputs])
    draft.remove(graph, [node])
    draft.rename_value(new.outputs[0], name)
    draft.types.state_like(new.outputs[0], out)


def sweep(draft: Draft, graph: ir.Graph, values: Iterable[ir.Value | None]) -> None:
    """Remove those of some tensors that nothing reads any more, and what only they needed."""
    stack = list(dict.fromkeys(value for value in values if value is not None))
    while stack:
        value = stack.pop()
        node = value.producer()
        if value.uses() or value.is_graph_output() or value.is_graph_input():
            continue
        if node is not None and node.graph is graph and len(node.outputs) == 1:
            stack += [read for read in node.inputs if read is not None]
            draft.remove(graph, [node])
        elif value.is_initializer() and value.graph is graph and value.name in graph.initializers:
            draft.remove_initializer(graph, value)
