"""The models that the bench compares: three of ONNX's light models, and a changed version of each."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

NAMES = ("light_resnet50", "light_densenet121", "light_vgg19")
FACTOR = np.float32(1.001)


def path(name: str) -> Path:
    """Where the onnx wheel keeps the model."""
    spec = importlib.util.find_spec("onnx")
    return Path(spec.submodule_search_locations[0]) / "backend/test/data/light" / f"{name}.onnx"


def write_changed(name: str, target: Path) -> Path:
    """Write the model with every float weight multiplied by `FACTOR`, so that no tensor stays equal."""
    model = onnx.load(path(name))
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            for attribute in node.attribute:
                value = numpy_helper.to_array(attribute.t)
                attribute.t.CopyFrom(numpy_helper.from_array(value * FACTOR))
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            changed = numpy_helper.from_array(numpy_helper.to_array(tensor) * FACTOR, tensor.name)
            tensor.CopyFrom(changed)
    onnx.save(model, target)
    return target


def feeds(name: str, count: int = 4, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """`count` random images for the model's one input."""
    graph = onnx.load(path(name)).graph
    weights = {tensor.name for tensor in graph.initializer}
    (image,) = (value.name for value in graph.input if value.name not in weights)
    random = np.random.default_rng(seed)
    return [{image: random.random((1, 3, 224, 224), dtype=np.float32)} for _ in range(count)]
