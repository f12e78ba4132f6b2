"""Verification: each fusion is judged by what it adds itself, on the values that are there, and taken back alone."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import real_models
from fusions.places import BN, CONV, IMAGE, array, build, operators
from fusions.test_fuse import Careless, careless  # noqa: F401 - a fixture

import workbench as wb
from workbench.compare.inside import Inside
from workbench.compare.plan import inside
from workbench.fusions.conv_batchnorm import ConvBatchNorm
from workbench.segments import Graph


def rows(made: wb.Model) -> dict[str, tuple[str, float]]:
    """Last node of a fusion -> its status and error."""
    return {item.node: (item.status, item.error) for item in made.report.fused}


def test_the_error_of_a_fusion_is_not_that_of_the_one_before(careless):  # noqa: F811
    """The first of two chains in a row is fused wrongly: the second is right, on what it reads."""
    proto = build(
        "a = Sigmoid(x) b = Mul(x, a) c = Sigmoid(b) d = Mul(b, c) y = Mul(d, u)",
        "float[2,4] x, float[2,4] u",
    )
    first = wb.fusions.rule("First", lambda op, x: op.Mul(x, op.Sigmoid(x)), lambda op, x: op.Relu(x),
                            check=lambda match: None if match.values["x"].name == "x" else "not this one")  # fmt: skip
    made = wb.load(proto).fuse([first, "swiglu"], verify=True, tolerance=10.0, progress=False)
    found = rows(made)
    assert found["Mul_1"][1] > 0.05 and found["Mul_4"][1] < 1e-6
    assert {status for status, _ in found.values()} == {"fused"}


def test_what_was_built_on_a_fusion_that_is_taken_back_is_found_anew(careless):  # noqa: F811
    """SwiGLU is found where the wrong Relu has gone."""
    proto = build("a = Sigmoid(x) b = Mul(x, a) y = Mul(b, u)", "float[2,4] x, float[2,4] u")
    made = wb.load(proto).fuse([Careless(), "swiglu"], verify=True, progress=False)
    assert rows(made)["Mul_1"][0] == "taken back" and rows(made)["Mul_2"][0] == "fused"
    assert operators(made) == ["SwiGLU"]
    assert [edit.python() for edit in made.history.edits] == ["fuse_at('swiglu', ['Mul_2'])"]


class Doubled(ConvBatchNorm):
    """Folds twice the factor: new weights are what is wrong."""

    name: ClassVar[str] = "doubled"

    def _folded(self, match: Any) -> Any:
        linear, factor, bias = super()._folded(match)
        return linear, 2 * factor if match.anchor.name == "BatchNormalization_1" else factor, bias


def test_weights_that_a_fusion_makes_are_run(monkeypatch):
    from workbench.fusions import catalog

    monkeypatch.setitem(catalog.BY_NAME, "doubled", Doubled())
    one, two = (f"{c} = Conv(x, w) {d} = BatchNormalization({c}, s, t, m, v)" for c, d in ("cd", "ef"))
    body = f"{one} {two} y = Add(d, f)"
    proto = build(body, IMAGE, **CONV, **BN)
    made = wb.load(proto).fuse([Doubled()], verify=True, progress=False)
    found = rows(made)
    assert found["BatchNormalization_1"][0] == "taken back" and found["BatchNormalization_1"][1] > 0.1
    assert found["BatchNormalization_3"][0] == "fused" and 0 < found["BatchNormalization_3"][1] < 1e-5
    assert operators(made) == ["Conv", "BatchNormalization", "Conv", "Add"]


def test_limits_by_measure(careless):  # noqa: F811
    proto = build("a = Sigmoid(x) y = Mul(x, a)")
    made = wb.load(proto).fuse([Careless()], verify=True, tolerance={"snr_db": 60.0}, progress=False)
    assert rows(made)["Mul_1"][0] == "taken back" and operators(made) == ["Sigmoid", "Mul"]
    assert str(made.report).splitlines()[1].endswith(", limits snr_db 60")
    made = wb.load(proto).fuse([Careless()], verify=True, tolerance={"snr_db": 1.0}, progress=False)
    assert rows(made)["Mul_1"][0] == "fused" and made.report.tolerance == {"snr_db": 1.0}


def test_inputs_are_those_that_were_given(careless):  # noqa: F811
    """For large positive inputs a Relu is as good as a SiLU."""
    proto = build("a = Sigmoid(x) y = Mul(x, a)")
    fine = {"x": np.full((2, 3, 4), 40, np.float32)}
    assert rows(wb.load(proto).fuse([Careless()], verify=fine, progress=False))["Mul_1"] == ("fused", 0.0)
    both = [fine, {"x": np.full((2, 3, 4), -1, np.float32)}]
    assert rows(wb.load(proto).fuse([Careless()], verify=both, progress=False))["Mul_1"][0] == "taken back"


def test_the_report_tells_the_largest_error_of_a_rule(careless):  # noqa: F811
    proto = build("a = Sigmoid(x) b = Mul(x, a) y = Neg(b)")
    report = (
        wb.load(proto)
        .fuse([Careless()], verify={"x": np.full((2, 3, 4), -0.5, np.float32)}, tolerance=1.0)
        .report
    )
    assert str(report).splitlines()[1].endswith("error at most 0.19")  # 0.5 sigmoid(-0.5)
    assert "<th>largest error</th>" in report._repr_html_() and "<td>0.19</td>" in report._repr_html_()


def test_what_is_drawn_after_a_fusion_does_not_count_as_an_error():
    proto = build("a = Sigmoid(x) b = Mul(x, a) r = RandomNormalLike(b) y = Add(b, r)")
    made = wb.load(proto).fuse(["silu"], verify=True, progress=False)
    assert rows(made)["Mul_1"] == ("fused", 0.0)


def test_exact_fusions_have_the_error_that_reaches_the_outputs():
    made = wb.load(build("a = Identity(x) b = Sigmoid(a) y = Mul(a, b)")).fuse(verify=True, progress=False)
    assert {item.rule: item.error for item in made.report.fused} == {"identity": 0.0, "silu": 0.0}


@pytest.mark.parametrize(
    "name", ["ppocr_rec", "silero_vad", "minilm_int8", "style_multi", "llama_tiny_script"]
)
def test_a_real_model(name):
    shapes = {"batch": 2, "sequence": 8} if "tiny" in name else None
    model = wb.load(real_models.find(name))
    made = model.fuse(verify=True, shapes=shapes, progress=False)
    assert set(made.report.table.status) == {"fused"} and made.report.table.error.max() < 1e-5
    assert made.fingerprint == model.fuse(shapes=shapes, progress=False).fingerprint


def test_operators_of_onnx_with_tensors_that_were_not_there():
    """The key of an attention is turned by a new node, which the removal of Transposes then takes away."""
    model = wb.load(real_models.find("bert_tiny_script")).convert_opset(23)
    made = model.fuse(functions=False, verify=True, shapes={"batch": 1, "sequence": 4}, progress=False)
    assert made.report.counts["attention"] == 2 and made.report.counts["transpose"] >= 2
    assert set(made.report.table.status) == {"fused"} and made.report.table.error.max() < 1e-5


# -- tensors of one graph held against each other


def graph(body: str, **weights: Any) -> Graph:
    return Graph(build(body, "float[64,64] x", **weights))


LONG = " ".join(f"a{i + 1} = Abs(a{i}) b{i + 1} = Relu(a{i + 1})" for i in range(40))


def test_pairs_are_measured_in_pieces():
    made = graph(f"a0 = Abs(x) {LONG} y = Neg(a40)")
    pairs = {f"b{i}": f"a{i}" for i in range(1, 41)} | {"y": "a40"}
    feeds = [{"x": np.full((64, 64), value, np.float32)} for value in (1, 3)]
    sizes = dict.fromkeys([*pairs, *pairs.values()], 1 << 19)
    with Inside(memory_budget=24 << 20) as worker:
        found = worker.compare(made, pairs, feeds, sizes, "long")
    assert all(found[name]["error"] == 0.0 for name in pairs if name != "y")
    assert (
        found["y"]["max_abs"] == 6.0 and found["y"]["ref_max"] == 3.0
    )  # against a40, which is the reference
    plan = inside(made, pairs, sizes, 1 << 20, 1 << 20)
    assert len(plan.pieces) > 20 and plan.live <= 3 << 19
    assert {track for stages in plan.pieces.values() for track in stages} == {"reference"}


def test_only_what_pairs_need_is_run():
    made = graph("a = Abs(x) b = Relu(a) c = Neg(b) d = Abs(c) e = Exp(d) y = Log(e)")
    plan = inside(made, {"b": "a"}, {}, 1 << 20, 1 << 20)
    assert [node.op_type for stages in plan.pieces.values() for node in stages["reference"].nodes] == [
        "Abs",
        "Relu",
    ]


def test_pairs_of_constants_and_of_other_shapes():
    made = graph("k = Neg(w) l = Abs(k) a = Relu(x) y = ReduceMax<axes=[0]>(a)", w=np.array([-1, 2, -3, 4], np.float32))
    with Inside() as worker:
        found = worker.compare(made, {"l": "k", "y": "a"}, [{"x": np.ones((64, 64), np.float32)}], {}, "odd")
        assert worker.compare(made, {}, [], {}, "nothing") == {}
    assert found["l"]["status"] == "compared" and found["l"]["error"] > 0
    assert found["y"]["status"] == "shapes differ: [64, 64] and [1, 64]" and math.isnan(found["y"]["error"])


def test_weights_besides_those_of_the_proto():
    proto = build("y = Add(x, w)", "float[4] x, float[4] w")
    del proto.graph.input[1:]
    with pytest.raises(wb.errors.ModelError, match="reads tensor 'w', which nothing in the graph makes"):
        Graph(proto)
    made = Graph(proto, [onnx.numpy_helper.from_array(array(4), "w")])
    assert made.is_weight("w") and made.weight_bytes("w") == 16
