"""SwiGLU: gate sigmoid(gate) up, the gated activation of Llama's feed-forward part.

The SiLU may be written out or be ONNX's Swish. It becomes the function ``workbench::SwiGLU`` of gate and up: ONNX has
no operator for it. Refuses a constant factor (a scale, no gate) and a SiLU that others read.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from .activation import OneNode
from .match import Match, Refusal, is_constant
from .pattern import Pattern


def written_out(op: Any, gate: Any, up: Any) -> Any:
    return op.Mul(op.Mul(gate, op.Sigmoid(gate)), up)


def swish(op: Any, gate: Any, up: Any) -> Any:
    return op.Mul(op.Swish(gate), up)


class SwiGLU(OneNode):
    """See the module."""

    name: ClassVar[str] = "swiglu"
    function: ClassVar[str] = "SwiGLU"
    patterns: ClassVar = (Pattern(written_out), Pattern(swish))

    def admit(self, match: Match) -> None:
        if is_constant(match.values["up"]):
            raise Refusal(f"it multiplies by the constant {match.values['up'].name!r}: a scale, not a gate")

    def inputs(self, match: Match) -> list[ir.Value]:
        return [match.values["gate"], match.values["up"]]
