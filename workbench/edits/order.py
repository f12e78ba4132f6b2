"""The order of the nodes of a graph as numbers, so that an edit need not go through the whole graph to know it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import onnx_ir as ir

_GAP = 1 << 32  # between neighbours at first: half of it for each node that is put between two others


class Order:
    """Which of two nodes of a graph runs first, and what follows a node.

    Every node has a number that grows along the graph. A node that is put between two others gets one between theirs;
    where none is left, all are numbered anew.
    """

    def __init__(self, nodes: Iterable[ir.Node]):
        self._number_all(list(nodes))

    def _number_all(self, nodes: list[ir.Node]) -> None:
        self._nodes = nodes
        self._numbers = [index * _GAP for index in range(len(nodes))]
        self._of = dict(zip(nodes, self._numbers, strict=True))

    def __getitem__(self, node: ir.Node) -> int:
        return self._of[node]

    def __contains__(self, node: ir.Node) -> bool:
        return node in self._of

    def after(self, node: ir.Node | None) -> ir.Node | None:
        """The node that follows another one (None: the first of the graph), None at the end."""
        at = 0 if node is None else self._at(node) + 1
        return self._nodes[at] if at < len(self._nodes) else None

    def at(self, number: int) -> ir.Node:
        """The node with a number."""
        return self._nodes[bisect_left(self._numbers, number)]

    def following(self, number: int) -> list[ir.Node]:
        """The nodes behind a number."""
        return self._nodes[bisect_right(self._numbers, number) :]

    def _at(self, node: ir.Node) -> int:
        return bisect_left(self._numbers, self._of[node])

    def insert(self, nodes: list[ir.Node], before: ir.Node | None) -> None:
        """Nodes were put before another one, or at the end (None)."""
        at = len(self._nodes) if before is None else self._at(before)
        room = _GAP * (len(nodes) + 1)
        high = self._numbers[at] if before is not None else self._numbers[-1] + room if at else 0
        low = self._numbers[at - 1] if at else high - room
        step = (high - low) // (len(nodes) + 1)
        self._nodes[at:at] = nodes
        if not step:
            self._number_all(self._nodes)
            return
        numbers = [low + step * (index + 1) for index in range(len(nodes))]
        self._numbers[at:at] = numbers
        self._of.update(zip(nodes, numbers, strict=True))

    def remove(self, nodes: Iterable[ir.Node]) -> None:
        """Nodes were taken out."""
        for node in nodes:
            at = self._at(node)
            del self._nodes[at], self._numbers[at], self._of[node]
