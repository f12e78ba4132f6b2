"""How the pieces of a model and its kernels are put together for a GPU, without one (`no_gpu.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from backends import no_gpu
from backends.no_gpu import NoGpu, Program
from gpu.real import recognition
from gpu.shapes import shapes_as_values, values

import workbench as wb
from workbench.backends import cuda, process
from workbench.backends.cuda import program
from workbench.backends.onnxruntime import Runtime as OnnxRuntime
from workbench.plugins.steps import Call, cut
from workbench.profile import Peaks
from workbench.segments import Graph

ONNX = Path(__file__).resolve().parents[2] / "data" / "onnx"
PEAKS = Peaks(1e12, 1e12, 1e12, 0.001, (), 0, "no GPU", "cuda", "2026-01-01T00:00:00Z")


@pytest.fixture(autouse=True)
def bodies(monkeypatch):
    monkeypatch.setattr(cuda, "Program", Program)


@pytest.fixture
def worker_without_a_gpu(monkeypatch):
    """The worker process of cuda is one without a GPU."""
    monkeypatch.setattr(process, "_START", no_gpu.START)


def on_the_cpu(model: onnx.ModelProto, feeds: dict) -> dict:
    session = OnnxRuntime().library.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def everything(model: wb.Model, feeds: dict) -> None:
    """A run, replays of a plan and the layers one by one give what ONNX Runtime gives."""
    proto, runtime = model.to_proto(), NoGpu()
    expected = on_the_cpu(proto, feeds)
    loaded = runtime.load(proto.SerializeToString())

    def same(values: dict) -> None:
        for name, array in expected.items():
            found = loaded.program.fetch(values[name])
            assert found.shape == array.shape and np.allclose(found, array, atol=1e-4), name

    same(loaded.program.once(feeds))
    assert runtime.profile(loaded, feeds, runs=2)["graph"] == "no GPU, no graph"
    same(loaded.program.plan(feeds).outputs)
    done = runtime.profile(loaded, feeds, runs=2, layers=True)
    assert {layer["name"] for layer in done["layers"]} >= set(runtime.describe(loaded)["kernels"])


def test_a_real_model_whose_shapes_cross_from_piece_to_piece():
    _, plugged = recognition()
    x = np.random.default_rng(0).standard_normal((2, 3, 48, 64)).astype(np.float32)
    everything(plugged, {"x": x})


def test_shapes_that_are_fed_and_shapes_that_are_returned():
    everything(shapes_as_values(), values())


def test_nodes_joined_by_a_sequence_are_one_layer():
    model = wb.load(ONNX / "gpt2_tiny_dynamo.onnx")
    everything(model, next(iter(wb.inputs.feeds(model))))


def test_a_profile_joins_a_layer_of_several_nodes_to_all_of_them(worker_without_a_gpu):
    model = wb.load(ONNX / "gpt2_tiny_dynamo.onnx")
    p = wb.profile(model, "cuda", runs=2, peaks=PEAKS, progress=False)
    split = p.table.loc["node_split"]
    assert split["op_type"] == "SplitToSequence+SequenceAt"
    assert list(split["nodes"]) == ["node_split", "n0", "n0_2", "n0_3"]
    assert p.unmapped.empty and len(p.table.index.unique()) == len(p.table)


def test_a_replayed_plan_reads_new_values_on_the_host():
    proto, runtime = shapes_as_values().to_proto(), NoGpu()
    program = runtime.load(proto.SerializeToString()).program
    for starts in (0, 3, 1):
        plan = program.plan(values(starts))
        plan.run()
        for name, array in on_the_cpu(proto, values(starts)).items():
            assert np.allclose(program.fetch(plan.outputs[name]), array, atol=1e-6)
    assert len(program.plans) == 1


def test_a_plugin_between_nodes_that_sequences_join_runs_by_its_body():
    text = """<ir_version: 10, opset_import: ["" : 18, "workbench" : 1]>
    g (float[4, 8] x) => (float[] y) <int64 first = {0}, int64 second = {1}, float half = {0.5}> {
      [split] parts = SplitToSequence<axis = 0>(x)
      [one] a = SequenceAt(parts, first)
      [inside] b = workbench.FusedGelu(a)
      [put] more = SequenceInsert(parts, b)
      [aside] c = Mul(x, half)
      [join] d = ConcatFromSequence<axis = 0>(more)
      [outside] e = workbench.FusedGelu(d)
      [sum] f = ReduceSum<keepdims = 0>(e)
      [all] h = ReduceSum<keepdims = 0>(c)
      [end] y = Add(f, h)
    }"""
    proto = onnx.parser.parse_model(text)
    proto.functions.append(wb.plugins.gelu.function)
    model = wb.load(proto)
    groups = [[node.name for node in group] for group in Graph(model.to_proto()).inseparable]
    assert groups[0] == ["split", "one", "inside", "put", "join"] and all(len(group) == 1 for group in groups[1:])
    steps = cut(model.to_proto())
    assert steps.without_kernel == {"inside": "it lies between nodes that a sequence joins"}
    everything(model, {"x": np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)})


def test_sequences_wait_for_the_kernel_that_one_of_their_nodes_waits_for():
    text = """<ir_version: 10, opset_import: ["" : 18, "workbench" : 1]>
    g (float[4, 8] x) => (float[5, 8] y) {
      [split] parts = SplitToSequence<axis = 0>(x)
      [from] j = Constant<value = int64[1] {0}>()
      [to] k = Constant<value = int64[1] {1}>()
      [row] r = Slice(x, j, k)
      [kernel] b = workbench.FusedGelu(r)
      [put] more = SequenceInsert(parts, b)
      [join] y = ConcatFromSequence<axis = 0>(more)
    }"""
    proto = onnx.parser.parse_model(text)
    proto.functions.append(wb.plugins.gelu.function)
    assert cut(proto).without_kernel == {}
    everything(wb.load(proto), {"x": np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)})


def test_a_kernel_is_compiled_for_the_attributes_of_its_node():
    from workbench.backends.nvrtc import Runtime as Compiler

    put = []
    kernel = 'extern "C" __global__ void to(const T* x, T_y* y, long long to, long long n) { y[0] = T_y(x[0]); }'
    cast = wb.plugin(
        "FusedTo", body="FusedTo <to> (x) => (y) { y = Cast <to: int = @to> (x) }", cuda=kernel,
        args={"to": "to", "n": "size(x)"},
    )  # fmt: skip
    step = Call("cast", cast, ("x",), ("y",), {"to": 6})
    runtime = NoGpu()
    runtime.compiler = Compiler()
    runtime.device.function = lambda cubin, kernel, shared: (kernel, len(cubin) > 0)
    runtime.device.launch = lambda function, launch, pointers: put.append((function, launch.values))
    steps = cut(cast.model(cast.shapes(), step.attributes).to_proto())
    made = program.Program(runtime.device, steps, {}, runtime._compile, None)
    values = {"x": made.place(np.ones(3, np.float32))}
    values |= made.made(step, values)
    assert values["y"].spec == ("int32", (3,))
    made.launcher(step, values)()
    assert put == [(("to", True), (6, 3))]


def test_an_error_names_the_piece():
    program = NoGpu().load(shapes_as_values().to_proto().SerializeToString()).program
    with pytest.raises(RuntimeError, match=r"^piece 2 \(nodes 'cut' to 'reshape'\): .*Reshape"):
        program.once(values(to=(5, 2)))
