"""What a model holds, whatever file it comes from: its fingerprint, and its weights by type."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from ..errors import ModelError
from .info import DTYPES, nbytes
from .proto import encode, reference, serialize
from .scopes import nodes, tensors
from .weights import FileTensor


def fingerprint(model: ir.Model) -> str:
    """sha256 of a model: everything but where its weights are stored.

    Read piece by piece: weights are never all in memory.
    """
    digest = hashlib.sha256()
    weights: list[ir.TensorProtocol] = []

    def place(tensor: ir.TensorProtocol, where: str) -> ir.TensorProtocol:
        weights.append(tensor)
        return reference(tensor, "", None, None)

    digest.update(encode(serialize(model, place)))
    for tensor in weights:
        if isinstance(tensor, FileTensor):
            for piece in tensor.file.chunks(tensor.offset, tensor.length):
                digest.update(piece)
        elif tensor.dtype == ir.DataType.STRING:
            for text in tensor.numpy().ravel():
                data = text if isinstance(text, bytes) else str(text).encode()
                digest.update(len(data).to_bytes(8, "little") + data)
        else:
            try:
                digest.update(tensor.tobytes())
            except ValueError as error:
                raise ModelError(f"the data of tensor {tensor.name!r} cannot be read: {error}") from error
    return digest.hexdigest()


@dataclass(frozen=True)
class Weights:
    """Constants of one type: how many tensors, elements and bytes."""

    dtype: str
    tensors: int
    parameters: int
    bytes: int


def constants(model: ir.Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of every constant: initializers and Constant nodes, those in bodies and functions
    too."""
    for tensor in tensors(model):
        yield _type(tensor)
    for node in nodes(model):
        if node.op_type == "Constant" and node.domain == "":
            for attribute in node.attributes.values():
                yield from _constant(attribute)


def _constant(attribute: ir.Attr) -> Iterator[tuple[str, tuple[int, ...]]]:
    if attribute.is_ref():
        return
    if attribute.type == ir.AttributeType.TENSOR:
        yield _type(attribute.value)
    elif attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.INT, ir.AttributeType.STRING):
        yield {"FLOAT": "float32", "INT": "int64", "STRING": "string"}[attribute.type.name], ()
    elif attribute.type in (ir.AttributeType.FLOATS, ir.AttributeType.INTS, ir.AttributeType.STRINGS):
        dtype = {"FLOATS": "float32", "INTS": "int64", "STRINGS": "string"}[attribute.type.name]
        yield dtype, (len(attribute.value),)


def _type(tensor: ir.TensorProtocol) -> tuple[str, tuple[int, ...]]:
    return DTYPES[tensor.dtype.value], tuple(tensor.shape.numpy())


def by_dtype(model: ir.Model) -> tuple[Weights, ...]:
    """The constants of a model by type, most bytes first."""
    found: dict[str, list[int]] = {}
    for dtype, shape in constants(model):
        entry = found.setdefault(dtype, [0, 0, 0])
        entry[0] += 1
        entry[1] += math.prod(shape)
        entry[2] += nbytes(dtype, shape)
    rows = [Weights(dtype, *entry) for dtype, entry in found.items()]
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.dtype)))
