"""The graph of a version of a model, and what lies between two versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx_ir as ir

from ..model import Model
from .draft import Draft
from .history import Version, version_of


def draft_of(model: Model) -> Draft:
    """The graph of a model with its index and types, at the version of the model."""
    version = version_of(model)
    version.graph()
    draft = version.line.draft
    draft.types.know()
    return draft


Changed = tuple[set[ir.Node], dict[ir.Value, Any], set[Any]]


def changed(old: Model, new: Model) -> Changed | None:
    """What edits, undone or done, changed between two models that share a graph; None for any others.

    Returns:
        (nodes with other attributes or inputs, value -> its type in the new model as a TypeProto, None: unknown,
        what has another name or metadata). Nodes and values that are only in one of them need not be among these.
    """
    if old.version is None or new.version is None or old.version.line is not new.version.line:
        return (set(), {}, set()) if old is new else None
    between = set(_chain(old.version)) ^ set(_chain(new.version))
    new.version.graph()
    types = new.version.line.draft.types
    return (
        {node for version in between for node in version.touched},
        {value: types.of(value) for version in between for value in version.retyped},
        {thing for version in between for thing in version.renamed},
    )


def _chain(version: Version) -> Iterator[Version]:
    node: Version | None = version
    while node is not None:
        yield node
        node = node.parent
