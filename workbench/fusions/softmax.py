"""Softmax: exp(x - m) / sum(exp(x - m)), m = max(x), over one axis.

Maximum and sum may have lost their dims and got them back by a Reshape or an Unsqueeze, may be spread by an Expand, and
the maximum may be bounded by -inf (JAX writes all of that). Becomes ONNX's Softmax, which subtracts it too: equal
within float rounding. Refuses several axes or different ones, an axis other than the last below operator set 13,
and inner tensors that others read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from .activation import OneNode
from .match import Match, Refusal
from .pattern import Pattern
from .statistics import as_large, axes, last_axes, spread


def softmax(op: Any, x: Any, shape: Any, size: Any, other_shape: Any, other_size: Any) -> Any:
    top = op.Max(op.ReduceMax(x, _name="max"), -math.inf, _optional=True)
    raised = op.Exp(op.Sub(x, spread(op, top, "max", shape, size)))
    return op.Div(raised, spread(op, op.ReduceSum(raised, _name="sum"), "sum", other_shape, other_size))


class Softmax(OneNode):
    """See the module."""

    name: ClassVar[str] = "softmax"
    op_type: ClassVar[str] = "Softmax"
    since: ClassVar[int] = 1
    patterns: ClassVar = (Pattern(softmax),)

    def admit(self, match: Match) -> None:
        x, top, total = match.values["x"], match.named["max"], match.named["sum"]
        rank = len(match.shape(x) or ())
        one, two = ([axis % rank if rank else axis for axis in axes(match, node, name)] for node, name in
                    ((top, "max"), (total, "sum")))  # fmt: skip
        if len(one) != 1:
            raise Refusal(f"its axes are {one}, expected one", top)
        if one != two:
            raise Refusal(f"its axes differ from those of {top.name!r}", total)
        if match.opset < 13:
            last_axes(match, top, x, "max")
        as_large(match, x)

    def standard(self, match: Match) -> tuple[Sequence[ir.Value | None], Mapping[str, Any]]:
        (axis,) = axes(match, match.named["max"], "max")
        rank = len(match.shape(match.values["x"]) or ())
        return [match.values["x"]], {"axis": axis % rank if rank else axis}
