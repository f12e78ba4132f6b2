"""How what onnx's inference has against a node reads."""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model.info import from_type


def misfit(node: ir.Node, types: Iterable[onnx.TypeProto | None], reason: str) -> EditError:
    """The refusal of a node that does not fit what it reads."""
    pairs = zip(node.inputs, types, strict=True)
    listed = ", ".join(f"{value.name} {text(kind)}" for value, kind in pairs if value is not None)
    return EditError(
        f"node {node.name!r} ({node.op_type}) would not fit its inputs: got {listed}; {reason}; "
        "change its inputs or attributes first"
    )


def inmost(reason: str) -> tuple[str | None, str]:
    """(node, reason) of an error that onnx tells through the nodes around it."""
    *around, found = re.split(r"\(op_type:[^,()]*, node name: (.*?)\): (?:\[\w+\] )?", reason)
    return (around[-1] if around else None), found.strip()


def text(kind: onnx.TypeProto | None) -> str:
    """``float32[1, n]``."""
    if kind is None:
        return "of unknown type"
    dtype, shape = from_type(kind)
    dims = "unknown rank" if shape is None else ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"{dtype or '?'}[{dims}]"
