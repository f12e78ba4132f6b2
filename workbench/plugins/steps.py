"""A model as steps for a GPU: pieces for a runtime and, between them, calls of plugins' kernels. Pure data, no runtime.

A node runs in the earliest piece that has what it reads: piece k holds what needs k kernels before it, so there are no
more pieces than kernels in a row. Nodes that sequences join stay together: only tensors can leave a piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

from ..errors import PluginError
from ..model.info import DTYPES
from ..segments import Graph, Node, constant
from .declaration import Plugin, from_function


@dataclass(frozen=True)
class Piece:
    """Nodes that the runtime executes together.

    Attributes:
        model: runnable by itself.
        inputs, outputs: names of the tensors that flow in and out.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """One kernel.

    Attributes:
        inputs, outputs: tensors, in the plugin's order.
        attributes: of the node, without defaults.
    """

    node: str
    plugin: Plugin
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Steps:
    """A model cut at its plugin nodes.

    Attributes:
        steps: in order of execution.
        weights: initializers and constants that kernels read or the model returns.
        outputs: what the model returns, by name.
        without_kernel: node -> why its body runs instead of a kernel.
    """

    steps: tuple[Piece | Call, ...]
    weights: dict[str, onnx.TensorProto]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    without_kernel: dict[str, str] = field(default_factory=dict)


def cut(proto: onnx.ModelProto) -> Steps:
    """Cut a model.

    Raises:
        ModelError: the graph cannot be walked.
        PluginError: the type of a tensor that flows between pieces is not known.
    """
    graph = Graph(proto)
    types = _types(proto)
    dtypes = {name: DTYPES.get(kind.tensor_type.elem_type, "") for name, kind in types.items()}
    dtypes |= {n: DTYPES[t.data_type] for n, t in graph.weights.items() if isinstance(t, onnx.TensorProto)}
    calls, without = _calls(proto, graph, dtypes)
    at = _stages(graph, calls)
    used_by: dict[str, set[int]] = {
        name: {-1} for name in graph.outputs
    }  # tensor -> stages; -1: outside of pieces
    for node in graph.order:
        for name in node.inputs:
            used_by.setdefault(name, set()).add(-1 if node.index in calls else at[node.index])
    steps: list[Piece | Call] = []
    for stage in range(max(at.values(), default=0) + 1):
        here = [node for node in graph.order if at[node.index] == stage]
        ordinary = [node for node in here if node.index not in calls]
        if ordinary:
            steps.append(_piece(graph, ordinary, stage, used_by, types))
        steps += [calls[node.index] for node in here if node.index in calls]
    wanted = {name for call in calls.values() for name in call.inputs} | set(graph.outputs)
    weights = {name: found for name in sorted(wanted) if (found := _weight(graph, name)) is not None}
    return Steps(tuple(steps), weights, graph.inputs, graph.outputs, without)


def _calls(
    proto: onnx.ModelProto, graph: Graph, dtypes: Mapping[str, str]
) -> tuple[dict[int, Call], dict[str, str]]:
    declared = {
        (f.domain, f.name): plugin for f in proto.functions if (plugin := from_function(f)) is not None
    }
    calls: dict[int, Call] = {}
    without: dict[str, str] = {}
    joined = {node.index for group in graph.inseparable if len(group) > 1 for node in group}
    for node in graph.order:
        plugin = declared.get((node.proto.domain, node.proto.op_type))
        if plugin is None:
            continue
        inputs = tuple(node.proto.input)
        dtype = dtypes.get(inputs[0], "") if inputs else ""
        if not plugin.cuda:
            without[node.name] = "the plugin has no CUDA kernel"
        elif dtype and dtype not in plugin.dtypes:
            without[node.name] = f"its kernel is for {', '.join(plugin.dtypes)}, not {dtype}"
        elif node.constant:
            without[node.name] = "it depends on weights alone"
        elif node.index in joined:
            without[node.name] = "it lies between nodes that a sequence joins"
        else:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.proto.attribute}
            made = (*node.proto.output, *plugin.outputs[len(node.proto.output) :])
            names = tuple(name or f"{node.name}/unused/{i}" for i, name in enumerate(made))
            names = tuple(
                name if i < len(node.proto.output) else f"{node.name}/unused/{i}"
                for i, name in enumerate(names)
            )
            calls[node.index] = Call(node.name, plugin, inputs, names, attributes)
    return calls, without


def _stages(graph: Graph, calls: Mapping[int, Call]) -> dict[int, int]:
    """Node index -> number of kernels that must run before it, along the longest way."""
    at: dict[int, int] = {}
    for group in graph.inseparable:
        own = {node.index for node in group}
        makers = {graph.producer[name].index for node in group for name in node.inputs if name in graph.producer}
        stage = max((at[maker] + (maker in calls) for maker in makers - own), default=0)
        at |= dict.fromkeys(own, stage)
    return at


def _piece(
    graph: Graph,
    nodes: list[Node],
    stage: int,
    used_by: Mapping[str, set[int]],
    types: Mapping[str, onnx.TypeProto],
) -> Piece:
    made = {name for node in nodes for name in node.outputs}
    outputs = [name for node in nodes for name in node.outputs if used_by.get(name, set()) - {stage}]
    reads = dict.fromkeys(name for node in nodes for name in node.inputs)
    inputs = [name for name in reads if name not in made and not graph.is_weight(name)]
    for name in inputs:
        if name not in types:
            raise PluginError(
                f"the type of tensor {name!r}, which flows between two pieces, is not known; got none from shape "
                "inference, expected one; state it in the model's value_info"
            )
    model = graph.piece(nodes, outputs, {n: DTYPES[types[n].tensor_type.elem_type] for n in inputs})
    for (
        value
    ) in model.graph.input:  # with the shapes that are known: some of the runtime's fusions look at them
        value.type.CopyFrom(types[value.name])
    return Piece(model, tuple(inputs), tuple(outputs), tuple(node.name for node in nodes))


def _types(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """What is known of the types of tensors: declared or inferred."""
    inferred = onnx.shape_inference.infer_shapes(proto) if proto.ByteSize() < 1 << 31 else proto
    known = (*proto.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {info.name: info.type for info in known if info.type.tensor_type.elem_type}


def _weight(graph: Graph, name: str) -> onnx.TensorProto | None:
    found = constant(graph.constants[name]) if name in graph.constants else graph.weights.get(name)
    return found if isinstance(found, onnx.TensorProto) else None
