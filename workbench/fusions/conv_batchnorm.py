"""Conv + BatchNormalization (also ConvTranspose, depthwise and grouped): one convolution.

With f = scale / sqrt(var + epsilon) per output channel, f * (W x + b - mean) + B = (f W) x + (f (b - mean) + B).
Weights may lie in initializers or in Constant nodes; they are folded in float64.

Refuses: weights or statistics that are no constants, training mode, statistics that are outputs, a convolution that
others read too, weights that would not fit their dtype. A BatchNormalization that follows something else is left alone.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from .linear import Linear, fits, fold, read
from .match import Match, Refusal, attribute, constant, described
from .pattern import Pattern
from .rule import PatternRule


def conv_batchnorm(op: Any, x: Any, w: Any, scale: Any, shift: Any, mean: Any, var: Any) -> Any:
    return op.BatchNormalization(
        op.Conv(x, w, _name="conv", _or=("ConvTranspose",)), scale, shift, mean, var, _name="norm"
    )


class ConvBatchNorm(PatternRule):
    """See the module."""

    name: ClassVar[str] = "conv_batchnorm"
    patterns: ClassVar = (Pattern(conv_batchnorm),)

    def check(self, match: Match, functions: bool) -> None:
        norm = match.named["norm"]
        if attribute(norm, "training_mode", match.draft):
            raise Refusal("training_mode is 1", norm)
        if match.opset < 7 and not attribute(norm, "is_test", match.draft):
            raise Refusal("is_test is 0: it trains", norm)
        if match.opset < 9 and attribute(norm, "spatial", match.draft) == 0:
            raise Refusal("spatial is 0: it normalises every element by itself", norm)
        for value in norm.outputs[1:]:
            if value.uses() or value.is_graph_output():
                raise Refusal(f"its statistics {value.name!r} are used: it trains", norm)
        linear, factor, bias = self._folded(match)
        held = constant(match.named["conv"].inputs[1])
        assert held is not None
        fits(linear, held, linear.scaled(factor), bias)

    def _folded(self, match: Match) -> tuple[Linear, np.ndarray, np.ndarray]:
        linear = read(match, match.named["conv"])
        scale, shift, mean, var = (
            self._known(match, name).astype(np.float64) for name in ("scale", "shift", "mean", "var")
        )
        if scale.shape != (linear.channels,):
            raise Refusal(f"it has {scale.shape} factors, expected {linear.channels}", match.named["norm"])
        factor = scale / np.sqrt(var + attribute(match.named["norm"], "epsilon", match.draft))
        bias = 0.0 if linear.bias is None else linear.bias
        return linear, factor, factor * (bias - mean) + shift

    def _known(self, match: Match, name: str) -> np.ndarray:
        array = constant(match.values[name])
        if array is None:
            raise Refusal(f"{described(match.values[name])} ({name}) is no constant", match.named["norm"])
        return array

    def rewrite(self, match: Match) -> list[ir.Node]:
        return fold(match, self.name, *self._folded(match))
