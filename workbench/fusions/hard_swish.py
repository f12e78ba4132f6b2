"""HardSwish: x max(0, min(1, x / 6 + 1 / 2)).

Found as x HardSigmoid(x), and as x clip(x + 3, 0, 6) / 6 with the division in any place. Becomes ONNX's HardSwish
(operator set 14), else the function ``workbench::HSwish``. Refuses other slopes and bounds.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .activation import OneNode
from .pattern import Pattern


def hard_sigmoid(op: Any, x: Any) -> Any:
    return op.Mul(x, op.HardSigmoid(x, alpha=1 / 6, beta=0.5))


def clip_last(op: Any, x: Any) -> Any:
    return op.Div(op.Mul(x, op.Clip(op.Add(x, 3.0), 0.0, 6.0)), 6.0)


def clip_inner(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Div(op.Clip(op.Add(x, 3.0), 0.0, 6.0), 6.0))


def clip_product(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(x, op.Clip(op.Add(x, 3.0), 0.0, 6.0)), 1 / 6)


class HardSwish(OneNode):
    """See the module."""

    name: ClassVar[str] = "hard_swish"
    op_type: ClassVar[str] = "HardSwish"
    since: ClassVar[int] = 14
    function: ClassVar[str] = "HSwish"
    patterns: ClassVar = tuple(map(Pattern, (hard_sigmoid, clip_last, clip_inner, clip_product)))
