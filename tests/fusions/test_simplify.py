"""Rules that remove what computes nothing: what goes, what stays, and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from fusions.places import array, build, fused, ints, number, operators, refused, run

import workbench as wb

Q = "float[2,4] x"
SCALE, ZERO = number(0.1), np.array(3, np.uint8)


@pytest.mark.parametrize(
    ("rule", "times", "proto", "left"),
    [
        ("identity", 1, build("a = Identity(x) y = Relu(a)"), ["Relu"]),
        ("identity", 1, build("a = Relu(x) y = Identity(a)"), ["Relu"]),
        ("identity", 2, build("a = Identity(x) b = Identity(a) y = Relu(b)"), ["Relu"]),
        ("cast", 1, build("a = Cast<to=1>(x) y = Relu(a)"), ["Relu"]),
        ("dropout", 1, build("a = Dropout(x, r) y = Relu(a)", r=number(0.5)), ["Relu"]),
        (
            "dropout",
            1,
            build("a, m = Dropout(x, r, t) y = Relu(a)", r=number(0.5), t=np.array(False)),
            ["Relu"],
        ),
        ("reshape", 1, build("a = Reshape(x, s) y = Relu(a)", s=ints(2, 3, 4)), ["Relu"]),
        ("reshape", 1, build("a = Reshape(x, s) y = Relu(a)", s=ints(0, 0, 4)), ["Relu"]),
        (
            "reshape",
            1,
            build("a = Reshape(x, s) y = Reshape(a, t)", s=ints(6, 4), t=ints(2, -1)),
            ["Reshape"],
        ),
        ("reshape", 1, build("a = Flatten(x) y = Reshape(a, t)", t=ints(4, 6)), ["Reshape"]),
        ("transpose", 1, build("a = Transpose<perm=[0,1,2]>(x) y = Relu(a)"), ["Relu"]),
        (
            "transpose",
            1,
            build("a = Transpose<perm=[0,2,1]>(x) b = Transpose<perm=[0,2,1]>(a) y = Relu(b)"),
            ["Relu"],
        ),
        (
            "transpose",
            1,
            build("a = Transpose<perm=[1,2,0]>(x) y = Transpose<perm=[2,1,0]>(a)"),
            ["Transpose"],
        ),
        ("duplicates", 1, build("a = Relu(x) b = Relu(x) y = Add(a, b)"), ["Relu", "Add"]),
        (
            "duplicates",
            2,
            build(
                "a = Mul(x, c) b = Mul(x, d) e = Relu(a) f = Relu(b) y = Add(e, f)", c=number(2), d=number(2)
            ),
            ["Mul", "Relu", "Add"],
        ),
        ("constant_folding", 2, build("a = Mul(c, c) b = Sqrt(a) y = Mul(x, b)", c=array(4)), ["Mul"]),
        (
            "shape_folding",
            1,
            build("s = Shape(x) i = Gather(s, two) y = Add(i, i)", "float[N,3,4] x", two=np.array(2)),
            ["Add"],
        ),
        ("shape_folding", 1, build("s = Shape<start=1>(x) y = Add(s, s)", "float[N,3,4] x"), ["Add"]),
        (
            "shape_folding",
            1,
            build("s = Shape(x) i = Slice(s, a, b) y = Add(i, i)", "float[N,3,4] x", a=ints(-2), b=ints(9)),
            ["Add"],
        ),
        ("shape_folding", 1, build("a = CastLike(c, x) y = Add(x, a)", c=np.array(2, np.int64)), ["Add"]),
        (
            "qdq",
            1,
            build(
                "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) p = QuantizeLinear(d, s, z) "
                "y = DequantizeLinear(p, s, z)",
                Q,
                s=SCALE,
                z=ZERO,
            ),
            ["QuantizeLinear", "DequantizeLinear"],
        ),
    ],
)
def test_it_goes(rule, times, proto, left):
    made = fused(proto, rule, times)
    assert operators(made) == left
    assert [value.name for value in made.ir.graph.outputs] == ["y"]


@pytest.mark.parametrize(
    ("rule", "node", "proto", "said"),
    [
        (
            "identity",
            "Identity_0",
            build("y = Identity(x)"),
            "it makes the output 'y' of the graph, and 'x' is an input, a weight or an output",
        ),
        ("cast", "Cast_0", build("a = Cast<to=10>(x) y = Relu(a)"), "it changes float32 to float16"),
        (
            "dropout",
            "Dropout_0",
            build("a = Dropout(x, r, t) y = Relu(a)", r=number(0.5), t=np.array(True)),
            "training_mode is true",
        ),
        (
            "dropout",
            "Dropout_0",
            build("a = Dropout(x, r, t) y = Relu(a)", "float[2] x, bool t", r=number(0.5)),
            "training_mode is 't', which is no constant",
        ),
        (
            "dropout",
            "Dropout_0",
            build("a, m = Dropout(x) n = Cast<to=1>(m) y = Add(a, n)"),
            "its mask 'm' is used",
        ),
        (
            "reshape",
            "Reshape_0",
            build("y = Reshape(x, s)", s=ints(6, 4)),
            "it changes the shape, [2, 3, 4] to [6, 4]",
        ),
        (
            "reshape",
            "Reshape_1",
            build("a = Reshape(x, s) y = Reshape(a, t)", s=ints(6, 4), t=ints(0, 2, 2)),
            "its target shape has a 0, which is a dim of its input",
        ),
        (
            "transpose",
            "Transpose_0",
            build("y = Transpose<perm=[0,2,1]>(x)"),
            "it permutes by [0, 2, 1], and no Transpose comes before it",
        ),
        (
            "duplicates",
            "RandomNormalLike_1",
            build("a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b)"),
            "RandomNormalLike draws other numbers than 'RandomNormalLike_0'",
        ),
        (
            "duplicates",
            "Mul_1",
            build("a = Mul(x, c) b = Mul(x, d) y = Add(a, b)", c=number(2), d=number(3)),
            "duplicates is not about such a node",
        ),
        (
            "dropout",
            "Dropout_0",
            build("a, m = Dropout<is_test=0>(x) y = Relu(a)", opset=6),
            "is_test is 0: it trains",
        ),
        (
            "constant_folding",
            "RandomUniform_0",
            build("r = RandomUniform<shape=[4]>() y = Add(x, r)"),
            "it is random, a quantiser",
        ),
        ("constant_folding", "Relu_0", build("y = Relu(x)"), "tensor 'x' is no constant"),
        (
            "shape_folding",
            "Gather_1",
            build("s = Shape(x) i = Gather(s, zero) y = Add(i, i)", "float[N,3,4] x", zero=np.array(0)),
            "dim 0 is 'N'",
        ),
        (
            "qdq",
            "QuantizeLinear_2",
            build(
                "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) p = QuantizeLinear(d, t, z) "
                "y = DequantizeLinear(p, t, z)",
                Q,
                s=SCALE,
                z=ZERO,
                t=number(0.2),
            ),
            "its scale differs from that of 'DequantizeLinear_1'",
        ),
    ],
)
def test_it_stays(rule, node, proto, said):
    onnx.checker.check_model(proto)
    assert said in refused(proto, rule, node)


def test_a_weight_that_may_be_fed_anew_is_no_constant():
    proto = build("c = Conv(x, w) y = Mul(c, f)", "float[2,4,8,8] x", w=array(6, 4, 3, 3), f=number(2))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, (6, 4, 3, 3)))
    said = "its weight, tensor 'w', an input of the graph (a default, which may be fed anew), is no constant"
    assert said in refused(proto, "scale_shift", "Conv_0")


def test_an_initializer_of_the_name_that_a_fusion_would_choose_is_not_replaced():
    proto = build(
        "c = Conv(x, w, b) m = Mul(c, f) n = Mul(m, g) h = MatMul(n, w_scale_shift) y = Add(h, w_scale_shift_bias)",
        "float[2,4,8,8] x", w=array(6, 4, 3, 3), b=array(6), f=number(2), g=number(3), w_scale_shift=array(6, 6),
        w_scale_shift_bias=array(6, 6),
    )  # fmt: skip
    made = fused(proto, "scale_shift", 2)
    names = list(made.ir.graph.initializers)
    assert len(names) == len(set(names)) == 4 and {"w_scale_shift", "w_scale_shift_bias"} <= set(names)


def test_weights_shared_by_two_convolutions_are_folded_apart():
    proto = build(
        "c = Conv(x, w) d = Mul(c, f) e = Conv(x, w) y = Add(d, e)",
        "float[2,4,8,8] x", w=array(6, 4, 3, 3), f=number(2),
    )  # fmt: skip
    made = fused(proto, "scale_shift", 1)
    assert "w" in made.ir.graph.initializers and len(made.ir.graph.initializers) == 2


def test_weights_in_constant_nodes_are_folded():
    weight, scale = array(6, 4, 3, 3), array(6)
    proto = build("c = Conv(x, w) y = BatchNormalization(c, s, s, s, v)", "float[2,4,8,8] x")
    for name, value in (("v", np.abs(scale)), ("s", scale), ("w", weight)):
        node = onnx.helper.make_node(
            "Constant", [], [name], f"const_{name}", value=onnx.numpy_helper.from_array(value)
        )
        proto.graph.node.insert(0, node)
    made = fused(proto, "conv_batchnorm")
    assert made.nodes.op_type.tolist() == ["Conv"]


def test_rules_reach_into_bodies():
    text = """
    <ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x, bool c) => (float[2,4] y) {
        y = If(c) <then_branch = t () => (float[2,4] p) { a = Sigmoid(x) p = Mul(x, a) },
                   else_branch = e () => (float[2,4] n) { b = Identity(x) n = Neg(b) }>
    }"""
    model = wb.load(onnx.parser.parse_model(text))
    made = model.fuse(["silu", "identity"], progress=False)
    assert made.report.counts == {"silu": 1, "identity": 1}
    for flag in (True, False):
        x = array(2, 4)
        import onnxruntime

        one, two = (
            onnxruntime.InferenceSession(item.to_proto().SerializeToString()).run(
                None, {"x": x, "c": np.array(flag)}
            )
            for item in (model, made)
        )
        np.testing.assert_allclose(one[0], two[0], rtol=1e-6)


def test_all_rules_together_leave_a_plain_model_alone():
    proto = build("a = Relu(x) y = MatMul(a, w)", w=array(4, 5))
    model = wb.load(proto)
    made = model.fuse(progress=False)
    assert made.fingerprint == model.fingerprint and made.report.fused == [] and not made.history.edits
    assert str(made.report) == "main: 2 nodes before, 2 after" or "2 nodes before, 2 after" in str(
        made.report
    )
    np.testing.assert_array_equal(run(model)[0], run(made)[0])
