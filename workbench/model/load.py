"""Opening a model, in whatever form it comes, with its weights left where they are."""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from ..errors import ModelError
from . import check, inferred, wire
from .external import Folder, open_file
from .info import DTYPES
from .proto import skeleton
from .scopes import initializers, nodes
from .sniff import looks_like
from .source import Source
from .weights import FileTensor, from_buffer

Embedded = Callable[[ir.ExternalTensor, dict[str, Any]], ir.TensorProtocol]
"""(what refers to bytes of the file itself, its names) -> the tensor over these bytes."""


def read_file(path: Path) -> Source | ir.Model:
    """The model in a file; weights in it and in its external data files are mapped, not read.

    Raises:
        ModelError: the file cannot be used, with the reason.
    """
    what = f"cannot load {path}"
    file = open_file(path, what, embedded=True)
    if not file.size:
        raise ModelError(f"{what}: the file is empty (0 bytes); copy or export it again")

    def embedded(tensor: ir.ExternalTensor, names: dict[str, Any]) -> ir.TensorProtocol:
        return FileTensor(file, tensor.offset or 0, tensor.dtype, tensor.shape, **names)

    def raw(offset: int, length: int) -> bytes:
        return bytes(file.view(offset, length))

    return _read(file.map(), what, embedded, raw, Folder(path.parent, model=path))


def read_bytes(data: bytes, what: str, folder: Folder | None) -> Source | ir.Model:
    """The model encoded in bytes; its weights are views of them."""
    if not data:
        raise ModelError(f"{what}: there are no bytes; expected an encoded ONNX model")

    def embedded(tensor: ir.ExternalTensor, names: dict[str, Any]) -> ir.TensorProtocol:
        start = tensor.offset or 0
        return from_buffer(
            memoryview(data)[start : start + tensor.nbytes], tensor.dtype, tensor.shape, **names
        )

    def raw(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    return _read(data, what, embedded, raw, folder)


def _read(
    data: bytes | mmap, what: str, embedded: Embedded, raw: Callable[[int, int], bytes], folder: Folder | None
) -> Source | ir.Model:
    """The graph, or what it can be made of later where nothing but the file itself is needed for that."""
    proto = onnx.ModelProto()
    try:
        try:
            proto.ParseFromString(wire.skeleton(data))
        except ValueError:
            proto.ParseFromString(bytes(data))
    except DecodeError as error:
        raise ModelError(f"{what}: it is no ONNX model, or a damaged one: {looks_like(data)}") from error
    if not proto.HasField("graph"):
        raise ModelError(f"{what}: it is no ONNX model (it has no graph): {looks_like(data)}")
    check.check_model(proto, what)

    def build() -> ir.Model:
        copy = onnx.ModelProto()  # onnx_ir keeps parts of it and changes them
        copy.CopyFrom(proto)
        return _from_proto(copy, what, embedded, folder, len(data))

    source = Source(proto, raw, build)
    return source if source.plain else build()


def _from_proto(
    proto: onnx.ModelProto, what: str, embedded: Embedded, folder: Folder | None, size: int
) -> ir.Model:
    """The graph of a checked proto whose weights are references (to the file itself, or to external data)."""
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # onnx_ir raises many kinds on odd input
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ModelError(f"{what}: {str(cause) or type(cause).__name__}") from error

    def bind(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if isinstance(tensor, ir.TensorProtoTensor) and tensor.metadata_props:
            tensor.raw.ClearField(
                "metadata_props"
            )  # onnx_ir 1.1 would write them twice, from here and from its own
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        return _bind(tensor, what, embedded, folder, size)

    for_each_tensor(model, bind)
    inferred.keep(model, proto)
    return model


def _bind(
    tensor: ir.ExternalTensor, what: str, embedded: Embedded | None, folder: Folder | None, size: int
) -> ir.TensorProtocol:
    """The tensor over the bytes that an external tensor refers to, once they are known to be there."""
    name, offset, location = tensor.name or "", tensor.offset or 0, str(tensor.location)
    inside = location == wire.SELF and embedded is not None
    label = f"{what}: tensor {name!r} {DTYPES[tensor.dtype.value]}{list(tensor.shape.numpy())}"
    if tensor.dtype == ir.DataType.STRING:
        raise ModelError(f"{label}: strings cannot be external data; export the model again")
    need = tensor.nbytes
    have = need if tensor.length is None else tensor.length
    if have != need:
        where = "the file" if inside else f"external data {location!r}"
        raise ModelError(f"{label}: {where} holds {have} bytes of it, its shape needs {need}; it is damaged")
    if not inside and folder is None:
        raise ModelError(
            f"{label}: it lies in the file {location!r}, but a model that is no path has no folder; "
            "give wb.load the path of the model, or base_dir= the folder of its data"
        )
    file = None if inside or folder is None else folder.file(location, name)
    place, held = (file.path, file.size) if file is not None else ("the file", size)
    if offset < 0 or offset + need > held:
        raise ModelError(
            f"{label}: its bytes {offset} to {offset + need} are not in {place}, which has {held}; "
            "the file is cut off, copy or export it again"
        )
    names = {
        "name": name,
        "doc_string": tensor.doc_string,
        "metadata_props": dict(tensor.metadata_props) or None,
    }
    if file is not None:
        return FileTensor(file, offset, tensor.dtype, tensor.shape, **names)
    return embedded(tensor, names)  # type: ignore[misc]


def for_each_tensor(model: ir.Model, change: Callable[[ir.TensorProtocol], ir.TensorProtocol]) -> None:
    """Replace each weight of a model: initializers, and tensors in attributes, in bodies and functions
    too."""
    for value in initializers(model):
        value.const_value = change(value.const_value)  # type: ignore[arg-type]
    for node in nodes(model):
        for name, attribute in list(node.attributes.data.items()):  # its own iteration is slow
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.TENSOR:
                node.attributes[name] = ir.AttrTensor(name, change(attribute.value), attribute.doc_string)
            elif attribute.type == ir.AttributeType.TENSORS:
                tensors = [change(tensor) for tensor in attribute.value]
                node.attributes[name] = ir.AttrTensors(name, tensors, attribute.doc_string)


def adopt(model: ir.Model) -> ir.Model:
    """An ``onnx_ir.Model`` from elsewhere, checked, its external data mapped; it is changed in place."""
    what = "cannot load the model"
    proto = skeleton(model)
    order = [list(node.output) for node in proto.graph.node]
    check.check_model(proto, what)
    if order != [list(node.output) for node in proto.graph.node]:
        model.graph.sort()
    folders: dict[str, Folder] = {}

    def bind(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        base = str(tensor.base_dir or ".")
        return _bind(tensor, what, None, folders.setdefault(base, Folder(Path(base))), 0)

    for_each_tensor(model, bind)
    return model
