"""Running a plan: both models piece by piece, every pair of tensors measured while it is alive.

Only tensors that a later piece needs are kept. While the runtime works on one input, the pairs of the input before it
are measured.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from ..backends import free, view
from ..backends.memory import Block, dtype_of
from ..errors import BackendFailed
from ..metrics import Measure
from ..segments import Node
from .plan import Piece, Plan, unused_prefix
from .result import SHAPES_DIFFER
from .tracks import Sessions, Track, fitting

AHEAD = 3  # tasks begun before the one that is measured: enough to keep two runs going
Task = tuple[int, int | None, list[Callable[[], None]]]
"""Key, input (None: what runs once), and what waits for its runs."""


@dataclass
class Stream:
    """A plan being run.

    Attributes:
        heavy: bytes of weights of a stage from which its tracks run one after the other.
        ahead: bytes of one model's tensors that may be made beyond what is measured, exceeded only by a single task.
        measures: (reference tensor, "candidate" or "local") -> Measure.
        problems: (reference tensor, "candidate" or "local") -> why it could not be measured.
        seen: "reference" or "candidate" -> tensor -> (dtype name, shape) as first computed.
    """

    plan: Plan
    tracks: dict[str, Track]
    tick: Callable[[], Any]
    heavy: int
    ahead: int
    shapes: Mapping[str, tuple[int, ...]]
    measures: dict[tuple[str, str], Measure] = field(default_factory=dict)
    problems: dict[tuple[str, str], str] = field(default_factory=dict)
    seen: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = field(
        default_factory=lambda: {"reference": {}, "candidate": {}}
    )
    sessions: Sessions = field(init=False)
    _needed: bool = False  # whether the last local run could tell more than the candidate's own
    _shared: dict[int, int] = field(default_factory=dict)  # place -> how many hold it beyond the first
    _weights: dict[int, int] = field(default_factory=dict)  # key -> bytes of what its pieces read of weights
    _equal: dict[int | None, set[str]] = field(default_factory=dict)  # input -> tensors that were equal

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.tracks)

    def run(self, feeds: Sequence[Mapping[str, np.ndarray]], names: Mapping[str, str]) -> None:
        """Run one group of inputs through all segments. `names`: reference input -> candidate input."""
        self._equal = {}
        for track in self.tracks.values():
            given = dict(zip(names, names, strict=True)) if track.name == "reference" else names
            track.held, track.once = [{} for _ in feeds], {}
            track.feeds = [
                {n: track.worker.store(a) for n, a in fitting(track.graph, feed, given).items()}
                for feed in feeds
            ]
        tasks = deque((key, item) for key in self.plan.keys for item in self._items(key))
        running: deque[Task] = deque()
        while tasks or running:
            self._begin(tasks, running)
            if running:
                self._complete(running.popleft(), tasks, running)
            elif tasks:
                key = tasks[0][0]
                self._one_by_one(key)
                while tasks and tasks[0][0] == key:
                    tasks.popleft()
        for track in self.tracks.values():
            for blocks in track.feeds:
                free(track.worker, blocks.values())

    def _begin(self, tasks: deque[tuple[int, int | None]], running: deque[Task]) -> None:
        """Begin what can begin beside what runs.

        What runs once is completed at once: the next tasks wait for it, and those that run go on meanwhile.
        """
        while tasks and len(running) < AHEAD:
            key, item = tasks[0]
            if (item is not None and item in [other for _, other, _ in running]) or not self._light(key):
                return
            begun = sum(self.plan.made[other] for other, _, _ in running)
            if running and begun + self.plan.made[key] > self.ahead:
                return
            tasks.popleft()
            task = key, item, self._submit_both(key, item)
            if item is None:
                self._complete(task, tasks, running)
            else:
                running.append(task)

    def _complete(self, task: Task, tasks: deque[tuple[int, int | None]], running: deque[Task]) -> None:
        """Wait for a task, begin others, and measure what it made while they run."""
        key, item, waits = task
        for wait in waits:
            wait()
        local = self._begin_local(key, item)
        if item is not None:  # else what follows would not find what is made here
            self._begin(tasks, running)
        self._finish(key, item, local, share=all(other != item for _, other, _ in running))
        if not any(later == key for later, _, _ in running) and not (tasks and tasks[0][0] == key):
            self._end_stage(key, min([key, *(begun - 1 for begun, _, _ in running)]))
        self.tick()

    def stored(self, track: str, name: str) -> np.ndarray:
        """A weight as the runtime reads it from the model."""
        graph, worker, title = self.tracks[track].graph, self.tracks[track].worker, self.tracks[track].title
        copied = unused_prefix("stored", graph) + name
        proto = graph.piece([Node(0, onnx.helper.make_node("Identity", [name], [copied]))], [copied], {})
        session = worker.load(
            proto.SerializeToString(), name=f"{title} [{name}]", **self.tracks[track].options
        )
        try:
            return session.run({})[copied]
        finally:
            session.close()

    def _submit_both(self, key: int, item: int | None) -> list[Callable[[], None]]:
        pieces = self.plan.pieces[key]
        return [self._submit(pieces[name], item) for name in ("reference", "candidate") if name in pieces]

    def _items(self, key: int) -> Sequence[int | None]:
        """What a stage runs for: each input of the group, or once."""
        return range(len(self.tracks["reference"].held)) if key % 2 else [None]

    def _one_by_one(self, key: int) -> None:
        """A stage of large weights: one track after the other, so that the weights of one are there at a time."""
        pieces, items = self.plan.pieces[key], self._items(key)
        for name in ("reference", "candidate"):
            if name in pieces:
                for wait in [self._submit(pieces[name], item) for item in items]:
                    wait()
                self.sessions.close(name, key)
        found = {item: self._propagated(key, item) for item in items}
        for item in items:
            self._added(key, item, found[item])
            self._drop_all(key, item)
            self.tick()
        self._end_stage(key, key)

    def _light(self, key: int) -> bool:
        """Whether the weights of all tracks, and those of the stage before, may be there at the same time."""
        if key in self._weights:
            return self._weights[key] <= self.heavy
        total = 0
        for piece in self.plan.pieces[key].values():
            track = self.tracks[piece.track]
            for name in {name for node in piece.nodes for name in node.inputs}:
                block = track.once.get(name)
                total += math.prod(block.shape) * 4 if block is not None else track.graph.weight_bytes(name)
        self._weights[key] = total
        return total <= self.heavy

    def _submit(self, piece: Piece, item: int | None) -> Callable[[], None]:
        """Start a piece for one input; what is returned waits for it and keeps what it made."""
        track = self.tracks[piece.track]
        own: list[Block] = []
        session, number, failed = None, 0, None
        try:
            feeds = self._feeds(piece, item, own)
            # later runs know the shapes from the first one
            expected = self._expected(piece) if piece not in self.sessions else None
            session = self.sessions.get(piece, {name: block.dtype for name, block in feeds.items()})
            number = session.submit(feeds, None, expected, alone=piece.constant) if session is not None else 0
        except BackendFailed as error:
            failed = error

        def wait() -> None:
            try:
                if failed is not None:
                    raise failed
                results = session.result(number) if session is not None else {}
            except BackendFailed as error:
                self.sessions.spoil(piece)
                if piece.track != "local":
                    raise
                for name in piece.outputs:  # shapes that differ spoil a local run; the other two go on
                    self.problems[name, "local"] = f"its local run failed: {error}"
                return
            finally:
                free(track.worker, own)
            (track.once if item is None else track.held[item]).update(results)
            if piece.track in self.seen:
                for name, block in results.items():
                    self.seen[piece.track].setdefault(name, (block.dtype, block.shape))

        return wait

    def _feeds(self, piece: Piece, item: int | None, own: list[Block]) -> dict[str, Block]:
        """What flows into a piece: name in the piece -> block. Blocks made for this are added to `own`."""
        track = self.tracks[piece.track]
        feeds: dict[str, Block] = {}
        for inner, name in piece.reads.items():
            if inner != name:
                feeds[inner] = self._from_reference(name, item, track, own)
                continue
            block = track.get(name, item)
            if block is None:
                raise BackendFailed(f"the local run that makes {name!r} failed before it", phase="run")
            feeds[inner] = block
        return feeds

    def _expected(self, piece: Piece) -> dict[str, tuple[int, ...]]:
        """Shapes that the outputs of a piece should have: inferred ones, or what the reference's were."""
        if piece.constant:
            return {}
        back = {} if piece.track == "reference" else self.plan.back
        seen = self.seen["reference"]
        shapes = ((name, back.get(name, name)) for name in piece.outputs)
        found = {name: seen[mine][1] if mine in seen else self.shapes.get(mine) for name, mine in shapes}
        return {name: shape for name, shape in found.items() if shape and 0 not in shape}

    def _from_reference(self, name: str, item: int | None, track: Track, own: list[Block]) -> Block:
        """The reference's value of a candidate's tensor, in the candidate's dtype, where its worker can read it."""
        reference = self.tracks["reference"]
        block = reference.get(self.plan.back[name], item)
        assert block is not None, name
        dtype = self.seen["candidate"].get(name, (block.dtype,))[0]
        if dtype == block.dtype and (reference.worker is track.worker or block.kind != "shared"):
            return block
        with np.errstate(all="ignore"):
            made = track.worker.store(view(reference.worker, block).astype(dtype_of(dtype)))
        own.append(made)
        return made

    def _finish(self, key: int, item: int | None, local: Callable[[], None] | None, *, share: bool) -> None:
        """Measure what is due, with the local run in between, and give back what is not needed any more.

        `local`: waits for the local run, if that has begun; `share`: no run that has begun reads what this input has
        made.
        """
        found = self._propagated(key, item)
        if share and item is not None:
            for name in self._equal.get(item, set()) & found.keys():
                if self.plan.last["candidate"][self.plan.pairs[name]] > key:
                    self._share(name, item)
        self._added(key, item, found, local)
        self._drop_all(key, item)

    def _propagated(self, key: int, item: int | None) -> dict[str, Measure | None]:
        """Measure what is due of the candidate's own run."""
        due = self.plan.compare.get(key, ())
        return {name: self._measure(name, track, item) for name, track in due if track == "candidate"}

    def _begin_local(self, key: int, item: int | None) -> Callable[[], None] | None:
        """Begin the local run before it is known to be needed, where the one before it was."""
        piece = self.plan.pieces[key].get("local")
        return self._submit(piece, item) if piece is not None and self._needed else None

    def _added(
        self,
        key: int,
        item: int | None,
        found: Mapping[str, Measure | None],
        local: Callable[[], None] | None = None,
    ) -> None:
        """Run locally, where that can tell more than the candidate's own run, and measure."""
        piece = self.plan.pieces[key].get("local")
        repeated: set[str] = set()
        if piece is not None:
            self._needed = not self._same(piece, item, found)
            if local is not None:
                local()
            elif self._needed:
                self._submit(piece, item)()
            else:
                repeated.update(piece.outputs)
        for name, track in self.plan.compare.get(key, ()):
            if track == "local":
                known = found[name] if self.plan.pairs[name] in repeated else None
                if known is not None:
                    self._count(name, track, known)
                else:
                    self._measure(name, track, item)

    def _drop_all(self, key: int, item: int | None) -> None:
        if item is not None:
            for each in self.tracks.values():
                self._drop(each, each.held[item], key)

    def _same(self, piece: Piece, item: int | None, found: Mapping[str, Measure | None]) -> bool:
        """Whether a local run can only repeat the candidate's: it reads the same values."""
        if not all(found.get(self.plan.back.get(name, "")) for name in piece.outputs):
            return False
        if any(inner == name and name in self.plan.candidate.producer for inner, name in piece.reads.items()):
            return False  # it reads what an earlier local run has made
        read = {self.plan.back[name] for name in piece.renamed}
        return read <= self._equal.get(item, set()) | self._equal.get(None, set())

    def _end_stage(self, key: int, through: int) -> None:
        """Close what ran for a stage and give back what runs once and is needed `through` that key only."""
        for each in self.tracks.values():
            self._drop(each, each.once, through)
        for track in self.plan.pieces[key]:
            self.sessions.close(track, key)

    def _measure(self, mine: str, name: str, item: int | None) -> Measure | None:
        """Measure one pair for one input; None where there is nothing to measure."""
        reference, track = self.tracks["reference"], self.tracks[name]
        a, b = reference.get(mine, item), track.get(self.plan.pairs[mine], item)
        if a is None or b is None:
            self.problems.setdefault((mine, name), "was not computed")
            return None
        if a.shape != b.shape:
            self.problems[mine, name] = f"{SHAPES_DIFFER}: {list(a.shape)} and {list(b.shape)}"
            return None
        found = Measure()
        found.add(view(reference.worker, a), view(track.worker, b))
        self._count(mine, name, found)
        if name == "candidate" and found.same:
            self._equal.setdefault(item, set()).add(mine)
        return found

    def _share(self, mine: str, item: int) -> None:
        """Hold one block for a tensor of which both models have made the same bytes."""
        reference, track, other = self.tracks["reference"], self.tracks["candidate"], self.plan.pairs[mine]
        a, b = reference.get(mine, item), track.get(other, item)
        held = track.held[item]
        if a is None or b is None or other not in held or reference.worker is not track.worker or a == b:
            return
        if a.kind == b.kind == "shared":
            held[other] = a
            self._shared[a.place] = self._shared.get(a.place, 0) + 1
            free(track.worker, [b])

    def _count(self, mine: str, name: str, found: Measure) -> None:
        self.measures.setdefault((mine, name), Measure()).merge(found)

    def _drop(self, track: Track, held: dict[str, Block], key: int) -> None:
        last = self.plan.last[track.name]
        for name in [name for name in held if last.get(name, -1) <= key]:
            block = held.pop(name)
            if block.kind == "shared" and self._shared.get(block.place):
                self._shared[block.place] -= 1
            else:
                free(track.worker, [block])
