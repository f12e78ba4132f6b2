"""Small models for the tests of TensorRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import workbench as wb
from workbench.inputs import feeds


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


def outputs(net: wb.Model, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As ONNX Runtime computes them, without its optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        net.to_proto().SerializeToString(), options, ["CPUExecutionProvider"]
    )
    kinds = {i.name: i.type for i in session.get_inputs()}
    casts = {"tensor(int32)": "int32", "tensor(int64)": "int64"}
    given = {n: a.astype(casts.get(kinds[n], a.dtype)) for n, a in feed.items() if n in kinds}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))


def same(before: wb.Model, after: wb.Model, feed: dict[str, np.ndarray] | None = None) -> None:
    feed = next(iter(feeds(before))) if feed is None else feed
    one, two = outputs(before, feed), outputs(after, feed)
    assert list(one) == list(two)
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value, err_msg=name)
