"""The graph that a runtime really executes, and what looking at it changes."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from ..backends import Worker
from ..metrics import Measure
from ..model import Model, load
from ..segments import Graph, with_outputs


def observe(
    worker: Worker, model: Model, feed: dict, *, optimize: str, threads: int | None
) -> tuple[Model, dict]:
    """The model as the runtime's optimiser leaves it, and the observer effect.

    The comparison runs the optimised graph node for node, so that marking tensors fuses nothing less. The effect that
    is stated: outputs and time of the model run as a whole, with its own outputs alone and with every tensor marked.

    Returns:
        The optimised model, and a dict: ``nodes``, ``nodes_marked`` (executed nodes), ``ms``, ``ms_marked`` (median of
        5 runs), ``max_abs`` (largest difference between the outputs of the two), ``optimize``.
    """
    proto = model.to_proto()
    plain = _measure(worker, model.name, proto.SerializeToString(), feed, optimize, threads)
    everything = with_outputs(proto, [*dict.fromkeys(_marked(proto))])
    marked = _measure(
        worker, f"{model.name} (all marked)", everything.SerializeToString(), feed, optimize, threads
    )
    measure = Measure()
    for name, value in plain["outputs"].items():
        measure.add(value, marked["outputs"][name])
    fused = Model(load(plain["graph"]).ir, name=f"{model.name} (as run)")
    return fused, {
        "optimize": optimize,
        "nodes": plain["nodes"],
        "nodes_marked": marked["nodes"],
        "ms": plain["ms"],
        "ms_marked": marked["ms"],
        "max_abs": measure.result()["max_abs"],
    }


def _marked(proto: Any) -> list[str]:
    graph = Graph(proto)
    return [*graph.outputs, *(name for node in graph.order for name in node.outputs)]


def _measure(worker: Worker, name: str, model: bytes, feed: dict, optimize: str, threads: int | None) -> dict:
    graph = worker.call("optimized", phase="load", model=model, optimize=optimize, threads=threads)
    session = worker.load(model, name=name, optimize=optimize, threads=threads)
    given = {n: np.asarray(a) for n, a in feed.items()}
    outputs, times = session.run(given), []
    for _ in range(5):
        start = time.perf_counter()
        session.run(given)
        times.append((time.perf_counter() - start) * 1e3)
    session.close()
    return {
        "graph": graph,
        "outputs": outputs,
        "ms": statistics.median(times),
        "nodes": len(load(graph).to_proto().graph.node),
    }
