"""Declaring plugins: bodies of every kind, names, what does not fit together; the declaration inside of a model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import workbench as wb
from workbench.errors import PluginError
from workbench.plugins import from_function, gelu, layer_norm, masked_softmax, plugin
from workbench.plugins.declaration import of
from workbench.plugins.launch import Spec

BODY = "FusedHalf <factor: float = 0.5> (x) => (y) { f = Constant <value_float: float = @factor> () y = Mul (x, f) }"
KERNEL = 'extern "C" __global__ void half_it(const T* x, T* y, long long n) { }'


def test_a_body_from_text_gives_ports_and_attributes():
    made = plugin("FusedHalf", body=BODY, cuda=KERNEL)
    assert (made.inputs, made.outputs, made.attributes) == (("x",), ("y",), {"factor": 0.5})
    assert made.signature == "FusedHalf(x, factor=0.5) -> (y)" and made.kernel == "half_it"
    assert made.body.opset_import[0].version == 18 and made.body.domain == "workbench"
    assert made.specs([Spec("float32", (2, 3))]) == {
        "x": Spec("float32", (2, 3)),
        "y": Spec("float32", (2, 3)),
    }
    launch = made.launch([Spec("float32", (1000, 3))])
    assert launch.grid == (12, 1, 1) and launch.values == (3000,)


def test_a_body_from_onnxscript():
    script = pytest.importorskip("onnxscript")
    op = script.opset18

    @script.script(script.values.Opset("mine", 1), default_opset=op)
    def scaled(x, gate):
        return op.Mul(op.Sigmoid(x), gate)

    made = plugin("FusedScaled", body=scaled)
    assert made.inputs == ("x", "gate") and [n.op_type for n in made.body.node] == ["Sigmoid", "Mul"]


def test_a_body_from_nodes_takes_small_constants_along():
    model = wb.load(
        onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        g (float[n, 8] x, float[8] w) => (float[n, 8] out) <float two = {2.0}>
        { [a] s = Mul(x, two) [b] t = Add(s, w) [c] out = Relu(t) }""")
    )
    made = plugin("FusedPart", body=(model, ["a", "b"]))
    assert made.signature == "FusedPart(x, w) -> (t)"
    assert [n.op_type for n in made.body.node] == ["Constant", "Mul", "Add"]
    replaced = model.replace(["a", "b"], made)
    assert wb.compare(model, replaced, progress=False).ok
    with pytest.raises(PluginError, match="the body of plugin 'FusedPart': the model has no node 'z'"):
        plugin("FusedPart", body=(model, ["z"]))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "Gelu",
            "cannot be named 'Gelu': domain 'ai.onnx' has the operator Gelu, and runtimes that ignore domains",
        ),
        ("gelu", "domain 'ai.onnx' has the operator Gelu"),
        ("Scaler", "domain 'ai.onnx.ml' has the operator Scaler.*'FusedScaler'"),
        ("Upsample", "has the operator Upsample"),  # of an old operator set
        ("a b", "a plugin cannot be named 'a b'; expected letters, digits and _"),
        ("", "a plugin cannot be named ''"),
    ],
)
def test_names_that_clash_are_refused(name, says):
    with pytest.raises(PluginError, match=says):
        plugin(name, body="F (x) => (y) { y = Relu (x) }")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"body": "F (x => (y) {"}, "the body of plugin 'FusedHalf' cannot be read"),
        (
            {"body": "F (x) => (y) { y = Relu (z) }"},
            "the body of plugin 'FusedHalf' is not valid: Nodes in a function must be .*'z'",
        ),
        ({"body": "F (x) => (y) { z = Relu (x) }"}, "no tensor 'y', which it returns|is not valid"),
        (
            {"body": "F (x) => (y) { y = NoSuchOp (x) }"},
            "the body of plugin 'FusedHalf' is not valid: No Op registered",
        ),
        ({"body": 3}, "the body of plugin 'FusedHalf' is int; expected text, an onnxscript function"),
        ({"cuda": "void f() {}"}, "__global__ functions none; expected exactly one, or its name in kernel="),
        ({"cuda": KERNEL * 2}, "functions 'half_it', 'half_it'; expected exactly one"),
        ({"cuda": KERNEL, "kernel": "other"}, "functions 'half_it'; expected 'other'"),
        ({"grid": "size(z)"}, r"FusedHalf, grid: size\(\) got z, expected one of x, y"),
        ({"args": {"n": "rows(q)"}}, "FusedHalf, argument 'n'"),
        ({"grid": lambda x: 1}, "got grid=<function .*, expected an expression .text or an int., or several"),
        ({"grid": 1.5}, "got grid=1.5, expected an expression"),
        ({"block": None}, "plugin 'FusedHalf': got block=None, expected an expression"),
        ({"args": ["n"]}, "got args=.'n'., expected {name: expression}"),
        ({"args": {"n": 0.5}}, r"got args\['n'\]=0.5, expected an expression"),
        ({"args": {"n n": "1"}}, "got 'n n' in args=, expected a name of letters, digits and _"),
        ({"example": [(1, 2)]}, r"got example=\[\(1, 2\)\], expected {input: shape}"),
        ({"cuda": 3}, "got int in cuda=, expected the text of the source"),
        ({"cuda": "kernels/half.cu"}, "functions none; .*; it takes the text of a file, not its path"),
        ({"body": ("m", ["a"])}, "the body of plugin 'FusedHalf' is tuple of str, list; expected text"),
        ({"dtypes": ["float8"]}, "got the dtypes .'float8'., expected some of float32"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(options, says):
    with pytest.raises(PluginError, match=says):
        plugin("FusedHalf", **({"body": BODY} | options))


def test_calls_that_do_not_fit_are_refused():
    with pytest.raises(PluginError, match=r"FusedGelu\(x\) -> \(y\) got 2 inputs, expected 1"):
        gelu.specs([Spec("float32", (2,))] * 2)
    with pytest.raises(
        PluginError, match="the kernel of plugin 'FusedGelu' is for float32, float16; got float64 for 'x'"
    ):
        gelu.launch([Spec("float64", (2,))])
    with pytest.raises(
        PluginError, match="plugin 'FusedGelu' has no CUDA kernel|no attribute 'alpha'; expected one of none"
    ):
        gelu.launch([Spec("float32", (2,))], {"alpha": 1.0})
    with pytest.raises(PluginError, match="does not take these inputs: Mul: Incompatible dimensions"):
        layer_norm.specs([Spec("float32", (2, 8)), Spec("float32", (5,)), Spec("float32", (8,))])
    with pytest.raises(PluginError, match="got shapes for 'z', expected 'x'"):
        gelu.shapes({"z": (1,)})
    with pytest.raises(
        PluginError, match="there is no built-in plugin 'Nothing'; expected a Plugin or one of FusedGelu"
    ):
        of("Nothing")


def test_shapes_follow_the_first_input():
    assert [s.shape for s in layer_norm.shapes((3, 5, 7), "float16")] == [(3, 5, 7), (7,), (7,)]
    assert [s.shape for s in masked_softmax.shapes((2, 3, 5, 9))] == [(2, 3, 5, 9), (2, 1, 1, 9)]
    assert [s.dtype for s in layer_norm.shapes()] == ["float32"] * 3


def test_the_declaration_travels_in_the_function():
    made = plugin("FusedHalf", body=BODY, cuda=KERNEL, block=128, shared="block_x * 4", example={"x": (2, 2)})
    back = from_function(onnx.FunctionProto.FromString(made.function.SerializeToString()))
    assert back == made and back.key == made.key
    assert from_function(gelu.body) is None
    broken = made.function
    broken.metadata_props[-1].value = "{}"
    with pytest.raises(
        PluginError, match="the declaration of plugin 'FusedHalf' in the model cannot be read"
    ):
        from_function(broken)


def test_a_model_of_one_call_runs_on_the_cpu():
    ort = pytest.importorskip("onnxruntime")
    model = layer_norm.model(layer_norm.shapes((3, 8)), {"epsilon": 0.25})
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    feeds = {"x": x, "weight": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}
    (y,) = ort.InferenceSession(model.to_proto().SerializeToString()).run(None, feeds)
    centred = x - x.mean(-1, keepdims=True)
    assert np.allclose(y, centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 0.25), atol=1e-6)


def test_tensorrt_shapes_come_from_the_inputs_and_it_says_when_tensorrt_is_missing():
    from workbench.backends.tensorrt.plugin import shape_sources

    assert shape_sources(layer_norm) == [[(0, 0), (0, 1)]]
    assert shape_sources(masked_softmax) == [[(0, 0), (0, 1), (0, 2), (0, 3)]]
    kept = plugin(
        "FusedSum", body="F (x) => (y) { a = Constant <value_ints: ints = [-1]> () y = ReduceSum (x, a) }"
    )
    assert shape_sources(kept) == [[(0, 0), 1]]
    doubled = plugin("FusedPair", body="F (x) => (y) { y = Concat <axis: int = 0> (x, x) }")
    with pytest.raises(PluginError, match="dim 0 of output 'y' is no dim of an input"):
        shape_sources(doubled)
    with pytest.raises(
        wb.errors.BackendNotInstalled, match="cannot register plugin 'FusedLayerNorm': TensorRT cannot be"
    ):
        layer_norm.tensorrt()


@pytest.mark.parametrize("shape", [(-4, 8), (2.5,), ("n", 8)])
def test_a_shape_that_cannot_be_is_refused(shape):
    with pytest.raises(PluginError) as caught:
        wb.plugins.gelu.shapes(shape)
    assert str(caught.value) == f"plugin 'FusedGelu': got the shape {shape} for 'x', expected dims of 0 or more"


def test_a_kernel_in_a_comment_is_none():
    old = "// __global__ void old(int a)\n/* __global__ void older()\n */\n"
    assert plugin("FusedHalf", body=BODY, cuda=old + 'extern "C" void __global__ now(const T* x) { }').kernel == "now"


@pytest.mark.parametrize("example", [{"z": (1,)}, {"x": 3}])
def test_an_example_that_cannot_be_is_refused(example):
    with pytest.raises(PluginError) as caught:
        plugin("FusedHalf", body=BODY, example=example)
    ((port, shape),) = example.items()
    assert str(caught.value) == (
        f"plugin 'FusedHalf': got {port!r}: {shape} in example=, expected a shape for each of 'x'"
    )


def test_one_dtype_condition_or_int_may_be_given_alone():
    made = plugin("FusedHalf", body=BODY, cuda=KERNEL, dtypes="float32", requires="size(x) > 1", args={"n": 5}, grid=7)
    assert made.dtypes == ("float32",) and made.rule.requires == ("size(x) > 1",)
    launch = made.launch([Spec("float32", (2,))])
    assert (launch.grid, launch.values) == ((7, 1, 1), (5,))


def test_ports_get_names_that_rules_and_kernels_can_write():
    body = onnx.parser.parse_function(
        '<domain: "m", opset_import: ["" : 18]> F (a, b, c, d) => (y) { t = Add (a, b) s = Add (c, d) y = Mul (t, s) }'
    )
    names = {"a": "conv.0/out:0", "b": "conv_0_out_0", "c": "in", "d": "2", "y": "x.y"}
    for ports in (body.input, body.output, *(part for node in body.node for part in (node.input, node.output))):
        ports[:] = [names.get(port, port) for port in ports]
    made = plugin("FusedPorts", body=body, cuda=KERNEL)
    assert made.signature == "FusedPorts(conv_0_out_0_1, conv_0_out_0, _in, _2) -> (x_y)"
    specs = made.specs([Spec("float32", (3,))] * 4)
    assert specs["x_y"] == Spec("float32", (3,)) and made.launch([Spec("float32", (3,))] * 4).values == (3,)


def test_a_constant_of_another_type_than_the_kernel_is_explained():
    made = plugin("FusedHalf", body=BODY, cuda=KERNEL)
    says = r"FusedHalf\(x: float16\[2\], factor=0.5\) -> \(y\) does not take these inputs: Mul: B has inconsistent .*"
    with pytest.raises(PluginError, match=says + r"take CastLike\(constant, x\) in the body, or leave the dtype out"):
        made.specs([Spec("float16", (2,))])


def test_what_onnx_cannot_read_is_shown_as_text():
    with pytest.raises(PluginError) as caught:
        plugin("FusedHalf", body="")
    assert str(caught.value).startswith("the body of plugin 'FusedHalf' cannot be read: [ParseError at position (line")


def test_an_int_is_a_float_where_a_float_is_declared():
    made = plugin("FusedHalf", body=BODY)
    assert made.given({"factor": 2}) == {"factor": 2.0} and type(made.given({"factor": 2})["factor"]) is float
