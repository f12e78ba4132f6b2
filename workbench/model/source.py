"""A model as it was read: its checked proto, from which the graph is made when it is asked for.

Making the graph and encoding it again is most of the work of opening a model that is only run. What a runtime gets
is therefore made of this proto as long as nobody has edited the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx
import onnx_ir as ir

from . import wire
from .info import TensorInfo, from_value_info
from .names import unique

GRAPH, GRAPHS = onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS


@dataclass
class Source:
    """What a model was read from.

    Attributes:
        proto: checked; weights that were taken out of it are references to `wire.SELF`.
        raw: (offset, length) -> the bytes of such a reference.
        build: makes the graph; raises ModelError.
    """

    proto: onnx.ModelProto
    raw: Callable[[int, int], bytes]
    build: Callable[[], ir.Model]

    @property
    def plain(self) -> bool:
        """Whether all weights are inside the file."""
        kept = (
            t.data_location != onnx.TensorProto.EXTERNAL or _refers_to_self(t) for t in _tensors(self.proto)
        )
        return all(kept)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the weights that were taken out."""
        taken = (t for t in _tensors(self.proto) if t.data_location == onnx.TensorProto.EXTERNAL)
        return sum(_place(tensor)[1] for tensor in taken)

    def ports(self) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
        """Inputs (without those that have a default) and outputs."""
        graph = self.proto.graph
        weights = {tensor.name for tensor in graph.initializer}
        inputs = tuple(from_value_info(value) for value in graph.input if value.name not in weights)
        return inputs, tuple(from_value_info(value) for value in graph.output)

    def runnable(self) -> onnx.ModelProto:
        """The proto with every node named and all weights inside."""
        made = onnx.ModelProto()
        made.CopyFrom(self.proto)
        every = [node for nodes in _scopes(made) for node in nodes]
        firsts = (next((name for name in node.output if name), "") for node in every)
        given = [(node.name, node.op_type, first) for node, first in zip(every, firsts, strict=True)]
        for node, name in zip(every, unique(given), strict=True):
            if node.name != name:
                node.name = name
        for tensor in _tensors(made):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                tensor.raw_data = self.raw(*_place(tensor))
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
        return made


def _scopes(model: onnx.ModelProto) -> Iterator[list[onnx.NodeProto]]:
    """The nodes of every graph in the order of `scopes.scopes`."""
    yield from _below(model.graph)
    for function in model.functions:
        yield from _below(function)


def _below(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[list[onnx.NodeProto]]:
    nodes = list(graph.node)
    yield nodes
    for body in _bodies(nodes):
        yield from _below(body)


def _bodies(nodes: list[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == GRAPH and not attribute.ref_attr_name:
                yield attribute.g
            elif attribute.type == GRAPHS and not attribute.ref_attr_name:
                yield from attribute.graphs


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every weight: initializers and tensors in attributes."""
    stack: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while stack:
        graph = stack.pop()
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    yield attribute.t
                elif attribute.type == onnx.AttributeProto.TENSORS:
                    yield from attribute.tensors
                elif attribute.type == GRAPH:
                    stack.append(attribute.g)
                elif attribute.type == GRAPHS:
                    stack.extend(attribute.graphs)


def _refers_to_self(tensor: onnx.TensorProto) -> bool:
    return any(entry.key == "location" and entry.value == wire.SELF for entry in tensor.external_data)


def _place(tensor: onnx.TensorProto) -> tuple[int, int]:
    """Offset and length of a reference to the file itself."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return int(entries["offset"]), int(entries["length"])
