"""What folding into a Conv, ConvTranspose, Gemm or MatMul needs: its weights, and factors along its output channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from .match import Match, Refusal, attribute, constant, described
from .rewrite import node, replace, weight

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass
class Linear:
    """A node y = W x + b with constant weights, in float64.

    Attributes:
        weight: W as the node holds it.
        bias: b, one per output channel, or None.
        channels: output channels.
        rank: of the output.
        axis: the axis of the output that the channels are.
    """

    node: ir.Node
    weight: np.ndarray
    bias: np.ndarray | None
    channels: int
    rank: int | None
    axis: int
    group: int = 1
    transposed: bool = False

    def scaled(self, factor: np.ndarray) -> np.ndarray:
        """W with each output channel multiplied."""
        if self.node.op_type == "ConvTranspose":  # W[C, M / group, ...]
            rows = np.repeat(factor.reshape(self.group, -1), len(self.weight) // self.group, axis=0)
            return self.weight * rows.reshape(*rows.shape, *[1] * (self.weight.ndim - 2))
        if self.node.op_type == "Conv" or self.transposed:
            return self.weight * factor.reshape(-1, *[1] * (self.weight.ndim - 1))
        return self.weight * factor


def read(match: Match, item: ir.Node) -> Linear:
    """The weights of a node; Refusal where they are not constant."""
    held = constant(item.inputs[1])
    if held is None:
        raise Refusal(f"its weight, {_from(item.inputs[1])} is no constant", item)
    if held.dtype.kind != "f" and held.dtype.name != "bfloat16":
        raise Refusal(f"its weight is {held.dtype}, expected floats", item)
    bias = None
    if len(item.inputs) > 2 and item.inputs[2] is not None:
        given = constant(item.inputs[2])
        if given is None:
            raise Refusal(f"its bias, {_from(item.inputs[2])} is no constant", item)
        bias = given.astype(np.float64)
    array, draft = held.astype(np.float64), match.draft
    if item.op_type in ("Conv", "ConvTranspose"):
        group = int(attribute(item, "group", draft) or 1)
        channels = len(array) if item.op_type == "Conv" else array.shape[1] * group
        return Linear(item, array, bias, channels, array.ndim, 1, group)
    if item.op_type == "Gemm":
        turned = bool(attribute(item, "transB", draft))
        alpha, beta = (attribute(item, name, draft) for name in ("alpha", "beta"))
        if alpha != 1.0 or beta != 1.0:
            raise Refusal(f"alpha is {alpha:g} and beta {beta:g}, expected 1", item)
        channels = len(array) if turned else array.shape[1]
        if bias is not None and (bias.ndim > 1 and bias.shape[0] != 1):
            raise Refusal(f"its bias has the shape {bias.shape}, expected one number per column", item)
        bias = None if bias is None else np.broadcast_to(bias.reshape(-1), (channels,))
        return Linear(item, array, bias, channels, 2, 1, transposed=turned)
    if array.ndim != 2:
        raise Refusal(f"its weight has {array.ndim} dims, expected 2", item)
    shape = match.shape(item.outputs[0])
    rank = None if shape is None else len(shape)
    return Linear(item, array, None, array.shape[1], rank, -1 if rank is None else rank - 1)


def per_channel(linear: Linear, array: np.ndarray, what: str) -> np.ndarray:
    """A constant that broadcasts along the output channels alone, as one number per channel; else Refusal."""
    if array.size == 1 and array.ndim <= (linear.rank or 1):
        return np.full(linear.channels, float(array.ravel()[0]))
    if linear.rank is None or array.ndim > linear.rank:
        raise Refusal(
            f"{what} has the shape {array.shape}, which does not fit the rank of {linear.node.op_type}"
        )
    wide = (1,) * (linear.rank - array.ndim) + array.shape
    wanted = tuple(linear.channels if axis == linear.axis else 1 for axis in range(linear.rank))
    if wide != wanted:
        raise Refusal(f"{what} has the shape {array.shape}, expected one number per channel, {wanted}")
    return array.astype(np.float64).ravel()


def fold(
    match: Match, rule: str, linear: Linear, factor: np.ndarray | None, bias: np.ndarray | None
) -> list[ir.Node]:
    """Put the node with new weights in the place of all matched ones."""
    item, old = linear.node, linear.node.inputs[1]
    assert old is not None
    inputs = list(item.inputs[:2])
    if factor is not None:
        inputs[1] = weight(match, f"{old.name}_{rule}", linear.scaled(factor), old)
    if bias is not None:
        inputs.append(weight(match, f"{old.name}_{rule}_bias", bias, old))
    new = node(
        match.draft, match.graph, item.op_type, inputs, dict(item.attributes), name=f"{item.name}_{rule}"
    )
    replace(match.draft, rule, match.nodes, [new], {match.anchor.outputs[0]: new.outputs[0]}, match.anchor)
    return [new]


def fits(linear: Linear, like: np.ndarray, *arrays: np.ndarray | None) -> None:
    """Refuse numbers that the dtype of the weights cannot hold."""
    for array in arrays:
        if array is None:
            continue
        with np.errstate(all="ignore"):
            narrow = array.astype(like.dtype)
        if not np.isfinite(narrow.astype(np.float64)).all():
            raise Refusal(f"the folded weights do not fit {like.dtype}", linear.node)


def _from(value: Any) -> str:
    return described(value) if value is not None else "left out,"
