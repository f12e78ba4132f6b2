"""The built-in plugins on the CPU: body against numpy reference, in every runtime's form; steps for a GPU."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

import workbench as wb
from workbench.compare.kernels import _judge, reference
from workbench.plugins import builtin, gelu, skip_layer_norm
from workbench.plugins.steps import Call, Piece, cut

ort = pytest.importorskip("onnxruntime")
ALL = builtin.all_plugins()


def feeds_of(made, dtype, shape):
    rng = np.random.default_rng(3)
    specs = made.shapes(shape, dtype)
    return {
        n: (2 * rng.standard_normal(s.shape)).astype(dtype) for n, s in zip(made.inputs, specs, strict=True)
    }, specs


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("made", ALL, ids=lambda made: made.name)
def test_body_and_reference_agree(made, dtype):
    feeds, specs = feeds_of(made, dtype, (2, 3, 5, 33) if "Softmax" in made.name else (3, 33))
    wanted = reference(made, feeds, {})
    evaluated = reference(dataclasses.replace(made, reference=None), feeds, {})
    for name in made.outputs:
        assert np.allclose(wanted[name], evaluated[name], atol=1e-6)
    model = made.model(specs)
    for proto in (model.to_proto(), model.inline_functions().to_proto()):
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        results = dict(zip(made.outputs, session.run(None, feeds), strict=True))
        error, verdict = _judge(results, wanted)
        assert verdict == "equal within tolerance", verdict
        assert error > 0 or "Relu" in made.name or dtype == "float16"


def test_every_built_in_has_its_name_in_the_package():
    assert {made.name for made in ALL} == {getattr(wb.plugins, name).name for name in builtin.PLUGINS}
    assert set(builtin.PLUGINS) < set(wb.plugins.__all__)


def test_the_judge_finds_what_is_wrong():
    want = {"y": np.array([1.0, 2.0, np.nan, np.inf, 70000.0])}

    def verdict(*values, dtype=np.float32):
        return _judge({"y": np.array(values, dtype)}, want)[1]

    assert verdict(1, 2, np.nan, np.inf, 70000) == "equal within tolerance"
    assert verdict(1, 2, np.nan, np.inf, np.inf, dtype=np.float16) == "equal within tolerance"
    assert verdict(1, 2.1, np.nan, np.inf, 70000).startswith(
        "output 'y' at (1,): got 2.1, the body gives 2; relative"
    )
    assert verdict(1, 2, 0, np.inf, 70000) == "output 'y' at (2,): got 0.0, the body gives nan (NaN)"
    assert verdict(1, 2, np.nan, -np.inf, 70000) == "output 'y' at (3,): got -inf, the body gives inf (Inf)"
    assert verdict(1, 2) == "output 'y' has shape (2,), the body gives (5,)"


def block() -> wb.Model:
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[4, 8] x, float[4, 8] skip) => (float[4, 8] out, float[4, 8] total)
    <float[8, 8] m, float[8] w = {1,1,1,1,1,1,1,1}, float[8] b = {0,0,0,0,0,0,0,0}>
    { [a] total = Add(x, skip) [n] y = LayerNormalization(total, w, b) [p] q = MatMul(y, m) [g] r = Gelu(q)
      [u] out = Add(r, total) }""".replace("float[8, 8] m,", f"float[8, 8] m = {{{','.join(['0.5'] * 64)}}},")
    return wb.load(onnx.parser.parse_model(text.replace('"" : 18', '"" : 20')))


def test_steps_give_what_the_model_gives():
    m = block().replace(["a", "n"], skip_layer_norm, outputs=["y", "total"]).replace("g", gelu)
    steps = cut(m.to_proto())
    kinds = [step.plugin.name if isinstance(step, Call) else step.nodes for step in steps.steps]
    assert kinds == ["FusedSkipLayerNorm", ("p",), "FusedGelu", ("u",)]
    assert set(steps.weights) == {"w", "b"} and not steps.without_kernel
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((4, 8)).astype(np.float32) for name in ("x", "skip")}
    values = dict(feeds) | {n: onnx.numpy_helper.to_array(t) for n, t in steps.weights.items()}
    for step in steps.steps:
        if isinstance(step, Piece):
            session = ort.InferenceSession(step.model.SerializeToString())
            values |= zip(
                step.outputs,
                session.run(list(step.outputs), {n: values[n] for n in step.inputs}),
                strict=True,
            )
        else:
            given = dict(zip(step.plugin.inputs, (values[n] for n in step.inputs), strict=True))
            wanted = reference(step.plugin, given, step.attributes)
            values |= zip(step.outputs, (a.astype(np.float32) for a in wanted.values()), strict=True)
    session = ort.InferenceSession(block().to_proto().SerializeToString())
    for name, want in zip(("out", "total"), session.run(None, feeds), strict=True):
        assert np.allclose(values[name], want, atol=1e-5)


def test_a_body_runs_where_the_kernel_cannot_and_it_is_said_why():
    text = """<ir_version: 10, opset_import: ["" : 20]>
    g (double[4, 8] x, float[4, 8] z) => (double[4, 8] y, float[4, 8] v, float[2] k) <float[2] c = {1, 2}>
    { [a] y = Gelu(x) [b] v = Relu(z) [c] k = Gelu(c) }"""
    m = wb.load(onnx.parser.parse_model(text)).replace("a", gelu).replace("c", gelu)
    m = m.replace("b", wb.plugin("FusedRelu", body="FusedRelu (x) => (y) { y = Relu (x) }"))
    steps = cut(m.to_proto())
    assert [type(step) for step in steps.steps] == [Piece]
    assert steps.without_kernel == {
        "FusedGelu_a": "its kernel is for float32, float16, not float64",
        "FusedGelu_c": "it depends on weights alone",
        "FusedRelu_b": "the plugin has no CUDA kernel",
    }
