"""RMSNormalization: x / sqrt(mean(x^2) + epsilon), times a scale, over the last axes.

Square and division are found in the same forms as those of `layer_norm`. Becomes ONNX's RMSNormalization (operator set
23, needs a scale), else the function ``workbench::RMSNorm``. Refuses what `layer_norm` refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .activation import scalar
from .layer_norm import QUOTIENTS, SQUARES, LayerNorm, fits_axes
from .match import Match
from .pattern import Pattern
from .statistics import last_axes


def _pattern(square: Callable[..., Any], quotient: Callable[..., Any], scaled: bool) -> Pattern:
    def core(op: Any, x: Any, epsilon: Any) -> Any:
        return quotient(op, x, op.Add(op.ReduceMean(square(op, x), _name="mean"), epsilon))

    def times(op: Any, x: Any, epsilon: Any, scale: Any) -> Any:
        return op.Mul(core(op, x, epsilon), scale)

    made = times if scaled else core
    made.__name__ = f"rms_norm{square.__name__}{quotient.__name__}_{int(scaled)}"
    return Pattern(made, ("epsilon",))


class RMSNorm(LayerNorm):
    """See the module."""

    name: ClassVar[str] = "rms_norm"
    op_type: ClassVar[str] = "RMSNormalization"
    since: ClassVar[int] = 23
    function: ClassVar[str] = "RMSNorm"
    patterns: ClassVar = tuple(
        _pattern(square, quotient, scaled)
        for scaled in (True, False)
        for square in SQUARES
        for quotient in QUOTIENTS
    )

    def admit(self, match: Match) -> None:
        scalar(match, "epsilon")
        fits_axes(match, "scale", last_axes(match, match.named["mean"], match.values["x"]))
