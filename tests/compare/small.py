"""Small models for the tests, in a line or two each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

Node = onnx.NodeProto
node = helper.make_node


def model(
    nodes: Sequence[Node],
    inputs: Mapping[str, Sequence | None],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    types: Mapping[str, str] | None = None,
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of those nodes. `inputs`: name -> dims (None: unknown rank); `types`: dtypes (float32)."""

    def value(name: str, dims: Sequence | None) -> onnx.ValueInfoProto:
        kind = (types or {}).get(name, "float32")
        code = 8 if kind == "string" else helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        return helper.make_tensor_value_info(name, code, dims)

    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    made = helper.make_graph(
        list(nodes),
        "small",
        [value(*item) for item in inputs.items()],
        [value(name, None) for name in outputs],
        held,
    )
    imports = [
        helper.make_opsetid("", opset),
        *{f.domain: helper.make_opsetid(f.domain, 1) for f in functions}.values(),
    ]
    return helper.make_model(made, opset_imports=imports, ir_version=9, functions=list(functions))


def body(
    nodes: Sequence[Node],
    inputs: Mapping[str, str],
    outputs: Sequence[str],
    types: Mapping[str, str] | None = None,
    dims: Mapping[str, Sequence] | None = None,
) -> onnx.GraphProto:
    """A body of an If, Loop or Scan node. `inputs`: name -> dtype; `types` of the outputs (float32)."""
    code = lambda kind: helper.np_dtype_to_tensor_dtype(np.dtype(kind))  # noqa: E731
    return helper.make_graph(
        list(nodes),
        "body",
        [
            helper.make_tensor_value_info(name, code(kind), (dims or {}).get(name))
            for name, kind in inputs.items()
        ],
        [
            helper.make_tensor_value_info(
                name, code((types or {}).get(name, "float32")), (dims or {}).get(name)
            )
            for name in outputs
        ],
    )


def mlp(scale: float = 1.0, prefix: str = "", dims: Sequence = ("batch", 8)) -> onnx.ModelProto:
    """x -> MatMul -> Add -> Relu -> MatMul -> Softmax; `scale` multiplies the second weight."""
    random = np.random.default_rng(0)
    w1, w2 = (random.normal(0, 0.5, (8, 8)).astype(np.float32) for _ in range(2))
    p = prefix
    nodes = [
        node("MatMul", [f"{p}x", "w1"], [f"{p}h"], f"{p}first"),
        node("Add", [f"{p}h", "b"], [f"{p}a"], f"{p}bias"),
        node("Relu", [f"{p}a"], [f"{p}r"], f"{p}relu"),
        node("MatMul", [f"{p}r", "w2"], [f"{p}m"], f"{p}second"),
        node("Softmax", [f"{p}m"], [f"{p}y"], f"{p}softmax"),
    ]
    weights = {"w1": w1, "b": np.linspace(-1, 1, 8, dtype=np.float32), "w2": w2 * np.float32(scale)}
    return model(nodes, {f"{p}x": dims}, [f"{p}y"], weights)


def forever() -> onnx.ModelProto:
    """A model whose run does not end in a human's time: a Loop of 2^62 rounds."""
    inner = body(
        [node("Identity", ["go"], ["on"]), node("Add", ["value", "value"], ["next"])],
        {"round": "int64", "go": "bool", "value": "float32"},
        ["on", "next"],
        {"on": "bool"},
        dims={"round": [], "go": []},
    )
    loop = node("Loop", ["rounds", "", "r"], ["y"], "endless", body=inner)
    weights = {"rounds": np.array(1 << 62)}
    return model([node("Relu", ["x"], ["r"], "relu"), loop], {"x": [4]}, ["y"], weights)
