"""Small models for the tests of precision, written as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import workbench as wb


def model(text: str, opset: int = 17, **weights: np.ndarray) -> wb.Model:
    """A model from onnx's text format, its nodes named after what they make, with these weights as initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}')
    for node in proto.graph.node:
        node.name = node.name or f"n_{node.output[0]}"
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in weights.items())
    onnx.checker.check_model(proto)
    return wb.load(proto)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def run(made: wb.Model, feed: dict[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of a model on ONNX Runtime without optimisation."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/")
    session = ort.InferenceSession(made.to_proto().SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def dtypes(made: wb.Model) -> dict[str, str]:
    """Tensor -> dtype as onnx infers it, of the main graph."""
    inferred = onnx.shape_inference.infer_shapes(
        made.to_proto(), check_type=True, strict_mode=True, data_prop=True
    )
    graph = inferred.graph
    named = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    named |= {t.name: t.data_type for t in graph.initializer}
    return {name: onnx.helper.tensor_dtype_to_np_dtype(number).name for name, number in named.items()}


def casts(made: wb.Model) -> list[tuple[str, str]]:
    """(input, output) of every Cast of the main graph."""
    nodes = made.to_proto().graph.node
    return [(node.input[0], node.output[0]) for node in nodes if node.op_type == "Cast"]
