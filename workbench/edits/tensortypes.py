"""Types of tensors as onnx writes them: made, compared, brought into one form."""

from __future__ import annotations

from functools import lru_cache

import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model.info import DTYPES, from_type


def of_tensor(tensor: ir.TensorProtocol) -> onnx.TypeProto:
    """The type of a weight."""
    return _tensor_type(tensor.dtype.value, tuple(tensor.shape.numpy()))


@lru_cache(maxsize=4096)
def _tensor_type(dtype: int, shape: tuple[int, ...]) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(dtype, shape)


def make(dtype: str, shape: tuple[int | str | None, ...] | None) -> onnx.TypeProto:
    """A tensor type; EditError when there is no such dtype or dim."""
    number = next((number for number, name in DTYPES.items() if name == dtype), None)
    if number is None:
        raise EditError(
            f"got the dtype {dtype!r}, expected one of {', '.join(DTYPES.values())}; give one of these"
        )
    for dim in shape or ():
        if not (dim is None or isinstance(dim, str) or (type(dim) is int and dim >= 0)):
            raise EditError(
                f"got the dim {dim!r} in the shape {shape}, expected an int from 0, a name, or None for unknown"
            )
    return onnx.helper.make_tensor_type_proto(number, shape)


def declared(value: ir.Value) -> onnx.TypeProto | None:
    """The type that the graph states for a value."""
    if value.type is None:
        return None
    return ir.to_proto(value).type


def stated(kind: onnx.TypeProto | None) -> tuple[ir.TypeProtocol | None, ir.Shape | None]:
    """A type as a graph states it of a value; the shape is shared and cannot be changed."""
    return _stated(kind.SerializeToString()) if kind is not None else (None, None)


@lru_cache(maxsize=1 << 14)
def _stated(encoded: bytes) -> tuple[ir.TypeProtocol | None, ir.Shape | None]:
    kind = onnx.TypeProto.FromString(encoded)
    shape = ir.serde.deserialize_type_proto_for_shape(kind)
    if shape is not None:
        shape.freeze()
    return ir.serde.deserialize_type_proto_for_type(kind), shape


def typed_value(name: str | None, kind: onnx.TypeProto) -> ir.Value:
    """A new value of a type."""
    of_it, shape = stated(kind)
    return ir.Value(name=name, type=of_it, shape=shape)


def canonical(kind: onnx.TypeProto) -> onnx.TypeProto:
    """A type without the symbols that onnx's inference makes up (``unk__0``); the same object for equal types, so
    that thousands of them take little and are compared at once."""
    return _canonical(kind.SerializeToString())


@lru_cache(maxsize=1 << 16)
def _canonical(encoded: bytes) -> onnx.TypeProto:
    kind = onnx.TypeProto.FromString(encoded)
    if kind.HasField("tensor_type"):
        for dim in kind.tensor_type.shape.dim:
            if dim.dim_param.startswith("unk__"):
                dim.ClearField("value")
    again = kind.SerializeToString()
    return kind if again == encoded else _canonical(again)


def refined(new: onnx.TypeProto, old: onnx.TypeProto) -> onnx.TypeProto:
    """A type with the dims that were known before where nothing new is known; for unchanged inputs only."""
    (dtype, shape), (old_dtype, old_shape) = from_type(new), from_type(old)
    if dtype != old_dtype or old_shape is None or not new.HasField("tensor_type"):
        return new
    if shape is None:
        return old
    if len(shape) != len(old_shape) or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(shape, old_shape, strict=True)
    ):
        return new
    dims = [
        a if isinstance(a, int) else b if b is not None else a for a, b in zip(shape, old_shape, strict=True)
    ]
    return onnx.helper.make_tensor_type_proto(new.tensor_type.elem_type, dims)


def sized(kind: onnx.TypeProto) -> onnx.TypeProto:
    """A tensor type with a size where a dim is not known: another one for each place from the end."""
    found = onnx.TypeProto()
    found.CopyFrom(kind)
    for place, dim in enumerate(reversed(found.tensor_type.shape.dim)):
        if not dim.HasField("dim_value"):
            dim.dim_value = 4096 + 64 * place
    return found


def has_rank(kind: onnx.TypeProto | None) -> bool:
    """Whether at least the rank is known, or it is no tensor."""
    return kind is not None and (not kind.HasField("tensor_type") or kind.tensor_type.HasField("shape"))


def without_shape(kind: onnx.TypeProto) -> onnx.TypeProto:
    """A tensor type of the same dtype and unknown rank."""
    found = onnx.TypeProto()
    found.tensor_type.elem_type = kind.tensor_type.elem_type
    return found


def same(one: onnx.TypeProto | None, two: onnx.TypeProto | None) -> bool:
    """Whether two types say the same."""
    if one is two or one is None or two is None:
        return one is two
    return _same(one.SerializeToString(), two.SerializeToString())


@lru_cache(maxsize=1 << 14)
def _same(one: bytes, two: bytes) -> bool:
    return one == two or from_type(onnx.TypeProto.FromString(one)) == from_type(
        onnx.TypeProto.FromString(two)
    )
