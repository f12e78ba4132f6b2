"""Arguments of a wrong kind: refused in words, the model as it was; what is accepted replays to the same bytes."""

from __future__ import annotations

from dataclasses import MISSING, fields

import numpy as np
import pytest
from edits.random_edits import content
from edits.small import proto, tail

import workbench as wb
from workbench.edits import KINDS
from workbench.errors import EditError, WorkbenchError

JUNK = [
    None, 0, -1, 10**30, 1.5, float("nan"), "", "x", b"b", [], [None], {}, {"a": 1}, (1, 2), ("a", ("b",)), object(),
    np.zeros(2), np.float32(1), np.int64(1), True, "\0", "\ud800", ["\ud800"], [[]], "a" * 10_000,
]  # fmt: skip
GOOD = {
    "node": "add", "tensor": "relu", "input": "x", "output": "y", "nodes": ["add"], "name": "new", "op_type": "Relu",
    "dtype": "float32", "key": "k", "value": "v", "inputs": "relu", "outputs": "flat", "scale": 0.1, "scope": "a",
    "version": 18, "model": tail(),
}  # fmt: skip


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.method != "replace_graph"], ids=lambda k: k.method
)
def test_arguments_of_a_wrong_kind(kind):
    m = wb.load(proto())
    before = content(m)
    for field in fields(kind):
        for junk in JUNK:
            given = {
                item.name: junk if item is field else GOOD.get(item.name, "relu")
                for item in fields(kind)
                if item is field or item.default is item.default_factory is MISSING
            }
            try:
                new = getattr(m, kind.method)(**given)
            except WorkbenchError:
                assert content(m) == before, (field.name, junk)
            else:
                assert content(wb.replay(new.history.to_json(), proto())) == content(new), (field.name, junk)


@pytest.mark.parametrize(
    "method, given, message",
    [
        ("rename_node", (None, "a"), "cannot rename_node: got None as 'node', expected text"),
        ("rename_node", ("add", "\ud800"), "cannot rename_node: got '\\ud800' as 'name', expected text that UTF-8 has"),
        ("delete", (3,), "cannot delete: got (3,) as 'nodes', expected a list of texts"),
        ("extract", (None, "relu"), "cannot extract: got (None,) as 'inputs', expected a list of texts"),
        ("set_input", ("x", 5),
         "cannot set_input: got 5 as 'shape', expected a list (whole numbers, texts, None) or None"),
        ("insert_identity", ("relu", None, [5]),
         "cannot insert_identity: got (5,) as 'to', expected text, a list (texts, lists (text, whole number)) or None"),
        ("reconnect", ("add", "0", "x"), "cannot reconnect: got '0' as 'input', expected a whole number"),
        ("replace_op", ("add", "Sub", [1]), "cannot replace_op: got [1] as 'attributes', expected a dict or None"),
    ],
)  # fmt: skip
def test_the_words(method, given, message):
    with pytest.raises(EditError) as caught:
        getattr(wb.load(proto()), method)(*given)
    assert str(caught.value).partition(";")[0] == message


def test_numbers_of_numpy_are_numbers():
    m = wb.load(proto())
    one = m.reconnect("add", np.int64(1), "b").set_input("x", np.array([2, 4])).fold_constants(np.int32(8))
    assert [str(edit) for edit in one.history.edits] == [
        "m = m.reconnect('add', 1, 'b')",
        "m = m.set_input('x', [2, 4])",
        "m = m.fold_constants(8)",
    ]
    assert content(wb.replay(one.history.to_json(), proto())) == content(one)


def test_what_is_no_edit():
    with pytest.raises(EditError, match="cannot apply 5: got int, expected an edit; see workbench.edits"):
        wb.load(proto()).apply(5)
