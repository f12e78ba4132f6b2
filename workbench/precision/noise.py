"""Where the error of the outputs comes from, from one comparison: a ledger of noise, and a ranking of nodes by it.

A tensor is rounded between the node that makes it and each node that reads it, unless both are kept in float32. So
what can be removed is the noise of an *edge*, and it takes up to two nodes to remove it.

A comparison of a model with its simulation gives, for every tensor, the propagated noise and the local noise (what
its node makes of rounded inputs and weights by itself). From the outputs backwards, each tensor's share of the
outputs' noise energy is split: the local part is charged to the edges and weights of its node, the rest goes to the
inputs by the noise that they carry. Noise of different roundings is taken as uncorrelated, so that energies add up.
That is an estimate; the search measures what it suggests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from ..segments import Graph, Node
from ..segments import bodies as bodies_of
from .operators import largest

_SUMS = {
    "Add",
    "Sub",
    "Sum",
    "Mean",
    "Concat",
    "Where",
    "Max",
    "Min",
}  # absolute noise adds up; else relative noise
_SMALL = 1024
HUGE = 1e12
"""Share of an edge on which finite numbers become infinite."""


@dataclass(frozen=True)
class Edge:
    """What rounds, and what must stay in float32 so that it does not.

    Attributes:
        nodes: these, all of them.
        share: of the noise energy of the outputs, an estimate.
    """

    nodes: frozenset[str]
    share: float


@dataclass
class Ledger:
    """The graph of a model as the noise flows in it.

    Attributes:
        graph: of the model in float32.
        kinds: node -> its kind (``roles``), of the main graph and of bodies.
    """

    graph: Graph
    kinds: Mapping[str, str]
    low: str
    _exact: dict[str, bool] = field(default_factory=dict)

    def keepable(self, node: Node) -> bool:
        """Whether a node, or something in its bodies, could be computed in the low type."""
        return self.kinds.get(node.name) == "computes" or any(
            self.kinds.get(inner.name) == "computes" for inner in _inside(node.proto)
        )

    def units(self) -> list[str]:
        """Names of the keepable nodes of the main graph, in order."""
        return [node.name for node in self.graph.order if self.keepable(node)]

    def inner(self) -> dict[str, list[str]]:
        """Node with bodies -> the nodes in them that could be computed in the low type, if there are any."""
        found = {node.name: [i.name for i in _inside(node.proto) if self.kinds.get(i.name) == "computes"]
                 for node in self.graph.order}  # fmt: skip
        return {name: inner for name, inner in found.items() if inner}

    def edges(self, records: Iterable[Mapping[str, Any]], keep: frozenset[str]) -> list[Edge]:
        """The edges that round while ``keep`` is kept, and their shares, from the records of a comparison."""
        rows = {record["tensor"]: record for record in records if record["status"] == "compared"}
        weight = self._at_outputs(rows)
        found: dict[frozenset[str], float] = {}
        for node in reversed(self.graph.order):
            charged = 0.0
            for name in node.outputs:
                share, row = weight.get(name, 0.0), rows.get(name)
                if row is None:
                    continue
                if _broke(row):
                    self._charge(node, rows, keep, HUGE, found, broken=True)
                if share <= 0.0:
                    continue
                own = _own(row)
                passed = self._pass_on(node, share * (1 - own), rows, weight)
                charged += share - passed
            if charged > 0.0:
                self._charge(node, rows, keep, charged, found)
        return [Edge(nodes, share) for nodes, share in found.items()]

    def _at_outputs(self, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """Share of each output in the noise energy, relative to what it carries."""
        noise = {name: _relative(rows[name]) for name in self.graph.outputs if name in rows}
        total = sum(noise.values())
        return {name: value / total for name, value in noise.items()} if total else {}

    def _pass_on(self, node: Node, share: float, rows: Mapping, weight: dict[str, float]) -> float:
        """Give a share to the tensors that a node reads, by the noise that they carry; how much was given."""
        measure = _absolute if node.op_type in _SUMS else _relative
        noise = {name: measure(rows[name]) for name in node.inputs if name in rows}
        total = sum(noise.values())
        if not total or share <= 0.0:
            return 0.0
        for name, value in noise.items():
            weight[name] = weight.get(name, 0.0) + share * value / total
        return share

    def _charge(
        self,
        node: Node,
        rows: Mapping,
        keep: frozenset[str],
        share: float,
        found: dict[frozenset[str], float],
        *,
        broken: bool = False,
    ) -> None:
        """Charge a share to the edges into a node, and where it makes an output, to that."""
        sources = self._sources(node, rows, broken)
        if broken and not sources:  # nothing beyond the range: perhaps a division by what became 0
            sources = self._sources(node, rows, False)
        active = {nodes: size for nodes, size in sources.items() if nodes and not nodes <= keep}
        total = sum(active.values())
        for nodes, size in active.items():
            part = share if broken else share * (size / total if total else 1 / len(active))
            found[nodes] = found.get(nodes, 0.0) + part

    def _sources(self, node: Node, rows: Mapping, broken: bool) -> dict[frozenset[str], float]:
        """What must be kept -> how much is rounded there, for all that a node reads (and for an output, makes)."""
        found: dict[frozenset[str], float] = {}
        readers = [node] if self.kinds.get(node.name) != "moves" else self._readers(node)
        square = node.op_type in _SUMS
        limit = largest(self.low)

        def add(nodes: set[str], name: str) -> None:
            size = _size(rows[name]) if name in rows else 0.0
            if broken and size < limit:
                return
            amount = size * size if square and size else 1.0
            key = frozenset(nodes)
            found[key] = found.get(key, 0.0) + amount

        for reader in readers:
            own = {reader.name} if self.keepable(reader) else set()
            for name in node.inputs:
                if not self._is_float(name, rows):
                    continue
                if self.graph.is_weight(name):
                    if reader is node and not broken and not self._is_exact(name):
                        add(own, name)
                    continue
                for maker in self._makers(name, rows):
                    add(own | ({maker.name} if maker is not None and self.keepable(maker) else set()), name)
        for name in node.outputs:
            if name in self.graph.outputs and self.keepable(node):
                add({node.name}, name)
        return found

    def _makers(self, name: str, rows: Mapping) -> set[Node | None]:
        """The nodes that compute what a tensor holds, through nodes that only move it; None for an input."""
        found: set[Node | None] = set()
        stack, seen = [name], set()
        while stack:
            maker = self.graph.producer.get(stack.pop())
            if maker is None or self.kinds.get(maker.name) != "moves":
                found.add(maker)
            elif maker.index not in seen:
                seen.add(maker.index)
                stack += [n for n in maker.inputs if not self.graph.is_weight(n) and self._is_float(n, rows)]
        return found

    def _is_float(self, name: str, rows: Mapping) -> bool:
        """Whether a tensor may be float32, as far as it is known: it is not rounded otherwise."""
        if name in rows:
            return bool(rows[name]["dtype"] == "float32")
        return self.graph.dtypes.get(name, "float32") == "float32"

    def _readers(self, node: Node) -> list[Node]:
        """The nodes that compute with what a node makes, through nodes that only move it."""
        found, stack, seen = {}, [node], {node.index}
        while stack:
            for name in stack.pop().outputs:
                for reader in self.graph.consumers.get(name, ()):
                    if self.kinds.get(reader.name) != "moves":
                        found[reader.index] = reader
                    elif reader.index not in seen:
                        seen.add(reader.index)
                        stack.append(reader)
        return list(found.values())

    def _is_exact(self, name: str) -> bool:
        """Whether a small weight is no other number when it is rounded."""
        if name not in self._exact:
            self._exact[name] = self._rounds_to_itself(name)
        return self._exact[name]

    def _rounds_to_itself(self, name: str) -> bool:
        from .weights import saturated

        stored = self.graph.weights.get(name)
        if stored is None:
            attribute = self.graph.constants[name].attribute[0]
            if attribute.type != onnx.AttributeProto.TENSOR:
                stored = onnx.numpy_helper.from_array(np.array(onnx.helper.get_attribute_value(attribute)))
            else:
                stored = attribute.t
        if (
            not isinstance(stored, onnx.TensorProto)
            or math.prod(stored.dims) > _SMALL
            or stored.external_data
        ):
            return False
        array = onnx.numpy_helper.to_array(stored)
        return array.dtype != np.float32 or bool(
            (saturated(array, self.low)[0].astype(np.float32) == array).all()
        )


def rank(edges: Iterable[Edge], units: list[str], start: frozenset[str]) -> list[tuple[str, float]]:
    """Nodes in the order in which keeping them removes most noise per node, and what is left after each.

    A node, or the two ends of an edge, is taken when it gives most noise per node that is added.

    Args:
        units: all nodes that may be kept, in the order that decides between equals.
        start: what is kept already.
    """
    place = {name: index for index, name in enumerate(units)}
    open_ = {edge: edge.nodes - start for edge in edges}
    open_ = {edge: missing for edge, missing in open_.items() if missing and missing <= place.keys()}
    left = sum(edge.share for edge in open_)
    total = left or 1.0
    touching: dict[str, set[Edge]] = {}
    for edge, missing in open_.items():
        for name in missing:
            touching.setdefault(name, set()).add(edge)
    alone = dict.fromkeys(touching, 0.0)
    pairs: dict[frozenset[str], float] = {}
    for edge, missing in open_.items():
        if len(missing) == 1:
            alone[next(iter(missing))] += edge.share
        else:
            pairs[missing] = pairs.get(missing, 0.0) + edge.share
    found: list[tuple[str, float]] = []
    while alone:
        best = max(alone, key=lambda name: (alone[name], -place[name]))
        pair = max(pairs, key=lambda p: _gain(p, pairs, alone), default=None)
        if pair is not None and _gain(pair, pairs, alone) > alone[best]:
            best = max(pair, key=lambda name: (alone[name], -place[name]))
        left -= alone.pop(best)
        found.append((best, max(0.0, left / total)))
        for edge in touching[best]:
            missing = open_[edge] = open_[edge] - {best}
            if len(missing) == 1:
                alone[next(iter(missing))] += edge.share
                pairs.pop(missing | {best}, None)
    rest = [name for name in units if name not in {n for n, _ in found} and name not in start]
    return found + [(name, 0.0) for name in rest]


def _gain(pair: frozenset[str], pairs: Mapping[frozenset[str], float], alone: Mapping[str, float]) -> float:
    return (pairs[pair] + sum(alone[name] for name in pair)) / len(pair)


def _inside(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
    for _, body in bodies_of(node):
        for inner in body.node:
            yield inner
            yield from _inside(inner)


def _broke(row: Mapping[str, Any]) -> bool:
    """Whether a node by itself makes NaN or infinity of numbers of which it should not."""
    nan, inf = row.get("local_nan", 0), row.get("local_inf", 0)
    return bool(nan > row["ref_nan"] or inf > row["ref_inf"])


def _own(row: Mapping[str, Any]) -> float:
    """Share of a tensor's noise that its node adds."""
    propagated, own = _relative(row), _relative(row, "local_")
    return min(1.0, own / propagated) if propagated else 1.0


def _relative(row: Mapping[str, Any], which: str = "") -> float:
    """Noise energy over signal energy; what is not finite counts as noise without bound."""
    if row.get(f"{which}nan", 0) > row["ref_nan"] or row.get(f"{which}inf", 0) > row["ref_inf"]:
        return HUGE
    snr = row.get(f"{which}snr_db", math.nan)
    return 0.0 if math.isnan(snr) or snr == math.inf else min(HUGE, 10 ** (-snr / 10)) if snr > -120 else HUGE


def _absolute(row: Mapping[str, Any]) -> float:
    """Typical noise energy of an element."""
    if _relative(row) == HUGE:
        return HUGE
    return float(row["mean_abs"]) ** 2 if math.isfinite(row["mean_abs"]) else HUGE


def _size(row: Mapping[str, Any]) -> float:
    return max((abs(row[k]) for k in ("ref_min", "ref_max") if not math.isnan(row[k])), default=0.0)
