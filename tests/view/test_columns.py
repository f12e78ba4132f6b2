"""The columns of the graph view: golden tables of small graphs, packing, overlays."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h
from onnx import numpy_helper as nh

import workbench as wb
from workbench import view


def value(name, shape=("n", 4), dtype=TensorProto.FLOAT):
    return h.make_tensor_value_info(name, dtype, shape)


def make(nodes, inputs, outputs, weights=(), functions=(), domains=()):
    graph = h.make_graph(nodes, "g", inputs, outputs, list(weights))
    opsets = [h.make_opsetid("", 17), *(h.make_opsetid(d, 1) for d in domains)]
    return h.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


@pytest.fixture
def small():
    weight = nh.from_array(np.ones((4, 4), np.float32), "w")
    scale = h.make_node("Constant", [], ["c"], name="c", value=nh.from_array(np.float32(2), "c"))
    nodes = [
        scale,
        h.make_node("MatMul", ["x", "w"], ["a"], name="/block/fc/MatMul"),
        h.make_node("Mul", ["a", "c"], ["b"], name="/block/Mul"),
        h.make_node("Clip", ["b", "", "c"], ["y"], name="Clip"),
    ]
    return wb.load(make(nodes, [value("x")], [value("y")], [weight]))


def test_golden_columns(small):
    made = view.columns(small)
    head = made.header
    assert head["nodes"] == ["/block/fc/MatMul", "/block/Mul", "Clip"]  # the Constant is a weight
    assert head["tensors"] == ["w", "x", "c", "a", "b", "y"]
    assert head["ops"] == [["MatMul", ""], ["Mul", ""], ["Clip", ""]]
    assert head["scopes"] == [[-1, ""], [0, "block"], [1, "fc"]]
    assert head["graphs"] == [
        {"scope": "", "inputs": [1], "outputs": [5], "kind": "main", "owner": -1, "label": ""}
    ]
    lists = {name: array.tolist() for name, array in made.arrays.items()}
    assert lists["node.scope"] == [2, 1, 0]
    assert lists["node.in"] == [1, 0, 3, 2, 4, -1, 2] and lists["node.in.start"] == [0, 2, 4, 7]
    assert lists["node.out"] == [3, 4, 5] and lists["node.out.start"] == [0, 1, 2, 3]
    assert lists["tensor.kind"] == [1, 0, 1, 2, 2, 2]
    assert lists["tensor.producer"] == [-1, -1, -1, 0, 1, 2]
    assert [head["shapes"][i] for i in lists["tensor.shape"]] == ["4×4", "n×4", "scalar", "1×4", "1×4", "n×4"]
    assert {head["dtypes"][i] for i in lists["tensor.dtype"]} == {"float32"}
    assert lists["node.macs"] == [16, 0, 0]


def test_without_inference_only_what_the_file_declares(small):
    made = view.columns(small, infer=False)
    shapes = [made.header["shapes"][i] for i in made.arrays["tensor.shape"]]
    assert shapes == ["4×4", "n×4", "scalar", "", "", "n×4"]
    assert "node.macs" not in made.arrays
    later = view.shapes(small, made)
    full = view.columns(small)
    for name, array in later.arrays.items():
        assert np.array_equal(array, full.arrays[name]), name


def test_packing_gives_the_same_back(small):
    made = view.columns(small)
    again = view.unpack(made.pack())
    assert again.header == made.header
    assert {n: a.tolist() for n, a in again.arrays.items()} == {n: a.tolist() for n, a in made.arrays.items()}


def test_names_of_any_kind_survive():
    names = ["<img src=x onerror=alert(1)>", "שלום עולם", "🦊/🐻", "a" * 10_000, 'q"uo\\te\n', "</script>"]
    nodes, last = [], "x"
    for index, name in enumerate(names):
        nodes.append(h.make_node("Relu", [last], [f"t{index}{name[:50]}"], name=name))
        last = nodes[-1].output[0]
    made = view.unpack(view.columns(wb.load(make(nodes, [value("x")], [value(last)]))).pack())
    assert made.header["nodes"] == names


def test_bodies_and_functions_are_graphs_of_their_own():
    inner = h.make_graph([h.make_node("Neg", ["x"], ["z"], name="inner")], "b", [], [value("z")])
    other = h.make_graph([h.make_node("Abs", ["x"], ["z"], name="other")], "b", [], [value("z")])
    twice = h.make_function(
        "me", "Twice", ["p"], ["q"], [h.make_node("Add", ["p", "p"], ["q"])], [h.make_opsetid("", 17)]
    )
    nodes = [
        h.make_node("If", ["flag"], ["i"], name="if", then_branch=inner, else_branch=other),
        h.make_node("Twice", ["i"], ["y"], name="call", domain="me"),
    ]
    inputs = [value("x"), value("flag", (), TensorProto.BOOL)]
    made = view.columns(wb.load(make(nodes, inputs, [value("y")], functions=[twice], domains=["me"])))
    rows = [(g["kind"], g["owner"], g["label"], g.get("op")) for g in made.header["graphs"]]
    assert rows == [
        ("main", -1, "", None),
        ("body", 0, "else_branch", None),
        ("body", 0, "then_branch", None),
        ("function", -1, "me::Twice", ["Twice", "me"]),
    ]
    x = made.header["tensors"].index("x")
    assert made.arrays["node.in"].tolist().count(x) == 2  # what a body reads from around it is one tensor
    assert made.arrays["tensor.graph"][x] == 0


def test_modules_come_from_torchs_metadata():
    node = h.make_node("Relu", ["x"], ["y"], name="node_relu")
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'layer1', 'layer1.0', 'relu']")
    made = view.columns(wb.load(make([node], [value("x")], [value("y")])))
    assert made.header["scopes"] == [[-1, ""], [0, "layer1"], [1, "layer1.0"]]


def test_attributes_as_text():
    node = h.make_node("Conv", ["x", "w"], ["y"], name="c", kernel_shape=[3, 3], auto_pad="VALID", group=1)
    weight = nh.from_array(np.ones((2, 1, 3, 3), np.float32), "w")
    made = view.columns(wb.load(make([node], [value("x", (1, 1, 8, 8))], [value("y", None)], [weight])))
    assert (
        made.header["attributes"][made.arrays["node.attributes"][0]]
        == "auto_pad=VALID group=1 kernel_shape=[3,3]"
    )


def test_overlay_of_a_mapping(small):
    made = view.columns(small)
    found = view.overlay(made, {"Clip": 2.5})
    assert np.array_equal(found.values, [np.nan, np.nan, 2.5], equal_nan=True)
    message = "cannot colour .*: 1 names are not nodes of it, first 'nope'; name nodes as Model.nodes does"
    with pytest.raises(wb.errors.NotInModelError, match=message):
        view.overlay(made, {"nope": 1})


def test_overlay_of_words(small):
    made = view.columns(small)
    found = view.overlay(made, {"Clip": "late", "/block/Mul": "early"})
    assert np.array_equal(found.values, [np.nan, 1, 0], equal_nan=True)
    assert found.header() == {
        "title": "value", "unit": "", "scale": "category", "note": "",
        "categories": [["late", "", ""], ["early", "", ""]], "texts": {},
    }  # fmt: skip


def test_columns_tell_what_made_a_node(small):
    assert "node.made" not in view.columns(small).arrays
    edited = small.rename_node("Clip", "limit").set_metadata("workbench.fusion", "scale", node="/block/Mul")
    made = view.columns(edited)
    assert [made.header["made"][i] for i in made.arrays["node.made"]] == ["", "fused: scale", "renamed"]


def test_a_plugin_is_told_by_its_domain():
    plain = h.make_node("Relu", ["x"], ["a"], name="plain")
    body = h.make_function(
        "workbench", "Twice", ["p"], ["q"], [h.make_node("Add", ["p", "p"], ["q"])], [h.make_opsetid("", 17)]
    )
    node = h.make_node("Twice", ["a"], ["y"], name="call", domain="workbench")
    model = make([plain, node], [value("x")], [value("y")], functions=[body], domains=["workbench"])
    made = view.columns(wb.load(model))
    origins = dict(zip(made.header["nodes"], made.arrays["node.made"], strict=True))
    assert made.header["made"][origins["call"]] == "plugin: Twice"
    assert made.header["made"][origins["plain"]] == ""


def test_scopes_that_are_set_come_first(small):
    made = view.columns(small.set_scope(["Clip", "/block/Mul"], "head/last"))
    assert made.header["scopes"] == [[-1, ""], [0, "block"], [1, "fc"], [0, "head"], [3, "last"]]
    assert made.arrays["node.scope"].tolist() == [2, 4, 4]


def test_overlay_of_a_profile_and_a_comparison(real_model):
    pytest.importorskip("onnxruntime")
    model = wb.load(real_model("residual_block"))
    made = view.columns(model)
    profile = wb.profile(model, runs=3, progress=False)
    time = view.overlay(made, profile)
    lost = profile.sum_ms - np.nansum(time.values)
    assert (time.title, time.unit, time.scale) == ("time", "ms", "log")
    assert np.nansum(time.values) > 0 and lost < 0.5 * profile.sum_ms + 1e-9
    comparison = wb.compare(model, model, count=1, progress=False)
    error = view.overlay(made, comparison)
    assert np.nanmax(error.values) == 0.0  # the same model: exact
    assert view.overlay(made, comparison, local=True).title == "local error"


@pytest.mark.parametrize("kind", ["masked", "moe", "plain"])
def test_generated_transformers_are_what_they_promise(kind):
    proto = graphs.transformer(400, kind)
    onnx.checker.check_model(proto)
    assert 400 <= len(proto.graph.node) < 500
    assert proto == graphs.transformer(400, kind)
    assert ("mask" in {i.name for i in proto.graph.input}) == (kind != "plain")


@pytest.mark.parametrize("name", ["silero_vad", "ppocr_det", "minilm_int8", "loop", "style_transform"])
def test_real_models_make_columns(real_model, name):
    model = wb.load(real_model(name))
    made = view.columns(model)
    table = model.nodes
    assert made.header["nodes"] == table.index[table["op_type"] != "Constant"].tolist()
    arrays = made.arrays
    assert (arrays["node.in"] < len(made.header["tensors"])).all()
    assert arrays["node.in.start"][-1] == arrays["node.in"].size
    for index in range(0, len(made.header["nodes"]), 7):
        ins = arrays["node.in"][arrays["node.in.start"][index] : arrays["node.in.start"][index + 1]]
        names = tuple(made.header["tensors"][i] if i >= 0 else "" for i in ins)
        assert names == table.loc[made.header["nodes"][index], "inputs"]
