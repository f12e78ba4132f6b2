"""The preflight: what it finds, that its fixes make TensorRT accept the model, and that they change no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import real_models
from onnx import TensorProto, helper
from small_engines import mlp, model, same

import workbench as wb
from workbench.errors import BuildError, EditError, NotInModelError
from workbench.tensorrt import build, check
from workbench.tensorrt.check import _judged
from workbench.tensorrt.rules import RULES, View, findings

N = helper.make_node
MODEL = wb.Model

# real model -> rules that find something and are fixed
FIXED = {
    "silero_vad": {"branches"},
    "silero_vad_16k_op15": {"branches", "no_cast"},
    "silero_vad_half": {"branches", "no_cast"},
    "silero_vad_16k_sequence": {"no_cast"},
    "silero_vad_openvino": {"no_cast"},
    "minilm_int8": {"bare_int8"},
    "style_predict": {"offset", "bias"},
    "style_transform": {"offset", "bias"},
    "style_multi": {"no_cast"},
    "loop": {"loop"},
}
ACCEPTED = ("silero_vad_16k_sequence", "silero_vad_openvino", "style_multi")  # costs only


@pytest.mark.parametrize("name", [n for n in real_models.REAL_MODELS if n not in FIXED])
def test_what_is_fine_has_no_errors(rtx, real_model, name):
    found = check(real_model(name), worker=rtx)
    assert found.ok
    assert found.nodes.supported.all()
    assert len(found.nodes) == len(found.model.ir.graph)
    assert not found.unchecked


@pytest.mark.parametrize("name", FIXED)
def test_fixed_real_models_give_the_same_and_build(rtx, real_model, name):
    net = wb.load(real_model(name))
    found = check(net, worker=rtx)
    assert found.ok == (name in ACCEPTED)
    with_edit = [f for f in found.findings if f.edit is not None and f.rule != "int64_input"]
    assert {f.rule for f in with_edit} == FIXED[name]
    for rule in FIXED[name]:  # one of each kind by itself: it goes away, and nothing else comes
        first = next(f for f in with_edit if f.rule == rule)
        left = findings(first.fix(net))
        assert (first.rule, first.node) not in {(f.rule, f.node) for f in left}
    fixed = found.fix()
    same(net, fixed)
    again = check(fixed, worker=rtx)
    assert again.ok, again
    assert not {f.rule for f in again.findings} & FIXED[name]
    assert len(build(fixed, worker=rtx, progress=False, compute_capabilities=["8.6"]).plan) > 100_000


def test_nodes_that_the_parser_refuses_are_named(rtx, real_model):
    found = check(real_model("style_predict"), worker=rtx)
    quantize = [n.name for n in found.model.ir.graph if n.op_type == "QuantizeLinear"]
    assert set(quantize) <= set(found.nodes.index[~found.nodes.supported])
    assert found.nodes.loc["style_image_int8", "reason"].startswith("its zero point is -128")
    found = check(real_model("loop"), worker=rtx)
    (error,) = found.findings
    assert (error.rule, error.node, error.op_type) == ("loop", "while_loop", "Loop")
    assert "reads the number of the iteration" in error.reason
    assert found.nodes.loc["while_loop", "reason"] == error.reason
    assert not found.unchecked


def test_every_refused_node_is_found_not_only_the_first(rtx):
    nodes = [
        N("Det", ["x"], ["a"], "det"),
        N("Unique", ["x"], ["u"], "unique"),
        N("Foo", ["x"], ["f"], "foo", domain="mine"),
        N("Relu", ["x"], ["r"], "relu"),
        N("Cast", ["x"], ["c"], "to_uint16", to=TensorProto.UINT16),
        N("Cast", ["c"], ["back"], "from_uint16", to=TensorProto.FLOAT),
        N("NonZero", ["x"], ["nz"], "nonzero"),
    ]
    kinds = {"a": 1, "u": 1, "f": 1, "r": 1, "back": 1, "nz": 7}
    found = check(model(nodes, {"x": (4, 4)}, kinds, domains={"mine": 1}), worker=rtx)
    assert found.refused == {
        "det": "TensorRT has no Det",
        "unique": "TensorRT has no Unique",
        "foo": "Foo is no operator that TensorRT knows, and no plugin of that name is loaded",
        "to_uint16": "it casts to uint16, which TensorRT does not have",
        "nonzero": "TensorRT does NonZero by a plugin of its own, which this version does not have",
    }
    assert list(found.nodes.index[found.nodes.supported]) == ["relu", "from_uint16"]
    assert [f.severity for f in found.findings] == ["error"] * 5 + ["cost"] * 2
    assert not found.unchecked
    assert [str(f.edit) for f in found.findings if f.edit] == ["m = m.set_attribute('to_uint16', 'to', 6)"]


# --- each rule by itself: (model, rule, severity, node, feed)


def qdq(zero: Any, kind: str = "i1", *, moves: bool = False) -> MODEL:
    weights = {"s": np.array(0.1, "f4"), "z": np.array(zero, kind)}
    middle = [N("Transpose", ["q"], ["t"], "t")] if moves else []
    nodes = [
        N("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize"),
        *middle,
        N("DequantizeLinear", ["t" if moves else "q", "s", "z"], ["d"], "dequantize"),
        N("Relu", ["d"], ["y"], "relu"),
    ]
    return model(nodes, {"x": (6, 50)}, ["y"], weights)


def bias_of_int32() -> MODEL:
    weights = {"s": np.array([0.5, 0.25], "f4"), "z": np.zeros(2, "i4"), "b": np.array([3, -7], "i4")}
    nodes = [N("DequantizeLinear", ["b", "s", "z"], ["f"], "dq", axis=0), N("Add", ["x", "f"], ["y"], "add")]
    return model(nodes, {"x": (3, 2)}, ["y"], weights, opset=13)


def int8_cast() -> MODEL:
    nodes = [N("Cast", ["w"], ["f"], "cast", to=1), N("MatMul", ["x", "f"], ["y"], "mm")]
    return model(nodes, {"x": (2, 4)}, ["y"], {"w": np.arange(-8, 8, dtype="i1").reshape(4, 4)})


def int8_gather() -> MODEL:
    weights = {
        "w": np.arange(-8, 8, dtype="i1").reshape(4, 4),
        "s": np.array(0.1, "f4"),
        "z": np.array(0, "i1"),
    }
    nodes = [N("Gather", ["w", "i"], ["g"], "gather"), N("DequantizeLinear", ["g", "s", "z"], ["y"], "dq")]
    return model(nodes, {"i": (2,)}, ["y"], weights, types={"i": TensorProto.INT64})


def ranks_differ() -> MODEL:
    def body(name: str, node: onnx.NodeProto) -> onnx.GraphProto:
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(node.output[0], 1, None)])

    nodes = [
        N("Shape", ["x"], ["shape"], "shape"),
        N("Gather", ["shape", "zero"], ["rows"], "rows"),
        N("Equal", ["rows", "one"], ["c"], "is_one"),
        N("If", ["c"], ["r"], "choose", then_branch=body("then", N("Squeeze", ["x", "axes"], ["a"], "squeeze")),
          else_branch=body("else", N("Identity", ["x"], ["b"], "keep"))),
        N("Relu", ["r"], ["y"], "relu"),
    ]  # fmt: skip
    weights = {"zero": np.array(0, "i8"), "one": np.array(1, "i8"), "axes": np.array([0], "i8")}
    return model(nodes, {"x": ("batch", 4)}, ["y"], weights)


def cast_to_uint8() -> MODEL:
    nodes = [N("Cast", ["x"], ["u"], "narrow", to=2), N("Cast", ["u"], ["y"], "back", to=1)]
    return model(nodes, {"x": (2, 4)}, ["y"])


def input_of(kind: int) -> MODEL:
    return model([N("Cast", ["x"], ["y"], "cast", to=1)], {"x": (2, 4)}, ["y"], types={"x": kind})


def tokens() -> MODEL:
    table = np.arange(40, dtype="f4").reshape(10, 4)
    return model([N("Gather", ["t", "x"], ["y"], "embed")], {"x": (2, 4)}, ["y"], {"t": table},
                 types={"x": TensorProto.INT64})  # fmt: skip


def twice_quantized() -> MODEL:
    weights = {"s": np.array(0.1, "f4"), "z": np.array(0, "i1")}
    nodes = []
    for i, (source, target) in enumerate((("x", "d0"), ("d0", "y"))):
        nodes += [N("QuantizeLinear", [source, "s", "z"], [f"q{i}"], f"quantize{i}"),
                  N("DequantizeLinear", [f"q{i}", "s", "z"], [target], f"dequantize{i}")]  # fmt: skip
    return model(nodes, {"x": (4, 50)}, ["y"], weights)


def transposed_twice() -> MODEL:
    nodes = [
        N("Transpose", ["x"], ["t"], "there", perm=[0, 3, 1, 2]),
        N("Transpose", ["t"], ["b"], "back", perm=[0, 2, 3, 1]),
        N("Relu", ["b"], ["y"], "relu"),
    ]
    return model(nodes, {"x": (1, 4, 5, 3)}, ["y"])


def useless_cast() -> MODEL:
    return model([N("Cast", ["x"], ["c"], "cast", to=1), N("Relu", ["c"], ["y"], "relu")], {"x": (2,)}, ["y"])


RANGE = np.linspace(-30, 30, 300, dtype="f4").reshape(6, 50)
CASES = {
    "offset": (lambda: qdq(3), "offset", "error", "quantize", {"x": RANGE}),
    "offset of uint8": (lambda: qdq(128, "u1"), "offset", "error", "quantize", {"x": RANGE}),
    "offset behind moves": (lambda: qdq(-5, moves=True), "offset", "error", "quantize", {"x": RANGE}),
    "int32 bias": (bias_of_int32, "bias", "error", "dq", None),
    "int8 cast": (int8_cast, "bare_int8", "error", "cast", None),
    "int8 gather": (int8_gather, "bare_int8", "error", "gather", None),
    "branch ranks": (ranks_differ, "branches", "error", "choose", None),
    "uint8 cast": (cast_to_uint8, "cast_type", "error", "narrow", {"x": np.arange(8, dtype="f4").reshape(2, 4) * 31}),
    "uint16 input": (lambda: input_of(TensorProto.UINT16), "input_type", "error", "x",
                     {"x": np.arange(8, dtype="u2").reshape(2, 4) * 8191}),
    "int16 input": (lambda: input_of(TensorProto.INT16), "input_type", "error", "x",
                    {"x": np.arange(-4, 4, dtype="i2").reshape(2, 4) * 8191}),
    "uint32 input": (lambda: input_of(TensorProto.UINT32), "input_type", "error", "x",
                     {"x": np.arange(8, dtype="u4").reshape(2, 4) * 2**29}),
    "int64 tokens": (tokens, "int64_input", "cost", "x", None),
    "quantized twice": (twice_quantized, "repeated", "cost", "dequantize1", {"x": RANGE[:4]}),
    "transposed twice": (transposed_twice, "repeated", "cost", "back", None),
    "useless cast": (useless_cast, "no_cast", "cost", "cast", None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_finding_and_its_fix(rtx, case):
    make, rule, severity, node, feed = CASES[case]
    net = make()
    found = check(net, worker=rtx)
    (finding,) = [f for f in found.findings if f.rule == rule]
    assert (finding.severity, finding.node) == (severity, node)
    assert found.ok == (severity != "error")
    if severity == "error":  # the check is right: it cannot be built
        ranges = {"batch": (1, 1, 4)} if rule == "branches" else None
        with pytest.raises(BuildError):
            build(net, worker=rtx, shapes=ranges, progress=False, cache=False)
    fixed = found.fix(rules=[rule])
    assert len(fixed.history) == 1
    again = check(fixed, worker=rtx)
    assert rule not in {f.rule for f in again.findings}
    assert again.ok
    assert build(fixed, worker=rtx, progress=False, cache=False).plan
    same(net, fixed, feed)


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("int64 tokens",)])
def test_fixes_undo_and_replay_to_the_same_bytes(tmp_path, case):
    source = CASES[case][0]().save(tmp_path / "m.onnx")
    net = wb.load(source)
    before = net.to_proto().SerializeToString()
    first = next(f for f in findings(net) if f.rule == CASES[case][1])
    fixed = first.fix(net)
    script = tmp_path / "fix.py"
    fixed.history.to_python(script)
    assert str(first.edit).removeprefix("m = ") in script.read_text()
    assert fixed.history.undo().to_proto().SerializeToString() == before
    assert wb.replay(script, source).fingerprint == fixed.fingerprint


# --- what has no fix, and what is fine


def test_a_name_that_onnx_has_in_another_domain_is_a_warning(rtx):
    net = model([N("Gelu", ["x"], ["y"], "mine", domain="mine")], {"x": (4,)}, ["y"], domains={"mine": 1})
    (finding,) = check(net, worker=rtx).findings
    assert (finding.rule, finding.severity, finding.edit) == ("domain", "warning", None)
    assert "ignores the domain 'mine' and takes it for ONNX's own Gelu" in finding.reason


@pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, TensorProto.INT4])
def test_casts_to_quantized_types_are_refused_by_the_builder(rtx, kind):
    nodes = [N("Cast", ["x"], ["q"], "narrow", to=kind), N("Cast", ["q"], ["y"], "back", to=1)]
    net = model(nodes, {"x": (2, 4)}, ["y"], opset=21)
    (finding,) = check(net, worker=rtx).findings
    assert (finding.rule, finding.severity, finding.node) == ("cast_quantized", "error", "narrow")
    assert finding.reason.endswith("by QuantizeLinear, not by Cast")
    with pytest.raises(BuildError, match="looks for fixes"):
        build(net, worker=rtx, progress=False, cache=False)
    elsewhere = _judged(finding, "tensorrt")
    assert elsewhere.severity == "warning"
    assert elsewhere.reason.endswith("(seen with TensorRT-RTX 1.7)")


def test_double_is_a_warning(rtx):
    net = model([N("Neg", ["x"], ["y"], "neg")], {"x": (4,)}, {"y": 11}, types={"x": TensorProto.DOUBLE})
    found = check(net, worker=rtx)
    assert [(f.rule, f.severity, f.node) for f in found.findings] == [("float64", "warning", "x")]
    assert found.ok


def test_a_product_of_which_one_side_is_quantized(rtx):
    weights = {"s": np.array(0.1, "f4"), "z": np.array(0, "i1"), "w": np.ones((50, 3), "f4")}
    nodes = [
        N("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize"),
        N("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize"),
        N("MatMul", ["d", "w"], ["y"], "product"),
    ]
    (finding,) = check(model(nodes, {"x": (4, 50)}, ["y"], weights), worker=rtx).findings
    assert (finding.rule, finding.node) == ("half_quantized", "product")
    assert finding.reason == "the second of its inputs is not quantized: it runs in floating point"


def test_nothing_to_say(rtx):
    found = check(mlp(), worker=rtx)
    assert found.ok
    assert found.table.empty
    assert list(found.table.columns) == ["severity", "rule", "node", "op_type", "reason", "fix", "advice"]
    assert repr(found).startswith("<Check of 'small' with tensorrt_rtx 1.")
    assert repr(found).endswith("nothing found>")
    assert found.fix() is found.model
    with pytest.raises(NotInModelError, match="no finding of rule 'offset'; there are none"):
        found.fix(["offset"])


def test_what_a_zero_point_per_channel_needs_is_not_guessed(rtx):
    weights = {"s": np.full(6, 0.1, "f4"), "z": np.full(6, 3, "i1")}
    nodes = [
        N("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize", axis=0),
        N("DequantizeLinear", ["q", "s", "z"], ["y"], "dequantize", axis=0),
    ]
    found = check(model(nodes, {"x": (6, 50)}, ["y"], weights), worker=rtx)
    assert [(f.rule, f.edit) for f in found.findings] == [("offset", None)]
    with pytest.raises(EditError, match="expected one int8 or uint8 zero point and one scale"):
        found.model.fake_quantize("quantize")


def test_refused_edits_say_why():
    with pytest.raises(EditError, match=r"node 'fc1' \(MatMul\): its input 'x' is no constant"):
        mlp().fold_node("fc1")
    with pytest.raises(EditError, match=r"node 'relu' \(Relu\): expected a Cast of a constant of type int8"):
        mlp().cast_to_dequantize("relu")
    with pytest.raises(EditError, match=r"cannot bypass 'fc1' \(MatMul\) and 'relu' \(Relu\)"):
        mlp().bypass_pair("fc1", "relu")
    with pytest.raises(EditError, match=r"cannot take 'then_branch' of node 'relu' \(Relu\)"):
        mlp().take_branch("relu", "then_branch")
    with pytest.raises(EditError, match=r"node 'fc1' \(MatMul\): expected one reader, a DequantizeLinear"):
        mlp().dequantize_first("fc1")


def test_rules_find_nothing_in_fine_models(real_model):
    net = wb.load(real_model("residual_block"))
    assert [f for rule in RULES for f in rule(View(net))] == []
