"""Conversion: which tensor gets which type, where Casts stand, and that undo and replay give the same bytes."""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from precision import small

import workbench as wb
from workbench.errors import BackendFailed, EditError, NotInModelError
from workbench.model.info import from_type
from workbench.precision import convert, nodes, simulate, weights
from workbench.precision.plan import borrowed, make, roles_of

CHAIN = """
g (float[2, 4] x) => (float[2, 4] y) {
  a = MatMul(x, w)
  b = Relu(a)
  c = Softmax(b)
  y = Mul(c, s)
}"""


def chain() -> wb.Model:
    return small.model(CHAIN, w=small.normal(4, 4), s=np.float32([0.1]))


def test_all_low_between_casts_at_the_ports():
    made = convert(chain(), "fp16")
    assert small.casts(made) == [("x", "x_float16"), ("y_float16", "y")]
    found = small.dtypes(made)
    assert {found[name] for name in ("a", "b", "c", "w", "s", "y_float16")} == {"float16"}
    assert found["x"] == found["y"] == "float32"


def test_what_moves_values_follows_its_neighbours():
    kept = small.dtypes(convert(chain(), "fp16", keep=["n_a", "n_c"]))
    assert kept["b"] == "float32"  # Relu, between two that are kept
    alone = convert(chain(), "fp16", keep=["n_a"])
    assert small.dtypes(alone)["b"] == "float16"
    assert small.casts(alone) == [("a", "a_float16"), ("y_float16", "y")]


def test_inputs_and_outputs_change_on_request():
    made = convert(chain(), "fp16", keep_io=False)
    assert small.casts(made) == []
    assert [made.inputs[0].dtype, made.outputs[0].dtype] == ["float16", "float16"]
    kept = convert(chain(), "fp16", keep=["n_a", "n_y"], keep_io=False)
    assert small.dtypes(kept)["x"] == small.dtypes(kept)["y"] == "float16"
    assert small.dtypes(kept)["a"] == "float32"


def test_a_shared_weight_is_there_in_both_types():
    made = small.model(
        "g (float[2, 4] x) => (float[2, 4] y) { a = MatMul(x, w)\n y = MatMul(a, w) }", w=small.normal(4, 4)
    )
    found = convert(made, "fp16", keep=["n_y"])
    types = small.dtypes(found)
    assert (types["w"], types["w_float16"]) == ("float32", "float16")
    reads = {node.name: list(node.input) for node in found.to_proto().graph.node}
    assert reads["n_a"] == ["x_float16", "w_float16"]
    assert reads["n_y"] == ["a_float32", "w"]


def test_weights_in_constant_nodes_and_their_shapes_stay_usable():
    made = small.model(
        """g (float[2, 4] x) => (float[4, 2] y) {
          k = Constant <value = float[4] {0.1, 0.2, 0.3, 0.4}> ()
          one = Constant <value_float = 1.5> ()
          shape = Constant <value_ints = [4, 2]> ()
          a = Mul(x, k)
          b = Add(a, one)
          y = Reshape(b, shape)
        }"""
    )
    found = convert(made, "fp16")
    types = small.dtypes(found)
    assert (types["k"], types["one"], types["shape"]) == ("float16", "float16", "int64")
    x = small.normal(2, 4)
    assert np.allclose(small.run(made, {"x": x})["y"], small.run(found, {"x": x})["y"], atol=5e-3)


def test_resize_keeps_its_region_and_scales():
    made = small.model(
        "g (float[1, 1, 4, 4] x, float[8] roi) => (float[1, 1, a, b] y) {"
        ' y = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, roi, scales) }',
        scales=np.float32([1, 1, 2, 2]),
    )
    types = small.dtypes(convert(made, "fp16"))
    assert (types["roi"], types["scales"], types["y_float16"]) == ("float32", "float32", "float16")


QDQ = """
g (float[1, 4] x) => (float[1, 4] y) {
  a = Mul(x, x)
  q = QuantizeLinear(a, s, z)
  d = DequantizeLinear(q, s, z)
  y = Mul(d, d)
}"""


@pytest.mark.parametrize(
    ("opset", "scale", "expected"),
    [(13, 0.05, "float32"), (19, 0.05, "float16"), (21, 0.05, "float16"), (19, 1e-6, "float32")],
    ids=["before 19", "19", "21", "scale too small"],
)
def test_quantisation_changes_type_where_operator_set_and_scale_allow(opset, scale, expected):
    made = small.model(QDQ, opset, s=np.float32(scale), z=np.int8(0))
    found = convert(made, "fp16")
    types = small.dtypes(found)
    assert types["d"] == types["s"] == expected
    assert types["q"] == "int8"
    reason = nodes(made, "fp16").reason["n_d"]
    assert bool(reason) == (expected == "float32")
    x = small.normal(1, 4)
    assert (
        np.abs(small.run(made, {"x": x})["y"] - small.run(found, {"x": x})["y"]).max() < 2 * scale * 5 + 1e-3
    )


def test_normalisation_and_reductions():
    made = small.model(
        """g (float[2, 3, 4] x) => (float[2, 3, 1] y, float[2, 1, 1] m) {
          a, m, v = LayerNormalization <axis = 1> (x, w)
          b = BatchNormalization(a, s, s, s, s)
          y = ReduceSum(b, axes)
        }""",
        w=np.ones((3, 4), np.float32), s=np.ones(3, np.float32), axes=np.int64([2]),
    )  # fmt: skip
    found = convert(made, "fp16")
    types = small.dtypes(found)
    assert (types["a"], types["b"], types["m"], types["w"]) == ("float16", "float16", "float32", "float16")
    x = small.normal(2, 3, 4)
    assert np.allclose(small.run(made, {"x": x})["y"], small.run(found, {"x": x})["y"], atol=2e-2)


BODIES = """
g (float[2, 4] x, bool flag, int64 n) => (float[2, 4] y) {
  a = MatMul(x, w)
  b = If (flag) <
    then_branch = t () => (float[2, 4] ty) { tn = Mul(a, a)
      ty = Add(tn, a) },
    else_branch = e () => (float[2, 4] ey) { ey = Sigmoid(a) }
  >
  yes = Constant <value = bool {1}> ()
  c = Loop (n, yes, b) <
    body = l (int64 i, bool go, float[2, 4] carried) => (bool going, float[2, 4] next) {
      going = Identity(go)
      next = Mul(carried, a)
    }
  >
  y = Tanh(c)
}"""


@pytest.mark.parametrize("keep", [(), ("Add_ty",), ("n_b",), ("n_a",)], ids=str)
@pytest.mark.parametrize("flag", [True, False])
def test_bodies_are_converted_and_give_and_take_float32(keep, flag):
    made = small.model(BODIES, w=small.normal(4, 4))
    found = convert(made, "fp16", keep=keep)
    onnx.checker.check_model(found.to_proto(), full_check=True)
    tensors = found.tensors.dtype
    assert tensors["n_c.body/carried"] == "float32"
    assert tensors["n_b.then_branch/tn"] == ("float32" if keep == ("n_b",) else "float16")
    feed = {"x": small.normal(2, 4, scale=0.5), "flag": np.array(flag), "n": np.array(3)}
    want, got = (small.run(m, feed)["y"] for m in (made, found))
    rounded = small.run(simulate(made, "fp16", keep=keep), feed)["y"]
    scale = np.abs(want).max()
    assert 0 < np.abs(rounded - want).max() < 0.02 * scale
    assert np.abs(got - want).max() < 0.02 * scale


@pytest.mark.parametrize("to", ["fp16", "bf16"])
def test_simulated_values_are_those_of_the_narrow_type(to):
    """Element by element against the converted model on onnx's reference implementation, which computes in fp16."""
    made = small.model(
        "g (float[64] x) => (float[64] y) { a = Mul(x, x)\n b = Add(a, s)\n c = Div(s, b)\n y = Sub(c, x) }",
        s=np.float32([0.3]),
    )
    x = small.normal(64)
    simulated = small.run(simulate(made, to), {"x": x})["y"]
    (real,) = ReferenceEvaluator(convert(made, to).to_proto()).run(None, {"x": x})
    assert np.array_equal(simulated, real)
    assert not np.array_equal(simulated, small.run(made, {"x": x})["y"])


def test_weights_beyond_the_range_are_cut_off_with_a_warning_and_listed():
    w = np.float32([1e6, 1e-9, 1e-6, -3e38, 0.1, 0.0])
    made = small.model("g (float[6] x) => (float[6] y) { y = Mul(x, w) }", w=w)
    with pytest.warns(UserWarning, match=r"1 weight beyond the range of float16, cut off at its ends: 'w'"):
        found = convert(made, "fp16")
    stored = onnx.numpy_helper.to_array(found.to_proto().graph.initializer[0])
    assert stored[0] == 65504 and stored[3] == -65504 and stored[1] == 0
    row = weights(made, "fp16").loc["w"]
    assert (row.over, row.under, row.subnormal, row.elements, row.readers) == (2, 1, 1, 6, ("n_y",))
    assert row.lost_share == pytest.approx(4 / 6)
    assert row.max_rel == pytest.approx(abs(np.float64(np.float16(0.1)) - np.float64(w[4])) / w[4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(made, "bf16")
    assert weights(made, "bf16").loc["w"].over == 0


def test_an_infinite_weight_stays_one():
    made = small.model("g (float[2] x) => (float[2] y) { y = Min(x, w) }", w=np.float32([np.inf, 1]))
    made = made.insert_node("x", "Sqrt")
    stored = onnx.numpy_helper.to_array(convert(made, "fp16").to_proto().graph.initializer[0])
    assert np.isinf(stored[0])


def test_types_that_an_attribute_sets():
    made = small.model(
        """g (int64[2] n, int64[3] i) => (float[3] y) {
          f = Cast <to = 1> (i)
          z = ConstantOfShape <value = float[1] {0.5}> (n)
          s = ReduceSum <keepdims = 0> (z)
          y = Mul(f, s)
        }"""
    )
    types = small.dtypes(convert(made, "fp16"))
    assert types["f"] == types["z"] == types["s"] == "float16"
    text = "g (float[2] x) => (float[2] y) { a = Exp(x)\n b = Cast <to = 1> (a)\n y = Sqrt(b) }"
    same = small.model(text)
    assert list(nodes(same, "fp16").kind) == [
        "computes",
        "moves",
        "computes",
    ]  # of a float32: it changes nothing
    assert small.dtypes(convert(same, "fp16"))["b"] == "float16"
    assert small.dtypes(convert(same, "fp16", keep=["n_a", "n_y"]))["b"] == "float32"
    kept = small.dtypes(convert(made, "fp16", keep=["n_f", "n_y"]))
    assert kept["f"] == "float32" and kept["z"] == "float16"


def test_custom_operators_and_functions_stay():
    made = small.model("g (float[2] x) => (float[2] y) { a = Mul(x, x)\n y = Sqrt(a) }")
    proto = made.to_proto()
    proto.opset_import.append(onnx.helper.make_opsetid("my.own", 1))
    proto.graph.node.insert(1, onnx.helper.make_node("Odd", ["a"], ["o"], name="odd", domain="my.own"))
    proto.graph.node[2].input[0] = "o"
    own = wb.load(proto)
    table = nodes(own, "fp16")
    assert table.kind["odd"] == "stays"
    assert table.reason["odd"] == "no definition of this operator says which types it takes"
    found = convert(own, "fp16")
    assert small.casts(found)[1] == ("a", "a_float32")


def test_outputs_that_are_left_out_do_not_matter():
    node = onnx.helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], name="lstm", hidden_size=3)
    ports = [
        onnx.helper.make_tensor_value_info(n, 1, dims) for n, dims in (("x", [5, 1, 4]), ("h", [1, 1, 3]))
    ]
    held = {"w": small.normal(1, 12, 4), "r": small.normal(1, 12, 3)}
    weights_ = [onnx.numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], weights_)
    made = wb.load(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    )
    assert nodes(made, "fp16").kind["lstm"] == "computes"
    assert small.dtypes(convert(made, "fp16"))["r"] == "float16"


def test_refused():
    with pytest.raises(
        EditError, match="cannot convert the model: got the type 'fp8', expected 'fp16' or 'bf16'"
    ):
        convert(chain(), "fp8")
    with pytest.raises(NotInModelError, match="there is no node 'n_aa' in the model; did you mean 'n_a'"):
        convert(chain(), "fp16", keep=["n_aa"])
    old = small.model("g (float[2] x) => (float[2] y) { y = Mul(x, x) }", opset=12)
    with pytest.raises(
        EditError, match="Cast to bfloat16 needs operator set 13, the model has 12; use convert_opset"
    ):
        convert(old, "bf16")
    whole = small.model("g (int64[2] x) => (int64[2] y) { y = Add(x, x) }")
    with pytest.raises(EditError, match="no node computes in float32 and could in float16"):
        convert(whole, "fp16")


def test_a_tensor_that_is_input_and_output_stays_as_it_is():
    made = small.model("g (float[2] x) => (float[2] x, float[2] y) { y = Exp(x) }")
    found = convert(made, "fp16")
    assert [output.name for output in found.outputs] == ["x", "y"]
    assert small.run(found, {"x": np.float32([0.1, 2])})["x"].tolist() == np.float32([0.1, 2]).tolist()


REAL = {
    "bert_tiny_script": "fp16", "llama_tiny_dynamo": "fp16",
    "gpt2_tiny_dynamo": "bf16", "llama_tiny_script": "fp16", "residual_block": "fp16",
    "loop": "fp16", "needs_constraints": "fp16", "silero_vad": "fp16", "silero_vad_ifless": "bf16",
    "silero_vad_16k_sequence": "fp16", "minilm_int8": "bf16", "style_predict": "fp16", "magika": "fp16",
    "mtcnn_pnet": "fp16", "ppocr_cls": "fp16",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*beyond the range")
@pytest.mark.parametrize("name", REAL)
def test_real_models(real_model, name):
    """Planned types are those that onnx infers, the result passes the checker and runs, undo and replay are exact."""
    made = wb.load(real_model(name))
    before = made.to_proto().SerializeToString()
    with borrowed(made) as draft:
        shapes = {
            value: draft.types.of(value) for graph in draft.values for value in draft.values[graph].values()
        }
    found = convert(made, REAL[name])
    proto = found.to_proto()
    onnx.checker.check_model(proto, full_check=True)
    found.ir  # noqa: B018 - the shared graph stands at the converted version from here on
    types = {value: draft.types.of(value) for graph in draft.values for value in draft.values[graph].values()}
    after = {value.name: kind.tensor_type.elem_type for value, kind in types.items() if kind is not None}
    made.ir  # noqa: B018
    roles = roles_of(draft, "float16" if REAL[name] == "fp16" else "bfloat16")
    plan = make(draft, roles, (), True)
    code = {"float32": 1, "float16": 10, "bfloat16": 16}
    wrong = {v.name: (d, after.get(v.name)) for v, d in plan.dtype.items()
             if not v.is_graph_output() and after.get(v.name) != code[d]}  # fmt: skip
    assert len(plan.low) > 0 and not wrong
    known = {value.name: from_type(kind)[1] for value, kind in shapes.items() if kind is not None}
    lost = {value.name for value, kind in types.items() if kind is not None and known.get(value.name) is not None
            and from_type(kind)[1] is None}  # fmt: skip
    assert not lost
    if REAL[name] == "fp16":  # ONNX Runtime has few bf16 kernels for the CPU
        options = ort.SessionOptions()
        options.log_severity_level = 4
        ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    script = found.history.to_python()
    assert made.to_proto().SerializeToString() == before
    assert found.history.undo().to_proto().SerializeToString() == before
    assert wb.replay(script, wb.load(before)).to_proto().SerializeToString() == proto.SerializeToString()


@pytest.mark.parametrize(("name", "to"), [("bert_tiny_script", "bf16"), ("llama_tiny_dynamo", "fp16")])
def test_tensorrt_takes_what_was_converted(real_model, name, to):
    """The strongly typed parser of TensorRT-RTX, which runs without a GPU, refuses nothing that it took before."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    made = wb.load(real_model(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, after = (wb.tensorrt.check(model) for model in (made, convert(made, to)))
    assert set(after.refused) <= set(before.refused)
    assert {f.node for f in after.findings if f.severity == "error"} <= {
        f.node for f in before.findings if f.severity == "error"
    }


def test_what_a_later_operator_set_could_convert_is_said():
    conv = "g (float[1,1,4,4] x, float[1,1,3,3] w) => (float[1,1,2,2] y) { y = Conv(x, w) }"
    old = small.model(conv, opset=20)
    (reason,) = nodes(old, "bf16").reason
    assert reason.endswith("takes or makes no bfloat16, that of operator set 22 does: convert_opset(22)")
    assert list(nodes(old.convert_opset(22), "bf16").kind) == ["computes"]
    both = small.model(conv.replace("y = Conv(x, w)", "c = Conv(x, w) y = Mul(c, c)"), opset=20)
    said = r"1 node stays in float32, for which the model's operator set has no bf16 \(1 Conv\); operator set 22 has: "
    with pytest.warns(UserWarning, match=said + r"model\.convert_opset\(22\) first"):
        convert(both, "bf16")
    with pytest.warns(UserWarning, match=said):
        wb.precision.search(both, "bf16", tolerance=1.0, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(both, "fp16")


def test_a_bf16_model_that_the_cpu_cannot_run_points_to_its_simulation():
    net = small.model("g (float[4] x) => (float[4] y) { y = Mul(x, x) }", opset=20)
    with pytest.raises(BackendFailed, match=r"few operators take bfloat16 on a CPU: .*simulate\(model, 'bf16', keep="):
        wb.compare(net, convert(net, "bf16"), progress=False)
    assert wb.compare(net, simulate(net, "bf16"), tolerance=0.1, progress=False).ok
