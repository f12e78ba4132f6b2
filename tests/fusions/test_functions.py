"""Fusions inside of bodies and of model-local functions."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from fusions.places import run
from fusions.test_fuse import Careless, careless  # noqa: F401 - a fixture

import workbench as wb
from workbench import fusions

HEAD = '<ir_version: 8, opset_import: ["" : 17, "pkg" : 1]>'
BLOCK = """
<domain: "pkg", opset_import: ["" : 17]> block (x, w) => (y) {
  m = MatMul(x, w)  s = Sigmoid(m)  h = Mul(m, s)  y = Add(h, x)
}
"""
STACK = """
<domain: "pkg", opset_import: ["" : 17, "pkg" : 1]> stack (x, w) => (y) { a = pkg.block(x, w) y = pkg.block(a, w) }
"""
NORM = """
<domain: "pkg", opset_import: ["" : 17]> norm <epsilon: float = 0.1> (x, w) => (y) {
  axes = Constant<value = int64[1] {-1}>()  two = Constant<value = float {2}>()
  e = Constant<value_float: float = @epsilon>()
  m = ReduceMean<axes = [-1]>(x)  d = Sub(x, m)  p = Pow(d, two)  v = ReduceMean<axes = [-1]>(p)  a = Add(v, e)
  r = Sqrt(a)  n = Div(d, r)  y = Mul(n, w)
}
"""


def model(body: str, functions: str, inputs: str = "float[3,4] x, float[4,4] w") -> onnx.ModelProto:
    made = onnx.parser.parse_model(f"{HEAD} g ({inputs}) => (float[3,4] y) {{ {body} }} {functions}")
    count = 0
    for graph in (made.graph, *made.functions):
        for node in graph.node:
            node.name, count = f"{node.op_type}_{count}", count + 1
    onnx.checker.check_model(made)
    return made


def fused(proto: onnx.ModelProto, rules: list, **options) -> wb.Model:
    """What holds for every fusion: equal outputs, the checker passes, undo and replay give the same bytes."""
    given = wb.load(proto)
    before, bytes_before = run(given), given.to_proto().SerializeToString()
    made = given.fuse(rules, progress=False, **options)
    onnx.checker.check_model(onnx.ModelProto.FromString(made.to_proto().SerializeToString()), full_check=True)
    for one, two in zip(before, run(made), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    assert wb.replay(made.history.to_python(), proto).fingerprint == made.fingerprint
    assert made.history.goto(0).to_proto().SerializeToString() == bytes_before
    return made


def inside(made: wb.Model, name: str) -> list[str]:
    (function,) = [function for key, function in made.ir.functions.items() if key[1] == name]
    return [node.op_type for node in function.graph]


def test_a_chain_in_a_function_is_fused_once_for_all_calls():
    proto = model("a = pkg.block(x, w) y = pkg.block(a, w)", BLOCK)
    made = fused(proto, ["silu"])
    assert [edit.python() for edit in made.history.edits] == ["fuse_at('silu', ['Mul_4'])"]
    assert inside(made, "block") == ["MatMul", "SiLU", "Add"] and inside(made, "SiLU") == ["Sigmoid", "Mul"]
    assert made.report.counts == {"silu": 1}
    assert (made.report.nodes_before, made.report.nodes_after) == (6, 5)
    row = made.report.table.loc[0]
    size = 3 * 4 * 4
    assert row.bytes_saved == 2 * size + 3 * size - 2 * size  # of one call


def test_types_of_a_function_are_what_its_calls_have_in_common():
    """A MatMul and an Add become a Gemm only where all calls pass matrices."""
    add = (
        '<domain: "pkg", opset_import: ["" : 17]> dense (x, w) => (y) '
        "{ m = MatMul(x, w) one = Constant<value = float {1}>() y = Add(m, one) }"
    )
    made = fused(model("a = pkg.dense(x, w) y = pkg.dense(a, w)", add), ["matmul_add"])
    assert "Gemm" in inside(made, "dense")
    proto = model(
        "a = pkg.dense(x, w) b = pkg.dense(u, w) c = ReduceMean<keepdims=0, axes=[0]>(b) y = Add(a, c)", add,
        "float[3,4] x, float[4,4] w, float[2,3,4] u",
    )  # fmt: skip
    made = fused(proto, ["matmul_add"])
    assert made.report.counts == {}
    (refused,) = made.report.refusals
    assert refused.reason == "its first input 'x' has unknown rank; Gemm takes 2"


def test_a_function_that_calls_others():
    made = fused(model("y = pkg.stack(x, w)", STACK + BLOCK), ["silu"])
    assert inside(made, "block") == ["MatMul", "SiLU", "Add"] and inside(made, "stack") == ["block", "block"]


def test_what_a_call_decides_is_not_fused():
    proto = model("y = pkg.norm<epsilon=0.5>(x, w)", NORM, "float[3,4] x, float[4] w")
    made = fused(proto, ["layer_norm"])
    assert made.report.counts == {}
    answer = str(
        made.why_not("layer_norm", next(n.name for n in proto.functions[0].node if n.op_type == "Sqrt"))
    )
    assert "(epsilon) is no constant" in answer or "is given by each call" in answer, answer


def test_functions_of_our_own_are_left_as_they_are():
    made = fused(model("a = pkg.block(x, w) y = pkg.block(a, w)", BLOCK), ["silu"])
    again = made.fuse(progress=False)
    assert again.report.counts == {} and again.fingerprint == made.fingerprint


BRANCH = """
c = ReduceMax<keepdims=0>(x) z = Constant<value = float {0}>() o = Greater(c, z)
y = If (o) <
  then_branch = t () => (float[3,4] r) { s = Sigmoid(x) r = Mul(x, s) },
  else_branch = e () => (float[3,4] q) { q = Neg(x) }
>
"""


def test_a_chain_in_a_body_is_fused():
    proto = model(BRANCH, "", "float[3,4] x")
    names = iter("abcd")
    for attribute in proto.graph.node[-1].attribute:
        for node in attribute.g.node:
            node.name = f"{node.op_type}_{next(names)}"
    made = fused(proto, ["silu"])
    assert made.report.counts == {"silu": 1}
    body = made.ir.graph[-1].attributes["then_branch"].value
    assert [node.op_type for node in body] == ["SiLU"]
    verified = wb.load(proto).fuse(["silu"], verify=True, progress=False)
    assert verified.fingerprint == made.fingerprint and verified.report.table.error.max() < 1e-6


@pytest.mark.parametrize("body", ["a = pkg.block(x, w) y = pkg.block(a, w)", "y = pkg.stack(x, w)"])
def test_verified_fusions_of_a_function(body, careless):  # noqa: F811
    proto = model(body, STACK + BLOCK if "stack" in body else BLOCK)
    made = wb.load(proto).fuse(["silu"], verify=True, progress=False)
    assert set(made.report.table.status) == {"fused"} and made.report.table.error.max() < 1e-6
    made = wb.load(proto).fuse([Careless(), "silu"], verify=True, progress=False)
    rows = made.report.table.set_index("rule")
    assert rows.status.to_dict() == {"silu": "fused", "careless": "taken back"}
    assert rows.error["careless"] > 1e-2 and inside(made, "block") == ["MatMul", "SiLU", "Add"]


def test_in_a_function_too_only_what_is_wrong_is_taken_back():
    two = """
    <domain: "pkg", opset_import: ["" : 17]> two (x) => (y) {
      s = Sigmoid(x) h = Mul(x, s) t = Sigmoid(h) y = Mul(h, t)
    }
    """
    proto = model("a = pkg.two(x) y = pkg.two(a)", two, "float[3,4] x")
    first = fusions.rule("First", lambda op, x: op.Mul(x, op.Sigmoid(x)), lambda op, x: op.Relu(x),
                         check=lambda match: None if match.values["x"].name == "x" else "not this one")  # fmt: skip
    last = fusions.rule("Last", lambda op, x: op.Mul(x, op.Sigmoid(x)))
    made = wb.load(proto).fuse([first, last], verify=True, progress=False)
    rows = made.report.table
    assert list(zip(rows.rule, rows.status, strict=True)) == [
        ("Last", "fused"), ("Last", "fused"), ("First", "taken back"),
    ]  # fmt: skip
    assert inside(made, "two") == ["Last", "Last"] and rows.error[:2].max() < 1e-6


def test_every_node_of_a_function_can_be_asked_about():
    proto = model("a = pkg.block(x, w) y = pkg.block(a, w)", BLOCK)
    answer = wb.load(proto).why_not("silu", "Sigmoid_3")
    assert answer.reason == "nothing: it applies here, m.fuse does it"
    (found,) = fusions.find(wb.load(proto), "silu")
    assert [node.name for node in found.nodes] == ["Sigmoid_3", "Mul_4"]
