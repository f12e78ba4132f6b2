"""Which ONNX nodes does each layer of an engine stand for?

TensorRT tells it in two ways: in ``Metadata`` (from 8.6, detailed verbosity: ``[ONNX Layer: name]``, several
with \\x1e, \\x1f or nothing between) and in the layer's name, which is made of the names of what was fused
(``A + B``, ``A || B``, ``PWN(A, B)``, ``{ForeignNode[A...B]}``, ``A_myl3_1``). With the ONNX model at hand,
names are checked against it, what lies between a layer's inputs and outputs is found by tensors, and
constants and nodes that disappeared are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from ..profile.graph import Graph, Op
from ..profile.graph import Tensor as Key
from ..profile.join import AFTER, BEFORE, EXACT
from .layers import Layer, Tensor
from .times import canonical

RANGE = "ends of a range"
"""Only the first and the last node of a layer are known: the model is not there, or the range is not in
it."""

_COPY = re.compile(r"^Reformatting CopyNode for (Input|Output) Tensor \d+ to (.+)$", re.S)
_FOREIGN = re.compile(r"^\{?ForeignNode\[(.+?)\.\.\.(.+?)\]\}?$", re.S)
_FUSED = re.compile(r"\s+(?:\+|\|\|)\s+|[\x1e\x1f]")
_UNNAMED = re.compile(r"\(Unnamed Layer\*\s*\d+\)|^ONNXTRT_|^__myl_")
_MYELIN = re.compile(r"_myl\d+_\d+$")
_HELPER = r"^(?:copied_)?(?:reshape|squeeze|unsqueeze|shuffle|cast|transpose)(?:_node)?"
_BESIDE = (
    (AFTER, re.compile(_HELPER + "_after_(.+)$", re.S)),
    (BEFORE, re.compile(_HELPER + "_before_(.+)$", re.S)),
)
_WEIGHT = re.compile(r"(?:^|[._/])(?:weight|bias|kernel|gamma|beta|running_mean|running_var)s?$", re.I)
_LIMIT = 4000  # nodes in one layer: a Myelin engine may be one layer for a whole transformer block or more


@dataclass(frozen=True)
class Origin:
    """What a layer stands for.

    Attributes:
        nodes: names of ONNX nodes, in the order of the model (of the name without it); empty if not joined.
        how: ``exact``, ``ends of a range``, ``inserted before`` / ``inserted after`` (moves data for these
            nodes), or why there are none.
        by: ``metadata``, ``name``, ``tensors`` or ``neighbour``: where that comes from.
        constants: weights that are part of its name.
    """

    nodes: tuple[str, ...]
    how: str
    by: str = ""
    constants: tuple[str, ...] = ()


class Names:
    """What names mean: those of an ONNX model, of a network as it was parsed, or guessed from how they
    look."""

    def __init__(self, model: onnx.ModelProto | None = None, network: Iterable[Mapping[str, Any]] = ()):
        self.graph = Graph(model) if model is not None else None
        self.order: dict[str, int] = {}
        self._through: dict[str, tuple[str, ...]] = {}  # network layer -> ONNX nodes
        for entry in network:
            if nodes := in_metadata(str(entry.get("metadata") or "")):
                self._through[str(entry.get("name"))] = tuple(nodes)
        self._constants: set[str] = set()
        self._same: dict[str, set[str]] = {}
        if self.graph:
            self.order = {op.name: index for index, op in enumerate(self.graph.ops)}
            self._constants = {name for _, name in self.graph.constants}

    def nodes(self, name: str) -> tuple[str, ...]:
        """The nodes that one name out of a layer's name or metadata stands for."""
        if self.graph:
            for given in (name, _MYELIN.sub("", name)):
                if given in self.order:
                    return (given,)
                if known := tuple(n for n in self._through.get(given, ()) if n in self.order):
                    return known
            unnamed = re.match(r"^node_of_(.+)$", name, re.S)  # what the parser calls a node without a name
            maker = self._maker(unnamed[1]) if unnamed else None
            return (maker,) if maker else ()
        if name in self._through:
            return self._through[name]
        bare = _MYELIN.sub("", name)
        if (
            not bare
            or _UNNAMED.search(bare)
            or _WEIGHT.search(bare)
            or any(p.match(bare) for _, p in _BESIDE)
        ):
            return ()
        return (bare,)

    def _maker(self, tensor: str) -> str | None:
        assert self.graph is not None
        found = self.graph.find(tensor, 0)
        op = self.graph.producer.get(found) if found else None
        return op.name if op else None

    def constant(self, name: str) -> bool:
        """Whether a part of a layer's name is a weight."""
        return name in self._constants if self.graph else bool(_WEIGHT.search(name))

    def sorted(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Each once; in the order of the model if that is known."""
        unique = list(dict.fromkeys(nodes))
        return tuple(sorted(unique, key=lambda name: self.order.get(name, -1)) if self.order else unique)

    def between(self, first: str, last: str) -> tuple[str, ...]:
        """The nodes on paths from `first` to `last`; () without a model, or when there is no path."""
        if not self.graph or first not in self.order or last not in self.order:
            return ()
        start, end = self.graph.by_name[first][0], self.graph.by_name[last][0]
        behind = {id(start): start}
        for op in self.graph.ops[self.order[first] :]:
            if any((maker := self.graph.producer.get(t)) and id(maker) in behind for t in op.reads):
                behind[id(op)] = op
        if id(end) not in behind:
            return ()
        before, todo = {id(end): end}, [end]
        while todo:
            for tensor in todo.pop().reads:
                maker = self.graph.producer.get(tensor)
                if maker and id(maker) in behind and id(maker) not in before:
                    before[id(maker)] = maker
                    todo.append(maker)
        return self.sorted(op.name for op in before.values())

    def know(self, layers: Iterable[Layer]) -> None:
        """Note which tensors are copies of each other, under names of TensorRT's own."""
        for layer in layers:
            if _COPY.match(layer.bare) and layer.inputs and layer.outputs:
                pair = self._same.get(layer.inputs[0].name, {layer.inputs[0].name})
                pair |= self._same.get(layer.outputs[0].name, {layer.outputs[0].name})
                self._same.update(dict.fromkeys(pair, pair))

    def tensor(self, name: str) -> Key | None:
        """The tensor of the model that a tensor of the engine is, or is a copy of."""
        assert self.graph is not None
        found = (self.graph.find(given, 0) for given in (name, *sorted(self._same.get(name, ()))))
        return next((key for key in found if key is not None), None)

    def region(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> tuple[str, ...]:
        """The nodes that make a layer's outputs from its inputs, by the names of tensors; () when one is not
        known."""
        if not self.graph:
            return ()
        starts, ends = [[self.tensor(t.name) for t in ports] for ports in (inputs, outputs)]
        known = {key for key in starts if key is not None}
        made = [key for key in ends if key is not None and key not in known]
        if not made or None in ends or None in starts:
            return ()
        ops, reached = self.graph.between(made, known, limit=_LIMIT)
        return self.sorted(op.name for op in ops) if ops and reached <= known else ()

    def ops(self) -> list[Op]:
        """All nodes of the model, those in bodies too."""
        return list(self.graph.ops) if self.graph else []


def in_metadata(text: str) -> list[str]:
    """Names of the nodes in ``[ONNX Layer: a]\\x1f[ONNX Layer: b]``; a name may hold brackets itself."""
    found = []
    for group in re.split(r"[\x1e\x1f]", text):
        for part in group.split("[ONNX Layer: ")[1:]:
            name = part[: part.rindex("]")] if "]" in part else part
            if name.strip():
                found.append(name.strip())
    return list(dict.fromkeys(found))


def parts(name: str) -> list[str]:
    """The names that a layer's name is made of."""
    found = []
    for part in _FUSED.split(name):
        part = part.strip()
        while (inner := re.match(r"^PWN\((.*)\)$", part, re.S)) is not None:
            part = inner[1]
        for piece in part.split(", ") if part != name or name.startswith("PWN(") else [part]:
            piece = piece.strip()
            while piece.startswith("PWN("):
                piece = piece[4:]
            if piece.count(")") > piece.count("("):
                piece = piece.rstrip(")")
            if piece:
                found.append(piece)
    return found


def origins(layers: Sequence[Layer], names: Names) -> dict[str, Origin]:
    """Layer name -> Origin. Layers that only move data get the nodes of the layer that they work for."""
    found: dict[str, Origin] = {}
    names.know(layers)
    own: dict[str, Layer] = {canonical(layer.written): layer for layer in layers}
    for layer in layers:
        if not _COPY.match(layer.bare):
            found[layer.name] = _origin(layer, names)
    for layer in layers:
        copy = _COPY.match(layer.bare)
        if copy:
            host = own.get(canonical(copy[2]))
            of_host = found.get(host.name) if host else None
            if of_host is None:
                of_host = _by_name(copy[2], names)
            how = BEFORE if copy[1] == "Input" else AFTER
            lost = Origin((), f"moves data for {copy[2][:160]!r}, which is not joined")
            found[layer.name] = Origin(of_host.nodes, how, "name") if of_host.nodes else lost
    _neighbours(layers, found)
    return found


def _origin(layer: Layer, names: Names) -> Origin:
    told = in_metadata(layer.metadata)
    by_name = _by_name(layer.bare, names)
    nodes = names.sorted(node for name in told for node in names.nodes(name))
    if nodes:
        region = names.region(layer.inputs, layer.outputs)
        full = region if set(nodes) <= set(region) and len(region) <= 3 * len(nodes) + 8 else nodes
        return Origin(names.sorted(full), EXACT, "metadata", by_name.constants)
    region = names.region(layer.inputs, layer.outputs)
    if by_name.nodes and by_name.how in (EXACT, RANGE):
        if region and set(by_name.nodes) <= set(region):
            return Origin(region, EXACT, "name", by_name.constants)
        return by_name
    if region:
        return Origin(region, EXACT, "tensors", by_name.constants)
    if by_name.nodes:
        return by_name
    if told:
        shown = ", ".join(map(repr, told[:3]))
        return Origin((), f"its metadata names {shown}, which the model does not have", "", by_name.constants)
    return by_name


def _by_name(name: str, names: Names) -> Origin:
    foreign = _FOREIGN.match(name)
    if foreign:
        ends = [node for end in foreign.groups() for node in names.nodes(end.strip())]
        inside = names.between(ends[0], ends[-1]) if len(ends) == 2 else ()
        if inside:
            return Origin(inside, EXACT, "name")
        if ends:
            return Origin(names.sorted(ends), RANGE, "name")
        return Origin((), "a range of layers whose ends are no nodes")
    nodes: list[str] = []
    constants: list[str] = []
    for part in parts(name):
        if names.constant(part):
            constants.append(part)
        nodes += names.nodes(part)
    if nodes:
        return Origin(names.sorted(nodes), EXACT, "name", tuple(constants))
    for how, pattern in _BESIDE:
        beside = pattern.match(name)
        if beside and (hosts := names.nodes(beside[1])):
            return Origin(names.sorted(hosts), how, "name")
    if constants:
        return Origin((), "a constant: no node of the model", "", tuple(constants))
    if name.startswith("__myl_") or _MYELIN.search(name):
        return Origin((), "a kernel of Myelin without metadata; its name holds no node")
    if _UNNAMED.search(name):
        return Origin((), "inserted by TensorRT under a name of its own")
    return Origin((), "no node of the model has a name that is in its name")


def _neighbours(layers: Sequence[Layer], found: dict[str, Origin]) -> None:
    """Layers that only reshape or copy, under names of TensorRT's own, go with the layer beside them."""
    makers: dict[str, list[Layer]] = {}
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        for tensor in layer.outputs:
            makers.setdefault(tensor.name, []).append(layer)
        for tensor in layer.inputs:
            readers.setdefault(tensor.name, []).append(layer)
    for layer in layers:
        if found[layer.name].nodes or not re.search(
            r"noop|reformat|shuffle|reshape|copy|cast", layer.type, re.I
        ):
            continue
        before = [m for t in layer.inputs[:1] for m in makers.get(t.name, ()) if found[m.name].nodes]
        after = [r for t in layer.outputs for r in readers.get(t.name, ()) if found[r.name].nodes]
        if before:
            found[layer.name] = Origin(found[before[0].name].nodes, AFTER, "neighbour")
        elif after:
            found[layer.name] = Origin(found[after[0].name].nodes, BEFORE, "neighbour")


def absent(names: Names, layers: Sequence[Layer], found: Mapping[str, Origin]) -> list[dict[str, str]]:
    """Nodes of the model that no layer stands for, each with the reason."""
    if names.graph is None:
        return []
    done = {name for origin in found.values() for name in origin.nodes}
    held: dict[str, str] = {constant: name for name, o in found.items() for constant in o.constants}
    rows = []
    for op in names.ops():
        if op.name in done:
            continue
        reason = "in the name, the metadata and between the tensors of no layer"
        if names.graph.constants.issuperset(op.outputs):
            user = next((held[n] for _, n in op.inputs if n in held), "")
            reason = (
                f"constant: folded into {user!r}" if user else "constant: computed when the engine was built"
            )
        elif op.op_type in ("QuantizeLinear", "DequantizeLinear"):
            reason = "absorbed by the layers around it, which read or write quantised data themselves"
        elif op.op_type in ("Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            reason = "no work left: the tensor is read as it lies in memory"
        elif op.body:
            reason = f"in a body of {names.graph.bodies[op.body].owner!r}"
        rows.append({"node": op.name, "op_type": op.op_type, "reason": reason})
    return rows
