"""Fixes that put something that means the same in a place, and those that change something, applied by name alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_engines import mlp, model, outputs, same

import workbench as wb
from workbench.errors import BuildError, EditError
from workbench.tensorrt import build, check
from workbench.tensorrt.rules import ON_REQUEST, findings

N = helper.make_node
RANGE = np.linspace(-3, 3, 24, dtype="f4")


def loop(trips: int | None, scan: bool = False) -> wb.Model:
    """Adds the number of the iteration to x until it is 5."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            N("Cast", ["i"], ["f"], "count", to=1),
            N("Add", ["v", "f"], ["w"], "add"),
            N("Less", ["i", "five"], ["go"], "again"),
            *([N("Identity", ["w"], ["s"], "kept")] if scan else []),
        ],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", 1, [4])],
        [info("go", TensorProto.BOOL, []), info("w", 1, [4]), *([info("s", 1, [4])] if scan else [])],
        [numpy_helper.from_array(np.array(5, "i8"), "five")],
    )
    made = ["y", "all"] if scan else ["y"]
    nodes = [N("Loop", ["" if trips is None else "trips", "true", "x"], made, "repeat", body=body)]
    weights = {"true": np.array(True)} | ({} if trips is None else {"trips": np.array(trips, "i8")})
    return model(nodes, {"x": (4,)}, made, weights)


def one(
    op_type: str, shape: tuple, weights: dict[str, np.ndarray] | None = None, outs: int = 1, **given: Any
):
    """A model of one node that reads x and the weights."""
    opset = given.pop("opset", 18)
    names = [f"y{i}" for i in range(outs)]
    nodes = [N(op_type, ["x", *(weights or {})], names, "node", **given)]
    return model(nodes, {"x": shape}, dict.fromkeys(names, TensorProto.FLOAT), weights, opset=opset)


def fp8() -> wb.Model:
    nodes = [
        N("Cast", ["x"], ["q"], "narrow", to=TensorProto.FLOAT8E4M3FN),
        N("Cast", ["q"], ["w"], "back", to=1),
        N("Relu", ["w"], ["y"], "relu"),
    ]
    return model(nodes, {"x": (4, 6)}, ["y"], opset=19)


def compress(axis: int | None) -> wb.Model:
    given = {} if axis is None else {"axis": axis}
    weights = {"c": np.array([True, False, True, True])}
    return model([N("Compress", ["x", "c"], ["y"], "compress", **given)], {"x": (4, 6)}, ["y"], weights)


def constant_positions() -> wb.Model:
    nodes = [
        N("NonZero", ["mask"], ["at"], "nonzero"),
        N("Squeeze", ["at", "zero"], ["row"], "squeeze"),
        N("Gather", ["x", "row"], ["y"], "gather"),
    ]
    weights = {"mask": np.array([0, 1, 0, 1], "f4"), "zero": np.array([0], "i8")}
    return model(nodes, {"x": (4, 6)}, ["y"], weights)


def contrib(op_type: str = "Gelu", opset: int = 20) -> wb.Model:
    nodes = [N(op_type, ["x"], ["y"], "contrib", domain="com.microsoft")]
    return model(nodes, {"x": (4, 6)}, ["y"], opset=opset, domains={"com.microsoft": 1})


X = {"x": RANGE.reshape(4, 6)}
EQUAL = {  # model, rule, severity, node, feed, tolerance (0: to the bit)
    "loop without an end": (lambda: loop(None), "loop", "error", "repeat", {"x": RANGE[:4]}, 0),
    "loop of the largest count": (lambda: loop(2**63 - 1), "loop", "error", "repeat", {"x": RANGE[:4]}, 0),
    "loop that collects": (lambda: loop(2**31 - 1, scan=True), "loop", "error", "repeat", {"x": RANGE[:4]}, 0),
    "crop": (lambda: one("CenterCropPad", (4, 6), {"s": np.array([2, 9], "i8")}), "parser", "error", "node", X, 0),
    "norm of which two outputs are read": (
        lambda: one("LayerNormalization", (4, 6), {"g": np.ones(6, "f4")}, outs=2), "parser", "error", "node", X, 1e-5,
    ),
    "cast to an 8-bit float": (fp8, "cast_quantized", "error", "narrow", {"x": RANGE.reshape(4, 6) * 300}, 0),
    "compress": (lambda: compress(0), "by_value", "cost", "compress", X, 0),
    "compress of all": (lambda: compress(None), "by_value", "cost", "compress", X, 0),
    "positions in a constant": (constant_positions, "by_value", "cost", "nonzero", X, 0),
    "operator of another domain": (contrib, "domain", "warning", "contrib", X, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", EQUAL)
def test_a_fix_means_the_same_and_is_accepted(rtx, tmp_path, case):
    make, rule, severity, node, feed, tolerance = EQUAL[case]
    net = wb.load(make().save(tmp_path / "m.onnx"))
    found = check(net, worker=rtx)
    (finding,) = [f for f in found.findings if f.rule == rule]
    assert (finding.severity, finding.node) == (severity, node)
    if severity == "error":
        assert not found.ok
        with pytest.raises(BuildError):
            build(net, worker=rtx, progress=False, cache=False)
    fixed = found.fix()
    again = check(fixed, worker=rtx)
    assert again.ok and rule not in {f.rule for f in again.findings}, again
    capability = ["8.9"] if "8-bit float" in case else None
    assert build(fixed, worker=rtx, progress=False, cache=False, compute_capabilities=capability).plan
    if tolerance:
        before, after = outputs(net, feed), outputs(fixed, feed)
        for name, value in before.items():
            np.testing.assert_allclose(after[name], value, rtol=tolerance, atol=tolerance)
    else:
        same(net, fixed, feed)
    before = net.to_proto().SerializeToString()
    script = tmp_path / "fix.py"
    fixed.history.to_python(script)
    assert wb.replay(script, tmp_path / "m.onnx").fingerprint == fixed.fingerprint
    while len(fixed.history):
        fixed = fixed.history.undo()
    assert fixed.to_proto().SerializeToString() == before


# --- edits that change something: only by name


def half_quantized(op_type: str, weight: np.ndarray, **given: Any) -> wb.Model:
    constants = {"s": np.array(0.05, "f4"), "z": np.array(0, "i1"), "w": weight}
    shape = (2, weight.shape[1], 8, 8) if op_type == "Conv" else (4, weight.shape[1 if given else 0])
    shape = (2, weight.shape[0], 8, 8) if op_type == "ConvTranspose" else shape
    nodes = [
        N("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize"),
        N("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize"),
        N(op_type, ["d", "w"], ["y"], "product", **given),
    ]
    return model(nodes, {"x": shape}, ["y"], constants)


@pytest.mark.parametrize(
    ("op_type", "shape", "axis", "given"),
    [("Conv", (5, 3, 3, 3), 0, {}), ("ConvTranspose", (3, 5, 3, 3), 1, {}), ("MatMul", (6, 5), 1, {}),
     ("Gemm", (6, 5), 1, {}), ("Gemm", (5, 6), 0, {"transB": 1})],
)  # fmt: skip
def test_a_weight_is_quantized_on_request(rtx, op_type, shape, axis, given):
    weight = np.random.default_rng(0).normal(size=shape).astype("f4")
    np.moveaxis(weight, axis, 0)[2] = 0  # a channel of zeros has a scale, too
    net = half_quantized(op_type, weight, **given)
    found = check(net, worker=rtx)
    (finding,) = [f for f in found.findings if f.rule == "half_quantized"]
    assert "which changes the numbers" in finding.advice
    assert found.fix() is net, "not unless it is named"
    fixed = found.fix(["half_quantized"])
    assert "half_quantized" not in {f.rule for f in check(fixed, worker=rtx).findings}
    assert build(fixed, worker=rtx, progress=False, cache=False).plan
    others = tuple(i for i in range(weight.ndim) if i != axis)
    step = np.abs(weight).max(axis=others, keepdims=True) / 127
    (stored,) = [n for n in fixed.ir.graph if n.name == "product_weight"]
    rounded = stored.inputs[0].const_value.numpy() * np.expand_dims(
        stored.inputs[1].const_value.numpy(), others
    )
    assert np.abs(rounded - weight).max() <= step.max() / 2 + 1e-7
    by_hand = net.replace_weight("w", rounded.astype("f4"))
    feed = {"x": np.random.default_rng(1).normal(size=net.inputs[0].shape).astype("f4")}
    np.testing.assert_allclose(outputs(fixed, feed)["y"], outputs(by_hand, feed)["y"], rtol=1e-5, atol=1e-5)


def images(at: str) -> wb.Model:
    there = N("Transpose", ["x"], ["t"], "there", perm=[0, 3, 1, 2])
    back = N("Transpose", ["c"], ["y"], "back", perm=[0, 2, 3, 1])
    conv = N("Conv", ["t" if at == "input" else "x", "w"], ["y" if at == "input" else "c"], "conv")
    nodes = [there, conv] if at == "input" else [conv, back]
    shape = (2, 8, 8, 3) if at == "input" else (2, 3, 8, 8)
    return model(
        nodes, {"x": shape}, ["y"], {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype("f4")}
    )


@pytest.mark.parametrize("at", ["input", "output"])
def test_a_transpose_at_the_edge_is_left_to_the_caller_on_request(rtx, at):
    net = images(at)
    found = check(net, worker=rtx)
    assert found.fix() is net
    fixed = found.fix(["layout"])
    assert "Transpose" not in {n.op_type for n in fixed.ir.graph}
    assert not check(fixed, worker=rtx).findings
    assert build(fixed, worker=rtx, progress=False, cache=False).plan
    assert [i.name for i in fixed.inputs] == ["x"] and [o.name for o in fixed.outputs] == ["y"]
    x = np.random.default_rng(1).normal(size=net.inputs[0].shape).astype("f4")
    before = outputs(net, {"x": x})["y"]
    if at == "input":
        assert fixed.inputs[0].shape == (2, 3, 8, 8)
        np.testing.assert_array_equal(outputs(fixed, {"x": x.transpose(0, 3, 1, 2)})["y"], before)
    else:
        assert fixed.outputs[0].shape == (2, 4, 6, 6)
        np.testing.assert_array_equal(outputs(fixed, {"x": x})["y"].transpose(0, 2, 3, 1), before)


def test_a_transpose_that_others_need_stays():
    net = model(
        [N("Transpose", ["x"], ["t"], "there", perm=[0, 3, 1, 2]), N("Add", ["x", "x"], ["b"], "both"),
         N("Relu", ["t"], ["y"], "relu")],
        {"x": (1, 4, 4, 3)}, {"y": 1, "b": 1},
    )  # fmt: skip
    (finding,) = [f for f in findings(net) if f.rule == "layout"]
    assert finding.edit is None and finding.advice.startswith("what is around it needs both layouts")
    with pytest.raises(
        EditError, match=r"node 'there' \(Transpose\): expected a Transpose that alone reads an input"
    ):
        net.transpose_outside("there")


def test_float64_becomes_float32_on_request(rtx):
    nodes = [
        N("Cast", ["f"], ["d"], "widen", to=TensorProto.DOUBLE),
        N("Mul", ["d", "x"], ["m"], "mul"),
        N("Constant", [], ["c"], "constant", value=numpy_helper.from_array(np.array([0.1] * 4))),
        N("Add", ["m", "c"], ["a"], "add"),
        N("Sub", ["a", "w"], ["y"], "sub"),
    ]
    net = model(
        nodes,
        {"f": (4,), "x": (4,)},
        {"y": TensorProto.DOUBLE},
        {"w": np.full(4, 0.3)},
        types={"x": TensorProto.DOUBLE},
    )
    found = check(net, worker=rtx)
    assert [(f.rule, f.severity, f.node) for f in found.findings] == [
        ("float64", "warning", "x"), ("float64", "warning", "widen"),
    ]  # fmt: skip
    assert found.fix() is net
    fixed = found.fix(["float64"])
    again = check(fixed, worker=rtx)
    assert {f.rule for f in again.findings} == {"no_cast"}  # of what was a Cast to float64
    fixed = again.fix()
    assert not check(fixed, worker=rtx).findings
    assert {i.dtype for i in (*fixed.inputs, *fixed.outputs)} == {"float32"}
    assert "float64" not in set(fixed.tensors.dtype)
    feed = {"f": RANGE[:4], "x": RANGE[4:8].astype("f8")}
    before = outputs(net, feed)["y"]
    after = outputs(fixed, {**feed, "x": RANGE[4:8]})["y"]
    assert after.dtype == np.float32
    np.testing.assert_allclose(after, before, rtol=1e-6)
    with pytest.raises(EditError, match="the model has no float64 input, weight or Cast"):
        fixed.double_to_float()


# --- where there is no edit, there is advice


def test_every_finding_without_an_edit_says_why_and_what_to_do(rtx):
    """The finding of each rule for which no edit can be."""
    nets = {
        "parser": model([N("Det", ["x"], ["y"], "det")], {"x": (4, 4)}, ["y"]),
        "domain": model(
            [N("Gelu", ["x"], ["y"], "mine", domain="mine")], {"x": (4,)}, ["y"], domains={"mine": 1}
        ),
        "cast_type": model([N("Cast", ["x"], ["y"], "cast", to=TensorProto.UINT16)], {"x": (4,)}, {"y": 4}),
        "by_value": model([N("NonZero", ["x"], ["y"], "nz")], {"x": (4,)}, {"y": 7}),
    }
    for rule, net in nets.items():
        found = [f for f in check(net, worker=rtx).findings if f.rule == rule]
        assert found, rule
        for finding in found:
            assert finding.edit is None, rule
            assert len(finding.advice) > 40, rule
            assert finding.advice in repr(check(net, worker=rtx)) and finding.advice in str(finding)


def test_an_operator_of_another_domain_that_the_operator_set_lacks():
    (finding,) = [f for f in findings(contrib(opset=17)) if f.rule == "domain"]
    assert finding.edit is None
    assert finding.advice.startswith("they mean the same from operator set 20 on: m.convert_opset(20)")


def test_what_cannot_be_expanded_says_why():
    with pytest.raises(
        EditError, match=r"cannot expand node 'fc1' \(MatMul\): the standard does not define it"
    ):
        mlp().expand_operator("fc1")
    with pytest.raises(EditError, match=r"node 'relu' \(Relu\): expected a Loop without a trip count"):
        mlp().bound_loop("relu")
    with pytest.raises(EditError, match=r"node 'fc1' \(MatMul\): expected a Compress"):
        mlp().compress_to_gather("fc1")
    with pytest.raises(EditError, match=r"node 'relu' \(Relu\): expected a Cast to float8_e4m3fn"):
        mlp().cast_to_quantize("relu")
    with pytest.raises(
        EditError, match=r"node 'relu' \(Relu\): expected a Conv, ConvTranspose without groups"
    ):
        mlp().quantize_weight("relu")


def test_what_stands_for_an_operator_may_be_refused_too(rtx):
    net = model(
        [N("AffineGrid", ["t", "s"], ["g"], "grid")], {"t": (1, 2, 3)}, ["g"], {"s": np.array([1, 1, 4, 4], "i8")},
        opset=20,
    )  # fmt: skip
    found = check(net, worker=rtx)
    (finding,) = [f for f in found.findings if f.rule == "parser"]
    assert finding.node == "grid"
    fixed = found.fix()
    assert check(fixed, worker=rtx).ok == (finding.edit is not None)


def test_rules_that_change_something_are_known():
    assert {"int64_input", "float64", "layout", "half_quantized"} == ON_REQUEST
