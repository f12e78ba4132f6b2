"""What is compared with what, and in which order it is computed: plain data, no runtime.

Both graphs are cut into the same number of segments. Three *tracks* run through them in lock-step:

- ``reference``: the reference on its own values,
- ``candidate``: the candidate on its own values (its difference from the reference is the *propagated* error),
- ``local``: the candidate's nodes on the reference's values (the difference is what those nodes add themselves).

Nodes that depend on weights alone run once, those of several segments together; the others run once per input.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..segments import Graph, Node

TRACKS = ("reference", "candidate", "local")


@dataclass
class Piece:
    """Nodes of one track that run together.

    Attributes:
        track: one of `TRACKS`.
        key: 2 * segment + 1, or 2 * segment for what runs once, before that segment.
        nodes: in execution order.
        reads: (name in the piece, tensor of the track) of what flows in, weights left out.
        outputs: tensors that something outside the piece wants.
    """

    track: str
    key: int
    nodes: list[Node] = field(default_factory=list)
    reads: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    @property
    def renamed(self) -> dict[str, str]:
        """For the local track: tensor of the candidate -> its name in the piece when read from the reference."""
        return {name: inner for inner, name in self.reads.items() if inner != name}

    @property
    def constant(self) -> bool:
        return self.key % 2 == 0


@dataclass
class Plan:
    """The whole comparison.

    Attributes:
        pairs: tensor of the reference -> tensor of the candidate.
        pieces: key -> track -> piece.
        compare: key -> [(reference tensor, "candidate" or "local")] to be measured after that key.
        last: track -> tensor -> key after which it is not needed any more.
        made: key -> bytes of what the reference makes there, for one input.
        live: most bytes of reference tensors that wait between two segments, for one input.
    """

    reference: Graph
    candidate: Graph
    pairs: dict[str, str]
    pieces: dict[int, dict[str, Piece]] = field(default_factory=dict)
    compare: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    last: dict[str, dict[str, int]] = field(default_factory=lambda: {t: {} for t in TRACKS})
    made: dict[int, int] = field(default_factory=dict)
    live: int = 0

    @cached_property
    def back(self) -> dict[str, str]:
        """Tensor of the candidate -> tensor of the reference."""
        return {other: mine for mine, other in self.pairs.items()}

    @property
    def keys(self) -> list[int]:
        return sorted(self.pieces)


def origins(graph: Graph) -> dict[str, str]:
    """Tensor that a node makes -> its name in the model that everything started from.

    The name itself, unless the node's metadata has another under ``workbench.tensors`` (JSON, output -> origin).
    """
    table: dict[str, str] = {}
    for node in graph.order:
        table.update((name, name) for name in node.outputs)
        for entry in node.proto.metadata_props:
            if entry.key == "workbench.tensors":
                table.update((k, v) for k, v in json.loads(entry.value).items() if k in node.outputs)
    return table


def match(reference: Graph, candidate: Graph) -> dict[str, str]:
    """Tensor of the reference -> tensor of the candidate: by origin, by name, graph outputs also by position."""
    theirs: dict[str, str] = {}
    for name, origin in origins(candidate).items():
        if origin not in theirs or name == origin:
            theirs[origin] = name
    pairs = {name: theirs[origin] for name, origin in origins(reference).items() if origin in theirs}
    if len(reference.outputs) == len(candidate.outputs):
        taken = set(pairs.values())
        for mine, other in zip(reference.outputs, candidate.outputs, strict=True):
            if (
                mine not in pairs
                and other not in taken
                and mine in reference.producer
                and other in candidate.producer
            ):
                pairs[mine] = other
    return {a: b for a, b in pairs.items() if a not in reference.sequences and b not in candidate.sequences}


def make(
    reference: Graph, candidate: Graph, sizes: Mapping[str, int], limit: int, heavy: int, *, local: bool
) -> Plan:
    """Plan the comparison of two graphs.

    Args:
        sizes: bytes of the reference's tensors, for one input; unknown ones count 256 KB.
        limit: bytes of reference tensors per segment, exceeded only where one node makes more.
        heavy: bytes of initializers per segment, exceeded only where one node reads more.
        local: whether to measure local error too.
    """
    plan = Plan(reference, candidate, match(reference, candidate))
    at_reference = _cut(reference, sizes, limit, heavy)
    if reference.sequences or candidate.sequences:  # sequences and optionals cannot travel between processes
        at_reference = dict.fromkeys(at_reference, 0)
    end = max(at_reference.values(), default=0)
    first = _gather(reference, at_reference, sizes, heavy // 2)
    at_candidate = _follow(plan, at_reference, end)
    _add(plan, "reference", reference, reference.schedule, at_reference, first)
    _add(plan, "candidate", candidate, candidate.schedule, at_candidate, first)
    if local:
        at_local = _local(plan, at_reference)
        nodes = [n for n in candidate.schedule if n.index in at_local]
        _add(plan, "local", candidate, nodes, at_local, first)
    for mine, other in plan.pairs.items():
        made, other_made = reference.producer[mine], candidate.producer[other]
        once = made.constant and other_made.constant
        at = at_reference[made.index]
        _want(plan, "candidate", mine, other, 2 * first[at] if once else 2 * at + 1)
        if local:
            at = max(at, at_local[other_made.index])
            _want(plan, "local", mine, other, 2 * first[at] if once else 2 * at + 1)
    _finish(plan, sizes)
    return plan


def _finish(plan: Plan, sizes: Mapping[str, int]) -> None:
    """What pieces hand out, and how many bytes that takes; pieces that hand out nothing go."""
    for stages in plan.pieces.values():
        for piece in stages.values():
            last = plan.last[piece.track]
            piece.outputs = [
                name for node in piece.nodes for name in node.outputs if last.get(name, -1) >= piece.key
            ]
    plan.pieces = {
        key: {track: piece for track, piece in stages.items() if piece.outputs}
        for key, stages in plan.pieces.items()
    }
    for key, stages in plan.pieces.items():
        nodes = stages["reference"].nodes if "reference" in stages else []
        plan.made[key] = sum(sizes.get(name, 1 << 18) for node in nodes for name in node.outputs)
    plan.live = _live(plan, sizes)


def inside(graph: Graph, pairs: Mapping[str, str], sizes: Mapping[str, int], limit: int, heavy: int) -> Plan:
    """Plan to compare tensors of one graph with each other.

    It is run once, on the track ``reference``, in pieces that hand out no more than what later ones and the
    measurements need; ``pairs`` become those of the plan.

    Args:
        pairs: tensor -> the tensor that it should equal; nodes make both.
        sizes, limit, heavy: as for `make`, ``limit`` for the tensors of pairs alone.
    """
    plan = Plan(graph, graph, dict(pairs))
    needed = {node.index for node in graph.needed([*pairs, *pairs.values()])}
    nodes = [node for node in graph.schedule if node.index in needed]
    wanted = {*pairs, *pairs.values()}
    counted = {name: sizes.get(name, 1 << 18) if name in wanted else 0 for name in graph.producer}
    at = _cut(graph, counted, limit, heavy, nodes)
    first = _gather(graph, at, counted, heavy // 2)
    _add(plan, "reference", graph, nodes, at, first)
    for pair in pairs.items():
        makers = [graph.producer[name] for name in pair]
        last = max(at[maker.index] for maker in makers)
        key = 2 * first[last] if all(maker.constant for maker in makers) else 2 * last + 1
        plan.compare.setdefault(key, []).append((pair[0], "reference"))
        for name in pair:
            _until(plan, "reference", name, key)
    _finish(plan, sizes)
    return plan


def _cut(
    graph: Graph, sizes: Mapping[str, int], limit: int, heavy: int, nodes: Iterable[Node] | None = None
) -> dict[int, int]:
    """Node index -> segment: as many nodes as make `limit` bytes and read `heavy` bytes of initializers."""
    table: dict[int, int] = {}
    segment, made, read = 0, 0, 0
    for node in graph.schedule if nodes is None else nodes:
        nbytes = sum(sizes.get(name, 1 << 18) for name in node.outputs)
        weights = sum(map(graph.weight_bytes, node.inputs))
        if (made and made + nbytes > limit) or (read and read + weights > heavy):
            segment, made, read = segment + 1, 0, 0
        table[node.index] = segment
        made += nbytes
        read += weights
    return table


def _gather(graph: Graph, segments: Mapping[int, int], sizes: Mapping[str, int], limit: int) -> list[int]:
    """Segment -> the one before which its constant nodes run: those of several together, up to `limit` bytes."""
    made = [0] * (max(segments.values(), default=0) + 1)
    for node in graph.order:
        if node.constant and node.index in segments:
            made[segments[node.index]] += sum(sizes.get(name, 1 << 18) for name in node.outputs)
    first, start, total = [], 0, 0
    for segment, nbytes in enumerate(made):
        if total and total + nbytes > limit:
            start, total = segment, 0
        first.append(start)
        total += nbytes
    return first


def _follow(plan: Plan, at_reference: Mapping[int, int], end: int) -> dict[int, int]:
    """Node index of the candidate -> segment: the first in which something that depends on it is compared."""
    back = plan.back
    table: dict[int, int] = {}
    consumers = plan.candidate.consumers
    for node in reversed(plan.candidate.order):
        wanted = [table[user.index] for name in node.outputs for user in consumers.get(name, ())]
        wanted += [at_reference[plan.reference.producer[back[n]].index] for n in node.outputs if n in back]
        table[node.index] = min(wanted, default=end)
    return table


def _local(plan: Plan, at_reference: Mapping[int, int]) -> dict[int, int]:
    """Node index of the candidate -> segment of its local run, for nodes that some pair needs.

    All that a node reads must be known; beyond that it runs as late as what wants its outputs allows.
    """
    back = plan.back
    graph = plan.candidate
    useful: set[int] = set()
    for node in reversed(graph.order):
        if any(
            n in back or any(user.index in useful for user in graph.consumers.get(n, ()))
            for n in node.outputs
        ):
            useful.add(node.index)
    nodes = [node for node in graph.order if node.index in useful]
    table: dict[int, int] = {}
    for node in nodes:
        known = [0]
        for name in node.inputs:
            if name in back:
                known.append(at_reference[plan.reference.producer[back[name]].index])
            elif name in graph.producer:
                known.append(table[graph.producer[name].index])
        table[node.index] = max(known)
    for node in reversed(nodes):
        early = table[node.index]
        wanted = []
        for name in node.outputs:
            if name in back:
                wanted.append(max(early, at_reference[plan.reference.producer[back[name]].index]))
            else:
                wanted += [table[u.index] for u in graph.consumers.get(name, ()) if u.index in table]
        table[node.index] = min(wanted)
    return table


def _once(plan: Plan, track: str, graph: Graph) -> set[int]:
    """Indices of the nodes of a track that run once: they depend on weights alone, whoever computed what they read."""
    if track != "local":
        return {node.index for node in graph.order if node.constant}
    back = plan.back
    found: set[int] = set()
    for node in graph.order:
        made = (name for name in node.inputs if name in graph.producer)
        if node.constant and all(
            plan.reference.producer[back[name]].constant
            if name in back
            else graph.producer[name].index in found
            for name in made
        ):
            found.add(node.index)
    return found


def _add(
    plan: Plan, track: str, graph: Graph, nodes: list[Node], segments: Mapping[int, int], first: list[int]
) -> None:
    """Put nodes into the pieces of a track and note until when what they read is needed."""
    back = plan.back
    prefix = unused_prefix("reference", graph)
    once = _once(plan, track, graph)
    at = {node.index: segments[node.index] for node in nodes}
    keys = {index: 2 * first[segment] if index in once else 2 * segment + 1 for index, segment in at.items()}
    for node in nodes:
        key = keys[node.index]
        piece = plan.pieces.setdefault(key, {}).setdefault(track, Piece(track, key))
        piece.nodes.append(node)
        for name in node.inputs:
            if track == "local" and name in back:
                piece.reads[prefix + name] = name
                _until(plan, "reference", back[name], key)
            elif name in graph.inputs:
                piece.reads[name] = name
            elif name in graph.producer and keys[graph.producer[name].index] != key:
                piece.reads[name] = name
                _until(plan, track, name, key)


def unused_prefix(word: str, graph: Graph) -> str:
    """`word` as a prefix with which no tensor of the graph begins."""
    names = {*graph.producer, *graph.inputs, *graph.weights, *graph.constants}
    while any(name.startswith(f"{word}/") for name in names):
        word = f"_{word}"
    return f"{word}/"


def _until(plan: Plan, track: str, name: str, key: int) -> None:
    plan.last[track][name] = max(plan.last[track].get(name, -1), key)


def _want(plan: Plan, track: str, mine: str, other: str, key: int) -> None:
    plan.compare.setdefault(key, []).append((mine, track))
    _until(plan, "reference", mine, key)
    _until(plan, track, other, key)


def _live(plan: Plan, sizes: Mapping[str, int]) -> int:
    """Most bytes that wait between two segments, on the reference's track and the candidate's, for one input."""
    change: dict[int, int] = {}
    for stages in plan.pieces.values():
        for piece in stages.values():
            if piece.constant or piece.track == "local":
                continue
            back = plan.back if piece.track == "candidate" else {}
            for name in piece.outputs:
                end = plan.last[piece.track][name]
                if end > piece.key:
                    nbytes = sizes.get(back.get(name, name), 1 << 18)
                    change[piece.key] = change.get(piece.key, 0) + nbytes
                    change[end] = change.get(end, 0) - nbytes
    most = now = 0
    for key in sorted(change):
        now += change[key]
        most = max(most, now)
    return most
