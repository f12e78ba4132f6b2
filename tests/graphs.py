"""Transformer-like graphs of a wanted size, for layout, the graph view and edits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEADS, EXPERTS = 16, 2, 8


def transformer(
    nodes: int, kind: Literal["masked", "moe", "plain"] = "masked", seed: int = 0, *, shared: bool = False
) -> onnx.ModelProto:
    """A model that runs, of at least `nodes` nodes and at most one layer (43 or 92 nodes) more.

    ``masked``: one attention mask feeds every layer; ``moe``: so it does, and the feed-forward part of a layer
    is a router with 8 experts; ``plain``: no mask. Node names carry their module (``/layers.3/attn/MatMul``).
    ``shared``: all layers have the same weights, named after what they do (``up.weight``), so that 50,000 nodes are
    a few MB.
    """
    g = _Graph(np.random.default_rng(seed), shared)
    x = "x"
    if kind != "plain":
        mask = g.op("Unsqueeze", ["mask", g.ints([1])], "/mask")
        mask = g.op("Cast", [mask], "/mask", to=TensorProto.FLOAT)
        mask = g.op("Mul", [g.op("Sub", [g.scalar(1), mask], "/mask"), g.scalar(-10000)], "/mask")
    layer = 0
    while len(g.nodes) < nodes or not layer:
        at = f"/layers.{layer}"
        x = g.attention(x, mask if kind != "plain" else None, f"{at}/attn")
        x = g.experts(x, f"{at}/moe") if kind == "moe" else g.mlp(x, f"{at}/mlp")
        layer += 1
    g.nodes.append(helper.make_node("Identity", [x], ["y"], name="/output"))
    return g.model(kind != "plain")


class _Graph:
    def __init__(self, rng: np.random.Generator, shared: bool):
        self.rng, self.shared, self.nodes, self.weights, self._made = rng, shared, [], {}, {}

    def op(self, op_type: str, inputs: list[str], scope: str, **attributes: object) -> str:
        count = self._made[scope, op_type] = self._made.get((scope, op_type), -1) + 1
        name = f"{scope}/{op_type}" + (f"_{count}" if count else "")
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def keep(self, array: np.ndarray, role: str) -> str:
        name = role if self.shared else f"w{len(self.weights)}"
        if name not in self.weights:
            self.weights[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, values: list[int]) -> str:
        return self.keep(np.array(values, np.int64), f"ints{values}")

    def scalar(self, value: float) -> str:
        return self.keep(np.array(value, np.float32), f"scalar {value}")

    def linear(self, x: str, scope: str, width: int = WIDTH) -> str:
        part, size = scope.rsplit("/", 1)[1], (WIDTH, width)
        weight = self.keep(self.rng.normal(0, WIDTH**-0.5, size).astype(np.float32), f"{part}.weight")
        bias = self.keep(np.zeros(width, np.float32), f"{part}.bias")
        return self.op("Add", [self.op("MatMul", [x, weight], scope), bias], scope)

    def norm(self, x: str, scope: str) -> str:
        axes = self.ints([-1])
        centred = self.op("Sub", [x, self.op("ReduceMean", [x, axes], scope)], scope)
        variance = self.op("ReduceMean", [self.op("Mul", [centred, centred], scope), axes], scope)
        deviation = self.op("Sqrt", [self.op("Add", [variance, self.scalar(1e-5)], scope)], scope)
        scaled = self.op("Mul", [self.op("Div", [centred, deviation], scope), self.scalar(1)], scope)
        return self.op("Add", [scaled, self.scalar(0)], scope)

    def attention(self, x: str, mask: str | None, scope: str) -> str:
        start = self.norm(x, f"{scope}/norm")
        split = self.ints([0, 0, HEADS, WIDTH // HEADS])
        q, k, v = (
            self.op("Transpose", [self.op("Reshape", [self.linear(start, f"{scope}/{part}"), split],
                                          f"{scope}/{part}")],
                    f"{scope}/{part}", perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3])
            for part in "qkv"
        )  # fmt: skip
        scores = self.op("Mul", [self.op("MatMul", [q, k], scope), self.scalar(0.35)], scope)
        if mask:
            scores = self.op("Add", [scores, mask], scope)
        mixed = self.op("MatMul", [self.op("Softmax", [scores], scope, axis=-1), v], scope)
        mixed = self.op("Transpose", [mixed], scope, perm=[0, 2, 1, 3])
        mixed = self.op("Reshape", [mixed, self.ints([0, 0, WIDTH])], scope)
        return self.op("Add", [x, self.linear(mixed, f"{scope}/out")], scope)

    def feed_forward(self, x: str, scope: str) -> str:
        hidden = self.linear(x, f"{scope}/up")
        gate = self.op("Sigmoid", [self.op("Mul", [hidden, self.scalar(1.702)], scope)], scope)
        return self.linear(self.op("Mul", [hidden, gate], scope), f"{scope}/down")

    def mlp(self, x: str, scope: str) -> str:
        return self.op("Add", [x, self.feed_forward(self.norm(x, f"{scope}/norm"), scope)], scope)

    def experts(self, x: str, scope: str) -> str:
        start = self.norm(x, f"{scope}/norm")
        scores = self.op(
            "Softmax", [self.linear(start, f"{scope}/router", EXPERTS)], f"{scope}/router", axis=-1
        )
        mixed = []
        for index in range(EXPERTS):
            at = f"{scope}/experts.{index}"
            share = self.op("Gather", [scores, self.ints([index])], at, axis=-1)
            mixed.append(self.op("Mul", [self.feed_forward(start, at), share], at))
        return self.op("Add", [x, self.op("Sum", mixed, scope)], scope)

    def model(self, masked: bool) -> onnx.ModelProto:
        info = helper.make_tensor_value_info
        inputs = [info("x", TensorProto.FLOAT, ["batch", 8, WIDTH])]
        if masked:
            inputs.append(info("mask", TensorProto.INT64, ["batch", 1, 8]))
        outputs = [info("y", TensorProto.FLOAT, ["batch", 8, WIDTH])]
        graph = helper.make_graph(self.nodes, "transformer", inputs, outputs, list(self.weights.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
