"""A transformer block as exporters write it (norms, GELU and softmax from single operators), and with plugins."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

import workbench as wb
from workbench import plugins


class _Builder:
    def __init__(self, dtype: str):
        self.dtype, self.nodes, self.weights = np.dtype(dtype), [], []
        self.rng = np.random.default_rng(0)

    def op(self, op_type: str, *inputs: str, name: str, **attributes: Any) -> str:
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def weight(self, name: str, *shape: int, value: Any = None) -> str:
        array = (
            self.rng.standard_normal(shape, dtype=np.float32) * 0.02 if value is None else np.asarray(value)
        )
        dtype = self.dtype if array.dtype.kind == "f" else array.dtype
        self.weights.append(onnx.numpy_helper.from_array(array.astype(dtype), name))
        return name

    def norm(self, x: str, name: str, width: int) -> str:
        mean = self.op("ReduceMean", x, "last", name=f"{name}_mean")
        centred = self.op("Sub", x, mean, name=f"{name}_sub")
        square = self.op("Pow", centred, "two", name=f"{name}_pow")
        variance = self.op("ReduceMean", square, "last", name=f"{name}_variance")
        shifted = self.op("Add", variance, "epsilon", name=f"{name}_shift")
        root = self.op("Sqrt", shifted, name=f"{name}_sqrt")
        scaled = self.op("Div", centred, root, name=f"{name}_div")
        weighted = self.op("Mul", scaled, self.weight(f"{name}_w", value=np.ones(width)), name=f"{name}_mul")
        return self.op("Add", weighted, self.weight(f"{name}_b", value=np.zeros(width)), name=f"{name}_add")


NORM = ("mean", "sub", "pow", "variance", "shift", "sqrt", "div", "mul", "add")


def transformer_block(batch: int, length: int, width: int, heads: int, dtype: str) -> wb.Model:
    """Inputs ``x`` (batch, length, width) and ``mask`` (batch, 1, 1, length); output ``y``."""
    b = _Builder(dtype)
    for name, value in (("two", 2.0), ("epsilon", 1e-5), ("root2", 2**0.5), ("one", 1.0), ("half", 0.5)):
        b.weight(name, value=np.float32(value))
    b.weight("scale", value=np.float32((width // heads) ** -0.5))
    b.weight("last", value=np.array([-1], np.int64))
    b.weight("split", value=np.array([0, 0, heads, width // heads], np.int64))
    b.weight("joined", value=np.array([0, 0, width], np.int64))
    h = b.norm("x", "norm1", width)
    parts = []
    for letter, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        product = b.op("MatMul", h, b.weight(f"{letter}_w", width, width), name=f"{letter}_matmul")
        shaped = b.op("Reshape", product, "split", name=f"{letter}_reshape")
        parts.append(b.op("Transpose", shaped, name=f"{letter}_transpose", perm=order))
    scores = b.op("MatMul", parts[0], parts[1], name="scores")
    scaled = b.op("Mul", scores, "scale", name="scores_scale")
    masked = b.op("Add", scaled, "mask", name="scores_mask")
    shares = b.op("Softmax", masked, name="softmax", axis=-1)
    mixed = b.op(
        "Transpose", b.op("MatMul", shares, parts[2], name="mix"), name="mix_transpose", perm=[0, 2, 1, 3]
    )
    joined = b.op("Reshape", mixed, "joined", name="mix_reshape")
    attended = b.op("MatMul", joined, b.weight("o_w", width, width), name="o_matmul")
    total = b.op("Add", attended, "x", name="skip1")
    h = b.norm(total, "norm2", width)
    wide = b.op("MatMul", h, b.weight("up_w", width, 4 * width), name="up")
    biased = b.op("Add", wide, b.weight("up_b", 4 * width), name="up_bias")
    erf = b.op("Erf", b.op("Div", biased, "root2", name="gelu_div"), name="gelu_erf")
    product = b.op("Mul", biased, b.op("Add", erf, "one", name="gelu_add"), name="gelu_mul")
    active = b.op("Mul", product, "half", name="gelu_half")
    down = b.op("MatMul", active, b.weight("down_w", 4 * width, width), name="down")
    b.nodes.append(onnx.helper.make_node("Add", [down, total], ["y"], name="skip2"))
    kind = onnx.helper.np_dtype_to_tensor_dtype(b.dtype)
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        b.nodes, "block",
        [info("x", kind, [batch, length, width]), info("mask", kind, [batch, 1, 1, length])],
        [info("y", kind, [batch, length, width])], b.weights,
    )  # fmt: skip
    return wb.load(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    )


def with_plugins(model: wb.Model) -> wb.Model:
    """The block with its norms, softmax, skip + norm and bias + GELU as plugin nodes."""
    heads = next(node for node in model.ir.graph if node.name == "scores_scale")
    scale = float(heads.inputs[1].const_value.numpy())
    return (
        model.replace([f"norm1_{part}" for part in NORM], plugins.layer_norm, inputs=["x", "norm1_w", "norm1_b"])
        .replace(
            ["scores_scale", "scores_mask", "softmax"], plugins.masked_softmax,
            inputs=["scores_out", "mask"], attributes={"scale": scale},
        )
        .replace(
            ["skip1", *(f"norm2_{part}" for part in NORM)], plugins.skip_layer_norm,
            inputs=["o_matmul_out", "x", "norm2_w", "norm2_b"], outputs=["norm2_add_out", "skip1_out"],
        )
        .replace(
            ["up_bias", "gelu_div", "gelu_erf", "gelu_add", "gelu_mul", "gelu_half"], plugins.bias_gelu,
            inputs=["up_out", "up_b"],
        )
    )  # fmt: skip


def feeds(model: wb.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Random x; a mask that leaves the last eighth of the keys out."""
    rng = np.random.default_rng(seed)
    x, mask = model.inputs
    values = np.zeros(mask.shape, x.dtype)
    values[..., -(mask.shape[-1] // 8) :] = -np.inf
    return {"x": rng.standard_normal(x.shape, dtype=np.float32).astype(x.dtype), "mask": values}
