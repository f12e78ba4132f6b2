"""A model as compact columns for the graph widget.

The packed form is a little-endian ``uint32`` (length of the header), the header (JSON, padded with spaces to a
multiple of 8 bytes together with those four), then the columns one after the other, each padded to 8 bytes.
``header["columns"]`` maps a column's name to ``[dtype, offset after the header, elements]``.

Tensors are hyperedges: one producer, any number of consumers. Constant nodes are folded into the nodes that
read them, as weights. Bodies of If, Loop and Scan nodes and model-local functions are graphs of their own.
"""

from __future__ import annotations

import ast
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from ..edits.notes import SCOPE
from ..model import Model, TensorInfo
from ..model.info import DTYPES
from ..model.scopes import scopes, within
from .origin import made_by

VERSION = 1
INPUT, WEIGHT, ACTIVATION = 0, 1, 2
"""Kinds of tensors: fed to its graph; a constant (initializer or Constant node); made by a node."""
LONGEST = 160
"""Characters of a node's attributes in the columns; the rest is fetched on demand."""


class Table:
    """Strings that are stored once and referred to by their number."""

    def __init__(self, *first: str):
        self.rows = list(first)
        self._at = {row: index for index, row in enumerate(first)}

    def __call__(self, row: str) -> int:
        index = self._at.setdefault(row, len(self.rows))
        if index == len(self.rows):
            self.rows.append(row)
        return index


@dataclass
class Columns:
    """A header that JSON can hold, and arrays.

    Attributes:
        header: ``name``; ``nodes``, ``tensors`` (names), ``ops`` (pairs of operator and domain), ``attributes``,
            ``shapes``, ``dtypes`` (tables of strings), ``scopes`` (pairs of parent and label), ``graphs``
            (``scope``, ``owner`` node or -1, ``kind``, ``inputs``, ``outputs``).
        arrays: per node ``node.op``, ``node.graph``, ``node.scope``, ``node.attributes``, ``node.in`` and
            ``node.out`` (tensors; -1 where one is left out) with ``node.in.start``, ``node.out.start``; per
            tensor ``tensor.kind``, ``tensor.producer``, ``tensor.graph``, ``tensor.dtype``, ``tensor.shape``;
            once known ``node.macs``, ``node.bytes`` (NaN: unknown); if fusions, plugins or edits made any of
            the nodes ``node.made``, a place in ``header["made"]``.
        keys: of each tensor, as in ``Model.tensors``; not packed.
        values: of each tensor, the ``onnx_ir.Value``; not packed.
    """

    header: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    values: list[ir.Value] = field(default_factory=list)

    def pack(self) -> bytes:
        """The packed form (see above)."""
        offset, columns, parts = 0, {}, []
        for name, array in self.arrays.items():
            data = np.ascontiguousarray(array).tobytes()
            columns[name] = [array.dtype.name, offset, array.size]
            parts.append(data + b"\0" * (-len(data) % 8))
            offset += len(parts[-1])
        head = json.dumps({**self.header, "columns": columns}, ensure_ascii=False, separators=(",", ":"))
        text = head.encode("utf-8", "replace")
        text += b" " * (-(len(text) + 4) % 8)
        return struct.pack("<I", len(text)) + text + b"".join(parts)


def unpack(data: bytes) -> Columns:
    """Columns from their packed form."""
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    arrays = {
        name: np.frombuffer(data, dtype, count, 4 + length + offset)
        for name, (dtype, offset, count) in header.pop("columns").items()
    }
    return Columns(header, arrays)


def columns(model: Model, *, infer: bool = True) -> Columns:
    """The model as columns.

    Args:
        model: what to show.
        infer: infer shapes, and count MACs and bytes (0.2 s per thousand nodes); else only what the file
            declares, at once.
    """
    made = _Builder(model).columns
    if infer:
        inferred = shapes(model, made)
        made.header |= inferred.header
        made.arrays |= inferred.arrays
    return made


def shapes(model: Model, made: Columns) -> Columns:
    """Inferred ``dtypes``, ``shapes``, ``tensor.dtype``, ``tensor.shape``, ``node.macs`` and ``node.bytes``
    for the columns of the same model."""
    walk, _ = model.walk()
    dtypes, dims = Table(""), Table("")
    dtype, shape = made.arrays["tensor.dtype"], made.arrays["tensor.shape"]
    old_dtypes, old_shapes = made.header["dtypes"], made.header["shapes"]
    known = Walked(model, walk.tensors)
    pairs = []
    for index, key in enumerate(made.keys):
        info = known.get(key)
        pairs.append(
            (dtypes(info.dtype), dims(shape_text(info.shape)))
            if info and (info.dtype or info.shape is not None)
            else (dtypes(old_dtypes[dtype[index]]), dims(old_shapes[shape[index]]))
        )
    table = np.array(pairs, np.int32).reshape(-1, 2)
    costs = [walk.nodes.get(name) for name in made.header["nodes"]]
    number = lambda value: np.nan if value is None else float(value)  # noqa: E731
    return Columns(
        {"dtypes": dtypes.rows, "shapes": dims.rows},
        {
            "tensor.dtype": table[:, 0],
            "tensor.shape": table[:, 1],
            "node.macs": np.array([number(cost and cost.macs) for cost in costs], np.float64),
            "node.bytes": np.array([number(cost and cost.bytes) for cost in costs], np.float64),
        },
    )


class Walked:
    """Inferred tensors, with the dims that the model leaves open as it writes them."""

    def __init__(self, model: Model, tensors: Mapping[str, TensorInfo]):
        self._tensors = tensors
        self._declared = {info.name: info for info in (*model.inputs, *model.outputs)}

    def get(self, key: str) -> TensorInfo | None:
        """What is known of a tensor; inputs and outputs as the model declares them, if it says more."""
        declared = self._declared.get(key)
        return declared if declared and declared.shape is not None else self._tensors.get(key)


def shape_text(shape: tuple[int | str | None, ...] | None) -> str:
    """``1×3×224×224``; ``?`` for an unknown dim, ``scalar`` for no dims, ``''`` when the rank is unknown."""
    if shape is None:
        return ""
    return "×".join("?" if dim is None else str(dim) for dim in shape) or "scalar"


class _Builder:
    """Goes through the graphs once. Tensors are numbered in the order in which they are met."""

    def __init__(self, model: Model):
        self.names: list[str] = []
        self.keys: list[str] = []
        self.values: list[ir.Value] = []
        self.kinds, self.producers, self.homes = [], [], []  # type: list[int], list[int], list[int]
        self.dtype, self.shape = [], []  # type: list[int], list[int]
        self.numbers: dict[int, int] = {}
        self.dtypes, self.dims, self.ops, self.attributes = Table(""), Table(""), Table(), Table("")
        made, makers = Table(""), []  # type: Table, list[int]
        self.tree, self.paths = [[-1, ""]], {(): 0}  # type: list[list[Any]], dict[tuple[str, ...], int]
        nodes: list[str] = []
        columns: list[tuple[int, int, int, int]] = []
        ins, outs, starts = [], [], [(0, 0)]  # type: list[int], list[int], list[tuple[int, int]]
        every = list(scopes(model.ir))
        graphs: list[dict[str, Any]] = []
        found: dict[str, int] = {}
        for home, (scope, graph) in enumerate(every):
            held = graph.initializers if isinstance(graph, ir.Graph) else {}
            for value in held.values():
                self.add(value, scope, home, WEIGHT)
            inputs = [self.add(value, scope, home, INPUT) for value in graph.inputs if value.name not in held]
            for node in graph:
                if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                    for value in node.outputs:
                        self.add(value, scope, home, WEIGHT)
                else:
                    found[node.name or ""] = index = len(nodes)
                    nodes.append(node.name or "")
                    makers.append(made(made_by(node)))
                    columns.append(
                        (self.ops(f"{node.op_type}\0{node.domain}"), home, self.scope(node), self.words(node))
                    )
                    for value in node.outputs:
                        number = self.add(value, scope, home, ACTIVATION, index) if value.name else -1
                        outs.append(number)
                    ins.extend(
                        -1 if v is None else self.add(v, scope, home, INPUT) for v in node.inputs
                    )  # a value met before it is made is moved to its producer when that comes
                    starts.append((len(ins), len(outs)))
            outputs = [self.add(value, scope, home, INPUT) for value in graph.outputs]
            graphs.append({"scope": scope, "inputs": inputs, "outputs": outputs})
        _own(graphs, every, found)
        table = np.array(columns, np.int32).reshape(-1, 4)
        offsets = np.array(starts, np.int32)
        self.columns = Columns(
            {
                "version": VERSION,
                "name": model.name,
                "nodes": nodes,
                "tensors": self.names,
                "ops": [op.split("\0") for op in self.ops.rows],
                "attributes": self.attributes.rows,
                "shapes": self.dims.rows,
                "dtypes": self.dtypes.rows,
                "scopes": self.tree,
                "graphs": graphs,
            },
            {
                "node.op": table[:, 0],
                "node.graph": table[:, 1],
                "node.scope": table[:, 2],
                "node.attributes": table[:, 3],
                "node.in.start": offsets[:, 0],
                "node.in": np.array(ins, np.int32),
                "node.out.start": offsets[:, 1],
                "node.out": np.array(outs, np.int32),
                "tensor.kind": np.array(self.kinds, np.uint8),
                "tensor.producer": np.array(self.producers, np.int32),
                "tensor.graph": np.array(self.homes, np.int32),
                "tensor.dtype": np.array(self.dtype, np.int32),
                "tensor.shape": np.array(self.shape, np.int32),
            },
            self.keys,
            self.values,
        )
        if len(made.rows) > 1:
            self.columns.header["made"] = made.rows
            self.columns.arrays["node.made"] = np.array(makers, np.int32)

    def add(self, value: ir.Value, scope: str, home: int, kind: int, producer: int = -1) -> int:
        """Number of a tensor; a tensor of an enclosing graph keeps the number that it has there."""
        number = self.numbers.get(id(value))
        if number is not None:
            if kind == ACTIVATION:
                self.kinds[number], self.producers[number], self.homes[number] = kind, producer, home
                self.keys[number] = within(scope, value.name or "")
            return number
        number = self.numbers[id(value)] = len(self.names)
        self.names.append(value.name or "")
        self.values.append(value)
        self.keys.append(within(scope, value.name or ""))
        self.kinds.append(kind)
        self.producers.append(producer)
        self.homes.append(home)
        dtype, shape = declared(value)
        self.dtype.append(self.dtypes(dtype))
        self.shape.append(self.dims(shape_text(shape)))
        return number

    def scope(self, node: ir.Node) -> int:
        """Number of the module that a node belongs to, from metadata or from its name."""
        path = module_path(node)
        known = self.paths.get(path)
        if known is not None:
            return known
        for depth in range(1, len(path) + 1):
            part = path[:depth]
            if part not in self.paths:
                self.paths[part] = len(self.tree)
                self.tree.append([self.paths[part[:-1]], part[-1]])
        return self.paths[path]

    def words(self, node: ir.Node) -> int:
        """Number of the text of a node's attributes."""
        if not node.attributes:
            return 0
        parts = [f"{a.name}={attribute_text(a)}" for a in node.attributes.values() if not _is_graph(a)]
        return self.attributes(" ".join(parts)[:LONGEST])


def _own(
    graphs: list[dict[str, Any]], every: list[tuple[str, ir.Graph | ir.Function]], nodes: dict[str, int]
) -> None:
    """Which node has which body."""
    holders = {
        id(body): (nodes.get(node.name or "", -1), attribute.name)
        for _, graph in every
        for node in graph
        for attribute in node.attributes.values()
        if not attribute.is_ref() and _is_graph(attribute)
        for body in ([attribute.value] if attribute.type == ir.AttributeType.GRAPH else list(attribute.value))
    }
    for row, (_, graph) in zip(graphs, every, strict=True):
        owner, label = holders.get(id(graph), (-1, ""))
        row["kind"] = "function" if isinstance(graph, ir.Function) else "body" if label else "main"
        row["owner"], row["label"] = owner, label or row["scope"]
        if isinstance(graph, ir.Function):
            row["op"] = [graph.name, graph.domain]


def _is_graph(attribute: ir.Attr) -> bool:
    return attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def held(value: ir.Value) -> ir.TensorProtocol | None:
    """The numbers of an initializer or of a Constant node."""
    if value.const_value is not None:
        return value.const_value
    producer = value.producer()
    if producer is None or producer.op_type != "Constant":
        return None
    attribute = next(iter(producer.attributes.values()), None)
    if attribute is None or attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.value
    kinds = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    if attribute.name in kinds:
        return ir.tensor(np.array(attribute.value, kinds[attribute.name]))
    return None


def declared(value: ir.Value) -> tuple[str, tuple[int | str | None, ...] | None]:
    """(dtype, shape) of a tensor as the file states them."""
    source: Any = value
    if value.shape is None:
        source = held(value) or value
    dtype = DTYPES.get(int(source.dtype), "") if source.dtype is not None else ""
    if source.shape is None:
        return dtype, None
    return dtype, tuple(dim if isinstance(dim, int) else dim.value for dim in source.shape)


def attribute_text(attribute: ir.Attr, longest: int = 80) -> str:
    """An attribute's value in a few characters."""
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        return f"{DTYPES.get(int(value.dtype), '')}[{shape_text(tuple(value.shape.numpy()))}]"
    if attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
        numbers = list(value) if attribute.type == ir.AttributeType.FLOATS else [value]
        words = ",".join(f"{number:.6g}" for number in numbers[:longest])
        return words if attribute.type == ir.AttributeType.FLOAT else f"[{words}]"
    if isinstance(value, list | tuple):
        value = "[" + ",".join(str(item) for item in value[:longest]) + "]"
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def module_path(node: ir.Node) -> tuple[str, ...]:
    """The modules that a node is in, outermost first.

    From ``workbench.scope`` (``m.set_scope``), from ``pkg.torch.onnx.name_scopes`` (what torch's exporter writes),
    from ``namespace``, or from a name like ``/layers.0/attention/MatMul``.
    """
    own = node.metadata_props.get(SCOPE)
    stated = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
    if own is None and stated.startswith("["):
        try:
            parts = [str(part) for part in ast.literal_eval(stated) if part]
        except (ValueError, SyntaxError):
            parts = []
        return tuple(parts[:-1])
    text = own or node.metadata_props.get("namespace") or (node.name or "").rpartition("/")[0]
    return tuple(part for part in text[:2000].split("/") if part)[:16]
