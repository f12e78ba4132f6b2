"""Engine JSON written by hand, after the documented format and what was seen of TensorRT 9 to 11: nothing here was
recorded, times are invented."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import workbench as wb


def tensor(name: str, *shape: int, dtype: str = "Half") -> dict[str, Any]:
    return {"Name": name, "Location": "Device", "Dimensions": list(shape), "Format/Datatype": dtype}


def layer(
    name: str, kind: str, inputs: list, outputs: list, metadata: str = "", **more: Any
) -> dict[str, Any]:
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": inputs,
        "Outputs": outputs,
        "Metadata": metadata,
        **more,
    }


def onnx_layers(*names: str, separator: str = "\x1e") -> str:
    return separator.join(f"[ONNX Layer: {name}]" for name in names)


def profile(**ms: float) -> list[dict[str, Any]]:
    return trtexec(list(ms.items()))


def trtexec(times: list[tuple[str, float]], count: int = 10) -> list[dict[str, Any]]:
    """As ``--exportProfile`` writes it."""
    total = sum(ms for _, ms in times)
    rows = [
        {"name": name, "timeMs": ms * count, "averageMs": ms, "medianMs": ms, "percentage": 100 * ms / total}
        for name, ms in times
    ]
    return [{"count": count}, *rows]


MHA = ("/attn/MatMul", "/attn/Softmax", "/attn/Transpose", "/attn/MatMul_1")
X, Y = tensor("x", 1, 128, 64), tensor("y", 1, 128, 64)


def attention() -> wb.Model:
    """x -> q, k (MatMul) -> scores -> Softmax -> MatMul with x -> Add x -> y, with a weight that is transposed."""
    names = {"wq": (64, 64), "wk": (64, 64)}
    weights = [numpy_helper.from_array(np.zeros(shape, np.float16), name) for name, shape in names.items()]
    node = helper.make_node
    nodes = [
        node("Transpose", ["wk"], ["wkt"], "/attn/wk/Transpose", perm=[1, 0]),
        node("MatMul", ["x", "wq"], ["q"], "/attn/q/MatMul"),
        node("MatMul", ["x", "wkt"], ["k"], "/attn/k/MatMul"),
        node("Transpose", ["k"], ["kt"], "/attn/Transpose", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["scores"], "/attn/MatMul"),
        node("Softmax", ["scores"], ["p"], "/attn/Softmax"),
        node("MatMul", ["p", "x"], ["o"], "/attn/MatMul_1"),
        node("Add", ["o", "x"], ["y"], "/Add"),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [1, 128, 64]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "attention", ports[:1], ports[1:], weights)
    return wb.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def myelin(separator: str = "\x1f") -> dict[str, Any]:
    """The attention as TensorRT 10 and 11 split it: gemm and kgen layers with metadata, on two streams."""
    return {
        "Layers": [
            layer("__myl_Tran_myl0_0", "kgen", [tensor("wk", 64, 64)], [tensor("wkt", 64, 64)], StreamId=0),
            layer("/attn/q/MatMul_myl0_1", "gemm", [X], [tensor("q", 1, 128, 64)],
                  onnx_layers("/attn/q/MatMul"), StreamId=0, TacticName="sm80_xmma_gemm_f16f16_f16f32_f32_nn_n"),
            layer("/attn/k/MatMul_myl0_2", "gemm", [X, tensor("wkt", 64, 64)], [tensor("k", 1, 128, 64)],
                  onnx_layers("/attn/k/MatMul"), StreamId=1, TacticName="sm80_xmma_gemm_f16f16_f16f32_f32_nn_n"),
            layer("_gemm_mha_v2_myl0_3", "kgen", [tensor("q", 1, 128, 64), tensor("k", 1, 128, 64), X],
                  [tensor("o", 1, 128, 64)], onnx_layers(*MHA, separator=separator),
                  StreamId=0, TacticName="_gemm_mha_v2_0x3f"),
            layer("__myl_Add_myl0_4", "kgen", [tensor("o", 1, 128, 64), X], [Y], onnx_layers("/Add"), StreamId=0),
        ],
        "Bindings": ["x", "y"],
    }  # fmt: skip


MYELIN_TIMES = trtexec(
    [("__myl_Tran_myl0_0", 0.01), ("/attn/q/MatMul_myl0_1", 0.04), ("/attn/k/MatMul_myl0_2", 0.05),
     ("_gemm_mha_v2_myl0_3", 0.08), ("__myl_Add_myl0_4", 0.02)]
)  # fmt: skip


def two_profiles() -> dict[str, Any]:
    """One copy of the layers per optimisation profile, the second marked in the names."""
    layers = []
    for mark, batch in (("", 1), (" [profile 1]", 8)):
        x, t, y = (tensor(name + mark, batch, 64) for name in "xty")
        layers += [
            layer(f"fc1{mark}", "gemm", [x], [t], onnx_layers("fc1"), StreamId=0),
            layer(f"act{mark}", "kgen", [t], [y], onnx_layers("act"), StreamId=0),
        ]
    return {"Layers": layers, "Bindings": ["x", "y", "x [profile 1]", "y [profile 1]"]}


def loop() -> dict[str, Any]:
    """A back edge (s), a tensor that two layers write (s), a condition that is read on the host."""
    s = tensor("s", 1, 64)
    return {
        "Layers": [
            layer("init", "kgen", [tensor("x", 1, 64)], [s], onnx_layers("Mul_0")),
            layer("body", "gemm", [s], [tensor("t", 1, 64)], onnx_layers("MatMul_in_body")),
            layer(
                "step",
                "kgen",
                [tensor("t", 1, 64)],
                [s, tensor("go", dtype="Bool")],
                onnx_layers("Add_in_body"),
            ),
            layer("out", "kgen", [s], [tensor("y", 1, 64)], onnx_layers("Relu_9")),
        ],
        "Bindings": ["x", "y"],
    }


def text(data: Any) -> str:
    return json.dumps(data)
