"""Models as values that share a graph: undo, redo, branches, scripts, JSON, and histories in files."""

from __future__ import annotations

import gc
import json
import runpy

import graphs
import numpy as np
import pytest
from edits.random_edits import content, draft_of
from edits.small import proto

import workbench as wb
from workbench import edits
from workbench.errors import EditError


@pytest.fixture
def m():
    return wb.load(proto())


def test_every_value_stays_what_it_is(m):
    versions = [m]
    for name in "abcde":
        versions.append(versions[-1].rename_node(versions[-1].nodes.index[0], name).insert_identity("relu"))
    written = [content(version) for version in versions]
    assert len(set(written)) == len(versions)
    for index in (0, 5, 2, 4, 1, 3, 0):
        assert content(versions[index]) == written[index]
        assert (
            versions[index].to_proto().SerializeToString() == versions[index].to_proto().SerializeToString()
        )
    first = versions[1].nodes.index[0]
    assert first == "a" and m.nodes.index[0] == "matmul"


def test_undo_redo_and_branches(m):
    one = m.rename_node("add", "one")
    two = one.rename_node("one", "two")
    assert two.history.undo() is one and one.history.undo() is m
    other = m.rename_node("add", "other")
    assert [edit.name for edit in m.history.branches] == ["one", "other"]
    assert m.history.redo() is other and m.history.redo(0) is one
    assert one.history.redo() is two
    assert two.history.goto(other.history.number) is other
    assert [entry["parent"] for entry in two.history.tree()] == [None, 0, 1, 0]
    assert [entry["current"] for entry in two.history.tree()] == [False, False, True, False]
    assert two.history.tree()[2]["edit"] == "m = m.rename_node('one', 'two')"
    assert len(two.history) == 2 and "m = m.rename_node('add', 'one')" in repr(two.history)


def test_the_ends_of_the_history(m):
    with pytest.raises(
        EditError, match="cannot undo: this is the model as it was loaded; there is nothing before it"
    ):
        m.history.undo()
    with pytest.raises(
        EditError, match="cannot redo: no edit was made from this model; there is nothing after it"
    ):
        m.history.redo()
    m.rename_node("add", "a")
    with pytest.raises(EditError, match="cannot redo: got branch 3, expected 0 to 0"):
        m.history.redo(3)
    with pytest.raises(EditError, match="there is no version 9; expected 0 to 1"):
        m.history.goto(9)


def test_a_branch_that_nobody_holds_can_be_reached(m):
    m.rename_node("add", "forgotten")
    gc.collect()
    assert "forgotten" in m.history.redo().nodes.index


def test_listeners_hear_of_every_new_model(m):
    heard = []
    stop = m.history.on_change(heard.append)
    one = m.rename_node("add", "one")
    back = one.history.undo()
    assert heard == [one, m] and back is m and m.history.latest is m
    with pytest.raises(EditError):
        m.insert_cast("mm", "float16")
    stop()
    m.rename_node("add", "two")
    assert heard == [one, m]


def test_two_values_are_compared_side_by_side(m):
    changed = m.replace_weight("w", np.full((4, 4), 0.5, np.float32))
    inputs = {"x": np.ones((2, 4), np.float32), "flag": np.array(True)}
    assert wb.compare(m, m.rename_tensor("sum", "renamed"), inputs, progress=False).ok
    renamed = changed.rename_tensor("sum", "renamed")
    table = wb.compare(m, renamed, inputs, progress=False).table
    assert table.loc["sum", "status"] == "compared" and table.loc["sum", "max_abs"] > 0.1


def test_edits_print_as_python(m):
    assert (
        str(edits.InsertNode("x", "Clip", {}, to=[("add", 1)]))
        == "m = m.insert_node('x', 'Clip', to=[['add', 1]])"
    )
    assert str(edits.SetAttribute("n", "a", float("inf"))) == "m = m.set_attribute('n', 'a', float('inf'))"
    assert str(edits.RenameNode("a'\n\"", "b\\ \u202e")) == "m = m.rename_node('a\\'\\n\"', 'b\\\\ \\u202e')"
    assert edits.InsertNode("x", "Relu").python() == "insert_node('x', 'Relu')"


def test_methods_have_signatures_and_documentation(m):
    assert "rename_node" in dir(m)
    assert "Give a node another name" in m.rename_node.__doc__
    with pytest.raises(AttributeError, match="'Model' object has no attribute 'rename_nodes'"):
        _ = m.rename_nodes
    with pytest.raises(TypeError):
        m.rename_node("a")


def test_the_script_runs(m, tmp_path):
    source = m.save(tmp_path / "original.onnx")
    changed = wb.load(source).replace_weight("w", np.eye(4, dtype=np.float32)).insert_qdq("sum", 0.1)
    changed = changed.set_attribute("leaky", "alpha", 0.1).rename_node("add", "ünï \U0001f600 '\"\n")
    text = changed.history.to_python(tmp_path / "edits.py")
    assert text.splitlines()[-1].startswith("m = m.rename_node('add', 'ünï ")
    assert content(runpy.run_path(str(tmp_path / "edits.py"))["m"]) == content(changed)
    replayed = wb.replay(tmp_path / "edits.py", source)
    assert content(replayed) == content(changed)
    one, two = changed.save(tmp_path / "one.onnx"), replayed.save(tmp_path / "two.onnx")
    assert one.read_bytes() == two.read_bytes()


def test_a_script_is_read_and_not_executed(m, tmp_path):
    for line in ("import os; os.remove('x')", "m = m.save('x')", "m = m.rename_node(open('x').read(), 'b')"):
        with pytest.raises(EditError, match="cannot read edits: line"):
            wb.replay(f"import workbench as wb\n{line}\n", m)
    with pytest.raises(EditError, match="cannot read edits: the content 'a.npy' is in a file"):
        wb.replay("m = m.replace_weight('w', here / 'a.npy')\n", m)
    with pytest.raises(EditError, match="cannot read an edit: got 'explode', expected one of add_input"):
        wb.replay({"workbench": 1, "edits": [{"edit": "explode"}]}, m)
    with pytest.raises(
        EditError, match="cannot read an edit 'rename_node': .*unexpected keyword argument 'colour'"
    ):
        wb.replay({"workbench": 1, "edits": [{"edit": "rename_node", "colour": 1}]}, m)
    with pytest.raises(EditError, match="it is no JSON"):
        wb.replay("{", m)


def test_contents_that_were_changed_are_refused(m, tmp_path):
    m.replace_weight("w", np.eye(4, dtype=np.float32)).history.to_json(tmp_path / "e.json")
    (file,) = (tmp_path / "e.contents").iterdir()
    np.save(file, np.zeros((4, 4), np.float32))
    with pytest.raises(EditError, match="holds other data than when the edits were written"):
        wb.replay(tmp_path / "e.json", m)


def test_a_replay_that_does_not_fit_says_which_edit(m):
    text = m.rename_node("add", "a").rename_node("a", "b").history.to_json()
    with pytest.raises(
        EditError, match=r"edit 1 \(rename_node\('add', 'a'\)\) was refused: there is no node 'add'"
    ):
        wb.replay(text, m.rename_node("add", "zzz"))


def test_the_history_travels_in_the_file(m, tmp_path):
    changed = m.rename_node("add", "one").replace_weight("b", np.zeros(4, np.float32))
    path = changed.save(tmp_path / "changed.onnx")
    again = wb.load(path)
    assert "workbench.history" not in again.ir.metadata_props
    assert again.fingerprint == changed.fingerprint
    assert again.history.edits == changed.history.edits
    assert content(wb.replay(again.history.to_json(), proto())) == content(changed)
    with pytest.raises(EditError, match="the 2 edits before were made before this file was saved"):
        again.history.undo()
    more = again.rename_node("one", "two")
    assert len(more.history) == 3
    assert json.loads(more.history.to_json())["edits"][2] == {
        "edit": "rename_node",
        "node": "one",
        "name": "two",
    }
    assert again.save(tmp_path / "again.onnx").read_bytes() == path.read_bytes()
    plain = changed.save(tmp_path / "plain.onnx", history=False)
    assert wb.load(plain).history.edits == ()


def test_large_arrays_stay_out_of_the_file(tmp_path):
    original = graphs.transformer(60, shared=True)
    rng = np.random.default_rng(0)
    big = wb.load(original).add_output("/layers.0/attn/norm/Sub_out")
    big = big.replace_weight(
        "up.bias",
        rng.normal(size=(2000, 1, 16)).astype(np.float32),
    )
    again = wb.load(big.save(tmp_path / "big.onnx"))
    assert (tmp_path / "big.onnx").stat().st_size < 200_000
    with pytest.raises(EditError, match="is not in the history, which keeps only small ones"):
        wb.replay(again.history.to_json(), original)
    big.history.to_json(tmp_path / "big.json")
    assert content(wb.replay(tmp_path / "big.json", original)) == content(big)


def test_an_edit_copies_nothing_and_leaves_no_uses_behind(m):
    draft = draft_of(m)
    uses = {name: {(u.name, i) for u, i in v.uses()} for name, v in draft.values[m.ir.graph].items()}
    for build in (
        lambda: m.insert_node("relu", "Add", inputs=(None, "nothing")),
        lambda: m.insert_node("relu", "Relu", {"no": 1}),
        lambda: m.insert_cast("mm", "float16"),
        lambda: m.insert_qdq("sum", 0.1, axis=7, dtype="int3"),
    ):
        with pytest.raises(wb.errors.WorkbenchError):
            build()
    m.insert_identity("relu").delete("relu_node").history.undo().history.undo()
    _ = m.ir
    after = {name: {(u.name, i) for u, i in v.uses()} for name, v in draft.values[m.ir.graph].items()}
    assert after == uses
