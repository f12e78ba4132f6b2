"""Columns of edited models: what changed is sent, what did not change keeps its numbers and what is known of it."""

from __future__ import annotations

import importlib

import graphs
import numpy as np
import pytest
from edits import random_edits

import workbench as wb
from workbench import view
from workbench.view.splice import splice

COLUMNS = importlib.import_module("workbench.view.columns")  # whose name the function has in the package
SOFTMAX = "/layers.0/attn/Softmax"


def told(made):
    """Columns without the numbers of strings, which depend on what came before."""
    head, arrays = made.header, made.arrays
    table = lambda name, column: [head[name][i] for i in arrays[column]]  # noqa: E731
    plain = ("node.graph", "node.in.start", "node.in", "node.out.start", "node.out", "tensor.kind",
             "tensor.producer", "tensor.graph")  # fmt: skip
    return {
        "names": (head["name"], head["nodes"], head["tensors"], head["graphs"]),
        "ops": table("ops", "node.op"),
        "attributes": table("attributes", "node.attributes"),
        "paths": [path(head["scopes"], i) for i in arrays["node.scope"]],
        **{name: arrays[name].tolist() for name in plain},
    }


def path(tree, scope):
    labels = []
    while scope > 0:
        scope, label = tree[scope]
        labels.insert(0, label)
    return labels


EDITS = {
    "rename": lambda m: m.rename_node(SOFTMAX, "other/name"),
    "attribute": lambda m: m.set_attribute(SOFTMAX, "axis", 3),
    "insert": lambda m: m.insert_identity("/layers.0/attn/Mul_out"),
    "qdq": lambda m: m.insert_qdq(f"{SOFTMAX}_out", 0.01),
    "delete": lambda m: m.delete(SOFTMAX),
    "cut": lambda m: m.delete([SOFTMAX], how="cut"),
    "output": lambda m: m.add_output(f"{SOFTMAX}_out"),
    "extract": lambda m: m.extract([], [f"{SOFTMAX}_out"]),
    "input": lambda m: m.set_input("x", shape=[2, 8, 16]),
    "scope": lambda m: m.set_scope([SOFTMAX], "core/attention"),
    "tensor": lambda m: m.rename_tensor(f"{SOFTMAX}_out", "probabilities"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_costs_of_what_changed_are_counted(edit):
    model = wb.load(graphs.transformer(60))
    changed = EDITS[edit](model)
    new = view.columns(changed, earlier=view.columns(model))
    fresh = view.columns(wb.load(changed.to_proto()))
    assert not new.header["rough"]
    for name in ("node.macs", "node.bytes"):
        np.testing.assert_array_equal(new.arrays[name], fresh.arrays[name], err_msg=name)
    for table, column in (("shapes", "tensor.shape"), ("dtypes", "tensor.dtype")):
        got, expected = ([made.header[table][i] for i in made.arrays[column]] for made in (new, fresh))
        assert got == expected


@pytest.mark.parametrize("edit", EDITS)
def test_a_patch_makes_the_columns_of_the_edited_model(edit):
    model = wb.load(graphs.transformer(120))
    old = view.columns(model)
    changed = EDITS[edit](model)
    new = view.columns(changed, earlier=old)
    fresh = view.columns(wb.load(changed.to_proto()), infer=False)
    fresh.header["name"] = changed.name
    assert told(new) == told(fresh)
    change = view.unpack(view.patch(old, new).pack())
    again = view.patched(old, change)
    assert again.header == new.header
    for name, array in new.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array, err_msg=name)
    back = view.columns(model, earlier=new)  # undone
    assert told(back) == told(view.columns(model))
    assert again.arrays.keys() == new.arrays.keys()
    again = view.patched(new, view.unpack(view.patch(new, back).pack()))
    assert told(again) == told(back)


def test_what_is_known_stays_and_what_changed_is_not_guessed():
    model = wb.load(graphs.transformer(1000))
    old = view.columns(model)
    new = view.columns(model.set_input("x", shape=[3, 8, 16]), earlier=old)
    at = new.header["tensors"].index(f"{SOFTMAX}_out")
    shape = [made.header["shapes"][made.arrays["tensor.shape"][at]] for made in (old, new)]
    assert shape == ["1×2×8×8", "3×2×8×8"]
    new = view.columns(model.set_attribute(SOFTMAX, "axis", 2), earlier=old)
    assert not new.header["rough"] and new.arrays["node.macs"].tolist() == old.arrays["node.macs"].tolist()
    assert len(view.patch(old, new).pack()) < 2000 < len(old.pack()) / 10


def test_a_graph_of_another_line_is_sent_whole():
    model = wb.load(graphs.transformer(60))
    old = view.columns(model)
    new = view.columns(model.convert_opset(20), earlier=old)
    assert told(new) == told(view.columns(wb.load(model.convert_opset(20).to_proto())))


def test_an_edit_in_a_body(real_model):
    model = wb.load(real_model("silero_vad"))
    old = view.columns(model)
    inner = next(n for n, g in zip(old.header["nodes"], old.arrays["node.graph"], strict=True) if g)
    changed = model.rename_node(inner, "renamed")
    new = view.columns(changed, earlier=old)
    again = view.patched(old, view.unpack(view.patch(old, new).pack()))
    assert "renamed" in again.header["nodes"] and told(again) == told(new)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("source", ["transformer", "ppocr_det"])
def test_random_edits_are_spliced_to_the_bytes_of_a_whole_walk(source, seed, request, monkeypatch):
    made = (
        graphs.transformer(60) if source == "transformer" else request.getfixturevalue("real_model")(source)
    )
    model = wb.load(made)
    at, spliced = view.columns(model), 0

    def check(model):
        nonlocal at, spliced
        with monkeypatch.context() as patched:
            patched.setattr(COLUMNS, "splice", lambda *_: None)
            whole = view.columns(model, earlier=at)
        parts = []
        with monkeypatch.context() as patched:
            patched.setattr(COLUMNS, "splice", lambda *given: parts.append(splice(*given)) or parts[0])
            new = view.columns(model, earlier=at)
        spliced += any(parts)
        assert new.pack() == whole.pack()
        change = view.patch(at, whole)
        assert change is None or view.patch(at, new).pack() == change.pack()
        np.testing.assert_array_equal(new.builder.before(at.builder)[0], whole.builder.before(at.builder)[0])
        at = new

    walked = random_edits.walk(model, 60, seed, check=check)
    assert walked.accepted.total() >= 20 and spliced >= 20, (walked.accepted, spliced)
