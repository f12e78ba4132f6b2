"""Every kind of edit: it does what it says, the model runs, undo gives the same bytes, and so do redo and replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import graphs
import numpy as np
import onnx
import pytest
from edits.random_edits import content, runs
from edits.small import proto, tail

import workbench as wb
from workbench import edits
from workbench.errors import EditError
from workbench.model import Model

HALF = np.full((4, 4), 0.5, np.float32)


def value(model: Model, node: str, attribute: str) -> Any:
    return model.ir.graph.node(node).attributes[attribute].value


def scope_of(model: Model, node: str) -> str:
    return model.ir.graph.node(node).metadata_props["workbench.scope"]


def ports(model: Model) -> list[str]:
    return [info.name for info in (*model.inputs, *model.outputs)]


def has(**wanted: object) -> Callable[[Model], bool]:
    """A check on ``Model.nodes``: node_column=value with ``__`` between node and column."""

    def check(model: Model) -> bool:
        table = model.nodes
        return all(
            table.loc[key.split("__")[0], key.split("__")[1]] == value for key, value in wanted.items()
        )

    return check


# (edit, what must hold after it)
CASES = [
    (edits.RenameNode("relu_node", "act"), has(act__op_type="Relu")),
    (edits.RenameNode("then_op", "inner"), has(inner__scope="if.then_branch")),
    (edits.RenameNode("double", "d"), has(d__scope="my::Twice")),
    (edits.RenameNode("if", "choice"), has(then_op__scope="choice.then_branch")),
    (edits.RenameTensor("relu", "r2"), has(relu_node__outputs=("r2",), then_add__inputs=("r2", "then_c"))),
    (edits.RenameTensor("w", "kernel"), lambda m: list(m.ir.graph.initializers) == ["kernel", "b", "unused"]),
    (edits.RenameTensor("if.then_branch/then_a", "t"), has(then_op__inputs=("t",))),
    (edits.RenameTensor("my::Twice/r", "rr"), has(double__outputs=("rr",))),
    (edits.RenameInput("x", "image"), lambda m: m.inputs[0].name == "image"),
    (edits.RenameOutput("y", "logits"), lambda m: m.outputs[0].name == "logits"),
    (edits.DeleteNodes("relu_node"), has(then_add__inputs=("sum", "then_c"))),
    (edits.DeleteNodes("leaky"), has(reshape__outputs=("y",))),
    (edits.DeleteNodes("then_op"), lambda m: "then_op" not in m.nodes.index),
    (edits.DeleteNodes("add", how="cut"), lambda m: [i.name for i in m.inputs] == ["x", "flag", "sum"]),
    (edits.InsertNode("relu", "Sigmoid"), has(then_add__inputs=("relu_sigmoid", "then_c"))),
    (edits.InsertNode("mm", "LeakyRelu", {"alpha": 0.1}), has(add__inputs=("mm_leakyrelu", "b"))),
    (edits.InsertNode("sum", "Mul", inputs=(None, "b"), name="m"), has(m__inputs=("sum", "b"))),
    (edits.InsertNode("relu", "Neg", to=[("then_add", 0)]), has(else_add__inputs=("relu", "else_c"))),
    (edits.InsertNode("y", "Tanh", name="t"), has(t__outputs=("y",), leaky__outputs=("y_before",))),
    (edits.InsertIdentity("if.else_branch/else_a"), has(else_op__inputs=("else_a_identity",))),
    (edits.InsertIdentity("my::Twice/a"), has(double__inputs=("a_identity", "a_identity"))),
    (edits.InsertCast("y", "float16"), lambda m: m.outputs[0].dtype == "float16"),
    (edits.InsertQDQ("sum", 0.1, 3, "uint8"), has(relu_node__inputs=("sum_dequantizelinear",))),
    (edits.InsertQDQ("w", (0.1, 0.2, 0.3, 0.4), (0, 0, 0, 0), axis=1), has(matmul__inputs=("x", "w_dequantizelinear"))),
    (edits.ReplaceOp("relu_node", "Elu", {"alpha": 0.3}), has(relu_node__op_type="Elu")),
    (edits.ReplaceOp("leaky", "Elu"), lambda m: value(m, "leaky", "alpha") == 0.5),
    (edits.ReplaceOp("else_op", "Exp"), has(else_op__op_type="Exp")),
    (edits.SetAttribute("leaky", "alpha", 1), lambda m: value(m, "leaky", "alpha") == 1.0),
    (edits.SetAttribute("reshape", "allowzero", 1), lambda m: value(m, "reshape", "allowzero") == 1),
    (edits.RemoveAttribute("leaky", "alpha"), lambda m: not m.ir.graph.node("leaky").attributes),
    (edits.Reconnect("relu_node", 0, "mm"), has(relu_node__inputs=("mm",))),
    (edits.Reconnect("add", 0, "x"), has(add__inputs=("x", "b"))),
    (edits.ReplaceWeight("w", HALF), lambda m: np.array_equal(m.ir.graph.initializers["w"].const_value.numpy(), HALF)),
    (edits.ReplaceWeight("shape", np.array([0, 4])), lambda m: value(m, "shape_node", "value").size == 2),
    (edits.SetWeightDtype("w", "bfloat16", cast=True), lambda m: m.tensors.loc["w", "dtype"] == "bfloat16"),
    (edits.SetInput("x", (2, 4)), lambda m: m.inputs[0].shape == (2, 4) and m.tensors.loc["sum", "shape"] == (2, 4)),
    (edits.SetInput("x", ("batch", 4)), lambda m: m.inputs[0].shape == ("batch", 4)),
    (edits.AddInput("extra", "int64", ("n", None)), lambda m: m.inputs[2].shape == ("n", None)),
    (edits.AddInput("b"), lambda m: [value.name for value in m.ir.graph.inputs] == ["x", "flag", "b"]),
    (edits.AddOutput("relu"), lambda m: str(m.outputs[1]) == "relu: float32[n, 4]"),
    (edits.Extract("mm", "relu"), lambda m: list(m.nodes.index) == ["add", "relu_node"] and ports(m) == ["mm", "relu"]),
    (edits.Extract(outputs="relu"), lambda m: len(m.nodes) == 3 and [i.name for i in m.inputs] == ["x", "flag"]),
    (edits.Append(tail()), has(last__inputs=("relu_1", "b_1"), relu_node_1__inputs=("y",))),
    (edits.Append(tail(), prefix="t/"), lambda m: "t/last" in m.nodes.index and [o.name for o in m.outputs] == ["t/z"]),
    (edits.Prepend(tail(), {"z": "x"}), lambda m: [i.name for i in m.inputs] == ["y_1", "flag"]),
    (edits.Merge(tail(), prefix="o_"), lambda m: [o.name for o in m.outputs] == ["y", "o_z"]),
    (edits.Merge(tail(), {"y": "x"}), lambda m: [i.name for i in m.inputs] == ["x", "flag"]),
    (edits.FoldConstants(), lambda m: "unused" not in m.tensors.index),
    (edits.CleanUp(), lambda m: list(m.ir.graph.initializers) == ["w", "b"]),
    (edits.SetMetadata("author", "me"), lambda m: m.ir.metadata_props == {"author": "me"}),
    (edits.SetMetadata("k", "v", node="then_op"), lambda m: True),
    (edits.SetMetadata("k", "v", tensor="relu"), lambda m: True),
    (edits.SetScope(("add", "relu_node"), "head"), lambda m: scope_of(m, "add") == "head"),
]  # fmt: skip


@pytest.mark.parametrize("edit, holds", CASES, ids=[f"{i}-{case[0].method}" for i, case in enumerate(CASES)])
def test_edit(edit, holds, tmp_path):
    before = wb.load(proto())
    original = content(before)
    after = before.apply(edit)
    assert holds(after)
    runs(after)
    changed = content(after)
    assert changed != original
    assert after.history.undo() is before
    assert content(before) == original
    assert before.history.redo() is after
    assert content(after) == changed

    script, data = tmp_path / "edits.py", tmp_path / "edits.json"
    after.history.to_python(script)
    after.history.to_json(data)
    assert content(wb.replay(script, proto())) == changed
    assert content(wb.replay(data, proto())) == changed


def test_every_kind_is_in_the_cases():
    below = {edits.RemoveInput, edits.RemoveOutput, edits.ConvertOpset, edits.Simplify, edits.Surgery}
    tested = {type(edit) for edit, _ in CASES} | below
    assert tested == set(edits.KINDS)


def test_remove_input_and_output():
    m = wb.load(proto()).add_input("extra", "float32", (1,)).add_output("relu")
    assert [i.name for i in m.remove_input("extra").inputs] == ["x", "flag"]
    m = m.remove_output("y")
    assert [o.name for o in m.outputs] == ["relu"]
    runs(m)


def test_convert_opset_keeps_large_weights_where_they_are():
    start = graphs.transformer(60, shared=True)
    wide = {"up.weight": (16, 128), "up.bias": (128,), "down.weight": (128, 16)}
    for tensor in start.graph.initializer:
        if tensor.name in wide:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(wide[tensor.name], np.float32), tensor.name))
    m = wb.load(start)
    original = content(m)
    new = m.convert_opset(19)
    assert new.ir.opset_imports[""] == 19
    runs(new)
    for name in ("up.weight", "down.weight"):
        assert new.ir.graph.initializers[name].const_value is m.ir.graph.initializers[name].const_value
    assert new.history.undo() is m and content(m) == original
    assert content(wb.replay(new.history.to_json(), start)) == content(new)


def test_convert_opset_of_a_real_model(real_model):
    m = wb.load(real_model("ppocr_cls"))
    new = m.convert_opset(18)
    assert new.ir.opset_imports[""] == 18
    runs(new)


def test_simplify_a_real_model_keeps_origins(real_model):
    m = wb.load(real_model("ppocr_cls"))
    slim = m.simplify()
    runs(slim)
    assert len(slim.nodes) < len(m.nodes)
    known = set(m.nodes.index)
    for item in slim.ir.graph:
        noted = edits.origins.of_node(item)
        assert set(noted) <= known, noted
    assert content(wb.replay(slim.history.to_json(), real_model("ppocr_cls"))) == content(slim)


def test_surgeon_makes_one_edit_that_replays(tmp_path):
    gs = pytest.importorskip("onnx_graphsurgeon")
    m = (
        wb.load(proto()).delete("call").clean_up().rename_node("relu_node", "act")
    )  # GraphSurgeon needs no function
    original = content(m)
    with m.surgeon() as graph:
        act = next(item for item in graph.nodes if item.name == "act")
        act.op = "Selu"
        mm = next(item for item in graph.nodes if item.name == "matmul")
        mm.inputs[1] = gs.Constant("w2", np.eye(4, dtype=np.float32))
    new = graph.model
    assert new.nodes.loc["act", "op_type"] == "Selu"
    assert edits.origins.of_node(new.ir.graph.node("act")) == ["relu_node"]
    assert len(new.history) == 4 and new.history.edits[-1].method == "replace_graph"
    assert new.ir.graph.initializers["b"].const_value is m.ir.graph.initializers["b"].const_value
    runs(new)
    assert new.history.undo() is m and content(m) == original
    new.history.to_python(tmp_path / "s.py")
    assert content(wb.replay(tmp_path / "s.py", proto())) == content(new)


def test_what_works_on_the_whole_graph_leaves_too_large_weights_alone(monkeypatch, real_model, tmp_path):
    gs = pytest.importorskip("onnx_graphsurgeon")
    source = real_model("style_predict")
    m = wb.load(source)
    read = next(name for name, value in m.ir.graph.initializers.items() if value.const_value.size > 10_000)
    inlined = []
    monkeypatch.setattr("workbench.edits.whole.INLINE_LIMIT", 1000)
    monkeypatch.setattr(
        gs, "import_onnx", lambda p, given=gs.import_onnx: inlined.append(p.ByteSize()) or given(p)
    )
    with m.surgeon() as graph:
        graph.nodes[3].name = "by script"
        assert tuple(graph.tensors()[read].shape) == tuple(m.ir.graph.initializers[read].shape.numpy())
    slim = m.simplify()
    for new in (graph.model, slim):
        assert new.ir.graph.initializers[read].const_value is m.ir.graph.initializers[read].const_value
        runs(new)
        new.history.to_json(tmp_path / "edits.json")
        assert content(wb.replay(tmp_path / "edits.json", source)) == content(new)
    assert "by script" in graph.model.nodes.index and inlined[0] < 1 << 20 < source.stat().st_size
    assert len(slim.nodes) <= len(m.nodes) and slim.inputs == m.inputs


@pytest.mark.parametrize("method, given", [("simplify", ()), ("convert_opset", (18,))])
def test_models_with_functions_are_inlined_first(method, given):
    m = wb.load(proto())
    with pytest.raises(EditError, match="the model has functions of its own, .* with inline_functions first"):
        getattr(m, method)(*given)
    runs(getattr(m.inline_functions(), method)(*given))


def test_surgeon_leaves_the_model_alone_when_the_script_fails():
    m = wb.load(proto())
    original = content(m)
    with pytest.raises(ZeroDivisionError), m.surgeon() as graph:
        graph.nodes.clear()
        _ = 1 / 0
    assert content(m) == original and not m.history.branches


def test_fold_constants_computes_what_depends_on_constants():
    h = onnx.helper
    nodes = [
        h.make_node("Constant", [], ["two"], name="two", value_float=2.0),
        h.make_node("Mul", ["w", "two"], ["w2"], name="mul"),
        h.make_node("Transpose", ["w2"], ["wt"], name="transpose"),
        h.make_node("MatMul", ["x", "wt"], ["y"], name="matmul"),
    ]
    ports = [h.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3]) for n in "xy"]
    w = np.arange(9, dtype=np.float32).reshape(3, 3)
    graph = h.make_graph(nodes, "g", ports[:1], ports[1:], [onnx.numpy_helper.from_array(w, "w")])
    m = wb.load(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)).fold_constants()
    assert list(m.nodes.index) == ["matmul"]
    assert np.array_equal(m.ir.graph.initializers["wt"].const_value.numpy(), (2 * w).T)
    assert list(m.ir.graph.initializers) == ["wt"]
    runs(m)
