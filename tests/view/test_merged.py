"""Two models as one graph: what is merged, what is marked, what the view of it answers."""

from __future__ import annotations

import numpy as np
import pytest
from edits.small import proto
from onnx import TensorProto
from onnx import helper as h

import workbench as wb
from workbench import view
from workbench.widgets.diff import DiffView


def of(a, b):
    table = wb.diff(a, b)
    return view.merged(
        view.kept(view.columns(a)), view.kept(view.columns(b)), table._match.nodes, table._match.tensors,
        table.itertuples(index=False),
    )  # fmt: skip


def marks(made, overlay):
    names = [row[0] for row in overlay.categories]
    return {made.header["nodes"][i]: names[int(v)] for i, v in enumerate(overlay.values) if not np.isnan(v)}


def edges(made):
    """(producer or tensor, reader) -> 0 in both, 1 new, 2 removed"""
    arrays, head = made.arrays, made.header
    found = {}
    for index, name in enumerate(head["nodes"]):
        for k in range(arrays["node.in.start"][index], arrays["node.in.start"][index + 1]):
            t = arrays["node.in"][k]
            if t >= 0 and arrays["tensor.kind"][t] != view.WEIGHT:
                maker = arrays["tensor.producer"][t]
                source = head["nodes"][maker] if maker >= 0 else head["tensors"][t]
                found[source, name] = int(arrays["edge.change"][k])
    return found


def chain(*ops, name="g"):
    nodes = [h.make_node(op, [f"t{i}"], [f"t{i + 1}"], name=label) for i, (label, op) in enumerate(ops)]
    info = [h.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("t0", f"t{len(ops)}")]
    return wb.load(h.make_model(h.make_graph(nodes, name, info[:1], info[1:]), ir_version=9))


@pytest.fixture
def m():
    return chain(("a", "Relu"), ("b", "Neg"), ("c", "Abs"))


def test_equal_models_merge_to_one_of_them(m):
    made, overlay = of(m, m)
    alone = view.columns(m)
    assert made.header == alone.header
    assert np.isnan(overlay.values).all() and overlay.note == ""
    for name, array in alone.arrays.items():
        assert np.array_equal(made.arrays[name], array), name
    assert not made.arrays["edge.change"].any()


def test_a_bypassed_node_stays_with_its_edges(m):
    made, overlay = of(m, m.delete("b"))
    assert made.header["nodes"] == ["a", "c", "b"]
    assert marks(made, overlay) == {"b": "removed", "c": "rewired"}
    assert edges(made) == {("t0", "a"): 0, ("a", "c"): 1, ("a", "b"): 2, ("b", "c"): 2}
    assert [made.header["shapes"][i] for i in made.arrays["tensor.shape"]] == ["1×4"] * len(made.keys)
    assert len(made.arrays["node.macs"]) == 3


def test_backwards_it_was_added(m):
    made, overlay = of(m.delete("b"), m)
    assert marks(made, overlay) == {"b": "added", "c": "rewired"}
    assert edges(made) == {("t0", "a"): 0, ("a", "b"): 1, ("b", "c"): 1, ("a", "c"): 2}


def test_changes_are_told_in_words():
    before = wb.load(proto())
    after = before.set_attribute("leaky", "alpha", 0.25).rename_node("add", "plus").rename_input("x", "in")
    made, overlay = of(before, after)
    assert marks(made, overlay)["leaky"] == "changed" and marks(made, overlay)["plus"] == "renamed or moved"
    texts = {made.header["nodes"][i]: text for i, text in overlay.texts.items()}
    assert texts["leaky"] == "changed attribute alpha: 0.5 → 0.25"
    assert "node renamed: add → plus" in texts["plus"]
    assert set(made.header["nodes"]) == set(view.columns(after).header["nodes"])


def test_bodies_weights_and_scopes():
    before = wb.load(proto())
    after = before.set_scope(["leaky"], "tail/end")
    made, overlay = of(before, after)
    assert marks(made, overlay)["leaky"] == "renamed or moved"
    assert [1, "end"] in made.header["scopes"] or [0, "tail"] in made.header["scopes"]
    made, _ = of(after, before)  # a scope that only the first has is not lost
    graphs = made.header["graphs"]
    assert len(graphs) == len(view.columns(before).header["graphs"])
    made, overlay = of(before, before.replace_weight("w", np.zeros((4, 4), np.float32)))
    assert marks(made, overlay) == {"matmul": "changed"}
    assert overlay.texts[0] == "changed weight w: float32[4, 4] → float32[4, 4]"


def test_other_models_share_nothing_but_are_shown():
    one, two = chain(("a", "Relu"), name="one"), chain(("z", "Exp"), ("a", "Neg"), name="two")
    made, overlay = of(one, two)
    assert len(made.header["nodes"]) >= 2
    assert set(marks(made, overlay).values()) & {"added", "changed"}
    assert len(overlay.values) == len(made.header["nodes"])


def test_a_removed_node_whose_name_is_used_again():
    one = chain(("a", "Relu"), ("b", "Neg"))
    two = one.rename_node("a", "c").rename_node("b", "a")
    three = two.delete("c")
    made, overlay = of(one, three)
    assert made.header["nodes"] == ["a", "a (before)"]
    assert marks(made, overlay)["a (before)"] == "removed"


# --- the view


class Seen(DiffView):
    def __init__(self, *args, **kwargs):
        self.sent = []
        super().__init__(*args, **kwargs)

    def send(self, content, buffers=None):
        self.sent.append(content)

    def slow(self, method):
        self._receive(self, {"rpc": "1", "method": method, "params": {}}, [])
        self._threads.shutdown()  # when all of it is done
        return self.sent.pop()

    def ask(self, method, **params):
        self._receive(self, {"rpc": "1", "method": method, "params": params}, [])
        return self.sent.pop()


def test_a_table_of_differences_has_a_view(m, tmp_path):
    table = wb.diff(m, m.delete("b"))
    shown = table.view(height=300)
    assert isinstance(shown, wb.GraphView) and shown.height == "300px"
    assert repr(shown) == f"<DiffView of 'g' and 'g': {len(table)} differences>"
    assert shown._overlay["categories"][0] == ["removed", "#B24A12", "−"]
    assert np.frombuffer(shown._values).size == 3
    assert "default-src 'none'" in shown.to_html(tmp_path / "d.html").read_text("utf-8")
    assert "− Neg" in shown.to_svg(tmp_path / "d.svg").read_text("utf-8")
    shown.close()


def test_what_is_cut_out_of_the_table_is_an_ordinary_one(m):
    import pickle

    import pandas as pd

    table = wb.diff(m, m.delete("b"))
    assert type(table[table["change"] == "removed"]) is pd.DataFrame
    assert type(pickle.loads(pickle.dumps(table))) is pd.DataFrame
    assert len(pickle.loads(pickle.dumps(table))) == len(table)


def test_it_answers_for_both_models_and_edits_none(m):
    shown = Seen(m, m.delete("b"))
    assert "flipped sign" in shown.ask("node", node="b")["result"]["doc"]
    assert shown.ask("node", node="a")["result"]["since"]
    assert "a view of differences cannot answer 'edit'; it is only to look at" in shown.ask("edit")["error"]
    shown.close()


def test_a_large_one_is_drawn_before_its_shapes_are_known(m, monkeypatch):
    import workbench.widgets.diff as module

    monkeypatch.setattr("workbench.widgets.shown.AT_ONCE", 0)
    table = wb.diff(m, m.delete("b"))
    monkeypatch.setattr(module, "diff", lambda *_: pytest.fail("the differences are known"))
    shown = Seen(m, table._models[1], table=table)
    assert "node.macs" not in shown.columns.arrays
    marked = shown._values
    assert shown.slow("shapes") == {"rpc": "1", "result": None}
    made = shown.columns
    assert shown._values == marked
    assert made.header["stamp"] == 1 and made.header["nodes"] == ["a", "c", "b"]
    assert all(moved > 0 for moved in made.arrays["node.bytes"])  # of the removed node, too
    shown.close()


def test_another_model_is_compared_with_the_same(m):
    shown = DiffView(m, m)
    assert len(shown.table) == 0
    shown.model = m.delete("a")
    assert "removed" in shown.table["change"].tolist()
    assert np.nanmin(np.frombuffer(shown._values)) == 0
    shown.close()
