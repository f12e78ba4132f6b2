"""Which node and tensor of one model is which of another: by origin, then by structure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import onnx_ir as ir

from ..model.info import DTYPES
from ..model.weights import FileTensor, same_data

SMALL = 64  # elements of a weight that may be the same in many layers
SAMPLED = 1 << 12  # bytes at the start, in the middle and at the end of a weight that tell it from others


@dataclass(eq=False)
class Node:
    name: str
    op_type: str
    scope: str
    group: str
    origins: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(eq=False)
class Side:
    """One model as plain data, so that the other can be read from the same graph."""

    nodes: dict[str, Node] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    weights: dict[str, ir.TensorProtocol] = field(default_factory=dict)
    ports: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @cached_property
    def makers(self) -> dict[str, Node]:
        """Tensor -> the node that makes it."""
        return {key: node for node in self.nodes.values() for key in node.outputs if key}


class Weight:
    """A tensor that is equal to another one of the same type and bytes."""

    def __init__(self, tensor: ir.TensorProtocol):
        self.tensor = tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weight) and same_data(self.tensor, other.tensor)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return describe(self.tensor)


def describe(tensor: ir.TensorProtocol) -> str:
    dims = ", ".join(map(str, tensor.shape.numpy()))
    values = (
        f" = {tensor.numpy().tolist()}" if tensor.size <= 8 and tensor.dtype != ir.DataType.STRING else ""
    )
    return f"{DTYPES[tensor.dtype.value]}[{dims}]{values}"


def sample(tensor: ir.TensorProtocol) -> str:
    """A weight's type and a hash of some of its bytes, so that large ones are not read."""
    raw: Any = tensor.file.view(tensor.offset, tensor.length) if isinstance(tensor, FileTensor) else None
    if raw is None:
        raw = (
            b"".join(tensor.numpy().ravel().tolist())
            if tensor.dtype == ir.DataType.STRING
            else tensor.tobytes()
        )
    middle = len(raw) // 2
    taken = (raw[:SAMPLED], raw[middle : middle + SAMPLED], raw[-SAMPLED:])
    return (
        f"{describe(tensor)} {hashlib.sha1(b''.join(map(bytes, taken)), usedforsecurity=False).hexdigest()}"
    )


class Matching:
    """Which node and tensor of the one model is which of the other."""

    def __init__(self, one: Side, two: Side):
        self.one, self.two = one, two
        self._samples: dict[int, str] = {}
        self._forget()
        self._by_origin(noted=True)
        self._inputs(weights=False)
        self._like("content")
        mislead = self._names_mislead()
        if not mislead:
            self._forget()
        self._by_origin(noted=False)
        self._inputs(weights=not mislead)
        for like in ("content", "attributes", "operator"):
            self._like(like)
        self._between()
        self._forward("operator")
        self._merged()
        self._tensors_by_use()
        self._inputs(weights=True)
        holders = {node.scope for node in two.nodes.values() if "." in node.scope}
        renamed = {other: mine for mine, other in self.nodes.items() if mine != other} if holders else {}
        self._holders = {o: mine for o, mine in renamed.items() if any(f"{o}." in scope for scope in holders)}

    def _pair_tensors(self, mine: str, other: str) -> None:
        if mine and other and mine not in self.tensors and other not in self._back:
            self.tensors[mine] = other
            self._back[other] = mine

    def _pair(self, mine: Node, other: Node) -> None:
        self.nodes[mine.name] = other.name
        self._taken.add(other.name)
        for a, b in zip(mine.outputs, other.outputs, strict=False):
            self._pair_tensors(a, b)

    def _forget(self) -> None:
        self.nodes: dict[str, str] = {}
        self.tensors: dict[str, str] = {}
        self._back: dict[str, str] = {}
        self._taken: set[str] = set()

    def _like(self, like: str) -> None:
        self._forward(like)
        self._backward(like)

    def _by_origin(self, *, noted: bool) -> None:
        """Match nodes of the same origin: only where one is written down, or wherever names are the same too."""
        known: dict[tuple[str, ...], list[Node]] = {}
        for node in self.two.nodes.values():
            known.setdefault(node.origins, []).append(node)
        for node in self.one.nodes.values():
            found = [other for other in known.get(node.origins, ()) if other.name not in self._taken]
            if node.name in self.nodes or not found:
                continue
            best = next((other for other in found if other.name == node.name), found[0])
            if not noted or node.origins != (node.name,) or best.origins != (best.name,):
                self._pair(node, best)

    def _merged(self) -> None:
        """Match a node that was made of several with the only one of these that has its operator (a Conv that took in
        what followed it). Their outputs are not the same tensors."""
        mine = {node.origins[0]: node for node in self.one.nodes.values() if len(node.origins) == 1}
        for node in self.two.nodes.values():
            if len(node.origins) < 2 or node.name in self._taken:
                continue
            found = [mine[name] for name in node.origins if name in mine and mine[name].op_type == node.op_type]
            if len(found) == 1 and found[0].name not in self.nodes:
                self.nodes[found[0].name] = node.name
                self._taken.add(node.name)

    def _inputs(self, *, weights: bool) -> None:
        """Match the tensors that no node makes by their origins, with or without the weights."""
        theirs = {origin: key for key, origin in self.two.tensors.items() if key not in self.two.makers}
        for key, origin in self.one.tensors.items():
            if key not in self.one.makers and (weights or key not in self.one.weights):
                self._pair_tensors(key, theirs.get(origin, ""))

    def _names_mislead(self) -> bool:
        """Whether nodes whose weights are those of a node of another name have a namesake with other weights."""
        for mine, other in self.nodes.items():
            node, namesake = self.one.nodes[mine], self.two.nodes.get(mine)
            if mine == other or namesake is None or node.origins != (mine,):
                continue
            weights = [self.one.weights[key] for key in node.inputs if key in self.one.weights]
            if any(tensor.size > SMALL for tensor in weights) and not self._alike(node, namesake, "content"):
                return True
        return False

    def _signature(self, side: Side, node: Node, like: str, mapped: Callable[[str], str]) -> tuple[Any, ...]:
        """What a node computes from what, for nodes whose inputs are matched."""
        weights = side.weights
        reads = (self._weight(weights[k], like) if k in weights else mapped(k) for k in node.inputs)
        return (*self._kind(node, like), *reads)

    def _kind(self, node: Node, like: str) -> tuple[Any, ...]:
        if like == "operator":
            return (node.op_type, len(node.outputs))
        shown = [
            (key, self._weight(value.tensor, like) if isinstance(value, Weight) else str(value))
            for key, value in node.attributes.items()
        ]
        return (node.op_type, len(node.outputs), *sorted(shown))

    def _weight(self, tensor: ir.TensorProtocol, like: str) -> str:
        if like != "content":
            return describe(tensor)
        if id(tensor) not in self._samples:
            self._samples[id(tensor)] = sample(tensor)
        return self._samples[id(tensor)]

    def _forward(self, like: str) -> None:
        """Match what is left, from the inputs on: nodes that are alike and read the same tensors. Of several, the one
        of the same name, else the first."""
        waiting: dict[tuple[Any, ...], list[Node]] = {}
        for node in self.two.nodes.values():
            if node.name not in self._taken:
                key = self._signature(self.two, node, like, lambda key: key)
                waiting.setdefault(key, []).append(node)
        for node in self.one.nodes.values():
            if node.name in self.nodes:
                continue
            found = waiting.get(self._signature(self.one, node, like, lambda k: self.tensors.get(k, f"?{k}")))
            if found:
                names = [other.name for other in found]
                free = next((i for i, name in enumerate(names) if name not in self.one.nodes), 0)
                self._pair(node, found.pop(names.index(node.name) if node.name in names else free))

    def _backward(self, like: str) -> None:
        """Match what is left, from the outputs back: nodes that are alike and make what matched nodes read."""
        todo = [pair for mine, other in self.nodes.items() for pair in self._reads(mine, other)]
        mine_out, other_out = (list(side.ports["output"]) for side in (self.one, self.two))
        for index, a in enumerate(mine_out):
            same_place = other_out[index] if len(mine_out) == len(other_out) else ""
            todo.append((a, self.tensors.get(a, a if a in other_out else same_place)))
        while todo:
            a, b = todo.pop()
            mine, other = self.one.makers.get(a), self.two.makers.get(b)
            if mine is None or other is None or mine.name in self.nodes or other.name in self._taken:
                continue
            if mine.outputs.index(a) == other.outputs.index(b) and self._alike(mine, other, like):
                self._pair(mine, other)
                todo += self._reads(mine.name, other.name)

    def _alike(self, mine: Node, other: Node, like: str) -> bool:
        if len(mine.inputs) != len(other.inputs) or self._kind(mine, like) != self._kind(other, like):
            return False
        here, there = (
            [self._weight(side.weights[key], like) if key in side.weights else "" for key in node.inputs]
            for side, node in ((self.one, mine), (self.two, other))
        )
        return here == there

    def _between(self) -> None:
        """Match what is left where another operator stands in the same place: it reads what the old one read, and
        matched nodes read what it makes."""
        for mine, other in list(self.nodes.items()):
            for a, b in self._reads(mine, other):
                one, two = self.one.makers.get(a), self.two.makers.get(b)
                if one is None or two is None or one.name in self.nodes or two.name in self._taken:
                    continue
                known = [key for key in one.inputs if key and key not in self.one.weights]
                if known and all(self.tensors.get(key) in two.inputs for key in known):
                    self._pair(one, two)

    def _reads(self, mine: str, other: str) -> list[tuple[str, str]]:
        """The tensors that two matched nodes read at the same place."""
        return list(zip(self.one.nodes[mine].inputs, self.two.nodes[other].inputs, strict=False))

    def _tensors_by_use(self) -> None:
        """Match inputs and weights that have other names by the nodes that read them."""
        for mine, other in self.nodes.items():
            for a, b in zip(self.one.nodes[mine].inputs, self.two.nodes[other].inputs, strict=False):
                if (a in self.one.weights) == (b in self.two.weights):
                    self._pair_tensors(a, b)
        for kind in ("input", "output"):
            for a, b in zip(self.one.ports[kind], self.two.ports[kind], strict=False):
                self._pair_tensors(a, b)
