"""From layers, times and origins to one record per layer of an engine: the rows of its tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..model import Model
from ..model.info import BITS, DTYPES, nbytes
from ..model.proto import skeleton
from ..model.walk import Walk
from ..profile.graph import Tensor as Key
from ..profile.join import AFTER, BEFORE
from ..profile.layers import Notes
from .layers import Layer, Tensor
from .mapping import Names, Origin, absent, origins
from .peaks import Gpu, judge
from .times import Joined, Time
from .work import COPIES, NOTHING, text, work

if TYPE_CHECKING:
    import pandas as pd

FIRST = (
    "op_type", "nodes", "ms", "share", "precision", "math", "macs", "bytes", "intensity", "bound", "gain_ms",
    "compute_eff", "memory_eff", "tops", "weight_bytes", "bytes_in", "bytes_out", "m", "n", "k", "groups", "formats_in",
    "formats_out", "tactic", "tensor_core", "layer_type", "stream", "joined", "timed", "above_peak", "p95_ms", "noise",
    "calls", "scope", "parent", "shapes", "origins", "constants", "mapped_by", "inputs", "outputs", "attributes",
)  # fmt: skip
_NUMBERS = (
    "ms", "share", "macs", "bytes", "weight_bytes", "bytes_in", "bytes_out", "m", "n", "k", "groups", "noise", "tops",
    "p95_ms", "intensity", "gain_ms", "compute_eff", "memory_eff",
)  # fmt: skip
UNKNOWN = "unknown"


class Records:
    """What is known of each layer of one optimisation profile.

    Attributes:
        rows: one per layer, in the order of the file; times without a layer behind them.
        not_executed: nodes of the model without a layer.
        costs: node -> NodeCost, for the shapes that the engine has; empty without a model.
    """

    def __init__(
        self,
        layers: list[Layer],
        times: Joined,
        model: Model | None,
        network: Iterable[Mapping[str, Any]],
        gpu: Gpu | None,
    ):
        proto = skeleton(model.ir) if model else None
        names = Names(proto, network)
        self._notes = Notes(proto) if proto is not None else None
        self.graph = names.graph
        self.walk = _walk(model, layers) if model else None
        self.costs = self.walk.nodes if self.walk else {}
        found = origins(layers, names)
        self.not_executed = absent(names, layers, found)
        self.op_types = {op.name: op.op_type for op in names.ops()}
        self.rows = [self._row(layer, found[layer.name], times) for layer in layers]
        taken = {layer.name for layer in layers}
        for time in times.left:
            name = _free(time.name, taken)
            ghost = Layer(name=name, written=time.name)
            origin = origins([ghost], names)[name]
            row = self._row(ghost, origin, Joined({name: time}, {name: "exact"}))
            reason = "the layer information has no layer of this name"
            self.rows.append({**row, "op_type": UNKNOWN, "joined": origin.how if origin.nodes else reason})
        total = sum(row["ms"] for row in self.rows if not math.isnan(row["ms"]))
        for row in self.rows:
            row |= gpu.judge(row) if gpu else judge(row)
            row["share"] = row["ms"] / total if total else math.nan
            row["tops"] = 2 * row["macs"] / row["ms"] / 1e9 if row["macs"] and row["ms"] > 0 else math.nan

    def _row(self, layer: Layer, origin: Origin, times: Joined) -> dict[str, Any]:
        does = work(layer)
        time = times.times.get(layer.name, Time(layer.name, math.nan))
        macs = does.macs
        if macs is None and origin.nodes and origin.how not in (BEFORE, AFTER):
            macs = _sum([self.costs[name].macs if name in self.costs else None for name in origin.nodes])
        notes = self._notes
        return {
            "layer": layer.name,
            "op_type": does.kind,
            "nodes": origin.nodes,
            "ms": time.ms,
            "precision": does.precision,
            "math": does.math,
            "macs": macs,
            "bytes": does.moved,
            "weight_bytes": does.weights,
            "bytes_in": does.bytes_in,
            "bytes_out": does.bytes_out,
            "m": does.m,
            "n": does.n,
            "k": does.k,
            "groups": does.groups,
            "formats_in": ", ".join(t.format for t in layer.inputs),
            "formats_out": ", ".join(t.format for t in layer.outputs),
            "tactic": layer.tactic or str(layer.attributes.get("TacticValue") or ""),
            "tensor_core": does.tensor_core,
            "layer_type": layer.type,
            "stream": layer.stream,
            "joined": origin.how,
            "timed": times.how.get(layer.name, ""),
            "p95_ms": time.p95_ms,
            "noise": time.noise,
            "calls": 1,
            "inner_calls": 0,
            "int8": does.math in ("INT8", "UINT8"),
            "scope": notes.scope(origin.nodes) if notes else shared_scope(origin.nodes),
            "parent": "",
            "shapes": f"{text(layer.inputs)} -> {text(layer.outputs)}"
            if layer.inputs or layer.outputs
            else "",
            "origins": tuple(notes.origins(origin.nodes)) if notes else origin.nodes,
            "constants": origin.constants,
            "mapped_by": origin.by,
            "inputs": tuple(t.name for t in layer.inputs),
            "outputs": tuple(t.name for t in layer.outputs),
            "attributes": dict(layer.attributes),
        }

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=["layer", *FIRST]).set_index("layer")
        return frame.astype(dict.fromkeys(_NUMBERS, "float64"))


def shared_scope(nodes: Iterable[str]) -> str:
    """The modules that names such as ``/layer1/conv1/Conv`` have in common."""
    scopes = [tuple(part for part in name.split("/")[:-1] if part) for name in nodes]
    shared: list[str] = []
    for together in zip(*(scope for scope in scopes if scope), strict=False):
        if len(set(together)) > 1:
            break
        shared.append(together[0])
    return "/".join(shared)


def _walk(model: Model, layers: list[Layer]) -> Walk:
    """Shapes and costs of the model for the shapes of the engine's inputs, as far as these are known."""
    read = {t.name: t for layer in layers for t in layer.inputs}
    given: dict[str, Any] = {}
    for info in model.inputs:
        tensor = read.get(info.name)
        known = tensor and tensor.shape and info.shape and len(tensor.shape) == len(info.shape)
        if known and tensor and all(dim >= 0 for dim in tensor.shape or ()):
            given[info.name] = tensor.shape
    return model.walk(given)[0]


def _sum(counts: list[int | None]) -> int | None:
    return None if not counts or None in counts else sum(count or 0 for count in counts)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def by_node(records: Records, gpu: Gpu | None) -> list[dict[str, Any]]:
    """One row per ONNX node: the layers that it went into and its part of their time.

    The time of a layer with several nodes is split by what each needs at least (see `_split`), or in equal
    parts where that is not known: an estimate either way.
    """
    rows = {name: _node(name, op_type) for name, op_type in records.op_types.items()}
    for record in records.rows:
        nodes = record["nodes"]
        weights, how = _split(nodes, record, records, gpu)
        for node, weight in zip(nodes, weights, strict=True):
            row = rows.setdefault(node, _node(node, ""))
            row["layers"] += (record["layer"],)
            if record["op_type"] not in COPIES and record["precision"] and not row["precision"]:
                row["precision"] = record["precision"]
            if not math.isnan(record["ms"]):
                row["ms"] = (0.0 if math.isnan(row["ms"]) else row["ms"]) + record["ms"] * weight
                row["estimate"] |= len(nodes) > 1 and record["op_type"] != NOTHING and record["ms"] > 0
                row["split"] = how if len(nodes) > 1 else row["split"]
    reasons = {row["node"]: row["reason"] for row in records.not_executed}
    return [{**row, "reason": reasons.get(name, "")} for name, row in rows.items()]


def _node(name: str, op_type: str) -> dict[str, Any]:
    return {
        "node": name, "op_type": op_type, "ms": math.nan, "estimate": False, "split": "", "precision": "", "layers": (),
    }  # fmt: skip


def _split(
    nodes: tuple[str, ...], record: Mapping[str, Any], records: Records, gpu: Gpu | None
) -> tuple[list[float], str]:
    """Parts of a layer's time, adding up to 1, and how they were found.

    A node needs the time of its MACs, or that of the bytes that it brings into the layer (what is passed on
    inside the layer never reaches memory), whichever is longer. What the layer writes counts for its
    products, if it has any.
    """
    equal = [1 / len(nodes)] * len(nodes) if nodes else [], "equal parts"
    if len(nodes) < 2 or records.graph is None or records.walk is None:
        return equal
    rate = gpu.rate(record["math"]) if gpu else math.nan
    rate = 1e14 if math.isnan(rate) else rate  # without peaks: 100 operations in the time of a byte
    bandwidth = gpu.bytes_per_s if gpu else 1e12
    ops = [op for name in nodes for op in records.graph.by_name.get(name, ())[:1]]
    macs = [records.costs[op.name].macs if op.name in records.costs else None for op in ops]
    made = {tensor for op in ops for tensor in op.outputs}
    inside = {id(op) for op in ops}
    needs = []
    for op, count in zip(ops, macs, strict=True):
        moved = [t for t in op.inputs if t not in made]
        if count or not any(macs):
            moved += [
                t
                for t in op.outputs
                if any(id(user) not in inside for user in records.graph.consumers.get(t, ()))
            ]
        sizes = [_bytes(records, tensor) for tensor in moved]
        if count is None or None in sizes:
            return equal
        needs.append(max(2 * count / rate, sum(size or 0 for size in sizes) / bandwidth))
    total = sum(needs)
    return ([need / total for need in needs], "MACs and bytes") if total and len(ops) == len(nodes) else equal


def _bytes(records: Records, tensor: Key) -> int | None:
    """Bytes of a tensor of the model."""
    assert records.graph is not None and records.walk is not None
    held = records.graph.initializer(tensor)
    if held is not None:
        return nbytes(DTYPES.get(held.data_type, ""), tuple(held.dims))
    info = records.walk.tensors.get(tensor[1]) if tensor[0] == 0 else None
    known = info is not None and info.shape is not None and all(isinstance(dim, int) for dim in info.shape)
    return nbytes(info.dtype, info.shape) if info and known and info.dtype in BITS else None  # type: ignore[arg-type]


def tensors(layers: Iterable[Layer], bindings: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row per tensor: what it is, who makes it (several layers may write parts of one) and who reads
    it."""
    rows: dict[str, dict[str, Any]] = {}

    def row(tensor: Tensor) -> dict[str, Any]:
        return rows.setdefault(
            tensor.name,
            {
                "tensor": tensor.name, "dtype": tensor.dtype, "layout": tensor.layout, "shape": tensor.shape,
                "bytes": tensor.nbytes, "producers": (), "consumers": (), "location": tensor.location,
                "written": tensor.written,
            },
        )  # fmt: skip

    for layer in layers:
        for tensor in layer.inputs:
            row(tensor)["consumers"] += (layer.name,)
        for tensor in layer.outputs:
            row(tensor)["producers"] += (layer.name,)
    for name, found in rows.items():
        made, used = bool(found["producers"]), bool(found["consumers"])
        found["kind"] = "activation"
        if not made:
            found["kind"] = "input" if not bindings or name in bindings else "constant"
        elif name in bindings or (not bindings and not used):
            found["kind"] = "output"
    return list(rows.values())
