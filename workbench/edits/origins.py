"""Where nodes and tensors came from: the names that they had in the model that everything started from.

``workbench.origins`` (JSON, a list of node names) and ``workbench.tensors`` (JSON, output -> name) are written into the
metadata of a node; comparisons and profiles join by them. What has no node (inputs, weights) is noted in the
metadata of its graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from .draft import Draft

NODES, TENSORS = "workbench.origins", "workbench.tensors"


def of_node(node: ir.Node) -> list[str]:
    """The names of the nodes that a node stands for."""
    noted = node.metadata_props.get(NODES)
    return list(json.loads(noted)) if noted else [node.name or ""]


def of_value(value: ir.Value) -> str:
    """The name that a tensor had."""
    holder = value.producer() or value.graph
    noted = holder.metadata_props.get(TENSORS) if holder is not None else None
    found: str = json.loads(noted).get(value.name, value.name) if noted else value.name or ""
    return found


def note_node(draft: Draft, node: ir.Node, origins: Iterable[str]) -> None:
    """Write down which nodes a node stands for."""
    draft.note(node, NODES, json.dumps(list(dict.fromkeys(origins))))


def rename(draft: Draft, value: ir.Value, name: str) -> None:
    """Rename a tensor and write down where it came from."""
    origin, old = of_value(value), value.name
    draft.rename_value(value, name)
    holder = value.producer() or value.graph
    if holder is None:
        return
    noted = json.loads(holder.metadata_props.get(TENSORS, "{}"))
    noted.pop(old, None)
    if origin != name:
        noted[name] = origin
    draft.note(holder, TENSORS, json.dumps(noted) if noted else None)


def carry(before: ir.Model, after: ir.Model) -> None:
    """Note the origins of nodes in a graph that another program made of ``before``: the same node by name, else the
    one that made a tensor of the same name."""
    nodes = {node.name: node for node in before.graph}
    makers = {value.name: node for node in before.graph for value in node.outputs if value.name}
    for node in after.graph:
        made = next((makers[value.name] for value in node.outputs if value.name in makers), None)
        source = nodes.get(node.name, made)
        if source is None or NODES in node.metadata_props:
            continue
        if source.name != node.name or NODES in source.metadata_props:
            node.metadata_props[NODES] = json.dumps(of_node(source))
        tensors = {v.name: of_value(b) for v in node.outputs for b in source.outputs if v.name == b.name}
        tensors = {name: origin for name, origin in tensors.items() if name != origin}
        if tensors and TENSORS not in node.metadata_props:
            node.metadata_props[TENSORS] = json.dumps(tensors)
