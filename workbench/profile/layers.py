"""From measured layers to the records of a profile: what each layer stands for and what work it does."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ..model import costs, shapes
from ..model.info import DTYPES
from .events import Shapes, Timed
from .graph import Graph, Op
from .join import EXACT, Origin, join
from .record import BLOCKS, Recording

_INT8 = {"int8", "uint8"}


def records(
    recording: Recording, proto: onnx.ModelProto, feed: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """One JSON-able record per executed layer, in order of execution.

    Keys: ``layer``, ``op_type``, ``nodes``, ``joined``, ``origins``, ``scope``, ``parent``, ``calls`` per
        run,
    ``inner_calls`` (of the layers in its own bodies), ``ms``, ``p95_ms``, ``noise`` (relative), ``macs``,
    ``bytes`` (None: not known), ``int8`` (products of 8-bit integers) and ``shapes`` (text).
    """
    original = Graph(proto)
    last = recording.stages[-1] if recording.stages else original
    origins = join([original, *recording.stages])
    notes = Notes(proto)
    work = _Work(original, proto, feed)
    times = Counter(layer.name for layer in recording.layers)
    inner = Counter(layer.parent for layer in recording.layers for _ in range(layer.calls))
    found = []
    for layer in recording.layers:
        op = _find(last, layer)
        origin = origins[op.body, op.name] if op else Origin((), recording.no_graph or _ABSENT)
        found.append(
            {
                "layer": layer.name if times[layer.name] == 1 else "/".join((*layer.parent, layer.name)),
                "op_type": layer.op_type,
                "nodes": list(origin.nodes),
                "joined": origin.how,
                "origins": notes.origins(origin.nodes),
                "scope": notes.scope(origin.nodes),
                "parent": "/".join(layer.parent),
                "inner_calls": inner[(*layer.parent, layer.name)],
                **_times(layer),
                **work.of(layer, op, last, origin),
            }
        )
    return found


_ABSENT = "the runtime's optimised graph has no node of this name"


def not_executed(layers: list[dict[str, Any]], proto: onnx.ModelProto) -> list[dict[str, str]]:
    """Original nodes that no executed layer stands for, each with the reason."""
    graph = Graph(proto)
    done = {name for layer in layers for name in layer["nodes"]}
    missing = []
    for op in graph.ops:
        if op.name in done:
            continue
        reason = "removed by the runtime's optimiser"
        if graph.constants.issuperset(op.outputs):
            reason = "constant: computed when the model was loaded"
        elif op.body:
            reason = f"in a body of {graph.bodies[op.body].owner!r}: "
            reason += "branch not taken, no iteration, or inlined or removed by the runtime"
        missing.append({"node": op.name, "op_type": op.op_type, "reason": reason})
    return missing


def spread(blocks: list[float], slow: int = 0) -> float:
    """Relative spread of block medians, (largest - smallest) / median; NaN if there is only one block.

    The `slow` slowest blocks are left out if there are at least four: a pause of the machine that hits one
    block.
    """
    middle = float(np.median(blocks))
    kept = sorted(blocks)[: len(blocks) - slow] if len(blocks) >= 4 else blocks
    return (max(kept) - min(kept)) / middle if len(blocks) > 1 and middle > 0 else float("nan")


def statistics(ms: Sequence[float] | np.ndarray) -> dict[str, float]:
    """``ms`` (median), ``p95_ms`` and ``noise`` (see `spread`) of the times of several runs."""
    blocks = [float(np.median(part)) for part in np.array_split(ms, min(BLOCKS, len(ms)))]
    return {
        "ms": float(np.median(ms)),
        "p95_ms": float(np.percentile(ms, 95)),
        "noise": spread(blocks, slow=1),
    }


def _times(layer: Timed) -> dict[str, Any]:
    return {"calls": layer.calls, **statistics(layer.ms)}


def _find(graph: Graph, layer: Timed) -> Op | None:
    named = graph.by_name.get(layer.name, [])
    owner = layer.parent[-1] if layer.parent else ""
    return next(
        (op for op in named if graph.bodies[op.body].owner == owner), named[0] if len(named) == 1 else None
    )


class _Work:
    """MACs and bytes of layers from the shapes that the runtime saw."""

    def __init__(self, original: Graph, proto: onnx.ModelProto, feed: Mapping[str, np.ndarray]):
        self._original, self._proto, self._feed = original, proto, feed
        self._known: Mapping[str, Any] | None = None

    def of(self, layer: Timed, op: Op | None, graph: Graph, origin: Origin) -> dict[str, Any]:
        calls = [self._call(layer, op, graph, *shapes) for shapes in layer.shapes] if op else []
        macs = _total([call[0] for call in calls])
        if macs is None or layer.op_type not in costs.COUNTED:
            macs = self._of_nodes(origin) if origin.how == EXACT and origin.nodes else macs
        last = calls[-1][2:] if calls else ([], [])
        return {
            "macs": macs,
            "bytes": _total([call[1] for call in calls]),
            "int8": bool(macs) and any(dtype in _INT8 for dtype, _ in last[0]),
            "shapes": f"{_text(last[0])} -> {_text(last[1])}" if calls else "",
        }

    def _call(self, layer: Timed, op: Op, graph: Graph, inputs: Shapes, outputs: Shapes) -> tuple:
        slots = _align(op, graph, inputs)
        attributes = {
            name: onnx.helper.get_attribute_value(a)
            for name, a in op.attributes.items()
            if a.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS, onnx.AttributeProto.STRING)
        }
        if slots is None:
            return None, None, inputs, outputs
        macs = costs.macs(
            layer.op_type, attributes, [shape for _, shape in slots], [shape for _, shape in outputs]
        )
        moved = costs.moved_bytes(
            [s if s[1] is not None else ("", ()) for s in slots], outputs, layer.op_type
        )
        return macs, moved, [s for s in slots if s[1] is not None], outputs

    def _of_nodes(self, origin: Origin) -> int | None:
        """Sum over the original nodes, from inferred shapes."""
        ops = [self._original.by_name[name][0] for name in origin.nodes]
        if not any(op.op_type in costs.COUNTED for op in ops):
            return 0
        if self._known is None:
            self._known = shapes.infer(self._proto, {name: array.shape for name, array in self._feed.items()})
        return _total([self._of_node(op) for op in ops])

    def _of_node(self, op: Op) -> int | None:
        attributes = {name: onnx.helper.get_attribute_value(a) for name, a in op.attributes.items()}
        return costs.macs(
            op.op_type, attributes, [self._shape(t) for t in op.slots], [self._shape(t) for t in op.outputs]
        )

    def _shape(self, tensor: tuple[int, str] | None) -> tuple | None:
        if tensor is None:
            return None
        if (weight := self._original.initializer(tensor)) is not None:
            return tuple(weight.dims)
        info = self._known.get(tensor[1]) if self._known and tensor[0] == 0 else None
        return info.shape if info else None


def _align(op: Op, graph: Graph, seen: Shapes) -> list[tuple[str, tuple[int, ...] | None]] | None:
    """(dtype, shape) by input position; the runtime does not list weights that it has repacked, the graph has
    these.

    None if the list does not fit; (``""``, None) stands for an input that is left out.
    """
    weights = [graph.initializer(t) if t else None for t in op.slots]
    missing = sum(t is not None for t in op.slots) - len(seen)
    if not 0 <= missing <= sum(w is not None for w in weights):
        return None
    slots: list[tuple[str, tuple[int, ...] | None]] = []
    left = list(seen)
    for tensor, weight in zip(op.slots, weights, strict=True):
        if tensor is None:
            slots.append(("", None))
        elif weight is not None and missing and (not left or left[0][1] != tuple(weight.dims)):
            slots.append((DTYPES.get(weight.data_type, ""), tuple(weight.dims)))
            missing -= 1
        elif left:
            slots.append(left.pop(0))
        else:
            return None
    return slots


def _total(counts: list[int | None]) -> int | None:
    return None if not counts or any(c is None for c in counts) else sum(c for c in counts if c is not None)


def _text(listed: Shapes) -> str:
    return ", ".join(f"{dtype}[{','.join(map(str, shape))}]" for dtype, shape in listed)


class Notes:
    """What node names and metadata tell of each original node: where it came from, in which module it was."""

    def __init__(self, proto: onnx.ModelProto):
        self._origins: dict[str, list[str]] = {}
        self._scopes: dict[str, tuple[str, ...]] = {}
        self._read(proto.graph)

    def _read(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            notes = {p.key: p.value for p in node.metadata_props}
            if listed := notes.get("workbench.origins"):
                self._origins[node.name] = json.loads(listed)
            self._scopes[node.name] = _scope(node.name, notes)
            for a in node.attribute:
                if a.type == onnx.AttributeProto.GRAPH:
                    self._read(a.g)

    def origins(self, nodes: tuple[str, ...]) -> list[str]:
        """The nodes of the very first model that these stand for."""
        return list(dict.fromkeys(origin for name in nodes for origin in self._origins.get(name, [name])))

    def scope(self, nodes: tuple[str, ...]) -> str:
        """The scope that these nodes share (those without one aside), with ``/`` between its parts."""
        scopes = [scope for name in nodes if (scope := self._scopes.get(name))]
        shared: list[str] = []
        for parts in zip(*scopes, strict=False):
            if len(set(parts)) > 1:
                break
            shared.append(parts[0])
        return "/".join(shared)


def _scope(name: str, notes: Mapping[str, str]) -> tuple[str, ...]:
    """PyTorch's exporter notes the modules; TensorFlow's and older PyTorch's write them into the name."""
    if listed := notes.get("pkg.torch.onnx.name_scopes"):
        scopes = [s for s in ast.literal_eval(listed)[:-1] if s]
        return tuple(scopes[-1].split(".")) if scopes else ()
    if "namespace" in notes:
        parts = [part.split(":")[0].strip() for part in notes["namespace"].split("/")][:-1]
        return tuple(part.rsplit(".", 1)[-1] for part in parts if part)
    return tuple(part for part in name.split("/")[:-1] if part)
