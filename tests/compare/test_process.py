"""A comparison and what surrounds it: a runtime that crashes or hangs, Ctrl-C, models of many gigabytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from compare import small

import workbench as wb
from workbench.errors import BackendCrashed, BackendTimeout

ROOT = Path(__file__).resolve().parents[2]
GB = 1 << 30


def worker_processes() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "workbench" in " ".join(child.cmdline())
    ]


def busy(process: psutil.Process) -> bool:
    """Whether the process has computed for a while: it is in the endless loop."""
    return process.cpu_times().user > 1.0


def wait_for(condition, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_candidate_that_kills_its_runtime(number: signal.Signals):
    before = set(worker_processes())

    def kill() -> None:
        wait_for(lambda: any(map(busy, set(worker_processes()) - before)))
        for process in set(worker_processes()) - before:
            process.send_signal(number)

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(BackendCrashed) as caught:
        wb.compare(small.forever(), small.forever(), [{"x": np.ones(4, np.float32)}], progress=False)
    error = caught.value
    assert (error.backend, error.phase) == ("onnxruntime", "run")
    assert str(error).startswith(f"onnxruntime died ({number.name}")
    assert "phase run of model 'small [relu … endless]'; the notebook is unharmed" in str(error)
    assert ("most likely out of memory" in str(error)) == (number == signal.SIGKILL)
    assert set(worker_processes()) <= before
    again = wb.compare(small.mlp(), small.mlp(1.1), [{"x": np.ones((2, 8), np.float32)}], progress=False)
    assert again.first_divergence().node == "second"


def test_a_candidate_that_hangs_is_ended():
    before = set(worker_processes())
    started = time.monotonic()
    with pytest.raises(
        BackendTimeout, match="^onnxruntime gave no answer within 2 s .phase: run, model: 'small "
    ) as caught:
        wb.compare(
            small.forever(), small.forever(), [{"x": np.ones(4, np.float32)}], timeout=2, progress=False
        )
    assert time.monotonic() - started < 8
    assert caught.value.phase == "run"
    assert set(worker_processes()) <= before


INTERRUPTED = """
import sys
sys.path.insert(0, "tests")
import numpy as np, signal, time
from compare import small
import workbench as wb
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
print("ready", flush=True)
try:
    wb.compare(small.forever(), small.forever(), [{"x": np.ones(4, np.float32)}], progress=False)
except KeyboardInterrupt:
    print("interrupted", flush=True)
comparison = wb.compare(small.mlp(), small.mlp(1.1), [{"x": np.ones((2, 8), np.float32)}], progress=False)
print("alive", comparison.first_divergence().node, flush=True)
time.sleep(60)
"""


def test_ctrl_c_ends_the_runtime_within_a_second_and_nothing_else():
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        tree = psutil.Process(process.pid)
        wait_for(lambda: any(map(busy, tree.children(recursive=True))))
        running = tree.children(recursive=True)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        wait_for(lambda: not any(child.is_running() for child in running), 5.0)
        assert time.monotonic() - started < 5.0  # far under a second on an idle machine
        assert process.stdout.readline() == "alive second\n"
        wait_for(lambda: not tree.children(recursive=True), 2.0)
    finally:
        process.kill()
        process.wait()


def test_a_killed_notebook_leaves_no_runtime_behind():
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        tree = psutil.Process(process.pid)
        wait_for(lambda: any(map(busy, tree.children(recursive=True))))
        running = tree.children(recursive=True)
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(running, timeout=2)
    assert not alive


def write_big(folder: Path, layers: int, side: int) -> Path:
    """MatMuls in a row with `side`² float32 weights in one sparse external file: ones here and there."""
    each = side * side * 4
    data = folder / "big.data"
    with data.open("wb") as file:
        file.truncate(layers * each)
        for layer in range(layers):
            for at in range(0, side, 64):
                file.seek(layer * each + (at * side + at) * 4)
                file.write(np.float32(1).tobytes())
    graph = onnx.GraphProto(name="big")
    graph.input.append(onnx.helper.make_tensor_value_info("x", 1, [1, side]))
    last = "x"
    for layer in range(layers):
        weight = graph.initializer.add(name=f"w{layer}", data_type=1, dims=[side, side])
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "big.data", "offset": layer * each, "length": each}.items():
            weight.external_data.add(key=key, value=str(value))
        graph.node.append(
            onnx.helper.make_node("MatMul", [last, f"w{layer}"], [f"y{layer}"], f"matmul{layer}")
        )
        last = f"y{layer}"
    graph.output.append(onnx.helper.make_tensor_value_info(last, 1, [1, side]))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "big.onnx"
    path.write_bytes(model.SerializeToString())
    return path


BIG = """
import json, sys
import numpy as np
import onnx
import workbench as wb
path, changed = sys.argv[1:3]
x = np.zeros((1, 8192), np.float32)
x[0, ::64] = np.arange(128)
c = wb.compare(path, changed, {"x": x}, memory_budget=64 << 20, progress=False)
row = c.first_divergence(0)
print(json.dumps({"ok": c.ok, "first": row.node, "compared": int((c.table.status == "compared").sum()),
                  "max": float(c.table.ref_max["y9"]),
                  "local": c.table.index[c.table.local_max_abs > 0].tolist(),
                  "segments": c.meta["segments"], "value": float(c["y4"].candidate.max())}))
"""


def test_a_model_of_more_than_two_gigabytes(tmp_path: Path):
    """Two models of ten layers of 256 MB: the budget and a layer of each track are in memory, some twice."""
    path = write_big(tmp_path, 10, 8192)
    assert (tmp_path / "big.data").stat().st_size > 2 * GB
    model = onnx.load(path, load_external_data=False)
    model.graph.node.insert(5, onnx.helper.make_node("Mul", ["y4/raw", "two"], ["y4"], "planted"))
    model.graph.node[4].output[0] = "y4/raw"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(2), "two"))
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(model.SerializeToString())
    seen, out = tmp_path / "seen.json", tmp_path / "out.json"
    command = [
        sys.executable,
        "-m",
        "tests.bench.watch",
        "--json",
        str(seen),
        "--",
        sys.executable,
        "-c",
        BIG,
    ]
    with out.open("w") as sink:
        subprocess.run([*command, str(path), str(changed)], cwd=ROOT, stdout=sink, check=True, timeout=120)
    found, figures = json.loads(out.read_text()), json.loads(seen.read_text())
    assert found["first"] == "matmul4" and found["local"] == ["y4"]
    assert found["compared"] == 10 and not found["ok"]
    assert found["max"] == 127 and found["value"] == 254
    assert found["segments"] > 1
    assert figures["peak_bytes"] < 5 * (256 << 20) + (64 << 20) + 250e6, figures
    assert figures["left_behind"] == [] and figures["left_in_shm"] == []
    assert figures["seconds"] < 30


def test_nothing_stays_open_after_many_comparisons():
    one, two, feed = small.mlp(), small.mlp(1.1), {"x": np.ones((2, 8), np.float32)}
    wb.compare(one, two, feed, progress=False)
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    others = set(worker_processes())  # the one that compiles CUDA is kept, if other tests have used it
    for _ in range(10):
        wb.compare(one, two, feed, progress=False)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert threading.active_count() <= threads + 1
    assert not [child for child in set(worker_processes()) - others if child.is_running()]
