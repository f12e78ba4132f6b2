"""What made a node: a fusion, a plugin, an edit; from what they note in its metadata."""

from __future__ import annotations

import json

import onnx_ir as ir

from ..edits.origins import NODES

FUSION, PLUGIN = "workbench.fusion", "workbench.plugin"
"""Keys of metadata: the name of the fusion, or of the plugin, that made a node."""


def made_by(node: ir.Node) -> str:
    """``fused: gelu``, ``plugin: gelu``, ``merged``, ``renamed``, or ``""`` for a node as the file has it."""
    notes = node.metadata_props
    if not notes:
        return ""
    for key, word in ((PLUGIN, "plugin"), (FUSION, "fused")):
        if key in notes:
            return f"{word}: {notes[key]}"
    noted = json.loads(notes.get(NODES, "[]"))
    if len(noted) > 1:
        return "merged"
    return "renamed" if noted and noted != [node.name] else ""
