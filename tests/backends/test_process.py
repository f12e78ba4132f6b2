"""The worker process: results, errors with names, crashes, hangs, interruption; nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from workbench.backends import Worker, process
from workbench.errors import BackendCrashed, BackendFailed, BackendNotInstalled, BackendTimeout


def model(*nodes, inputs=("x",), outputs=("y",), dtype=TensorProto.FLOAT) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(n, dtype, None) for n in inputs],
        [helper.make_tensor_value_info(n, dtype, None) for n in outputs],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


DOUBLE = model(helper.make_node("Add", ["x", "x"], ["y"], "double"))
# about 2^40 multiplications per second of hang: a Loop that goes on for a very long time
FOREVER = helper.make_node(
    "Loop",
    ["n", "", "x"],
    ["y"],
    "endless",
    body=helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Add", ["v", "v"], ["v2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, [1]),
        ],
    ),
)


def endless() -> bytes:
    count = helper.make_node(
        "Constant", [], ["n"], value=helper.make_tensor("n", TensorProto.INT64, [], [1 << 60])
    )
    return model(count, FOREVER)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def worker():
    with Worker("onnxruntime", timeout=30) as w:
        yield w
    assert gone(w.pid)


def test_run_gives_the_values(worker):
    session = worker.load(DOUBLE, name="double", optimize="none")
    x = np.arange(6, dtype="f4").reshape(2, 3)
    for _ in range(3):
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)
    assert session.run({"x": np.zeros((0, 3), "f4")})["y"].shape == (0, 3)
    assert session.run({"x": np.float32(4)})["y"] == 8
    assert session.description["inputs"] == [("x", "float32", ())]
    assert worker.version.count(".") == 2


def test_outputs_outlive_the_worker():
    with Worker("onnxruntime") as w:
        y = w.load(DOUBLE).run({"x": np.ones(1000, "f4")})["y"]
    assert y.sum() == 2000


def test_strings_and_uniform_results(worker):
    session = worker.load(
        model(helper.make_node("Identity", ["x"], ["y"]), dtype=TensorProto.STRING), optimize="none"
    )
    assert session.run({"x": np.array(["ä", "b"], object)})["y"].tolist() == ["ä", "b"]
    session = worker.load(DOUBLE)
    y = session.run({"x": np.full((300, 400), 3, "f4")})["y"]
    assert y.flags.writeable
    assert (y == 6).all()


@pytest.mark.parametrize("dtype", ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT16"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
def test_dtypes_that_numpy_lacks(worker, dtype, shape):
    code = getattr(TensorProto, dtype)
    kind = helper.tensor_dtype_to_np_dtype(code)
    nodes = (helper.make_node("Cast", ["x"], ["y"], to=code),)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", code, None)],
    )
    to = worker.load(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9
        ).SerializeToString()
    )
    x = np.full(shape, 1.75, "f4")
    for _ in range(2):
        y = to.run({"x": x})["y"]
        assert (y.dtype, y.shape) == (kind, shape)
        assert (y.astype("f4") == 1.75).all()
    block = worker.store(x)
    placed = to.result(to.submit({"x": block}, None, {"y": shape}))["y"]
    assert to.array(placed).tobytes() == x.astype(kind).tobytes()


def test_sessions_overlap_and_do_not_mix():
    with Worker("onnxruntime", parallel=3, pool=1) as w:
        sessions = [w.load(DOUBLE, name=str(i)) for i in range(3)]
        feeds = [{"x": w.store(np.full(5000, i, "f4") + np.arange(5000, dtype="f4"))} for i in range(3)]
        numbers = [(s, s.submit(f)) for _ in range(20) for s, f in zip(sessions, feeds, strict=True)]
        for k, (session, number) in enumerate(numbers):
            block = session.result(number)["y"]
            np.testing.assert_array_equal(session.array(block), 2 * (k % 3 + np.arange(5000, dtype="f4")))
            session.free([block])
        assert w.peak_bytes() < 3_000_000


def test_a_wrong_expected_shape_costs_nothing_but_time(worker):
    session = worker.load(DOUBLE)
    block = worker.store(np.ones((2, 3), "f4"))
    for expected in ({"y": (7,)}, {"y": (2, 3)}, {}):
        result = session.result(session.submit({"x": block}, None, expected))
        np.testing.assert_array_equal(session.array(result["y"]), np.full((2, 3), 2))


def test_errors_name_runtime_model_and_phase(worker):
    with pytest.raises(BackendFailed, match=r"onnxruntime could not load 'junk': .*protobuf") as caught:
        worker.load(b"junk", name="junk").run({})
    assert (caught.value.backend, caught.value.model, caught.value.phase) == ("onnxruntime", "junk", "load")
    session = worker.load(DOUBLE, name="double")
    with pytest.raises(BackendFailed, match=r"onnxruntime could not run 'double'.*data type") as caught:
        session.run({"x": np.zeros(3, "i8")})
    assert caught.value.phase == "run"
    np.testing.assert_array_equal(session.run({"x": np.ones(2, "f4")})["y"], [2, 2])  # it still works


def test_a_runtime_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(
        BackendNotInstalled, match=r"nonesuch cannot be imported: No module named .*pip install trt-workbench"
    ):
        Worker("nonesuch").version  # noqa: B018


@pytest.mark.parametrize(
    ("sent", "said"), [("SIGSEGV", "SIGSEGV"), ("SIGABRT", "SIGABRT"), ("SIGKILL", "out of memory")]
)
def test_a_crash_is_an_error(worker, sent, said):
    session = worker.load(endless(), name="net")
    session.description  # noqa: B018
    x = worker.store(np.ones(1, "f4"))
    number = session.submit({"x": x})
    threading.Timer(0.2, os.kill, (worker.pid, getattr(signal, sent))).start()
    with pytest.raises(BackendCrashed, match=rf"onnxruntime died \(.*{said}.*\) in phase run of model 'net'"):
        session.result(number)
    with pytest.raises(BackendCrashed, match="died"):
        session.submit({"x": x})


def test_a_hang_is_ended():
    with Worker("onnxruntime", timeout=1) as w:
        session = w.load(endless(), name="net")
        start = time.monotonic()
        with pytest.raises(
            BackendTimeout, match=r"no answer within 1 s \(phase: run, model: 'net'\).*larger timeout="
        ):
            session.run({"x": np.ones(1, "f4")})
        assert time.monotonic() - start < 10
        assert gone(w.pid)


def test_memory_that_is_not_there(worker):
    huge = helper.make_tensor("shape", TensorProto.INT64, [1], [1 << 44])
    nodes = (
        helper.make_node("Constant", [], ["s"], value=huge),
        helper.make_node("Expand", ["x", "s"], ["y"], "grow"),
    )
    with pytest.raises(BackendFailed, match="could not run 'huge'.*grow"):
        worker.load(model(*nodes), name="huge").run({"x": np.ones(1, "f4")})


@pytest.mark.parametrize("busy", ["submit", "wait"])
def test_ctrl_c_ends_the_run_and_leaves_no_process(tmp_path, busy):
    (tmp_path / "m.onnx").write_bytes(endless())
    script = f"""
import signal, sys, time, numpy as np
from workbench.backends import Worker, process
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
w = Worker("onnxruntime"); s = w.load(open({str(tmp_path / "m.onnx")!r}, "rb").read(), name="net"); s.description
print(w.pid, flush=True)
try:
    if {busy!r} == "wait":
        s.run({{"x": np.ones(1, "f4")}})
    else:
        s.submit({{"x": w.store(np.ones(1, "f4"))}}); time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    time.sleep(0.3)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert said.strip() == "interrupted"
    assert process.returncode == 0
    assert time.monotonic() - start < 5  # a second on an idle machine
    assert gone(pid)


def test_a_killed_notebook_leaves_no_process(tmp_path):
    (tmp_path / "m.onnx").write_bytes(endless())
    script = f"""
import numpy as np
from workbench.backends import Worker, process
w = Worker("onnxruntime"); s = w.load(open({str(tmp_path / "m.onnx")!r}, "rb").read()); s.description
s.submit({{"x": w.store(np.ones(1, "f4"))}})
print(w.pid, flush=True)
import time; time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while not gone(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert gone(pid)


def test_closing_twice_and_using_after(worker):
    session = worker.load(DOUBLE)
    worker.close()
    worker.close()
    with pytest.raises(BackendCrashed, match="was closed"):
        session.run({"x": np.ones(1, "f4")})


def test_the_next_worker_is_not_heard_by_the_last_ones_listener(monkeypatch):
    listen = process._listen

    def slow(*arguments):
        listen(*arguments)
        time.sleep(0.2)

    monkeypatch.setattr(process, "_listen", slow)
    before = set(threading.enumerate())
    with Worker("onnxruntime"):
        during = set(threading.enumerate()) - before
    assert len(during) == 1
    assert not any(thread.is_alive() for thread in during), "it would read from a descriptor given anew"


def test_external_weights_are_read_in_place(worker, tmp_path):
    weights = np.arange(4096, dtype="f4")
    (tmp_path / "w.bin").write_bytes(b"\0" * 128 + weights.tobytes())
    proto = onnx.ModelProto.FromString(model(helper.make_node("Add", ["x", "w"], ["y"])))
    tensor = proto.graph.initializer.add(
        name="w", data_type=1, dims=[4096], data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": str(tmp_path / "w.bin")[1:], "offset": "128", "length": "16384"}.items():
        tensor.external_data.add(key=key, value=value)
    y = worker.load(proto.SerializeToString()).run({"x": np.ones(1, "f4")})["y"]
    np.testing.assert_array_equal(y, weights + 1)
