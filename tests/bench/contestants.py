"""The ways to compare two models layer by layer that the bench sets side by side, one to a process.

    python -m tests.bench.contestants NAME REFERENCE CANDIDATE FEEDS RESULT

`FEEDS` is an .npz of `<number>/<input name>` arrays. Everything is imported before the clock starts; the time
of the call alone is written to `RESULT` with a few figures that show that the work was done.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Feeds = list[dict[str, np.ndarray]]


def polygraphy(reference: str, candidate: str, feeds: Feeds) -> Callable[[], dict]:
    """Polygraphy as its documentation shows it: mark every tensor, run both, compare the results."""
    import onnxruntime
    from polygraphy import constants
    from polygraphy.backend.onnx import BytesFromOnnx, ModifyOutputs, OnnxFromPath
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.comparator import Comparator

    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    def runner(path: str, name: str):
        marked = BytesFromOnnx(ModifyOutputs(OnnxFromPath(path), outputs=constants.MARK_ALL))
        return OnnxrtRunner(SessionFromOnnx(marked, graph_optimization_level=level), name=name)

    def call() -> dict:
        results = Comparator.run(
            [runner(reference, "reference"), runner(candidate, "candidate")], data_loader=feeds
        )
        accuracy = Comparator.compare_accuracy(results)
        return {"ok": bool(accuracy), "tensors": len(results[0][1][0])}

    return call


def polygraphy_streaming(reference: str, candidate: str, feeds: Feeds) -> Callable[[], dict]:
    """The same with `streaming=True`: one input at a time is held instead of all."""
    import onnxruntime
    from polygraphy import constants
    from polygraphy.backend.onnx import BytesFromOnnx, ModifyOutputs, OnnxFromPath
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.comparator import Comparator

    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    def runner(path: str, name: str):
        marked = BytesFromOnnx(ModifyOutputs(OnnxFromPath(path), outputs=constants.MARK_ALL))
        return OnnxrtRunner(SessionFromOnnx(marked, graph_optimization_level=level), name=name)

    def call() -> dict:
        runners = [runner(reference, "reference"), runner(candidate, "candidate")]
        accuracy = Comparator.compare_accuracy(Comparator.run(runners, data_loader=feeds, streaming=True))
        return {"ok": bool(accuracy)}

    return call


def merely_running(reference: str, candidate: str, feeds: Feeds) -> Callable[[], dict]:
    """Both models run without optimisation and without any added output: no comparison can be cheaper."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3

    def call() -> dict:
        runs = 0
        for path in (reference, candidate):
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for feed in feeds:
                session.run(None, feed)
                runs += 1
        return {"runs": runs}

    return call


def workbench(reference: str, candidate: str, feeds: Feeds, *, local: bool) -> Callable[[], dict]:
    """`wb.compare` as a user calls it."""
    import onnx_ir  # noqa: F401

    import workbench as wb

    compare = wb.compare

    def call() -> dict:
        comparison = compare(reference, candidate, feeds, local=local, progress=False)
        return {
            "ok": bool(comparison.ok),
            "tensors": sum(record["status"] == "compared" for record in comparison.records),
            "of": len(comparison.records),
            "meta": {
                key: value for key, value in comparison.meta.items() if isinstance(value, int | float | str)
            },
        }

    return call


CONTESTANTS: dict[str, Callable[[str, str, Feeds], Callable[[], dict]]] = {
    "merely running both": merely_running,
    "wb.compare(local=False)": lambda *given: workbench(*given, local=False),
    "wb.compare(local=True)": lambda *given: workbench(*given, local=True),
    "Polygraphy, all marked": polygraphy,
    "Polygraphy, streaming": polygraphy_streaming,
}


def load_feeds(path: str) -> Feeds:
    """The feeds that `save_feeds` wrote, in their order."""
    feeds: dict[int, dict[str, np.ndarray]] = {}
    with np.load(path) as data:
        for key in data.files:
            number, _, name = key.partition("/")
            feeds.setdefault(int(number), {})[name] = data[key]
    return [feeds[number] for number in sorted(feeds)]


def save_feeds(path: str, feeds: Feeds) -> None:
    np.savez(
        path,
        **{f"{number}/{name}": array for number, feed in enumerate(feeds) for name, array in feed.items()},
    )


def main(name: str, reference: str, candidate: str, feeds: str, result: str) -> None:
    call = CONTESTANTS[name](reference, candidate, load_feeds(feeds))
    started = time.perf_counter()
    figures = call()
    figures["seconds"] = time.perf_counter() - started
    Path(result).write_text(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
