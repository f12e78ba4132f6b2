"""Graphs of any size that look like transformers: ``transformer(nodes, kind, seed)``.

``plain`` is a stack of blocks; ``masked`` has one mask that every block reads; ``moe`` has a router and four experts in
each block. Weights are shared between blocks, so that a graph of 50,000 nodes is a few MB.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEADS, EXPERTS = 16, 2, 4


def transformer(nodes: int, kind: str = "masked", seed: int = 0) -> onnx.ModelProto:
    """A runnable model with about that many nodes (never more, at most one block less).

    Args:
        nodes: how many.
        kind: ``masked``, ``moe`` or ``plain``.
        seed: of the weights.
    """
    made: list[onnx.NodeProto] = []
    weights = _weights(np.random.default_rng(seed))
    size = len(_block("x", "block_0", kind)[0])
    stream = "input"
    for index in range(max(1, nodes // size)):
        block, stream = _block(stream, f"block_{index}", kind)
        made += block
    made[-1].output[0] = "output"
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", "seq", WIDTH])]
    if kind == "masked":
        inputs.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", 1, "seq", "seq"]))
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", "seq", WIDTH])]
    read = {name for node in made for name in node.input}
    graph = helper.make_graph(made, kind, inputs, outputs, [w for w in weights if w.name in read])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _weights(rng: np.random.Generator) -> list[TensorProto]:
    square = {name: rng.normal(0, 0.1, (WIDTH, WIDTH)) for name in ("wq", "wk", "wv", "wo")}
    mlp = {"w1": rng.normal(0, 0.1, (WIDTH, 2 * WIDTH)), "w2": rng.normal(0, 0.1, (2 * WIDTH, WIDTH))}
    rest = {"router": rng.normal(0, 1, (WIDTH, EXPERTS)), "gamma": np.ones(WIDTH), "beta": np.zeros(WIDTH)}
    found = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in {**square, **mlp, **rest}.items()]
    found.append(numpy_helper.from_array(np.float32((WIDTH / HEADS) ** -0.5), "scale"))
    shapes = {"heads": [0, 0, HEADS, WIDTH // HEADS], "merged": [0, 0, WIDTH]}
    return found + [numpy_helper.from_array(np.array(a, np.int64), n) for n, a in shapes.items()]


def _block(stream: str, scope: str, kind: str) -> tuple[list[onnx.NodeProto], str]:
    nodes: list[onnx.NodeProto] = []

    def add(op_type: str, inputs: list[str], part: str, count: int = 1, **attributes: object) -> str:
        name = f"{scope}/{part}/{op_type}"
        outputs = [f"{name}_{i}" for i in range(count)] if count > 1 else [f"{name}_out"]
        nodes.append(helper.make_node(op_type, inputs, outputs, name=name, **attributes))
        return outputs[0]

    normed = add("LayerNormalization", [stream, "gamma", "beta"], "norm1", axis=-1)
    parts = {}
    for letter in "qkv":
        linear = add("MatMul", [normed, f"w{letter}"], f"attention/{letter}")
        split = add("Reshape", [linear, "heads"], f"attention/{letter}")
        parts[letter] = add(
            "Transpose", [split], f"attention/{letter}", perm=[0, 2, 3, 1] if letter == "k" else [0, 2, 1, 3]
        )
    scores = add("MatMul", [parts["q"], parts["k"]], "attention/scores")
    scores = add("Mul", [scores, "scale"], "attention/scores")
    if kind == "masked":
        scores = add("Add", [scores, "mask"], "attention/scores")
    weights = add("Softmax", [scores], "attention", axis=-1)
    mixed = add("MatMul", [weights, parts["v"]], "attention/mix")
    mixed = add("Transpose", [mixed], "attention/mix", perm=[0, 2, 1, 3])
    mixed = add("Reshape", [mixed, "merged"], "attention/mix")
    stream = add("Add", [stream, add("MatMul", [mixed, "wo"], "attention/out")], "residual1")
    normed = add("LayerNormalization", [stream, "gamma", "beta"], "norm2", axis=-1)
    grown = _experts(add, normed) if kind == "moe" else _mlp(add, normed, "mlp")
    return nodes, add("Add", [stream, grown], "residual2")


def _mlp(add, normed: str, part: str) -> str:  # noqa: ANN001
    hidden = add("Relu", [add("MatMul", [normed, "w1"], f"{part}/up")], part)
    return add("MatMul", [hidden, "w2"], f"{part}/down")


def _experts(add, normed: str) -> str:  # noqa: ANN001
    gates = add("Softmax", [add("MatMul", [normed, "router"], "router")], "router", axis=-1)
    shares = add("Split", [gates], "router", EXPERTS, axis=-1).removesuffix("_0")
    total = ""
    for index in range(EXPERTS):
        out = add("Mul", [_mlp(add, normed, f"expert_{index}"), f"{shares}_{index}"], f"expert_{index}")
        total = add("Add", [total, out], f"expert_{index}/sum") if total else out
    return total
