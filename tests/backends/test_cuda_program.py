"""How the pieces of a model and its kernels are put together for a GPU, without one (`no_gpu.py`)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from backends.no_gpu import NoGpu, Program
from gpu.real import recognition
from gpu.shapes import shapes_as_values, values

import workbench as wb
from workbench.backends import cuda
from workbench.backends.onnxruntime import Runtime as OnnxRuntime


@pytest.fixture(autouse=True)
def bodies(monkeypatch):
    monkeypatch.setattr(cuda, "Program", Program)


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


def test_a_replayed_plan_reads_new_values_on_the_host():
    proto, runtime = shapes_as_values().to_proto(), NoGpu()
    program = runtime.load(proto.SerializeToString()).program
    for starts in (0, 3, 1):
        plan = program.plan(values(starts))
        plan.run()
        for name, array in on_the_cpu(proto, values(starts)).items():
            assert np.allclose(program.fetch(plan.outputs[name]), array, atol=1e-6)
    assert len(program.plans) == 1


def test_an_error_names_the_piece():
    program = NoGpu().load(shapes_as_values().to_proto().SerializeToString()).program
    with pytest.raises(RuntimeError, match=r"^piece 2 \(nodes 'cut' to 'reshape'\): .*Reshape"):
        program.once(values(to=(5, 2)))
