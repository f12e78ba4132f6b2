"""Skip connection + norm: norm(a + b), with the sum as a second output where others read it.

The norm is ONNX's LayerNormalization or RMSNormalization, or what `layer_norm` and `rms_norm` made. ONNX has no
operator for it: it becomes the function ``workbench::SkipLayerNorm`` or ``SkipRMSNorm``. One of the two may be the same
for the whole batch, as the position embeddings of a transformer are (1 for a dim before the last two; ONNX Runtime's
SkipLayerNormalization takes that too). Refuses a constant or a summand that is spread along the last two dims (a bias,
not a skip connection), and a norm whose statistics are used.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from .activation import OneNode
from .match import Match, Refusal, dims_differ, is_constant
from .pattern import Pattern
from .rewrite import DOMAIN

OURS = tuple(f"{kind}{number}" for kind in ("LayerNorm", "RMSNorm") for number in ("", "_2", "_3", "_4"))


def standard_norm(op: Any, a: Any, b: Any) -> Any:
    return op.LayerNormalization(op.Add(a, b, _name="sum"), _name="norm", _or=("RMSNormalization",))


def own_norm(op: Any, a: Any, b: Any) -> Any:
    return op.LayerNorm(op.Add(a, b, _name="sum"), _name="norm", _or=OURS[1:], _domain=DOMAIN)


class SkipNorm(OneNode):
    """See the module."""

    name: ClassVar[str] = "skip_norm"
    patterns: ClassVar = (Pattern(standard_norm), Pattern(own_norm))
    open: ClassVar[frozenset[str]] = frozenset(("sum",))

    def admit(self, match: Match) -> None:
        total, norm = match.named["sum"], match.named["norm"]
        for name in ("a", "b"):
            value = match.values[name]
            if is_constant(value):
                raise Refusal(f"it adds the constant {value.name!r}: a bias, not a skip connection", total)
        one, two = (match.shape(match.values[name]) for name in ("a", "b"))
        if one is None or two is None or len(one) != len(two) or any(map(dims_differ, one[-2:], two[-2:])):
            raise Refusal(f"it adds the shapes {one} and {two}, expected the same", total)
        batch = [pair for pair in zip(one[:-2], two[:-2], strict=True) if dims_differ(*pair)]
        if any(pair[0] != 1 for pair in batch) and any(pair[1] != 1 for pair in batch):
            raise Refusal(f"it adds the shapes {one} and {two}, which spreads both", total)
        for value in norm.outputs[1:]:
            if value.uses() or value.is_graph_output():
                raise Refusal(f"its statistics {value.name!r} are used", norm)

    def function_for(self, match: Match) -> str:
        return "SkipRMSNorm" if match.named["norm"].op_type.startswith("RMS") else "SkipLayerNorm"

    def inputs(self, match: Match) -> list[ir.Value]:
        norm = match.named["norm"]
        return [
            match.values["a"],
            match.values["b"],
            *(value for value in norm.inputs[1:] if value is not None),
        ]

    def outputs(self, match: Match) -> list[ir.Value]:
        total = match.named["sum"].outputs[0]
        others = [user for user, _ in total.uses() if user is not match.anchor]
        return [match.anchor.outputs[0], *([total] if others or total.is_graph_output() else [])]
