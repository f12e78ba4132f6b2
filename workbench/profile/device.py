"""Taking the measurements of a profile on a GPU, and what that GPU can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ..backends import Worker
from .events import Timed
from .graph import Graph
from .kernels import measure_rates
from .record import BLOCKS, Recording
from .roofline import Peaks

_WARM = 5
_CHAIN = 16  # small layers, to know what one costs at least


def record(
    worker: Worker,
    proto: onnx.ModelProto,
    feed: dict[str, np.ndarray],
    *,
    name: str,
    runs: int,
    warmup: int | None,
    optimize: str,
    tick: Callable[[int], Any],
) -> tuple[Recording, dict[str, Any]]:
    """Measure the latency and the layers of one model on a cuda worker; see `workbench.profile.record.record`.

    Returns:
        The recording, and what else is to be known about it, for ``meta``.
    """
    session = worker.load(proto.SerializeToString(), name=name, optimize=optimize)
    about = session.description
    warm = _WARM if warmup is None else warmup
    if warm:
        session.profile(feed, runs=warm)
    sizes = [len(part) for part in np.array_split(np.arange(runs), min(BLOCKS, runs))]
    blocks: list[list[float]] = []
    graph = ""
    for size in sizes:
        done = session.profile(feed, runs=size)
        blocks.append(done["ms"])
        graph = done["graph"]
        tick(size)
    found = session.profile(feed, runs=runs, layers=True)
    tick(runs)
    session.close()
    layers = [
        Timed(one["name"], one["op_type"], (), np.asarray(one["ms"]), 1, [(one["inputs"], one["outputs"])])
        for one in found["layers"]
    ]
    total = np.sum([layer.ms for layer in layers], axis=0) if layers else np.zeros(runs)
    recorded = [list(part) for part in np.array_split(total, len(sizes))]
    stages = [Graph(onnx.ModelProto.FromString(found["graph"]))]
    meta = {
        "provider": "CUDAExecutionProvider",
        "device": about["device"],
        "kernels": about["kernels"],
        "without_kernel": about["without_kernel"],
        "cuda_graph": graph or "yes",
        "clock": "time.perf_counter (latency), CUDA events (layers)",
        "machine": about["device"],
    }
    return Recording(blocks, recorded, layers, stages, "", (warm, 1)), meta


def peaks(worker: Worker, layers: list[dict[str, Any]]) -> Peaks:
    """Of the GPU of a cuda worker: bandwidth of a copy, a matrix product in the type that most layers have,
    and the time
    of a layer that does nothing. 8-bit products are not measured: the 16-bit rate stands for them."""
    rates = measure_rates(worker)
    half = sum("float16" in layer["shapes"] for layer in layers) > len(layers) / 2
    flops = rates.flops["float16" if half else "float32"]
    names = [f"t{i}" for i in range(_CHAIN)]
    nodes = [onnx.helper.make_node("Abs", [a], [b], name=b) for a, b in zip(names, names[1:], strict=False)]
    infos = [onnx.helper.make_tensor_value_info(n, 1, [1]) for n in (names[0], names[-1])]
    graph = onnx.helper.make_graph(nodes, "g", infos[:1], infos[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    session = worker.load(model.SerializeToString(), name="peak")
    found = session.profile({names[0]: np.ones(1, np.float32)}, runs=5, layers=True)["layers"]
    session.close()
    overhead = float(np.median([np.median(one["ms"]) for one in found]))
    return Peaks(
        flops, rates.flops["float16"], rates.copy_bytes_per_s, overhead, (), 0, worker.call("about")["name"],
        f"cuda {worker.version}", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )  # fmt: skip
