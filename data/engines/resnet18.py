"""ResNet-18 as ONNX with the node and tensor names that the recorded fp32 and fp16 engines have.

The ONNX file behind the recordings is not public. This is the same architecture (He et al., "Deep Residual
Learning for Image Recognition", 2015; BatchNormalization folded into the convolutions, as exporters do), with
weights that are all zero: good for joining engine layers to nodes and for costs, not for accuracy. The
tensors are those that the engines show.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BATCH = 32
_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
_OUTPUTS = {
    "Relu_1": "onnx::MaxPool_125", "MaxPool_2": "input.8", "Relu_4": "onnx::Conv_129", "Relu_7": "input.24",
    "Relu_9": "onnx::Conv_136", "Relu_12": "input.40", "Relu_14": "onnx::Conv_143", "Conv_15": "onnx::Add_210",
    "Relu_18": "input.60", "Relu_20": "onnx::Conv_152", "Relu_23": "input.76", "Relu_25": "onnx::Conv_159",
    "Conv_26": "onnx::Add_225", "Relu_29": "input.96", "Relu_31": "onnx::Conv_168", "Relu_34": "input.112",
    "Relu_36": "onnx::Conv_175", "Conv_37": "onnx::Add_240", "Relu_40": "input.132", "Relu_42": "onnx::Conv_184",
    "Relu_45": "input.148", "GlobalAveragePool_46": "onnx::Flatten_189", "Gemm_48": "191",
}  # fmt: skip


class _Builder:
    """Adds nodes; their names are counted as PyTorch's exporter counted them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op_type: str, *inputs: str, **attributes: object) -> str:
        name = f"{op_type}_{len(self.nodes)}"
        output = _OUTPUTS.get(name, f"out_{len(self.nodes)}")
        self.nodes.append(helper.make_node(op_type, inputs, [output], name, **attributes))
        return output

    def zeros(self, name: str, *shape: int) -> str:
        self.weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), name))
        return name

    def conv(self, x: str, channels: int, maps: int, kernel: int, stride: int) -> str:
        name = f"onnx::Conv_{len(self.nodes)}"
        weight = self.zeros(f"{name}.weight", maps, channels, kernel, kernel)
        bias = self.zeros(f"{name}.bias", maps)
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.node("Conv", x, weight, bias, **sizes)

    def block(self, x: str, channels: int, maps: int, stride: int) -> str:
        y = self.node("Relu", self.conv(x, channels, maps, 3, stride))
        y = self.conv(y, maps, maps, 3, 1)
        short = self.conv(x, channels, maps, 1, stride) if channels != maps else x
        return self.node("Relu", self.node("Add", y, short))


def model() -> onnx.ModelProto:
    """Input ``input.1`` float32[32, 3, 224, 224], output ``191`` float32[32, 1000]."""
    made = _Builder()
    x = made.node("Relu", made.conv("input.1", 3, 64, 7, 2))
    x = made.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for maps, stride in _STAGES:
        x = made.block(x, channels, maps, stride)
        x = made.block(x, maps, maps, 1)
        channels = maps
    x = made.node("Flatten", made.node("GlobalAveragePool", x))
    made.node("Gemm", x, made.zeros("fc.weight", 1000, 512), made.zeros("fc.bias", 1000), transB=1)
    graph = helper.make_graph(
        made.nodes, "resnet18",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [BATCH, 3, 224, 224])],
        [helper.make_tensor_value_info("191", TensorProto.FLOAT, [BATCH, 1000])],
        made.weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
