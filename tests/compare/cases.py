"""What the tests compare: small inputs for every real model, and candidates that differ in a known way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

Feed = dict[str, np.ndarray]


def _uniform(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: random.random(shape, dtype=np.float32)


def _normal(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: random.normal(0, 1, shape).astype(np.float32)


def _whole(high: int, *shape: int, dtype: type = np.int64) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: random.integers(0, high, shape).astype(dtype)


def _fixed(value: int, *shape: int, dtype: type = np.int64) -> Callable[[np.random.Generator], np.ndarray]:
    return lambda random: np.full(shape, value, dtype)


_VAD = {"input": _normal(1, 576), "state": _normal(2, 1, 128)}
_IMAGE = _uniform(1, 3, 224, 224)
INPUTS: dict[str, dict[str, Callable[[np.random.Generator], np.ndarray]]] = {
    "ppocr_det": {"x": _normal(1, 3, 64, 96)},
    "ppocr_rec": {"x": _normal(1, 3, 48, 64)},
    "ppocr_cls": {"x": _normal(1, 3, 48, 96)},
    "silero_vad": {"input": _normal(1, 512), "state": _VAD["state"], "sr": _fixed(16000)},
    "silero_vad_16k_op15": {**_VAD, "sr": _fixed(16000)},
    "silero_vad_16k_sequence": {"input": _normal(3, 576), "h": _normal(1, 1, 128), "c": _normal(1, 1, 128)},
    "silero_vad_half": _VAD,
    "silero_vad_ifless": {**_VAD, "sr": _fixed(16000)},
    "silero_vad_openvino": _VAD,
    "minilm_int8": {
        "input_ids": _whole(30000, 2, 9),
        "attention_mask": _fixed(1, 2, 9),
        "token_type_ids": _fixed(0, 2, 9),
    },
    "style_predict": {"style_image": _uniform(1, 256, 256, 3)},
    "style_transform": {
        "content_image": _uniform(1, 384, 384, 3),
        "mobilenet_conv/Conv/BiasAdd": _normal(1, 1, 1, 100),
    },
    "style_multi": {"image": _uniform(1, 3, 32, 48), "style_weights": _uniform(26)},
    "mtcnn_pnet": {"input_1": _normal(1, 12, 24, 3)},
    "mtcnn_rnet": {"input_2": _normal(2, 24, 24, 3)},
    "mtcnn_onet": {"input_3": _normal(2, 48, 48, 3)},
    "magika": {"bytes": _whole(256, 1, 2048, dtype=np.int32)},
    "loop": {"input_0": _whole(9, 1, dtype=np.int32)},
    "needs_constraints": {"x": _uniform(1, 1, 256, 256)},
    "residual_block": {"gpu_0/data_0": _uniform(1, 3, 224, 224)},
    **{f"light_{name}": {"data_0": _IMAGE} for name in ("bvlc_alexnet", "densenet121", "inception_v1")},
    **{f"light_{name}": {"data_0": _IMAGE} for name in ("inception_v2", "squeezenet", "vgg19")},
    **{f"light_{name}": {"gpu_0/data_0": _IMAGE} for name in ("resnet50", "shufflenet", "zfnet512")},
}


def feeds(name: str, count: int = 1, seed: int = 0) -> list[Feed]:
    """`count` random inputs for a real model."""
    random = np.random.default_rng(seed)
    return [{key: make(random) for key, make in INPUTS[name].items()} for _ in range(count)]


def weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model that holds data: initializers and Constant nodes' values, in all bodies."""
    yield from _weights(model.graph)
    for function in model.functions:
        yield from _held(function.node)


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _held(graph.node)


def _held(nodes: list[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and node.op_type in (
                "Constant",
                "ConstantOfShape",
            ):
                yield attribute.t
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _weights(attribute.g)


def change(
    model: onnx.ModelProto, how: Callable[[np.ndarray], np.ndarray], least_rank: int = 1
) -> onnx.ModelProto:
    """A copy of the model of which every float32 weight of at least that rank is `how(weight)`."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in weights(changed):
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= least_rank:
            value = how(numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return changed


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights of rank 2 and more rounded to float16."""
    return change(model, lambda weight: weight.astype(np.float16), least_rank=2)


def scaled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every weight 0.1 % larger: for models whose dummy weights rounding would leave alone."""
    return change(model, lambda weight: weight * np.float32(1.001))


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """What onnxslim makes of the rounded model: nodes folded, merged and gone."""
    import onnxslim

    return onnxslim.slim(rounded(model))


def basic(model: onnx.ModelProto) -> onnx.ModelProto:
    """What ONNX Runtime's basic optimisations make of the rounded model: standard operators, many fused."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "basic.onnx")
        options.log_severity_level = 4
        serialised = rounded(model).SerializeToString()
        onnxruntime.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float16, inputs and outputs kept in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    converted = convert_float_to_float16(copied, keep_io_types=True, disable_shape_infer=True)
    for tensor in weights(converted):
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))  # as raw bytes
    return converted


CANDIDATES = {"rounded": rounded, "scaled": scaled, "simplified": simplified, "basic": basic, "half": half}


def randomized(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A light model with random weights (as initializers): no two of its nodes are alike."""
    random = np.random.default_rng(seed)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.ir_version = 8
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = [node for node in changed.graph.node if node.op_type == "ConstantOfShape"]
    for node in made:
        shape = tuple(int(size) for size in shapes[node.input[0]])
        if len(shape) == 1:
            value = random.uniform(0.2, 0.6, shape)
        else:
            value = random.normal(0, 1, shape) * np.sqrt(2 / np.prod(shape[1:]))
            value *= 0.03 if len(shape) == 2 else 1  # a last layer that does not saturate the Softmax
        changed.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), node.output[0]))
        changed.graph.node.remove(node)
    return changed
