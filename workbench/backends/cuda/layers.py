"""GPU time of every layer: ONNX Runtime's optimised graph of each piece, node by node with events, and the kernels.

A node of the optimised graph (nodes that sequences join: together, as one layer) runs as a session of its own,
unoptimised, on what the nodes before it made. Before each
run the GPU is kept busy until the launches are in line: an event then measures what the GPU does, not how fast Python
is. The sum over layers therefore leaves out the gaps between them, which the latency of the whole has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ...plugins.steps import Call
from ...segments import Graph, Node
from .program import Tensor

_DELAY_NS = 150_000


def measure(runtime: Any, loaded: Any, feeds: dict[str, np.ndarray], runs: int) -> dict[str, Any]:
    """Time the layers of a loaded model.

    Returns:
        ``layers``: dicts of ``name``, ``op_type``, ``ms`` (one per run), ``inputs`` and ``outputs`` ((dtype, shape)) in
        order of execution; ``graph``: the graph that ran, serialised, its weights without data.
    """
    program, device = loaded.program, runtime.device
    values: dict[str, Tensor] = dict(program.weights) | {n: program.place(a) for n, a in feeds.items()}
    found: list[dict[str, Any]] = []
    ran = onnx.ModelProto(ir_version=10)
    ran.graph.name = "as run"
    taken: set[str] = set()

    def timed(name: str, op_type: str, inputs: Any, outputs: Any, run: Any) -> None:
        run()
        ms: list[float] = []
        for _ in range(runs):
            device.delay(_DELAY_NS)
            with device.timed(ms):
                run()
        specs = [[(t.dtype, t.shape) for t in tensors()] for tensors in (inputs, outputs)]
        found.append({"name": name, "op_type": op_type, "ms": ms, "inputs": specs[0], "outputs": specs[1]})

    for step in program.steps.steps:
        if isinstance(step, Call):
            _kernel(program, step, values, timed)
            taken.add(step.node)
            ran.graph.node.append(
                onnx.helper.make_node(
                    step.plugin.name, step.inputs, step.outputs, name=step.node, domain="workbench"
                )
            )
            continue
        proto = runtime.optimised(loaded, step)
        graph = Graph(proto)
        _weights(ran, proto)
        for nodes in graph.inseparable:
            first = nodes[0].proto
            if not first.name or first.name in taken:
                first.name = f"{first.name or first.op_type}_{nodes[0].outputs[0]}"
            taken.add(first.name)
            ran.graph.node.append(_nodes(runtime, loaded, graph, nodes, values, timed))
    ran.graph.input.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in program.steps.inputs)
    ran.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in program.steps.outputs)
    return {"layers": found, "graph": ran.SerializeToString()}


def _kernel(program: Any, step: Call, values: dict[str, Tensor], timed: Any) -> None:
    made = program.made(step, values)
    values |= made
    timed(
        step.node, step.plugin.name, lambda: [values[n] for n in step.inputs], lambda: [*made.values()],
        program.launcher(step, values),
    )  # fmt: skip


def _nodes(
    runtime: Any, loaded: Any, graph: Graph, nodes: list[Node], values: dict[str, Tensor], timed: Any
) -> onnx.NodeProto:
    """Time a node, or several as one layer. Returns the node that stands for them in the graph that ran."""
    reads, makes = _ports(graph, nodes)
    layer = nodes[0].proto
    if len(nodes) > 1:
        types = "+".join(dict.fromkeys(node.op_type for node in nodes))
        layer = onnx.helper.make_node(types, reads, makes, name=layer.name)
    computed = [name for name in reads if not graph.is_weight(name)]
    piece = graph.piece(nodes, makes, {name: values[name].dtype for name in computed})
    try:
        session = runtime.session(piece.SerializeToString(), "none", loaded.tf32)
    except Exception as error:
        raise RuntimeError(f"layer {layer.name!r} ({layer.op_type}) does not load by itself: {error}") from None
    weights = {t.name: t for t in graph.proto.graph.initializer}
    once = loaded.program.runner(session, {name: values[name] for name in computed}, makes)

    def run() -> None:
        values.update(once())

    def inputs() -> list[Any]:
        return [values[n] if n in values else _Stored(weights[n]) for n in reads if n in values or n in weights]

    timed(layer.name, layer.op_type, inputs, lambda: [values[n] for n in makes], run)
    return layer


def _ports(graph: Graph, nodes: list[Node]) -> tuple[list[str], list[str]]:
    """What nodes read of others, and what they make: of several, what others read of them."""
    made = [name for node in nodes for name in node.outputs]
    reads = [name for node in nodes for name in node.inputs if name not in made]
    if len(nodes) > 1:
        inside = {node.index for node in nodes}
        makes = {
            name for name in made if any(user.index not in inside for user in graph.consumers.get(name, ()))
        }
        made = [name for name in made if name in makes or name in graph.outputs]
    return list(dict.fromkeys(reads)), made


class _Stored:
    """dtype and shape of a weight."""

    def __init__(self, proto: onnx.TensorProto):
        from ...model.info import DTYPES

        self.dtype, self.shape = DTYPES[proto.data_type], tuple(proto.dims)


def _weights(ran: onnx.ModelProto, proto: onnx.ModelProto) -> None:
    known = {tensor.name for tensor in ran.graph.initializer}
    for tensor in proto.graph.initializer:
        if tensor.name not in known:
            ran.graph.initializer.append(
                onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            )
    for item in proto.opset_import:
        if item.domain not in {known.domain for known in ran.opset_import}:
            ran.opset_import.append(item)
