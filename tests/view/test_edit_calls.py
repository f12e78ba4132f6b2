"""What the browser asks a view to change: typed text becomes edits, and every open view follows."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h
from seen_view import Seen

import workbench as wb
from workbench import view as columns
from workbench.widgets import change

SOFTMAX = "/layers.0/attn/Softmax"


@pytest.fixture
def view():
    made = Seen(graphs.transformer(60))
    made.ask("hello", id="a")
    yield made
    made.close()


def edit(view, **fields):
    """(result or error) of an edit; tensors by name become numbers, as the browser has them."""
    names = columns.unpack(view.shown.columns.pack()).header["tensors"]
    for key in ("tensor", "inputs", "outputs"):
        if isinstance(fields.get(key), str):
            fields[key] = names.index(fields[key])
        elif isinstance(fields.get(key), list):
            fields[key] = [names.index(name) for name in fields[key]]
    answer, _ = view.ask("edit", stamp=view.shown.stamp, edit=fields)
    return answer.get("result", answer.get("error"))


def test_edits_undo_redo_and_history(view):
    first = view.model
    assert edit(view, edit="set_attribute", node=SOFTMAX, name="axis", value_text="3") == {
        "text": f"m = m.set_attribute({SOFTMAX!r}, 'axis', 3)",
        "stamp": 1,
    }
    assert view.model is not first and view.model.nodes.index.tolist() == first.nodes.index.tolist()
    assert edit(view, edit="delete", nodes=[SOFTMAX], how="bypass")["stamp"] == 2
    assert SOFTMAX not in view.model.nodes.index
    assert view.ask("undo")[0]["result"]["text"] == "undone" and SOFTMAX in view.model.nodes.index
    assert view.ask("redo")[0]["result"]["text"] == "redone" and SOFTMAX not in view.model.nodes.index
    rows = view.ask("history")[0]["result"]
    assert rows["past"] == 0 and [(row["number"], row["parent"], row["current"]) for row in rows["rows"]] == [
        (0, None, False), (1, 0, False), (2, 1, True)]  # fmt: skip
    assert view.ask("goto", number=0)[0]["result"] and view.model is first
    assert view.ask("undo")[0]["error"].startswith("cannot undo: this is the model as it was loaded")
    assert view.ask("goto", number=2)[0]["result"]
    script = view.ask("python")[0]["result"]
    assert script == {"text": view.model.history.to_python(), "note": ""} and "m.delete(" in script["text"]


def test_each_change_is_one_small_patch(view):
    old = columns.unpack(view._data)
    for fields in (
        {"edit": "rename_node", "node": SOFTMAX, "name": "soft"},
        {"edit": "insert_cast", "tensor": "/layers.0/attn/norm/Sub_out", "dtype": "float32"},
        {"edit": "add_output", "tensor": "/layers.0/attn/norm/Sub_out"},
    ):
        view.sent.clear()
        edit(view, **fields)
        ((content, (data,)),) = [row for row in view.sent if "patch" in row[0]]
        assert content["patch"] == [view.shown.stamp - 1, view.shown.stamp] and len(data) < 4000
        old = columns.patched(old, columns.unpack(data))
    assert old.header["nodes"] == view.shown.columns.header["nodes"]
    assert columns.unpack(view._data).header["stamp"] == 0  # the saved state follows when all is quiet
    view.ask("settle")
    assert columns.unpack(view._data).header["stamp"] == 3


def test_selection_and_overlay_go_along(view):
    view.selection = [SOFTMAX, "/output"]
    view.overlay({SOFTMAX: 1.0, "/output": 2.0})
    edit(view, edit="insert_identity", tensor="/layers.0/attn/norm/Sub_out")
    edit(view, edit="rename_node", node=SOFTMAX, name="soft")
    assert view.selection == ["soft", "/output"]
    numbers = np.frombuffer(view._values)
    nodes = view.shown.columns.header["nodes"]
    assert {nodes[i]: numbers[i] for i in np.flatnonzero(~np.isnan(numbers))} == {"soft": 1.0, "/output": 2.0}
    edit(view, edit="delete", nodes=["soft"], how="bypass")
    assert view.selection == ["/output"] and view._color == "values"


def test_an_edit_in_python_reaches_every_view_that_follows():
    model = wb.load(graphs.transformer(60))
    one, two, still = Seen(model), Seen(model), Seen(model, follow=False)
    seen = []
    one.observe(lambda change: seen.append(change.new), "model")
    for each in (one, two, still):
        each.ask("hello", id="a")
    later = model.rename_node(SOFTMAX, "soft")
    assert seen == [later] and one.model is two.model is later and still.model is model
    assert [len(each.sent) for each in (one, two, still)] == [1, 1, 0]
    edit(two, edit="delete", nodes=["soft"], how="bypass")
    assert one.model is two.model and len(one.model.history) == 2
    two.ask("hello", id="b")
    two._receive(two, {"bye": "a"}, [])
    two._receive(two, {"bye": "b"}, [])
    two.sent.clear()
    one.model.history.undo()  # nobody looks at the second any more
    assert two.model is one.model and two.sent == []
    one.refresh()  # a picture that followed another one closely comes a little later
    assert two.ask("hello", id="c")[0]["result"] == two.shown.stamp == one.shown.stamp
    for each in (one, two, still):
        each.close()
    one.model.history.undo()
    assert one.model is not one.model.history.latest  # closed: it follows no more


def test_other_kinds(view, tmp_path):
    edit(view, edit="set_input", input="x", shape_text="2 × 8 × 16")
    assert view.model.inputs[0].shape == (2, 8, 16)
    edit(
        view,
        edit="insert_qdq",
        tensor="/layers.0/attn/norm/Sub_out",
        scale_text="0.5",
        zero_point_text="1",
        dtype="uint8",
    )
    edit(view, edit="insert_node", tensor="/layers.0/attn/norm/Mul_out", op_type="Clip", inputs_text="_")
    edit(
        view,
        edit="insert_node",
        tensor="/layers.0/attn/Mul_out",
        op_type="LeakyRelu",
        attributes_text="alpha=0.5",
    )
    edit(view, edit="set_scope", nodes=[SOFTMAX], scope="core")
    edit(view, edit="set_metadata", key="made for", value="tests")
    script = view.model.history.to_python()
    for line in (
        "m.insert_qdq('/layers.0/attn/norm/Sub_out', 0.5, 1, 'uint8')", "'Clip', inputs=[None])",
        "'LeakyRelu', {'alpha': 0.5})", "m.set_scope([", "m.set_metadata('made for', 'tests')",
    ):  # fmt: skip
        assert line in script
    assert edit(view, edit="extract", inputs=[], outputs=[f"{SOFTMAX}_out"])["text"].startswith(
        "m = m.extract("
    )
    assert (
        wb.replay(view.model.history.to_python(), graphs.transformer(60)).fingerprint
        == view.model.fingerprint
    )


def test_a_weight_comes_in_pieces(view, tmp_path):
    array = np.arange(256, dtype=np.float32).reshape(16, 16)
    np.save(tmp_path / "w.npy", array)
    data = (tmp_path / "w.npy").read_bytes()

    def send(at, piece):
        view._receive(
            view, {"rpc": "1", "method": "upload", "params": {"file": "f", "at": at}}, [memoryview(piece)]
        )
        return view.sent.pop()[0]

    assert send(0, data[:500])["result"] == 500
    assert "got a piece at byte 400, expected one at 500" in send(400, data[500:])["error"]
    assert send(0, data[:500])["result"] == 500 and send(500, data[500:])["result"] == len(data)
    weight = next(
        value.name for value in view.model.ir.graph.initializers.values() if tuple(value.shape) == (16, 16)
    )
    assert edit(view, edit="replace_weight", tensor=weight, upload="f")["text"].startswith(
        "m = m.replace_weight"
    )
    np.testing.assert_array_equal(view.model.ir.graph.initializers[weight].const_value.numpy(), array)
    assert view.uploads == {}
    assert edit(view, edit="set_weight_dtype", tensor=weight, dtype="float16", cast=True)["stamp"] == 2
    assert view.model.ir.graph.initializers[weight].dtype.name == "FLOAT16"
    assert "the file is no .npy" in edit(view, edit="replace_weight", tensor=weight, upload="f")
    assert "arrays of these edits are files" in view.ask("python")[0]["result"]["note"]


def test_refusals(view):
    cases = {
        "attribute 'axis': got 'x', expected an int; correct it": {
            "edit": "set_attribute", "node": SOFTMAX, "name": "axis", "value_text": "x"},
        "there is no node 'nope' in the model": {"edit": "delete", "nodes": ["nope"]},
        "cannot read attributes: got 'axis', expected them as axis=1": {
            "edit": "insert_node", "tensor": "/mask/Mul_out", "op_type": "Relu", "attributes_text": "axis"},
        "cannot read an edit: got 'dance', expected one of": {"edit": "dance"},
        "there is no tensor 99999 in the view": {"edit": "add_output", "tensor": 99999},
    }  # fmt: skip
    for text, fields in cases.items():
        assert text in edit(view, **fields)
    assert len(view.model.history) == 0
    edit(view, edit="rename_node", node=SOFTMAX, name="soft")
    late, _ = view.ask("edit", stamp=0, edit={"edit": "add_output", "tensor": 3})
    assert late["error"].startswith("the model has changed since this was shown")
    assert view.ask("edit", stamp=0, edit={"edit": "rename_node", "node": "soft", "name": "s"})[0]["result"]


def test_what_is_typed_is_read_by_its_type():
    conv = h.make_node("Conv", ["x", "w"], ["y"], name="conv", strides=[1, 1], auto_pad="VALID")
    fill = h.make_node("ConstantOfShape", ["s"], ["z"], name="fill",
                       value=h.make_tensor("v", TensorProto.INT64, [1], [7]))  # fmt: skip
    own = h.make_node("Own", ["x"], ["o"], name="own", domain="mine")
    info = h.make_tensor_value_info
    inputs = [info("x", 1, [1, 1, 8, 8]), info("w", 1, [1, 1, 3, 3]), info("s", 7, [1])]
    graph = h.make_graph(
        [conv, fill, own], "g", inputs, [info("y", 1, None), info("z", 7, None), info("o", 1, None)]
    )
    model = wb.load(
        h.make_model(graph, ir_version=9, opset_imports=[h.make_opsetid("", 18), h.make_opsetid("mine", 1)])
    )
    assert change.value_of(model, "conv", "strides", "2, 2") == [2, 2]
    assert change.value_of(model, "conv", "strides", "[2, 2]") == [2, 2]
    assert change.value_of(model, "conv", "auto_pad", " VALID") == " VALID"  # text is text
    assert change.value_of(model, "fill", "value", "[3]").tolist() == [3]
    assert (
        change.value_of(model, "own", "any", "[1.5]") == [1.5]
        and change.value_of(model, "own", "any", "é") == "é"
    )
    with pytest.raises(wb.errors.EditError, match=r"got 'a, b', expected a list of ints, such as \[1, 2\]"):
        change.value_of(model, "conv", "strides", "a, b")
    with pytest.raises(wb.errors.EditError, match=r"got 'none', expected int64 numbers"):
        change.value_of(model, "fill", "value", "none")
    assert change.dims("1×3× height , ?") == [1, 3, "height", None] and change.dims("scalar") == []
    view = Seen(model)
    (rows,) = (view.ask("node", node="conv")[0]["result"]["attributes"],)
    pad = next(row for row in rows if row["name"] == "auto_pad")
    assert pad["choices"] == ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID") and pad["text"] == "VALID"
    assert view.ask("node", node="own")[0]["result"]["open"]
    assert view.ask("tensor", tensor=0)[0]["result"]["input"]
    assert "Conv" in view.ask("operators")[0]["result"] and view.ask("model")[0]["result"]["opsets"] == {
        "": 18,
        "mine": 1,
    }
    view.close()


def test_a_body_is_edited_too(real_model):
    view = Seen(wb.load(real_model("silero_vad")))
    view.ask("hello", id="a")
    rows = view.model.nodes
    inner = rows.index[(rows["scope"] != "") & (rows["op_type"] != "Constant")][0]
    assert (
        edit(view, edit="rename_node", node=inner, name="renamed")["text"]
        == f"m = m.rename_node({inner!r}, 'renamed')"
    )
    assert (
        "renamed" in view.shown.columns.header["nodes"]
        and onnx.checker.check_model(view.model.to_proto()) is None
    )
    view.close()
