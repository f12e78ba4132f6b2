"""Tensors of one graph held against each other while it runs, in bounded memory: what a comparison does with two."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..backends import Worker, view
from ..metrics import Measure
from ..segments import Graph
from . import plan as planning
from .records import measured
from .result import SHAPES_DIFFER
from .stream import Stream
from .tracks import RUN, Track


class Inside:
    """A worker that holds tensors of a graph against each other; to be used with ``with``.

    Args:
        memory_budget: bytes for the tensors held at a time; what the runtime holds while a piece runs comes on top.
        timeout: seconds that one step of the runtime may take.
    """

    def __init__(self, memory_budget: int = 128 << 20, timeout: float = 600.0):
        pool = max(1, (os.cpu_count() or 1) // 2)
        self.budget = memory_budget
        self.worker = Worker("onnxruntime", timeout=timeout, parallel=2, pool=pool)

    def __enter__(self) -> Inside:
        self.worker.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.worker.__exit__(*exc)

    def compare(
        self,
        graph: Graph,
        pairs: Mapping[str, str],
        feeds: Iterable[Mapping[str, np.ndarray]],
        sizes: Mapping[str, int],
        title: str,
    ) -> dict[str, dict[str, Any]]:
        """What tells each tensor from the one that it should equal.

        Args:
            pairs: tensor -> the tensor that it should equal; nodes make both.
            feeds: inputs of the graph, one after the other.
            sizes: bytes of tensors, where they are known.
            title: of the model, for messages.

        Returns:
            Tensor -> a row as those of ``Comparison.table``.
        """
        if not pairs:
            return {}
        limit = max(1 << 20, self.budget // 24)
        plan = planning.inside(graph, pairs, sizes, limit, self.budget // 4)
        tracks = {"reference": Track("reference", graph, self.worker, title, RUN)}
        stream = _Stream(plan, tracks, lambda: None, self.budget // 4, 2 * limit, {})
        names = {name: name for name in graph.inputs}
        for feed in feeds:
            stream.run([feed], names)
        return {name: self._row(stream, name, other) for name, other in pairs.items()}

    def _row(self, stream: Stream, name: str, other: str) -> dict[str, Any]:
        dtype, shape = stream.seen["reference"].get(other, ("", None))
        key = (name, "reference")
        return measured(name, dtype, shape, stream.problems.get(key, ""), stream.measures.get(key))


class _Stream(Stream):
    def _propagated(self, key: int, item: int | None) -> dict[str, Measure | None]:
        return {name: self._measure(name, track, item) for name, track in self.plan.compare.get(key, ())}

    def _measure(self, mine: str, name: str, item: int | None) -> Measure | None:
        track = self.tracks[name]
        expected, got = track.get(self.plan.pairs[mine], item), track.get(mine, item)
        assert expected is not None and got is not None
        if expected.shape != got.shape:
            self.problems[mine, name] = f"{SHAPES_DIFFER}: {list(expected.shape)} and {list(got.shape)}"
            return None
        found = Measure()
        found.add(view(track.worker, expected), view(track.worker, got))
        self._count(mine, name, found)
        return found
