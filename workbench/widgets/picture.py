"""A static SVG overview of a graph, for notebooks without a kernel: what is too large is drawn by its modules."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from statistics import median

import numpy as np

from ..model.collection import paused
from ..view import WEIGHT, Columns

MOST = 160
"""Boxes in one picture."""
WIDE, TALL, GAP, RISE = 132, 30, 18, 34
STYLE = """
.b{fill:#ffffff;stroke:#2c69ae;stroke-width:1.3}.n{font:600 12px system-ui,sans-serif;fill:#1d2329}
.s{font:10px system-ui,sans-serif;fill:#59636e}.e{fill:none;stroke:#a3adb8;stroke-width:1.2}
.g{fill:#ffffff}
@media (prefers-color-scheme:dark){.g{fill:#111418}.b{fill:#1c2128;stroke:#62a8ff}.n{fill:#e8ecf1}
.s{fill:#a0abb7}.e{stroke:#59646f}}
"""


def still(drawn: str, name: str) -> str:
    """HTML of a picture that hides itself while the widget of that name lives on the same page.

    A notebook that is not trusted loses the style, and shows the picture.
    """
    source = base64.b64encode(drawn.encode("utf-8", "replace")).decode()
    return (
        f'<style>body:has([data-still="{name}"]) #still-{name}{{display:none}}</style>'
        f'<div id="still-{name}"><img alt="The graph, as a picture" style="max-width:100%" '
        f'src="data:image/svg+xml;base64,{source}"></div>'
    )


def svg(made: Columns, numbers: np.ndarray | None = None, categories: Sequence[Sequence[str]] = ()) -> str:
    """The picture.

    Args:
        made: columns of the model.
        numbers: an overlay, one per node; written below a box's name (the largest of its nodes).
        categories: name, colour and sign of what the numbers stand for: a box has the first that a node of it has.
    """
    with paused():
        return _svg(made, numbers, categories)


def _svg(made: Columns, numbers: np.ndarray | None, categories: Sequence[Sequence[str]]) -> str:
    boxes, labels, left = _boxes(made)
    edges = _edges(made, boxes)
    layer = _layers(edges, len(labels))
    x = _columns(edges, layer)
    values: dict[int, float] = {}
    pick = min if categories else max
    for index, box in enumerate(boxes.tolist() if numbers is not None else ()):
        if box >= 0 and numbers is not None and not np.isnan(numbers[index]):
            values[box] = pick(values.get(box, float(numbers[index])), float(numbers[index]))
    width = max(x, default=0) + WIDE + 2 * GAP
    height = (max(layer, default=-1) + 1) * (TALL + RISE) + GAP + (20 if left else 0)
    parts = [f'<rect class="g" width="{width:.0f}" height="{height}" rx="6"/>']
    for a, b in edges:
        x0, y0 = x[a] + WIDE / 2 + GAP, GAP + layer[a] * (TALL + RISE) + TALL
        x1, y1 = x[b] + WIDE / 2 + GAP, GAP + layer[b] * (TALL + RISE)
        if y1 < y0:
            continue
        side = (
            WIDE * 0.62 if layer[b] - layer[a] > 1 and abs(x0 - x1) < WIDE / 2 else 0
        )  # around what is between
        bend = (y1 - y0) / 2
        curve = f"{x0 + side:.0f} {y0 + bend:.0f} {x1 + side:.0f} {y1 - bend:.0f} {x1:.0f} {y1}"
        parts.append(f'<path class="e" d="M{x0:.0f} {y0}C{curve}"/>')
    for index, (name, below) in enumerate(labels):
        left_edge, top = x[index] + GAP, GAP + layer[index] * (TALL + RISE)
        note = f"{values[index]:.3g}" if index in values else below
        frame = ""
        if categories and index in values:
            word, color, sign = categories[int(values[index])]
            name, note = f"{sign} {name}".strip(), word
            frame = f' style="stroke:{color};stroke-width:3"' if color else ""
        parts.append(
            f'<rect class="b" x="{left_edge:.0f}" y="{top}" width="{WIDE}" height="{TALL}" rx="5"{frame}/>'
            f'<text class="n" x="{left_edge + 8:.0f}" y="{top + (13 if note else 19)}">{_short(name, 17)}</text>'
            f'<text class="s" x="{left_edge + 8:.0f}" y="{top + 25}">{_short(note, 21)}</text>'
        )
    if left:
        parts.append(f'<text class="s" x="{GAP}" y="{height - 10}">… and {left} more nodes</text>')
    title = f"Graph of {_short(made.header['name'], 80)}, {len(made.header['nodes'])} nodes"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" role="img"><title>{title}</title><style>{STYLE}</style>{"".join(parts)}</svg>'
    )


def _short(text: str, most: int) -> str:
    """Text for SVG: cut, and without characters that XML forbids."""
    kept = "".join(c for c in text[: 4 * most] if c.isprintable())
    return escape(kept if len(kept) <= most else kept[: most - 1] + "…")


def _boxes(made: Columns) -> tuple[np.ndarray, list[tuple[str, str]], int]:
    """(box of each node or -1, (name, note) of each box, nodes left out): as fine as fits into MOST boxes."""
    header, arrays = made.header, made.arrays
    main = np.flatnonzero(arrays["node.graph"] == 0)
    scope = arrays["node.scope"][main]
    lineage = [[0]]  # of each module, outermost first
    for parent, _ in header["scopes"][1:]:
        lineage.append([*lineage[parent], len(lineage)])
    own = -1 - main  # a box per node; else the module at some depth stands for it
    keys, depth = own, 5
    while len(np.unique(keys)) > MOST and depth > 1:
        depth -= 1
        modules = np.array([line[min(depth, len(line) - 1)] for line in lineage])
        keys = np.where(scope == 0, own, modules[scope])
    found, first, which, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)  # of the file
    number = np.argsort(order)[which]
    boxes = np.full(len(arrays["node.graph"]), -1)
    boxes[main] = np.where(number < MOST, number, -1)
    labels = []
    for key, size in zip(found[order[:MOST]].tolist(), sizes[order].tolist(), strict=False):
        if key < 0:
            name = header["nodes"][-1 - key].rpartition("/")[2]
            labels.append((header["ops"][arrays["node.op"][-1 - key]][0], name))
        else:
            labels.append((header["scopes"][key][1], f"{size} nodes"))
    return boxes, labels, int((number >= MOST).sum())


def _edges(made: Columns, boxes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of boxes of which the second reads what the first makes, in order."""
    arrays = made.arrays
    tensors, readers = arrays["node.in"], np.repeat(boxes, np.diff(arrays["node.in.start"]))
    there = (tensors >= 0) & (readers >= 0)
    tensors, readers = tensors[there], readers[there]
    makers = np.where(arrays["tensor.kind"] == WEIGHT, -1, arrays["tensor.producer"])[tensors]
    pairs = np.stack([np.append(boxes, -1)[makers], readers], axis=1)
    pairs = pairs[(pairs[:, 0] >= 0) & (pairs[:, 0] != readers)]
    return [(a, b) for a, b in np.unique(pairs, axis=0).tolist()]


def _layers(edges: list[tuple[int, int]], count: int) -> list[int]:
    """Longest path from a source; boxes are in the graph's order, an edge against it is not followed."""
    layer = [0] * count
    for a, b in edges:
        if a < b:
            layer[b] = max(layer[b], layer[a] + 1)
    return layer


def _columns(edges: list[tuple[int, int]], layer: list[int]) -> list[float]:
    """Left edge of each box: layers that are pulled towards their neighbours, without overlaps."""
    rows: dict[int, list[int]] = {}
    near: dict[int, list[int]] = {}
    for index, at in enumerate(layer):
        rows.setdefault(at, []).append(index)
    for a, b in edges:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    x = [0.0] * len(layer)
    for row in rows.values():
        for place, index in enumerate(row):
            x[index] = place * (WIDE + GAP)
    for turn in range(8):
        for at in sorted(rows, reverse=bool(turn % 2)):
            row = rows[at]
            wish = {i: median(x[j] for j in near[i]) if near.get(i) else x[i] for i in row}
            row.sort(key=lambda i: wish[i])  # noqa: B023 - used at once
            low, high = {}, {}
            edge = -np.inf
            for i in row:
                edge = low[i] = max(wish[i], edge + WIDE + GAP)
            edge = np.inf
            for i in reversed(row):
                edge = high[i] = min(wish[i], edge - WIDE - GAP)
            for i in row:
                x[i] = float((low[i] + high[i]) / 2)
    least = min(x, default=0.0)
    return [place - least for place in x]
