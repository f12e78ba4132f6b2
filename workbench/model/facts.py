"""What shape inference knows of a tensor, as one object for all tensors of which it knows the same.

Facts are interned, so they are compared and hashed by identity: that makes inferring a node again a look-up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

if TYPE_CHECKING:
    from .nodewise import Signature

SMALL = 1024
"""Elements of a constant that shape inference may look at."""
_ELEMENTS = {ir.DataType.INT64: SMALL, ir.DataType.INT32: 64}
"""Integers whose values belong to what is known of a constant. No more for int32: shapes and axes are short, biases
are not, and each would be a fact of its own."""
_MOST = (
    1 << 17
)  # facts that are kept; a fact that is made anew is another one, which costs time and nothing else


class Term(NamedTuple):
    """The values of a computed tensor, by how onnx's data propagation comes to know them.

    Attributes:
        signature, inputs: the node that makes it, and what is known of what that reads.
        output: which output of the node.
        length: nodes that it is made of.
    """

    signature: Signature
    inputs: tuple[Fact | None, ...]
    output: int
    length: int


class Fact:
    """What is known of a tensor.

    Attributes:
        seen: its type as onnx's inference sees it, None when unknown; the symbols that onnx made up are numbered
            from 0 in each type, so that equal ones are equal.
        kind: the same without these symbols.
        data: its values: an encoded ``TensorProto`` of a constant (without the numbers where these decide about no
            shape), a ``Term``, None when nothing is known.
    """

    __slots__ = ("__dict__", "data", "kind", "seen")

    def __init__(self, seen: onnx.TypeProto | None, kind: onnx.TypeProto | None, data: bytes | Term | None):
        self.seen, self.kind, self.data = seen, kind, data

    @cached_property
    def stated(self) -> tuple[ir.TypeProtocol | None, ir.Shape | None]:
        """The type as a graph states it of a value; the shape is shared and cannot be changed."""
        if self.kind is None:
            return None, None
        shape = ir.serde.deserialize_type_proto_for_shape(self.kind)
        if shape is not None:
            shape.freeze()
        return ir.serde.deserialize_type_proto_for_type(self.kind), shape


_facts: dict[Any, Fact] = {}


def of_type(kind: onnx.TypeProto | None, data: bytes | Term | None = None) -> Fact:
    """The fact of a type."""
    return of_encoded(kind.SerializeToString() if kind is not None else b"", data)


def of_encoded(encoded: bytes, data: bytes | Term | None = None) -> Fact:
    """The fact of an encoded type; no bytes: nothing is known."""
    found = _facts.get((encoded, data))
    if found is None:
        seen, kind = _seen(encoded), _kind(encoded)
        again = seen.SerializeToString() if seen is not None else b""
        found = _facts.get((again, data)) or Fact(seen, kind, data)
        if len(_facts) > _MOST:
            _facts.clear()
        _facts[again, data] = _facts[encoded, data] = found
    return found


@lru_cache(maxsize=1 << 14)
def _seen(encoded: bytes) -> onnx.TypeProto | None:
    kind = onnx.TypeProto.FromString(encoded)
    if not kind.WhichOneof("value"):
        return None
    names: dict[str, str] = {}
    for dim in _dims(kind):
        if dim.dim_param.startswith("unk__"):
            dim.dim_param = names.setdefault(dim.dim_param, f"unk__{len(names)}")
    return kind


@lru_cache(maxsize=1 << 14)
def _kind(encoded: bytes) -> onnx.TypeProto | None:
    kind = onnx.TypeProto.FromString(encoded)
    for dim in _dims(kind):
        if dim.dim_param.startswith("unk__"):
            dim.ClearField("value")
    again = kind.SerializeToString()
    return (kind if kind.WhichOneof("value") else None) if again == encoded else _kind(again)


def renumbered(kind: onnx.TypeProto, first: int) -> tuple[onnx.TypeProto, int]:
    """A copy of a type as it is seen, with its made-up symbols numbered from ``first``; the next free number."""
    made = onnx.TypeProto()
    made.CopyFrom(kind)
    after = first
    for dim in _dims(made):
        if dim.dim_param.startswith("unk__"):
            number = first + int(dim.dim_param.removeprefix("unk__"))
            dim.dim_param, after = f"unk__{number}", max(after, number + 1)
    return made, after


def _dims(kind: onnx.TypeProto) -> list[Any]:
    """The dims of a tensor type, or of what a sequence or an optional holds."""
    case = kind.WhichOneof("value")
    if case in ("tensor_type", "sparse_tensor_type"):
        return list(getattr(kind, case).shape.dim)
    return _dims(getattr(kind, case).elem_type) if case in ("sequence_type", "optional_type") else []


UNKNOWN = of_type(None)


def of_tensor(tensor: ir.TensorProtocol) -> Fact:
    """The fact of a constant."""
    dtype, shape = tensor.dtype, tensor.shape.numpy()
    if dtype not in _ELEMENTS:
        return of_encoded(*_constant(dtype.value, shape))
    data = values_of(tensor) if math.prod(shape) <= _ELEMENTS[dtype] else None
    return of_encoded(_encoded_type(dtype.value, shape), data)


def values_of(tensor: ir.TensorProtocol) -> bytes:
    """The values of a constant, as a fact keeps them."""
    return onnx.numpy_helper.from_array(np.asarray(tensor.numpy())).SerializeToString()


@lru_cache(maxsize=1 << 14)
def _encoded_type(dtype: int, shape: tuple[int, ...]) -> bytes:
    encoded: bytes = onnx.helper.make_tensor_type_proto(dtype, shape).SerializeToString()
    return encoded


@lru_cache(maxsize=1 << 14)
def _constant(dtype: int, shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    return _encoded_type(dtype, shape), absent(dtype, shape).SerializeToString()


def absent(dtype: int, shape: Iterable[int]) -> onnx.TensorProto:
    """A constant without its numbers."""
    return onnx.TensorProto(data_type=dtype, dims=shape, data_location=onnx.TensorProto.EXTERNAL)


def may_be_shape(fact: Fact) -> bool:
    """Whether onnx's data propagation knows something of the values: of a short vector at least how many there are."""
    kind = fact.kind.tensor_type if fact.kind is not None else None
    if kind is None or kind.elem_type not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
        return False
    dims = kind.shape.dim
    return fact.data is not None or (
        len(dims) == 1 and dims[0].HasField("dim_value") and dims[0].dim_value <= 64
    )
