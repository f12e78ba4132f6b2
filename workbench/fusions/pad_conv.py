"""Pad + Conv: Conv(Pad(x, p), pads=q) = Conv(x, pads=p + q), for a constant 0 around the spatial dims.

Refuses: another value or mode, amounts that are no constants, negative ones, padding of batch or channels, auto_pad,
and a Pad that others read too.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from .match import Match, Refusal, attribute, constant
from .pattern import Pattern
from .rewrite import fuse_into
from .rule import PatternRule


def pad_conv(op: Any, x: Any, w: Any) -> Any:
    return op.Conv(op.Pad(x, _name="pad"), w, _name="conv")


class PadConv(PatternRule):
    """See the module."""

    name: ClassVar[str] = "pad_conv"
    patterns: ClassVar = (Pattern(pad_conv),)

    def check(self, match: Match, functions: bool) -> None:
        self._pads(match)

    def _pads(self, match: Match) -> list[int]:
        pad, conv, draft = match.named["pad"], match.named["conv"], match.draft
        mode = attribute(pad, "mode", draft) or "constant"
        if mode != "constant":
            raise Refusal(f"its mode is {mode!r}", pad)
        if (attribute(conv, "auto_pad", draft) or "NOTSET") not in ("NOTSET", "VALID"):
            raise Refusal(f"auto_pad is {attribute(conv, 'auto_pad', draft)!r}", conv)
        given = [constant(value) if value is not None else None for value in pad.inputs[1:]]
        if len(pad.inputs) > 3 and pad.inputs[3] is not None:
            raise Refusal("it names axes", pad)
        amounts = attribute(pad, "pads", draft) if not given else given[0]
        if amounts is None:
            raise Refusal("its amounts are no constants", pad)
        value = attribute(pad, "value", draft) if not given else 0.0
        if len(pad.inputs) > 2 and pad.inputs[2] is not None:
            if given[1] is None:
                raise Refusal("its value is no constant", pad)
            value = float(given[1].ravel()[0])
        if value:
            raise Refusal(f"it pads with {value:g}, expected 0", pad)
        flat = [int(item) for item in amounts]
        rank = len(flat) // 2
        before, after = flat[:rank], flat[rank:]
        if any(item < 0 for item in flat):
            raise Refusal(f"its amounts {flat} are negative: it crops", pad)
        if any((*before[:2], *after[:2])):
            raise Refusal("it pads batch or channels", pad)
        old = attribute(conv, "pads", draft) or [0] * (2 * (rank - 2))
        return [a + b for a, b in zip(old, before[2:] + after[2:], strict=True)]

    def rewrite(self, match: Match) -> list[ir.Node]:
        conv = match.named["conv"]
        attributes = dict(conv.attributes) | {"pads": self._pads(match), "auto_pad": "NOTSET"}
        return fuse_into(match, self.name, "Conv", [match.values["x"], *conv.inputs[1:]], attributes)
