"""What to send of columns that changed: the parts that differ, and how the numbers of the rest move.

A patch is a header and arrays in the packed form of columns. ``header["lists"]`` has for ``nodes`` and ``tensors`` the
rows that are replaced (``[start, removed, [new names]]``), and for each table of strings the rows that follow those
that are there; ``header["spliced"]`` for each array that changed ``[start, removed]``, its new elements being the
array of that name. Before an array is spliced, numbers of nodes or tensors in it are moved by what the lists inserted
and removed (-2 where that is gone), and offsets (``*.start``) are lengths, summed up again afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .columns import VERSION, Columns

LISTS = ("nodes", "tensors")
TABLES = ("ops", "attributes", "shapes", "dtypes", "scopes", "made")
MOVES = {"node.in": "tensors", "node.out": "tensors", "tensor.producer": "nodes"}
"""Arrays of numbers, and of which list."""
Splice = tuple[int, int, Any]
"""(start, how many are removed there, what comes instead)."""


def patch(old: Columns, new: Columns) -> Columns | None:
    """What makes the new columns of the old ones; None when the tables differ, so that all has to be sent."""
    lists: dict[str, Any] = {}
    for name in TABLES:
        was, now = old.header.get(name, []), new.header.get(name, [])
        if now[: len(was)] != was:
            return None
        if len(now) > len(was):
            lists[name] = now[len(was) :]
    splices = {name: _list_splice(old.header[name], new.header[name]) for name in LISTS}
    spliced: dict[str, list[int]] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, array in new.arrays.items():
        was = moved(name, old.arrays[name], splices) if name in old.arrays else np.zeros(0, array.dtype)
        now = lengths(name, array)
        start, removed, values = _array_splice(was, now)
        if removed or len(values):
            spliced[name], arrays[name] = [start, removed], values
    gone = [name for name in old.arrays if name not in new.arrays]
    header: dict[str, Any] = {
        "version": VERSION,
        "name": new.header["name"],
        "spliced": spliced,
        "gone": gone,
    }
    lists |= {name: list(splice) for name, splice in splices.items() if splice[1] or splice[2]}
    header["rough"] = new.header.get("rough", False)
    if old.header["graphs"] != new.header["graphs"]:
        header["graphs"] = new.header["graphs"]
    return Columns(header | {"lists": lists}, arrays)


def patched(old: Columns, change: Columns) -> Columns:
    """The columns after a patch (what the browser does with it, in ``data.ts``)."""
    lists = change.header["lists"]
    splices = {name: tuple(lists.get(name, (0, 0, []))) for name in LISTS}
    header = {**old.header, "name": change.header["name"], "rough": change.header["rough"]}
    header |= {"graphs": change.header.get("graphs", old.header["graphs"])}
    for name in TABLES:
        rows = [*old.header.get(name, []), *lists.get(name, [])]
        header |= {name: rows} if rows else {}
    for name, (start, removed, rows) in splices.items():
        header[name] = [*old.header[name][:start], *rows, *old.header[name][start + removed :]]
    names = {*old.arrays, *change.header["spliced"]} - set(change.header["gone"])
    arrays = {}
    for name in names:
        start, removed = change.header["spliced"].get(name, (0, 0))
        values = change.arrays.get(name, np.zeros(0))
        was = moved(name, old.arrays[name], splices) if name in old.arrays else values[:0]
        now = np.concatenate([was[:start], values.astype(was.dtype), was[start + removed :]])
        arrays[name] = np.append(0, now).cumsum(dtype=np.int32) if name.endswith(".start") else now
    return Columns(header, arrays)


def moved(name: str, array: np.ndarray, splices: dict[str, Splice]) -> np.ndarray:
    """An array with its numbers moved as the lists are, offsets as lengths."""
    array = lengths(name, array)
    if name not in MOVES:
        return array
    start, removed, rows = splices[MOVES[name]]
    after = array >= start + removed
    out = np.where(after, array + len(rows) - removed, array)
    out[(array >= start) & ~after] = -2
    return out.astype(array.dtype)


def lengths(name: str, array: np.ndarray) -> np.ndarray:
    """Offsets as lengths; any other array as it is."""
    return np.diff(array) if name.endswith(".start") else array


def _list_splice(old: list[str], new: list[str]) -> Splice:
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    return start, len(old) - start - end, new[start : len(new) - end]


def _common(one: list[str], two: list[str]) -> int:
    """How many elements are equal from the start on."""
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _array_splice(old: np.ndarray, new: np.ndarray) -> Splice:
    least = min(len(old), len(new))
    start = _equal(old[:least], new[:least])
    end = _equal(old[len(old) - least + start :][::-1], new[len(new) - least + start :][::-1])
    return start, len(old) - start - end, new[start : len(new) - end]


def _equal(one: np.ndarray, two: np.ndarray) -> int:
    """How many elements are equal from the start on; NaN equals NaN."""
    same = (one == two) | ((one != one) & (two != two))
    return len(same) if same.all() else int(same.argmin())
