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


def test_ten_thousand_nodes_take_a_moment():
    m = wb.load(graphs.transformer(10_000, shared=True))
    changed = m.insert_identity("/layers.200/attn/Softmax_out")
    started = time.process_time()
    table = wb.diff(m, changed)
    assert time.process_time() - started < 5
    assert list(table["change"]) == ["rewired", "added"]
