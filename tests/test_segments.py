"""Cutting graphs: what depends on what, pieces that run and give the whole model's values."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from workbench.errors import ModelError, NotInModelError
from workbench.segments import Graph, Node, bodies, captured, rename_inputs, with_outputs

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N] x, bool c) => (float[N] y, float[N] z)
<float[1] w = {3}>
{
  one = Constant <value = float[1] {1}> ()
  big = Add (w, one)
  a = Mul (x, big)
  z = Relu (a)
  unused = Neg (w)
  y = If (c) <
    then_branch = t () => (float[N] p) { q = Add (a, w)  p = Identity (q) },
    else_branch = e () => (float[N] p) { a2 = Sub (z, one)  p = Neg (a2) }
  >
}
"""


def net() -> onnx.ModelProto:
    model = parser.parse_model(NET)
    for node in model.graph.node:
        node.name = f"{node.op_type}_{node.output[0]}"
    return model


def run(model: onnx.ModelProto, feeds: dict, outputs=None) -> dict:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def names(nodes: list[Node]) -> list[str]:
    return [node.name for node in nodes]


def test_index():
    graph = Graph(net())
    assert names(graph.order) == ["Add_big", "Mul_a", "Relu_z", "Neg_unused", "If_y"]
    assert names(graph.schedule) == ["Add_big", "Mul_a", "Relu_z", "If_y", "Neg_unused"]
    assert {n.name for n in graph.nodes if n.constant} == {"Add_big", "Neg_unused"}
    assert graph.producer["y"].inputs == ("c", "a", "w", "z", "one")
    assert names(graph.consumers["a"]) == ["Relu_z", "If_y"]
    assert graph.is_weight("one")
    assert graph.is_weight("w")
    assert not graph.is_weight("a")
    assert graph.weight_bytes("w") == 4
    assert (graph.inputs, graph.outputs) == (("x", "c"), ("y", "z"))


def test_needed():
    graph = Graph(net())
    assert names(graph.needed(["z"])) == ["Add_big", "Mul_a", "Relu_z"]
    assert names(graph.needed(["y"], given=["a"])) == ["Relu_z", "If_y"]
    assert graph.needed(["x", "w", "one"]) == []
    with pytest.raises(NotInModelError, match=r"^the model has no tensor 'nope'$"):
        graph.needed(["nope"])


@pytest.mark.parametrize("condition", [True, False])
def test_a_piece_with_a_body_gives_the_same_values(condition):
    whole = run(net(), {"x": np.array([1, -2], "f4"), "c": np.array(condition)})
    graph = Graph(net())
    first = graph.piece(graph.needed(["a"]), ["a"], {"x": "float32"})
    assert [v.name for v in first.graph.input] == ["x"]
    a = run(first, {"x": np.array([1, -2], "f4")})["a"]
    second = graph.piece(graph.needed(["y", "z"], given=["a"]), ["y", "z"], {"a": "float32", "c": "bool"})
    assert [t.name for t in second.graph.initializer] == ["w"]
    assert [n.op_type for n in second.graph.node] == ["Constant", "Relu", "If"]
    rest = run(second, {"a": a, "c": np.array(condition)})
    for name, value in whole.items():
        np.testing.assert_array_equal(rest[name], value)


def test_renamed_inputs_reach_into_bodies_but_not_past_names_made_there():
    graph = Graph(net())
    piece = graph.piece(
        graph.needed(["y"], given=["a", "z"]),
        ["y"],
        {"A": "float32", "z": "float32", "c": "bool"},
        {"a": "A"},
    )
    assert sorted(v.name for v in piece.graph.input) == ["A", "c", "z"]
    result = run(piece, {"A": np.array([1, 2], "f4"), "z": np.zeros(2, "f4"), "c": np.array(True)})
    np.testing.assert_array_equal(result["y"], [4, 5])
    assert graph.producer["y"].inputs == ("c", "a", "w", "z", "one")  # the graph itself is as it was
    inner = helper.make_node("Add", ["a", "b"], ["a"])
    body = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("a", 1, None)])
    node = helper.make_node("If", ["a"], ["y"], then_branch=body)
    rename_inputs(node, {"a": "A", "b": "B"})
    assert node.input[0] == "A"
    assert list(node.attribute[0].g.node[0].input) == ["a", "B"]


def test_captured_through_two_levels():
    deep = helper.make_graph(
        [helper.make_node("Add", ["outer", "mid"], ["r"])],
        "deep",
        [],
        [helper.make_tensor_value_info("r", 1, None)],
    )
    mid = helper.make_graph(
        [helper.make_node("Neg", ["o2"], ["mid"]), helper.make_node("If", ["cond"], ["s"], then_branch=deep)],
        "mid",
        [],
        [helper.make_tensor_value_info("s", 1, None), helper.make_tensor_value_info("passed", 1, None)],
    )
    assert captured(mid) == ["o2", "cond", "outer", "passed"]
    node = helper.make_node("If", ["c"], ["x"], then_branch=mid)
    assert [name for name, _ in bodies(node)] == ["then_branch"]


def test_with_outputs():
    everything = with_outputs(net(), "all")
    assert [o.name for o in everything.graph.output] == ["big", "a", "z", "unused", "y"]
    got = run(everything, {"x": np.array([2], "f4"), "c": np.array(True)})
    assert {k: v.tolist() for k, v in got.items()} == {
        "big": [4],
        "a": [8],
        "z": [8],
        "unused": [-3],
        "y": [11],
    }
    assert [o.name for o in with_outputs(net(), ["x", "a"]).graph.output] == ["x", "a"]
    with pytest.raises(NotInModelError, match="the model has no tensor 'nope'"):
        with_outputs(net(), ["nope"])


def test_order_of_a_file_that_is_not_sorted():
    proto = net()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    order = names(Graph(proto).order)
    assert order.index("Add_big") < order.index("Mul_a") < order.index("Relu_z") < order.index("If_y")


def test_deep_graphs_do_not_recurse():
    nodes = [helper.make_node("Neg", [f"t{i}"], [f"t{i + 1}"], f"n{i}") for i in range(20_000)][::-1]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("t0", 1, [1])],
        [helper.make_tensor_value_info("t20000", 1, [1])],
    )
    index = Graph(helper.make_model(graph))
    assert names(index.order)[:2] == ["n0", "n1"]
    assert len(index.schedule) == len(index.needed(["t20000"])) == 20_000


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [("Neg", ["b"], ["a"]), ("Neg", ["a"], ["b"])],
            r"node 'a' depends on its own output: the graph has a cycle",
        ),
        ([("Neg", ["a"], ["a"])], r"node 'a' depends on its own output: the graph has a cycle"),
        ([("Neg", ["q"], ["a"])], r"node 'a' reads tensor 'q', which nothing in the graph makes"),
        ([("Neg", ["x"], ["a"]), ("Abs", ["x"], ["a"])], r"tensor 'a' is made by two nodes: 'a' and 'a'"),
    ],
)
def test_graphs_that_cannot_be(nodes, message):
    protos = [helper.make_node(*node) for node in nodes]
    graph = helper.make_graph(protos, "g", [helper.make_tensor_value_info("x", 1, [1])], [])
    with pytest.raises(ModelError, match=message):
        Graph(helper.make_model(graph))


def test_model_local_functions_go_along():
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
        m (float[2] x) => (float[2] y) { a = Neg (x)  y = f.twice (a) }
        <domain: "f", opset_import: ["" : 17]> twice (p) => (q) { q = Add (p, p) }"""
    )
    graph = Graph(model)
    piece = graph.piece(graph.needed(["y"], given=["a"]), ["y"], {"a": "float32"})
    np.testing.assert_array_equal(run(piece, {"a": np.array([1, 2], "f4")})["y"], [2, 4])


def test_sparse_weights_go_along():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> m (float[3] x) => (float[3] y) { y = Add (x, s) }'
    )
    sparse = onnx.SparseTensorProto(dims=[3])
    sparse.values.CopyFrom(numpy_helper.from_array(np.array([5], "f4"), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([1], "i8")))
    model.graph.sparse_initializer.append(sparse)
    graph = Graph(model)
    result = run(graph.piece(graph.order, ["y"], {"x": "float32"}), {"x": np.zeros(3, "f4")})
    np.testing.assert_array_equal(result["y"], [0, 5, 0])


def test_halves_of_a_real_model_give_the_whole(real_model):
    proto = onnx.load(real_model("ppocr_cls"))
    graph = Graph(proto)
    x = np.random.default_rng(0).random((1, 3, 48, 192), np.float32)
    whole = run(proto, {"x": x})
    schedule = graph.schedule
    half = schedule[: len(schedule) // 2]
    made = {name for node in half for name in node.outputs}
    crossing = sorted({name for node in schedule[len(half) :] for name in node.inputs if name in made})
    values = run(graph.piece(half, crossing, {"x": "float32"}), {"x": x})
    rest = graph.piece(
        schedule[len(half) :],
        list(graph.outputs),
        {n: v.dtype.name for n, v in values.items()} | {"x": "float32"},
    )
    given = {v.name: {**values, "x": x}[v.name] for v in rest.graph.input}
    for name, value in run(rest, given).items():
        np.testing.assert_array_equal(value, whole[name])


def test_dtypes_of_inputs_are_kept():
    graph = helper.make_graph(
        [helper.make_node("Cast", ["h"], ["f"], to=TensorProto.FLOAT)], "g",
        [helper.make_tensor_value_info("h", TensorProto.BFLOAT16, [2])], [helper.make_tensor_value_info("f", 1, [2])],
    )  # fmt: skip
    index = Graph(helper.make_model(graph))
    piece = index.piece(index.order, ["f"], {"h": "bfloat16"})
    assert piece.graph.input[0].type.tensor_type.elem_type == TensorProto.BFLOAT16
