"""Transpose removal: Transpose(x, identity) = x; Transpose(Transpose(x, p), q) = Transpose(x, p[q]).

With p[q] the identity both vanish. The first Transpose stays where others read it. Refuses a lone Transpose that moves
something.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from ..edits.draft import Draft
from .match import Refusal
from .rewrite import may_stand_in, stand_in, tidy
from .rule import NodeRule, Site


class TransposeRemoval(NodeRule):
    """See the module."""

    name: ClassVar[str] = "transpose"
    quiet: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    op_types: ClassVar[tuple[str, ...]] = ("Transpose",)

    def test(self, draft: Draft, node: ir.Node) -> Any:
        value, perm = node.inputs[0], _perm(node)
        assert value is not None
        if perm is None:
            raise Refusal("it has no perm: it turns all dims round")
        if perm == sorted(perm):
            may_stand_in(draft, node, value)
            return value, None
        maker = value.producer()
        if maker is None or maker.op_type != "Transpose" or maker.domain:
            raise Refusal(f"it permutes by {perm}, and no Transpose comes before it")
        first = _perm(maker)
        if first is None:
            raise Refusal("it has no perm: it turns all dims round", maker)
        if draft.graph_of(maker) is not draft.graph_of(node):
            raise Refusal("it is in another graph", maker)
        source, both = maker.inputs[0], [first[index] for index in perm]
        assert source is not None
        if both == sorted(both):
            may_stand_in(draft, node, source)
            return source, None
        return source, both

    def find(self, draft: Draft, node: ir.Node, functions: bool = True) -> Any:
        found = super().find(draft, node, functions)
        if isinstance(found, Site):
            maker = node.inputs[0].producer() if node.inputs[0] is not None else None
            if maker is not None and maker.op_type == "Transpose":
                found.nodes = [maker, node]
        return found

    def apply(self, draft: Draft, site: Site) -> list[ir.Node]:
        (source, perm), node = site.match, site.anchor
        if perm is None:
            stand_in(draft, node, source)
            return []
        before = node.inputs[0]
        draft.set_inputs(node, [source])
        draft.set_attribute(node, "perm", ir.AttrInt64s("perm", perm))
        tidy(draft, [before])
        return [node]


def _perm(node: ir.Node) -> list[int] | None:
    found = node.attributes.get("perm")
    return None if found is None or found.is_ref() else [int(item) for item in found.value]
