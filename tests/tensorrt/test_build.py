"""Real builds with TensorRT-RTX, which needs no GPU for them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import real_models
from onnx import helper
from small_engines import mlp, model

import workbench as wb
from workbench.backends import Worker
from workbench.errors import (
    BackendCrashed,
    BackendError,
    BackendNotInstalled,
    BackendTimeout,
    BuildError,
    InputError,
)
from workbench.tensorrt import cache
from workbench.tensorrt.build import build
from workbench.tensorrt.log import Log, Progress

# what TensorRT-RTX 1.7 refuses, and why
REFUSED = {
    "silero_vad": ((), "Error Code 2: Internal Error (Assertion tScope.getType() != ScopeType::kUNDEFINED"),
    "silero_vad_16k_op15": ((), "Assertion tScope.getType() != ScopeType::kUNDEFINED"),
    "silero_vad_half": ((), "Assertion tScope.getType() != ScopeType::kUNDEFINED"),
    "minilm_int8": (
        ("inner.embeddings.word_embeddings.weight_cast",),
        "Quantized constant (inner.embeddings.word_embeddings.weight_q) is only allowed before DQ",
    ),
    "style_predict": (("style_image_int8",), "Non-zero zero point is not supported"),
    "style_transform": (
        ("transformer/residual/residual5/conv1/Conv2D_bias_dequant",),
        "input has type Int32 but must have type",
    ),
    "loop": (("cond___while_Less",), "Node input was not registered"),
}


def built(worker, model, **options):
    return build(model, worker=worker, progress=False, compute_capabilities=["8.6"], **options)


@pytest.mark.parametrize("name", [n for n in real_models.ALL_MODELS if n not in REFUSED])
def test_real_models_give_engines(rtx, real_model, name):
    model = wb.load(real_model(name))
    made = built(rtx, model, cache=False)
    assert made.library == "tensorrt_rtx"
    assert len(made.plan) > 10_000
    assert made.layers is None, "without a GPU there is nothing to inspect"
    assert made.seconds > 0
    assert made.peak_bytes > 50_000_000
    assert made.log.errors == []
    of = made.table.nodes
    mentioned = {node for nodes in of for node in nodes}
    assert mentioned <= set(model.nodes.index), "every origin is a node of the model"
    computing = made.table[~made.table.type.isin(["CONSTANT", "SHAPE", "SHUFFLE", "GATHER", "CONCATENATION"])]
    assert mentioned
    assert not computing.empty


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_which_node_and_why(rtx, real_model, name):
    nodes, reason = REFUSED[name]
    model = wb.load(real_model(name))
    with pytest.raises(BuildError) as caught:
        built(rtx, model)
    error = caught.value
    assert error.nodes == nodes
    assert reason in " ".join(error.reasons)
    assert re.match(rf"tensorrt cannot (parse|build) '{model.name}'", str(error))
    for node in nodes:
        assert repr(node) in str(error)
    assert "/_src/" not in str(error)
    assert error.log.errors


def test_the_network_as_a_table(rtx):
    made = built(rtx, mlp(), shapes={"batch": (1, 4, 32)})
    table = made.table
    assert table.loc["fc1", "type"] == "MATRIX_MULTIPLY"
    assert table.loc["relu", "nodes"] == ("relu",)
    assert table.loc["fc2", "outputs"] == ("y",)
    assert table.loc["fc2", "dtypes"] == ("FLOAT",)
    assert table.loc["fc2", "shapes"] == ((-1, 4),)
    assert repr(made).splitlines()[1] == "  profile 0: x 1…4…32×8"
    assert re.match(r"<Engine of 'small': [\d.]+ kB, \d+ layers parsed, tensorrt_rtx 1\.", repr(made))


def test_several_profiles_reach_the_builder(rtx):
    made = built(rtx, mlp(), profiles=[{"batch": 1}, {"batch": (2, 8, 64)}])
    assert [p.shapes["x"][2] for p in made.profiles] == [(1, 8), (64, 8)]
    assert len(made.plan) > len(built(rtx, mlp(), shapes={"batch": 1}).plan)
    assert not made.log.search("profile 1").empty


def test_an_engine_of_several_profiles_shows_them_and_asks_for_a_gpu_to_run(rtx):
    net = mlp()
    made = wb.tensorrt.Engine.from_build(built(rtx, net, profiles=[{"batch": 1}, {"batch": (2, 8, 64)}]))
    assert "profile 0: x 1×8\n" in str(made) and "profile 1: x 2…8…64×8\n" in str(made)
    if rtx.call("about")["gpus"]:
        pytest.skip("there is a GPU")
    for run in (wb.tensorrt.profile, wb.profile, lambda engine: wb.compare(net, engine)):
        with pytest.raises(BackendError, match="here is no GPU that NVIDIA's driver can reach. Build and run it on"):
            run(made)
    with pytest.raises(InputError, match=r"no optimisation profile of 'small' takes the inputs x \[65, 8\]"):
        wb.tensorrt.profile(made, shapes={"batch": 65})


def test_layers_are_called_alike_before_and_after_they_are_built(rtx):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Add", ["r", "c"], ["a"], "add"),
        helper.make_node("ReduceMean", ["a"], ["m"], "mean", axes=[2, 3], keepdims=0),
        helper.make_node("Softmax", ["m"], ["s"], "softmax"),
        helper.make_node("Transpose", ["s"], ["y"], "turn"),
    ]
    net = model(nodes, {"x": (1, 3, 8, 8)}, ["y"], {"w": np.ones((4, 3, 3, 3), "f4")})
    made = wb.tensorrt.Engine.from_build(built(rtx, net))
    kinds = made.layers.loc[["conv", "relu", "add", "mean", "softmax", "turn"], ["op_type", "layer_type"]]
    assert list(kinds["op_type"]) == ["Convolution", "Activation", "ElementWise", "Reduce", "SoftMax", "Shuffle"]
    assert list(kinds["layer_type"]) == ["CONVOLUTION", "ACTIVATION", "ELEMENTWISE", "REDUCE", "SOFTMAX", "SHUFFLE"]
    assert not any(kind.isupper() for kind in made.layers["op_type"] if kind not in ("NMS", "LRN"))


def test_quantising_is_no_finding_before_layers_are_fused(rtx):
    scale = {"s": np.float32(0.1), "z": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "back"),
        helper.make_node("Relu", ["d"], ["y"], "relu"),
    ]
    made = wb.tensorrt.Engine.from_build(built(rtx, model(nodes, {"x": (1, 8)}, ["y"], scale)))
    assert {"Quantize", "Dequantize"} <= set(made.layers["op_type"])
    assert made.lint().empty


def test_weights_in_external_files_are_found(rtx, tmp_path):
    net = mlp(width=4096)
    path = net.save(tmp_path / "external.onnx", external=True)
    assert (tmp_path / "external.onnx.data").exists()
    made = built(rtx, path, cache=False)
    assert made.network == built(rtx, net, cache=False).network


def test_saving_a_plan(rtx, tmp_path):
    made = built(rtx, mlp())
    assert made.save(tmp_path / "e.plan").read_bytes() == made.plan


# --- cache


def test_the_same_again_comes_from_the_cache(rtx, tmp_path):
    first = built(rtx, mlp(7))
    second = built(rtx, mlp(7).save(tmp_path / "same.onnx"))
    assert (first.cached, second.cached) == (False, True)
    assert second.plan == first.plan
    assert second.network == first.network
    assert second.log.records == first.log.records
    assert second.seconds == first.seconds
    assert "from the cache" in repr(second)


@pytest.mark.parametrize(
    "change",
    [
        {"model": mlp(1)},
        {"shapes": {"batch": 2}},
        {"compute_capabilities": ["8.9"]},
        {"tf32": False},
        {"config": {"max_aux_streams": 0}},
        {"debug_tensors": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_anything_else_is_built_anew(rtx, change):
    built(rtx, mlp())
    given = {"model": mlp(), "compute_capabilities": ["8.6"], **change}
    assert not build(given.pop("model"), worker=rtx, progress=False, **given).cached


def test_a_damaged_entry_is_built_again(rtx):
    first = built(rtx, mlp(8))
    (path,) = [p for p in cache.folder().glob("*.engine") if first.plan in p.read_bytes()]
    for damage in (path.read_bytes()[:-1], b"", b"WBENGINE", path.read_bytes().replace(b"fc1", b"fc3")):
        path.write_bytes(damage)
        assert not built(rtx, mlp(8)).cached
        assert built(rtx, mlp(8)).cached


def test_of_two_builders_at_once_one_builds(rtx):
    entry = cache.Entry(cache.key({"model": "the same"}))
    order = []

    def work(name):
        with entry.locked():
            found = entry.read()
            order.append((name, found is not None))
            if found is None:
                time.sleep(0.1)
                entry.write({"by": name}, b"plan" * 1000)
            return entry.read()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert [found for _, found in order] == [False, True, True, True]
    assert results == [({"by": order[0][0]}, b"plan" * 1000)] * 4
    assert sorted(p.suffix for p in entry.path.parent.glob(f"{entry.path.stem}*")) == [".engine", ".lock"]


def test_two_processes_want_the_same_engine(rtx):
    with Worker("tensorrt", timeout=60) as other, ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda w: built(w, mlp(9)), (rtx, other)))
    assert sorted(m.cached for m in made) == [False, True]
    assert made[0].plan == made[1].plan


def test_a_folder_that_cannot_be_written_is_named(rtx, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BackendError, match=r"cannot use the cache of engines in .*/file/.*give cache=False"):
        built(rtx, mlp())
    assert built(rtx, mlp(), cache=False).plan


# --- options


def test_a_timing_cache_is_written(rtx, tmp_path):
    built(rtx, mlp(10), timing_cache=tmp_path / "timing.cache")
    assert (tmp_path / "timing.cache").stat().st_size > 0


def test_capabilities_in_every_spelling(rtx):
    plans = {
        build(mlp(11), worker=rtx, progress=False, compute_capabilities=[given], cache=False).plan
        for given in ("8.6", 8.6, "SM86", "sm_86", (8, 6))
    }
    assert len({len(plan) for plan in plans}) == 1
    with pytest.raises(InputError, match=r"compute_capabilities: got '9.0', expected some of 7.5, 8.0, 8.6"):
        build(mlp(), worker=rtx, compute_capabilities=["9.0"])


def test_what_the_library_refuses_is_said_in_its_words(rtx):
    with pytest.raises(BuildError, match=r"tensorrt cannot build 'small'.*Error Code 1: Myelin"):
        built(rtx, mlp(), strip_weights=True)  # TensorRT-RTX wants a GPU for it


def test_a_backend_that_does_not_exist():
    with pytest.raises(InputError, match="backend='trt': expected 'tensorrt', 'tensorrt_rtx' or None"):
        build(mlp(), backend="trt")


def test_stubs_are_not_taken_for_the_library(tmp_path, monkeypatch):
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").write_text("class Builder: ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    if hasattr(__import__("tensorrt"), "Builder"):
        pytest.skip("the real library is installed")
    with pytest.raises(BackendNotInstalled, match=r"tensorrt has no Builder.*pip install trt-workbench\["):
        Worker("tensorrt", library="tensorrt").version  # noqa: B018


# --- log, progress, cancel, crash


def test_the_log_is_a_table_to_search(rtx):
    log = built(rtx, mlp()).log
    assert len(log) > 50
    assert {"VERBOSE", "INFO"} <= set(log.table.severity)
    assert log.table.seconds.is_monotonic_increasing
    assert log.search(r"fc\d").message.str.contains("fc1|fc2").all()
    assert len(log.search("FC1")) == len(log.search("fc1")) > 0
    assert set(log.search(".", severity="info").severity) == {"INFO"}
    assert repr(Log(((0.0, "WARNING", "w"), (0.1, "ERROR", "e")))) == "<Log: 2 messages, 1 error, 1 warning>"
    assert Log(((0.0, "ERROR", "e"), (0.1, "ERROR", "e"))).errors == ["e"]


def test_progress_of_nested_phases():
    progress = Progress()
    seen = []
    for line in (
        ["phase", "build", None, 2],
        ["phase", "parse", "build", 4],
        ["step", "parse", 1],
        ["done", "parse"],
        ["step", "build", 0],
        ["phase", "tune", "build", 10],
        ["step", "tune", 4],
        ["done", "tune"],
        ["step", "build", 1],
        ["done", "build"],
    ):
        progress.take(line)
        seen.append((round(progress.done, 3), progress.phase))
    assert [done for done, _ in seen] == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0]
    assert seen[6][1] == "tune"


def test_a_real_build_reports_its_progress(rtx, monkeypatch, capsys):
    from workbench.tensorrt import log as module

    seen = []
    take = Progress.take
    monkeypatch.setattr(
        module.Progress, "take", lambda self, line: (take(self, line), seen.append(self.done))
    )
    build(mlp(12), worker=rtx, progress=True)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[-1] == 1.0
    assert len(set(seen)) > 10


def test_the_stop_button_ends_a_build_within_a_second(real_model):
    script = f"""
import signal, sys, time
import workbench as wb
from workbench.backends import Worker
signal.signal(signal.SIGINT, signal.default_int_handler)
worker = Worker("tensorrt")
worker.version
from workbench.tensorrt import log
take = log.Progress.take
def say(self, line):
    if line[0] == "phase":
        print(worker.pid, flush=True)
    take(self, line)
log.Progress.take = say
try:
    wb.tensorrt.build({str(real_model("light_densenet121"))!r}, worker=worker, progress=False, cache=False)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    while "interrupted" not in process.stdout.readline():
        pass
    took = time.monotonic() - start
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert took < 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_abort_in_the_library_is_an_error_with_the_end_of_the_log(real_model, monkeypatch):
    with Worker("tensorrt", timeout=60) as worker:
        take = Progress.take

        def abort(self, line):
            take(self, line)
            with contextlib.suppress(ProcessLookupError):  # it has died of the first
                os.kill(worker.pid, signal.SIGABRT)

        monkeypatch.setattr(Progress, "take", abort)
        with pytest.raises(
            BackendCrashed,
            match=r"tensorrt died \(.*SIGABRT.*\) in phase build of model 'light_densenet121'.*The log ends with: ",
        ):
            build(real_model("light_densenet121"), worker=worker, progress=False, cache=False)


def test_a_build_that_takes_too_long_is_ended_and_says_how_far_it_came(real_model):
    with Worker("tensorrt", timeout=30) as worker:
        worker.version  # noqa: B018
        worker.timeout = 1
        with pytest.raises(
            BackendTimeout, match=r"no answer within 1 s .*'light_densenet121'.*The log ends with: "
        ):
            build(real_model("light_densenet121"), worker=worker, progress=False, cache=False)
