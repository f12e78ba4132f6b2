"""Blocks that repeat, for graphs whose names say nothing of their modules: found in the structure alone.

Nodes in the order of the file are cut where at most one tensor leads on (what is read everywhere, like a mask, and
what comes from weights alone are not counted); two pieces are the same when they have the same operators, attributes
and wiring, whatever their weights' sizes. What stands several times in a row is a block, and its repetitions become
modules.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

LEAST = 3
"""Nodes of a block."""
FEW = 24
"""Nodes of a graph below which nothing is sought."""
NAMED = 0.1
"""Share of nodes that have a module, from which on names are believed."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


def blocks(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Put nodes of the main graph into modules of found blocks: ``block ×12`` with ``1 of 12`` ... inside."""
    main = np.flatnonzero(arrays["node.graph"] == 0)
    if len(main) < FEW or np.count_nonzero(arrays["node.scope"][main]) > NAMED * len(main):
        return
    fixed = _fixed(arrays, main)
    main = main[~np.isin(main, list(fixed))]
    if not len(main):
        return
    pieces, signs = _pieces(arrays, main)
    found = repeats(signs, np.diff(pieces))
    kinds = [tuple(signs[first : first + period].tolist()) for first, period, _ in found]
    letters = {kind: chr(65 + index % 26) for index, kind in enumerate(dict.fromkeys(kinds))}
    scope, rows = arrays["node.scope"].copy(), header["scopes"]
    for (first, period, times), kind in zip(found, kinds, strict=True):
        outer = len(rows)
        rows.append([0, f"block {letters[kind]} ×{times}" if len(letters) > 1 else f"block ×{times}"])
        for turn in range(times):
            start, end = pieces[first + turn * period], pieces[first + (turn + 1) * period]
            scope[main[start:end]] = len(rows)
            rows.append([outer, f"{turn + 1} of {times}"])
    for node, readers in reversed(fixed.items()):  # what makes a weight goes with what reads it
        homes = {int(scope[reader]) for reader in readers}
        scope[node] = homes.pop() if len(homes) == 1 else 0
    arrays["node.scope"] = np.where(arrays["node.scope"], arrays["node.scope"], scope)  # what is stated stays


def _pieces(arrays: dict[str, np.ndarray], main: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(start of each piece and the end of the last, as places in ``main``; a number for the structure of each)."""
    count = len(main)
    place = np.full(len(arrays["node.op"]), -1)
    place[main] = np.arange(count)
    starts = arrays["node.in.start"]
    reader = place[np.repeat(np.arange(len(starts) - 1), np.diff(starts))]
    slot = np.arange(len(arrays["node.in"])) - np.repeat(starts[:-1], np.diff(starts))
    tensor = arrays["node.in"]
    maker = np.where(tensor >= 0, arrays["tensor.producer"][tensor], -1)
    source = np.where(maker >= 0, place[maker], -1)
    reader, slot, tensor, maker, source = (row[reader >= 0] for row in (reader, slot, tensor, maker, source))
    inner = source >= 0
    last = np.arange(count)
    np.maximum.at(last, source[inner], reader[inner])
    readers = np.bincount(source[inner], minlength=count)
    wide = (readers >= 4) & (last - np.arange(count) > count / 4)
    live = np.zeros(count + 1, np.int64)
    np.add.at(live, np.arange(count)[~wide], 1)
    np.add.at(live, last[~wide], -1)
    fed = (maker < 0) & (tensor >= 0) & (arrays["tensor.kind"][tensor] == 0)
    for number in np.unique(tensor[fed]):  # an input of the graph, from its first reader on
        reads = reader[tensor == number]
        if len(reads) < 4 or np.ptp(reads) <= count / 4:
            live[reads.min()] += 1
            live[reads.max()] -= 1
    cuts = np.flatnonzero(np.cumsum(live[:count]) <= 1) + 1
    pieces = np.unique(np.concatenate([[0], cuts, [count]]))
    home = np.repeat(np.arange(len(pieces) - 1), np.diff(pieces))
    # an input is the distance to its maker in the same piece, else what kind of thing it is
    held = (arrays["tensor.kind"][tensor] == 1) | ((maker >= 0) & (source < 0))
    kind = np.where(tensor < 0, 1, np.where(held, 2, 3))
    same = inner & (home[source] == home[reader])
    code = np.where(same, 8 + reader - source, np.where(inner & wide[source], 4, kind)).astype(np.uint64)
    with np.errstate(over="ignore"):
        op, attributes = (arrays[name][main].astype(np.uint64) for name in ("node.op", "node.attributes"))
        sign = _mixed(op * _MIX + attributes)
        np.add.at(sign, reader, _mixed(code * _MIX + slot.astype(np.uint64)))
        offset = (np.arange(count) - pieces[:-1][home]).astype(np.uint64)
        whole = np.zeros(len(pieces) - 1, np.uint64)
        np.add.at(whole, home, _mixed(sign + offset * _MIX))
    return pieces, whole


def _fixed(arrays: dict[str, np.ndarray], main: np.ndarray) -> dict[int, list[int]]:
    """Nodes that compute from weights alone, in order, with the nodes that read them."""
    kind, maker = arrays["tensor.kind"].tolist(), arrays["tensor.producer"].tolist()
    ins, starts = arrays["node.in"].tolist(), arrays["node.in.start"].tolist()
    found: dict[int, list[int]] = {}
    for node in main.tolist():
        only = True
        for t in ins[starts[node] : starts[node + 1]]:
            if t >= 0 and maker[t] in found:
                found[maker[t]].append(node)
            elif t >= 0 and kind[t] != 1:
                only = False
        if only:
            found[node] = []
    return found


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """The numbers, scrambled (the finaliser of splitmix64)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def repeats(signs: np.ndarray, sizes: np.ndarray) -> list[tuple[int, int, int]]:
    """What stands several times in a row: (first piece, pieces of one block, times), in order, not overlapping; three
    times and more come first, then what covers the most nodes, of the same cover the shortest block."""
    ends = np.concatenate([[0], np.cumsum(sizes)])
    candidates = []
    for period in range(1, min(len(signs) // 2, 400) + 1):
        same = np.concatenate([[0], signs[period:] == signs[:-period], [0]]).astype(np.int8)
        edges = np.flatnonzero(np.diff(same))
        for first, after in edges.reshape(-1, 2):
            times = (after - first) // period + 1
            nodes = ends[first + period] - ends[first]
            if times >= 2 and nodes >= LEAST:
                candidates.append(
                    (int(ends[first + times * period] - ends[first]), period, int(first), int(times))
                )
    taken = np.zeros(len(signs), bool)
    found = []
    for _, period, first, times in sorted(candidates, key=lambda row: (row[3] < 3, -row[0], row[1], row[2])):
        block = signs[first : first + period]
        if any(period % part == 0 and (block[part:] == block[:-part]).all() for part in range(1, period)):
            continue  # a repetition of something smaller, which is too small to be a block
        # the part of a run that is still free
        free = [not taken[first + k * period : first + (k + 1) * period].any() for k in range(times)]
        bounds = [0, *(k + 1 for k in range(times - 1) if free[k] != free[k + 1]), times]
        for a, b in pairwise(bounds):
            if free[a] and b - a >= 2:
                taken[first + a * period : first + b * period] = True
                found.append((first + a * period, period, b - a))
    return sorted(found)
