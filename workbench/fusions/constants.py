"""Constant folding: y = f(c) with c known before any input comes is a weight.

Applies to every node whose inputs are all weights. Refuses random operators, quantisers (their form is what runtimes
look for), outputs of the graph, what would get larger than 16 MB, and what onnx's reference implementation lacks.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from ..edits.draft import Draft
from ..edits.tidy import FoldConstants
from .match import Refusal, is_constant
from .rewrite import tidy
from .rule import NodeRule, Site


class ConstantFolding(NodeRule):
    """See the module."""

    name: ClassVar[str] = "constant_folding"
    quiet: ClassVar[bool] = True
    together: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    def test(self, draft: Draft, node: ir.Node) -> Any:
        if node.op_type == "Constant":
            return None
        inputs = [value for value in node.inputs if value is not None]
        moving = [value for value in inputs if not is_constant(value)]
        if moving:
            raise Refusal(f"tensor {moving[0].name!r} is no constant")
        pairs = FoldConstants().compute(draft, draft.graph_of(node), node)
        if not pairs:
            raise Refusal(
                "it is random, a quantiser, an output of the graph, too large or not computable here"
            )
        return pairs

    def apply(self, draft: Draft, site: Site) -> list[ir.Node]:
        graph, node = draft.graph_of(site.anchor), site.anchor
        for output, array in site.match:
            name = output.name or ""
            draft.rename_value(output, draft.free(graph, f"{name}_folded"))
            value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
            value.type, value.shape = ir.TensorType(value.const_value.dtype), value.const_value.shape  # type: ignore
            draft.add_initializer(graph, value)
            draft.redirect(output, value)
        before = list(node.inputs)
        draft.remove(graph, [node])
        tidy(draft, before)
        return []
