"""MatMul + Add: Gemm(A, B, C) = A B + C, for matrices A[M, K], B[K, N] and C that broadcasts to [M, N].

Refuses: a first input that has not 2 dims (Gemm takes no batch), dtypes that are not floats, a C of more than 2 dims or
whose size is not known to be 1 or N, and a MatMul that others read too.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from .match import Match, Refusal
from .pattern import Pattern
from .rewrite import fuse_into
from .rule import PatternRule


def matmul_add(op: Any, a: Any, b: Any, c: Any) -> Any:
    return op.Add(op.MatMul(a, b, _name="matmul"), c)


class MatMulAdd(PatternRule):
    """See the module."""

    name: ClassVar[str] = "matmul_add"
    patterns: ClassVar = (Pattern(matmul_add, ("c",)),)

    def check(self, match: Match, functions: bool) -> None:
        matmul = match.named["matmul"]
        for name, which in (("a", "first"), ("b", "second")):
            shape = match.shape(match.values[name])
            if shape is None or len(shape) != 2:
                rank = "unknown rank" if shape is None else f"{len(shape)} dims"
                raise Refusal(
                    f"its {which} input {match.values[name].name!r} has {rank}; Gemm takes 2", matmul
                )
        if match.dtype(match.values["a"]) not in ("float16", "bfloat16", "float32", "float64"):
            raise Refusal(f"it computes in {match.dtype(match.values['a'])!r}", matmul)
        shape, columns = match.shape(match.values["c"]), match.shape(match.values["b"])
        assert columns is not None
        if shape is None or len(shape) > 2 or (len(shape) == 2 and shape[0] != 1):
            raise Refusal(f"its constant {match.values['c'].name!r} has the shape {shape}, expected one row")
        if shape and shape[-1] != 1 and shape[-1] != columns[1]:
            raise Refusal(f"its constant has {shape[-1]} columns, the product {columns[1]}")

    def rewrite(self, match: Match) -> list[ir.Node]:
        return fuse_into(match, self.name, "Gemm", [match.values[name] for name in ("a", "b", "c")])
