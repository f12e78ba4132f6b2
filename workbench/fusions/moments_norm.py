"""LayerNormalization from moments: (x - mean) (1 / sqrt(var + epsilon) scale) + shift, var = E[x^2] - mean^2.

Flax writes it so. A moment is a ReduceMean, or a ReduceSum times 1 / n; the variance may be bounded by 0; the moments
may have lost their dims and got them back, and be spread (see `statistics`); scale and shift may have 1s in front.
TensorFlow writes x i + (shift - mean i), i = 1 / sqrt(var + epsilon) scale, var = E[(x - mean)^2], as for batches, and
Keras 3 the same with -mean i + shift.
Becomes ONNX's LayerNormalization (operator set 17), which takes the mean of (x - mean)^2: equal within rounding, and
nearer to the true value where the mean is large beside the deviation. Below that it becomes the function
``workbench::MomentsLayerNorm``, which is what was there.

Refuses what `layer_norm` refuses, and a factor other than 1 / n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import onnx_ir as ir

from .activation import scalar
from .layer_norm import SQUARES, LayerNorm, fits_axes
from .match import Match, Refusal, constant
from .pattern import Pattern
from .rewrite import reshaped
from .statistics import as_large, last_axes, spread

SHAPES = ("shape", "size", "other_shape", "other_size")


def _mean(op: Any, x: Any, factor: Any, name: str) -> Any:
    return op.ReduceMean(x, _name=name)


def _sum(op: Any, x: Any, factor: Any, name: str) -> Any:
    return op.Mul(op.ReduceSum(x, _name=name), factor)


def _pattern(moment: Callable[..., Any]) -> Pattern:
    def norm(
        op: Any, x: Any, epsilon: Any, scale: Any, shift: Any, factor: Any, shape: Any, size: Any,
        other_shape: Any, other_size: Any,
    ) -> Any:  # fmt: skip
        mean = moment(op, x, factor, "mean")
        var = op.Sub(moment(op, op.Mul(x, x), factor, "var"), op.Mul(mean, mean))
        var = spread(op, op.Max(var, 0.0, _optional=True), "var", shape, size)
        inverse = op.Reciprocal(op.Sqrt(op.Add(var, epsilon)))
        centred = op.Sub(x, spread(op, mean, "mean", other_shape, other_size))
        return op.Add(op.Mul(centred, op.Mul(inverse, scale)), shift)

    norm.__name__ = f"moments_norm{moment.__name__}"
    return Pattern(norm, ("epsilon", "factor"))


def _less(op: Any, shift: Any, mean: Any, inverse: Any) -> Any:
    return op.Sub(shift, op.Mul(mean, inverse))


def _plus(op: Any, shift: Any, mean: Any, inverse: Any) -> Any:
    return op.Add(op.Mul(op.Neg(mean), inverse), shift)


def _affine(square: Callable[..., Any], rest: Callable[..., Any]) -> Pattern:
    def norm(op: Any, x: Any, epsilon: Any, scale: Any, shift: Any) -> Any:
        mean = op.ReduceMean(x, _name="mean")
        var = op.ReduceMean(square(op, op.Sub(x, mean)), _name="var")
        inverse = op.Mul(op.Reciprocal(op.Sqrt(op.Add(var, epsilon))), scale)
        return op.Add(op.Mul(x, inverse), rest(op, shift, mean, inverse))

    norm.__name__ = f"moments_norm{square.__name__}{rest.__name__}"
    return Pattern(norm, ("epsilon",))


class MomentsNorm(LayerNorm):
    """See the module."""

    name: ClassVar[str] = "moments_norm"
    function: ClassVar[str] = "MomentsLayerNorm"
    patterns: ClassVar = (
        _pattern(_mean),
        _pattern(_sum),
        *(_affine(square, rest) for square in SQUARES for rest in (_less, _plus)),
    )

    def admit(self, match: Match) -> None:
        scalar(match, "epsilon")
        x, mean, var = match.values["x"], match.named["mean"], match.named["var"]
        count = last_axes(match, mean, x, "mean")
        if last_axes(match, var, x, "var") != count:
            raise Refusal(f"its axes differ from those of {mean.name!r}", var)
        fits_axes(match, "scale", count, ahead=True)
        fits_axes(match, "shift", count, ahead=True)
        factor = scalar(match, "factor")
        if factor is not None:
            dims = (match.shape(x) or ())[-count:]
            size = math.prod(dims) if dims and all(isinstance(dim, int) for dim in dims) else None
            if size is None or not math.isclose(factor * size, 1.0, rel_tol=1e-5):
                raise Refusal(f"the sum is multiplied by {factor:g}, expected 1 / n of the dims {dims}", mean)
        as_large(match, x)

    def standard(self, match: Match) -> Any:
        count = last_axes(match, match.named["mean"], match.values["x"], "mean")
        held = [
            (match.shape(match.values[name]), constant(match.values[name])) for name in ("scale", "shift")
        ]
        computed = any(len(shape or ()) != count and array is None for shape, array in held)
        return None if computed else self.norm(match, count)

    def inputs(self, match: Match) -> list[ir.Value]:
        shapes = [match.values[name] for name in SHAPES if name in match.values]
        return [*super().inputs(match), *dict.fromkeys(shapes)]

    def rewrite(self, match: Match) -> list[ir.Node]:
        if match.opset >= self.since:  # whose scale and shift have the normalised dims alone
            count = last_axes(match, match.named["mean"], match.values["x"], "mean")
            for name in ("scale", "shift"):
                array = constant(match.values[name])
                if array is not None and array.ndim > count:
                    reshaped(match, self.name, name, array.shape[-count:])
        return super().rewrite(match)
