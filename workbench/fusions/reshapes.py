"""Reshape removal: Reshape(x) = x where the shapes are the same; Reshape(Reshape(x), s) = Reshape(x, s).

The second holds because a reshape keeps the elements in their order, and -1 counts the same elements. It refuses a
target with a 0, which stands for a dim of what would be skipped. Same shape means: every dim the same number or the
same name.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from ..edits.draft import Draft
from ..model.info import from_type
from .match import Refusal, attribute, constant
from .rewrite import may_stand_in, stand_in, tidy
from .rule import NodeRule, Site
from .types import type_of

KEEP_ORDER = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class ReshapeRemoval(NodeRule):
    """See the module."""

    name: ClassVar[str] = "reshape"
    quiet: ClassVar[bool] = True
    together: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    op_types: ClassVar[tuple[str, ...]] = ("Reshape",)

    def test(self, draft: Draft, node: ir.Node) -> Any:
        value = node.inputs[0]
        assert value is not None
        one, two = (_shape(draft, item) for item in (value, node.outputs[0]))
        if one is not None and one == two and all(dim is not None for dim in one):
            may_stand_in(draft, node, value)
            return "remove", value
        maker = value.producer()
        if maker is None or maker.op_type not in KEEP_ORDER or maker.domain:
            raise Refusal(f"it changes the shape, {_text(one)} to {_text(two)}")
        if draft.graph_of(maker) is not draft.graph_of(node):
            raise Refusal(f"its input is made in another graph, by {maker.name!r}")
        target = constant(node.inputs[1])
        if target is None and not attribute(node, "allowzero", draft):
            raise Refusal("its target shape is not known: a 0 in it would be a dim of its input")
        if target is not None and np.any(target == 0) and not attribute(node, "allowzero", draft):
            raise Refusal("its target shape has a 0, which is a dim of its input")
        return "skip", maker.inputs[0]

    def apply(self, draft: Draft, site: Site) -> list[ir.Node]:
        what, value = site.match
        if what == "remove":
            stand_in(draft, site.anchor, value)
            return []
        before = site.anchor.inputs[0]
        draft.set_inputs(site.anchor, [value, *site.anchor.inputs[1:]])
        tidy(draft, [before])
        return [site.anchor]


def _shape(draft: Draft, value: ir.Value) -> tuple[Any, ...] | None:
    kind = type_of(draft, value)
    return None if kind is None else from_type(kind)[1]


def _text(shape: tuple[Any, ...] | None) -> str:
    return "an unknown one" if shape is None else "[" + ", ".join(str(dim or "?") for dim in shape) + "]"
