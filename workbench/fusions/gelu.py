"""GELU: 0.5 x (1 + erf(x / sqrt(2))), or with 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) for erf.

Found with the factors in any order: 0.5 first, last or on the sum; division by sqrt(2) or a product; 0.044715 x^3 as a
power or as products in any order. Becomes ONNX's Gelu (operator set 20) with the approximation that was written, else
the function ``workbench::GeluErf`` or ``GeluTanh``. Refuses other constants, and inner tensors that others read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import onnx_ir as ir

from .activation import OneNode
from .match import Match
from .pattern import Pattern

ROOT, CUBIC = math.sqrt(2 / math.pi), 0.044715


def _erf(op: Any, x: Any) -> Any:
    return op.Erf(op.Div(x, math.sqrt(2)), _name="erf")


def _erf_product(op: Any, x: Any) -> Any:
    return op.Erf(op.Mul(x, math.sqrt(0.5)), _name="erf")


def _power(op: Any, x: Any) -> Any:
    return op.Mul(op.Pow(x, 3.0), CUBIC)


def _cube(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(op.Mul(x, x), x), CUBIC)


def _square(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(op.Mul(x, x), CUBIC), x)


def _one_by_one(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(op.Mul(x, CUBIC), x), x)


def _two_by_two(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(x, CUBIC), op.Mul(x, x))


CUBES = (_power, _cube, _square, _one_by_one, _two_by_two)


def _tanh(cubic: Callable[..., Any]) -> Callable[..., Any]:
    def tanh(op: Any, x: Any) -> Any:
        return op.Tanh(op.Mul(op.Add(x, cubic(op, x)), ROOT), _name="tanh")

    tanh.__name__ = f"_tanh{cubic.__name__}"
    return tanh


def _tanh_factored(op: Any, x: Any) -> Any:
    inner = op.Add(op.Mul(op.Mul(x, CUBIC), x), 1.0)
    return op.Tanh(op.Mul(op.Mul(x, ROOT), inner), _name="tanh")


def _tanh_factored_square(op: Any, x: Any) -> Any:
    inner = op.Add(op.Mul(op.Mul(x, x), CUBIC), 1.0)
    return op.Tanh(op.Mul(op.Mul(x, ROOT), inner), _name="tanh")


def _last(op: Any, x: Any, inner: Any) -> Any:
    return op.Mul(op.Mul(x, op.Add(inner, 1.0)), 0.5)


def _sum(op: Any, x: Any, inner: Any) -> Any:
    return op.Mul(x, op.Mul(op.Add(inner, 1.0), 0.5))


def _first(op: Any, x: Any, inner: Any) -> Any:
    return op.Mul(op.Mul(x, 0.5), op.Add(inner, 1.0))


def _pattern(outer: Callable[..., Any], inner: Callable[..., Any]) -> Pattern:
    def gelu(op: Any, x: Any) -> Any:
        return outer(op, x, inner(op, x))

    gelu.__name__ = f"gelu{inner.__name__}{outer.__name__}"
    return Pattern(gelu)


class Gelu(OneNode):
    """See the module."""

    name: ClassVar[str] = "gelu"
    op_type: ClassVar[str] = "Gelu"
    since: ClassVar[int] = 20
    patterns: ClassVar = tuple(
        _pattern(outer, inner)
        for inner in (_erf, _erf_product, *map(_tanh, CUBES), _tanh_factored, _tanh_factored_square)
        for outer in (_last, _sum, _first)
    )

    def function_for(self, match: Match) -> str:
        return "GeluTanh" if "tanh" in match.named else "GeluErf"

    def standard(self, match: Match) -> tuple[Sequence[ir.Value | None], Mapping[str, Any]]:
        return [match.values["x"]], {"approximate": "tanh" if "tanh" in match.named else "none"}
