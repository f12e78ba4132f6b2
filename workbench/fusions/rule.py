"""What a fusion rule is: where it applies, why it does not, what it makes.

A rule looks at one anchor node at a time (the last node of what it fuses) and answers with a `Site`, with a `Miss` (how
far it came and what broke it), or with None where the node does not even begin to look like it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from ..edits.base import Edit
from ..edits.draft import Draft
from ..model.scopes import bodies
from .match import Attempt, Match, Refusal, attempt
from .pattern import Operation, Pattern


@dataclass
class Site:
    """A place where a rule applies.

    Attributes:
        anchor: the node that it is found at.
        nodes: the nodes that it replaces, each after those that it reads.
        match: what `Rule.apply` works on.
    """

    anchor: ir.Node
    nodes: list[ir.Node]
    match: Any = None


@dataclass
class Miss:
    """A place where a rule does not apply, and why.

    Attributes:
        anchor: the node at which it was looked for.
        node: the node that broke it.
        reason: what is wrong with that node.
        matched, of: how many nodes of the pattern were found; equal where all were, and a check refused.
        nodes: those that were found.
        complete: whether the whole pattern was found, and a check refused it.
        telling: as of an `Attempt`.
        plain: whether only sums and products were found of a pattern that has more: they are everywhere.
    """

    anchor: ir.Node
    node: ir.Node
    reason: str
    matched: int
    of: int
    nodes: tuple[ir.Node, ...] = ()
    complete: bool = False
    telling: int = 1
    plain: bool = False

    @property
    def rank(self) -> tuple[bool, bool, float, int, int]:
        """How near it is: a refused match, then one with more than sums and products, then the largest share."""
        return self.complete, not self.plain, self.matched / self.of, self.telling, self.matched

    @property
    def near(self) -> bool:
        """Whether it looks enough like the pattern to be told without being asked."""
        enough = self.of > 2 and self.matched >= max(2, math.ceil(0.6 * self.of))
        return self.complete or (enough and not self.plain)


class Rule:
    """One fusion.

    Class attributes:
        name: of the rule, in reports, histories and `fuse(rules=...)`.
        together: whether all of its sites make one edit in the history: simplifications that come by the hundred.
        exact: whether the results are equal to the bit; else they are within float rounding.
    """

    name: ClassVar[str]
    together: ClassVar[bool] = False
    exact: ClassVar[bool] = False

    def anchors(self) -> frozenset[str]:
        """Operator types that it can be found at; empty for any."""
        raise NotImplementedError

    def find(self, draft: Draft, node: ir.Node, functions: bool = True) -> Site | Miss | None:
        """Look at one node.

        Args:
            functions: whether it may make a function of the model where ONNX has no operator at this operator set.
        """
        raise NotImplementedError

    def sites(self, draft: Draft, nodes: Iterable[ir.Node], functions: bool = True) -> Iterator[Site]:
        """``find`` at many nodes, without the reasons why not, which is quicker."""
        for node in nodes:
            found = self.find(draft, node, functions)
            if isinstance(found, Site):
                yield found

    def misses(self, draft: Draft, nodes: Iterable[ir.Node], functions: bool = True) -> Iterator[Miss]:
        """The near misses at many nodes."""
        for node in nodes:
            found = self.find(draft, node, functions)
            if isinstance(found, Miss) and found.near:
                yield found

    def closest(self, draft: Draft, node: ir.Node) -> Site | Miss | None:
        """The best that can be said about a node, whichever part of the pattern it could be."""
        return self.find(draft, node)

    def edit(self, sites: list[Site]) -> Edit:
        """The edit that applies the rule at some sites."""
        from .edit import FuseAt

        return FuseAt(self.name, tuple(site.anchor.name or "" for site in sites))

    def apply(self, draft: Draft, site: Site) -> list[ir.Node]:
        """Take the steps; the nodes that are new or stand for others now."""
        raise NotImplementedError

    @property
    def docs(self) -> str:
        """The algebra, when it applies and when it refuses: the text of its module."""
        import sys

        return (sys.modules[type(self).__module__].__doc__ or "").strip()


class NodeRule(Rule):
    """A rule about a single node: `test` says what to do with it, or refuses.

    Class attributes:
        op_types: the operators that it is about; none: all.
        quiet: its refusals are told only when asked for: most nodes of its kind do what they are there for.
    """

    op_types: ClassVar[tuple[str, ...]] = ()
    quiet: ClassVar[bool] = False

    def anchors(self) -> frozenset[str]:
        return frozenset(self.op_types)

    def test(self, draft: Draft, node: ir.Node) -> Any:
        """What `apply` needs; None where the rule is not concerned. Raises Refusal with the reason."""
        raise NotImplementedError

    def find(self, draft: Draft, node: ir.Node, functions: bool = True) -> Site | Miss | None:
        if self.op_types and (node.op_type not in self.op_types or node.domain not in ("", "ai.onnx")):
            return None
        try:
            found = self.test(draft, node)
        except Refusal as refusal:
            return Miss(node, refusal.node or node, refusal.reason, 1, 1, (node,), not self.quiet)
        return None if found is None else Site(node, [node], found)

    def closest(self, draft: Draft, node: ir.Node) -> Site | Miss | None:
        if self.op_types and node.op_type not in self.op_types:
            expected = " or ".join(self.op_types)
            return Miss(node, node, f"expected {expected}, got {node.op_type}", 0, 1)
        return self.find(draft, node)


class PatternRule(Rule):
    """A rule about a pattern.

    Class attributes:
        patterns: how exporters write it, tried in this order.
        open: names of operations in the patterns whose outputs may be read by others too; they stay available.
    """

    patterns: ClassVar[tuple[Pattern, ...]] = ()
    open: ClassVar[frozenset[str]] = frozenset()

    def anchors(self) -> frozenset[str]:
        return frozenset(op_type for item in self.patterns for op_type in item.roots[0].op_types)

    def check(self, match: Match, functions: bool) -> None:
        """Refuse a match by raising Refusal."""

    def rewrite(self, match: Match) -> list[ir.Node]:
        """Take the steps."""
        raise NotImplementedError

    def apply(self, draft: Draft, site: Site) -> list[ir.Node]:
        return self.rewrite(site.match)

    def find(self, draft: Draft, node: ir.Node, functions: bool = True) -> Site | Miss | None:
        return self._find(draft, node, functions, self.patterns)

    def _find(
        self, draft: Draft, node: ir.Node, functions: bool, patterns: Iterable[Pattern]
    ) -> Site | Miss | None:
        best: Miss | None = None
        for pattern in patterns:
            if node.op_type not in pattern.roots[0].op_types:
                continue
            found = self._judge(draft, attempt(draft, pattern, node), functions)
            if isinstance(found, Site):
                return found
            best = better(best, found)
        return best

    def sites(self, draft: Draft, nodes: Iterable[ir.Node], functions: bool = True) -> Iterator[Site]:
        kinds = {node.op_type for node in draft.nodes.values()}
        patterns = [pattern for pattern in self.patterns if pattern.may_be_among(kinds)]
        for node in nodes if patterns else ():
            for pattern in patterns:
                if pattern.may_end_at(node):
                    found = self._judge(draft, attempt(draft, pattern, node), functions)
                    if isinstance(found, Site):
                        yield found
                        break

    def misses(self, draft: Draft, nodes: Iterable[ir.Node], functions: bool = True) -> Iterator[Miss]:
        kinds = {node.op_type for node in draft.nodes.values()}
        patterns = [pattern for pattern in self.patterns if pattern.may_be_near(kinds)]
        for node in nodes if patterns else ():
            found = self._find(draft, node, functions, patterns)
            if isinstance(found, Miss) and found.near:
                yield found

    def _judge(self, draft: Draft, tried: Attempt, functions: bool = True) -> Site | Miss:
        of, match = tried.pattern.required, tried.match
        if match is None:
            at, telling = tried.node or tried.anchor, tried.pattern.telling
            plain = bool(telling) and telling.isdisjoint(node.op_type for node in tried.passed)
            return Miss(
                tried.anchor, at, tried.reason, tried.matched, of, tried.passed, False, tried.telling, plain
            )
        try:
            self._closed(match)
            self.check(match, functions)
        except Refusal as refusal:
            at = refusal.node or match.anchor
            return Miss(match.anchor, at, refusal.reason, of, of, tuple(match.nodes), True)
        return Site(match.anchor, match.nodes, match)

    def _closed(self, match: Match) -> None:
        """Refuse a match whose inner tensors are needed outside of it."""
        inside = set(match.nodes)
        graph = match.graph
        shared = {match.named[name] for name in self.open if name in match.named}
        ends = {match.anchor, *shared}
        for node in match.nodes:
            if match.draft.graph_of(node) is not graph:
                raise Refusal("it is in another graph than the node that reads it", node)
            if any(bodies(node)):
                raise Refusal("it has bodies", node)
            given = [item.name for item in node.attributes.values() if item.is_ref()]
            if given:
                raise Refusal(f"its attribute {given[0]!r} is given by each call of the function", node)
            if node in ends:
                continue
            for value in node.outputs:
                if value.is_graph_output():
                    raise Refusal(f"its output {value.name!r} is an output of the graph", node)
                readers = list(dict.fromkeys(user for user, _ in value.uses()))
                if any(reader not in inside for reader in readers):
                    names = ", ".join(repr(reader.name) for reader in readers[:4])
                    raise Refusal(f"{node.op_type} has {len(readers)} consumers: {names}", node)

    def closest(self, draft: Draft, node: ir.Node) -> Site | Miss | None:
        best: Miss | None = None
        aside: Miss | None = None
        for pattern in self.patterns:
            kinds = {op_type for item in pattern.operations for op_type in item.op_types}
            if node.op_type not in kinds:
                continue
            for anchor in _downstream(node, pattern.roots[0], len(pattern.operations)):
                tried = attempt(draft, pattern, anchor)
                found = self._judge(draft, tried)
                involved = {*(found.nodes or ()), *([found.node] if isinstance(found, Miss) else [])}
                if node not in involved:
                    if isinstance(found, Miss):
                        aside = better(aside, found)
                    continue
                if isinstance(found, Site):
                    return found
                best = better(best, found)
        best = best or aside
        if best is None:
            expected = " or ".join(sorted(self.anchors()))
            reason = f"no {expected} that ends this pattern reads {node.op_type}"
            best = Miss(node, node, reason, 0, min(item.required for item in self.patterns))
        return best


def better(one: Miss | None, two: Miss) -> Miss:
    """The miss that came nearer."""
    return two if one is None or two.rank > one.rank else one


def _downstream(node: ir.Node, root: Operation, depth: int) -> list[ir.Node]:
    """The nodes from here on, within a distance, that could be a pattern's last one."""
    seen, level, found = {node}, [node], []
    for _ in range(depth + 1):
        found += [item for item in level if item.op_type in root.op_types]
        following = [user for item in level for value in item.outputs for user, _ in value.uses()]
        level = [item for item in dict.fromkeys(following) if item not in seen]
        seen.update(level)
    return found
