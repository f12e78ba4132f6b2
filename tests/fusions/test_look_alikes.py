"""What only looks like a fusion is left alone, with the reason and the node."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from fusions.places import (
    _CENTRED,
    _GROUPED,
    _HALF,
    _HALVES,
    _MOMENTS,
    _QKV,
    _ROPE,
    _SIZED,
    _SOFTMAX,
    _SPREAD,
    _TURN,
    BN,
    CONV,
    ERF,
    GROUP,
    IMAGE,
    LN,
    MOMENTS,
    ROOT2,
    TANH,
    array,
    build,
    fused,
    ints,
    number,
    operators,
    refused,
)  # fmt: skip

import workbench as wb
from workbench.plugins.builtin.skip_layer_norm import skip_layer_norm
from workbench.plugins.launch import Spec

_TWO = "float[2,4] x, float[2,4] u"
_LN = "p = Mul(d, d) v = ReduceMean<axes=[-1]>(p) a = Add(v, e) s = Sqrt(a) n = Div(d, s) g = Mul(n, w) y = Add(g, b)"

# (rule, node to ask about, model, what the answer says)
CASES = {
    "gelu_with_another_factor": (
        "gelu", "Mul_4",
        build("a = Div(x, r) b = Erf(a) c = Add(b, o) d = Mul(x, c) y = Mul(d, h)", **{**ERF, "h": number(0.4)}),
        "the constant is 0.4, expected 0.5",
    ),
    "gelu_of_two_tensors": (
        "gelu", "Erf_1",
        build("a = Div(u, r) b = Erf(a) c = Add(b, o) d = Mul(x, c) y = Mul(d, h)", _TWO, **ERF),
        "is read where",
    ),
    "gelu_with_another_power": (
        "gelu", "Pow_0",
        build(
            "p = Pow(x, three) a = Mul(c, p) s = Add(x, a) i = Mul(k, s) t = Tanh(i) u = Add(t, o) g = Mul(x, h) "
            "y = Mul(g, u)", **{**TANH, "three": number(2)},
        ),
        "the constant is 2, expected 3",
    ),
    "silu_of_two_tensors": (
        "silu", "Sigmoid_0", build("a = Sigmoid(u) y = Mul(x, a)", _TWO),
        "tensor 'u' is read where 'x' would have to be",
    ),
    "silu_with_factors": (
        "silu", "Sigmoid_1", build("s = Mul(x, c) a = Sigmoid(s) y = Mul(x, a)", c=array(4)),
        "alpha ('c') is an array (4,), expected one number",
    ),
    "swiglu_with_a_scale": (
        "swiglu", "Mul_2", build("a = Sigmoid(x) b = Mul(x, a) y = Mul(b, u)", u=array(4)),
        "it multiplies by the constant 'u': a scale, not a gate",
    ),
    "hard_swish_with_another_slope": (
        "hard_swish", "HardSigmoid_0", build("a = HardSigmoid<alpha=0.2, beta=0.5>(x) y = Mul(x, a)"),
        "attribute 'alpha' is 0.2",
    ),
    "hard_swish_with_another_bound": (
        "hard_swish", "Clip_1",
        build("a = Add(x, t) b = Clip(a, z, s) c = Mul(x, b) y = Div(c, s)", t=number(3), z=number(0), s=number(5)),
        "the constant is 5, expected 6",
    ),
    "mish_with_tanh_of_something_else": (
        "mish", "Tanh_1", build("a = Softsign(x) b = Tanh(a) y = Mul(x, b)"), "expected Softplus, got Softsign",
    ),
    "layer_norm_along_another_axis": (
        "layer_norm", "ReduceMean_0", build((_CENTRED + _LN).replace("[-1]", "[1]"), **LN),
        "its axes are [1] of 3, expected the last ones",
    ),
    "layer_norm_of_two_axes": (
        "layer_norm", "ReduceMean_3", build(_CENTRED + _LN.replace("[-1]", "[1,2]"), **{**LN, "w": array(4)}),
        "its axes differ from those of 'ReduceMean_0'",
    ),
    "layer_norm_with_a_vector_for_epsilon": (
        "layer_norm", "Add_4", build(_CENTRED + _LN, **{**LN, "e": np.abs(array(4))}),
        "epsilon ('e') is an array (4,), expected one number",
    ),
    "layer_norm_without_keepdims": (
        "layer_norm", "ReduceMean_0",
        build((_CENTRED + _LN).replace("axes=[-1]", "axes=[-1], keepdims=0", 1), "float[4,4] x", **LN), "keepdims is 0",
    ),
    "rms_norm_along_another_axis": (
        "rms_norm", "ReduceMean_1",
        build("p = Mul(x, x) v = ReduceMean<axes=[0]>(p) a = Add(v, e) s = Sqrt(a) n = Div(x, s) y = Mul(n, w)", **LN),
        "its axes are [0] of 3, expected the last ones",
    ),
    "a_bias_before_a_norm": (
        "skip_norm", "Add_0", build("s = Add(x, u) y = LayerNormalization(s, w)", u=array(4), **LN),
        "it adds the constant 'u': a bias, not a skip connection",
    ),
    "a_spread_sum_before_a_norm": (
        "skip_norm", "Add_0",
        build("s = Add(x, u) y = LayerNormalization(s, w)", "float[2,4] x, float[1,4] u", **LN),
        "it adds the shapes (2, 4) and (1, 4), expected the same",
    ),
    "a_sum_of_two_that_are_spread": (
        "skip_norm", "Add_0",
        build("s = Add(x, u) y = LayerNormalization(s, w)", "float[2,1,3,4] x, float[1,2,3,4] u", **LN),
        "it adds the shapes (2, 1, 3, 4) and (1, 2, 3, 4), which spreads both",
    ),
    "moments_along_another_axis": (
        "moments_norm", "ReduceSum_0",
        build(_MOMENTS + _SPREAD, "float[2,4,4] x",
              **{**MOMENTS, "last": ints(1), "r": ints(2, 1, 4)}),
        "its axes are [1] of 3, expected the last ones",
    ),
    "moments_of_another_number": (
        "moments_norm", "ReduceSum_0",
        build(_MOMENTS + _SPREAD, **{**MOMENTS, "n": number(0.2)}),
        "the sum is multiplied by 0.2, expected 1 / n of the dims (4,)",
    ),
    "groups_of_something_else": (
        "group_norm", "Reshape_0", build(_GROUPED, "float[n,6,h,w] x", **{**GROUP, "g": ints(0, 4, -1)}),
        "it makes [0, 4, -1] of ('n', 6, 'h', 'w'), expected (batch, groups, the rest)",
    ),
    "groups_with_a_scale_inside": (
        "group_norm", "InstanceNormalization_1", build(_GROUPED, IMAGE, **{**GROUP, "ones": array(2)}),
        "its own scale is not 1",
    ),
    "groups_that_become_another_shape": (
        "group_norm", "Reshape_2", build(_SIZED, IMAGE, t=ints(2, 4, 4, 16), **GROUP),
        "it makes [2, 4, 4, 16], expected (2, 4, 8, 8)",
    ),
    "groups_that_become_a_shape_that_is_computed": (
        "group_norm", "Reshape_2", build(_SIZED, "float[2,4,8,8] x, int64[4] t", **GROUP),
        "it makes a shape that is computed, expected (2, 4, 8, 8)",
    ),
    "groups_with_a_scale_for_each_column": (
        "group_norm", "Add_5", build(_GROUPED, "float[2,4,8,4] x", **{**GROUP, "w": array(4)}),
        "the scale 'w' has the shape (4,), expected one for each of 4 channels",
    ),
    "softmax_of_two_axes": (
        "softmax", "ReduceMax_0",
        build(_SOFTMAX.replace("[-1]", "[1,2]"), last=ints(1, 2)), "its axes are [1, 2], expected one",
    ),
    "softmax_over_another_axis_than_its_maximum": (
        "softmax", "ReduceSum_3", build(_SOFTMAX, last=ints(1)), "its axes differ from those of 'ReduceMax_0'",
    ),
    "softmax_along_another_axis_of_an_old_operator_set": (
        "softmax", "ReduceMax_0",
        build(_SOFTMAX.replace("(z, last)", "<axes=[1]>(z)").replace("-1", "1"), opset=11),
        "its axes are [1] of 3, expected the last ones",
    ),
    "softmax_without_a_maximum": (
        "softmax", "Exp_1", build("s = Sub(x, u) z = Exp(s) t = ReduceSum(z, last) y = Div(z, t)", u=number(2),
                                  last=ints(-1)),
        "expected ReduceMax",
    ),
    "attention_along_another_axis": (
        "attention", "Softmax_1", build("s = MatMul(q, k) p = Softmax<axis=2>(s) y = MatMul(p, v)", _QKV),
        "its axis is 2, expected the last",
    ),
    "attention_with_a_scale_per_head": (
        "attention", "Mul_1",
        build("s = MatMul(q, k) c = Mul(s, f) p = Softmax(c) y = MatMul(p, v)", _QKV, f=array(2, 1, 1)),
        "scale ('f') is an array (2, 1, 1), expected one number",
    ),
    "attention_with_a_cap_that_scales": (
        "attention", "Tanh_2",
        build("s = MatMul(q, k) i = Div(s, c) t = Tanh(i) j = Mul(t, d) p = Softmax(j) y = MatMul(p, v)", _QKV,
              c=number(30), d=number(50)),
        "it divides by 30 before the Tanh and multiplies by 50 after it",
    ),
    "attention_with_probabilities_on_the_right": (
        "attention", "Softmax_1",
        build("s = MatMul(q, k) p = Softmax(s) y = MatMul(v, p)", "float[5,4] q, float[4,6] k, float[3,5] v"),
        "expected Softmax, got tensor 'v', which no node makes",
    ),
    "rotary_of_quarters": (
        "rotary", "Slice_1", build((_HALVES + _TURN), _ROPE, **{**_HALF, "two": ints(1)}),
        "it takes [0:1:1] of axis 3, expected [0:2] of the last",
    ),
    "rotary_along_another_axis": (
        "rotary", "Concat_2", build(
            "l, h = Split<axis=-1>(x) n = Neg(h) c = Concat<axis=2>(n, l) a = Mul(u, cos) "
            "e = Mul(c, sin) y = Add(a, e)",
            "float[2,3,5,4] x, float[2,3,10,2] u, float[2,1,10,2] cos, float[2,1,10,2] sin", opset=13),
        "is read where",
    ),
    "batchnorm_after_a_relu": (
        "conv_batchnorm", "BatchNormalization_2",
        build("c = Conv(x, w) r = Relu(c) y = BatchNormalization(r, s, t, m, v)", IMAGE, **CONV, **BN),
        "expected Conv or ConvTranspose, got Relu",
    ),
    "batchnorm_that_trains": (
        "conv_batchnorm", "Conv_0",
        build("c = Conv(x, w) y, rm, rv = BatchNormalization<training_mode=1>(c, s, t, m, v)", IMAGE, **CONV, **BN),
        "training_mode is 1",
    ),
    "batchnorm_of_an_old_operator_set_that_trains": (
        "conv_batchnorm", "Conv_0",
        build("c = Conv(x, w) y = BatchNormalization<is_test=0>(c, s, t, m, v)", IMAGE, opset=6, **CONV, **BN),
        "is_test is 0: it trains",
    ),
    "batchnorm_with_computed_factors": (
        "conv_batchnorm", "Conv_1",
        build("z = Relu(u) c = Conv(x, w) y = BatchNormalization(c, z, t, m, v)", IMAGE + ", float[6] u", **CONV, **BN),
        "tensor 'z', made by Relu 'Relu_0', (scale) is no constant",
    ),
    "batchnorm_after_computed_weights": (
        "conv_batchnorm", "Conv_0",
        build("c = Conv(x, u) y = BatchNormalization(c, s, t, m, v)", IMAGE + ", float[6,4,3,3] u", **BN),
        "its weight, tensor 'u', an input of the graph, is no constant",
    ),
    "a_scale_along_another_axis": (
        "scale_shift", "Mul_1", build("c = Conv(x, w, b) y = Mul(c, f)", IMAGE, **CONV, f=array(6)),
        "the constant 'f' has the shape (6,), expected one number per channel, (1, 6, 1, 1)",
    ),
    "a_scale_that_widens": (
        "scale_shift", "Mul_1",
        build("c = Gemm(x, w) y = Mul(c, f)", "float[3,4] x", w=array(4, 5), f=array(1, 1, 5)),
        "the constant 'f' has the shape (1, 1, 5), which does not fit the rank of Gemm",
    ),
    "a_scale_after_a_weighted_gemm": (
        "scale_shift", "Gemm_0",
        build("c = Gemm<alpha=0.5>(x, w) y = Mul(c, f)", "float[3,4] x", w=array(4, 5), f=array(5)),
        "alpha is 0.5 and beta 1, expected 1",
    ),
    "a_scale_beyond_the_dtype": (
        "scale_shift", "Conv_0",
        build("c = Conv(x, w) y = Mul(c, f)", "float16[2,4,8,8] x", w=np.full((6, 4, 3, 3), 3e4, np.float16),
              f=np.array(8, np.float16)),
        "the folded weights do not fit float16",
    ),
    "pad_with_ones": (
        "pad_conv", "Pad_0",
        build("p = Pad(x, a, z) y = Conv(p, w)", IMAGE, a=ints(0, 0, 1, 1, 0, 0, 1, 1), z=number(1), **CONV),
        "it pads with 1, expected 0",
    ),
    "pad_that_mirrors": (
        "pad_conv", "Pad_0",
        build("p = Pad<mode=\"reflect\">(x, a) y = Conv(p, w)", IMAGE, a=ints(0, 0, 1, 1, 0, 0, 1, 1), **CONV),
        "its mode is 'reflect'",
    ),
    "pad_that_crops": (
        "pad_conv", "Pad_0", build("p = Pad(x, a) y = Conv(p, w)", IMAGE, a=ints(0, 0, -1, 1, 0, 0, 1, 1), **CONV),
        "its amounts [0, 0, -1, 1, 0, 0, 1, 1] are negative: it crops",
    ),
    "pad_of_channels": (
        "pad_conv", "Pad_0",
        build("p = Pad(x, a) y = Conv(p, w)", "float[2,3,8,8] x", a=ints(0, 1, 0, 0, 0, 0, 0, 0), **CONV),
        "it pads batch or channels",
    ),
    "matmul_of_a_batch": (
        "matmul_add", "MatMul_0", build("m = MatMul(x, w) y = Add(m, c)", w=array(4, 5), c=array(5)),
        "its first input 'x' has 3 dims; Gemm takes 2",
    ),
    "matmul_with_a_column": (
        "matmul_add", "Add_1", build("m = MatMul(x, w) y = Add(m, c)", "float[3,4] x", w=array(4, 5), c=array(3, 1)),
        "its constant 'c' has the shape (3, 1), expected one row",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_look_alike_is_left_alone(case):
    rule, node, proto, said = CASES[case]
    onnx.checker.check_model(proto)
    answer = refused(proto, rule, node)
    assert answer.startswith(f"{rule} at '") and said in answer, answer


def test_a_scale_that_does_not_fit_stays_behind_the_norm():
    made = fused(build(_CENTRED + _LN, **{**LN, "w": array(3, 4)}), "layer_norm")
    assert operators(made) == ["LayerNorm", "Mul", "Add"]


def test_near_misses_are_in_the_report_and_far_ones_are_not():
    rule, _, near, said = CASES["batchnorm_that_trains"]
    assert said in refused(near, rule)
    far = CASES["batchnorm_after_a_relu"][2]
    assert wb.load(far).fuse([rule], progress=False).report.refusals == []


def test_a_near_miss_is_told_once_by_the_nearest_form():
    """The inner products of a GELU's cube look like the outer ones of another form."""
    body = (
        "z = Add(x, r) p = Mul(c, z) q = Mul(z, p) a = Mul(z, q) s = Add(z, a) i = Mul(k, s) t = Tanh(i) "
        "u = Add(o, t) g = Mul(h, u) y = Mul(z, g)"
    )
    made = wb.load(build(body, **{**TANH, "c": number(0.05)}, r=ROOT2)).fuse(progress=False)
    assert list(map(str, made.report.refusals)) == [
        "gelu at 'Mul_9': node 'Mul_1' (Mul): the constant is 0.05, expected 0.044715 (all nodes found)"
    ]


def test_a_plugin_that_wants_one_shape_refuses_a_sum_that_is_spread():
    proto = build("s = Add(x, u) y = LayerNormalization(s, w, b)", "float[2,3,4] x, float[1,3,4] u", **LN)
    made = fused(proto, "skip_norm")
    (node,) = made.ir.graph
    specs = [Spec("float32", shape) for shape in ((2, 3, 4), (1, 3, 4), (4,), (4,))]
    assert node.op_type == "SkipLayerNorm" and [value.name for value in node.inputs[:2]] == ["x", "u"]
    with pytest.raises(
        wb.errors.PluginError,
        match=r"'FusedSkipLayerNorm' requires size\(skip\) == size\(x\); got .*skip float32.1,3,4",
    ):
        skip_layer_norm.launch(specs)


def test_why_not_answers_for_a_node_that_no_pattern_knows():
    model = wb.load(CASES["pad_that_crops"][2])
    assert str(model.why_not("conv_batchnorm", "Pad_0")) == (
        "conv_batchnorm at 'Pad_0': node 'Pad_0' (Pad): no BatchNormalization that ends this pattern reads Pad "
        "(0 of 2 nodes found)"
    )


def test_why_not_says_when_a_rule_does_apply():
    model = wb.load(build("a = Sigmoid(x) y = Mul(x, a)"))
    answer = model.why_not("silu", "Sigmoid_0")
    assert answer.nodes == ("Sigmoid_0", "Mul_1") and "it applies here" in answer.reason


def test_names_that_are_not_there():
    model = wb.load(build("a = Sigmoid(x) y = Mul(x, a)"))
    with pytest.raises(
        wb.errors.EditError, match="there is no fusion 'gelo'; expected one of identity, dropout"
    ):
        model.fuse("gelo")
    with pytest.raises(wb.errors.NotInModelError, match="there is no node 'Mul_7'"):
        model.why_not("gelu", "Mul_7")
    with pytest.raises(wb.errors.EditError, match="cannot fuse 'gelu' at node 'Mul_1' .*ask m.why_not"):
        model.fuse_at("gelu", ["Mul_1"])
    with pytest.raises(wb.errors.EditError, match="cannot fuse 'qdq': it applies nowhere"):
        model.fuse_at("qdq")


def test_the_shape_that_a_group_norm_gives_back_may_be_read_by_others():
    both = _GROUPED.replace("y = Add(m, b)", "a = Add(m, b) y = Reshape(a, t)")
    assert operators(fused(build(both, "float[n,4,h,w] x", **GROUP), "group_norm")) == ["Shape", "GroupNorm", "Reshape"]
