"""LayerNormalization: (x - mean) / sqrt(var + epsilon), times a scale, plus a shift, over the last axes.

mean = ReduceMean(x), var = ReduceMean((x - mean)^2), over the same axes. The square may be a power or a product, the
division one by the root (or the power 0.5) or a product with its reciprocal (or the power -0.5); scale and shift may
be missing. Becomes ONNX's LayerNormalization (operator set 17, needs a scale), else the function
``workbench::LayerNorm``.

Refuses: axes that are not the last ones or differ between the two means, a rank that is not known, a scale or shift of
another shape than the normalised dims, and inner tensors that others read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from .activation import OneNode, scalar
from .match import Match, Refusal
from .pattern import Pattern
from .statistics import last_axes


def _power(op: Any, d: Any) -> Any:
    return op.Pow(d, 2.0)


def _product(op: Any, d: Any) -> Any:
    return op.Mul(d, d)


def _divided(op: Any, d: Any, var: Any) -> Any:
    return op.Div(d, op.Sqrt(var))


def _reciprocal(op: Any, d: Any, var: Any) -> Any:
    return op.Mul(d, op.Reciprocal(op.Sqrt(var)))


def _one_over(op: Any, d: Any, var: Any) -> Any:
    return op.Mul(d, op.Div(1.0, op.Sqrt(var)))


def _half_power(op: Any, d: Any, var: Any) -> Any:
    return op.Div(d, op.Pow(var, 0.5))


def _minus_half_power(op: Any, d: Any, var: Any) -> Any:
    return op.Mul(d, op.Pow(var, -0.5))


SQUARES = (_power, _product)
QUOTIENTS = (_divided, _reciprocal, _one_over, _half_power, _minus_half_power)


def _pattern(square: Callable[..., Any], quotient: Callable[..., Any], parts: int) -> Pattern:
    def core(op: Any, x: Any, epsilon: Any) -> Any:
        centred = op.Sub(x, op.ReduceMean(x, _name="mean"))
        return quotient(op, centred, op.Add(op.ReduceMean(square(op, centred), _name="var"), epsilon))

    def both(op: Any, x: Any, epsilon: Any, scale: Any, shift: Any) -> Any:
        return op.Add(op.Mul(core(op, x, epsilon), scale), shift)

    def scaled(op: Any, x: Any, epsilon: Any, scale: Any) -> Any:
        return op.Mul(core(op, x, epsilon), scale)

    made = (core, scaled, both)[parts]
    made.__name__ = f"layer_norm{square.__name__}{quotient.__name__}_{parts}"
    return Pattern(made, ("epsilon",))


def fits_axes(match: Match, name: str, count: int, *, ahead: bool = False) -> None:
    """Refuse a scale or shift that is not of the shape of the normalised dims; ``ahead``: behind any number of 1s."""
    value, x = match.values.get(name), match.shape(match.values["x"])
    if value is None:
        return
    shape = match.shape(value)
    while ahead and shape is not None and count < len(shape) <= len(x or ()) and shape[0] == 1:
        shape = shape[1:]
    if shape is None or len(shape) != count:
        raise Refusal(f"the {name} {value.name!r} has the shape {shape}, expected {count} dim(s)")
    if x is not None and tuple(x[-count:]) != tuple(shape) and None not in x[-count:]:
        raise Refusal(f"the {name} {value.name!r} has the shape {shape}, expected {tuple(x[-count:])}")


class LayerNorm(OneNode):
    """See the module."""

    name: ClassVar[str] = "layer_norm"
    op_type: ClassVar[str] = "LayerNormalization"
    since: ClassVar[int] = 17
    function: ClassVar[str] = "LayerNorm"
    patterns: ClassVar = tuple(
        _pattern(square, quotient, parts)
        for parts in (2, 1, 0)
        for square in SQUARES
        for quotient in QUOTIENTS
    )

    def admit(self, match: Match) -> None:
        scalar(match, "epsilon")
        mean, var = match.named["mean"], match.named["var"]
        count = last_axes(match, mean, match.values["x"])
        if last_axes(match, var, match.values["x"]) != count:
            raise Refusal(f"its axes differ from those of {mean.name!r}", var)
        fits_axes(match, "scale", count)
        fits_axes(match, "shift", count)

    def standard(self, match: Match) -> tuple[Sequence[ir.Value | None], Mapping[str, Any]] | None:
        if "scale" not in match.values:
            return None
        return self.norm(match, last_axes(match, match.named["mean"], match.values["x"]))

    def norm(self, match: Match, count: int) -> tuple[Sequence[ir.Value | None], Mapping[str, Any]]:
        """ONNX's operator over the last ``count`` axes."""
        names = [name for name in ("x", "scale", "shift") if name in match.values]
        return [match.values[name] for name in names], {
            "axis": -count,
            "epsilon": float(np.float32(scalar(match, "epsilon"))),
        }

    def inputs(self, match: Match) -> list[ir.Value]:
        return [match.values[name] for name in ("x", "scale", "shift") if name in match.values]
