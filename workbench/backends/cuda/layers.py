"""GPU time of every layer: ONNX Runtime's optimised graph of each piece, node by node with events, and the kernels.

A node of the optimised graph runs as a session of its own, unoptimised, on what the nodes before it made. Before each
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
        for node in graph.order:
            if not node.proto.name or node.proto.name in taken:
                node.proto.name = f"{node.proto.name or node.op_type}_{node.outputs[0]}"
            taken.add(node.proto.name)
            ran.graph.node.append(node.proto)
            _node(runtime, loaded, graph, node, values, timed)
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


def _node(runtime: Any, loaded: Any, graph: Graph, node: Node, values: dict[str, Tensor], timed: Any) -> None:
    reads = [name for name in node.inputs if not graph.is_weight(name)]
    types = {name: values[name].dtype for name in reads}
    piece = graph.piece([node], list(node.outputs), types)
    try:
        session = runtime.session(piece.SerializeToString(), "none", loaded.tf32)
    except Exception as error:
        raise RuntimeError(f"layer {node.name!r} ({node.op_type}) does not load by itself: {error}") from None
    from ..onnxruntime import _dtype

    kinds = {output.name: _dtype(output.type) for output in session.get_outputs()}
    weights = {t.name: t for t in graph.proto.graph.initializer}

    def run() -> None:
        binding = loaded.program.bind(session, {name: values[name] for name in reads})
        for name in node.outputs:
            binding.bind_output(name, "cuda", 0)
        session.run_with_iobinding(binding, runtime.quiet)
        for name, value in zip(node.outputs, binding.get_outputs(), strict=True):
            values[name] = Tensor(value.data_ptr(), kinds[name], tuple(value.shape()), value)

    def inputs() -> list[Any]:
        return [
            values[n] if n in values else _Stored(weights[n])
            for n in node.inputs
            if n in values or n in weights
        ]

    timed(node.name, node.op_type, inputs, lambda: [values[n] for n in node.outputs], run)


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
