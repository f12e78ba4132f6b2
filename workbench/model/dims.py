"""Small steps on ONNX types: filling dims in, comparing, adding and removing axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from onnx import GraphProto, TypeProto

from .info import from_type

Dim = int | str | None


def evaluate(dim: Dim, symbols: Mapping[str, int]) -> Dim:
    """A dim with known symbols filled in; an expression (``2*seq + 1``) is computed when all of its symbols
    are known."""
    if not isinstance(dim, str) or not symbols:
        return dim
    if dim in symbols:
        return symbols[dim]
    if len(dim) > 200 or "**" in dim or not any(sign in dim for sign in "+-*/%("):
        return dim
    import onnx_ir as ir

    try:
        value = ir.SymbolicDim(dim).evaluate(symbols)
    except Exception:  # a name that only looks like an expression stays a name
        return dim
    return value if isinstance(value, int) else dim


def bind(graph: GraphProto, given: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, int], bool]:
    """What given input shapes say about symbolic dims, and whether they contradict the declared shapes."""
    symbols: dict[str, int] = {}
    contradicts = False
    for info in graph.input:
        declared = from_type(info.type)[1]
        if info.name in given and declared is not None:
            contradicts |= len(declared) != len(given[info.name])
            for dim, value in zip(declared, given[info.name], strict=False):
                if isinstance(dim, str):
                    symbols.setdefault(dim, value)
                contradicts |= isinstance(dim, int) and dim != value
    return symbols, contradicts


def with_shape(kind: TypeProto, dims: Iterable[Dim] | None) -> TypeProto:
    """A copy of a tensor type with another shape; None: of unknown rank."""
    changed = TypeProto()
    changed.CopyFrom(kind)
    changed.tensor_type.ClearField("shape")
    if dims is not None:
        changed.tensor_type.shape.SetInParent()
        for dim in dims:
            entry = changed.tensor_type.shape.dim.add()
            if isinstance(dim, int):
                entry.dim_value = dim
            elif dim:
                entry.dim_param = dim
    return changed


def common(kinds: list[TypeProto]) -> TypeProto:
    """What types agree on."""
    agreed = kinds[0]
    for other in kinds[1:]:
        (dtype, one), (other_dtype, two) = from_type(agreed), from_type(other)
        if dtype != other_dtype or not agreed.HasField("tensor_type"):
            agreed = agreed if agreed == other else TypeProto()
        elif one is None or two is None or len(one) != len(two):
            agreed = with_shape(agreed, None)
        elif one != two:
            agreed = with_shape(agreed, [a if a == b else None for a, b in zip(one, two, strict=True)])
    return agreed


def size(shape: tuple[Dim, ...] | None) -> int | None:
    """Number of elements, None when not known."""
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return math.prod(shape)  # type: ignore[arg-type]


def without_axis(kind: TypeProto | None, axis: int) -> tuple[TypeProto | None, int | None]:
    """The type of one slice along an axis, and how many there are."""
    shape = from_type(kind)[1] if kind is not None else None
    if kind is None or shape is None or not -len(shape) <= axis < len(shape):
        return None, None
    rest = list(shape)
    steps = rest.pop(axis)
    return with_shape(kind, rest), steps if isinstance(steps, int) else None


def with_axis(kind: TypeProto, axis: int, steps: int | None) -> TypeProto:
    """The type of ``steps`` slices stacked along a new axis."""
    shape = from_type(kind)[1]
    if shape is None or not kind.HasField("tensor_type"):
        return kind
    at = axis if axis >= 0 else len(shape) + 1 + axis
    return with_shape(kind, [*shape[:at], steps, *shape[at:]])
