"""Types and shapes of tensors, in the words that the rest of Workbench uses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

Shape = tuple["int | str | None", ...]


def _names() -> dict[int, str]:
    names = {}
    for value in onnx.TensorProto.DataType.values():
        if value == onnx.TensorProto.STRING:
            names[value] = "string"
        elif value != onnx.TensorProto.UNDEFINED:
            names[value] = onnx.helper.tensor_dtype_to_np_dtype(value).name
    return names


DTYPES: dict[int, str] = _names()
"""ONNX data type number -> name: numpy's (``float32``), or that of ml_dtypes (``bfloat16``, ``int4``), or
``string``."""

BITS: dict[str, int] = {
    name: onnx.helper.tensor_dtype_to_np_dtype(value).itemsize * 8
    for value, name in DTYPES.items()
    if name != "string"
}
BITS |= {
    "int4": 4,
    "uint4": 4,
    "float4_e2m1fn": 4,
    "int2": 2,
    "uint2": 2,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
}


def nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes that a tensor takes as ONNX stores it (types of less than 8 bits are packed; strings count 0)."""
    return -(-math.prod(shape) * BITS.get(dtype, 0) // 8)


@dataclass(frozen=True)
class TensorInfo:
    """Name, type and shape of one tensor.

    Attributes:
        name: as in the model.
        dtype: numpy's name (``float32``), that of ml_dtypes (``bfloat16``, ``float8_e4m3fn``, ``int4``),
            ``string``; ``''`` when unknown; ``sequence(...)`` or ``optional(...)`` for what is no tensor.
        shape: one entry per axis: an int, the name of a symbolic dim (or an expression of such names), or
            None when unknown; None instead of a tuple when even the rank is unknown.
    """

    name: str
    dtype: str
    shape: Shape | None

    @property
    def concrete(self) -> bool:
        """Whether every dim is a known int."""
        return self.shape is not None and all(isinstance(dim, int) for dim in self.shape)

    @property
    def bytes(self) -> int | None:
        """Size in bytes, None when the shape is not known."""
        return nbytes(self.dtype, self.shape) if self.concrete and self.dtype in BITS else None  # type: ignore[arg-type]

    def __str__(self) -> str:
        dims = "?" if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name}: {self.dtype or '?'}[{dims}]"


def from_value_info(info: onnx.ValueInfoProto) -> TensorInfo:
    """TensorInfo of an ONNX ``ValueInfoProto``."""
    dtype, shape = from_type(info.type)
    return TensorInfo(info.name, dtype, shape)


def _symbol(name: str) -> str | None:
    return name if name.strip("?") else None


def from_type(proto: onnx.TypeProto) -> tuple[str, Shape | None]:
    """(dtype, shape) of an ONNX ``TypeProto``; a negative dim, or one with the name ``?`` (as some exporters write),
    counts as unknown."""
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(proto, kind)
        shape = None
        if tensor.HasField("shape"):
            shape = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else _symbol(d.dim_param)
                for d in tensor.shape.dim
            )
        return DTYPES.get(tensor.elem_type, ""), shape
    if kind in ("sequence_type", "optional_type"):
        return f"{kind.removesuffix('_type')}({from_type(getattr(proto, kind).elem_type)[0]})", None
    if kind == "map_type":
        return (
            f"map({DTYPES.get(proto.map_type.key_type, '')}, {from_type(proto.map_type.value_type)[0]})",
            None,
        )
    return "", None
