"""Pairs of models and inputs that are out of the ordinary: the numbers are right, or the reason is given."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import onnx
import pytest
from compare import oracle, small
from compare.small import body, mlp, node
from compare.test_oracle import check

import workbench as wb
from workbench.errors import BackendFailed, CompareError


def feeds(*shapes: tuple[int, ...], name: str = "x") -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [{name: random.normal(0, 1, shape).astype(np.float32)} for shape in shapes]


def statuses(comparison: wb.Comparison) -> dict[str, str]:
    return comparison.table.status.to_dict()


# ---------------------------------------------------------------- names


def test_other_input_and_output_names_are_joined_by_position():
    comparison = wb.compare(mlp(), mlp(1.01, prefix="new/"), feeds((3, 8)), progress=False)
    found = statuses(comparison)
    assert found.pop("y") == "compared"
    assert {found[name] for name in "hamr"} == {"only in the reference"}
    assert {found[f"new/{name}"] for name in "hamr"} == {"only in the candidate"}
    (a,), (b,) = (oracle.every_tensor(m, f) for m, f in (
        (mlp(), feeds((3, 8))), (mlp(1.01, prefix="new/"), feeds((3, 8), name="new/x")),
    ))  # fmt: skip
    expected = oracle.measures([(a["y"], b["new/y"])])
    row = comparison.table.loc["y"]
    assert row.max_abs == pytest.approx(expected["max_abs"], rel=1e-6)
    assert row.local_max_abs == row.max_abs  # nothing between input and output is shared: one layer
    pair = comparison["y"]
    assert np.array_equal(pair.reference, a["y"]) and np.array_equal(pair.candidate, b["new/y"])
    assert np.array_equal(pair.local, b["new/y"])


def test_names_that_look_like_those_of_the_inside():
    def make(factor: float) -> onnx.ModelProto:
        nodes = [
            node("Relu", ["x"], ["a"], "n1"),
            node("Mul", ["a", "two"], ["reference/a"], "n2"),
            node("Add", ["a", "reference/a"], ["given/a"], "n3"),
            node("Split", ["given/a", "parts"], ["reference/given/a", "given/reference/a"], "n4", axis=0),
            node("Add", ["reference/given/a", "given/reference/a"], ["y"], "n5"),
        ]
        weights = {"two": np.float32(factor), "parts": np.array([2, 2])}
        return small.model(nodes, {"x": [4, 3]}, ["y"], weights)

    comparison = check(make(2), make(2.5), feeds((4, 3)))
    assert comparison.first_divergence(0).name == "reference/a"
    assert comparison.blame().index.tolist() == ["n2"]
    assert comparison.blame().share["n2"] == pytest.approx(1)
    assert np.array_equal(comparison["given/reference/a"].local, comparison["given/reference/a"].reference)


def test_candidate_in_another_order_of_dependency():
    """The same two names, but what comes first in one model comes last in the other."""
    first = [
        node("Relu", ["x"], ["a"], "na"),
        node("Sigmoid", ["a"], ["b"], "nb"),
        node("Neg", ["b"], ["y"], "ny"),
    ]
    second = [
        node("Sigmoid", ["x"], ["b"], "nb"),
        node("Relu", ["b"], ["a"], "na"),
        node("Neg", ["a"], ["y"], "ny"),
    ]
    one = small.model(first, {"x": [512, 512]}, ["y"])
    two = small.model(second, {"x": [512, 512]}, ["y"])
    for budget in (1 << 20, 1 << 30):
        check(one, two, feeds((512, 512), (512, 512)), memory_budget=budget)


def test_unnamed_nodes_get_the_names_of_the_model():
    model = mlp()
    for each in model.graph.node:
        each.name = ""
    comparison = wb.compare(model, mlp(1.1), feeds((2, 8)), progress=False)
    assert comparison.table.node.tolist() == ["MatMul_h", "Add_a", "Relu_r", "MatMul_m", "Softmax_y"]
    assert comparison.table.node.tolist() == list(wb.load(model).nodes.index)
    assert comparison.first_divergence(0).node == "MatMul_m"


# ---------------------------------------------------------------- dtypes


def half_mlp() -> onnx.ModelProto:
    made = mlp()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in made.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return made


@pytest.mark.parametrize("way", ["half candidate", "half reference"])
def test_a_model_in_float16_with_float16_inputs(way: str):
    single, half = mlp(), half_mlp()
    given = feeds((3, 8), (3, 8))
    cast = [{"x": feed["x"].astype(np.float16)} for feed in given]
    if way == "half candidate":
        comparison = wb.compare(single, half, given, progress=False)
        a, b = oracle.every_tensor(single, given), oracle.every_tensor(half, cast)
    else:
        comparison = wb.compare(half, single, cast, progress=False)
        exact = [{"x": feed["x"].astype(np.float32)} for feed in cast]
        a, b = oracle.every_tensor(half, cast), oracle.every_tensor(single, exact)
    assert set(statuses(comparison).values()) == {"compared"}
    for name, row in comparison.table.iterrows():
        expected = oracle.measures([(x[name], y[name]) for x, y in zip(a, b, strict=True)])
        assert row.max_abs == pytest.approx(expected["max_abs"], abs=2e-3), name
        assert 0 < row.max_abs < 0.02 and 40 < row.snr_db < 90, name
        assert row.local_max_abs < 0.02, name
        assert (row.local_max_abs > 0) or row.op_type == "Relu", name
    assert comparison.ok == (comparison.table.error.iloc[-1] <= 1e-3)


def test_bfloat16_inside():
    def make(factor: float) -> onnx.ModelProto:
        nodes = [
            node("Mul", ["x", "k"], ["m"], "scale"),
            node("Cast", ["m"], ["low"], "down", to=onnx.TensorProto.BFLOAT16),
            node("Cast", ["low"], ["y"], "up", to=onnx.TensorProto.FLOAT),
        ]
        return small.model(nodes, {"x": [64]}, ["y"], {"k": np.float32(factor)})

    given = feeds((64,), (64,))
    comparison = wb.compare(make(1.0), make(1.25), given, progress=False)
    assert statuses(comparison) == dict.fromkeys(["m", "low", "y"], "compared")
    rows = comparison.table
    assert rows.dtype["low"] == "bfloat16"
    x = np.stack([feed["x"] for feed in given])
    low = [(x * np.float32(k)).astype(ml_dtypes.bfloat16) for k in (1.0, 1.25)]
    expected = oracle.measures([tuple(low)])
    for name in ("max_abs", "mean_abs", "max_rel", "snr_db", "ref_min", "cand_max"):
        assert rows[name]["low"] == pytest.approx(expected[name], rel=1e-4)
    assert rows.local_max_abs.tolist() == [rows.max_abs["m"], 0, 0]


@pytest.mark.parametrize(("dtype", "error"), [("int64", 3.0), ("int32", 3.0), ("uint8", 3.0), ("bool", 1.0)])
def test_integers_and_booleans_are_measured_as_numbers(dtype: str, error: float):
    def make(value: int) -> onnx.ModelProto:
        code = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        nodes = [node("Add", ["x", "k"], ["a"], "add"), node("Cast", ["a"], ["y"], "cast", to=code)]
        return small.model(nodes, {"x": [4]}, ["y"], {"k": np.float32(value)}, types={"y": dtype})

    given = [{"x": np.array([0, 1, 2, 3], np.float32)}]
    comparison = check(make(0), make(3), given)
    assert comparison.table.max_abs["y"] == error
    assert not comparison.ok


def test_a_class_that_is_off_by_one_is_an_error_however_many_there_are():
    """The error of an index is not relative to the largest index."""

    def make(bump: float) -> onnx.ModelProto:
        nodes = [node("Add", ["x", "k"], ["a"], "add"), node("ArgMax", ["a"], ["y"], "argmax", keepdims=0)]
        k = np.zeros(20000, np.float32)
        k[19998], k[19999] = 1, 1 + bump
        return small.model(nodes, {"x": [20000]}, ["y"], {"k": k}, types={"y": "int64"})

    comparison = wb.compare(make(1e-5), make(-1e-5), [{"x": np.zeros(20000, np.float32)}], progress=False)
    assert comparison.table.max_abs["y"] == 1
    assert not comparison.ok
    assert comparison.first_divergence().name == "y"


def test_strings():
    def make(last: str) -> onnx.ModelProto:
        nodes = [
            node("Gather", ["words", "x"], ["s"], "look_up"),
            node("Identity", ["s"], ["y"], "copy"),
            node("Shape", ["y"], ["n"], "count"),
        ]
        weights = {"words": np.array(["a", "b", last], object)}
        return small.model(
            nodes, {"x": [2]}, ["y", "n"], weights, types={"x": "int64", "y": "string", "n": "int64"}
        )

    given = [{"x": np.array([0, 1])}, {"x": np.array([1, 2])}]
    comparison = check(make("c"), make("C"), given)
    assert comparison.table.max_abs.to_dict() == {"s": 1, "y": 1, "n": 0}
    assert comparison.table.local_max_abs.to_dict() == {"s": 1, "y": 0, "n": 0}
    assert comparison.first_divergence().node == "look_up"
    assert comparison["y"].candidate.tolist() == ["a", "b"]
    assert comparison.arrays("y", 1).candidate.tolist() == ["b", "C"]
    assert check(make("c"), make("c"), given).ok


# ---------------------------------------------------------------- shapes


def test_inputs_of_different_shapes():
    check(mlp(), mlp(1.01), feeds((1, 8), (5, 8), (2, 8), (5, 8), (1, 8)))


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("budget", [1 << 20, 128 << 20])
def test_any_number_of_inputs(count: int, budget: int):
    comparison = check(mlp(), mlp(1.01), feeds(*[(4, 8)] * count), memory_budget=budget)
    assert comparison.meta["inputs"] == count
    (y,) = oracle.every_tensor(mlp(), feeds(*[(4, 8)] * count)[-1:])
    assert np.array_equal(comparison.arrays("y", count - 1).reference, y["y"])
    with pytest.raises(
        CompareError, match=f"^the comparison has no input number {count}; it has {count}, counted"
    ):
        comparison.arrays("y", count)


def test_shapes_that_depend_on_values():
    def make(threshold: float) -> onnx.ModelProto:
        nodes = [
            node("Greater", ["x", "t"], ["g"], "greater"),
            node("NonZero", ["g"], ["places"], "places"),
            node("Shape", ["places"], ["size"], "size"),
            node("ConstantOfShape", ["size"], ["zeros"], "zeros"),
            node("Cast", ["places"], ["f"], "cast", to=onnx.TensorProto.FLOAT),
            node("ReduceSum", ["f"], ["y"], "sum", keepdims=0),
        ]
        return small.model(nodes, {"x": [50]}, ["y"], {"t": np.float32(threshold)})

    comparison = check(make(0.0), make(0.0), feeds(*[(50,)] * 5))
    assert comparison.ok and set(statuses(comparison).values()) == {"compared"}

    given = feeds(*[(50,)] * 5)
    comparison = wb.compare(make(0.0), make(0.5), given, progress=False)
    first, second = (int((given[0]["x"] > t).sum()) for t in (0.0, 0.5))
    found = statuses(comparison)
    assert found["places"].startswith("shapes differ: [1, ")
    assert found["size"] == found["y"] == found["g"] == "compared"
    assert comparison.table.local_max_abs["y"] == 0
    assert comparison.first_divergence(0).name == "g"
    assert comparison["places"].reference.shape == (1, first)
    assert comparison["places"].candidate.shape == (1, second)


def test_shapes_that_differ_for_some_inputs_only():
    def make(threshold: float) -> onnx.ModelProto:
        nodes = [
            node("Greater", ["x", "t"], ["g"], "greater"),
            node("NonZero", ["g"], ["y"], "places"),
        ]
        return small.model(nodes, {"x": [3]}, ["y"], {"t": np.float32(threshold)}, types={"y": "int64"})

    given = [{"x": np.array(v, np.float32)} for v in ([1, 1, -1], [1, 0.3, -1], [0.3, -1, 1])]
    comparison = wb.compare(make(0.0), make(0.5), given, progress=False)
    assert statuses(comparison) == {"g": "compared", "y": "shapes differ: [1, 2] and [1, 1]"}
    assert comparison.first_divergence().name == "g"
    assert not comparison.ok


def test_empty_tensors():
    nodes = [
        node("Slice", ["x", "zero", "zero"], ["none"], "nothing"),
        node("Mul", ["none", "none"], ["squares"], "square"),
        node("Concat", ["squares", "x"], ["y"], "join", axis=0),
    ]
    model = small.model(nodes, {"x": ["n", 3]}, ["y"], {"zero": np.array([0])})
    comparison = check(model, model, feeds((2, 3), (0, 3)))
    row = comparison.table.loc["squares"]
    assert (row["shape"], row.max_abs, row.mean_abs, row.cosine, row.snr_db) == ((0, 3), 0, 0, 1, math.inf)
    assert math.isnan(row.ref_min) and row.nan == 0
    assert comparison.ok


def test_scalars_and_single_elements():
    nodes = [
        node("ReduceMean", ["x"], ["mean"], "mean", keepdims=0),
        node("Mul", ["mean", "k"], ["scaled"], "scale"),
        node("Sub", ["x", "scaled"], ["y"], "sub"),
    ]
    one, two = (small.model(nodes, {"x": [4, 3]}, ["y"], {"k": np.float32(k)}) for k in (1, 1.5))
    comparison = check(one, two, feeds(*[(4, 3)] * 3))
    assert comparison.table["shape"]["scaled"] == ()
    assert comparison["scaled"].candidate.shape == ()


# ---------------------------------------------------------------- what cannot be compared, and why


def test_what_only_one_model_has_and_what_was_folded():
    nodes = [
        node("Shape", ["w"], ["size"], "size"),
        node("Reshape", ["x", "size"], ["flat"], "reshape"),
        node("Relu", ["flat"], ["r"], "relu"),
        node("Neg", ["r"], ["y"], "neg"),
    ]
    one = small.model(nodes, {"x": [2, 2]}, ["y"], {"w": np.zeros(4, np.float32)})
    less = [
        node("Reshape", ["x", "size"], ["flat"], "reshape"),
        node("Clip", ["flat", "zero"], ["c"], "clip"),
        node("Neg", ["c"], ["y"], "neg"),
    ]
    two = small.model(less, {"x": [2, 2]}, ["y"], {"size": np.array([4]), "zero": np.float32(0)})
    comparison = check(one, two, feeds((2, 2)))
    assert statuses(comparison) == {
        "size": "folded to a weight in the candidate",
        "flat": "compared",
        "r": "only in the reference",
        "y": "compared",
        "c": "only in the candidate",
    }
    text = comparison.explain()
    assert text.startswith("2 of 5 tensors were compared over 1 input; 3 could not be (column status).")
    with pytest.raises(
        CompareError, match="^tensor 'r' is not in both models; see the column status of the table$"
    ):
        comparison["r"]


def branches(factor: float, outer: float = 1.0) -> onnx.ModelProto:
    """An If, both branches of which read tensors of the outside; the second one holds another If."""
    deep = body([node("Exp", ["h"], ["e"], "exp")], {}, ["e"])
    plain = body([node("Neg", ["h"], ["deep_n"], "neg")], {}, ["deep_n"])
    then = body([node("Mul", ["h", "k"], ["t"], "times"), node("Abs", ["t"], ["t2"], "abs")], {}, ["t2"])
    other = body([node("If", ["flag"], ["o"], "inner", then_branch=deep, else_branch=plain)], {}, ["o"])
    nodes = [
        node("Mul", ["x", "outer"], ["h"], "before"),
        node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        node("Greater", ["s", "zero"], ["flag"], "test"),
        node("If", ["flag"], ["y"], "branch", then_branch=then, else_branch=other),
        node("Tanh", ["y"], ["z"], "after"),
    ]
    weights = {"outer": np.float32(outer), "zero": np.float32(0), "k": np.float32(factor)}
    return small.model(nodes, {"x": [5]}, ["z"], weights)


@pytest.mark.parametrize(("factor", "outer"), [(1.5, 1.0), (1.0, 1.5)])
def test_bodies_that_read_from_outside(factor: float, outer: float):
    given = [{"x": np.full(5, sign, np.float32)} for sign in (1, -1, 1)]
    comparison = check(branches(1.0), branches(factor, outer), given)
    found = statuses(comparison)
    inside = "inside {} of If node {!r}: only the node's outputs are compared"
    assert found["branch/then_branch/t"] == inside.format("then_branch", "branch")
    assert found["branch/else_branch/o"] == inside.format("else_branch", "branch")
    assert found["branch/else_branch/inner/then_branch/e"] == inside.format("then_branch", "inner")
    assert comparison.first_divergence(0).node == ("branch" if factor != 1 else "before")
    assert set(comparison.table.node[comparison.table.local_max_abs > 0]) == {
        "branch" if factor != 1 else "before"
    }


def test_loop_and_scan_that_read_from_outside():
    def make(factor: float) -> onnx.ModelProto:
        loop = body(
            [node("Identity", ["go"], ["on"]), node("Add", ["value", "h"], ["next"])],
            {"round": "int64", "go": "bool", "value": "float32"}, ["on", "next"], {"on": "bool"},
            dims={"round": [], "go": []},
        )  # fmt: skip
        scan = body(
            [node("Add", ["state", "row"], ["more"]), node("Mul", ["more", "h"], ["row_out"])],
            {"state": "float32", "row": "float32"}, ["more", "row_out"], dims={"more": [4], "row_out": [4]},
        )  # fmt: skip
        nodes = [
            node("Mul", ["x", "k"], ["h"], "before"),
            node("Loop", ["three", "", "x"], ["l"], "loop", body=loop),
            node("Unsqueeze", ["l", "axis"], ["rows"], "unsqueeze"),
            node("Scan", ["h", "rows"], ["last", "all"], "scan", body=scan, num_scan_inputs=1),
            node("Concat", ["rows", "all"], ["y"], "join", axis=0),
        ]
        weights = {"k": np.float32(factor), "three": np.array(3), "axis": np.array([0])}
        return small.model(nodes, {"x": [4]}, ["y", "last"], weights)

    comparison = check(make(1.0), make(1.25), feeds((4,), (4,)))
    assert set(comparison.table.node[comparison.table.local_max_abs > 0]) == {"before"}
    assert comparison.table.status["loop/body/next"].startswith("inside body of Loop node 'loop'")


def test_sequences_cannot_be_compared_but_what_comes_of_them_is():
    def make(factor: float) -> onnx.ModelProto:
        nodes = [
            node("Mul", ["x", "k"], ["m"], "scale"),
            node("SplitToSequence", ["m", "two"], ["parts"], "split", axis=0),
            node("SequenceAt", ["parts", "one"], ["part"], "pick"),
            node("ConcatFromSequence", ["parts"], ["y"], "join", axis=0),
        ]
        weights = {"k": np.float32(factor), "two": np.array(2), "one": np.array(1)}
        return small.model(nodes, {"x": [6]}, ["y", "part"], weights)

    comparison = wb.compare(make(1.0), make(2.0), feeds((6,), (6,)), progress=False)
    found = statuses(comparison)
    assert {name: found[name] for name in ("m", "part", "y")} == dict.fromkeys(("m", "part", "y"), "compared")
    assert found["parts"] == "a sequence: its elements are not compared"
    values = [oracle.every_tensor(make(k), feeds((6,), (6,))) for k in (1.0, 2.0)]
    for name in ("m", "part", "y"):
        expected = oracle.measures([(a[name], b[name]) for a, b in zip(*values, strict=True)])
        assert comparison.table.max_abs[name] == expected["max_abs"]
    assert comparison.table.local_max_abs["m"] == comparison.table.max_abs["m"]


def test_models_that_share_nothing_are_refused():
    one = small.model([node("Relu", ["x"], ["a"]), node("Neg", ["x"], ["b"])], {"x": [2]}, ["a", "b"])
    two = small.model([node("Relu", ["x"], ["c"])], {"x": [2]}, ["c"])
    with pytest.raises(
        CompareError, match="^'small' and 'small' share no tensor name and have different outputs: nothing"
    ):
        wb.compare(one, two, feeds((2,)), progress=False)


def test_inputs_that_do_not_match_are_refused():
    one = small.model([node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])
    two = small.model([node("Add", ["a", "b"], ["y"])], {"a": [2], "b": [2]}, ["y"])
    with pytest.raises(CompareError, match=r"^the models have different inputs: \['x'\] and \['a', 'b'\]"):
        wb.compare(one, two, feeds((2,)), progress=False)


# ---------------------------------------------------------------- outputs


def test_several_outputs_and_outputs_that_are_inputs():
    def make(factor: float) -> onnx.ModelProto:
        nodes = [node("Relu", ["x"], ["a"], "relu"), node("Mul", ["a", "k"], ["b"], "scale")]
        return small.model(nodes, {"x": [4]}, ["a", "x", "b"], {"k": np.float32(factor)})

    comparison = check(make(1.0), make(2.0), feeds((4,)))
    assert not comparison.ok
    assert comparison.outputs == ("a", "x", "b")
    assert check(make(1.0), make(1.0), feeds((4,))).ok


def test_a_model_that_only_passes_its_input_on():
    model = small.model([], {"x": [4]}, ["x"])
    comparison = wb.compare(model, model, feeds((4,)), progress=False)
    assert comparison.ok
    assert len(comparison.table) == 0


@pytest.mark.parametrize("held", ["initializer", "Constant"])
def test_an_output_that_is_a_weight_is_compared(held: str):
    def make(value: float) -> onnx.ModelProto:
        nodes = [node("Relu", ["x"], ["y"], "relu")]
        array = np.full(3, value, np.float32)
        weights = {}
        if held == "Constant":
            nodes.append(node("Constant", [], ["k"], "constant", value=onnx.numpy_helper.from_array(array)))
        else:
            weights["k"] = array
        return small.model(nodes, {"x": [4]}, ["y", "k"], weights)

    assert wb.compare(make(1.0), make(1.0), feeds((4,)), progress=False).ok
    comparison = wb.compare(make(1.0), make(2.0), feeds((4,)), progress=False)
    assert not comparison.ok
    assert comparison.table.max_abs["k"] == 1
    assert comparison.first_divergence().name == "k"


def test_a_layer_with_outputs_that_nobody_reads():
    nodes = [
        node("Dropout", ["x", "", ""], ["kept", ""], "drop"),
        node("TopK", ["kept", "k"], ["top", "places"], "top"),
        node("Split", ["top"], ["a", "b"], "split", axis=0),
        node("Relu", ["a"], ["y"], "relu"),
    ]
    one = small.model(nodes, {"x": [9]}, ["y"], {"k": np.array([4])})
    comparison = check(one, one, feeds((9,), (9,)))
    assert list(comparison.table.index) == ["kept", "top", "places", "a", "b", "y"]


# ---------------------------------------------------------------- functions, random numbers, many consumers


def test_model_local_functions():
    def make(factor: float) -> onnx.ModelProto:
        nodes = [
            node("Constant", [], ["k"], value_float=factor),
            node("Mul", ["a", "k"], ["b"]),
            node("Tanh", ["b"], ["c"]),
        ]
        function = onnx.helper.make_function(
            "local", "Squash", ["a"], ["c"], nodes, [onnx.helper.make_opsetid("", 17)]
        )
        calls = [node("Relu", ["x"], ["r"], "relu"), node("Squash", ["r"], ["s"], "squash", domain="local"),
                 node("Neg", ["s"], ["y"], "neg")]  # fmt: skip
        return small.model(calls, {"x": [4]}, ["y"], functions=[function])

    comparison = check(make(1.0), make(2.0), feeds((4,)))
    assert comparison.first_divergence(0).op_type == "Squash"
    assert set(comparison.table.node[comparison.table.local_max_abs > 0]) == {"squash"}


def test_random_numbers_with_a_seed_are_drawn_alike():
    nodes = [
        node("RandomNormalLike", ["x"], ["noise"], "noise", seed=7.0),
        node("Add", ["x", "noise"], ["y"], "add"),
    ]
    model = small.model(nodes, {"x": [16]}, ["y"])
    comparison = wb.compare(model, model, feeds((16,)), progress=False)
    assert comparison.ok and comparison.table.max_abs["noise"] == 0
    assert comparison.table.ref_max["noise"] > 0


def test_one_tensor_that_every_layer_reads():
    def make(factor: float) -> onnx.ModelProto:
        nodes, last = [node("Mul", ["x", "k"], ["mask"], "mask")], "x"
        for i in range(40):
            nodes.append(node("Add", [last, "mask"], [f"t{i}"], f"n{i}"))
            last = f"t{i}"
        return small.model(nodes, {"x": [300, 100]}, [last], {"k": np.float32(factor)})

    comparison = check(make(1.0), make(1.1), feeds((300, 100), (300, 100)), memory_budget=1 << 20)
    assert set(comparison.table.node[comparison.table.local_max_abs > 0]) == {"mask"}
    assert comparison.meta["segments"] > 1


# ---------------------------------------------------------------- inputs, budgets


def test_a_small_budget_gives_the_same_numbers():
    random = np.random.default_rng(0)
    kernels = {f"w{i}": random.normal(0, 0.2, (16, 16, 3, 3)).astype(np.float32) for i in range(6)}
    nodes, last = [], "x"
    for i in range(6):
        nodes.append(node("Conv", [last, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1, 1, 1, 1]))
        nodes.append(node("Relu", [f"c{i}"], [f"r{i}"], f"relu{i}"))
        last = f"r{i}"
    model = small.model(nodes, {"x": [1, 16, 64, 64]}, [last], kernels)
    changed = small.model(
        nodes, {"x": [1, 16, 64, 64]}, [last], {**kernels, "w2": kernels["w2"] * np.float32(1.001)}
    )
    given = feeds(*[(1, 16, 64, 64)] * 3)
    large, little = (
        wb.compare(model, changed, given, memory_budget=b, progress=False) for b in (1 << 30, 1 << 20)
    )
    assert little.meta["segments"] > large.meta["segments"] == 1
    assert little.meta["peak_bytes"] < large.meta["peak_bytes"] / 2
    assert little.records == large.records


def test_inputs_that_can_be_read_once_only_serve_all_questions():
    given = feeds((2, 8), (3, 8))
    comparison = wb.compare(mlp(), mlp(1.1), iter(given), progress=False)
    again = wb.compare(mlp(), mlp(1.1), given, progress=False)
    assert comparison.records == again.records
    assert np.array_equal(comparison.arrays("y", 1).candidate, again.arrays("y", 1).candidate)
    assert comparison.blame().share["second"] == pytest.approx(1)


def test_without_local_error_there_are_no_local_columns():
    plain = wb.compare(mlp(), mlp(1.1), feeds((2, 8)), local=False, progress=False)
    full = wb.compare(mlp(), mlp(1.1), feeds((2, 8)), progress=False)
    assert not [column for column in plain.table.columns if column.startswith("local")]
    shared = [column for column in full.table.columns if not column.startswith("local")]
    assert list(plain.table.columns) == shared
    assert plain.table.equals(full.table[shared])


def test_a_candidate_that_cannot_be_loaded_is_named():
    broken = mlp()
    broken.graph.node[1].op_type = "And"
    with pytest.raises(
        BackendFailed, match=r"^onnxruntime could not load 'small \[first … softmax\]': .*"
    ) as caught:
        wb.compare(mlp(), broken, feeds((2, 8)), progress=False)
    assert (caught.value.backend, caught.value.phase) == ("onnxruntime", "load")


def test_a_candidate_that_fails_while_it_runs_is_named():
    broken = small.model(
        [node("Reshape", ["x", "size"], ["y"], "reshape")], {"x": ["n", 8]}, ["y"], {"size": np.array([4, 8])}
    )
    fine = small.model([node("Relu", ["x"], ["y"], "relu")], {"x": ["n", 8]}, ["y"])
    with pytest.raises(
        BackendFailed, match=r"^onnxruntime could not run 'small \[reshape\]': .*Reshape"
    ) as caught:
        wb.compare(fine, broken, feeds((3, 8)), progress=False)
    assert caught.value.phase == "run"
