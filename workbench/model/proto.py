"""From the graph in memory to ONNX protos, with a choice of what is written for each weight.

onnx_ir's serializer does the work; it is shown thin stand-ins of graphs, nodes and values in which a weight
can be another one (a reference, or nothing but its type), so that no weight is copied that need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from ..errors import ModelError
from .weights import FileTensor

Place = Callable[[ir.TensorProtocol, str], Any]
"""(weight, where it is) -> the tensor to write. Where: ``graph`` or ``body`` for an initializer,
``attribute``. An ``ir.ExternalTensor`` is written as a reference, anything else with its bytes."""

_BODIES = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
_TENSORS = (ir.AttributeType.TENSOR, ir.AttributeType.TENSORS)


class _StandIn:
    """Looks like the object it stands for, but for the attributes that are given."""

    def __init__(self, original: Any, **instead: Any):
        self._original = original
        self.__dict__.update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Nodes(_StandIn):
    """A graph or function."""

    def __init__(self, original: Any, place: Place, **instead: Any):
        super().__init__(original, **instead)
        self._place = place

    def __iter__(self) -> Iterator[Any]:
        for node in self._original:
            special = [a for a in node.attributes.values() if not a.is_ref() and a.type in _BODIES + _TENSORS]
            yield _node(node, special, self._place) if special else node

    def __len__(self) -> int:
        return len(self._original)


def _graph(graph: ir.Graph, place: Place, where: str = "body") -> Any:
    values = {
        name: _StandIn(value, const_value=place(value.const_value, where))
        for name, value in graph.initializers.items()
        if value.const_value is not None
    }
    return _Nodes(graph, place, initializers=values)


def _node(node: ir.Node, special: list[ir.Attr], place: Place) -> Any:
    attributes: dict[str, Any] = dict(node.attributes)
    for attribute in special:
        value: Any = attribute.value
        if attribute.type == ir.AttributeType.GRAPH:
            value = _graph(value, place)
        elif attribute.type == ir.AttributeType.GRAPHS:
            value = [_graph(graph, place) for graph in value]
        elif attribute.type == ir.AttributeType.TENSOR:
            value = place(value, "attribute")
        else:
            value = [place(tensor, "attribute") for tensor in value]
        attributes[attribute.name] = _StandIn(attribute, value=value)
    return _StandIn(node, attributes=attributes)


def serialize(model: ir.Model, place: Place) -> onnx.ModelProto:
    """The proto of a model, with what ``place`` returns in the place of each weight."""
    functions = {key: _Nodes(function, place) for key, function in model.functions.items()}
    stand_in: Any = _StandIn(model, graph=_graph(model.graph, place, "graph"), functions=functions)
    try:
        made = ir.serde.serialize_model(stand_in)
        made.graph.SetInParent()  # there even when it is empty
        return made
    except ir.serde.SerdeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, ModelError):
            raise cause from error
        raise ModelError(f"cannot encode the model: {cause}") from error


def reference(
    tensor: ir.TensorProtocol, location: str, offset: int | None, length: int | None
) -> ir.ExternalTensor:
    """A tensor that is written as a reference to a file."""
    return ir.ExternalTensor(
        location,
        offset,
        length,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props) or None,
    )


def runnable(model: ir.Model, spilled: Mapping[int, tuple[str, int]]) -> onnx.ModelProto:
    """A proto for a runtime: what lies in data files is referred to by absolute path without the leading
    ``/``.

    Args:
        model: the model.
        spilled: id of a weight -> (location, offset) for weights that were put into a file of their own.
    """

    def place(tensor: ir.TensorProtocol, where: str) -> ir.TensorProtocol:
        if where != "attribute":
            if id(tensor) in spilled:
                return reference(tensor, *spilled[id(tensor)], tensor.nbytes)
            if isinstance(tensor, FileTensor) and not tensor.file.embedded:
                return reference(tensor, location(tensor.file.path), tensor.offset, tensor.length)
        return tensor

    return serialize(model, place)


def location(path: Path) -> str:
    """How a reference names a file."""
    return str(path.relative_to(path.anchor))


def skeleton(model: ir.Model, keep: int = 1024) -> onnx.ModelProto:
    """A proto in which weights of more than ``keep`` elements have a type and shape but refer to no file."""

    def place(tensor: ir.TensorProtocol, where: str) -> ir.TensorProtocol:
        return tensor if tensor.size <= keep else reference(tensor, "", None, None)

    return serialize(model, place)


def for_checker(model: ir.Model) -> onnx.ModelProto:
    """A proto in which larger weights have no elements, so that onnx's checker finds no data missing."""

    def place(tensor: ir.TensorProtocol, where: str) -> ir.TensorProtocol:
        if tensor.size <= 1024:
            return tensor
        empty = onnx.TensorProto(name=tensor.name or "", data_type=tensor.dtype.value, dims=[0])
        return ir.serde.TensorProtoTensor(empty)

    return serialize(model, place)


def encode(proto: onnx.ModelProto) -> bytes:
    """The bytes of a proto; ModelError when it is over 2 GB."""
    try:
        return proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"cannot encode the model: {error}; a proto holds at most 2 GB; keep the weights in external data"
        ) from error
