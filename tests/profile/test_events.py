"""Reading ONNX Runtime's profiling file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import ProfileError
from workbench.profile.events import read


def kernel(name: str, op_type: str, ts: int, dur: int, inputs: list | None = None) -> dict:
    args = {"op_name": op_type, "input_type_shape": inputs or [], "output_type_shape": [{"float": [1, 2]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": args}


def run(ts: int, dur: int) -> dict:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "args": {}}


def write(folder: Path, events: list[dict]) -> Path:
    path = folder / "events.json"
    path.write_text(json.dumps(events))
    return path


def test_only_the_measured_runs_count(tmp_path: Path) -> None:
    events = []
    for start, us in ((0, 900), (1000, 10), (2000, 30), (3000, 20)):
        events += [
            kernel("a", "Conv", start + 5, us, [{"float": [1, 3]}, {"int64": [2]}]),
            run(start, us + 10),
        ]
    (layer,) = read(write(tmp_path, events), [1, 3])
    assert (layer.name, layer.op_type, layer.calls) == ("a", "Conv", 1)
    np.testing.assert_allclose(layer.ms, [0.010, 0.020])
    assert layer.shapes == [([("float32", (1, 3)), ("int64", (2,))], [("float32", (1, 2))])]


def test_a_loop_s_body_is_summed_and_counted_once(tmp_path: Path) -> None:
    events = [
        kernel("before", "Add", 0, 9),
        kernel("inner", "MatMul", 12, 30),
        kernel("deep", "Mul", 44, 4),
        kernel("choice", "If", 43, 6),
        kernel("inner", "MatMul", 55, 40),
        kernel("loop", "Loop", 10, 100),
        kernel("after", "Add", 110, 5),
        run(0, 120),
    ]
    layers = {layer.name: layer for layer in read(write(tmp_path, events), [0])}
    assert {name: float(layer.ms[0]) for name, layer in layers.items()} == pytest.approx(
        {"before": 0.009, "loop": 0.024, "inner": 0.070, "choice": 0.002, "deep": 0.004, "after": 0.005}
    )
    assert sum(float(layer.ms[0]) for layer in layers.values()) == pytest.approx(0.009 + 0.100 + 0.005)
    assert layers["inner"].calls == 2
    assert layers["inner"].parent == ("loop",)
    assert layers["deep"].parent == ("loop", "choice")
    assert layers["after"].parent == ()


def test_times_cut_to_whole_microseconds_do_not_move_a_layer_out_of_its_loop(tmp_path: Path) -> None:
    events = [
        kernel("loop", "Loop", 10, 10),
        kernel("first", "Add", 10, 3),
        kernel("last", "Add", 19, 2),  # 19.4 to 21.2, the loop 10.9 to 21.3
        kernel("after", "Add", 21, 2),
        run(0, 30),
    ]
    layers = {layer.name: layer for layer in read(write(tmp_path, events), [0])}
    assert [layers[name].parent for name in ("first", "last", "after")] == [("loop",), ("loop",), ()]
    assert float(layers["loop"].ms[0]) == pytest.approx(0.005)


def test_a_file_without_the_runs_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, [kernel("a", "Add", 0, 1), run(0, 2)])
    with pytest.raises(
        ProfileError, match=r"holds 1 whole runs \(2 events\), expected 3; it stops at a million"
    ):
        read(path, [1, 2])
    path.write_text("[{]")
    with pytest.raises(ProfileError, match="the profiling file of ONNX Runtime cannot be read: "):
        read(path, [0])
