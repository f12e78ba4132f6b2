"""Scale or shift by a constant after a Conv, ConvTranspose, Gemm or MatMul: into its weights.

s (W x + b) + t = (s W) x + (s b + t), with s and t one number per output channel. Mul, Div, Add and Sub are taken one
at a time. An Add after a MatMul is left to `matmul_add`.

Refuses: a constant that does not broadcast along the channels alone, weights that are no constants, a Gemm with alpha
or beta, a convolution that others read too, weights that would not fit their dtype.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from .linear import LINEAR, Linear, fits, fold, per_channel, read
from .match import Match, Refusal, constant
from .pattern import Pattern
from .rule import PatternRule


def scale(op: Any, x: Any, w: Any, c: Any) -> Any:
    return op.Mul(op.Conv(x, w, _name="linear", _or=LINEAR[1:]), c, _or=("Div",))


def shift(op: Any, x: Any, w: Any, c: Any) -> Any:
    return op.Add(op.Conv(x, w, _name="linear", _or=LINEAR[1:3]), c, _or=("Sub",))


class ScaleShift(PatternRule):
    """See the module."""

    name: ClassVar[str] = "scale_shift"
    patterns: ClassVar = (Pattern(scale, ("c",)), Pattern(shift, ("c",)))

    def check(self, match: Match, functions: bool) -> None:
        linear, factor, bias = self._folded(match)
        held = constant(linear.node.inputs[1])
        assert held is not None
        fits(linear, held, None if factor is None else linear.scaled(factor), bias)

    def _folded(self, match: Match) -> tuple[Linear, np.ndarray | None, np.ndarray | None]:
        linear, kind = read(match, match.named["linear"]), match.anchor.op_type
        array = np.asarray(constant(match.values["c"]), np.float64)
        c = per_channel(linear, array, f"the constant {match.values['c'].name!r}")
        if kind in ("Mul", "Div"):
            if kind == "Div" and not c.all():
                raise Refusal("it divides by 0")
            factor = c if kind == "Mul" else 1.0 / c
            return linear, factor, None if linear.bias is None else linear.bias * factor
        return linear, None, (0.0 if linear.bias is None else linear.bias) + (c if kind == "Add" else -c)

    def rewrite(self, match: Match) -> list[ir.Node]:
        return fold(match, self.name, *self._folded(match))
