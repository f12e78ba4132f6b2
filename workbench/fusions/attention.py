"""Scaled dot-product attention: softmax(s Q K^T + mask) V.

The scale may be a product or a quotient after the first MatMul, lie on Q and K (as torch.export writes it), or be
missing; the mask is added, chooses (Where, with one number for what it hides), or is missing; the softmax may be
guarded against rows without any score (NaN becomes 0); the scores may be capped, c tanh(scores / c).
Becomes ONNX's Attention (operator set 23; for Q, K, V of 4 dims, an added mask and no guard; K as the Transpose of what
was multiplied, the mask spread along the rows where it is not known to have them), else the function
``workbench::ScaledDotProductAttention`` of Q, K^T, V and the mask.

Refuses: a softmax along another axis than the last, a scale that is not one number, and inner tensors that others read
(scores that are an output).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from .activation import OneNode, scalar
from .match import Match, Refusal, attribute
from .pattern import Pattern
from .rewrite import node, replace, weight


def _probabilities(op: Any, q: Any, k: Any, mask: Any, scale: Any, q_scale: Any, k_scale: Any) -> Any:
    left = op.Mul(q, q_scale, _optional=True, _or=("Div",), _name="scaled_q")
    right = op.Mul(k, k_scale, _optional=True, _or=("Div",), _name="scaled_k")
    scores = op.Mul(
        op.MatMul(left, right, _name="scores"), scale, _optional=True, _or=("Div",), _name="scaled"
    )
    return op.Softmax(op.Add(scores, mask, _optional=True, _name="masked"), _name="softmax")


def attention(op: Any, q: Any, k: Any, v: Any, mask: Any, scale: Any, q_scale: Any, k_scale: Any) -> Any:
    return op.MatMul(_probabilities(op, q, k, mask, scale, q_scale, k_scale), v, _name="values")


def capped(op: Any, q: Any, k: Any, v: Any, mask: Any, scale: Any, down: Any, up: Any) -> Any:
    scores = op.Mul(op.MatMul(q, k, _name="scores"), scale, _optional=True, _or=("Div",), _name="scaled")
    cap = op.Mul(op.Tanh(op.Div(scores, down, _or=("Mul",), _name="down")), up, _name="cap")
    return op.MatMul(op.Softmax(op.Add(cap, mask, _optional=True), _name="softmax"), v, _name="values")


def guarded(op: Any, q: Any, k: Any, v: Any, mask: Any, scale: Any, q_scale: Any, k_scale: Any) -> Any:
    p = _probabilities(op, q, k, mask, scale, q_scale, k_scale)
    return op.MatMul(op.Where(op.IsNaN(p), 0.0, p, _name="guard"), v, _name="values")


def chosen(op: Any, q: Any, k: Any, v: Any, allowed: Any, fill: Any, scale: Any) -> Any:
    scores = op.Mul(op.MatMul(q, k, _name="scores"), scale, _optional=True, _or=("Div",), _name="scaled")
    return op.MatMul(
        op.Softmax(op.Where(allowed, scores, fill, _name="choice"), _name="softmax"), v, _name="values"
    )


def forbidden(op: Any, q: Any, k: Any, v: Any, blocked: Any, fill: Any, scale: Any) -> Any:
    scores = op.Mul(op.MatMul(q, k, _name="scores"), scale, _optional=True, _or=("Div",), _name="scaled")
    return op.MatMul(
        op.Softmax(op.Where(blocked, fill, scores, _name="choice"), _name="softmax"), v, _name="values"
    )


SCALES = ("scale", "q_scale", "k_scale")


class Attention(OneNode):
    """See the module."""

    name: ClassVar[str] = "attention"
    op_type: ClassVar[str] = "Attention"
    since: ClassVar[int] = 23
    function: ClassVar[str] = "ScaledDotProductAttention"
    patterns: ClassVar = (
        Pattern(attention, SCALES),
        Pattern(guarded, SCALES),
        Pattern(capped, ("scale", "down", "up")),
        Pattern(chosen, ("scale", "fill")),
        Pattern(forbidden, ("scale", "fill")),
    )

    def admit(self, match: Match) -> None:
        self._scale(match)
        if "cap" in match.named:
            self._cap(match)
        softmax = match.named["softmax"]
        axis, shape = attribute(softmax, "axis", match.draft), match.shape(softmax.outputs[0])
        if axis != -1 and (shape is None or axis != len(shape) - 1):
            raise Refusal(f"its axis is {axis}, expected the last", softmax)

    def _cap(self, match: Match) -> None:
        down, up = scalar(match, "down"), scalar(match, "up")
        assert down is not None and up is not None
        before = down if match.named["down"].op_type == "Div" else 1.0 / down
        if not math.isclose(before, up, rel_tol=1e-3):
            raise Refusal(
                f"it divides by {before:g} before the Tanh and multiplies by {up:g} after it",
                match.named["cap"],
            )

    def _scale(self, match: Match) -> float:
        product = 1.0
        for name, holder in (("scale", "scaled"), ("q_scale", "scaled_q"), ("k_scale", "scaled_k")):
            if holder in match.named:
                number = scalar(match, name)
                assert number is not None
                product *= number if match.named[holder].op_type == "Mul" else 1.0 / number
        return product

    def standard(self, match: Match) -> tuple[Sequence[ir.Value | None], Mapping[str, Any]] | None:
        shapes = [match.shape(match.values[name]) for name in ("q", "k", "v")]
        if {"guard", "choice"} & set(match.named) or any(
            shape is None or len(shape) != 4 for shape in shapes
        ):
            return None
        mask = match.values.get("mask")
        held = match.shape(mask) if mask is not None else ()
        if held is None or len(held) not in (0, 2, 3, 4) or (mask is not None and not held):
            return None
        cap = {"softcap": scalar(match, "up")} if "cap" in match.named else {}
        return [], {"scale": self._scale(match), **cap}

    def inputs(self, match: Match) -> list[ir.Value]:
        names = ("q", "k", "v", "mask", "allowed", "blocked")
        return [match.values[name] for name in names if name in match.values]

    def rewrite(self, match: Match) -> list[ir.Node]:
        form = self.standard(match) if match.opset >= self.since else None
        if form is None:
            return super().rewrite(match)
        base = match.anchor.name or ""
        turned = node(
            match.draft,
            match.graph,
            "Transpose",
            [match.values["k"]],
            {"perm": [0, 1, 3, 2]},
            name=f"{base}_key",
        )
        inputs = [match.values["q"], turned.outputs[0], match.values["v"]]
        spread = self._spread(match)
        if "mask" in match.values:
            inputs.append(spread[-1].outputs[0] if spread else match.values["mask"])
        new = node(match.draft, match.graph, "Attention", inputs, form[1], name=f"{base}_Attention")
        outputs = {match.anchor.outputs[0]: new.outputs[0]}
        replace(match.draft, self.name, match.nodes, [turned, *spread, new], outputs, match.anchor)
        return [turned, *spread, new]

    def _spread(self, match: Match) -> list[ir.Node]:
        """Nodes that give the mask a row for each of Q's: ONNX Runtime 1.31 does not spread it along them."""
        mask, q = match.values.get("mask"), match.shape(match.values["q"])
        held = match.shape(mask) if mask is not None else None
        if held is None or q is None or (held[-2] is not None and held[-2] == q[2]):
            return []
        base, draft, graph = match.anchor.name or "", match.draft, match.graph
        rows = node(draft, graph, "Shape", [match.values["q"]], {"start": 2, "end": 3}, name=f"{base}_rows")
        ones = [weight(match, f"{base}_{side}", np.ones(count, np.int64)) for side, count in
                (("before", len(held) - 2), ("after", 1)) if count]  # fmt: skip
        parts = [*ones[:-1], rows.outputs[0], ones[-1]]
        shape = node(draft, graph, "Concat", parts, {"axis": 0}, name=f"{base}_mask_shape")
        expand = node(draft, graph, "Expand", [mask, shape.outputs[0]], name=f"{base}_mask")
        return [rows, shape, expand]
