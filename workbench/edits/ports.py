"""The model's inputs and outputs: their types, more of them, fewer of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from ..errors import EditError
from ..model.info import from_type
from .base import Edit, tuples
from .draft import Draft
from .infer import text
from .tensortypes import make, typed_value

Dims = tuple[int | str | None, ...]


@dataclass(frozen=True)
class SetInput(Edit):
    """Change the dtype or shape of an input of the model; everything after it follows.

    Args:
        input: its name.
        shape: the new shape: ints, names of dynamic dims, None for an unknown dim; None leaves it as it is.
        dtype: the new dtype; None leaves it.
    """

    method: ClassVar[str] = "set_input"
    input: str
    shape: Dims | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuples(self.shape))

    def change(self, draft: Draft) -> None:
        value = draft.port("inputs", self.input)
        what = f"cannot change input {self.input!r}"
        old = draft.types.of(value)
        if value.const_value is not None:
            raise EditError(f"{what}: it has a default, which fixes its type; use replace_weight")
        if old is None or not old.HasField("tensor_type"):
            raise EditError(
                f"{what}: got {draft.types.text(value)}, expected a tensor; change it with surgeon"
            )
        dtype, shape = from_type(old)
        try:
            kind = make(self.dtype or dtype, shape if self.shape is None else self.shape)
        except EditError as error:
            raise EditError(f"{what}: {error}") from None
        draft.types.declare(value, kind)


@dataclass(frozen=True)
class AddInput(Edit):
    """Add an input to the model; nothing reads it until ``reconnect``. The name of an initializer makes that one an
    input with a default.

    Args:
        name: of the input.
        dtype: its dtype.
        shape: ints, names of dynamic dims, None for an unknown dim.
    """

    method: ClassVar[str] = "add_input"
    name: str
    dtype: str = "float32"
    shape: Dims = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuples(self.shape))

    def change(self, draft: Draft) -> None:
        graph = draft.model.graph
        value = graph.initializers.get(self.name)
        if value is None or value.is_graph_input():
            name = draft.new_name(graph, self.name, "add an input")
            value = typed_value(name, make(self.dtype, self.shape))
        else:
            draft.types.state(value, draft.types.of(value))
        draft.set_ports(graph, "inputs", [*graph.inputs, value])


@dataclass(frozen=True)
class RemoveInput(Edit):
    """Remove an input that nothing reads, or that has a default (which then is a plain weight)."""

    method: ClassVar[str] = "remove_input"
    input: str

    def change(self, draft: Draft) -> None:
        value = draft.port("inputs", self.input)
        if value.const_value is None and (value.uses() or value.is_graph_output()):
            users = ", ".join(repr(node.name) for node in value.consumers()[:5]) or "an output of the model"
            raise EditError(
                f"cannot remove input {self.input!r}: it is read by {users}; reconnect these first"
            )
        graph = draft.model.graph
        draft.set_ports(graph, "inputs", [item for item in graph.inputs if item is not value])


@dataclass(frozen=True)
class AddOutput(Edit):
    """Make a tensor of the main graph an output of the model (a probe)."""

    method: ClassVar[str] = "add_output"
    tensor: str

    def change(self, draft: Draft) -> None:
        add_output(draft, draft.value(self.tensor), f"cannot make tensor {self.tensor!r} an output")


def add_output(draft: Draft, value: ir.Value, what: str) -> None:
    """Make a tensor an output of the model."""
    graph = draft.model.graph
    if value.is_graph_output() and value.graph is graph:
        raise EditError(f"{what}: it is one already; nothing to do")
    if draft.graph_of_value(value) is not graph:
        raise EditError(
            f"{what}: it is in {draft.scope(draft.graph_of_value(value))!r}, expected a tensor of the main graph; "
            "make it an output of its body with surgeon"
        )
    kind = draft.types.of(value)
    if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        raise EditError(
            f"{what}: got {text(kind)}, expected a tensor of known dtype and rank, as outputs must have; add another"
        )
    draft.types.state(value, kind)
    draft.set_ports(graph, "outputs", [*graph.outputs, value])


@dataclass(frozen=True)
class RemoveOutput(Edit):
    """Remove an output of the model; the nodes that made it stay (see ``clean_up``)."""

    method: ClassVar[str] = "remove_output"
    output: str

    def change(self, draft: Draft) -> None:
        value, graph = draft.port("outputs", self.output), draft.model.graph
        left: list[Any] = [item for item in graph.outputs if item is not value]
        if not left:
            raise EditError(
                f"cannot remove output {self.output!r}: it is the only one; add another output first"
            )
        draft.set_ports(graph, "outputs", left)
