"""Small models for the tests of fusions: one for each form that a rule finds, and what to ask of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime

import workbench as wb
from workbench.model import Model

onnxruntime.set_default_logger_severity(4)
RNG = np.random.default_rng(0)


def build(body: str, inputs: str = "float[2,3,4] x", opset: int = 17, **weights: Any) -> onnx.ModelProto:
    """A model of a body in onnx's text form, with the output y, and weights as arrays."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => (y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return onnx.shape_inference.infer_shapes(model)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def run(model: Model | onnx.ModelProto) -> list[np.ndarray]:
    """Outputs on random inputs, unoptimised."""
    proto = model.to_proto() if isinstance(model, Model) else model
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    rng, feeds = np.random.default_rng(1), {}
    for item in session.get_inputs():
        shape = [dim if isinstance(dim, int) else 2 for dim in item.shape]
        if item.type == "tensor(bool)":
            feeds[item.name] = rng.normal(size=shape) > 0
        elif item.type == "tensor(int64)":
            feeds[item.name] = rng.integers(0, 4, shape)
        else:
            dtype = {"tensor(float16)": np.float16, "tensor(int8)": np.int8}.get(item.type, np.float32)
            feeds[item.name] = (rng.normal(size=shape) * 2).astype(dtype)
    return list(session.run(None, feeds))


def fused(proto: onnx.ModelProto, rule: Any, times: int = 1, **options: Any) -> Model:
    """The fused model, after asking what holds for every fusion: it was applied so often; onnx's checker and shape
    inference pass; the outputs are equal; undo and replay give the same bytes."""
    model = wb.load(proto)
    before = run(model)
    made = model.fuse([rule], progress=False, **options)
    name = rule if isinstance(rule, str) else rule.name
    told = "\n".join(map(str, made.report.refusals))
    assert made.report.counts.get(name, 0) == times, told
    written = onnx.ModelProto.FromString(made.to_proto().SerializeToString())
    onnx.checker.check_model(written, full_check=True)
    for one, two in zip(before, run(written), strict=True):
        assert one.dtype == two.dtype and one.shape == two.shape
        np.testing.assert_allclose(
            one.astype(np.float64), two.astype(np.float64), rtol=2e-5, atol=2e-5 * max(1.0, np.abs(one).max())
        )
    if times:
        assert wb.replay(made.history.to_json(), proto).fingerprint == made.fingerprint
        assert made.history.goto(0).fingerprint == model.fingerprint
    return made


def refused(proto: onnx.ModelProto, rule: str, node: str | None = None) -> str:
    """The reason for which a rule leaves a model alone, from the report, or from why_not for a node."""
    model = wb.load(proto)
    made = model.fuse([rule], progress=False)
    assert not made.report.counts and made.fingerprint == model.fingerprint
    if node is None:
        (found,) = made.report.refusals
        return str(found)
    return str(model.why_not(rule, node))


def operators(model: Model) -> list[str]:
    """Operators of the main graph, in order."""
    return [node.op_type for node in model.ir.graph if node.op_type != "Constant"]


HALF, ONE, ROOT2 = number(0.5), number(1), number(np.sqrt(2))
C, K = number(0.044715), number(np.sqrt(2 / np.pi))
ERF = {"h": HALF, "o": ONE, "r": ROOT2}
TANH = {"h": HALF, "o": ONE, "c": C, "k": K, "three": number(3)}
W4, B4 = array(4), array(4)
LN = {"two": number(2), "e": number(1e-5), "w": W4, "b": B4, "o": ONE}
CONV = {"w": array(6, 4, 3, 3), "b": array(6)}
BN = {"s": array(6), "t": array(6), "m": array(6), "v": np.abs(array(6)) + 0.1}
IMAGE = "float[2,4,8,8] x"
_CENTRED = "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) "
_QKV = "float[2,2,5,4] q, float[2,2,4,6] k, float[2,2,6,4] v"
_MOMENTS = (
    "a = ReduceSum<keepdims=0>(x, last) m = Mul(a, n) q = Mul(x, x) c = ReduceSum<keepdims=0>(q, last) v = Mul(c, n) "
    "p = Mul(m, m) d = Sub(v, p) t = Max(z, d) "
)
_AFFINE = (
    _CENTRED + "q = Mul(d, d) v = ReduceMean<axes=[-1]>(q) f = Add(v, e) g = Sqrt(f) h = Reciprocal(g) i = Mul(h, w) "
    "j = Mul(x, i) "
)
_SPREAD = (
    "u = Reshape(t, r) s = Expand(u, r) f = Add(s, e) g = Sqrt(f) h = Reciprocal(g) i = Mul(h, w) k = Reshape(m, r) "
    "o = Expand(k, r) j = Sub(x, o) l = Mul(j, i) y = Add(l, b)"
)
MOMENTS = {
    "e": number(1e-5), "w": array(1, 1, 4), "b": array(1, 1, 4), "n": number(0.25), "z": number(0), "last": ints(2),
    "r": ints(2, 3, 1),
}  # fmt: skip
_SOFTMAX = "m = ReduceMax<axes=[-1]>(x) s = Sub(x, m) z = Exp(s) t = ReduceSum(z, last) y = Div(z, t)"
_HALVES = "l = Slice(x, zero, two, last, one) h = Slice(x, two, big, last, one) n = Neg(h) c = Concat<axis=-1>(n, l) "
_HALF = {"zero": ints(0), "two": ints(2), "big": ints(1 << 40), "last": ints(3), "one": ints(1)}
_ROPE = "float[2,3,5,4] x, float[2,1,5,4] cos, float[2,1,5,4] sin"
_TURN = "a = Mul(x, cos) e = Mul(c, sin) y = Add(a, e)"

_GROUPS = "r = Reshape(x, g) i = InstanceNormalization<epsilon=1e-5>(r, ones, zeros) "
_GROUPED = _GROUPS + "t = Shape(x) u = Reshape(i, t) m = Mul(u, w) y = Add(m, b)"
_SIZED = _GROUPS + "u = Reshape(i, t) m = Mul(w, u) y = Add(b, m)"
GROUP = {
    "g": ints(0, 2, -1), "ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32), "w": array(4, 1, 1),
    "b": array(4, 1, 1),
}  # fmt: skip

# rule -> form -> (body, further arguments of build): what every rule must find
FORMS: dict[str, dict[str, onnx.ModelProto]] = {
    "gelu": {
        "erf_half_last": build(
            "a = Div(x, r) b = Erf(a) c = Add(b, o) d = Mul(x, c) y = Mul(d, h)", **ERF
        ),
        "erf_half_on_sum": build(
            "a = Div(x, r) b = Erf(a) c = Add(o, b) d = Mul(h, c) y = Mul(d, x)", **ERF
        ),
        "erf_half_first": build(
            "a = Mul(x, r) b = Erf(a) c = Add(b, o) d = Mul(x, h) y = Mul(d, c)",
            **{**ERF, "r": number(np.sqrt(0.5))},
        ),
        "tanh_power": build(
            "p = Pow(x, three) a = Mul(c, p) s = Add(x, a) i = Mul(k, s) t = Tanh(i) u = Add(t, o) g = Mul(x, h) "
            "y = Mul(g, u)", **TANH,
        ),  # fmt: skip
        "tanh_products": build(
            "q = Mul(x, x) p = Mul(q, x) a = Mul(p, c) s = Add(a, x) i = Mul(s, k) t = Tanh(i) u = Add(o, t) "
            "g = Mul(x, u) y = Mul(h, g)", **TANH,
        ),  # fmt: skip
        "tanh_square": build(
            "q = Mul(x, x) p = Mul(q, c) a = Mul(x, p) s = Add(x, a) i = Mul(s, k) t = Tanh(i) u = Add(t, o) "
            "g = Mul(x, h) y = Mul(g, u)", **TANH,
        ),  # fmt: skip
        "tanh_one_by_one": build(  # as JAX writes it
            "p = Mul(c, x) q = Mul(x, p) a = Mul(x, q) s = Add(x, a) i = Mul(k, s) t = Tanh(i) u = Add(o, t) "
            "g = Mul(h, u) y = Mul(x, g)", **TANH,
        ),  # fmt: skip
        "tanh_two_by_two": build(
            "p = Mul(x, c) q = Mul(x, x) a = Mul(q, p) s = Add(a, x) i = Mul(s, k) t = Tanh(i) u = Add(t, o) "
            "g = Mul(x, u) y = Mul(g, h)", **TANH,
        ),  # fmt: skip
        "tanh_factored": build(
            "a = Mul(x, k) b = Mul(x, c) d = Mul(b, x) f = Add(d, o) i = Mul(a, f) t = Tanh(i) u = Add(t, o) "
            "g = Mul(u, h) y = Mul(x, g)", **TANH,
        ),  # fmt: skip
        "tanh_factored_square": build(
            "a = Mul(k, x) q = Mul(x, x) d = Mul(c, q) f = Add(o, d) i = Mul(a, f) t = Tanh(i) u = Add(o, t) "
            "g = Mul(h, x) y = Mul(g, u)", **TANH,
        ),  # fmt: skip
        "erf_opset_20": build(
            "a = Div(x, r) b = Erf(a) c = Add(b, o) d = Mul(x, c) y = Mul(d, h)", opset=20, **ERF
        ),
    },
    "silu": {
        "plain": build("a = Sigmoid(x) y = Mul(x, a)"),
        "other_way_round": build("a = Sigmoid(x) y = Mul(a, x)"),
        "quick_gelu": build("s = Mul(x, c) a = Sigmoid(s) y = Mul(x, a)", c=number(1.702)),
        "quick_gelu_opset_24": build(
            "s = Mul(x, c) a = Sigmoid(s) y = Mul(x, a)", opset=24, c=number(1.702)
        ),
    },
    "hard_swish": {
        "hard_sigmoid": build("a = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, a)"),
        "clip_last": build(
            "a = Add(x, t) b = Clip(a, z, s) c = Mul(x, b) y = Div(c, s)",
            t=number(3), z=number(0), s=number(6),
        ),  # fmt: skip
        "clip_inner": build(
            "a = Add(t, x) b = Clip(a, z, s) c = Div(b, s) y = Mul(c, x)",
            t=number(3), z=number(0), s=number(6),
        ),  # fmt: skip
        "clip_product": build(
            "a = Add(x, t) b = Clip(a, z, s) c = Mul(x, b) y = Mul(c, i)", opset=13,
            t=number(3), z=number(0), s=number(6), i=number(1 / 6),
        ),  # fmt: skip
    },
    "mish": {
        "softplus": build("a = Softplus(x) b = Tanh(a) y = Mul(x, b)"),
        "written_out": build("e = Exp(x) f = Add(e, o) a = Log(f) b = Tanh(a) y = Mul(b, x)", o=ONE),
        "opset_18": build("a = Softplus(x) b = Tanh(a) y = Mul(x, b)", opset=18),
    },
    "swiglu": {
        "written_out": build("a = Sigmoid(x) b = Mul(x, a) y = Mul(b, u)", "float[2,4] x, float[2,4] u"),
        "swish": build("b = Swish(x) y = Mul(u, b)", "float[2,4] x, float[2,4] u", opset=24),
    },
    "layer_norm": {
        "power": build(
            _CENTRED + "p = Pow(d, two) v = ReduceMean<axes=[-1]>(p) a = Add(v, e) s = Sqrt(a) n = Div(d, s) "
            "g = Mul(n, w) y = Add(g, b)", opset=14, **LN,
        ),  # fmt: skip
        "product_and_reciprocal": build(
            _CENTRED + "p = Mul(d, d) v = ReduceMean<axes=[2]>(p) a = Add(e, v) s = Sqrt(a) r = Reciprocal(s) "
            "n = Mul(d, r) g = Mul(w, n) y = Add(b, g)", **LN,
        ),  # fmt: skip
        "one_over_without_shift": build(
            _CENTRED + "p = Mul(d, d) v = ReduceMean<axes=[-1]>(p) a = Add(v, e) s = Sqrt(a) r = Div(o, s) "
            "n = Mul(d, r) y = Mul(n, w)", **LN,
        ),  # fmt: skip
        "bare": build(
            _CENTRED + "p = Mul(d, d) v = ReduceMean<axes=[-1]>(p) a = Add(v, e) s = Sqrt(a) y = Div(d, s)", **LN
        ),
        "half_power": build(
            _CENTRED + "p = Pow(d, two) v = ReduceMean<axes=[-1]>(p) a = Add(v, e) s = Pow(a, h) n = Div(d, s) "
            "g = Mul(n, w) y = Add(g, b)", **LN, h=HALF,
        ),  # fmt: skip
        "two_axes_opset_18": build(
            "m = ReduceMean(x, ax) d = Sub(x, m) p = Pow(d, two) v = ReduceMean(p, ax) a = Add(v, e) s = Sqrt(a) "
            "n = Div(d, s) g = Mul(n, w) y = Add(g, b)", opset=18, **{**LN, "w": array(3, 4), "b": array(3, 4)},
            ax=ints(1, 2),
        ),  # fmt: skip
    },
    "rms_norm": {
        "power": build(
            "p = Pow(x, two) v = ReduceMean<axes=[-1]>(p) a = Add(v, e) s = Sqrt(a) r = Div(o, s) n = Mul(x, r) "
            "y = Mul(w, n)", **LN,
        ),  # fmt: skip
        "product": build(
            "p = Mul(x, x) v = ReduceMean<axes=[-1]>(p) a = Add(v, e) s = Sqrt(a) n = Div(x, s) y = Mul(n, w)", **LN
        ),
        "minus_half_power": build(
            "p = Pow(x, two) v = ReduceMean<axes=[-1]>(p) a = Add(v, e) r = Pow(a, h) n = Mul(x, r) y = Mul(w, n)",
            **LN, h=number(-0.5),
        ),
        "bare_reciprocal": build(
            "p = Pow(x, two) v = ReduceMean<axes=[2]>(p) a = Add(v, e) s = Sqrt(a) r = Reciprocal(s) y = Mul(x, r)",
            **LN,
        ),
        "opset_23": build(
            "p = Pow(x, two) v = ReduceMean(p, ax) a = Add(v, e) s = Sqrt(a) n = Div(x, s) y = Mul(n, w)",
            opset=23, **LN, ax=ints(-1),
        ),  # fmt: skip
    },
    "skip_norm": {
        "layer": build(
            "s = Add(x, u) y = LayerNormalization<axis=-1>(s, w, b)", "float[2,4] x, float[2,4] u", **LN
        ),
        "rms": build(
            "s = Add(x, u) y = RMSNormalization<axis=-1>(s, w)", "float[2,4] x, float[2,4] u", opset=23, **LN
        ),
        "one_for_the_batch": build(
            "s = Add(x, u) y = LayerNormalization(s, w)", "float[n,3,4] x, float[1,3,4] u", **LN
        ),
    },
    "moments_norm": {
        "flax": build(
            _MOMENTS + _SPREAD, "float[2,3,4] x", opset=14, **MOMENTS
        ),
        "flax_opset_18": build(
            _MOMENTS + _SPREAD, "float[2,3,4] x", opset=18, **MOMENTS
        ),
        "means": build(
            "m = ReduceMean<axes=[-1]>(x) q = Mul(x, x) v = ReduceMean<axes=[2]>(q) p = Mul(m, m) d = Sub(v, p) "
            "f = Add(d, e) g = Sqrt(f) h = Reciprocal(g) i = Mul(h, w) j = Sub(x, m) l = Mul(i, j) y = Add(l, b)", **LN,
        ),  # fmt: skip
        "tensorflow": build(_AFFINE + "k = Mul(m, i) l = Sub(b, k) y = Add(j, l)", **LN),
        "keras_3": build(_AFFINE + "n = Neg(m) k = Mul(n, i) l = Add(k, b) y = Add(j, l)", opset=14, **LN),
    },
    "group_norm": {
        "any_size": build(_GROUPED, "float[n,4,h,w] x", **GROUP),
        "one_size": build(_SIZED, IMAGE, t=ints(2, 4, 8, 8), **{**GROUP, "b": array(1, 4, 1, 1)}),
        "any_batch_opset_21": build(_SIZED, "float[n,4,8,8] x", opset=21, t=ints(-1, 4, 8, 8), **GROUP),
        "opset_21": build(_GROUPED, "float[n,4,h] x", opset=21, **{**GROUP, "w": array(4, 1), "b": array(4, 1)}),
    },
    "softmax": {
        "plain": build(_SOFTMAX, last=ints(-1)),
        "another_axis": build(_SOFTMAX.replace("-1", "1"), last=ints(1)),
        "jax": build(
            "n = ReduceMax<axes=[2], keepdims=0>(x) m = Max(n, low) k = Reshape(m, r) g = Expand(k, r) s = Sub(x, g) "
            "z = Exp(s) t = ReduceSum<keepdims=0>(z, last) u = Reshape(t, r) v = Expand(u, r) y = Div(z, v)",
            low=number(-np.inf), last=ints(2), r=ints(2, 3, 1),
        ),  # fmt: skip
        "opset_11": build(_SOFTMAX.replace("(z, last)", "<axes=[-1]>(z)"), opset=11),
    },
    "attention": {
        "scaled_and_masked": build(
            "s = MatMul(q, k) c = Mul(s, f) a = Add(c, m) p = Softmax<axis=-1>(a) y = MatMul(p, v)",
            _QKV + ", float[2,1,5,6] m", f=number(0.5),
        ),  # fmt: skip
        "divided": build(
            "s = MatMul(q, k) c = Div(s, f) p = Softmax<axis=3>(c) y = MatMul(p, v)", _QKV, f=number(2)
        ),
        "bare": build("s = MatMul(q, k) p = Softmax(s) y = MatMul(p, v)", _QKV),
        "scale_on_both_and_guarded": build(
            "i = Mul(q, f) j = Mul(k, f) s = MatMul(i, j) a = Add(s, m) p = Softmax(a) n = IsNaN(p) "
            "g = Where(n, z, p) y = MatMul(g, v)", _QKV + ", float[5,6] m", f=number(0.7), z=number(0),
        ),  # fmt: skip
        "capped": build(
            "s = MatMul(q, k) f = Mul(s, g) i = Div(f, c) t = Tanh(i) j = Mul(t, c) a = Add(j, m) p = Softmax(a) "
            "y = MatMul(p, v)", _QKV + ", float[2,1,5,6] m", opset=23, g=number(0.5), c=number(3),
        ),  # fmt: skip
        "chosen": build(
            "s = MatMul(q, k) c = Div(s, f) a = Where(m, c, n) p = Softmax(a) y = MatMul(p, v)",
            _QKV + ", bool[5,6] m", f=number(2), n=number(-1e4),
        ),  # fmt: skip
        "forbidden": build(
            "s = MatMul(q, k) a = Where(m, n, s) p = Softmax(a) y = MatMul(p, v)", _QKV + ", bool[5,6] m",
            n=number(-1e4),
        ),
        "opset_23": build(
            "s = MatMul(q, k) c = Mul(s, f) a = Add(c, m) p = Softmax(a) y = MatMul(p, v)",
            _QKV + ", float[2,1,5,6] m", opset=23, f=number(0.4),
        ),  # fmt: skip
    },
    "rotary": {
        "slices": build(_HALVES + _TURN, _ROPE, **_HALF),
        "split": build(
            "l, h = Split<axis=-1>(x) n = Neg(h) c = Concat<axis=3>(n, l) " + _TURN, _ROPE, opset=13
        ),
    },
    "conv_batchnorm": {
        "conv": build("c = Conv(x, w, b) y = BatchNormalization(c, s, t, m, v)", IMAGE, **CONV, **BN),
        "without_bias": build("c = Conv(x, w) y = BatchNormalization(c, s, t, m, v)", IMAGE, **CONV, **BN),
        "depthwise": build(
            "c = Conv<group=4>(x, w) y = BatchNormalization<epsilon=0.01>(c, s, t, m, v)", "float[2,4,8,8] x",
            w=array(4, 1, 3, 3), **{key: value[:4] for key, value in BN.items()},
        ),  # fmt: skip
        "transposed": build(
            "c = ConvTranspose(x, w, b) y = BatchNormalization(c, s, t, m, v)", IMAGE,
            w=array(4, 6, 3, 3), b=array(6), **BN,
        ),  # fmt: skip
        "transposed_groups": build(
            "c = ConvTranspose<group=2>(x, w) y = BatchNormalization(c, s, t, m, v)", IMAGE, w=array(4, 3, 3, 3), **BN
        ),
        "one_dim": build(
            "c = Conv(x, w) y = BatchNormalization(c, s, t, m, v)", "float[2,4,8] x", w=array(6, 4, 3), **BN
        ),
    },
    "scale_shift": {
        "scale": build("c = Conv(x, w, b) y = Mul(c, f)", IMAGE, **CONV, f=array(1, 6, 1, 1)),
        "one_number": build("c = Conv(x, w, b) y = Div(c, f)", IMAGE, **CONV, f=number(3)),
        "shift": build("c = Conv(x, w) y = Add(f, c)", IMAGE, **CONV, f=array(6, 1, 1)),
        "subtract": build("c = Conv(x, w, b) y = Sub(c, f)", IMAGE, **CONV, f=array(6, 1, 1)),
        "transposed": build(
            "c = ConvTranspose<group=2>(x, w) y = Mul(c, f)", IMAGE, w=array(4, 3, 2, 2), f=array(6, 1, 1)
        ),
        "gemm": build("c = Gemm(x, w, b) y = Mul(c, f)", "float[3,4] x", w=array(4, 5), b=array(5), f=array(5)),
        "gemm_transposed": build(
            "c = Gemm<transB=1>(x, w) y = Add(c, f)", "float[3,4] x", w=array(5, 4), f=array(1, 5)
        ),
        "matmul": build("c = MatMul(x, w) y = Mul(c, f)", w=array(4, 5), f=array(5)),
    },
    "pad_conv": {
        "pads": build("p = Pad(x, a) y = Conv<pads=[1,0,0,1]>(p, w)", IMAGE, a=ints(0, 0, 1, 2, 0, 0, 3, 0), **CONV),
        "with_value": build(
            "p = Pad(x, a, z) y = Conv(p, w, b)", IMAGE, a=ints(0, 0, 1, 2, 0, 0, 3, 0), z=number(0), **CONV
        ),
    },
    "matmul_add": {
        "row": build("m = MatMul(x, w) y = Add(m, c)", "float[3,4] x", w=array(4, 5), c=array(5)),
        "other_way_round": build("m = MatMul(x, w) y = Add(c, m)", "float[3,4] x", w=array(4, 5), c=array(1, 5)),
        "one_number": build("m = MatMul(x, u) y = Add(m, c)", "float[3,4] x, float[4,5] u", c=number(2)),
    },
}  # fmt: skip
CASES = [(rule, form) for rule, forms in FORMS.items() for form in forms]
