"""Mish: x tanh(softplus(x)).

Found with Softplus and with log(1 + exp(x)). Becomes ONNX's Mish (operator set 18), else the function
``workbench::MishTanh``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .activation import OneNode
from .pattern import Pattern


def mish(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Tanh(op.Softplus(x)))


def written_out(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Tanh(op.Log(op.Add(op.Exp(x), 1.0))))


class Mish(OneNode):
    """See the module."""

    name: ClassVar[str] = "mish"
    op_type: ClassVar[str] = "Mish"
    since: ClassVar[int] = 18
    function: ClassVar[str] = "MishTanh"
    patterns: ClassVar = (Pattern(mish), Pattern(written_out))
