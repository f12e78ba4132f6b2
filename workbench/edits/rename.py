"""Other names for nodes, tensors, inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import EditError
from . import origins
from .base import Edit
from .draft import Draft


@dataclass(frozen=True)
class RenameNode(Edit):
    """Give a node another name, wherever it is; its origin is kept.

    Args:
        node: its name.
        name: the new one, which no node of the model may have.
    """

    method: ClassVar[str] = "rename_node"
    typed: ClassVar[bool] = False
    node: str
    name: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        what = f"cannot rename node {self.node!r}"
        if not isinstance(self.name, str) or not self.name:
            raise EditError(f"{what}: got the name {self.name!r}, expected text of at least one character")
        if self.name in draft.nodes:
            other = draft.nodes[self.name]
            raise EditError(
                f"{what}: the name {self.name!r} is taken by another node ({other.op_type}); give a free one"
            )
        known = origins.of_node(node)
        draft.rename_node(node, self.name)
        origins.note_node(draft, node, known)


@dataclass(frozen=True)
class RenameTensor(Edit):
    """Give a tensor another name, in bodies and functions too; its origin is kept.

    Args:
        tensor: its key in ``Model.tensors``: the name, or ``<scope>/<name>``.
        name: the new one (without a scope).
    """

    method: ClassVar[str] = "rename_tensor"
    typed: ClassVar[bool] = False
    tensor: str
    name: str

    def change(self, draft: Draft) -> None:
        value = draft.value(self.tensor)
        what = f"cannot rename tensor {self.tensor!r}"
        if value.graph is draft.model.graph and (value.is_graph_input() or value.is_graph_output()):
            kind = "input" if value.is_graph_input() else "output"
            raise EditError(
                f"{what}: it is an {kind} of the model, which callers know by name; use rename_{kind}"
            )
        assert value.graph is not None
        origins.rename(draft, value, draft.new_name(draft.graph_of_value(value), self.name, what[7:]))


def _rename_port(draft: Draft, kind: str, old: str, new: str) -> None:
    value = draft.port(f"{kind}s", old)
    origins.rename(draft, value, draft.new_name(draft.model.graph, new, f"rename {kind} {old!r}"))


@dataclass(frozen=True)
class RenameInput(Edit):
    """Give an input of the model another name."""

    method: ClassVar[str] = "rename_input"
    typed: ClassVar[bool] = False
    input: str
    name: str

    def change(self, draft: Draft) -> None:
        _rename_port(draft, "input", self.input, self.name)


@dataclass(frozen=True)
class RenameOutput(Edit):
    """Give an output of the model another name."""

    method: ClassVar[str] = "rename_output"
    typed: ClassVar[bool] = False
    output: str
    name: str

    def change(self, draft: Draft) -> None:
        _rename_port(draft, "output", self.output, self.name)
