"""Plugins for chains of real models: bodies of every kind, attributes of every type, and what a model keeps of them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from real_models import find

import workbench as wb
from workbench.errors import EditError, ModelError
from workbench.plugins import plugin

ort = pytest.importorskip("onnxruntime")
INDEX = "long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;"
HARD_SWISH = f"""extern "C" __global__ void hard_swish(const T* x, T* y, long long n) {{
    {INDEX} if (i < n) y[i] = T(float(x[i]) * fminf(fmaxf(float(x[i]) + 3.f, 0.f), 6.f) / 6.f); }}"""
ADD_RELU = f"""extern "C" __global__ void add_relu(const T* a, const T* b, T* y, long long n) {{
    {INDEX} if (i < n) y[i] = T(fmaxf(float(a[i]) + float(b[i]), 0.f)); }}"""
# an attribute of each type, `number` without a default; two outputs
EACH = """<domain: "mine", opset_import: ["" : 18]>
FusedEach <axis: int = 0, factor: float = 0.5, mode: string = "reflect", pads: ints = [0, 1, 0, 1],
           added: floats = [1.0, 2.0], number> (x) => (y, z) {
  p = Constant <value_ints: ints = @pads> ()
  q = Pad <mode: string = @mode> (x, p)
  v = Constant <value_floats: floats = @added> ()
  s = ReduceSum <keepdims = 0> (v)
  a = Add (q, s)
  f = Constant <value_float: float = @factor> ()
  b = Mul (a, f)
  y = Concat <axis: int = @axis> (b, b)
  z = Flatten <axis: int = @number> (x)
}"""
EACH_KERNEL = """extern "C" __global__ void each(const T* x, T_y* y, T_z* z, float factor, long long axis) {
    y[0] = T(factor + axis); z[0] = x[0]; }"""


def bytes_of(model: wb.Model) -> bytes:
    return model.to_proto().SerializeToString(deterministic=True)


def hard_swish(m: wb.Model) -> list[str]:
    """Names of the first Add, Clip, Mul, Div."""
    clip = next(node for node in m.ir.graph if node.op_type == "Clip")
    mul = clip.outputs[0].uses()[0].node
    return [node.name for node in (clip.inputs[0].producer(), clip, mul, mul.outputs[0].uses()[0].node)]


def kept(before: wb.Model, after: wb.Model, folder) -> None:
    """It computes the same, goes back, is replayed, and the file is whole: in a fresh process it has kernel and body,
    ONNX Runtime runs it, and without functions too."""
    inputs = next(iter(wb.inputs.feeds(before)))
    assert wb.compare(before, after, inputs, progress=False).ok
    assert bytes_of(after.history.undo()) == bytes_of(before)
    after.history.to_python(folder / "edits.py")
    assert bytes_of(wb.replay(folder / "edits.py", before)) == bytes_of(after)
    after.save(folder / "m.onnx")
    code = (
        "import sys, workbench as wb; m = wb.load(sys.argv[1]); (f,) = m.to_proto().functions; "
        "p = wb.plugins.from_function(f); print(len(p.compile(archs='sm_90').kernels), m.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code, folder / "m.onnx"], capture_output=True, text=True)
    assert done.stdout.split() == ["1", after.fingerprint], done.stderr
    inlined = after.inline_functions()
    assert not inlined.to_proto().functions
    expected = ort.InferenceSession(bytes_of(before)).run(None, inputs)
    for model in (folder / "m.onnx", bytes_of(inlined)):
        for mine, theirs in zip(ort.InferenceSession(model).run(None, inputs), expected, strict=True):
            assert np.allclose(mine, theirs, atol=1e-5)


def test_hard_swish_of_a_matched_subgraph_whose_tensors_have_dots_in_their_names(tmp_path):
    m = wb.load(find("ppocr_cls"))
    chain = hard_swish(m)
    made = plugin("FusedHardSwish", body=(m, chain), cuda=HARD_SWISH, dtypes="float32")
    assert made.signature == "FusedHardSwish(batch_norm_0_tmp_2) -> (hardswish_0_tmp_0)"
    kept(m, m.replace(chain, made), tmp_path)


def test_hard_swish_of_an_onnxscript_function(tmp_path):
    script = pytest.importorskip("onnxscript")
    op = script.opset18

    @script.script(script.values.Opset("mine", 1), default_opset=op)
    def swish(x, shift: float = 3.0):
        return x * op.Clip(x + shift, 0.0, 6.0) / 6.0

    made = plugin("FusedHardSwish", body=swish, cuda=HARD_SWISH, dtypes="float32")
    m = wb.load(find("ppocr_cls"))
    with pytest.raises(EditError, match=r"its body uses CastLike of operator set 18, .*convert_opset\(18\) first"):
        m.replace(hard_swish(m), made)
    m = wb.load(bytes_of(m.convert_opset(18)))
    kept(m, m.replace(hard_swish(m), made), tmp_path)


def test_a_residual_sum_and_its_activation(tmp_path):
    m = wb.load(find("light_resnet50"))
    add = next(node for node in m.ir.graph if node.op_type == "Sum")
    chain = [add.name, add.outputs[0].uses()[0].node.name]
    made = plugin("FusedAddRelu", body=(m, chain), cuda=ADD_RELU, dtypes="float32")
    kept(m, m.replace(chain, made), tmp_path)


def each() -> wb.Model:
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[4, 8] x) => (float[a, b] y, float[c, d] z)
    { [r] t = Relu(x) [c] y = Concat<axis = 1>(t, t) [f] z = Flatten<axis = 1>(x) }"""
    return wb.load(onnx.parser.parse_model(text))


def test_attributes_of_each_type_and_two_outputs(tmp_path):
    m, chain = each(), ["r", "c", "f"]
    made = plugin("FusedEach", body=EACH, cuda=EACH_KERNEL, args={"factor": "factor", "axis": "axis"}, grid=1,
                  dtypes="float32")  # fmt: skip
    given = {"number": 1, "added": [3, 4], "pads": [0, 0, 0, 0], "mode": "edge", "factor": 2, "axis": 1}
    m2 = m.replace(chain, made, attributes=given)
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    for model in (m2, m2.inline_functions(), wb.replay(m2.history.to_json(), each())):
        y, z = ort.InferenceSession(bytes_of(model)).run(None, {"x": x})
        assert np.allclose(y, np.concatenate([(x + 7) * 2] * 2, 1)) and np.array_equal(z, x)
    assert bytes_of(m2.history.undo()) == bytes_of(m)
    assert made.launch(made.shapes({"x": (4, 8)}), {"number": 1}).values == (0.5, 0)
    assert len(made.compile(archs="sm_90", attributes={"number": 1}).kernels) == 1
    wrong = {
        "needs the attribute 'number', which has no default; give it": {},
        "got 'one' for the attribute 'number', expected an int": {"number": "one"},
        "got 1.5 for the attribute 'number', expected an int": {"number": 1.5},
        "got 'x' for the attribute 'factor', expected a number": {"number": 1, "factor": "x"},
        r"got \(0.5,\) for the attribute 'pads', expected ints": {"number": 1, "pads": [0.5]},
        "got 2 for the attribute 'mode', expected text": {"number": 1, "mode": 2},
        "got '12' for the attribute 'added', expected numbers": {"number": 1, "added": "12"},
        "has no attribute 'beta'; expected one of": {"number": 1, "beta": 1},
    }
    for says, attributes in wrong.items():
        with pytest.raises(EditError, match=f"cannot replace nodes 'r', 'c', 'f': plugin 'FusedEach'.* {says}"):
            m.replace(chain, made, attributes=attributes)


def test_what_cannot_be_replaced_is_refused():
    m = each()
    two = plugin("FusedTwo", body="FusedTwo (x) => (y, z) { y = Relu (x) z = Neg (x) }")
    with pytest.raises(EditError, match=r"got outputs=\['t', 't'\], expected each tensor once"):
        m.replace("r", two, outputs=["t", "t"])
    with pytest.raises(EditError, match="got None as nodes, expected their names, or a match"):
        m.replace(None, two)
    odd = '<domain: "m", opset_import: ["" : 18, "acme" : 1]> FusedOdd (x) => (y) { y = acme.Odd (x) }'
    with pytest.raises(EditError, match="cannot add plugin 'FusedOdd': its body calls acme::Odd, which has no body it"):
        m.replace("r", plugin("FusedOdd", body=odd))
    fast = odd.replace("acme", "com.microsoft").replace("Odd", "FastGelu").replace("FusedFast", "Fast")
    fast = fast.replace("FastGelu (x) =>", "FusedFast (x) =>")
    m2 = m.replace("r", plugin("FusedFast", body=fast))
    assert wb.compare(m2, m2, progress=False).ok
    proto = m2.to_proto()
    del proto.functions[:]
    with pytest.raises(ModelError, match="operator FusedFast of domain 'workbench' has no body"):
        wb.profile(wb.load(proto))
