"""Rules that make one node of a chain: ONNX's operator where the operator set has it, else a function of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from .match import Match, Refusal
from .rewrite import fuse_into, outline
from .rule import PatternRule


class OneNode(PatternRule):
    """A pattern that becomes one node.

    Class attributes:
        op_type, since: the operator of ONNX and the operator set that has it first; '' for none.
        function: name of the function of domain ``workbench`` whose body the matched nodes become otherwise.
    """

    op_type: ClassVar[str] = ""
    since: ClassVar[int] = 0
    function: ClassVar[str]

    def standard(self, match: Match) -> tuple[Sequence[ir.Value | None], Mapping[str, Any]] | None:
        """Inputs and attributes of ONNX's operator; None where this match has no such form."""
        return [match.values["x"]], {}

    def inputs(self, match: Match) -> list[ir.Value]:
        """Inputs of the function."""
        return [match.values["x"]]

    def outputs(self, match: Match) -> list[ir.Value]:
        """Outputs of the function; the first is the anchor's."""
        return [match.anchor.outputs[0]]

    def function_for(self, match: Match) -> str:
        """Name of the function."""
        return self.function

    def check(self, match: Match, functions: bool) -> None:
        self.admit(match)
        if functions or (self.op_type and match.opset >= self.since and self.standard(match) is not None):
            return
        if not self.op_type:
            raise Refusal("ONNX has no operator for it, and functions are not wanted")
        raise Refusal(
            f"operator set {match.opset} has no {self.op_type} for it ({self.since} has), and functions are not "
            "wanted; convert_opset first"
        )

    def admit(self, match: Match) -> None:
        """Refuse what only looks like it, by raising Refusal."""

    def rewrite(self, match: Match) -> list[ir.Node]:
        if self.op_type and match.opset >= self.since:
            form = self.standard(match)
            if form is not None:
                return fuse_into(match, self.name, self.op_type, *form)
        return outline(
            match.draft,
            self.name,
            self.function_for(match),
            match.nodes,
            self.inputs(match),
            self.outputs(match),
            match.anchor,
        )


def scalar(match: Match, name: str) -> float | None:
    """A constant of one element by its variable, None where the variable is not bound; Refusal where it is larger."""
    from .match import constant

    value = match.values.get(name)
    if value is None:
        return None
    array = constant(value)
    if array is None or array.size != 1:
        shown = "no constant" if array is None else f"an array {array.shape}"
        raise Refusal(f"{name} ({value.name!r}) is {shown}, expected one number")
    return float(array.ravel()[0])
