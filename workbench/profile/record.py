"""Taking the measurements of a profile in a worker process.

Two sessions run the same feed in alternating blocks: one as it would serve, for the latency; one with the
runtime's profiling on, for the layers. Profiling costs time itself, so the latency never comes from the
second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..backends import Session, Worker
from ..errors import BackendFailed
from .events import Timed, read
from .graph import Graph

BLOCKS = 5
_TOGETHER = 1 << 30  # bytes: models above this are not held twice, their blocks do not alternate
_CHUNK_S = 0.25  # one request runs about this long, so that progress shows and Ctrl-C acts
_WARM_S, _WARM_RUNS, _STABLE = 2.0, 50, 0.05


@dataclass
class Recording:
    """What was measured.

    Attributes:
        latency: ms per run without profiling, in blocks.
        recorded: ms per run with profiling on, in blocks.
        layers: time per layer; the runs are those of `recorded`, one block after the other.
        stages: the optimised graphs, level by level; the last is the one that ran.
        no_graph: why `stages` is empty, if it is.
        warmup: runs before the first measured one, without and with profiling.
    """

    latency: list[list[float]]
    recorded: list[list[float]]
    layers: list[Timed]
    stages: list[Graph] = field(default_factory=list)
    no_graph: str = ""
    warmup: tuple[int, int] = (0, 0)


def record(
    worker: Worker,
    proto: onnx.ModelProto,
    feed: dict[str, np.ndarray],
    *,
    name: str,
    nbytes: int,
    runs: int,
    warmup: int | None,
    options: dict[str, Any],
    tick: Callable[[int], Any],
) -> Recording:
    """Measure the latency and the layers of one model with one feed.

    Args:
        worker: where the model runs.
        proto: the model, every node named.
        feed: input name -> array.
        name: for error messages.
        nbytes: size of the model, to decide whether it is held twice at a time.
        runs: measured runs of each kind.
        warmup: runs before; None: until the times are stable.
        options: ``optimize`` and ``threads`` of the backend.
        tick: called with the number of runs done.
    """
    sizes = [len(part) for part in np.array_split(np.arange(runs), min(BLOCKS, runs))]
    model = proto.SerializeToString()
    with tempfile.TemporaryDirectory(prefix="workbench-profile-", ignore_cleanup_errors=True) as folder:
        plain = _Bench(lambda: worker.load(model, name=name, **options), feed, warmup, tick)
        with plain.open():
            if nbytes > _TOGETHER:
                plain.measure(sizes)
                plain.close()
            session, graphs, no_graph = _recording_session(worker, model, name, options, Path(folder))
            recording = _Bench(lambda: session, feed, warmup, tick)
            with recording.open():
                for size in sizes:
                    if nbytes <= _TOGETHER:
                        plain.measure([size], settle=True)
                    recording.measure([size], settle=nbytes <= _TOGETHER)
                events = Path(session.profile({}, finish=True)["events"])
        layers = read(events, recording.measured)
        stages = [Graph(graph) for graph in graphs]
    return Recording(
        plain.blocks, recording.blocks, layers, stages, no_graph, (plain.warmed, recording.warmed)
    )


class _Bench:
    """One session that is warmed up and timed."""

    def __init__(
        self,
        load: Callable[[], Session],
        feed: dict[str, np.ndarray],
        warmup: int | None,
        tick: Callable[[int], Any],
    ):
        self._load, self._feed, self._warmup, self._tick = load, feed, warmup, tick
        self._session: Session | None = None
        self._run_ms = 0.0
        self._runs = 0
        self.blocks: list[list[float]] = []
        self.measured: list[int] = []  # numbers of the measured runs among all runs
        self.warmed = 0

    @contextmanager
    def open(self) -> Iterator[None]:
        self._session = self._load()
        try:
            self._warm()
            yield
        finally:
            self.close()

    def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            session.close()

    def measure(self, sizes: list[int], settle: bool = False) -> None:
        """Add one block of each size, after one run that does not count if the other session ran in
        between."""
        self._times(int(settle), count=False)
        for size in sizes:
            self.measured += range(self._runs, self._runs + size)
            self.blocks.append(self._times(size))

    def _warm(self) -> None:
        if self._warmup is not None:
            self.warmed = len(self._times(self._warmup, count=False))
            return
        times: list[float] = []
        while len(times) < _WARM_RUNS and sum(times) < _WARM_S * 1000:
            times += self._times(1, count=False)
            if len(times) >= 4 and max(times[-3:]) <= (1 + _STABLE) * min(times[-3:]):
                break
        self.warmed = len(times)

    def _times(self, runs: int, count: bool = True) -> list[float]:
        assert self._session is not None
        times: list[float] = []
        while len(times) < runs:
            chunk = max(1, min(runs - len(times), int(_CHUNK_S * 1000 / (self._run_ms or 1e9))))
            times += self._session.profile(self._feed, runs=chunk)["ms"]
            self._run_ms = times[-1]
            self._tick(chunk * count)
        self._runs += runs
        return times


def _recording_session(
    worker: Worker, model: bytes, name: str, options: dict, folder: Path
) -> tuple[Session, list[onnx.ModelProto], str]:
    """A session with profiling on, and the optimised graphs that it and the level below it wrote."""
    events = str(folder / "events")

    def optimised(**changed: Any) -> tuple[Session, onnx.ModelProto, bool]:
        path = folder / f"{len(list(folder.glob('*.onnx')))}.onnx"
        session = worker.load(model, name=name, **{**options, "graph": str(path), **changed})
        session.description  # noqa: B018 - waits for the file
        proto = onnx.load(path, load_external_data=False)
        return session, proto, _name_nodes(proto)

    try:
        graphs = []
        if options.get("optimize") == "all":
            # what level "all" renames (memory layouts) is found through the graph of the level below
            below, graph, _ = optimised(optimize="extended", prepack=False)
            below.close()
            graphs.append(graph)
        session, last, renamed = optimised(events=events)
        if renamed:
            # the runtime left nodes without a name: what it made of the model runs once more, with names
            session.close()
            reload = {**options, "optimize": "none", "events": events}
            session = worker.load(_with_weights_in(last, folder), name=name, **reload)
            session.description  # noqa: B018
        return session, [*graphs, last], ""
    except BackendFailed as error:
        session = worker.load(model, name=name, events=events, **options)
        return session, [], f"the runtime could not write its optimised graph: {error}"


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _name_nodes(proto: onnx.ModelProto) -> bool:
    """Give each node a name of its own; whether one had none."""
    seen: set[str] = set()
    changed = False
    for graph in _graphs(proto.graph):
        for node in graph.node:
            if not node.name or node.name in seen:
                changed = True
                node.name = f"{node.name or node.op_type}_{next((o for o in node.output if o), len(seen))}"
            seen.add(node.name)
    return changed


def _with_weights_in(proto: onnx.ModelProto, folder: Path) -> bytes:
    """The model with the absolute paths of its weights, as the worker reads them."""
    located = onnx.ModelProto()
    located.CopyFrom(proto)
    for graph in _graphs(located.graph):
        for tensor in graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = str((folder / entry.value).absolute()).lstrip("/")
    return located.SerializeToString()
