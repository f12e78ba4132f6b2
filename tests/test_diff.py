"""The semantic diff: what edits did, found again from the two models alone."""

from __future__ import annotations

import time

import graphs
import numpy as np
import onnx
import pytest
from edits.small import proto

import workbench as wb


@pytest.fixture
def m():
    return wb.load(proto())


def rows(a, b) -> list[tuple]:
    table = wb.diff(a, b)
    return [tuple(row) for row in table.itertuples(index=False)]


def test_equal_models_have_no_differences(m, tmp_path):
    assert rows(m, m) == []
    assert rows(m, m.save(tmp_path / "m.onnx")) == []
    assert rows(m, m.save(tmp_path / "e.onnx", external=True)) == []
    assert list(wb.diff(m, m).columns) == ["change", "kind", "before", "after", "what", "old", "new"]


def test_renamed(m):
    assert rows(m, m.rename_node("add", "plus")) == [("renamed", "node", "add", "plus", None, "add", "plus")]
    assert rows(m, m.rename_tensor("sum", "s")) == [("renamed", "tensor", "sum", "s", None, "sum", "s")]
    assert rows(m, m.rename_tensor("w", "v")) == [("renamed", "weight", "w", "v", None, "w", "v")]
    assert rows(m, m.rename_input("x", "in")) == [("renamed", "input", "x", "in", None, "x", "in")]
    assert rows(m, m.rename_output("y", "out")) == [("renamed", "output", "y", "out", None, "y", "out")]
    assert rows(m, m.rename_node("if", "choice")) == [
        ("renamed", "node", "if", "choice", None, "if", "choice")
    ]


def test_renamed_twice_and_backwards(m):
    twice = m.rename_node("add", "one").rename_node("one", "two")
    assert rows(m, twice) == [("renamed", "node", "add", "two", None, "add", "two")]
    assert rows(twice, m) == [("renamed", "node", "two", "add", None, "two", "add")]


def test_names_that_were_exchanged_are_matched_by_origin(m):
    swapped = m.rename_node("add", "tmp").rename_node("relu_node", "add").rename_node("tmp", "relu_node")
    assert {row[:4] for row in rows(m, swapped)} == {
        ("renamed", "node", "add", "relu_node"),
        ("renamed", "node", "relu_node", "add"),
    }


def test_changed_attribute_operator_and_metadata(m):
    assert rows(m, m.set_attribute("leaky", "alpha", 0.25)) == [
        ("changed attribute", "node", "leaky", "leaky", "alpha", 0.5, 0.25)
    ]
    assert rows(m, m.remove_attribute("leaky", "alpha")) == [
        ("changed attribute", "node", "leaky", "leaky", "alpha", 0.5, None)
    ]
    assert rows(m, m.replace_op("else_op", "Exp")) == [
        ("changed operator", "node", "else_op", "else_op", None, "Abs", "Exp")
    ]
    assert rows(m, m.set_metadata("k", "v")) == [("changed metadata", "model", None, None, "k", None, "v")]
    assert rows(m, m.set_scope("add", "head")) == [("moved", "node", "add", "add", None, "", "head")]


def test_changed_weight_shows_its_type(m):
    assert rows(m, m.replace_weight("w", np.zeros((4, 4), np.float32))) == [
        ("changed weight", "weight", "w", "w", None, "float32[4, 4]", "float32[4, 4]")
    ]


def test_inserted_and_deleted(m):
    assert rows(m, m.insert_node("sum", "Tanh", name="t")) == [
        ("rewired", "node", "relu_node", "relu_node", 0, "sum", "sum_tanh"),
        ("added", "node", None, "t", None, None, "Tanh"),
    ]
    assert rows(m, m.delete("relu_node")) == [
        ("rewired", "node", "then_add", "then_add", 0, "relu", "sum"),
        ("rewired", "node", "else_add", "else_add", 0, "relu", "sum"),
        ("removed", "node", "relu_node", None, None, "Relu", None),
    ] or {row[0] for row in rows(m, m.delete("relu_node"))} == {"rewired", "removed"}


def test_ports(m):
    assert rows(m, m.set_input("x", (2, 4)))[0] == (
        "changed type",
        "input",
        "x",
        "x",
        None,
        "float32[n, 4]",
        "float32[2, 4]",
    )
    assert rows(m, m.add_output("relu")) == [("added", "output", None, "relu", None, None, "float32[n, 4]")]
    assert rows(m.add_output("relu"), m) == [("removed", "output", "relu", None, None, "float32[n, 4]", None)]
    assert rows(m, m.add_input("z", "int64", (1,))) == [("added", "input", None, "z", None, None, "int64[1]")]


def test_a_model_with_other_names_is_matched_by_structure(real_model):
    m = wb.load(real_model("ppocr_cls"))
    other = onnx.ModelProto.FromString(m.to_proto().SerializeToString())
    new = {}
    for index, node in enumerate(other.graph.node):
        node.name = f"n{index}"
        for at, name in enumerate(node.output):
            new[name] = node.output[at] = name if name == m.outputs[0].name else f"t{len(new)}"
        for at, name in enumerate(node.input):
            node.input[at] = new.get(name, name)
    del other.graph.value_info[:]
    table = wb.diff(m, other)
    assert set(table["change"]) == {"renamed"}
    assert (table["kind"] == "node").sum() == len(m.nodes)


def renamed(model: wb.Model) -> onnx.ModelProto:
    """The model as another tool would write it: no notes, no types, and another name for every node and tensor."""
    made = onnx.ModelProto.FromString(model.to_proto().SerializeToString())
    names = {info.name: info.name for info in (*made.graph.input, *made.graph.output)}
    for tensor in made.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"z{len(names)}")
    for index, node in enumerate(made.graph.node):
        node.name = f"z{index}"
        node.ClearField("metadata_props")
        node.output[:] = [name and names.setdefault(name, f"z{len(names)}") for name in node.output]
        node.input[:] = [name and names[name] for name in node.input]
    made.graph.ClearField("value_info")
    made.ClearField("metadata_props")
    return made


PLANTED = [
    (lambda m: m.replace_op("Relu@3", "Sigmoid"), {("changed operator", "node"): 1}),
    (lambda m: m.set_attribute("BatchNormalization@4", "epsilon", 0.5), {("changed attribute", "node"): 1}),
    (lambda m: m.insert_identity("relu_3.tmp_0"), {("added", "node"): 1, ("rewired", "node"): 1}),
    (lambda m: m.insert_qdq("relu_3.tmp_0", 0.1),
     {("added", "node"): 2, ("rewired", "node"): 1, ("added", "weight"): 2}),
    (lambda m: m.delete("Relu@3"), {("removed", "node"): 1, ("rewired", "node"): 1}),
    (lambda m: m.set_weight_dtype("conv12_expand_weights", "float16", True),
     {("added", "node"): 1, ("rewired", "node"): 1, ("changed attribute", "node"): 1}),
    (lambda m: m.add_output("relu_3.tmp_0"), {("added", "output"): 1}),
]  # fmt: skip


@pytest.mark.parametrize("edit, planted", PLANTED, ids=[str(index) for index in range(len(PLANTED))])
@pytest.mark.parametrize("names", ["kept", "all others"])
def test_a_planted_change_of_a_real_model_is_all_that_is_found(edit, planted, names, real_model):
    m = wb.load(real_model("ppocr_cls"))
    changed = edit(m)
    table = wb.diff(m, renamed(changed) if names == "all others" else changed)
    found = table[table["change"] != "renamed"].groupby(["change", "kind"]).size().to_dict()
    assert found == planted
    if names == "kept":
        assert "renamed" not in set(table["change"])


def without_layer(model: onnx.ModelProto, gone: int, layers: int) -> onnx.ModelProto:
    """The transformer without one of its layers; those after it, and all weights, are numbered anew."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    kept = [node for node in made.graph.node if not node.name.startswith(f"/layers.{gone}/")]
    held = [tensor for tensor in made.graph.initializer if any(tensor.name in node.input for node in kept)]
    names = {f"/layers.{gone}/mlp/Add_out": f"/layers.{gone - 1}/mlp/Add_out"}
    names |= {tensor.name: f"w{index}" for index, tensor in enumerate(held)}

    def new(name: str) -> str:
        name = names.get(name, name)
        for layer in range(gone + 1, layers):
            if name.startswith(f"/layers.{layer}/"):
                return name.replace(f"/layers.{layer}/", f"/layers.{layer - 1}/")
        return name

    for node in kept:
        node.name, node.input[:], node.output[:] = new(node.name), map(new, node.input), map(new, node.output)
    for tensor in held:
        tensor.name = new(tensor.name)
    nodes, weights = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept], [*held]
    weights = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in weights]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(weights)
    return made


@pytest.mark.parametrize("kind", ["plain", "masked"])
def test_a_layer_in_the_middle_is_the_difference_and_not_the_numbers_of_those_after_it(kind):
    full = graphs.transformer(280, kind)
    layers = sum(node.op_type == "Softmax" for node in full.graph.node)
    size = sum(node.name.startswith("/layers.0/") for node in full.graph.node)
    fewer = without_layer(full, 2, layers)
    for a, b, change, column in ((full, fewer, "removed", "before"), (fewer, full, "added", "after")):
        table = wb.diff(a, b)
        nodes = table[(table["kind"] == "node") & (table["change"] == change)]
        assert len(nodes) == size
        here = nodes[column].str.startswith("/layers.2/")
        assert (
            here.mean() > 0.8
        )  # Relu, Add and the like at its border are the same as those of its neighbours
        assert (table["change"] == "changed weight").sum() == 0
        assert set(table["change"]) == {"renamed", "rewired", change}
        assert (table["change"] == "rewired").sum() < 8


def test_alike_twins_keep_their_names():
    h = onnx.helper
    twins = [h.make_node("Relu", ["x"], [f"r{i}"], name=f"n{i}") for i in range(4)]
    nodes = [*twins, h.make_node("Sum", [f"r{i}" for i in range(4)], ["y"], name="sum")]
    ports = [h.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    m = wb.load(
        h.make_model(h.make_graph(nodes, "g", ports[:1], ports[1:]), opset_imports=[h.make_opsetid("", 17)])
    )
    assert sorted(rows(m, m.delete("n1"))) == [
        ("removed", "node", "n1", None, None, "Relu", None),
        ("rewired", "node", "sum", "sum", 1, "r1", "x"),
    ]


def test_ten_thousand_nodes_take_a_moment():
    m = wb.load(graphs.transformer(10_000, shared=True))
    changed = m.insert_identity("/layers.200/attn/Softmax_out")
    started = time.process_time()
    table = wb.diff(m, changed)
    assert time.process_time() - started < 5
    assert list(table["change"]) == ["rewired", "added"]


def test_a_node_that_took_in_others_is_the_one_of_its_operator():
    x, y = (onnx.helper.make_tensor_value_info(name, 1, (1, 4, 5, 5)) for name in "xy")
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        onnx.helper.make_node("Add", ["c", "b"], ["a"], "bias"),
        onnx.helper.make_node("Relu", ["a"], ["y"], "relu"),
    ]
    weights = {"w": np.ones((4, 4, 1, 1), np.float32), "b": np.ones((1, 4, 1, 1), np.float32)}
    held = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], held)
    before = wb.load(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]))
    after = before.fuse()
    (conv,) = (name for name in after.nodes.index if after.nodes.op_type[name] == "Conv")
    found = {row[:4] for row in rows(before, after)}
    assert ("removed", "node", "bias", None) in found
    assert {row for row in found if "conv" in row[2:4] and row[1] == "node"} == {
        ("renamed", "node", "conv", conv),
        ("rewired", "node", "conv", conv),
    }
    assert ("added", "node", None, conv) not in found
