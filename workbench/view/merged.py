"""Two versions of a model as one graph: the second, with what the first had besides, and what differs marked."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..model.nodewise import held
from .build import WEIGHT
from .columns import Columns
from .overlay import Overlay

CATEGORIES = (
    ("removed", "#B24A12", "−"),
    ("added", "#17745A", "+"),
    ("changed", "#2C69AE", "≠"),
    ("rewired", "#84489B", "⇄"),
    ("renamed or moved", "#80620F", "→"),
)
"""How a node differs, the gravest first: name, colour (Okabe and Ito's hues, darkened) and sign."""
REMOVED, ADDED, CHANGED, REWIRED, RENAMED = range(5)
OF_CHANGE = {
    "removed": REMOVED, "added": ADDED, "changed operator": CHANGED, "changed attribute": CHANGED,
    "changed weight": CHANGED, "changed type": CHANGED, "rewired": REWIRED, "renamed": RENAMED, "moved": RENAMED,
}  # fmt: skip
NEW, OLD = 1, 2
"""Values of ``edge.change``: an edge that only the second model has, only the first."""
BEFORE = " (before)"
"""What stands behind the name of a removed node when the other model has a node of that name."""


@dataclass
class Kept(Columns):
    """Columns that do not depend on the graph any more: two versions of one model share theirs."""

    keys: list[str] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    @property
    def values(self) -> list[Any]:
        """Of each tensor its name and numbers."""
        return self.weights


def kept(made: Columns) -> Kept:
    """The columns, with their weights taken now."""
    values = [
        SimpleNamespace(name=value.name, const_value=held(value), producer=lambda: None)
        for value in made.values
    ]
    return Kept(made.header, made.arrays, None, [made.key(t) for t in range(len(values))], values)


def merged(
    one: Kept, two: Kept, nodes: Mapping[str, str], tensors: Mapping[str, str], rows: Iterable[Sequence[Any]]
) -> tuple[Columns, Overlay]:
    """One graph of two.

    Args:
        one, two: columns of the models, before and after.
        nodes: name before -> name after, of the nodes that are in both.
        tensors: key before -> key after, as in ``Model.tensors``.
        rows: the differences as in the table of ``wb.diff``.

    Returns:
        Columns: nodes and tensors of ``two`` first, then what only ``one`` has; ``edge.change`` says of each entry of
        ``node.in`` whether it is new (1), was removed (2) or is in both (0). And the overlay that marks the nodes.
    """
    union = _Union(one, two, nodes, tensors)
    return union.columns(), _overlay(union, rows)


class _Union:
    def __init__(self, one: Kept, two: Kept, nodes: Mapping[str, str], tensors: Mapping[str, str]):
        self.one, self.two = one, two
        head = self.header = copy.deepcopy(two.header)
        at = {name: index for index, name in enumerate(two.header["nodes"])}
        self.node = [at.get(nodes.get(name, ""), -1) for name in one.header["nodes"]]  # before -> merged
        self.gone = [index for index, where in enumerate(self.node) if where < 0]
        for index in self.gone:
            name = one.header["nodes"][index]
            self.node[index] = len(head["nodes"])
            head["nodes"].append(name + BEFORE if name in at else name)
        keys = {key: index for index, key in enumerate(two.keys)}
        self.keys, self.values = list(two.keys), list(two.values)
        self.tensor: list[int] = []
        self.only: list[int] = []  # tensors that only the first model has
        for index, key in enumerate(one.keys):
            where = keys.get(tensors.get(key, ""), -1)
            if where < 0:
                where = len(self.keys)
                self.only.append(index)
                self.keys.append(key)
                self.values.append(one.values[index])
                head["tensors"].append(one.header["tensors"][index])
            self.tensor.append(where)
        self.graph = self._graphs()
        self._ports()

    def _graphs(self) -> list[int]:
        """Graphs before -> merged: of the same place, else behind the others."""
        known = {_place(self.header, row): index for index, row in enumerate(self.two.header["graphs"])}
        found = []
        for row in self.one.header["graphs"]:
            owner = self.node[row["owner"]] if row["owner"] >= 0 else -1
            place = _place(self.header, {**row, "owner": owner})
            if place not in known:
                known[place] = len(self.header["graphs"])
                self.header["graphs"].append({**row, "owner": owner, "inputs": [], "outputs": []})
            found.append(known[place])
        return found

    def _ports(self) -> None:
        for row, where in zip(self.one.header["graphs"], self.graph, strict=True):
            for side in ("inputs", "outputs"):
                mine = self.header["graphs"][where][side]
                mine += [t for t in (self.tensor[index] for index in row[side]) if t not in mine]

    def _table(self, name: str) -> np.ndarray:
        """Places of the rows of a table of the first model in the merged one."""
        rows = self.header[name]
        at = {str(row): index for index, row in enumerate(rows)}
        found = []
        for row in self.one.header[name]:
            if str(row) not in at:
                at[str(row)] = len(rows)
                rows.append(row)
            found.append(at[str(row)])
        return np.array(found, np.int32)

    def _scopes(self) -> np.ndarray:
        rows = self.header["scopes"]
        known = {(parent, label): index for index, (parent, label) in enumerate(rows)}
        found = [0]
        for parent, label in self.one.header["scopes"][1:]:
            key = (found[parent], label)
            if key not in known:
                known[key] = len(rows)
                rows.append([*key])
            found.append(known[key])
        return np.array(found, np.int32)

    def columns(self) -> Columns:
        one, two, gone, only = self.one.arrays, self.two.arrays, self.gone, self.only
        node, tensor = np.array([*self.node, -1], np.int32), np.array([*self.tensor, -1], np.int32)
        graph = np.array(self.graph, np.int32)
        maps = {
            "node.op": self._table("ops"), "node.attributes": self._table("attributes"), "node.graph": graph,
            "node.scope": self._scopes(), "tensor.graph": graph, "tensor.dtype": self._table("dtypes"),
            "tensor.shape": self._table("shapes"), "tensor.producer": node,
        }  # fmt: skip
        arrays: dict[str, np.ndarray] = {}
        for name, array in two.items():
            rows = gone if name.startswith("node.") else only
            if name in maps:
                arrays[name] = np.concatenate([array, maps[name][one[name][rows]]])
            elif name in ("tensor.kind", "node.macs", "node.bytes"):
                more = one[name][rows] if name in one else np.full(len(rows), np.nan)
                arrays[name] = np.concatenate([array, more])
        arrays |= self._edges(tensor)
        head = {**self.header}
        head.pop("made", None)
        return Kept(head, arrays, None, self.keys, self.values)

    def _edges(self, tensor: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs and outputs of the merged nodes, and what became of each input."""
        mine, theirs = _lists(self.one), _lists(self.two)
        ins: list[list[int]] = [list(row) for row, _ in theirs]
        outs: list[list[int]] = [list(row) for _, row in theirs]
        change = [[NEW] * len(row) for row in ins]
        kind = self.one.arrays["tensor.kind"]
        for (reads, makes), where in zip(mine, self.node, strict=True):
            if where >= len(ins):  # a removed node: they come in this order
                ins.append([int(tensor[t]) for t in reads])
                outs.append([int(tensor[t]) for t in makes])
                change.append([OLD] * len(reads))
                continue
            for t in reads:
                at = int(tensor[t])
                here = [i for i, other in enumerate(ins[where]) if other == at]
                for i in here:
                    change[where][i] = 0
                if not here and at >= 0 and kind[t] != WEIGHT:
                    ins[where].append(at)
                    change[where].append(OLD)
            outs[where] += [int(tensor[t]) for t in makes if int(tensor[t]) not in outs[where]]
        flat = lambda rows: np.array([item for row in rows for item in row], np.int32)  # noqa: E731
        starts = lambda rows: np.cumsum([0, *map(len, rows)], dtype=np.int32)  # noqa: E731
        return {
            "node.in": flat(ins), "node.in.start": starts(ins), "node.out": flat(outs), "node.out.start": starts(outs),
            "edge.change": flat(change).astype(np.uint8),
        }  # fmt: skip


def _place(header: dict[str, Any], row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a graph is known by: its owner's name in the merged model and the attribute, or the function."""
    owner = header["nodes"][row["owner"]] if row["owner"] >= 0 else ""
    return (row["kind"], owner, row["label"] if row["kind"] != "main" else "")


def _lists(made: Columns) -> list[tuple[list[int], list[int]]]:
    arrays = made.arrays
    cut = lambda name: np.split(arrays[name], arrays[f"{name}.start"][1:-1])  # noqa: E731
    if not len(made.header["nodes"]):
        return []
    return [(a.tolist(), b.tolist()) for a, b in zip(cut("node.in"), cut("node.out"), strict=True)]


def _overlay(union: _Union, rows: Iterable[Sequence[Any]]) -> Overlay:
    """Each difference beside the nodes that it concerns; what concerns none is counted in the note."""
    header = union.header
    values = np.full(len(header["nodes"]), np.nan)
    texts: dict[int, list[str]] = {}
    before = {name: union.node[index] for index, name in enumerate(union.one.header["nodes"])}
    after = {name: index for index, name in enumerate(union.two.header["nodes"])}
    tensors = {key: union.tensor[index] for index, key in enumerate(union.one.keys)}
    tensors |= {key: index for index, key in enumerate(union.two.keys)}
    near = _near(union)
    rest: Counter[str] = Counter()
    for change, kind, old_name, new_name, what, old, new in rows:
        if kind == "node":
            found = [after[new_name] if new_name in after else before.get(old_name, -1)]
        else:
            found = near.get(tensors.get(new_name or old_name, -1), [-1])
        found = [index for index in found if index >= 0]
        if not found:
            rest[f"{change} {kind}" if kind not in change else change] += 1
        for index in found:
            # a weight that came or went is a change of its node
            status = CHANGED if kind == "weight" and change != "renamed" else OF_CHANGE[change]
            if kind == "tensor" and change == "renamed" and not np.isnan(values[index]):
                status = int(values[index])
            values[index] = np.fmin(values[index], status)
            text = _words(change, kind, old_name, new_name, what, old, new)
            if text and len(texts.setdefault(index, [])) < 8:
                texts[index].append(text)
    note = ", ".join(f"{count} × {text}" for text, count in rest.items())
    return Overlay(
        "Difference", "", values, "category", f"not at a node: {note}" if note else "", CATEGORIES,
        {index: "\n".join(lines) for index, lines in texts.items()},
    )  # fmt: skip


def _near(union: _Union) -> dict[int, list[int]]:
    """Of each tensor the node that makes it, else those that read it."""
    found: dict[int, list[int]] = {}
    for side, nodes in ((union.two, range(len(union.two.header["nodes"]))), (union.one, union.node)):
        where = range(len(union.two.keys)) if side is union.two else union.tensor
        for (reads, makes), node in zip(_lists(side), nodes, strict=True):
            for t in makes:
                if t >= 0:
                    found[where[t]] = [node]
            for t in reads:
                if t >= 0 and side.arrays["tensor.producer"][t] < 0:
                    users = found.setdefault(where[t], [])
                    if node not in users:
                        users.append(node)
    return found


def _words(change: str, kind: str, before: Any, after: Any, what: Any, old: Any, new: Any) -> str:
    """A difference as a line beside its node."""
    if kind == "node" and change in ("added", "removed"):
        return ""
    if change == "renamed":
        return f"{kind} renamed: {before} → {after}"
    if change == "rewired":
        return f"input {what}: {old or 'none'} → {new or 'none'}"
    name = what if kind == "node" else after or before
    about = [change, "" if kind in change or kind == "node" else kind, "" if name is None else str(name)]
    return f"{' '.join(filter(None, about))}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 80 else text[:79] + "…"
