"""Small models for the tests of TensorRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import workbench as wb


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[Any, ...]],
    outputs: dict[str, int] | list[str],
    weights: dict[str, np.ndarray] | None = None,
    *,
    types: dict[str, int] | None = None,
    opset: int = 17,
    domains: dict[str, int] | None = None,
) -> wb.Model:
    """A model; `inputs` are shapes by name (float32 unless `types` says otherwise), `outputs` names (of any type)."""
    types = types or {}
    kinds = outputs if isinstance(outputs, dict) else dict.fromkeys(outputs, TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, kind, None) for n, kind in kinds.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    opsets = {"": opset, **(domains or {})}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return wb.load(helper.make_model(graph, opset_imports=imports, ir_version=9))


def mlp(seed: int = 0, width: int = 16) -> wb.Model:
    """x [batch, 8] -> fc1 -> relu -> fc2 -> y [batch, 4]."""
    rng = np.random.default_rng(seed)
    weights = {"w1": rng.normal(size=(8, width)).astype("f4"), "w2": rng.normal(size=(width, 4)).astype("f4")}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "fc1"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], "fc2"),
    ]
    return model(nodes, {"x": ("batch", 8)}, ["y"], weights)
