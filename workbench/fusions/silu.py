"""SiLU: x sigmoid(x), and with a factor, x sigmoid(a x) (QuickGELU has a = 1.702).

Becomes ONNX's Swish (operator set 24), else the function ``workbench::SiLU``. Refuses a factor that is no single
number, and a sigmoid that others read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from .activation import OneNode, scalar
from .match import Match
from .pattern import Pattern


def silu(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Sigmoid(x))


def scaled(op: Any, x: Any, alpha: Any) -> Any:
    return op.Mul(x, op.Sigmoid(op.Mul(x, alpha)))


class SiLU(OneNode):
    """See the module."""

    name: ClassVar[str] = "silu"
    op_type: ClassVar[str] = "Swish"
    since: ClassVar[int] = 24
    function: ClassVar[str] = "SiLU"
    patterns: ClassVar = (Pattern(silu), Pattern(scaled, ("alpha",)))

    def admit(self, match: Match) -> None:
        scalar(match, "alpha")

    def standard(self, match: Match) -> tuple[Sequence[ir.Value | None], Mapping[str, Any]]:
        alpha = scalar(match, "alpha")
        return [match.values["x"]], {} if alpha is None else {"alpha": alpha}
