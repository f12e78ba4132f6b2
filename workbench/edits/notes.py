"""What is written beside the graph: metadata and scopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import EditError
from ..model.core import HISTORY
from . import origins
from .base import Edit, names
from .draft import Draft

SCOPE = "workbench.scope"
"""Key of a node's scope: a path with ``/`` between its parts, which views group by."""


@dataclass(frozen=True)
class SetMetadata(Edit):
    """Set an entry of the metadata of the model, of a node or of a tensor.

    Args:
        key: of the entry.
        value: text; None removes the entry.
        node, tensor: whose metadata; neither: the model's.
    """

    method: ClassVar[str] = "set_metadata"
    typed: ClassVar[bool] = False
    key: str
    value: str | None
    node: str | None = None
    tensor: str | None = None

    def change(self, draft: Draft) -> None:
        if self.node is not None and self.tensor is not None:
            raise EditError(
                "cannot set metadata: got a node and a tensor, expected one of them; make two edits"
            )
        holder: Any = draft.model
        if self.node is not None:
            holder = draft.node(self.node)
        elif self.tensor is not None:
            holder = draft.value(self.tensor)
        if not isinstance(self.key, str) or not self.key or not isinstance(self.value, str | None):
            raise EditError(f"cannot set metadata: got {self.key!r}: {self.value!r}, expected text for both")
        if self.key in (HISTORY, origins.NODES, origins.TENSORS):
            raise EditError(
                f"cannot set metadata {self.key!r}: Workbench writes it itself; choose another key"
            )
        draft.note(holder, self.key, self.value)


@dataclass(frozen=True)
class SetScope(Edit):
    """Put nodes into a scope (``encoder/layer.0``), by which views group them; ``""`` takes them out again."""

    method: ClassVar[str] = "set_scope"
    typed: ClassVar[bool] = False
    nodes: tuple[str, ...]
    scope: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", names(self.nodes))

    def change(self, draft: Draft) -> None:
        for name in self.nodes:
            draft.note(draft.node(name), SCOPE, self.scope or None)
