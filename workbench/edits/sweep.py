"""The nodes that an edit touched, and what follows from them until nothing changes any more, inferred in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model.facts import UNKNOWN, Fact, of_type
from ..model.inferred import Inferred, infer_bodies
from ..model.info import from_type
from ..model.nodewise import RESULTS, Result, Signature, infer, of_constant, signature, world_of, write_node
from ..model.scopes import bodies
from .infer import inmost, misfit, text
from .schema import check_inputs, schema_of
from .tensortypes import has_rank, refined, same, sized, without_shape

if TYPE_CHECKING:
    from .draft import Draft

MANY = 64  # changed tensors from which on it is cheaper to look at what every node reads than to find the readers


class Sweep:
    """One pass over the main graph.

    Args:
        draft: the graph, after the steps of an edit.
        inferred: what is known of it; changed in place.

    Attributes:
        olds: what was known of the tensors of which something else is known now.
    """

    def __init__(self, draft: Draft, inferred: Inferred):
        self.draft, self.facts, self.signatures, self.odd = (
            draft,
            inferred.facts,
            inferred.signatures,
            inferred.odd,
        )
        self.world = world_of(draft.model)
        self.olds: dict[ir.Value, Fact] = {}
        self._before = draft.types.before
        self._changed = {value for value, old in self._before.items() if self.facts[value] is not old}
        self._ends = set(draft.model.graph.outputs)
        self._dirty: set[ir.Node] = set()
        self._signed: dict[ir.Node, Signature] = {}  # as they were, of the touched nodes
        self._order = draft.order(draft.model.graph)
        self._queue: list[int] = []  # numbers of what is marked, the first on top

    def run(self) -> None:
        """Infer what has to be; EditError when a node does not fit any more, and then nothing is known anew."""
        draft = self.draft
        touched = [node for node in draft.touched if node.name in draft.nodes]
        if any(draft.is_function(draft.graph_of(node)) for node in touched):
            touched += [node for node in draft.nodes.values() if _called(node) in draft.model.functions]
        self._sign(touched)
        for node in touched:
            self._mark(node)
            for value in (*node.inputs, *node.outputs):
                if value is not None and value not in self.facts:
                    self.facts[value] = draft.types.fact(value)
        for value in self._changed:
            self._push(value)
        try:
            last = self._few()
            if self._dirty:
                self._many(self._order.following(last))
        except BaseException:
            self.facts.update(self.olds)
            raise

    def _few(self) -> int:
        """Infer the nodes that are marked, in order, until there are none, or many; the number of the last one."""
        dirty, queue, last = self._dirty, self._queue, -sys.maxsize
        most = 0 if any(value.is_graph_input() for value in self._changed) else MANY  # nearly all reads that
        while dirty and queue and len(self._changed) <= most:
            number = heappop(queue)
            if number <= last:  # marked twice
                continue
            last, node = number, self._order.at(number)
            dirty.discard(node)
            known = len(self.olds)
            self._infer(node)
            for value in list(self.olds)[known:]:
                self._push(value)
            dirty.discard(node)  # which changes in its bodies mark again
        return last

    def _many(self, nodes: Iterable[ir.Node]) -> None:
        """Infer all nodes that are marked or read what has changed."""
        self._dirty.update(maker for value in self._ends if (maker := value.producer()) is not None)
        for holder, _ in self.draft.owners.values():
            self._mark(holder)
        dirty, unchanged, add = self._dirty, self._changed.isdisjoint, self._changed.add
        signatures, facts, olds = self.signatures, self.facts, self.olds
        known: Callable[[ir.Value | None], Fact | None] = facts.get  # type: ignore[assignment]  # None: left out
        remembered, signed = RESULTS.get, signatures.get
        for node in nodes:  # this runs for every node where an input gets another shape
            if node in dirty:
                self._infer(node)
                continue
            inputs = node.inputs
            if unchanged(inputs):
                continue
            at = signed(node)
            if at is None or not at.known:
                self._infer(node)
                continue
            if len(inputs) == 2:  # which most have, and is quicker than the same for any number
                one, two = inputs
                key: tuple[Any, ...] = (at, known(one), known(two))
            else:
                key = (at, *map(known, inputs))
            result = remembered(key) or infer(*key)
            if not result.fits:
                self._check_fit(node, at, result)
            for value, fact in zip(node.outputs, result.outputs):  # noqa: B905 - as many as the signature says
                old = facts[value]
                if old is not fact:
                    olds[value], facts[value] = old, fact
                    add(value)

    def _sign(self, nodes: Iterable[ir.Node]) -> None:
        """Give nodes the signature that they have now."""
        held, main = self.signatures, self.draft.model.graph
        self._signed = olds = {node: held[node] for node in nodes if node in held}
        asked = (node for node in nodes if node.graph is main and _plain(node) and of_constant(node) is None)
        news = {node: signature(node, self.world) for node in asked}

        def swap(out: Iterable[ir.Node], into: dict[ir.Node, Signature]) -> None:
            for node in out:
                del held[node]
            held.update(into)

        if olds or news:
            self.draft.do(lambda: swap(olds, news), lambda: swap(news, olds))

    def _mark(self, node: ir.Node) -> None:
        """Let a node, or the one of the main graph that holds it, be inferred."""
        graph = self.draft.graph_of(node)
        while graph in self.draft.owners:
            node = self.draft.owners[graph][0]
            graph = self.draft.graph_of(node)
        if graph is self.draft.model.graph:
            self._dirty.add(node)
            heappush(self._queue, self._order[node])

    def _push(self, value: ir.Value) -> None:
        """Let what reads a tensor be inferred."""
        for user, _ in value.uses():
            self._mark(user)

    def _change(self, value: ir.Value, fact: Fact, *, kept: bool) -> None:
        """Note what is inferred now for a tensor. ``kept``: its node and what that reads are as they were, so that what
        was known holds where nothing is known now."""
        old = self.facts[value]
        if kept:
            fact = _merged(old, fact)
        if value in self._ends:
            fact = self.draft.types.of_port(value, fact)
        if fact is not old:
            self.olds[value], self.facts[value] = old, fact
            self._changed.add(value)

    # -- nodes ------------------------------------------------------------------------------------------------

    def _infer(self, node: ir.Node) -> None:
        at, constant = self.signatures.get(node), of_constant(node)
        if constant is not None:
            self._change(node.outputs[0], constant, kept=False)
        elif not _plain(node):
            self._infer_bodies(node)
        else:
            if at is None:
                at = self.signatures[node] = signature(node, self.world)
            if not at.known:
                for value, fact in self._unknown(node):
                    self._change(value, fact, kept=False)
                return
            result = infer(at, *[value and self.facts[value] for value in node.inputs])
            self._check_fit(node, at, result)
            kept = self._kept(node)
            for value, fact in zip(node.outputs, result.outputs, strict=True):
                self._change(value, fact, kept=kept)

    def _kept(self, node: ir.Node) -> bool:
        """Whether a node is what it was, and what it reads too (a new one: whether anything was stated of it)."""
        draft = self.draft
        if node in draft.new:
            return True
        was = draft.touched.get(node, ())
        if not was:
            same = self._changed.isdisjoint(node.inputs)
            return same and (was is not None or self._makes_the_same(node))
        facts, olds, before = self.facts, self.olds, self._before

        def past(value: ir.Value | None) -> Fact | None:
            return None if value is None else before.get(value) or olds.get(value) or facts.get(value)

        return [*map(past, was)] == [None if value is None else facts.get(value) for value in node.inputs]

    def _makes_the_same(self, node: ir.Node) -> bool:
        """Whether a node whose attributes changed makes the same types as before, whatever sizes its inputs have."""
        old, now = self._signed.get(node), self.signatures.get(node)
        if old is None or now is None or not (old.known and now.known):
            return False
        facts = [None if value is None else self.facts[value] for value in node.inputs]
        inputs = [fact and of_type(fact.kind and sized(fact.kind), fact.data) for fact in facts]
        results = [infer(at, *inputs) for at in (old, now)]
        kinds = [[fact.kind for fact in result.outputs] for result in results]
        known = all(kind and has_rank(kind) and same(kind, sized(kind)) for kind in kinds[0])
        return known and not any(result.error for result in results) and all(map(same, *kinds))

    def _check_fit(self, node: ir.Node, at: Signature, result: Result) -> None:
        """Refuse a node that does not fit what it reads, unless it did not when the model was read either."""
        if not result.fits:
            self._check(node, at.schema)
            result.fits = result.error is None
        if result.error is not None and node not in self.odd:
            raise misfit(node, self._types(node), result.error)

    def _types(self, node: ir.Node) -> list[onnx.TypeProto | None]:
        return [self.facts[value].kind if value is not None else None for value in node.inputs]

    def _check(self, node: ir.Node, schema: onnx.defs.OpSchema | None) -> None:
        if schema is not None:
            check_inputs(schema, node, self._types(node))

    def _unknown(self, node: ir.Node) -> Iterator[tuple[ir.Value, Fact]]:
        """What an operator without a schema makes: what it made, as long as what it reads has the same dtypes."""
        if node in self.draft.touched:
            yield from ((value, UNKNOWN) for value in node.outputs)
            return
        read = [value for value in node.inputs if value is not None and value in self._changed]
        for value in read:
            before = (self._before.get(value) or self.olds[value]).kind
            now = self.facts[value].kind
            if before is not None and (now is None or from_type(before)[0] != from_type(now)[0]):
                raise EditError(
                    f"node {node.name!r} ({node.domain}::{node.op_type}) would read {text(now)} as {value.name!r}, "
                    f"expected {text(before)}: no schema says what it makes of that; insert a Cast back before it"
                )
        for value in node.outputs if read else ():
            kind = self.facts[value].kind
            if kind is not None and kind.HasField("tensor_type"):
                yield value, of_type(without_shape(kind))

    # -- bodies -----------------------------------------------------------------------------------------------

    def _infer_bodies(self, node: ir.Node) -> None:
        """Infer a node and what it holds, of which only what follows from a change may become something else."""
        hit = self._hit(node)
        affected = {value for item in hit for value in item.outputs}
        written = write_node(node)
        result, inner = infer_bodies(node, written, self.world, self.facts, affected=affected)
        lost = {
            v for v in affected if v.is_graph_output() and v.shape is not None and not has_rank(inner[v].kind)
        }
        if lost:  # outputs keep the rank that is stated of them, and what reads them sees it
            result, inner = infer_bodies(node, written, self.world, self.facts, affected=affected - lost)
        for item in hit:
            schema = schema_of(item, self.draft)
            self._check(item, schema)
            if schema is None and _called(item) not in self.draft.model.functions:
                made = dict(self._unknown(item))
            else:
                made = {value: inner[value] for value in item.outputs}
            kept = self._kept(item) and _plain(item)
            for value, fact in made.items():
                self._change(value, self.draft.types.of_port(value, fact), kept=kept)
        schema = schema_of(node, self.draft)
        self._check(node, schema)
        if result.error is not None and node not in self.odd:
            name, reason = inmost(result.error)
            culprit = self.draft.nodes.get(name or "", node)
            raise misfit(culprit, self._types(culprit), reason)
        kept = not hit and self._kept(node)
        for value, fact in zip(node.outputs, result.outputs, strict=True):
            self._change(value, fact, kept=kept)

    def _hit(self, node: ir.Node) -> list[ir.Node]:
        """The nodes in bodies that are touched or read what changes, in the order in which they run."""
        found: list[ir.Node] = []
        values = set(self._changed)

        def walk(item: ir.Node) -> bool:
            inside = [walk(inner) for _, graph in bodies(item) for inner in graph]
            here = any(inside) or item in self.draft.touched or not values.isdisjoint(item.inputs)
            if here and item is not node:
                found.append(item)
                values.update(item.outputs)
            return here

        walk(node)
        return found


def _called(node: ir.Node) -> ir.OperatorIdentifier:
    return node.domain, node.op_type, node.overload


def _plain(node: ir.Node) -> bool:
    """Whether a node is inferred by its signature."""
    return not (node.attributes.data and any(bodies(node)))


def _merged(old: Fact, new: Fact) -> Fact:
    """What is inferred, with what was known where it says nothing."""
    kind = new.kind
    if kind is not None and old.kind is not None:
        kind = refined(kind, old.kind)
    if same(old.kind, kind) and old.data == new.data:
        return old
    return new if kind is new.kind else of_type(kind, new.data)
