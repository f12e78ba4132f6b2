"""Running, profiling and comparing engines, against a stand-in that holds us to TensorRT's documented contract."""

from __future__ import annotations

import ctypes
import json
import pickle
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import helper
from small_engines import mlp, model

import workbench as wb
from workbench.backends import Worker
from workbench.backends.tensorrt import running
from workbench.backends.tensorrt.running import address, nbytes, packed, unpacked
from workbench.errors import BackendFailed, CompareError, EngineError, InputError, ProfileError
from workbench.inputs import feeds
from workbench.tensorrt import Engine, profile
from workbench.tensorrt.build import BuildResult
from workbench.tensorrt.debug import INTERNAL, NOT_THERE
from workbench.tensorrt.debug import compare as compare_engine
from workbench.tensorrt.log import Log
from workbench.tensorrt.profiles import make

PARSED = {
    "name": "fc1",
    "type": "MATRIX_MULTIPLY",
    "inputs": [],
    "outputs": [],
    "metadata": "[ONNX Layer: fc1]",
}
FAKE = Path(__file__).parent / "fake"


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """The workers of these tests find the stand-in where TensorRT would be."""
    monkeypatch.syspath_prepend(str(FAKE))


@pytest.fixture(scope="module")
def worker():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKE))
        with Worker("tensorrt", library="tensorrt", timeout=60) as made:
            assert made.version == "10.13.2"
            yield made


def engine_of(
    net: wb.Model, computes: wb.Model | None = None, *, profiles=None, layers=None, **options
) -> Engine:
    """An engine of a model, which computes it (or another model, to be wrong)."""
    found = make(net, profiles=profiles or [{}])
    about = {"onnx": (computes or net).to_proto().SerializeToString(),
             "profiles": [dict(p.shapes) for p in found], **options}  # fmt: skip
    built = BuildResult(
        plan=b"FAKE" + pickle.dumps(about), library="tensorrt", version="10.13.2", seconds=1.0, peak_bytes=1, log=Log(),
        layers=layers, network=[PARSED], profiles=found, model=net, settings={"debug": True},
    )  # fmt: skip
    return Engine.from_build(built)


def deep(wrong: int | None = None, depth: int = 6) -> wb.Model:
    """x [batch, 16] -> depth times (MatMul, Tanh); the weight of one layer may be wrong."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], {}, "x"
    for i in range(depth):
        weights[f"w{i}"] = rng.normal(size=(16, 16)).astype("f4") / 4
        if i == wrong:
            weights[f"w{i}"] *= np.float32(1.25)
        nodes += [helper.make_node("MatMul", [last, f"w{i}"], [f"h{i}"], f"mm{i}"),
                  helper.make_node("Tanh", [f"h{i}"], [f"t{i}"], f"tanh{i}")]  # fmt: skip
        last = f"t{i}"
    return model(nodes, {"x": ("batch", 16)}, [last], weights)


def against(worker: Worker, net: wb.Model, engine: Engine, *args, **options):
    """As ``wb.compare(net, engine)``, in a worker that is there already."""
    return compare_engine(net, engine.built, *args, worker=worker, progress=False, **options)


HANDED = {f"t{i}": f"t{i}" for i in range(5)}  # all but the h: MatMul and Tanh are fused


# --- values


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn", "int4", "int64", "bool"]
)
@pytest.mark.parametrize("shape", [(3, 5), (), (0, 4)])
def test_values_of_every_type_survive_the_way(dtype, shape):
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    array = np.asarray(np.random.default_rng(0).integers(-7, 8, shape)).astype(kind)
    data = packed(array)
    assert data.nbytes == nbytes(dtype, shape)
    again = unpacked(data, dtype, shape)
    assert (again.dtype, again.shape) == (kind, shape)
    assert again.tobytes() == array.tobytes()


def test_int4_lies_two_to_a_byte_the_first_below():
    array = np.array([1, -2, 7], ml_dtypes.int4)
    assert packed(array).tolist() == [0xE1, 0x07]


def test_an_address_comes_as_a_number_or_in_a_capsule():
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    assert address(new(0x1234, None, None)) == 0x1234
    assert address(0x1234) == 0x1234


def test_outputs_are_the_engine_s(worker):
    net = mlp()
    session = worker.load(engine_of(net).plan, name="engine")
    assert session.description["inputs"] == [("x", "float32", (-1, 8))]
    x = np.random.default_rng(1).normal(size=(1, 8)).astype("f4")
    weights = {t.name: t.const_value.numpy() for t in net.ir.graph.initializers.values()}
    expected = np.maximum(x @ weights["w1"], 0) @ weights["w2"]
    for _ in range(3):
        np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-5)


def test_an_output_of_bf16_comes_as_bf16(worker):
    session = worker.load(engine_of(mlp(), dtypes={"y": "BF16"}).plan)
    assert session.run({"x": np.ones((1, 8), "f4")})["y"].dtype.name == "bfloat16"


def test_an_engine_of_another_gpu_is_refused(worker):
    with pytest.raises(
        BackendFailed, match=r"tensorrt could not load 'other': TensorRT cannot load the engine: it needs"
    ):
        worker.load(b"OTHER", name="other").description  # noqa: B018


def test_where_there_is_no_gpu_the_message_says_what_can_be_done(monkeypatch):
    for devices, here in (
        ([], "here is no GPU that NVIDIA's driver can reach. Build and run it on a machine with such a GPU; "),
        ([{"name": "NVIDIA H100", "capability": "9.0"}],
         "here are NVIDIA H100 (compute capability 9.0) and version 10.13.2. Build and run it"),
    ):  # fmt: skip
        monkeypatch.setattr(running, "devices", lambda found=devices: found)
        said = running._refused("10.13.2")
        assert here in said
        assert said.endswith("are read anywhere, with workbench.tensorrt.load(layers_json, times_json)")


# --- profile


def test_times_for_each_profile_and_shape(worker):
    made = engine_of(mlp(), profiles=[{"batch": 1}, {"batch": (2, 4, 8)}])
    runs = profile(made, worker=worker, runs=3, warmup=1)
    assert [(m.profile, m.shapes) for m in runs.measurements] == [(0, {"x": (1, 8)}), (1, {"x": (4, 8)})]
    assert list(runs.latency.ms) == [0.5, 0.5]
    assert list(runs.latency.recorded_ms) == [0.75, 0.75]
    assert list(runs.table.columns) == [
        "profile",
        "shapes",
        "layer",
        "ms",
        "mean_ms",
        "p95_ms",
        "share",
        "runs",
    ]
    assert set(runs.table.runs) == {3}
    assert "add up to more than the latency" in repr(runs)


def timed(names: list[str], **options) -> Engine:
    built = engine_of(mlp(), profiles=[{"batch": (1, 2, 8)}]).built
    about = pickle.loads(built.plan[4:]) | {"layers": names, **options}
    return Engine.from_build(replace(built, plan=b"FAKE" + pickle.dumps(about)))


def test_layers_of_one_name_are_told_apart_and_sums_are_more_than_the_latency(worker):
    runs = profile(timed(["a", "b", "a"]), worker=worker, runs=4)
    assert list(zip(runs.table.layer, runs.table.ms, strict=True)) == [("a", 0.5), ("b", 0.75), ("a", 1.0)]
    assert runs.latency.sum_ms[0] == 2.25 > runs.latency.ms[0] == 1.5
    assert runs.table.share.sum() == pytest.approx(1)


def test_shapes_are_measured_with_every_profile_that_takes_them(worker):
    made = engine_of(mlp(), profiles=[{"batch": (1, 1, 4)}, {"batch": (2, 4, 8)}])
    runs = profile(made, worker=worker, shapes=[{"batch": 1}, {"batch": 3}, {"batch": 8}], runs=1)
    assert [(m.profile, m.shapes["x"][0]) for m in runs.measurements] == [(0, 1), (0, 3), (1, 3), (1, 8)]
    with pytest.raises(
        InputError, match=r"no optimisation profile of 'small' takes the inputs x \[9, 8\]; there are: x 1"
    ):
        profile(made, worker=worker, shapes={"batch": 9})


def test_wb_profile_gives_the_engine_with_times():
    net = mlp()
    layers = {"Layers": [{"Name": n, "LayerType": "gemm", "Inputs": [], "Outputs": [], "Metadata": f"[ONNX Layer: {n}]"}
                         for n in ("fc1", "relu", "fc2")], "Bindings": []}  # fmt: skip
    built = engine_of(net, layers=json.dumps(layers)).built
    about = pickle.loads(built.plan[4:]) | {"layers": ["fc1", "relu", "fc2"]}
    made = wb.profile(Engine.from_build(replace(built, plan=b"FAKE" + pickle.dumps(about))), runs=2)
    assert isinstance(made, Engine)
    assert list(made.table.ms) == [0.5, 0.75, 1.0]
    assert list(made.table.nodes) == [("fc1",), ("relu",), ("fc2",)]
    assert made.latency_ms == 1.5
    assert made.mapped == 1.0
    assert list(made.table.p95_ms) == [0.5, 0.75, 1.0] and set(made.table.noise) == {0.0}
    assert set(wb.profile_diff(made, made).noise) == {"measured"}


def test_layers_that_ran_several_times_tell_their_spread():
    from workbench.tensorrt.run import Measurement, Runs

    times = (1.0, 1.0, 1.2, 1.2, 1.1, 1.1, 1.0, 1.0, 1.1, 3.0)
    one = Measurement(0, {"x": (1, 8)}, times, times, {("fc1", 0): times})
    engine = Runs(engine_of(mlp()), (one,), 0).engine()
    row = engine.layers.loc["fc1"]
    assert row.ms == 1.1 and row.p95_ms == pytest.approx(np.percentile(times, 95))
    assert row.noise == engine.noise == pytest.approx(0.2 / 1.1)
    again = wb.tensorrt.Engine.from_json(engine.to_json())
    assert again.noise == engine.noise and again.layers.loc["fc1", "p95_ms"] == row.p95_ms


def test_what_cannot_be_profiled(worker):
    with pytest.raises(ProfileError, match="got runs=0, warmup=5, expected runs of 1 or more"):
        profile(timed(["a"]), worker=worker, runs=0)
    with pytest.raises(BackendFailed, match=r"report_to_profiler\(\) failed"):
        profile(timed(["a"], silent=True), worker=worker, runs=1)


# --- compare


def test_an_engine_without_faults_is_the_same_in_every_tensor():
    comparison = wb.compare(deep(), engine_of(deep(), handed_out=HANDED), count=2, progress=False)
    table = comparison.table
    assert comparison.ok
    compared = table[table.status == "compared"]
    assert list(compared.index) == [f"t{i}" for i in range(6)]
    assert (compared.max_abs < 1e-6).all()
    assert (compared.local_max_abs < 1e-6).all()
    assert set(table[table.status != "compared"].index) == {f"h{i}" for i in range(6)}
    assert set(table[table.status != "compared"].status) == {NOT_THERE}
    assert list(compared.node) == [f"tanh{i}" for i in range(6)]
    assert comparison.meta["inputs"] == 2
    assert comparison.meta["observer"]["max_abs"] == 0
    assert comparison.meta["observer"]["tensors"] == 5
    assert comparison.meta["observer"]["ms_marked"] > 0


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("budget", [64, 1 << 20])
def test_the_layer_that_is_wrong_is_named(worker, threaded, budget):
    engine = engine_of(deep(), deep(wrong=2), handed_out=HANDED, threaded=threaded)
    comparison = against(worker, deep(), engine, memory_budget=budget)
    assert comparison.meta["groups"] == (6 if budget == 64 else 1)
    table = comparison.table
    assert comparison.first_divergence(1e-4).name == "t2"
    assert not comparison.ok
    assert (table.loc[["t3", "t4", "t5"], "max_abs"] > 1e-3).all(), "it is passed on"
    local = table.loc[[f"t{i}" for i in range(6)], "local_max_abs"]
    assert local["t2"] > 1e-2
    assert (local.drop("t2") < 1e-6).all(), "but only one layer adds it"


def test_the_measures_are_those_of_the_values(worker):
    net, wrong = deep(), deep(wrong=1)
    feed = next(iter(feeds(net)))
    comparison = against(worker, net, engine_of(net, wrong, handed_out=HANDED), feed, local=False)
    weights = [
        {t.name: t.const_value.numpy() for t in m.ir.graph.initializers.values()} for m in (net, wrong)
    ]
    values = []
    for table in weights:
        x = feed["x"]
        for i in range(3):
            x = np.tanh(x @ table[f"w{i}"])
        values.append(x)
    assert comparison.table.loc["t2", "max_abs"] == pytest.approx(
        np.abs(values[0] - values[1]).max(), rel=1e-5
    )
    assert "local_max_abs" not in comparison.table


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("BF16", 1e-4, 4e-3), ("FP8", 1e-3, 0.07), ("HALF", 1e-5, 1e-3)]
)
def test_narrow_types_are_read(worker, kind, low, high):
    engine = engine_of(deep(), handed_out=HANDED, dtypes={"t1": kind})
    table = against(worker, deep(), engine).table
    assert low < table.loc["t1", "max_abs"] < high
    assert table.loc["t0", "max_abs"] < 1e-6


def test_int4_is_read(worker):
    nodes = [
        helper.make_node("Round", ["x"], ["r"], "round"),
        helper.make_node("Clip", ["r", "low", "high"], ["c"], "clip"),
        helper.make_node("Neg", ["c"], ["y"], "neg"),
    ]
    net = model(nodes, {"x": (3, 5)}, ["y"], {"low": np.array(-7, "f4"), "high": np.array(7, "f4")})
    feed = {"x": np.linspace(-9, 9, 15, dtype="f4").reshape(3, 5)}
    table = against(worker, net, engine_of(net, handed_out={"c": "c"}, dtypes={"c": "INT4"}), feed).table
    assert table.loc["c", "status"] == "compared"
    assert table.loc["c", "max_abs"] == 0
    assert table.loc["c", "cand_max"] == 7


def test_tensors_in_host_memory_are_read(worker):
    engine = engine_of(deep(), handed_out=HANDED, on_host=("t1", "t3"))
    assert against(worker, deep(), engine).table.loc["t3", "max_abs"] < 1e-6


def test_names_of_the_engine_s_own_are_joined_by_its_layers_and_the_rest_is_listed(worker):
    layers = {"Bindings": [], "Layers": [
        {"Name": f"fused{i}", "LayerType": "gemm", "Metadata": f"[ONNX Layer: mm{i}]\x1e[ONNX Layer: tanh{i}]",
         "Inputs": [{"Name": f"__in{i}", "Dimensions": [1, 16], "Format/Datatype": "Row major linear FP32"}],
         "Outputs": [{"Name": f"__myl{i}", "Dimensions": [1, 16], "Format/Datatype": "Row major linear FP32"}]}
        for i in range(4)
    ]}  # fmt: skip
    handed = {"t0": "__myl0", "t1": "__myl1", "t2": "__myl2", "h5": "__nobody"}
    engine = engine_of(deep(), deep(wrong=1), handed_out=handed, layers=json.dumps(layers))
    table = against(worker, deep(), engine).table
    assert list(table[table.status == "compared"].engine_tensor) == ["__myl0", "__myl1", "__myl2", "t5"]
    assert table.loc["t0", "max_abs"] < 1e-6 < 1e-3 < table.loc["t1", "max_abs"]
    assert table.loc["__nobody", "status"] == INTERNAL
    assert table.loc["__nobody", "dtype"] == "float32"


def test_the_profile_that_takes_the_input_is_used(worker):
    engine = engine_of(deep(), handed_out=HANDED, profiles=[{"batch": 1}, {"batch": (2, 4, 8)}])
    assert against(worker, deep(), engine, shapes={"batch": 4}).ok
    with pytest.raises(InputError, match="no optimisation profile of 'small' takes the inputs x .9, 16."):
        against(worker, deep(), engine, shapes={"batch": 9})


def test_an_engine_of_another_model_is_refused(worker):
    with pytest.raises(CompareError, match="hands out no tensor that the model has, not even its outputs"):
        against(
            worker,
            mlp(),
            engine_of(model([helper.make_node("Relu", ["x"], ["z"], "r")], {"x": ("batch", 8)}, ["z"])),
        )


def test_engines_that_were_not_built_here_have_no_plan():
    engine = engine_of(mlp())
    engine.built = None
    with pytest.raises(EngineError, match="it was read from files, without its plan; build it here"):
        profile(engine)
