"""The edit that a fusion is: a rule, and where it is applied. Replaying it finds the same sites again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from ..edits.base import Edit, names
from ..edits.draft import Draft
from ..errors import EditError
from .match import Refusal
from .rewrite import DOMAIN
from .rule import Rule, Site
from .types import forget


@dataclass(frozen=True)
class FuseAt(Edit):
    """Apply one rule of ``wb.fusions.RULES`` at given nodes; ``Model.fuse`` makes these.

    Args:
        rule: its name.
        nodes: the last node of each place; none: wherever the rule applies.
    """

    method: ClassVar[str] = "fuse_at"
    rule: str
    nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", names(self.nodes))
        object.__setattr__(self, "done", [])

    def change(self, draft: Draft) -> None:
        from .catalog import named

        done: list[Done] = self.done  # type: ignore[attr-defined]
        done.clear()
        rule = named(self.rule)
        forget(draft)
        for name in self.nodes:
            done.append(_apply(draft, rule, _site(draft, rule, draft.node(name))))
        if not self.nodes:
            done += sweep(draft, rule)
        allow_weights(draft)
        if not done:
            raise EditError(
                f"cannot fuse {self.rule!r}: it applies nowhere in this model; ask m.why_not for a node"
            )


def allow_weights(draft: Draft) -> None:
    """Before IR version 4 every weight had to be an input as well, which new ones are not: make it 4."""
    graph = draft.model.graph
    if draft.model.ir_version < 4 and any(
        not value.is_graph_input() for value in graph.initializers.values()
    ):
        draft.set(draft.model, "ir_version", 4)


@dataclass
class Done:
    """One application of a rule, by the names of nodes and tensors."""

    anchor: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    outputs: tuple[str, ...]


def fusible(draft: Draft) -> list[ir.Graph]:
    """The graphs in which rules look: the main one, bodies, and functions but those of our own domain, which stand for
    one node each."""
    own = {function.graph for key, function in draft.model.functions.items() if key[0] == DOMAIN}
    return [graph for graph in draft.values if draft.around(graph)[-1] not in own]


def sweep(draft: Draft, rule: Rule) -> list[Done]:
    """Apply a rule wherever it applies, in the order of the graph."""
    done = []
    kinds = rule.anchors()
    nodes = [node for graph in fusible(draft) for node in graph if not kinds or node.op_type in kinds]
    for site in rule.sites(draft, (node for node in nodes if node.graph is not None)):
        done.append(_apply(draft, rule, site))
    return done


def _site(draft: Draft, rule: Rule, node: ir.Node) -> Site:
    found = rule.find(draft, node)
    if isinstance(found, Site):
        return found
    reason = (
        f"node {found.node.name!r} ({found.node.op_type}): {found.reason}" if found else "it is no such node"
    )
    raise EditError(
        f"cannot fuse {rule.name!r} at node {node.name!r} ({node.op_type}): {reason}; ask m.why_not for more"
    )


def _apply(draft: Draft, rule: Rule, site: Site) -> Done:
    anchor = site.anchor.name or ""
    before = tuple(node.name or "" for node in site.nodes)
    try:
        new = rule.apply(draft, site)
    except Refusal as refusal:
        raise EditError(f"cannot fuse {rule.name!r} at node {anchor!r}: {refusal.reason}") from None
    after = tuple(dict.fromkeys(node.name or "" for node in new if node.graph is not None))
    outputs = tuple(draft.key(value) for node in new if node.graph is not None for value in node.outputs)
    return Done(anchor, before, after, outputs)
