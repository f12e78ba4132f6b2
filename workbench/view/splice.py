"""An edited model's columns out of those before: only the nodes from the first to the last touched one are walked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..model import Model
from .build import INPUT, WEIGHT, Builder, is_graph

if TYPE_CHECKING:
    from .columns import Columns

Parts = tuple[Builder, dict[str, Any], dict[str, np.ndarray]]
"""Builder, header and arrays of columns."""


@dataclass(frozen=True)
class _Cut:
    """What is replaced of a list: from ``start`` up to ``was``, by what ends at ``now``."""

    start: int
    was: int
    now: int

    def join(self, old: Any, new: Any) -> np.ndarray:
        return np.concatenate([old[: self.start], new, old[self.was :]]).astype(np.int32)


def splice(earlier: Columns, model: Model, touched: set[Any]) -> Parts | None:
    """What a walk through all of a later version of a model would give.

    Args:
        earlier: columns with inferred shapes and costs.
        model: the later version.
        touched: nodes and values that differ in anything but their type.

    Returns:
        None where all has to be walked: several graphs, tensors that are read before they are made, nothing inferred
        yet (then what the file declares counts). Tensors of ``earlier`` keep their dtypes and shapes.
    """
    old = earlier.builder
    if old is None or not old.ordered or len(old.graphs) > 1 or model.ir.functions:
        return None
    made = _Splice(earlier, old, model, touched)
    if "node.macs" not in earlier.arrays or any(
        is_graph(attribute) for node in made.middle for attribute in node.attributes.values()
    ):
        return None
    walked = made.walk()
    if walked is None:
        return None
    made.follow()
    header = made.header()
    kinds = [WEIGHT] * len(made.weights) + [INPUT] * len(made.inputs)
    arrays = _arrays(earlier, made.new, walked, made.nodes, made.tensors, kinds)
    return (made.new, header, arrays) if arrays is not None else None


class _Splice:
    """The later version: what is before the part that is walked, the part, and what is after it."""

    def __init__(self, earlier: Columns, old: Builder, model: Model, touched: set[Any]):
        self.earlier, self.old, self.graph, self.touched = earlier, old, model.ir.graph, touched
        self.weights = self.graph.initializers.data
        self.inputs = [value for value in self.graph.inputs if value.name not in self.weights]
        self.head = [*self.weights.values(), *self.inputs]  # they are numbered first
        self.steps = list(self.graph)
        makers = {value.producer() for value in touched if isinstance(value, ir.Value)}
        self.part = _between(old.steps, self.steps, touched | makers)
        self.middle = self.steps[self.part.start : self.part.now]
        self.new = Builder(model, old)

    def walk(self) -> dict[str, np.ndarray] | None:
        """Numbers everything; the arrays of the part, or None where a tensor is read before it is made."""
        old, new, part, graph = self.old, self.new, self.part, self.graph
        (n0, v0), (n1, v1), (_, first) = (old.place(step) for step in (part.start, part.was, 0))
        new.every = [("", graph, self.steps, None, "")]
        new.steps, new.nodes = self.steps[: part.start], old.nodes[:n0]
        new.constants = [place for place in old.constants if place < part.start]
        new.number(self.head + old.values[first:v0])
        values = len(new.values)
        new.go(0, self.middle)
        walked = new.arrays(n0, values)
        self.nodes = _Cut(n0, n1, len(new.nodes))
        self.tensors, self.between = _Cut(values, v1, len(new.values)), slice(first, v0)
        self.same_head = self.head == old.values[:first] and self.touched.isdisjoint(self.head)
        new.steps, new.nodes = self.steps, new.nodes + old.nodes[n1:]
        new.constants += [place + part.now - part.was for place in old.constants if place >= part.was]
        new.number(old.values[v1:])
        made = new.numbers.keys() >= {*graph.outputs}
        if not new.ordered or not made or len(new.numbers) < len(new.values):
            return None
        new.graphs = [{"scope": "", "inputs": [new.numbers[value] for value in self.inputs],
                       "outputs": [new.numbers[value] for value in graph.outputs]}]  # fmt: skip
        return walked

    def follow(self) -> None:
        """Tells the builder which node and which tensor each was before."""
        old, nodes, tensors = self.old, self.nodes, self.tensors
        within = {node: place for place, node in enumerate(old.nodes[nodes.start : nodes.was], nodes.start)}
        numbers = np.arange(len(old.values), dtype=np.int32)

        def before(values: list[ir.Value]) -> np.ndarray:
            return np.array([old.numbers.get(value, -1) for value in values], np.int32)

        head = numbers[: self.between.start] if self.same_head else before(self.head)
        walked = before(self.new.values[tensors.start : tensors.now])
        self.new.follows(
            old,
            nodes.join(np.arange(len(old.nodes)), [within.get(node, -1) for node in self._nodes]),
            np.concatenate([head, numbers[self.between], walked, numbers[tensors.was :]]),
        )

    @property
    def _nodes(self) -> list[ir.Node]:
        """Those of the part."""
        return self.new.nodes[self.nodes.start : self.nodes.now]

    def header(self) -> dict[str, Any]:
        """With the names of before where they can be taken over."""
        nodes, tensors, new = self.nodes, self.tensors, self.new
        names, values = self.earlier.header["nodes"], self.earlier.header["tensors"]
        head = values[: self.between.start] if self.same_head else [value.name or "" for value in self.head]
        walked = [value.name or "" for value in new.values[tensors.start : tensors.now]]
        return new.header(
            [*names[: nodes.start], *(node.name or "" for node in self._nodes), *names[nodes.was :]],
            [*head, *values[self.between], *walked, *values[tensors.was :]],
        )


def _between(was: list[ir.Node], now: list[ir.Node], touched: set[Any]) -> _Cut:
    """The nodes from the first to the last that is new, gone, moved or touched."""
    least = min(len(was), len(now))
    pairs = enumerate(zip(was, now, strict=False))
    start = next((place for place, (a, b) in pairs if a is not b or a in touched), least)
    pairs = enumerate(zip(reversed(was), reversed(now), strict=False))
    end = next((place for place, (a, b) in pairs if a is not b or a in touched), least)
    end = min(end, least - start)
    return _Cut(start, len(was) - end, len(now) - end)


def _arrays(
    earlier: Columns,
    new: Builder,
    walked: dict[str, np.ndarray],
    nodes: _Cut,
    tensors: _Cut,
    kinds: list[int],
) -> dict[str, np.ndarray] | None:
    """All arrays, from those of what was walked; None where what is gone is still read."""
    old = earlier.builder
    assert old is not None
    at, now = new.before(old)[1], np.full(len(old.values) + 1, -1, np.int32)
    now[at[at >= 0]] = np.flatnonzero(at >= 0)  # the last: -1 stays -1
    arrays = {}
    for name, part in walked.items():
        was = earlier.arrays.get(name, np.zeros(len(old.nodes), part.dtype))
        if name.startswith("tensor"):
            arrays[name] = was[at]
            arrays[name][tensors.start : tensors.now] = part
        elif name.endswith("start"):
            lengths = nodes.join(np.diff(was), np.diff(part))
            arrays[name] = np.append(0, lengths).cumsum(dtype=np.int32)
        elif name in ("node.in", "node.out"):
            ends = earlier.arrays[f"{name}.start"]
            cut = _Cut(ends[nodes.start], ends[nodes.was], 0)
            kept = cut.join(was, part[:0])
            if (now[kept[kept >= 0]] < 0).any():
                return None
            arrays[name] = cut.join(now[was], part)
        else:
            arrays[name] = nodes.join(was, part)
    head, producer = len(kinds), arrays["tensor.producer"]
    producer[tensors.now :][producer[tensors.now :] >= 0] += nodes.now - nodes.was
    producer[:head], arrays["tensor.graph"][:head], arrays["tensor.kind"][:head] = -1, 0, kinds
    added = np.flatnonzero(at[:head] < 0)
    facts = new.facts([new.values[index] for index in added])
    arrays["tensor.dtype"][added], arrays["tensor.shape"][added] = facts[:, 0], facts[:, 1]
    return arrays
