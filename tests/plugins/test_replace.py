"""Replacing subgraphs by plugins: the model still runs, undo and replay to the same bytes, refusals with signatures."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

import workbench as wb
from workbench.errors import EditError, ModelError
from workbench.model.operators import _RUNTIME, require_bodies
from workbench.plugins import gelu, layer_norm, masked_softmax, plugin, rms_norm, silu_mul, skip_layer_norm

TEXT = """<ir_version: {ir}, opset_import: ["" : {opset}]>
g (float[n, 8] x, float[n, 8] other) => (float[n, 8] out, float[n, 8] sum)
<float root = {{1.4142135}}, float one = {{1.0}}, float half = {{0.5}}>
{{
 [add] sum = Add(x, other)
 [d] s = Div(sum, root)
 [e] er = Erf(s)
 [a] sh = Add(er, one)
 [m] pr = Mul(sum, sh)
 [h] g = Mul(pr, half)
 [r] out = Relu(g)
}}"""
NODES = ["d", "e", "a", "m", "h"]
OWN = "FusedRelu (x) => (y) { y = Relu (x) }"
KERNEL = 'extern "C" __global__ void k(const T* x, T* y, long long n) {}'


def made(ir: int = 8, opset: int = 18) -> wb.Model:
    return wb.load(onnx.parser.parse_model(TEXT.format(ir=ir, opset=opset)))


def bytes_of(model: wb.Model) -> bytes:
    return model.to_proto().SerializeToString(deterministic=True)


def test_the_replaced_model_gives_the_same_and_runs_everywhere():
    m = made()
    m2 = m.replace(NODES, gelu)
    c = wb.compare(m, m2, progress=False)
    assert c.ok and c.table.loc["g", "status"] == "compared" and c.table.loc["g", "max_abs"] < 1e-6
    row = m2.nodes.loc["FusedGelu_h"]
    assert (row["op_type"], row["domain"]) == ("FusedGelu", "workbench")
    onnx.checker.check_model(m2.to_proto(), full_check=True)
    assert [(f.domain, f.name) for f in m2.to_proto().functions] == [("workbench", "FusedGelu")]
    node = m2.ir.graph.node("FusedGelu_h")
    assert json.loads(node.metadata_props["workbench.origins"]) == NODES


def test_undo_gives_the_same_bytes_and_replay_too(tmp_path):
    m = made()
    before = bytes_of(m)
    m2 = m.replace(NODES, gelu).rename_node("FusedGelu_h", "gelu")
    after = bytes_of(m2)
    assert bytes_of(m2.history.undo().history.undo()) == before and bytes_of(m2) == after
    assert m2.history.to_python().count("m = m.replace(['d', 'e', 'a', 'm', 'h'], 'FusedGelu')") == 1
    own = plugin("FusedRelu", body=OWN, cuda=KERNEL, example={"x": (4, 4)})
    m3 = m2.replace("r", own, name="relu")
    path = tmp_path / "edits.py"
    m3.history.to_python(path)
    assert bytes_of(wb.replay(path, made())) == bytes_of(m3)
    assert bytes_of(wb.replay(m3.history.to_json(), made())) == bytes_of(m3)
    assert bytes_of(m3.history.undo()) == after


def test_a_script_replays_where_the_plugins_are_not_loaded(tmp_path):
    m = made()
    m.save(tmp_path / "model.onnx")
    m2 = wb.load(tmp_path / "model.onnx").replace(NODES, "FusedGelu")
    m2.history.to_python(tmp_path / "edits.py")
    code = (
        f"exec(compile(open({str(tmp_path / 'edits.py')!r}).read(), 'edits', 'exec')); print(m.fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == m2.fingerprint, done.stderr


def test_a_saved_model_keeps_kernel_and_body(tmp_path):
    own = plugin("FusedRelu", body=OWN, cuda=KERNEL)
    made().replace("r", own).save(tmp_path / "m.onnx")
    (function,) = wb.load(tmp_path / "m.onnx").to_proto().functions
    assert wb.plugins.from_function(function).cuda == KERNEL


def test_inlined_it_has_no_functions_and_the_same_values():
    m2 = made().replace(NODES, gelu)
    m3 = m2.inline_functions()
    assert not m3.to_proto().functions and "Erf" in set(m3.nodes["op_type"])
    assert wb.compare(m2, m3, progress=False).ok
    erf = next(node for node in m3.ir.graph if node.op_type == "Erf")
    assert json.loads(erf.metadata_props["workbench.origins"]) == NODES
    assert bytes_of(wb.replay(m3.history.to_python(), made())) == bytes_of(m3)
    with pytest.raises(EditError, match="cannot inline: the model has no functions; nothing to do"):
        made().inline_functions()


def test_attributes_reach_the_body_also_when_inlined():
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[4, 8] x) => (float[4, 8] y) <float[8] w = {1,1,1,1,1,1,1,1}> { [r] y = LayerNormalization(x, w) }"""
    m = wb.load(onnx.parser.parse_model(text))
    m2 = m.replace("r", rms_norm, attributes={"epsilon": 0.5})
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    want = x / np.sqrt((x * x).mean(-1, keepdims=True) + 0.5)
    for model in (m2, m2.inline_functions()):
        session = pytest.importorskip("onnxruntime").InferenceSession(model.to_proto().SerializeToString())
        assert np.allclose(session.run(None, {"x": x})[0], want, atol=1e-6)


def test_two_outputs_and_the_order_of_inputs():
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[4, 8] x, float[4, 8] skip) => (float[4, 8] out)
    <float[8] w = {1,2,3,4,5,6,7,8}, float[8] b = {8,7,6,5,4,3,2,1}>
    { [a] t = Add(x, skip) [n] y = LayerNormalization(t, w, b) [s] out = Add(t, y) }"""
    m = wb.load(onnx.parser.parse_model(text))
    m2 = m.replace(["a", "n"], skip_layer_norm, outputs=["y", "t"], name="norm")
    c = wb.compare(m, m2, progress=False)
    assert c.ok and list(c.table["status"]) == ["compared"] * 3
    with pytest.raises(EditError, match=r"outside of the nodes y float32\[4, 8\], t float32\[4, 8\] is read"):
        m.replace(["a", "n"], layer_norm, inputs=["x", "w", "b"], outputs=["y"])


def test_old_models_get_what_functions_need():
    m2 = made(ir=7, opset=15).replace(NODES, gelu, inputs=["sum"])
    assert m2.to_proto().ir_version == 8 and wb.compare(made(7, 15), m2, progress=False).ok
    text = TEXT.format(ir=8, opset=17).replace("[r] out = Relu(g)", "[r] out = Softmax<axis = -1>(g)")
    old = wb.load(onnx.parser.parse_model(text))
    says = r"its body uses ReduceMean of operator set 18, the model has operator set 17, .*convert_opset\(18\) first"
    with pytest.raises(EditError, match=says):
        old.replace("r", rms_norm, inputs=["g", "half"])


def test_what_does_not_fit_is_refused_with_both_signatures():
    m = made()
    before = bytes_of(m)
    cases = {
        r"cannot replace nodes 'd' by FusedLayerNorm\(x, weight, bias, epsilon=1e-05\) -> \(y\): the nodes read "
        r"sum float32\[n, 8\], root float32\[\], the plugin takes 3 inputs": (["d"], layer_norm, {}),
        r"'d', 'a' by FusedGelu\(x\) -> \(y\): the nodes read sum .*, er .*, the plugin takes 1": (["d", "a"],
        gelu, {}),
        r"the nodes are \(float32\[n, 8\]\) -> \(float32\[n, 8\]\), the plugin is FusedSum\(x: float32\[n, 8\]\) -> "
        r"\(y: float32\[n, 1\]\); choose": (NODES, plugin("FusedSum", body=
            "FusedSum (x) => (y) { a = Constant <value_ints: ints = [-1]> () y = ReduceSum (x, a) }"), {}),
        r"the nodes are \(float32\[n, 8\]\) -> \(float32\[n, 8\]\), the plugin is FusedInt\(x: float32\[n, 8\]\) -> "
        r"\(y: int64\[n, 8\]\)": (NODES, plugin("FusedInt", body=
            "FusedInt (x) => (y) { y = Cast <to: int = 7> (x) }"), {}),
        r"has no attribute 'alpha'; expected one of none": (NODES, gelu, {"attributes": {"alpha": 1.0}}),
        r"is read, the plugin makes 1": (["add", *NODES], silu_mul, {}),
        r"does not take these inputs: .*": (["add"], masked_softmax, {"inputs": ["x", "sum_"]}),
        r"there is no built-in plugin 'Nope'": (NODES, "Nope", {}),
        r"got no nodes; name at least one": ([], gelu, {}),
    }  # fmt: skip
    for says, (nodes, made_of, options) in cases.items():
        with pytest.raises((EditError, wb.errors.PluginError, wb.errors.NotInModelError), match=says if "sum_" not in
                           str(options) else "there is no tensor 'sum_'"):  # fmt: skip
            m.replace(nodes, made_of, **options)
    assert bytes_of(m) == before


def test_another_plugin_of_the_same_name_is_refused():
    m = made().replace("r", plugin("FusedRelu", body=OWN, cuda=KERNEL))
    with pytest.raises(EditError, match="the model has another plugin or function of that name; undo"):
        m.replace("add", plugin("FusedRelu", body=OWN, cuda=KERNEL + "//"), inputs=["x"])


def test_another_body_of_the_same_name_is_refused():
    m = made().replace("r", plugin("FusedRelu", body=OWN))
    with pytest.raises(EditError, match="the model has another plugin or function of that name; undo"):
        m.replace("add", plugin("FusedRelu", body=OWN.replace("Relu (", "Neg (")), inputs=["x"])


def test_a_cycle_is_refused():
    with pytest.raises(EditError, match="that is a cycle"):
        made().replace(["d", "a"], plugin("FusedPair", body="FusedPair (x, y) => (a, b) { a = Neg (x) b = Neg (y) }"),
                       inputs=["sum", "er"], outputs=["s", "sh"])  # fmt: skip


ODD = """<ir_version: 10, opset_import: ["" : 18, "mine" : 1, "com.microsoft" : 1]>
g (float[4, 8] x, float[4, 8] w) => (float[4, 8] y) {
 [r] a = Relu(x)
 [o1] b = mine.Odd(a)
 [o2] c = mine.Odd(b)
 [o3] d = mine.Odd(c)
 [o4] e = mine.Odd(d)
 [ms] f = com.microsoft.FastGelu(e)
 [t] y = mine.Other<k = 2>(f, w)
}"""


def test_an_operator_without_a_body_is_named_before_a_runtime_starts(monkeypatch):
    m = wb.load(onnx.parser.parse_model(ODD))
    assert m.nodes.loc["o1", "op_type"] == "Odd"
    said = "mine::Odd (4) without a body, com.microsoft::FastGelu (1), mine::Other (1) without a body"
    assert said in str(m.summary())

    def started(*_, **__):
        raise AssertionError("a runtime was started")

    monkeypatch.setattr("workbench.backends.process.Worker._start", started)
    said = (
        "nodes 'o1', 'o2', 'o3' and 1 more: operator Odd of domain 'mine' has no body: ONNX, the functions of the "
        "model and ONNX Runtime do not define it; give it one: m.replace(['o1'], plugin), or a function mine::Odd in "
        "the file; node 't': operator Other of domain 'mine' has no body: "
    )
    for what, do in (
        ("compare", lambda: wb.compare(m, m)),
        ("profile", lambda: wb.profile(m)),
        ("profile", lambda: wb.profile(m, "cuda")),
        ("verify fusions of", lambda: m.fuse(verify=True)),
        ("run", lambda: wb.backends.Runner(m).activate()),
    ):
        with pytest.raises(ModelError) as raised:
            do()
        assert str(raised.value).startswith(f"cannot {what} 'g': {said}")
    assert repr(m.view()) == "<GraphView of 'g': 7 nodes>"
    old = wb.load(onnx.parser.parse_model(ODD.replace("mine.Odd", "Gelu").replace("mine.Other<k = 2>", "Add")))
    with pytest.raises(ModelError, match="Gelu of domain 'ai.onnx' is not in operator set 18, .* with 20: convert"):
        wb.profile(old)


def test_an_operator_without_a_body_runs_by_that_of_a_plugin():
    m = wb.load(onnx.parser.parse_model(ODD))
    odd = plugin("Odd", body="Odd (x) => (y) { y = Neg (x) }")
    other = plugin("Other", body="Other <k: int = 1> (x, w) => (y) { c = Constant <value_int: int = @k> () "
                   "f = CastLike (c, x) v = Mul (f, w) y = Add (x, v) }")  # fmt: skip
    for node in ("o1", "o2", "o3", "o4"):
        m = m.replace(node, odd)
    m = m.replace("t", other, attributes={"k": 2})
    feeds = {name: np.full((4, 8), value, np.float32) for name, value in (("x", 1), ("w", 3))}
    session = pytest.importorskip("onnxruntime").InferenceSession(m.to_proto().SerializeToString())
    assert np.allclose(session.run(None, feeds)[0], 6.8412, atol=1e-3)
    assert wb.compare(m, m, progress=False).ok
    assert not any("without a body" in finding for finding in m.summary().findings)


def test_what_the_runtime_knows_in_the_domain_of_onnx_is_left_to_it():
    from onnxruntime.capi import onnxruntime_pybind11_state as library

    ours = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    kernels = {kernel.op_name for kernel in library.get_all_opkernel_def() if not kernel.domain}
    assert kernels - ours <= set(_RUNTIME)


def test_a_function_has_its_own_operator_set():
    text = """<ir_version: 10, opset_import: ["" : 18, "f" : 1]> 
    g (float[4] x) => (float[4] y) { [call] y = f.Soft (x) }
    <domain: "f", opset_import: ["" : 20]> Soft (x) => (y) { [in] y = Gelu (x) }"""
    m = wb.load(onnx.parser.parse_model(text))
    assert "without a body" not in str(m.summary())
    require_bodies(m, "profile")
    old = wb.load(onnx.parser.parse_model(text.replace("20", "18")))
    with pytest.raises(ModelError, match="node 'in': operator Gelu of domain 'ai.onnx' is not in operator set 18"):
        require_bodies(old, "profile")
