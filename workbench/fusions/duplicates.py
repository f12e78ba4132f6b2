"""Duplicate-subexpression removal: two nodes that compute the same of the same are one.

Same operator, same attributes, and inputs that are the same tensors or equal small constants. The earlier node stays.
Refuses operators that draw random numbers, outputs of the graph, which need a node of their own, and operators of other
domains than ONNX's and our own, of which nothing says that they always give the same. Nodes with bodies are left alone.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from .. import segments
from ..edits.draft import Draft
from ..model.scopes import bodies
from .match import Refusal, constant, is_constant
from .rewrite import DOMAIN, INLINE, tidy
from .rule import NodeRule, Site

RANDOM = frozenset((*segments.RANDOM, "Dropout"))


class DuplicateRemoval(NodeRule):
    """See the module."""

    name: ClassVar[str] = "duplicates"
    together: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    def test(self, draft: Draft, node: ir.Node) -> Any:
        other = self._twin(draft, node)
        if other is None:
            return None
        if node.domain not in ("", "ai.onnx", "ai.onnx.ml", DOMAIN):
            raise Refusal(f"nothing says that {node.domain}::{node.op_type} gives the same twice")
        if node.op_type in RANDOM:
            raise Refusal(f"{node.op_type} draws other numbers than {other.name!r}")
        for value in node.outputs:
            if value.is_graph_output():
                raise Refusal(f"it makes the output {value.name!r} of the graph")
        return other

    def _twin(self, draft: Draft, node: ir.Node) -> ir.Node | None:
        moving = [value for value in node.inputs if value is not None and not is_constant(value)]
        if not moving or any(bodies(node)):
            return None
        graph = draft.graph_of(node)
        seen = [user for user, _ in moving[0].uses() if user is not node and _same(user, node)]
        seen = [user for user in dict.fromkeys(seen) if draft.graph_of(user) is graph]
        if not seen:
            return None
        order = draft.order(graph)
        first = min(seen, key=order.__getitem__)
        return first if order[first] < order[node] else None

    def find(self, draft: Draft, node: ir.Node, functions: bool = True) -> Any:
        found = super().find(draft, node, functions)
        if isinstance(found, Site):
            found.nodes = [found.match, node]
        return found

    def apply(self, draft: Draft, site: Site) -> list[ir.Node]:
        node, other = site.anchor, site.match
        for value, instead in zip(node.outputs, other.outputs, strict=True):
            draft.redirect(value, instead)
        before = list(node.inputs)
        draft.remove(draft.graph_of(node), [node])
        tidy(draft, before)
        return [other]


def _same(one: ir.Node, two: ir.Node) -> bool:
    if (one.op_type, one.domain, one.overload) != (two.op_type, two.domain, two.overload):
        return False
    if len(one.inputs) != len(two.inputs) or len(one.outputs) != len(two.outputs):
        return False
    if any(bool(a.name) != bool(b.name) for a, b in zip(one.outputs, two.outputs, strict=True)):
        return False
    if set(one.attributes) != set(two.attributes) or any(bodies(one)):
        return False
    if not all(_equal_attributes(one.attributes[name], two.attributes[name]) for name in one.attributes):
        return False
    return all(equal_inputs(a, b) for a, b in zip(one.inputs, two.inputs, strict=True))


def _equal_attributes(one: ir.Attr, two: ir.Attr) -> bool:
    if one.type != two.type or one.is_ref() or two.is_ref():
        return False
    if one.type == ir.AttributeType.TENSOR:
        return _equal_arrays(one.value.numpy(), two.value.numpy())
    return bool(one.value == two.value)


def equal_inputs(one: ir.Value | None, two: ir.Value | None) -> bool:
    if one is two:
        return True
    if not (is_constant(one) and is_constant(two)):
        return False
    sizes = [_size(value) for value in (one, two)]
    if sizes[0] != sizes[1] or sizes[0] > INLINE:
        return False
    first, second = constant(one), constant(two)
    return first is not None and second is not None and _equal_arrays(first, second)


def _size(value: ir.Value | None) -> int:
    assert value is not None
    return int(value.const_value.size) if value.const_value is not None else 0


def _equal_arrays(one: np.ndarray, two: np.ndarray) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
