"""The numbers of a graph's nodes: in the order of the graph, whatever is put where, and taken out."""

from __future__ import annotations

import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.edits import order


def node(name: str) -> ir.Node:
    return ir.Node("", "Relu", [], name=name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3), st.booleans()), max_size=120))
def test_it_follows_a_list(steps):
    kept = [node(f"n{index}") for index in range(3)]
    found = order.Order(kept)
    for count, (at, many, out) in enumerate(steps):
        if out and len(kept) > many:
            at %= len(kept) - many
            found.remove(kept[at : at + many])
            del kept[at : at + many]
        else:
            at %= len(kept) + 1
            new = [node(f"{count}.{index}") for index in range(many)]
            found.insert(new, kept[at] if at < len(kept) else None)
            kept[at:at] = new
        assert [found[item] for item in kept] == sorted({found[item] for item in kept})
        assert [found.after(item) for item in (None, *kept)] == [*kept, None]


def test_where_no_number_is_left_all_are_given_anew(monkeypatch):
    monkeypatch.setattr(order, "_GAP", 4)
    kept = [node("first"), node("last")]
    found = order.Order(kept)
    for index in range(20):
        new = node(f"n{index}")
        found.insert([new], kept[1])
        kept.insert(1, new)
        assert [found[item] for item in kept] == sorted({found[item] for item in kept})
    assert new in found and node("other") not in found
