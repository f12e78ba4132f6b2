"""Comparing two models tensor by tensor, in bounded memory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..backends import BACKENDS, Worker
from ..errors import CompareError
from ..inputs import feeds as make_feeds
from ..model import Model, TensorInfo
from ..model.collection import paused
from ..model.core import opened
from ..model.operators import require_bodies
from ..model.shapes import infer
from ..segments import Graph
from . import plan as planning
from .records import AS_RUN, records
from .rerun import Rerun, Workers
from .result import Comparison, Pair
from .stream import Stream
from .tracks import RUN, Track, fitting

__all__ = ["Comparison", "Pair", "compare"]


def compare(
    reference: Any,
    candidate: Any,
    inputs: Any = None,
    *,
    shapes: Mapping[str, Any] | None = None,
    count: int = 1,
    seed: int = 0,
    tolerance: float | Mapping[str, float] = 1e-3,
    local: bool = True,
    memory_budget: int = 128 << 20,
    as_run: bool = False,
    optimize: str = "all",
    threads: int | None = None,
    candidate_backend: str = "onnxruntime",
    timeout: float = 600.0,
    progress: bool = True,
) -> Comparison:
    """Compare every tensor that two models share, segment by segment, while it is alive.

    Args:
        reference, candidate: Models, or anything that `workbench.load` takes. The candidate can be an engine of
            `workbench.tensorrt.build(..., debug_tensors=True)`; `as_run`, `optimize` and `threads` say nothing then.
        inputs: what `workbench.inputs.feeds` takes; None generates `count` inputs from `seed`.
        shapes: values for symbolic dims by name, or shapes by input name.
        tolerance: see `Comparison.first_divergence`.
        local: also run each of the candidate's nodes on the reference's values, to see what it adds itself.
        memory_budget: bytes for the tensors held at a time, over both models and all inputs; the weights of the
            segment that runs come on top, and a single larger tensor is held all the same. (On a CPU, ONNX Runtime
            computes fp16 in fp32 and rounds where a segment ends: errors of fp16 models move by that rounding.)
        as_run: compare with the graph that the runtime really executes: the candidate as optimised at level
            `optimize`; only tensors that exist there are compared, and `meta["observer"]` says what looking changed.
        threads: threads of the runtime (None: its choice).
        candidate_backend: runtime of the candidate; ``cuda`` is ONNX Runtime's CUDA provider with the kernels
            of plugins
            (float32 without TF32), so that comparing a model with itself shows what the GPU does otherwise.
        timeout: seconds that one step of the runtime may take.
        progress: show a progress bar when it takes longer than a second.

    Raises:
        ModelError, InputError: what was given cannot be used, or has an operator without a body.
        CompareError: the two models share no tensor or have different inputs.
        BackendError: the runtime failed, crashed or timed out.
    """
    if not isinstance(candidate, Model) and hasattr(
        candidate, "compared_with"
    ):  # an engine, of a later package
        return candidate.compared_with(
            reference, inputs, shapes=shapes, count=count, seed=seed, tolerance=tolerance, local=local,
            memory_budget=memory_budget, timeout=timeout, progress=progress,
        )  # fmt: skip
    start = time.perf_counter()
    pool = threads or max(1, (os.cpu_count() or 1) // 2)
    _check_backend(candidate_backend, as_run)
    with paused():
        first, second = map(opened, (reference, candidate))
    for model in (first, second):
        require_bodies(model, "compare")
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(Worker("onnxruntime", timeout=timeout, parallel=2, pool=pool))
        other = worker
        if candidate_backend != worker.backend:
            other = stack.enter_context(Worker(candidate_backend, timeout=timeout))
        items = make_feeds(first, inputs, shapes=shapes, count=count, seed=seed)
        observer = None
        if as_run:
            from .observer import observe

            graph = Graph(second.to_proto())
            feed = fitting(graph, next(iter(items)), _inputs(Graph(first.to_proto()), graph))
            second, observer = observe(worker, second, feed, optimize=optimize, threads=threads)
        workers = Workers(worker, other)
        comparison = _stream(
            workers, first, second, items, tolerance, local, memory_budget, threads, progress
        )
    comparison.meta |= {"seconds": time.perf_counter() - start, "as_run": as_run}
    if observer:
        comparison.meta["observer"] = observer
        for record in comparison.records:
            record["status"] = AS_RUN.get(record["status"], record["status"])
    return comparison


def _check_backend(name: str, as_run: bool) -> None:
    if name not in BACKENDS:
        raise CompareError(
            f"cannot compare on {name!r}; expected candidate_backend to be one of {', '.join(BACKENDS)}"
        )
    if as_run and name != "onnxruntime":
        raise CompareError(
            f"cannot compare as it is run on {name!r}: as_run is about the graph that onnxruntime "
            "optimises on the CPU; "
            "leave as_run out"
        )


def _stream(
    workers: Workers,
    first: Model,
    second: Model,
    items: Any,
    tolerance: Any,
    local: bool,
    budget: int,
    threads: int | None,
    progress: bool,
) -> Comparison:
    worker = workers.reference
    limit = max(1 << 20, budget // 24)
    with paused():
        a, b = Graph(first.to_proto()), Graph(second.to_proto())
        names = _inputs(a, b)
        example = next(iter(items))
        known = infer(first.to_proto(), {n: tuple(v.shape) for n, v in example.items()})
        sizes = {name: info.bytes for name, info in known.items() if info.bytes is not None}
        plan = planning.make(a, b, sizes, limit, budget // 4, local=local)
    if not plan.pairs and a.producer:
        raise CompareError(
            f"{first.name!r} and {second.name!r} share no tensor name and have different outputs: nothing to compare"
        )
    group = max(1, int((budget - 4 * limit) // max(1, plan.live)))
    tracks = {
        name: Track(name, graph, worker, model.name, RUN)
        for name, graph, model, worker in (
            ("reference", a, first, workers.reference),
            ("candidate", b, second, workers.candidate),
            ("local", b, second, workers.candidate),
        )
    }
    try:
        total = len(items)
    except TypeError:  # an iterator: known at its end
        total = None
    with _bar(progress, total, plan, group) as tick:
        stream = Stream(plan, tracks, tick, budget // 4, 2 * limit, _shapes(known))
        done = 0
        for batch in _batches(items, group):
            stream.run(batch, names)
            done += len(batch)
    meta = {
        "reference": first.name,
        "candidate": second.name,
        "runtime": worker.backend,
        "version": worker.version,
        "optimize": "none",
        "threads": threads,
        "inputs": done,
        "inputs_at_once": min(group, done),
        "segments": len({key // 2 for key in plan.pieces}),
        "pieces": stream.sessions.loaded,
        "memory_budget": budget,
        "peak_bytes": sum(each.peak_bytes() for each in dict.fromkeys(workers)),
    }
    if workers.candidate is not worker:
        meta |= {
            "candidate_runtime": workers.candidate.backend,
            "candidate_version": workers.candidate.version,
        }
    rerun = Rerun(
        first, second, plan, names, items, RUN, worker.timeout, worker.options, workers.candidate.backend
    )
    return Comparison(records(stream, names, local), a.outputs, tolerance, meta, rerun)


def _inputs(a: Graph, b: Graph) -> dict[str, str]:
    """Input of the reference -> input of the candidate: by name, the rest by position."""
    mine = [name for name in a.inputs if name not in b.inputs]
    theirs = [
        name for name in b.inputs if name not in a.inputs and (name in b.consumers or name in b.outputs)
    ]
    if theirs and len(mine) != len(theirs):
        both = f"{list(a.inputs)} and {list(b.inputs)}"
        raise CompareError(f"the models have different inputs: {both}; edit one to match")
    return {name: name for name in a.inputs} | dict(zip(mine, theirs, strict=False))


def _shapes(known: Mapping[str, TensorInfo]) -> dict[str, tuple[int, ...]]:
    """The shapes that are known whole."""
    found = {}
    for name, info in known.items():
        dims = tuple(dim for dim in info.shape or () if isinstance(dim, int))
        if info.shape is not None and len(dims) == len(info.shape):
            found[name] = dims
    return found


def _batches(items: Any, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _bar:
    """A tqdm bar over the steps of a comparison, shown after a second; calling it counts one step."""

    def __init__(self, show: bool, total: int | None, plan: planning.Plan, group: int):
        self.bar = None
        if show:
            from tqdm.auto import tqdm

            steps = None
            if total is not None:
                once = sum(key % 2 == 0 for key in plan.keys)
                steps = once * -(-total // group) + (len(plan.keys) - once) * total
            self.bar = tqdm(total=steps, desc="compare", unit="step", delay=1, leave=False)

    def __enter__(self) -> Callable[[], Any]:
        return self.bar.update if self.bar is not None else (lambda: None)

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()
