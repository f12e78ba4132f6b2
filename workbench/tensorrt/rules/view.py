"""What a rule finds, and what it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from ...edits.base import Edit
from ...edits.weights import data
from ...errors import InputError
from ...inputs import feeds
from ...inputs.generate import inlined
from ...inputs.walk import Walk
from ...model import Model


@dataclass(frozen=True)
class Finding:
    """Something that TensorRT refuses or is slow with.

    Attributes:
        rule: which rule found it; ``parser`` for what only the parser itself knows.
        severity: ``error`` (no engine), ``warning`` (it computes something else), ``cost`` (it is slower or larger).
        node: name of the node, or of the input for rules on inputs.
        op_type: its operator; ``input`` for an input.
        reason: what is wrong.
        edit: what removes it and leaves what the model computes as it is, but for the rules in `ON_REQUEST`; None where
            no edit does.
        advice: why there is no edit, or what the edit changes, and what to do.
    """

    rule: str
    severity: str
    node: str
    op_type: str
    reason: str
    edit: Edit | None = None
    advice: str = ""

    def fix(self, model: Model) -> Model:
        """The model with this finding's edit applied. EditError where it has none or it does not apply."""
        from ...errors import EditError

        if self.edit is None:
            raise EditError(
                f"node {self.node!r} ({self.op_type}): no edit is known for {self.rule}: {self.reason}; {self.advice}"
            )
        return model.apply(self.edit)


class View:
    """What the rules look at."""

    def __init__(self, model: Model, inputs: Any = None, shapes: Mapping[str, Any] | None = None):
        self.model, self._inputs, self._shapes = model, inputs, shapes
        self.graph = model.ir.graph
        self.nodes = list(self.graph)

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """Tensor of the main graph -> dtype, where it is known."""
        table = self.model.tensors
        return {name: kind for name, kind in table.dtype.items() if isinstance(kind, str)}

    @cached_property
    def _feed(self) -> dict[str, np.ndarray]:
        try:
            return next(iter(feeds(self.model, self._inputs, shapes=self._shapes)))
        except InputError:
            return {}  # none can be made: nothing is known that follows from inputs

    @cached_property
    def _walk(self) -> Walk:
        shapes = {name: array.shape for name, array in self._feed.items()}
        small = {
            n: array for n, array in self._feed.items() if array.size <= 16 and array.dtype.kind in "iub"
        }
        return Walk(inlined(self.model.to_proto()), shapes, small)

    @property
    def example(self) -> str:
        """The inputs that conditions are judged for."""
        return ", ".join(
            f"{name}={array}"
            if array.size == 1 and array.dtype.kind in "iub"
            else f"{name} {list(array.shape)}"
            for name, array in self._feed.items()
        )

    @property
    def fixed(self) -> bool:
        """Whether all shapes of inputs are fixed, and none is a number that may decide something."""
        return all(
            info.shape and all(isinstance(dim, int) for dim in info.shape) and info.dtype.startswith("float")
            for info in self.model.inputs
        )

    def condition(self, node: ir.Node) -> bool | None:
        """The condition of an If, where it follows from the shapes and numbers of the inputs."""
        name = node.inputs[0].name if node.inputs[0] is not None else None
        value = self._walk.values.get(name or "")
        return None if value is None else bool(np.all(value))

    def dtype(self, value: ir.Value | None) -> str:
        """Dtype of a tensor, ``''`` where it is not known."""
        return self.dtypes.get(value.name or "", "") if value is not None else ""

    def constant(self, value: ir.Value | None) -> np.ndarray | None:
        """The data of a weight, None for other tensors."""
        if value is None or value.is_graph_input():
            return None
        maker = value.producer()
        if value.const_value is None and (maker is None or maker.op_type != "Constant" or maker.domain):
            return None
        array: np.ndarray = data(value).numpy()
        return array


def found(
    rule: str, severity: str, node: ir.Node, reason: str, edit: Edit | None = None, advice: str = ""
) -> Finding:
    """A finding about a node."""
    return Finding(rule, severity, node.name or "", node.op_type, reason, edit, advice)


def of_input(
    rule: str, severity: str, info: Any, reason: str, edit: Edit | None, advice: str = ""
) -> Finding:
    """A finding about an input of the model."""
    return Finding(rule, severity, info.name, "input", reason, edit, advice)
