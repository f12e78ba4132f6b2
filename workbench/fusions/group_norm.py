"""GroupNormalization: groups of channels normalised, times a scale, plus a shift for each channel.

PyTorch's exporter writes it so below operator set 21: x as (batch, groups, the rest), an InstanceNormalization of that
whose own scale is 1 and shift 0, the shape of x again (computed or constant), Mul and Add. Becomes ONNX's
GroupNormalization (operator set 21), else the function ``workbench::GroupNorm``, which is what was there. Operator set
18 has an operator of that name too, with a scale for each group; it is not used.

Refuses: a scale or shift inside other than 1 and 0, a first Reshape that is no split of dim 1, one back to another
shape, a scale or shift that is not one number for each channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from .activation import OneNode
from .match import Match, Refusal, attribute, constant
from .pattern import Pattern
from .rewrite import reshaped

WEIGHTS = ("groups", "ones", "zeros", "scale", "shift")


def _norm(op: Any, x: Any, groups: Any, ones: Any, zeros: Any, scale: Any, shift: Any, shape: Any) -> Any:
    split = op.Reshape(x, groups, _name="split")
    normed = op.InstanceNormalization(split, ones, zeros, _name="norm")
    return op.Add(op.Mul(op.Reshape(normed, shape, _name="back"), scale), shift)


def group_norm(op: Any, x: Any, groups: Any, ones: Any, zeros: Any, scale: Any, shift: Any) -> Any:
    return _norm(op, x, groups, ones, zeros, scale, shift, op.Shape(x, _name="shape"))


def group_norm_sized(
    op: Any, x: Any, groups: Any, ones: Any, zeros: Any, scale: Any, shift: Any, shape: Any
) -> Any:
    return _norm(op, x, groups, ones, zeros, scale, shift, shape)


class GroupNorm(OneNode):
    """See the module."""

    name: ClassVar[str] = "group_norm"
    op_type: ClassVar[str] = "GroupNormalization"
    since: ClassVar[int] = 21
    function: ClassVar[str] = "GroupNorm"
    patterns: ClassVar = (Pattern(group_norm, WEIGHTS), Pattern(group_norm_sized, WEIGHTS))

    def admit(self, match: Match) -> None:
        dims = match.shape(match.values["x"])
        if dims is None or len(dims) < 3 or not isinstance(dims[1], int):
            raise Refusal(
                f"it splits the shape {dims}, expected (batch, channels, ...)", match.named["split"]
            )
        self._split(match, dims)
        self._back(match, dims)
        for name, inner, value in (("scale", "ones", 1), ("shift", "zeros", 0)):
            if (_held(match, inner) != value).any():
                raise Refusal(f"its own {name} is not {value}", match.named["norm"])
            shape = _held(match, name).shape
            if shape[-len(dims) + 1 :] != (dims[1], *[1] * (len(dims) - 2)) or math.prod(shape) != dims[1]:
                raise Refusal(
                    f"the {name} {match.values[name].name!r} has the shape {shape}, expected one for each of "
                    f"{dims[1]} channels"
                )

    def _split(self, match: Match, dims: Sequence[Any]) -> None:
        node, asked = match.named["split"], _held(match, "groups").tolist()
        size = math.prod(dims[1:]) if all(isinstance(dim, int) for dim in dims[1:]) else -1
        fits = len(asked) == 3 and asked[0] in (0, dims[0]) and asked[1] > 0 and dims[1] % asked[1] == 0
        if not fits or asked[2] not in (-1, size // asked[1]) or attribute(node, "allowzero", match.draft):
            raise Refusal(f"it makes {asked} of {tuple(dims)}, expected (batch, groups, the rest)", node)

    def _back(self, match: Match, dims: Sequence[Any]) -> None:
        node, shape = match.named["back"], match.values.get("shape")
        maker = match.named["shape"] if shape is None else shape.producer()  # which others may read too
        if maker is not None and maker.op_type == "Shape" and maker.inputs[0] is match.values["x"]:
            if attribute(maker, "start", match.draft) or attribute(maker, "end", match.draft) is not None:
                raise Refusal("it gives a part of the shape", maker)
            return
        if constant(shape) is None:
            raise Refusal(f"it makes a shape that is computed, expected {tuple(dims)}", node)
        asked = _held(match, "shape").tolist()
        same = all(a in (0, -1, b) for a, b in zip(asked, dims, strict=False))
        # a 0 would be the dim of what is split: the batch's is that of x
        if len(asked) != len(dims) or asked.count(-1) > 1 or 0 in asked[1:] or not same:
            raise Refusal(f"it makes {asked}, expected {tuple(dims)}", node)

    def standard(self, match: Match) -> tuple[Sequence[ir.Value | None], Mapping[str, Any]]:
        epsilon = attribute(match.named["norm"], "epsilon", match.draft)
        return self._own(match), {"num_groups": int(_held(match, "groups")[1]), "epsilon": epsilon}

    def inputs(self, match: Match) -> list[ir.Value]:
        shape = match.values.get("shape")
        computed = [] if shape is None or constant(shape) is not None else [shape]
        return [*self._own(match), *computed]

    def _own(self, match: Match) -> list[ir.Value]:
        return [match.values[name] for name in ("x", "scale", "shift")]

    def rewrite(self, match: Match) -> list[ir.Node]:
        if match.opset >= self.since:
            for name in ("scale", "shift"):
                reshaped(match, self.name, name, (-1,))
        return super().rewrite(match)


def _held(match: Match, name: str) -> np.ndarray:
    """The data of a variable that is a weight."""
    array = constant(match.values[name])
    assert array is not None
    return array
