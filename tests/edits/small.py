"""A small model with everything that an edit may meet: an If with bodies, a function, a Constant, unused weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def proto() -> onnx.ModelProto:
    """x[n, 4] -> MatMul w -> Add b -> Relu -> If(flag): Neg | Abs -> my::Twice -> Reshape -> y[n, 4]."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 4)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
        "unused": np.zeros(3, np.float32),
    }

    def branch(op_type: str, name: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Add", ["relu", f"{name}_c"], [f"{name}_a"], name=f"{name}_add"),
            helper.make_node(op_type, [f"{name}_a"], [f"{name}_y"], name=f"{name}_op"),
        ]
        out = helper.make_tensor_value_info(f"{name}_y", FLOAT, ["n", 4])
        held = numpy_helper.from_array(np.ones(4, np.float32), f"{name}_c")
        return helper.make_graph(nodes, name, [], [out], [held])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["mm"], name="matmul"),
        helper.make_node("Add", ["mm", "b"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["relu"], name="relu_node"),
        helper.make_node(
            "If",
            ["flag"],
            ["picked"],
            name="if",
            then_branch=branch("Neg", "then"),
            else_branch=branch("Abs", "else"),
        ),
        helper.make_node("Twice", ["picked"], ["twice"], name="call", domain="my"),
        helper.make_node("Constant", [], ["shape"], name="shape_node", value_ints=[-1, 4]),
        helper.make_node("Reshape", ["twice", "shape"], ["flat"], name="reshape"),
        helper.make_node("LeakyRelu", ["flat"], ["y"], name="leaky", alpha=0.5),
    ]
    inputs = [
        helper.make_tensor_value_info("x", FLOAT, ["n", 4]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("y", FLOAT, ["n", 4])]
    infos = [helper.make_tensor_value_info("sum", FLOAT, ["n", 4])]
    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, held, value_info=infos)
    twice = helper.make_function(
        "my",
        "Twice",
        ["a"],
        ["r"],
        [helper.make_node("Add", ["a", "a"], ["r"], name="double")],
        [helper.make_opsetid("", 17)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=8)


def tail(opset: int = 17) -> onnx.ModelProto:
    """y[n, 4] -> Abs -> Add b -> z[n, 4], with names that the small model has too."""
    nodes = [
        helper.make_node("Abs", ["y"], ["relu"], name="relu_node"),
        helper.make_node("Add", ["relu", "b"], ["z"], name="last"),
    ]
    ports = [helper.make_tensor_value_info(name, FLOAT, ["n", 4]) for name in ("y", "z")]
    held = [numpy_helper.from_array(np.ones(4, np.float32), "b")]
    graph = helper.make_graph(nodes, "tail", ports[:1], ports[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
