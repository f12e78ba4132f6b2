"""Every node has a name, the same one each time, and no other node has it."""

from __future__ import annotations

import onnx
import pytest
import real_models
from model import build
from onnx import helper as h

import workbench as wb
from workbench.model.scopes import nodes, scopes


def names(m: wb.Model) -> list[str]:
    return [node.name or "" for node in nodes(m.ir)]


def chain(*given: str) -> onnx.ModelProto:
    """Relus one behind the other, with the given names; tensors t0, t1, ..."""
    made = [h.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=name) for i, name in enumerate(given)]
    return build.model(made, [build.value("t0")], [build.value(f"t{len(given)}")])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["", ""], ["Relu_t1", "Relu_t2"]),
        (["a", "a", "a"], ["a", "a_1", "a_2"]),
        (["a", "a", "a_1"], ["a", "a_2", "a_1"]),
        (["Relu_t2", ""], ["Relu_t2", "Relu_t2_1"]),
        (["", "Relu_t1"], ["Relu_t1_1", "Relu_t1"]),
        (["keep", "me"], ["keep", "me"]),
    ],
)
def test_names(given: list[str], expected: list[str]) -> None:
    m = wb.load(chain(*given))
    assert names(m) == expected
    assert [node.name for node in m.to_proto().graph.node] == expected
    assert names(wb.load(m.to_proto())) == expected


def test_ten_thousand_nodes_of_one_name() -> None:
    assert len(set(names(wb.load(chain(*["same"] * 10_000))))) == 10_000


def test_left_out_outputs_stay_left_out() -> None:
    pool = h.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2])
    split = h.make_node("Dropout", ["y"], ["", "mask"])
    none = h.make_node("Custom", ["y"], [], domain="d")
    proto = build.model(
        [pool, split, none], [build.value("x", [1, 1, 4])], [build.value("mask", None)], domains=[("d", 1)]
    )
    m = wb.load(proto)
    assert names(m) == ["MaxPool_y", "Dropout_mask", "Custom"]
    assert [list(node.output) for node in m.to_proto().graph.node] == [["y"], ["", "mask"], []]


def test_bodies_and_functions() -> None:
    m = wb.load(build.branches())
    assert [scope for scope, _ in scopes(m.ir)] == ["", "If_y.else_branch", "If_y.then_branch"]
    assert names(m) == ["If_y", "MatMul_a", "Relu_z", "MatMul_z"]
    m = wb.load(build.calls())
    assert [scope for scope, _ in scopes(m.ir)] == ["", "my::Scale", "my::Block"]
    assert names(m) == ["Block_t", "Block_y", "Constant_c", "Mul_b", "MatMul_m", "Scale_q"]


@pytest.mark.parametrize("name", real_models.ALL_MODELS)
def test_real_models(real_model, name: str) -> None:
    first, second = wb.load(real_model(name)), wb.load(real_model(name))
    found = names(first)
    assert all(found) and len(set(found)) == len(found)
    assert found == names(second)
    given = [node.name for node in onnx.load(real_model(name), load_external_data=False).graph.node]
    kept = [node.name for node in first.to_proto().graph.node]
    assert all(
        mine == theirs
        for mine, theirs in zip(kept, given, strict=True)
        if theirs and given.count(theirs) == 1
    )
