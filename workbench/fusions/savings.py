"""What fusions save: MACs, and bytes that no longer pass through memory.

The model is walked once, as it was; from then on only the nodes that fusions make are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from ..edits.draft import Draft
from ..model import Model, assume
from ..model.costs import UNKNOWN, NodeCost
from ..model.nodewise import write_node
from ..model.scopes import bodies
from ..model.walk import Walk
from .edit import Done
from .types import type_of


class Savings:
    """The costs of the nodes of a model while it is fused.

    Args:
        model: as it was.
        shapes: values for symbolic dims, as `Model.walk` takes them.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Any] | None):
        given, _ = assume.input_shapes(model.inputs, shapes or {})
        self.walk = Walk(model._skeleton, given)

    def of(self, draft: Draft, done: Done) -> tuple[int | None, int | None]:
        """(MACs, bytes) that a fusion saves, None where a shape is not known; what it made is counted from then on."""
        before = _sum([self.walk.nodes.get(name, UNKNOWN) for name in done.before])
        made = [draft.nodes[name] for name in done.after if name in draft.nodes]
        after = _sum([self._cost(draft, node, before) for node in made])
        return _minus(before.macs, after.macs), _minus(before.bytes, after.bytes)

    def _cost(self, draft: Draft, node: ir.Node, before: NodeCost) -> NodeCost:
        """Of a call the MACs are those of its body, which is what was there before; its bytes are what it reads and
        makes, as of one kernel."""
        path = draft.scope(draft.graph_of(node))
        if (node.domain, node.op_type, node.overload) in draft.model.functions:
            values = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
            infos = [self.walk.known(path, value.name or "") for value in values]
            sizes = [info.bytes if info is not None else None for info in infos]
            cost = NodeCost(before.macs, None if None in sizes else sum(size or 0 for size in sizes))
            self.walk.nodes[node.name or ""] = cost
            return cost
        if any(bodies(node)):
            return self.walk.nodes.get(node.name or "", UNKNOWN)
        weights = {
            value.name or "": kind
            for value in node.inputs
            if value is not None
            and self.walk.known(path, value.name or "") is None
            and (kind := type_of(draft, value)) is not None
        }
        return self.walk.further(path, write_node(node), weights)


def _sum(costs: list[NodeCost]) -> NodeCost:
    return sum(costs, NodeCost(0, 0))


def _minus(old: int | None, new: int | None) -> int | None:
    return None if old is None or new is None else old - new
