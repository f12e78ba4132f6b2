"""What made a node: a fusion, a plugin, an edit; from what they note in its metadata."""

from __future__ import annotations

import json

import onnx_ir as ir

from ..edits.origins import NODES

FUSION = "workbench.fusion"
"""Key of metadata: the name of the fusion that made a node."""
DOMAIN = "workbench"
"""The domain of plugins."""


def made_by(node: ir.Node) -> str:
    """``fused: gelu``, ``plugin: gelu``, ``merged``, ``renamed``, or ``""`` for a node as the file has it."""
    notes = node.metadata_props
    if FUSION in notes:
        return f"fused: {notes[FUSION]}"
    if node.domain == DOMAIN:
        return f"plugin: {node.op_type}"
    if not notes:
        return ""
    noted = json.loads(notes.get(NODES, "[]"))
    if len(noted) > 1:
        return "merged"
    return "renamed" if noted and noted != [node.name] else ""
