"""Where a streamed, segmented, multi-threaded comparison could go wrong without anyone seeing it."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import onnx
import pytest
import real_models
from compare import cases, oracle, small
from compare.small import body, mlp, node
from compare.test_odd import feeds, statuses
from compare.test_oracle import check

import workbench as wb
from workbench.errors import CompareError

INT64, BOOL = onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def test_branches_of_different_shapes_that_take_turns():
    """The shape of If's output changes from input to input while all shapes that flow in stay as they are."""

    def make(factor: float) -> onnx.ModelProto:
        whole = body([node("Mul", ["h", "k"], ["w"], "times")], {}, ["w"])
        part = body([node("Slice", ["h", "zero", "three"], ["p"], "part")], {}, ["p"])
        nodes = [
            node("Neg", ["x"], ["h"], "neg"),
            node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
            node("Greater", ["s", "limit"], ["flag"], "test"),
            node("If", ["flag"], ["b"], "branch", then_branch=whole, else_branch=part),
            node("Exp", ["b"], ["y"], "exp"),
        ]
        weights = {
            "k": np.float32(factor),
            "limit": np.float32(0),
            "zero": np.array([0]),
            "three": np.array([3]),
        }
        return small.model(nodes, {"x": [5]}, ["y"], weights)

    given = [{"x": np.full(5, sign, np.float32)} for sign in (1, -1, 1, -2, -1, 2)]
    comparison = check(make(1.0), make(1.5), given)
    assert comparison.first_divergence(0).node == "branch"
    assert comparison.table.local_max_abs["y"] == 0


def test_loops_whose_length_is_an_input():
    def make(step: float) -> onnx.ModelProto:
        rounds = body(
            [
                node("Identity", ["go"], ["on"]),
                node("Add", ["value", "step"], ["next"]),
                node("Identity", ["next"], ["seen"]),
            ],
            {"round": "int64", "go": "bool", "value": "float32"},
            ["on", "next", "seen"],
            {"on": "bool"},
            dims={"round": [], "go": []},
        )
        nodes = [
            node("ReduceMax", ["n"], ["trips"], "trips", keepdims=0),
            node("Loop", ["trips", "", "start"], ["last", "all"], "loop", body=rounds),
            node("Relu", ["all"], ["y"], "relu"),
        ]
        weights = {"step": np.float32(step), "start": np.zeros(2, np.float32)}
        return small.model(nodes, {"n": [1]}, ["y", "last"], weights, types={"n": "int64"})

    given = [{"n": np.array([n])} for n in (3, 1, 5, 0, 3)]
    comparison = check(make(1.0), make(1.5), given)
    assert comparison.table["shape"]["all"] == (3, 2)
    assert set(comparison.table.node[comparison.table.local_max_abs > 0]) == {"loop"}


def test_two_nodes_of_one_name():
    def make(factor: float) -> onnx.ModelProto:
        nodes = [
            node("Mul", ["x", "one"], ["a"], "same"),
            node("Mul", ["a", "k"], ["b"], "same"),
            node("Relu", ["b"], ["y"], "same"),
        ]
        return small.model(nodes, {"x": [4]}, ["y"], {"one": np.float32(1), "k": np.float32(factor)})

    comparison = wb.compare(make(1.0), make(3.0), feeds((4,)), progress=False)
    names = comparison.table.node
    assert names.is_unique
    assert comparison.first_divergence(0).name == "b"
    assert comparison.blame().index.tolist() == [names["b"]]


def test_nodes_that_are_stored_out_of_order():
    model = mlp()
    mixed = mlp(1.1)
    nodes = [mixed.graph.node[i] for i in (3, 0, 4, 2, 1)]
    del mixed.graph.node[:]
    mixed.graph.node.extend(nodes)
    comparison = wb.compare(model, mixed, feeds((2, 8)), progress=False)
    turned = wb.compare(mixed, model, feeds((2, 8)), progress=False)
    right = wb.compare(model, mlp(1.1), feeds((2, 8)), progress=False)
    assert comparison.table.equals(right.table)
    assert list(turned.table.index) == ["h", "a", "r", "m", "y"]
    assert turned.first_divergence(0).name == "m"


def test_inputs_are_joined_by_name_first_and_the_rest_by_position():
    def make(first: str, second: str, inputs: tuple[str, ...], factor: float = 1.0) -> onnx.ModelProto:
        nodes = [node("Mul", [first, "k"], ["m"], "mul"), node("Sub", ["m", second], ["y"], "sub")]
        return small.model(nodes, dict.fromkeys(inputs, [3]), ["y"], {"k": np.float32(factor)})

    given = {"a": np.arange(3, dtype=np.float32), "b": np.full(3, 10, np.float32)}
    one = make("a", "b", ("a", "b"))
    for other in (make("a", "b", ("b", "a")), make("new", "b", ("b", "new")), make("p", "q", ("p", "q"))):
        comparison = wb.compare(one, other, given, progress=False)
        assert comparison.first_divergence(0) is None, list(other.graph.input)
        assert set(statuses(comparison).values()) == {"compared"}
    fewer = small.model(
        [node("Mul", ["a", "k"], ["m"], "mul"), node("Sub", ["m", "ten"], ["y"], "sub")],
        {"a": [3]}, ["y"], {"k": np.float32(1), "ten": np.float32(10)},
    )  # fmt: skip
    assert wb.compare(one, fewer, given, progress=False).ok
    extra = make("a", "c", ("a", "c", "b"))
    with pytest.raises(
        CompareError, match=r"^the models have different inputs: \['a', 'b'\] and \['a', 'c', 'b'\]"
    ):
        wb.compare(one, extra, given, progress=False)


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E5M2", "DOUBLE", "FLOAT16"])
def test_other_float_types_inside(kind: str):
    def make(factor: float) -> onnx.ModelProto:
        nodes = [
            node("Mul", ["x", "k"], ["m"], "scale"),
            node("Cast", ["m"], ["low"], "down", to=getattr(onnx.TensorProto, kind)),
            node("Cast", ["low"], ["y"], "up", to=onnx.TensorProto.FLOAT),
        ]
        return small.model(nodes, {"x": [64]}, ["y"], {"k": np.float32(factor)}, opset=19)

    dtype = {
        "FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn, "FLOAT8E5M2": ml_dtypes.float8_e5m2,
        "DOUBLE": np.float64, "FLOAT16": np.float16,
    }[kind]  # fmt: skip
    given = feeds((64,), (64,))
    comparison = wb.compare(make(1.0), make(1.25), given, progress=False)
    assert statuses(comparison) == dict.fromkeys(["m", "low", "y"], "compared")
    x = np.stack([feed["x"] for feed in given])
    low = [(x * np.float32(k)).astype(dtype) for k in (1.0, 1.25)]
    expected = oracle.measures([tuple(low)])
    row = comparison.table.loc["low"]
    for name in ("max_abs", "mean_abs", "max_rel", "mean_rel", "snr_db", "ref_min", "cand_max"):
        assert row[name] == pytest.approx(expected[name], rel=1e-4), name
    assert row.local_max_abs == 0
    assert comparison["low"].candidate.dtype == dtype


def test_values_whose_squares_leave_float32():
    nodes = [node("Mul", ["x", "k"], ["m"], "scale"), node("Div", ["m", "k2"], ["y"], "back")]

    def make(scale: float, change: float) -> onnx.ModelProto:
        weights = {"k": np.float32(scale * change), "k2": np.float32(scale)}
        return small.model(nodes, {"x": [1000]}, ["y"], weights)

    for scale in (1e30, 1e-30):
        check(make(scale, 1.0), make(scale, 1.01), feeds((1000,), (1000,)))


def test_the_same_comparison_gives_the_same_numbers_always():
    model = onnx.load(real_models.find("ppocr_cls"))
    candidate, given = cases.rounded(model), cases.feeds("ppocr_cls", 3)
    first = wb.compare(model, candidate, given, progress=False)
    for budget in (1 << 20, 16 << 20, 1 << 30):
        again = wb.compare(model, candidate, given, memory_budget=budget, progress=False)
        assert again.table.equals(first.table), budget


def test_comparisons_in_several_threads_do_not_disturb_each_other():
    expected = {k: wb.compare(mlp(), mlp(k), feeds((4, 8)), progress=False).records for k in (1.1, 1.2, 1.3)}
    found, errors = {}, []

    def run(k: float) -> None:
        try:
            found[k] = wb.compare(mlp(), mlp(k), feeds((4, 8)), progress=False).records
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert repr(found) == repr({k: expected[k] for k in found}) and len(found) == 3


def test_each_input_counts_as_much_as_the_next():
    """Ten equal inputs and one that differs, wherever it stands among them."""

    def make(limit: float) -> onnx.ModelProto:
        return small.model(
            [node("Min", ["x", "limit"], ["y"], "min")], {"x": [4]}, ["y"], {"limit": np.float32(limit)}
        )

    for place in (0, 5, 10):
        given = [{"x": np.full(4, 8.0 if i == place else 1.0, np.float32)} for i in range(11)]
        row = wb.compare(make(100.0), make(6.0), given, progress=False).table.loc["y"]
        assert (row.max_abs, row.ref_max, row.cand_max) == (2, 8, 6)
        assert row.mean_abs == pytest.approx(2 / 11)
        assert row.snr_db == pytest.approx(10 * np.log10((10 + 64) / 4))


def test_equal_values_upstream_do_not_hide_a_node_that_differs():
    """Local runs of nodes that read what the candidate itself computed may be left out, their errors may not."""
    nodes = [node("Mul", ["x", "k"], ["a"], "first"), node("Mul", ["a", "l"], ["b"], "second"),
             node("Mul", ["b", "m"], ["c"], "third"), node("Mul", ["c", "n"], ["y"], "fourth")]  # fmt: skip

    def make(**factors: float) -> onnx.ModelProto:
        values = {name: np.float32(factors.get(name, 2)) for name in "klmn"}
        return small.model(nodes, {"x": [300000]}, ["y"], values)

    given = feeds((300000,), (300000,))
    for changed in ("k", "l", "m", "n", "kl", "ln", "km"):
        for budget in (1 << 20, 1 << 30):
            candidate = make(**dict.fromkeys(changed, 2.5))
            comparison = wb.compare(make(), candidate, given, memory_budget=budget, progress=False)
            guilty = set(comparison.table.node[comparison.table.local_max_abs > 0])
            names = dict(zip("klmn", ("first", "second", "third", "fourth"), strict=True))
            assert guilty == {names[key] for key in changed}
            last = comparison.table.loc["y"]
            expected = np.abs(np.stack([f["x"] for f in given])).max() * 16 * abs(1.25 ** len(changed) - 1)
            assert last.max_abs == pytest.approx(expected, rel=1e-5)


def test_errors_that_cancel_are_seen_where_they_are():
    nodes = [node("Mul", ["x", "k"], ["a"], "double"), node("Mul", ["a", "l"], ["y"], "halve")]

    def make(k: float) -> onnx.ModelProto:
        return small.model(nodes, {"x": [8]}, ["y"], {"k": np.float32(k), "l": np.float32(1 / k)})

    comparison = check(make(2.0), make(4.0), feeds((8,)))
    assert comparison.ok
    assert comparison.table.max_abs["y"] == 0
    assert comparison.first_divergence().name == "a"
    assert set(comparison.table.node[comparison.table.local_max_abs > 0]) == {"double", "halve"}


def test_a_tensor_without_a_partner_that_two_segments_read():
    """What flows between two local runs is not what the candidate itself has computed there."""

    def make(k: float, name: str) -> onnx.ModelProto:
        nodes = [
            node("Mul", ["x", "k"], ["p"], "planted"),
            node("Add", ["p", "one"], [name], "unmatched"),
            node("Relu", [name], ["c1"], "early"),
            node("Mul", ["x", "one"], ["q"], "apart"),
            node("Neg", ["q"], ["q2"], "apart2"),
            node("Add", [name, "q2"], ["c2"], "late"),
            node("Sub", ["c1", "c2"], ["y"], "end"),
        ]
        weights = {"k": np.float32(k), "one": np.float32(1)}
        return small.model(nodes, {"x": [512, 512]}, ["y"], weights)

    for budget in (1 << 20, 1 << 30):
        comparison = check(
            make(1.0, "u"), make(1.5, "other"), feeds((512, 512), (512, 512)), memory_budget=budget
        )
        rows = comparison.table[comparison.table.status == "compared"]
        assert set(rows.node[rows.local_max_abs > 0]) == {"planted"}, budget
