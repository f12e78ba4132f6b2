"""The search: exactly the planted nodes, few runs, going on later, and what the result says."""

from __future__ import annotations

import json
import math
import re

import graphs
import numpy as np
import onnx
import pytest
import real_models
from precision import planted, small

import workbench as wb
from workbench.errors import CompareError, EditError, NotInModelError
from workbench.precision import search, trials
from workbench.precision.noise import HUGE, Edge, rank
from workbench.precision.speed import Speed


def find(model, to="fp16", **given):
    return search(model, to, progress=False, **given)


@pytest.mark.parametrize("name", planted.PLANTED)
def test_planted_nodes_are_named_exactly(name):
    """Against every set of nodes up to the size of the answer."""
    made, inputs, tolerance = planted.PLANTED[name](), planted.feeds(name), planted.TOLERANCE[name]
    result = find(made, inputs=inputs, tolerance=tolerance)
    every = planted.smallest(made, inputs, tolerance, 5)
    assert every == [frozenset(result.keep)]
    assert result.complete and result.error <= tolerance < result.trials.error[0]
    assert result.runs <= 2 * math.ceil(math.log2(len(result.nodes))) + 20


def test_needs_constraints(real_model):
    """Overflows by construction between Add and Sub."""
    result = find(wb.load(real_model("needs_constraints")), tolerance=0.01)
    assert result.keep == ("Add", "Sub")
    assert result.complete
    assert small.dtypes(result.model)["add_out_1"] == "float32"
    assert small.dtypes(result.model)["matmul_out_0"] == "float16"


def test_a_real_model_that_overflows(real_model):
    """magika squares and sums in a LayerNorm: 44 nodes from the front or 15 from the back would have to be kept."""
    result = find(wb.load(real_model("magika")), tolerance=1e-2)
    names = [name.rsplit("/", 2)[1:] for name in result.keep]
    assert names == [["LayerNorm_1", "Sum_1"], ["LayerNorm_1", "truediv_1"]]
    assert result.runs <= 10
    assert (result.table[result.table.kept].share == math.inf).all()
    assert "Numbers beyond the range of fp16 pass" in result.explain()


def test_fewer_nodes_than_a_contiguous_prefix(real_model):
    made = wb.load(real_model("llama_tiny_script"))
    all_low = find(made, tolerance=math.inf)
    assert all_low.keep == () and all_low.runs == 2
    result = find(made, tolerance=all_low.trials.error[0] / 2)
    assert result.complete and 0 < len(result.keep) <= 6  # a prefix needs 16
    feed = {k: np.asarray(v) for k, v in next(iter(wb.inputs.feeds(made))).items()}
    want, got = (small.run(m, feed) for m in (made, result.simulated))
    for key, value in want.items():
        assert np.abs(got[key] - value).max() <= result.tolerance * max(1, np.abs(value).max())


def test_bf16():
    made = planted.residual()
    result = find(made, "bf16", inputs=planted.feeds("residual"), tolerance=0.02)
    assert set(result.keep) >= {"n_r", "n_s", "n_t", "n_u"}
    assert result.to == "bf16" and small.dtypes(result.model)["f"] == "bfloat16"


def test_a_thousand_nodes_within_the_runs():
    """A transformer of 1,000 nodes, the residual stream of which overflows in one place."""
    proto = graphs.transformer(1000, "plain")
    place = next(i for i, node in enumerate(proto.graph.node) if node.name == "/layers.11/mlp/Add")
    out = proto.graph.node[place].output[0]
    for node in proto.graph.node:
        node.input[:] = ["after" if name == out else name for name in node.input]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1e5), "factor"))
    for name, op, reads, makes in (("up", "Mul", out, "high"), ("down", "Div", "high", "after")):
        place += 1
        proto.graph.node.insert(place, onnx.helper.make_node(op, [reads, "factor"], [makes], name=name))
    result = find(wb.load(proto), tolerance=0.02)
    total = len(result.nodes)
    assert total > 600
    assert set(result.keep) == {"up", "down"} and result.complete
    assert result.runs <= 2 * math.ceil(math.log2(total)) + 20


IF = """
g (float[4, 8] x, bool flag) => (float[4, 8] y) {
  a = MatMul(x, w)
  b = If (flag) <
    then_branch = t () => (float[4, 8] ty) { t1 = Tanh(a)
      t2 = Mul(t1, big)
      t3 = Mul(t2, big)
      t4 = Div(t3, big)
      t5 = Div(t4, big)
      ty = Sigmoid(t5) },
    else_branch = e () => (float[4, 8] ey) { ey = Sigmoid(a) }
  >
  y = Tanh(b)
}"""


def test_nodes_in_bodies_are_found_one_by_one():
    made = small.model(IF, w=small.normal(8, 8), big=np.float32([3000]))
    result = find(made, inputs={"x": small.normal(4, 8), "flag": np.array(True)}, tolerance=0.01)
    assert result.complete and set(result.keep) == {"Mul_t3", "Div_t4"}


def agreement(reference: list, outputs: list) -> float:
    """Share of rows whose largest element is another one."""
    pairs = zip(reference, outputs, strict=True)
    return float(np.mean([a["y"].argmax(-1) != b["y"].argmax(-1) for a, b in pairs]))


def test_a_metric_of_ones_own():
    made = planted.softmax()
    result = find(made, inputs=planted.feeds("softmax"), metric=agreement, tolerance=0.0)
    assert result.error == 0.0 and len(result.keep) <= 2
    with pytest.raises(CompareError, match="beside a metric; expected one number, its limit"):
        find(made, inputs=planted.feeds("softmax"), metric=agreement, tolerance={"snr_db": 40})


def test_tolerance_by_measure():
    made = planted.softmax()
    result = find(made, inputs=planted.feeds("softmax"), tolerance={"snr_db": 60})
    assert result.keep == ("n_scores", "n_p") or set(result.keep) > {"n_scores", "n_p"}
    comparison = wb.compare(made, result.simulated, planted.feeds("softmax"), progress=False, local=False)
    assert comparison.table.snr_db["y"] >= 60


def test_a_metric_that_varies_is_told():
    with pytest.raises(
        CompareError, match="with every node in float32 the error is still 1, beyond the tolerance 0"
    ):
        find(planted.softmax(), inputs=planted.feeds("softmax"), metric=lambda a, b: 1.0, tolerance=0.0)


def test_weights_that_are_read_from_a_file_give_the_same(real_model, monkeypatch):
    made = wb.load(real_model("mtcnn_pnet"))
    inputs = list(wb.inputs.feeds(made))
    sets = [(), ("conv2d",), ("conv2d", "conv2d_1")]
    with trials.Trials(made, "float16", inputs) as inside:
        errors = [inside.trial(keep).error for keep in sets]
    monkeypatch.setattr(trials, "SPILLED", 0)
    with trials.Trials(made, "float16", inputs) as outside:
        assert [outside.trial(keep).error for keep in sets] == errors
        assert len(outside.simulated(())) < made.to_proto().ByteSize() / 3


class Stop(Exception):
    """Raised in the middle of a search."""


def test_it_goes_on_where_it_was_interrupted(tmp_path):
    made, inputs, state = planted.variance(), planted.feeds("variance"), tmp_path / "search.json"
    calls = []

    def metric(reference: list, outputs: list) -> float:
        calls.append(1)
        if len(calls) == 8:
            raise Stop
        return float(np.abs(reference[0]["y"] - outputs[0]["y"]).max())

    given = {"inputs": inputs, "tolerance": 0.02, "state": state, "metric": metric}
    with pytest.raises(Stop):
        find(made, **given)
    known = json.loads(state.read_text())
    assert len(known["trials"]) == 7
    result = find(made, **given)
    assert len(calls) == 8 + len(result.trials) - 7  # nothing was run twice
    assert result.keep == find(made, **{**given, "state": None}).keep
    again = find(made, **given)
    assert again.runs == 0 and again.keep == result.keep
    assert again.trials.equals(result.trials)
    other = {**given, "inputs": [{"x": inputs[0]["x"] + 1}]}
    with pytest.raises(
        CompareError, match="it is of another model, type, metric or other inputs; give another file"
    ):
        find(made, **other)
    state.write_text("{}")
    with pytest.raises(CompareError, match="it is not the state of a search"):
        find(made, **given)


def test_it_can_be_cancelled_and_limited():
    made, inputs = planted.variance(), planted.feeds("variance")
    asked = []
    result = find(made, inputs=inputs, tolerance=0.02, cancel=lambda: len(asked) > 5 or asked.append(1))
    assert not result.complete and result.ended == "cancelled"
    assert "it ended early: cancelled" in result.explain()
    few = find(made, inputs=inputs, tolerance=0.02, max_runs=3)
    assert not few.found and few.ended == "the 3 runs were used up" and few.runs <= 3
    assert set(few.keep) == {name for name, _ in few.nodes}
    assert "No smaller set than all 7 nodes was found" in few.explain()


def test_what_is_kept_in_any_case():
    made = planted.softmax()
    result = find(made, inputs=planted.feeds("softmax"), tolerance=0.004, keep=["n_e"])
    assert set(result.keep) == {"n_e", "n_scores", "n_p"}
    with pytest.raises(NotInModelError, match="there is no node 'n_q'"):
        find(made, inputs=planted.feeds("softmax"), keep=["n_q"])
    with pytest.raises(EditError, match="cannot search: got the type 'int8', expected 'fp16' or 'bf16'"):
        find(made, "int8")


def test_what_would_fail_after_the_search_is_said_before():
    made, inputs = planted.softmax(), planted.feeds("softmax")
    for given, message in (
        ({"max_runs": 0}, "got max_runs=0, expected 1 or more, or None"),
        ({"tolerance": float("nan")}, "got tolerance=nan, expected a number of 0 or more"),
        ({"tolerance": -1.0}, "got tolerance=-1.0, expected a number of 0 or more"),
        (
            {"metric": lambda a, b: "x"},
            "the metric: it gave 'x', expected a number that may be at most the tolerance",
        ),
        ({"metric": lambda a, b: None}, "the metric: it gave None, expected a number"),
    ):
        with pytest.raises(CompareError, match=re.escape(message)):
            find(made, inputs=inputs, **given)
    old = wb.load(real_models.find("needs_constraints"))
    message = (
        "the model cannot be converted to bf16: Cast to bfloat16 needs operator set 13, the model has 11"
    )
    with pytest.raises(EditError, match=message):
        find(old, "bf16")


def test_tables_and_the_front():
    result = find(planted.softmax(), inputs=planted.feeds("softmax"), tolerance=0.004)
    assert list(result.table.index[:2]) == ["n_p", "n_scores"] or list(result.table.index[:2]) == [
        "n_scores",
        "n_p",
    ]
    assert result.table.kept.sum() == 2 and len(result.table) == 8
    assert result.table["with"]["n_p"] == "n_scores"
    trials = result.trials
    assert list(trials.columns) == ["kept", "full", "error", "ok", "ms", "nodes"]
    assert trials.ms[trials.kept == 0].item() < trials.ms[trials.kept == 2].max()
    front = result.pareto
    assert front.ms.is_monotonic_increasing and front.error.is_monotonic_decreasing
    assert result.measured(lambda model: 1.0).error.tolist() == [front.error.min()]
    assert result.plot().data[0].name == "Pareto front"
    text = result.explain()
    assert text.startswith(
        "With all in fp16 the error is 0.0333, beyond the tolerance 0.004. Keeping 2 of the 8 computing nodes"
    )
    assert text in repr(result)


def test_estimated_time_is_arithmetic_or_memory():
    made = small.model(
        "g (float[64, 64] x) => (float[64, 64] y) { y = MatMul(x, w) }", w=small.normal(64, 64)
    )
    speed = Speed(full=64**3 * 1e3, low=64**3 * 1e6, bytes_per_s=3 * 64 * 64 * 4 * 10.0)
    low, full = (find(made, tolerance=t, speed=speed).trials for t in (1.0, 0.0))
    assert low.ms[0] == pytest.approx(50)  # half of the 100 ms of its memory traffic
    assert full.ms[full.full == 1].item() == pytest.approx(100)


def test_ranking_takes_pairs_for_what_they_give_together():
    edges = [Edge(frozenset("ab"), 6.0), Edge(frozenset("c"), 2.0), Edge(frozenset("bd"), 1.0)]
    assert [name for name, _ in rank(edges, list("abcd"), frozenset())] == ["a", "b", "c", "d"]
    left = [round(rest, 3) for _, rest in rank(edges, list("abcd"), frozenset())]
    assert left == [1.0, round(3 / 9, 3), round(1 / 9, 3), 0.0]
    assert [name for name, _ in rank(edges, list("abcd"), frozenset("b"))] == ["a", "c", "d"]
    assert rank([Edge(frozenset("a"), HUGE)], list("ab"), frozenset())[0][0] == "a"
