"""Rotary embedding: x cos + rotate_half(x) sin, with rotate_half([a, b]) = [-b, a] along the last axis.

The halves may be Slices or a Split. It becomes the function ``workbench::RotaryHalf`` of x, cos and sin: ONNX's
RotaryEmbedding (operator set 23) takes caches of half the width, and that both halves of these are equal cannot be seen
in the graph of one layer.

Refuses halves that are not the first and second half of the last axis, and inner tensors that others read.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from .activation import OneNode
from .match import Match, Refusal, attribute, constant
from .pattern import Pattern


def sliced(op: Any, x: Any, cos: Any, sin: Any) -> Any:
    turned = op.Concat(op.Neg(op.Slice(x, _name="high")), op.Slice(x, _name="low"), _name="turned")
    return op.Add(op.Mul(x, cos), op.Mul(turned, sin))


def split(op: Any, x: Any, cos: Any, sin: Any) -> Any:
    low, high = op.Split(x, _outputs=2, _name="split")
    return op.Add(op.Mul(x, cos), op.Mul(op.Concat(op.Neg(high), low, _name="turned"), sin))


class Rotary(OneNode):
    """See the module."""

    name: ClassVar[str] = "rotary"
    function: ClassVar[str] = "RotaryHalf"
    patterns: ClassVar = (Pattern(sliced), Pattern(split))

    def admit(self, match: Match) -> None:
        x, turned = match.values["x"], match.named["turned"]
        shapes = [match.shape(match.values[name]) for name in ("x", "cos", "sin")]
        known = [shape for shape in shapes if shape]
        size = next((shape[-1] for shape in known if isinstance(shape[-1], int) and shape[-1] > 1), None)
        if size is None or size % 2:
            raise Refusal(f"the last dim of {x.name!r} is not known to be even: its shape is {shapes[0]}")
        last, half = (-1, max(map(len, known)) - 1), size // 2
        if attribute(turned, "axis", match.draft) not in last:
            raise Refusal(f"its axis is {attribute(turned, 'axis', match.draft)}, expected the last", turned)
        if "split" in match.named:
            item = match.named["split"]
            sizes = (
                constant(item.inputs[1]) if len(item.inputs) > 1 else attribute(item, "split", match.draft)
            )
            if attribute(item, "axis", match.draft) not in last:
                raise Refusal(f"its axis is {attribute(item, 'axis', match.draft)}, expected the last", item)
            if sizes is not None and list(sizes) != [half, half]:
                raise Refusal(f"its parts are {list(sizes)}, expected two halves of {2 * half}", item)
            return
        for name, wanted in (("low", (0, half)), ("high", (half, 2 * half))):
            self._slice(match, match.named[name], wanted, last, size)

    def _slice(self, match: Match, item: ir.Node, wanted: Any, last: Any, size: int) -> None:
        given = [constant(value) for value in item.inputs[1:]]
        if len(given) < 2 or any(array is None or array.size != 1 for array in given):
            raise Refusal("its bounds are no constants", item)
        numbers = [int(np.ravel(array)[0]) for array in given if array is not None]
        start, end = (number + size if number < 0 else min(number, size) for number in numbers[:2])
        axis = numbers[2] if len(numbers) > 2 else 0
        step = numbers[3] if len(numbers) > 3 else 1
        if axis not in last or step != 1 or (start, end) != wanted:
            raise Refusal(
                f"it takes [{start}:{end}:{step}] of axis {axis}, expected [{wanted[0]}:{wanted[1]}] of the last",
                item,
            )

    def inputs(self, match: Match) -> list[ir.Value]:
        return [match.values[name] for name in ("x", "cos", "sin")]
