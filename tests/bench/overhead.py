"""What the worker process adds to a run of about a millisecond, and what opening a 5 GB model costs."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RUNS = 200
GB = 1 << 30


def one_millisecond_model(size: int = 64, depth: int = 12) -> onnx.ModelProto:
    """A chain of convolutions over a small image: about a millisecond in ONNX Runtime on two cores."""
    random = np.random.default_rng(0)
    weights = [random.normal(0, 0.05, (32, 32, 3, 3)).astype(np.float32) for _ in range(depth)]
    nodes, last = [], "x"
    for number in range(depth):
        pads = helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1])
        nodes += [pads, helper.make_node("Relu", [f"c{number}"], [f"r{number}"])]
        last = f"r{number}"
    shape = [1, 32, size // 2, size // 2]
    graph = helper.make_graph(
        nodes,
        "one_millisecond",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, f"w{number}") for number, weight in enumerate(weights)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def worker() -> dict:
    """Median time (µs) of `RUNS` runs in this process and of as many in a worker, in turns of twenty."""
    import onnxruntime

    from workbench.backends import Worker

    proto = one_millisecond_model().SerializeToString()
    feed = {"x": np.random.default_rng(1).random((1, 32, 32, 32), dtype=np.float32)}
    inside = onnxruntime.InferenceSession(proto, providers=["CPUExecutionProvider"])
    with Worker("onnxruntime") as process:
        session = process.load(proto, optimize="all", name="one_millisecond")
        ways: dict[str, Callable[[], object]] = {
            "in_process": lambda: inside.run(None, feed),
            "worker": lambda: session.run(feed),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(RUNS // 20 + 1):  # the first turn warms up
            for name, run in ways.items():
                time.sleep(0.1)  # until the other's threads have stopped to spin
                taken = _times(run, 20)
                if turn:
                    times[name] += taken
        same = np.array_equal(inside.run(None, feed)[0], next(iter(session.run(feed).values())))
    medians = {name: statistics.median(values) * 1e6 for name, values in times.items()}
    added = medians["worker"] - medians["in_process"]
    return {**medians, "added": added, "percent": 100 * added / medians["in_process"], "equal": bool(same)}


def _times(run: Callable[[], object], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return taken


def worker_text(row: dict) -> str:
    return (
        f"Worker process on a 1 ms model: {row['in_process']:.0f} µs in process, {row['worker']:.0f} µs in "
        f"the worker: {row['added']:+.0f} µs ({row['percent']:+.1f} %), medians of {RUNS} runs"
    )


def write_big_model(folder: Path, gigabytes: int = 5) -> Path:
    """A model of that many GB of external weights in 256 MB tensors; the data file is sparse and all zero."""
    tensors, each = gigabytes * 4, 256 << 20
    with (folder / "big.data").open("wb") as data:
        data.truncate(tensors * each)
    side = 8192
    graph = onnx.GraphProto(name="big")
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, side]))
    last = "x"
    for number in range(tensors):
        weight = graph.initializer.add(name=f"w{number}", data_type=TensorProto.FLOAT, dims=[side, side])
        weight.data_location = TensorProto.EXTERNAL
        entries = {"location": "big.data", "offset": str(number * each), "length": str(each)}
        for key, value in entries.items():
            weight.external_data.add(key=key, value=value)
        graph.node.append(helper.make_node("MatMul", [last, f"w{number}"], [f"y{number}"], f"matmul{number}"))
        last = f"y{number}"
    graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, side]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "big.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def big_load(folder: Path, watched: Callable[[list[str], Path], dict]) -> dict:
    """`wb.load` on a 5 GB model, and a process that merely imports workbench beside it."""
    path = write_big_model(folder)
    line = [sys.executable, "-m", "tests.bench.overhead"]
    return {
        name: watched([*line, name, str(path), str(folder / "result.json")], folder)
        for name in ("import", "load")
    }


def load_text(row: dict) -> str:
    load, bare = row["load"], row["import"]
    return (
        f"wb.load on a 5 GB model: {load['seconds']:.2f} s, peak {load['peak_bytes'] / 1e6:.0f} MB "
        f"(the imports alone: {bare['peak_bytes'] / 1e6:.0f} MB); {load['parameters']:,} parameters"
    )


def main(what: str, path: str, result: str) -> None:
    import workbench as wb

    wb.load  # noqa: B018 - imports what `load` needs
    started = time.perf_counter()
    figures: dict = {"seconds": 0.0}
    if what == "load":
        model = wb.load(path)
        figures = {"seconds": time.perf_counter() - started, "parameters": int(model.parameters)}
    Path(result).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
