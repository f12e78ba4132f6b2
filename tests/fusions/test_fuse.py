"""Model.fuse as a whole: history, report, verification; patterns by hand."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import real_models
from fusions.places import ERF, FORMS, array, build, fused, number, operators, run

import workbench as wb
from workbench import fusions
from workbench.fusions.activation import OneNode
from workbench.fusions.pattern import Pattern
from workbench.fusions.rewrite import fuse_into

TWO_SILUS = build("a = Sigmoid(x) b = Mul(x, a) c = Sigmoid(b) y = Mul(b, c)")


def test_each_fusion_is_an_edit():
    model = wb.load(TWO_SILUS)
    made = model.fuse(progress=False)
    assert [edit.python() for edit in made.history.edits] == [
        "fuse_at('silu', ['Mul_1'])",
        "fuse_at('silu', ['Mul_3'])",
    ]
    back = made.history.undo()
    assert operators(back) == ["SiLU", "Sigmoid", "Mul"] and operators(back.history.undo()) == operators(
        model
    )
    assert back.history.redo().fingerprint == made.fingerprint
    assert len(made.ir.functions) == 1  # both call the same one


def test_a_saved_file_keeps_the_fusions_and_runs(tmp_path):
    model = wb.load(TWO_SILUS)
    made = model.fuse(progress=False)
    opened = wb.load(made.save(tmp_path / "fused.onnx"))
    assert [edit.method for edit in opened.history.edits] == ["fuse_at", "fuse_at"]
    np.testing.assert_allclose(run(opened)[0], run(model)[0], rtol=1e-6)
    script = made.history.to_python()
    assert wb.replay(script, TWO_SILUS).fingerprint == made.fingerprint


def test_the_report_tells_what_happened():
    proto = build(
        "a = Sigmoid(x) b = Mul(x, a) c = Sigmoid(b) d = Mul(x, c) e = Conv(d, w) "
        "y = BatchNormalization(e, s, t, m, z)",
        "float[2,4,8,8] x, float[6] s", w=array(6, 4, 3, 3), t=array(6), m=array(6), z=np.abs(array(6)),
    )  # fmt: skip
    report = wb.load(proto).fuse(progress=False).report
    assert report.counts == {"silu": 1}
    row = report.table.iloc[0]
    size = 2 * 4 * 8 * 8 * 4
    assert (row.rule, row.node, row.nodes_before, row.nodes_after) == ("silu", "Mul_1", 2, 1)
    assert row.bytes_saved == 2 * size + 3 * size - 2 * size and row.macs_saved == 0
    (refused,) = report.refusals
    assert (refused.rule, refused.op_type) == ("conv_batchnorm", "BatchNormalization")
    assert refused.node == "BatchNormalization_5"
    assert refused.reason == "tensor 's', an input of the graph, (scale) is no constant"
    assert report.refused.loc[0, "reason"] == refused.reason
    text, page = str(report), report._repr_html_()
    assert (
        "g: 6 nodes before, 5 after" in text
        and "silu              1 time, 2 nodes to 1 saves 6,144 bytes" in text
    )
    assert "conv_batchnorm at 'BatchNormalization_5'" in text and "1 refused" in page and "6,144" in page
    assert json.loads(json.dumps(report.json()))["counts"] == {"silu": 1}


def test_names_from_a_model_are_escaped():
    proto = build("a = Sigmoid(x) b = Mul(x, a) c = Erf(b) y = Mul(b, c)")
    proto.graph.name = "<script>"
    assert "<script>" not in wb.load(proto).fuse(progress=False).report._repr_html_()


def test_the_larger_of_two_overlapping_places_is_taken():
    proto = build("a = Sigmoid(x) b = Mul(x, a) y = Mul(b, u)", "float[2,4] x, float[2,4] u")
    assert wb.load(proto).fuse(progress=False).report.counts == {"swiglu": 1}
    assert wb.load(proto).fuse(["silu", "swiglu"], progress=False).report.counts == {"silu": 1}


class Careless(OneNode):
    """x sigmoid(x) to a plain Relu: wrong on purpose."""

    name: ClassVar[str] = "careless"
    patterns: ClassVar = (Pattern(lambda op, x: op.Mul(x, op.Sigmoid(x))),)

    def rewrite(self, match: Any) -> list[ir.Node]:
        return fuse_into(match, self.name, "Relu", [match.values["x"]])

    def function_for(self, match: Any) -> str:
        return ""


@pytest.fixture
def careless(monkeypatch):
    from workbench.fusions import catalog

    monkeypatch.setitem(catalog.BY_NAME, "careless", Careless())
    return Careless()


def test_what_exceeds_the_tolerance_is_taken_back(careless):
    """Only one of two sites changes anything: the other one's input is never negative enough."""
    body = "p = Add(x, c) a = Sigmoid(p) b = Mul(p, a) d = Sigmoid(x) e = Mul(x, d) y = Add(b, e)"
    proto = build(body, "float[2,4] x", c=number(1000))
    model = wb.load(proto)
    made = model.fuse([careless], verify=True, tolerance=1e-3, progress=False)
    rows = made.report.table.set_index("node")
    assert rows.status.to_dict() == {"Mul_2": "fused", "Mul_4": "taken back"}
    assert rows.loc["Mul_4", "error"] > 0.05 and rows.loc["Mul_2", "error"] < 1e-3
    assert operators(made).count("Relu") == 1 and made.report.counts == {"careless": 1}
    assert "taken back: careless at 'Mul_4': error" in str(made.report)
    assert [edit.python() for edit in made.history.edits] == ["fuse_at('careless', ['Mul_2'])"]


def test_of_sites_that_exceed_it_only_together_the_worse_half_is_taken_back(careless):
    """Each Relu is near its SiLU for inputs near 12; what one of them adds is enlarged a thousand times after it."""
    body = (
        "p = Add(x, c) a = Sigmoid(p) b = Mul(p, a) q = Add(x, d) e = Sigmoid(q) f = Mul(q, e) g = Sub(f, d) "
        "h = Mul(g, k) y = Add(b, h)"
    )
    proto = build(body, "float[2,4] x", c=number(1000), d=number(12), k=number(1000))
    made = wb.load(proto).fuse([careless], verify=True, tolerance=1e-5, progress=False)
    rows = made.report.table.set_index("node")
    assert rows.status.to_dict() == {"Mul_2": "fused", "Mul_5": "taken back"}
    with_less = wb.load(proto).fuse([careless], verify=True, tolerance=0.05, progress=False)
    assert set(with_less.report.table.status) == {"fused"}


def test_an_output_whose_identity_went_is_still_compared():
    for body in (
        "a = Relu(x) b = Neg(a) y = Identity(b)",
        "a = Relu(x) y = Identity(a) z = Neg(a) w = Abs(z)",
    ):
        model = wb.load(build(body))
        made = model.fuse(progress=False)
        assert made.report.counts == {"identity": 1}
        found = wb.compare(model, made, progress=False)
        assert found.ok and found.table.status["y"] == "compared"


class Wrong(Careless):
    """x sigmoid(x) to a node that does not fit: the edit is refused."""

    name: ClassVar[str] = "wrong"

    def rewrite(self, match: Any) -> list[ir.Node]:
        return fuse_into(match, self.name, "And", [match.values["x"]] * 2)


def test_what_the_checks_of_an_edit_refuse_is_told_and_the_others_stay(monkeypatch):
    from workbench.fusions import catalog

    monkeypatch.setitem(catalog.BY_NAME, "wrong", Wrong())
    made = wb.load(TWO_SILUS).fuse([Wrong(), "silu"], progress=False)
    assert made.report.counts == {"silu": 2}
    (one, two) = made.report.refusals
    assert (one.rule, one.node, two.node) == ("wrong", "Mul_1", "Mul_3")
    assert (
        "the edit was refused: node 'Mul_1_And' (And), input 0 (A): got float32 from tensor 'x'" in one.reason
    )


def test_without_verification_nothing_is_taken_back(careless):
    made = wb.load(TWO_SILUS).fuse([careless], progress=False)
    assert operators(made) == ["Relu", "Relu"] and made.report.tolerance is None


def test_verified_fusions_of_a_transformer_all_stay():
    model = wb.load(real_models.find("bert_tiny_dynamo"))
    shapes = {"batch": 1, "sequence": 4}
    made = model.fuse(["gelu", "skip_norm", "attention"], verify=True, shapes=shapes, progress=False)
    assert set(made.report.table.status) == {"fused"} and made.report.table.error.max() < 1e-5
    assert made.report.counts == {"gelu": 2, "skip_norm": 5, "attention": 2}


# -- patterns by hand


def test_a_function_is_a_pattern():
    rule = fusions.rule("turn", lambda op, x: op.Neg(op.Sigmoid(x)))
    made = fused(build("a = Sigmoid(x) b = Neg(a) c = Sigmoid(b) y = Neg(c)"), rule, 2)
    assert operators(made) == ["turn", "turn"] and [key[1] for key in made.ir.functions] == ["turn"]


def test_a_pattern_of_onnxscript_is_taken_as_it_is():
    pattern = pytest.importorskip("onnxscript.rewriter.pattern")

    class Rule(pattern.RewriteRuleClassBase):
        def pattern(self, op, x, y):
            return op.Add(op.MatMul(x, y, _outputs=["product"]), y, _allow_other_attributes=True)

        def rewrite(self, op, x, y):
            raise AssertionError("only the pattern is used")

    rule = fusions.rule("product_plus", Rule())
    proto = build("m = MatMul(x, u) y = Add(m, u)", "float[4,4] x, float[4,4] u")
    assert operators(fused(proto, rule)) == ["product_plus"]
    (found,) = fusions.find(wb.load(proto), Rule())
    assert found.named["product"].op_type == "MatMul" and found.values["y"].name == "u"


def test_a_replacement_is_made_of_operators():
    rule = fusions.rule("relu6", lambda op, x: op.Min(op.Relu(x), 6.0), lambda op, x: op.Clip(x, 0.0, 6.0))
    made = fused(build("a = Relu(x) y = Min(a, s)", s=number(6)), rule)
    assert operators(made) == ["Clip"] and not made.ir.functions
    assert made.report.table.loc[0, "nodes_after"] == 1


def test_a_check_refuses_with_its_reason():
    rule = fusions.rule("turn", lambda op, x: op.Neg(op.Relu(x)), check=lambda match: "it is Tuesday")
    report = wb.load(build("a = Relu(x) y = Neg(a)")).fuse([rule], progress=False).report
    assert report.counts == {} and report.refusals[0].reason == "it is Tuesday"


def test_a_graphsurgeon_pattern_with_a_subpattern():
    gs = pytest.importorskip("onnx_graphsurgeon")
    inner = gs.GraphPattern()
    source = inner.variable()
    inner.set_output_tensors(
        [inner.add("leaky", "LeakyRelu", lambda node: node.attrs["alpha"] < 0.5, [source])]
    )
    outer = gs.GraphPattern()
    start = outer.variable()
    outer.set_output_tensors([outer.add("end", "Neg", inputs=[outer.add("sub", inner, inputs=[start])])])
    rule = fusions.rule("leaky_neg", outer)
    good = build("a = LeakyRelu<alpha=0.1>(x) y = Neg(a)")
    assert operators(fused(good, rule)) == ["leaky_neg"]
    steep = wb.load(build("a = LeakyRelu<alpha=0.9>(x) y = Neg(a)"))
    assert steep.fuse([rule], progress=False).report.counts == {}
    assert "the check of the pattern refuses this LeakyRelu" in str(steep.why_not(rule, "LeakyRelu_0"))


def test_selected_nodes_find_their_siblings():
    model = wb.load(real_models.find("bert_tiny_script"))
    base = "/layer.0/attention/self/query"
    pattern = fusions.pattern_of(model, [f"{base}/MatMul", f"{base}/Add"])
    found = fusions.find(model, pattern)
    assert len(found) == 12 and [node.name for node in found[0].nodes] == [f"{base}/MatMul", f"{base}/Add"]
    made = model.fuse([fusions.rule("Dense", pattern)], progress=False)
    assert made.report.counts == {"Dense": 12} and len(made.ir.functions) == 1
    compared = wb.compare(model, made, shapes={"batch": 1, "sequence": 4}, progress=False)
    assert compared.ok and compared.table.error.max() < 1e-6
    assert wb.replay(made.history.to_json(), model).fingerprint == made.fingerprint  # needs no rule


def test_selected_nodes_with_an_output_that_others_read():
    proto = build("a = Relu(x) b = Neg(a) c = Abs(b) d = Relu(c) e = Neg(d) f = Add(a, e) y = Add(f, d)")
    model = wb.load(proto)
    pattern = fusions.pattern_of(model, ["Relu_0", "Neg_1"])
    assert pattern.open == {"Relu_0"} and len(fusions.find(model, fusions.rule("pair", pattern))) == 2
    made = fused(proto, fusions.rule("pair", pattern), 2)
    assert operators(made) == ["pair", "Abs", "pair", "Add", "Add"]


def test_what_no_pattern_can_be_made_of():
    model = wb.load(build("a = Relu(x) b = Neg(x) y = Add(a, b)"))
    with pytest.raises(wb.errors.EditError, match="nodes 'Relu_0' do not lead to 'Neg_1'; select nodes"):
        fusions.pattern_of(model, ["Relu_0", "Neg_1"])
    with pytest.raises(wb.errors.EditError, match="got int as a pattern; expected a function"):
        fusions.rule("x", 5)
    with pytest.raises(wb.errors.EditError, match="returned None; expected the output of an operator"):
        fusions.rule("x", lambda op, x: None)
    with pytest.raises(wb.errors.EditError, match="takes a; expected the tensors of the pattern, x"):
        fusions.rule("x", lambda op, x: op.Relu(x), lambda op, a: op.Neg(a))


def test_nodes_are_replaced_without_a_rule():
    proto = FORMS["gelu"]["erf_half_last"]
    model = wb.load(proto)
    made = model.replace_nodes([node.name for node in proto.graph.node], "Whole")
    assert operators(made) == ["Whole"] and list(made.ir.functions) == [("workbench", "Whole", "")]
    np.testing.assert_allclose(run(made)[0], run(model)[0], rtol=1e-6)
    function = made.ir.functions["workbench", "Whole", ""]
    assert len(function.inputs) == 1 and [node.op_type for node in function.graph].count("Constant") == len(
        ERF
    )
    with pytest.raises(
        wb.errors.EditError, match="would read what follows from its own output: that is a cycle"
    ):
        loop = wb.load(build("a = Relu(x) b = Neg(a) c = Abs(b) y = Add(a, c)"))
        loop.replace_nodes(["Relu_0", "Abs_2"], "Odd")


def test_functions_of_the_same_name_and_another_body_get_a_number():
    proto = build("a = Mul(x, c) b = Neg(a) d = Mul(b, e) y = Neg(d)", c=number(2), e=number(3))
    model = wb.load(proto)
    made = model.replace_nodes(["Mul_0", "Neg_1"], "Part").replace_nodes(["Mul_2", "Neg_3"], "Part")
    assert [key[1] for key in made.ir.functions] == ["Part", "Part_2"]
    assert isinstance(onnx.shape_inference.infer_shapes(made.to_proto()), onnx.ModelProto)
    np.testing.assert_allclose(run(made)[0], run(model)[0], rtol=1e-6)


def test_what_reads_the_first_of_some_nodes_comes_after_the_function():
    proto = build("a = Relu(x) b = Abs(a) c = Neg(x) d = Add(c, c) y = Add(b, d)")
    model = wb.load(proto)
    made = model.replace_nodes(["Relu_0", "Neg_2"], "Both")
    assert operators(made) == ["Both", "Abs", "Add", "Add"]
    made = model.replace_nodes(["Relu_0", "Add_3"], "Odd")
    assert operators(made).index("Odd") < operators(made).index("Abs")
    np.testing.assert_array_equal(run(made)[0], run(model)[0])
    onnx.checker.check_model(made.to_proto(), full_check=True)


def test_an_old_model_whose_weights_are_inputs_gets_new_ones():
    proto = build(
        "c = Conv(x, w) r = Mul(k, k) y = Mul(c, r)", "float[2,4,8,8] x", opset=13, w=array(6, 4, 3, 3)
    )
    node = onnx.helper.make_node("Constant", [], ["k"], "k", value=onnx.numpy_helper.from_array(number(2)))
    proto.graph.node.insert(0, node)
    proto.ir_version = 3
    proto.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, (6, 4, 3, 3)))
    made = wb.load(proto).fuse(progress=False)
    assert made.report.counts == {"constant_folding": 1} and made.ir.ir_version == 4
    onnx.checker.check_model(made.to_proto())
    np.testing.assert_allclose(run(made)[0], run(proto)[0], rtol=1e-5)


def test_what_a_rule_finds_can_be_replaced_by_a_plugin():
    model = wb.load(real_models.find("bert_tiny_dynamo"))
    made = model
    for match in fusions.find(model, "gelu"):
        made = made.replace(match, "FusedGelu")
    assert len(made.ir.graph) == len(model.ir.graph) - 2 * 5 + 2
    assert [node.op_type for node in made.ir.graph].count("FusedGelu") == 2
    found = wb.compare(model, made, shapes={"batch": 1, "sequence": 4}, progress=False)
    assert found.ok
    with pytest.raises(
        wb.errors.EditError, match="the fusion 'cast' has no pattern; expected a rule of a pattern"
    ):
        fusions.find(model, "cast")
