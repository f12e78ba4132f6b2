"""Operators that cannot be run, because nothing says what they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from ..errors import ModelError
from .scopes import nodes
from .walk import find_schema

if TYPE_CHECKING:
    from .core import Model

_ONNX = ("", "ai.onnx")
_RUNTIME_DOMAINS = ("com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")
# ONNX Runtime's own in ONNX's domain: old experimental ones, and what its optimiser writes
_RUNTIME = (
    "Affine", "Crop", "DynamicSlice", "ImageScaler", "MemcpyFromHost", "MemcpyToHost", "ParametricSoftplus", "Scale",
    "ScaledTanh", "SimplifiedLayerNormalization",
)  # fmt: skip


def qualified(node: ir.Node) -> str:
    """The operator of a node: ``<domain>::<name>``, without the domain for ONNX's own."""
    return f"{node.domain}::{node.op_type}" if node.domain not in _ONNX else node.op_type


def is_defined(node: ir.Node, model: ir.Model) -> bool:
    """Whether the model or ONNX (in the operator set that holds for the node) defines its operator."""
    if node.op_identifier() in model.functions:
        return True
    return find_schema(node.op_type, _operator_set(node, model), node.domain) is not None


def _operator_set(node: ir.Node, model: ir.Model) -> int:
    """The version of its domain that holds for a node: a function has its own."""
    own = node.graph.opset_imports if node.graph is not None else {}
    return own.get(node.domain) or model.opset_imports.get(node.domain, 1)


def has_body(node: ir.Node, model: ir.Model) -> bool:
    """Whether something says what a node computes: ONNX, a function of the model, or ONNX Runtime, which has operators
    of its own."""
    if node.domain in _ONNX and (node.op_type in _RUNTIME or _is_newer(node, model)):
        return True
    return node.domain in _RUNTIME_DOMAINS or is_defined(node, model)


def _is_newer(node: ir.Node, model: ir.Model) -> bool:
    """Whether the node is of a later ONNX than the one that is installed, so that the runtime has to tell."""
    return _operator_set(node, model) > onnx.defs.onnx_opset_version()


def require_bodies(model: Model, task: str) -> None:
    """Refuse a model that no runtime can run.

    Args:
        task: what is to be done with it, such as ``profile``.

    Raises:
        ModelError: a node has an operator without a body; with the nodes, the operator and what to do.
    """
    ir_model = model.ir
    lacking: dict[tuple, list[ir.Node]] = {}
    known: dict[tuple, bool] = {}
    for node in nodes(ir_model):
        key = node.op_identifier(), _operator_set(node, ir_model)
        if key not in known:
            known[key] = has_body(node, ir_model)
        if not known[key]:
            lacking.setdefault(key, []).append(node)
    if lacking:
        said = "; ".join(_said(found, ir_model) for found in lacking.values())
        raise ModelError(f"cannot {task} {model.name!r}: {said}")


def _said(found: list[ir.Node], model: ir.Model) -> str:
    """What is wrong with the nodes of one operator, and what to do."""
    node = found[0]
    domain = "" if node.domain == "ai.onnx" else node.domain
    listed = ", ".join(repr(item.name) for item in found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
    what = f"node{'s' if found[1:] else ''} {listed}: operator {node.op_type} of domain {domain or 'ai.onnx'!r}"
    known = (s for s in onnx.defs.get_all_schemas_with_history() if (s.domain, s.name) == (domain, node.op_type))
    since = min((schema.since_version for schema in known), default=None)
    if since is not None:
        version = _operator_set(node, model)
        return f"{what} is not in operator set {version}, which the model has; it came with {since}: convert the model"
    return (
        f"{what} has no body: ONNX, the functions of the model and ONNX Runtime do not define it; give it one: "
        f"m.replace([{node.name!r}], plugin), or a function {qualified(node)} in the file"
    )
