"""Blocks that repeat, found in graphs whose names say nothing."""

from __future__ import annotations

import graphs
import numpy as np
import pytest
from onnx import TensorProto
from onnx import helper as h

import workbench as wb
from workbench import view
from workbench.view.blocks import repeats


def unnamed(proto):
    for index, node in enumerate(proto.graph.node):
        node.name = f"n{index}"
    return wb.load(proto)


def modules(made):
    """label of each outer module -> its nodes, per repetition"""
    scopes, found = made.header["scopes"], {}
    for node, scope in enumerate(made.arrays["node.scope"].tolist()):
        if scope:
            outer, label = scopes[scope]
            found.setdefault(f"{outer} {scopes[outer][1]}", {}).setdefault(label, []).append(node)
    return found


@pytest.mark.parametrize("kind", ["plain", "masked", "moe"])
def test_the_layers_of_a_transformer(kind):
    proto = graphs.transformer(500, kind)
    layers = len({node.name.split("/")[1] for node in proto.graph.node if node.name.startswith("/layers.")})
    (((name, turns),)) = modules(view.columns(unnamed(proto))).items()
    assert name.endswith(f" block ×{layers}") and list(turns) == [
        f"{i + 1} of {layers}" for i in range(layers)
    ]
    sizes = {len(nodes) for nodes in turns.values()}
    assert len(sizes) == 1 and sizes.pop() * layers >= 0.95 * (len(proto.graph.node) - 6)
    assert all(nodes == list(range(nodes[0], nodes[-1] + 1)) for nodes in turns.values())


def test_names_that_say_something_are_believed():
    proto = graphs.transformer(500)
    assert not any(label.startswith("block") for _, label in view.columns(wb.load(proto)).header["scopes"])


def chain(ops):
    nodes = [h.make_node(op, [f"t{i}"], [f"t{i + 1}"], name=f"n{i}") for i, op in enumerate(ops)]
    info = [h.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("t0", f"t{len(ops)}")]
    return wb.load(h.make_model(h.make_graph(nodes, "g", info[:1], info[1:]), ir_version=9))


def test_several_kinds_of_blocks_have_letters():
    made = view.columns(
        chain(["Neg", *["Relu", "Exp", "Abs"] * 5, "Sqrt", *["Sin", "Cos", "Tanh", "Erf"] * 3])
    )
    found = modules(made)
    assert [name.partition(" ")[2] for name in found] == ["block A ×5", "block B ×3"]
    first, second = found.values()
    assert first["1 of 5"] == [1, 2, 3] and second["3 of 3"] == [25, 26, 27, 28]
    assert made.arrays["node.scope"][0] == made.arrays["node.scope"][16] == 0


def test_attributes_and_wiring_make_blocks_differ():
    assert not modules(view.columns(chain(["Relu", "Exp", "Abs", "Neg", "Sin", "Cos"] + ["Erf"] * 30)))
    nodes = []
    for i in range(12):  # softmax over another axis each time
        nodes += [
            h.make_node("Relu", [f"t{i}"], [f"a{i}"], name=f"a{i}"),
            h.make_node("Exp", [f"a{i}"], [f"b{i}"], name=f"b{i}"),
            h.make_node("Softmax", [f"b{i}"], [f"t{i + 1}"], name=f"c{i}", axis=i % 12),
        ]
    info = [h.make_tensor_value_info(n, TensorProto.FLOAT, [1] * 12) for n in ("t0", "t12")]
    proto = h.make_model(h.make_graph(nodes, "g", info[:1], info[1:]), ir_version=9)
    assert not modules(view.columns(wb.load(proto)))


def test_real_layers_without_names(real_model):
    found = modules(view.columns(wb.load(real_model("minilm_int8"))))
    ((name, turns),) = found.items()
    assert name.endswith("block ×5")  # six layers; the nodes of the mask stand amid those of the first
    assert {len(nodes) for nodes in turns.values()} == {58}


@pytest.mark.parametrize(
    ("signs", "found"),
    [
        ([1, 2, 1, 2, 1, 2], [(0, 2, 3)]),
        ([9, 1, 1, 1, 1, 8], [(1, 1, 4)]),
        ([1, 2, 3, 4], []),
        ([1, 1, 1, 2, 1, 1, 1, 2], [(0, 1, 3), (4, 1, 3)]),  # three in a row before two of a longer one
        ([1, 2, 1, 2, 3, 3, 3], [(0, 2, 2), (4, 1, 3)]),
        ([], []),
    ],
)
def test_repeats(signs, found):
    assert repeats(np.array(signs, np.uint64), np.full(len(signs), 4)) == found


def test_an_edit_keeps_the_modules(tmp_path):
    model = unnamed(graphs.transformer(500, "plain"))
    made = view.columns(model)
    again = view.columns(model.rename_node("n40", "forty"), earlier=made)
    assert again.header["scopes"] == made.header["scopes"]
    assert np.array_equal(again.arrays["node.scope"], made.arrays["node.scope"])


def test_a_module_that_is_stated_is_not_taken_for_a_block():
    model = unnamed(graphs.transformer(500)).set_scope(["n100"], "mine")
    made = view.columns(wb.load(model.to_proto()))
    scope = made.arrays["node.scope"][made.header["nodes"].index("n100")]
    assert made.header["scopes"][scope] == [0, "mine"]
