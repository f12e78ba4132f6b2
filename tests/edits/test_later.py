"""Kinds of edits that live in later packages: known by name, imported when first used, replayed like the others."""

from __future__ import annotations

import subprocess
import sys
import types
from dataclasses import dataclass
from typing import ClassVar

import pytest
from edits.small import proto

import workbench as wb
from workbench import edits
from workbench.edits import kinds
from workbench.edits.draft import Draft
from workbench.model import Model


@dataclass(frozen=True)
class Frobnicate(edits.Edit):
    """Rename a node to ``frob``."""

    method: ClassVar[str] = "frobnicate"
    node: str

    def change(self, draft: Draft) -> None:
        draft.rename_node(draft.node(self.node), "frob")


@pytest.fixture
def later(monkeypatch):
    """The module ``frobs``, a row for its kind and one for its function; the names that were asked of it."""
    asked: list[str] = []
    held = {"Frobnicate": Frobnicate, "count_nodes": lambda model: len(model.nodes)}
    module = types.ModuleType("frobs")
    module.__getattr__ = lambda name: asked.append(name) or held[name]  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "frobs", module)
    monkeypatch.setitem(kinds.LATER, "frobnicate", ("frobs", "Frobnicate"))
    monkeypatch.setitem(kinds.LATER_METHODS, "count_nodes", ("frobs", "count_nodes"))
    for name in ("frobnicate", "count_nodes"):
        monkeypatch.setattr(Model, name, edits.Later(name), raising=False)
    return asked


def test_a_later_kind_is_a_method_that_replays(later, tmp_path):
    m = wb.load(proto())
    assert not later
    made = m.frobnicate("relu_node")
    assert "frob" in made.nodes.index and "frob" not in made.history.undo().nodes.index
    for source in (made.history.to_python(), made.history.to_json()):
        assert wb.replay(source, proto()).fingerprint == made.fingerprint
    assert "m = m.frobnicate('relu_node')" in made.history.to_python()
    opened = wb.load(made.save(tmp_path / "m.onnx"))
    assert [edit.method for edit in opened.history.edits] == ["frobnicate"]
    assert Model.frobnicate.__doc__ == "Rename a node to ``frob``."


def test_other_edits_do_not_ask_for_a_later_kind(later):
    made = wb.load(proto()).rename_node("relu_node", "a")
    wb.replay(made.history.to_json(), proto())
    assert not later and "frobnicate" in set(edits.BY_METHOD)


def test_a_later_function_is_a_method(later):
    m = wb.load(proto())
    assert m.count_nodes() == len(m.nodes) and later == ["count_nodes"]


def test_the_rows_name_what_is_there():
    for method in kinds.LATER:
        assert edits.BY_METHOD[method].method == method
    for method in kinds.LATER_METHODS:
        assert callable(kinds.late(kinds.LATER_METHODS, method))


def test_importing_edits_imports_nothing_to_its_right():
    code = "import sys, workbench.edits; print(*(m for m in sys.modules if m.startswith('workbench.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    assert loaded == {"edits", "model", "errors"}, done.stderr
