"""A model as compact columns for the graph widget.

The packed form is a little-endian ``uint32`` (length of the header), the header (JSON, padded with spaces to a
multiple of 8 bytes together with those four), then the columns one after the other, each padded to 8 bytes.
``header["columns"]`` maps a column's name to ``[dtype, offset after the header, elements]``.

Tensors are hyperedges: one producer, any number of consumers. Constant nodes are folded into the nodes that
read them, as weights. Bodies of If, Loop and Scan nodes and model-local functions are graphs of their own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from ..edits.changes import changed
from ..model import Model, TensorInfo
from ..model.collection import paused
from ..model.scopes import within
from .blocks import blocks
from .build import Builder, Table, shape_text
from .carry import carry
from .splice import splice

VERSION = 1


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
        builder: what made them of a model; not packed.

    ``header["rough"]`` says that an edit changed costs which only inferring the whole model again can tell.
    """

    header: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    builder: Builder | None = field(default=None, repr=False, compare=False)

    @property
    def values(self) -> list[ir.Value]:
        """Of each tensor, the ``onnx_ir.Value``; empty for unpacked columns."""
        return self.builder.values if self.builder is not None else []

    def key(self, tensor: int) -> str:
        """Of a tensor, as in ``Model.tensors``."""
        home = self.header["graphs"][self.arrays["tensor.graph"][tensor]]
        return within(home["scope"], self.header["tensors"][tensor])

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


def columns(model: Model, *, infer: bool = True, earlier: Columns | None = None) -> Columns:
    """The model as columns.

    Args:
        model: what to show.
        infer: infer shapes, and count MACs and bytes (0.1 s per thousand nodes); else only what the file
            declares, at once.
        earlier: columns of the model that this one was edited from (or undone to): numbers and strings of what did
            not change stay, and what was inferred for it; ``infer`` is then of no effect.
    """
    same = changed(earlier.builder.model, model) if earlier is not None and earlier.builder else None
    if same is None or earlier is None:
        with paused():
            made = _made(Builder(model).walk())
        return inferred(model, made) if infer else made
    with paused():
        touched, types, renamed = same
        parts = splice(earlier, model, touched | renamed)
        if parts is None:
            made = _made(Builder(model, earlier.builder).walk())
        else:
            builder, header, arrays = parts
            made = Columns({"version": VERSION, "rough": False} | header, arrays, builder)
    if "node.macs" in earlier.arrays:
        carry(earlier, made, touched, types)
    return made


def _made(builder: Builder) -> Columns:
    arrays = builder.arrays()  # which fills the tables of the header
    header = {"version": VERSION, "rough": False} | builder.header(*builder.names())
    if builder.first:
        blocks(header, arrays)
        builder.lend(header["scopes"], arrays["node.scope"])
    return Columns(header, arrays, builder)


Made = TypeVar("Made", bound=Columns)


def inferred(model: Model, made: Made) -> Made:
    """The columns of a model with all shapes, MACs and bytes."""
    found = shapes(model, made)
    header = {**made.header, **found.header, "rough": False}
    return replace(made, header=header, arrays={**made.arrays, **found.arrays})


def shapes(model: Model, made: Columns) -> Columns:
    """Inferred ``dtypes``, ``shapes``, ``tensor.dtype``, ``tensor.shape``, ``node.macs`` and ``node.bytes``
    for the columns of the same model."""
    walk, _ = model.walk()
    if made.builder:
        dtypes, dims = made.builder.dtypes, made.builder.dims
    else:
        dtypes, dims = Table(*made.header["dtypes"]), Table(*made.header["shapes"])
    dtype, shape = made.arrays["tensor.dtype"], made.arrays["tensor.shape"]
    old_dtypes, old_shapes = made.header["dtypes"], made.header["shapes"]
    known = Walked(model, walk.tensors)
    pairs = []
    for index in range(len(dtype)):
        info = known.get(made.key(index))
        pairs.append(
            (dtypes(info.dtype), dims(shape_text(info.shape)))
            if info and (info.dtype or info.shape is not None)
            else (dtypes(old_dtypes[dtype[index]]), dims(old_shapes[shape[index]]))
        )
    table = np.array(pairs, np.int32).reshape(-1, 2)
    costs = [walk.nodes.get(name) for name in made.header["nodes"]]
    number = lambda value: np.nan if value is None else float(value)  # noqa: E731
    return Columns(
        {"dtypes": list(dtypes.rows), "shapes": list(dims.rows)},
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
