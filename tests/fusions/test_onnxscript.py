"""Rules of onnxscript's rewriter, run as they are: pattern, condition and replacement."""

from __future__ import annotations

import numpy as np
import pytest
import real_models
from fusions.places import BN, CONV, IMAGE, array, build, fused, ints, operators

import workbench as wb

common = pytest.importorskip("onnxscript.rewriter.rules.common")
pattern = pytest.importorskip("onnxscript.rewriter.pattern")


def test_a_rule_of_onnxscript_is_an_edit_that_replays_without_it():
    proto = build("m = MatMul(x, w) y = Add(m, c)", "float[3,4] x", w=array(4, 5), c=array(5))
    (rule,) = wb.fusions.run.resolve(common.matmul_add_to_gemm_rule)
    made = fused(proto, rule)
    assert operators(made) == ["Gemm"] and made.report.counts == {"MatMulAddToGemm": 1}
    (edit,) = made.history.edits
    assert (
        edit.method == "replace_nodes"
        and edit.nodes == ("MatMul_0", "Add_1")
        and edit.name == "MatMulAddToGemm"
    )


def test_conditions_are_honoured_and_their_reason_is_told():
    proto = build("m = MatMul(x, w) y = Add(m, c)", w=array(4, 5), c=array(5))
    model = wb.load(proto)
    made = model.fuse([common.matmul_add_to_gemm_rule], progress=False)
    assert made.report.counts == {} and made.fingerprint == model.fingerprint
    assert str(made.report.refusals[0]) == (
        "MatMulAddToGemm at 'Add_1': node 'Add_1' (Add): Rank of input_a and input_b must be 2 (all nodes found)"
    )
    assert "Rank of input_a" in str(model.why_not(common.matmul_add_to_gemm_rule, "Add_1"))


def test_weights_that_a_rule_makes():
    proto = build("c = Conv(x, w, b) y = BatchNormalization(c, s, t, m, v)", IMAGE, **CONV, **BN)
    (rule,) = wb.fusions.run.resolve([common.fuse_batchnorm_into_conv_rule])
    assert operators(fused(proto, rule)) == ["Conv"]


def test_sets_classes_and_what_is_handed_on():
    from onnxscript.rewriter.rules.fusion import _layer_norm

    body = (
        "m = ReduceMean<keepdims=1>(x, ax) d = Sub(x, m) p = Mul(d, d) v = ReduceMean<keepdims=1>(p, ax) "
        "a = Add(v, e) s = Sqrt(a) r = Reciprocal(s) n = Mul(d, r) y = Mul(n, w)"
    )
    proto = build(body, opset=18, e=np.array(1e-5, np.float32), w=array(4), ax=ints(-1))
    made = wb.load(proto).fuse(_layer_norm.layer_normalization_ruleset, progress=False)
    assert operators(made) == ["LayerNormalization"]
    casts = build("a = Cast<to=1>(x) y = Neg(a)")
    from onnxscript.rewriter.rules.common._basic_rules import CastIdentity

    for given in (CastIdentity, CastIdentity(), common.no_op_cast_rule):
        assert operators(wb.load(casts).fuse([given], progress=False)) == ["Identity", "Neg"]
    assert operators(wb.load(casts).fuse([CastIdentity, "identity"], progress=False)) == ["Neg"]


class Clever(pattern.RewriteRuleClassBase):
    """To an operator of another domain; counts what it does in its setup."""

    def setup(self):
        self.ready = True

    def pattern(self, op, x):
        return op.Mul(x, op.Sigmoid(x))

    def check(self, context, x):
        return (
            pattern.MatchResult()
            if self.ready and len(x.shape) == 3
            else pattern.MatchResult().fail("rank", x)
        )

    def rewrite(self, op, x):
        return op.QuickGelu(x, alpha=1.0, _domain="com.microsoft")


def test_an_operator_of_another_domain_and_state_of_a_rule():
    made = wb.load(build("a = Sigmoid(x) y = Mul(x, a)")).fuse([Clever()], verify=True, progress=False)
    assert operators(made) == ["QuickGelu"] and made.ir.opset_imports["com.microsoft"] == 1
    assert made.report.table.error.max() < 1e-6


def test_what_is_not_supported():
    class Function(Clever):
        def __init__(self):
            super().__init__("made", as_function=True)

    model = wb.load(build("a = Sigmoid(x) y = Mul(x, a)"))
    with pytest.raises(
        wb.errors.EditError, match="cannot use the rule 'made' of onnxscript: as_function is set"
    ):
        model.fuse([Function()])
    with pytest.raises(
        wb.errors.EditError, match="got int as a rule; expected a name .* or one of onnxscript's rewr"
    ):
        model.fuse([5])


def test_the_rules_of_onnxscript_on_an_exported_model():
    model = wb.load(real_models.find("gpt2_tiny_dynamo"))
    made = model.fuse(common._basic_rules.basic_optimization_rules(), progress=False)
    assert made.report.counts["CastIdentity"] == 18 and made.report.counts["TransposeIdentity"] == 8
    found = wb.compare(model, made, shapes={"batch": 2, "sequence": 8}, progress=False)
    assert found.ok and found.table.error.max() == 0
    assert wb.replay(made.history.to_json(), model).fingerprint == made.fingerprint
