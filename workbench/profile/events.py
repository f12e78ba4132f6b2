"""ONNX Runtime's profiling file -> time per layer and run.

The file is a JSON list of events in Chrome's trace format (onnxruntime/core/common/profiler.cc): ``cat``
``Node`` with the name ``<node>_kernel_time`` for each executed kernel, ``cat`` ``Session`` with the name
``model_run`` around each run; ``ts`` and ``dur`` in µs, whole numbers. Kernels inside an If, Loop or Scan lie
within the time of that node.
"""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ProfileError

Shapes = list[tuple[str, tuple[int, ...]]]
_CONTROL = {"If", "Loop", "Scan"}
_SUFFIX = "_kernel_time"
_DTYPES = {"float": "float32", "double": "float64", "string": "string"}


@dataclass
class Timed:
    """One executed layer.

    Attributes:
        name: the node's name in the runtime's graph.
        parent: names of the control flow nodes around it, outermost first.
        ms: self time per run: what is spent in the layers of its own bodies is theirs, so that every ms
            counts once.
        calls: how often it ran in the last run (more than once inside a Loop).
        shapes: (inputs, outputs) of each call of the last run as (dtype, shape); absent and repacked ones are
            left out.
    """

    name: str
    op_type: str
    parent: tuple[str, ...]
    ms: np.ndarray
    calls: int
    shapes: list[tuple[Shapes, Shapes]]


def read(path: Path, measured: Sequence[int]) -> list[Timed]:
    """Layers in order of execution.

    Args:
        path: the profiling file.
        measured: numbers of the runs to take (the others are warm-up).

    Raises:
        ProfileError: the file cannot be read or does not hold all of these runs.
    """
    try:
        events = json.loads(path.read_bytes())
        runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "model_run")
        kernels = [e for e in events if e["cat"] == "Node" and e["name"].endswith(_SUFFIX)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProfileError(f"the profiling file of ONNX Runtime cannot be read: {error}") from error
    if not measured or max(measured) >= len(runs):
        raise ProfileError(
            f"the profiling file of ONNX Runtime holds {len(runs)} whole runs ({len(events)} events),"
            f" expected {max(measured, default=0) + 1}; it stops at a million events: pass smaller runs= and"
            " warmup="
        )
    runs = [runs[number] for number in sorted(measured)]
    starts = [start for start, _ in runs]
    per_run: list[list[dict]] = [[] for _ in runs]
    for event in kernels:
        at = bisect.bisect_right(starts, event["ts"]) - 1
        if at >= 0 and event["ts"] <= runs[at][1]:
            per_run[at].append(event)
    return _collect(per_run)


def _collect(per_run: list[list[dict]]) -> list[Timed]:
    ms: dict[tuple, np.ndarray] = defaultdict(lambda: np.zeros(len(per_run)))
    last: dict[tuple, list[dict]] = {}
    for number, events in enumerate(per_run):
        last = defaultdict(list)
        for key, self_us, event in _nest(events):
            ms[key][number] += self_us / 1000
            last[key].append(event)
    layers = []
    for key, times in ms.items():
        calls = [event["args"] for event in last[key]]
        shapes = [(_shapes(a.get("input_type_shape")), _shapes(a.get("output_type_shape"))) for a in calls]
        layers.append(Timed(key[-2], key[-1], key[:-2], times, len(calls), shapes))
    return layers


def _nest(events: list[dict]) -> list[tuple[tuple, float, dict]]:
    """(key, self time in µs, event) of one run's events, where key is (*parents, name, op_type)."""
    found: list[list] = []
    inside: list[tuple[int, list]] = []  # open control flow nodes: (end, entry)
    order = sorted(events, key=lambda e: (e["ts"], -e["dur"], e["args"].get("op_name") not in _CONTROL))
    for event in order:
        start, end = event["ts"], event["ts"] + event["dur"]
        # ts and dur are cut to whole µs: a child may seem to end after its parent, never to begin after it
        while inside and (start > inside[-1][0] or (start == inside[-1][0] and event["dur"] > 1)):
            inside.pop()
        parents = inside[-1][1][0][:-1] if inside else ()
        if inside:
            inside[-1][1][1] -= event["dur"]
        op_type = event["args"].get("op_name", "")
        entry = [(*parents, event["name"].removesuffix(_SUFFIX), op_type), event["dur"], event]
        found.append(entry)
        if op_type in _CONTROL:
            inside.append((end, entry))
    return [(key, max(0.0, self_us), event) for key, self_us, event in found]


def _shapes(listed: list[dict] | None) -> Shapes:
    return [
        (_DTYPES.get(dtype, dtype), tuple(max(0, int(d)) for d in shape))
        for one in listed or ()
        for dtype, shape in one.items()
    ]
