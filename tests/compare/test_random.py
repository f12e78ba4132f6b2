"""Random graphs, changed at random, compared with random budgets: every value is the oracle's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from compare import small
from compare.small import Node, node
from compare.test_oracle import check

SIDE = 160  # a tensor is 100 KB, a segment at the smallest budget holds ten
UNARY = ("Relu", "Neg", "Tanh", "Identity", "Abs", "Sigmoid")
BINARY = ("Add", "Mul", "Sub", "Max")


def graph(random: np.random.Generator, size: int) -> tuple[list[Node], dict[str, np.ndarray]]:
    """Nodes over tensors of SIDE x SIDE, some of them computed from weights alone."""
    nodes: list[Node] = []
    weights: dict[str, np.ndarray] = {
        "shape": np.array([SIDE, SIDE]),
        "halves": np.array([SIDE // 2, SIDE // 2]),
    }
    tensors = ["x", "z"]

    def some() -> str:
        return tensors[
            int(len(tensors) * random.random() ** 0.4)
        ]  # near the end rather than at the beginning

    for i in range(size):
        kind, name = random.random(), f"n{i}"
        if kind < 0.35:
            nodes.append(node(str(random.choice(UNARY)), [some()], [f"t{i}"], name))
        elif kind < 0.6:
            nodes.append(node(str(random.choice(BINARY)), [some(), some()], [f"t{i}"], name))
        elif kind < 0.75:
            weights[f"w{i}"] = random.uniform(0.5, 1.5, (SIDE, 1)).astype(np.float32)
            nodes.append(node("Mul", [some(), f"w{i}"], [f"t{i}"], name))
        elif kind < 0.85:
            value = onnx.helper.make_tensor("v", 1, [1], [float(random.uniform(0.5, 2))])
            nodes.append(node("ConstantOfShape", ["shape"], [f"t{i}"], name, value=value))
        elif kind < 0.95:
            nodes.append(
                node("Split", [some(), "halves"], [f"t{i}a", f"t{i}b"], name, axis=int(random.integers(2)))
            )
            axis = int(nodes[-1].attribute[0].i)
            nodes.append(node("Concat", [f"t{i}b", f"t{i}a"], [f"t{i}"], f"{name}c", axis=axis))
        else:
            weights[f"w{i}"] = random.normal(0, 0.05, (SIDE, SIDE)).astype(np.float32)
            nodes.append(node("MatMul", [some(), f"w{i}"], [f"t{i}"], name))
        tensors.append(f"t{i}")
    return nodes, weights


def changed(
    random: np.random.Generator, nodes: list[Node], weights: dict[str, np.ndarray], keep: set[str]
) -> tuple[list[Node], dict[str, np.ndarray]]:
    """The graph with some weights changed, tensors renamed, nodes put in between and Identity nodes left out."""
    weights = dict(weights)
    for name in weights:
        if name.startswith("w") and random.random() < 0.3:
            weights[name] = weights[name] * np.float32(random.choice([1.001, 1.5, 0.0]))
    names: dict[str, str] = {}
    result: list[Node] = []
    for original in nodes:
        made = onnx.NodeProto()
        made.CopyFrom(original)
        made.input[:] = [names.get(name, name) for name in made.input]
        first = made.output[0]
        if made.op_type == "Identity" and first not in keep and random.random() < 0.5:
            names[first] = made.input[0]
            continue
        if made.op_type == "ConstantOfShape" and random.random() < 0.3:
            value = onnx.helper.make_tensor("v", 1, [1], [1.25])
            made.CopyFrom(node("ConstantOfShape", ["shape"], [first], made.name, value=value))
        result.append(made)
        if first in keep or len(made.output) > 1:
            continue
        if random.random() < 0.2:
            names[first] = made.output[0] = f"{first}/renamed"
        elif random.random() < 0.1:
            made.output[0] = f"{first}/before"
            result.append(node("Neg", [f"{first}/before"], [first], f"{made.name}/more"))
    return result, weights


def pair(seed: int) -> tuple[onnx.ModelProto, onnx.ModelProto, list[dict[str, np.ndarray]], int]:
    random = np.random.default_rng(seed)
    nodes, weights = graph(random, int(random.integers(5, 45)))
    last = [name for each in nodes[-3:] for name in each.output][-2:]
    inputs = {"x": [SIDE, SIDE], "z": [SIDE, SIDE]}
    reference = small.model(nodes, inputs, last, weights, opset=18)
    candidate = small.model(*_split(changed(random, nodes, weights, set(last)), inputs, last), opset=18)
    feeds = [
        {name: random.normal(0, 1, (SIDE, SIDE)).astype(np.float32) for name in inputs}
        for _ in range(int(random.integers(1, 5)))
    ]
    return reference, candidate, feeds, int(random.choice([1 << 20, 3 << 20, 128 << 20]))


def _split(made: tuple, inputs: dict, outputs: list[str]) -> tuple:
    nodes, weights = made
    return nodes, inputs, outputs, weights


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs(seed: int):
    reference, candidate, feeds, budget = pair(seed)
    check(reference, candidate, feeds, memory_budget=budget)
