"""From the graph in memory to ONNX protos, with a choice of what happens to each weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from ..errors import ModelError
from .weights import FileTensor

Place = Callable[[ir.Value], Any]


class _Value:
    """An initializer as onnx_ir's serializer sees it, with another tensor in the place of its own."""

    def __init__(self, value: ir.Value, tensor: Any):
        self._value, self.const_value = value, tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)


class _Graph:
    def __init__(self, graph: ir.Graph, place: Place):
        self._graph = graph
        self.initializers = {
            name: _Value(value, place(value))
            for name, value in graph.initializers.items()
            if value.const_value is not None
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def __iter__(self):
        return iter(self._graph)

    def __len__(self) -> int:
        return len(self._graph)


class _Model:
    def __init__(self, model: ir.Model, place: Place):
        self._model, self.graph = model, _Graph(model.graph, place)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def serialize(model: ir.Model, place: Place) -> onnx.ModelProto:
    """The proto of a model, each initializer of the graph written as the tensor that ``place(value)``
    returns.

    An ``ir.ExternalTensor`` is written as a reference, anything else with its bytes.
    """
    try:
        return ir.serde.serialize_model(_Model(model, place))  # type: ignore[arg-type]
    except ir.serde.SerdeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, ModelError):
            raise cause from error
        raise ModelError(f"cannot encode the model: {cause}") from error


def reference(tensor: FileTensor) -> ir.ExternalTensor:
    """A reference to a tensor's bytes: absolute path without the leading ``/``."""
    path = tensor.file.path
    return ir.ExternalTensor(
        str(path.relative_to(path.anchor)), tensor.offset, tensor.length, tensor.dtype,
        shape=ir.Shape(tensor.shape), name=tensor.name or "",
    )  # fmt: skip


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """A proto for a runtime: external weights are references with absolute locations, all others are
    inside."""

    def place(value: ir.Value) -> Any:
        tensor = value.const_value
        if isinstance(tensor, FileTensor) and not tensor.file.embedded:
            tensor.file.check_path()
            return reference(tensor)
        return tensor

    return serialize(model, place)


def encode(proto: onnx.ModelProto) -> bytes:
    """The bytes of a proto; ModelError when it is over 2 GB."""
    try:
        return proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"cannot encode the model: {error}; a proto holds at most 2 GB; keep the weights in external data"
        ) from error
