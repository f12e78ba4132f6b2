"""Fixes of what is quantized: QuantizeLinear, DequantizeLinear, int8 weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...edits import origins, place
from ...edits.base import Edit
from ...edits.draft import Draft
from ...errors import EditError
from .common import MOVES, constant_of, replace_output, same, scale_of, sweep, zero_of


@dataclass(frozen=True)
class CastToDequantize(Edit):
    """Let DequantizeLinear with a scale of 1 take the place of a Cast from int8 weights to float32: the same values.

    Args:
        node: name of the Cast.
    """

    method: ClassVar[str] = "cast_to_dequantize"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        source = node.inputs[0] if node.op_type == "Cast" else None
        if source is None or constant_of(source, node).dtype != np.int8:
            raise EditError(
                f"node {self.node!r} ({node.op_type}): expected a Cast of a constant of type int8"
            )
        if (to := node.attributes.get_int("to")) != ir.DataType.FLOAT:
            raise EditError(
                f"node {self.node!r} (Cast): got to={to}, expected float32 ({int(ir.DataType.FLOAT)})"
            )
        one = place.constant(draft, graph, f"{source.name}_one", ir.tensor(np.array(1, np.float32)))
        draft.set(node, "op_type", "DequantizeLinear")
        draft.set_attribute(node, "to", None)
        draft.set_inputs(node, [source, one])


@dataclass(frozen=True)
class DequantizeFirst(Edit):
    """Dequantize weights before elements are taken from them, not after.

    Args:
        node: name of the Gather that reads a quantized constant and that only a DequantizeLinear with one scale reads.
    """

    method: ClassVar[str] = "dequantize_first"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        source, readers = node.inputs[0], list(node.outputs[0].uses())
        last = readers[0][0] if len(readers) == 1 else None
        if source is None or last is None or last.op_type != "DequantizeLinear" or scale_of(last).size != 1:
            raise EditError(
                f"node {self.node!r} ({node.op_type}): expected one reader, a DequantizeLinear with one scale"
            )
        constant_of(source, node)
        name = draft.free_node(f"{last.name}_first")
        new = draft.create("", "DequantizeLinear", [source, *last.inputs[1:]], [], name)
        new.outputs[0].name = draft.free(graph, f"{source.name}_dequantized")
        origins.note_node(draft, new, origins.of_node(last))
        draft.insert(graph, [new], place.following(draft, graph, new.inputs))
        draft.set_inputs(node, [new.outputs[0], *node.inputs[1:]])
        place.arrange(draft, node)
        replace_output(draft, last, node.outputs[0])


@dataclass(frozen=True)
class FakeQuantize(Edit):
    """Compute a QuantizeLinear, and the DequantizeLinears of what it makes, in floating point: the same numbers, also
    with a zero point that is not 0. (Where TensorRT takes the integers, it is faster with them.)

    ``clip(round(x / scale), low - zero_point, high - zero_point) * scale``

    Args:
        node: name of the QuantizeLinear: one constant scale, one constant zero point.
    """

    method: ClassVar[str] = "fake_quantize"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        ends = dequantizers(node)
        scale, zero = scale_of(node), zero_of(node)
        if scale.size != 1 or zero.size != 1 or zero.dtype.name not in ("int8", "uint8") or ends is None:
            raise EditError(
                f"node {self.node!r} ({node.op_type}): expected one int8 or uint8 zero point and one scale, and only "
                "DequantizeLinear nodes with the same ones (also behind nodes that move elements) as readers"
            )
        limits, kind = np.iinfo(zero.dtype), scale.dtype
        low, high = (np.array(limit - int(zero.reshape(())), kind) for limit in (limits.min, limits.max))
        made, value = [], node.inputs[0]
        assert value is not None
        for op_type, extra in (("Div", [scale.reshape(())]), ("Round", []), ("Clip", [low, high])):
            inputs = [
                value,
                *(self._constant(draft, graph, op_type, i, array) for i, array in enumerate(extra)),
            ]
            new = draft.create("", op_type, inputs, [], draft.free_node(f"{self.node}_{op_type.lower()}"))
            origins.note_node(draft, new, origins.of_node(node))
            value = new.outputs[0]
            value.name = draft.free(graph, f"{node.outputs[0].name}_{op_type.lower()}")
            made.append(new)
        draft.insert(graph, made, node)
        unused = [*node.inputs[1:], *(value for end in ends for value in end.inputs[1:])]
        replace_output(draft, node, value)
        for end in ends:
            draft.set(end, "op_type", "Mul")
            for name in list(end.attributes):
                draft.set_attribute(end, name, None)
            draft.set_inputs(end, end.inputs[:2])
        sweep(draft, graph, unused)

    def _constant(self, draft: Draft, graph: ir.Graph, what: str, index: int, array: np.ndarray) -> ir.Value:
        name = f"{self.node}_{what.lower()}{index}"
        return place.constant(draft, graph, name, ir.tensor(np.asarray(array)))


def dequantizers(node: ir.Node) -> list[ir.Node] | None:
    """The DequantizeLinears that read what a QuantizeLinear makes, directly or behind nodes that move elements; None
    when anything else reads it, or with another scale or zero point."""
    found: list[ir.Node] = []
    stack = [node.outputs[0]]
    while stack:
        value = stack.pop()
        if value.is_graph_output() or not value.uses():
            return None
        for user, index in value.uses():
            if index == 0 and user.op_type in MOVES and user.domain == "":
                stack.append(user.outputs[0])
            elif index == 0 and user.op_type == "DequantizeLinear" and same(node, user):
                found.append(user)
            else:
                return None
    return found


@dataclass(frozen=True)
class BypassPair(Edit):
    """Let what reads the last of two nodes read what the first one reads: both together change nothing.

    Args:
        first, last: names; ``last`` reads what ``first`` makes. Two Transposes of which one undoes the other, or
            QuantizeLinear and DequantizeLinear right behind a DequantizeLinear of the same scale and zero point.
    """

    method: ClassVar[str] = "bypass_pair"
    first: str
    last: str

    def change(self, draft: Draft) -> None:
        first, last = draft.node(self.first), draft.node(self.last)
        source = first.inputs[0]
        if last.inputs[0] is not first.outputs[0] or source is None or not cancel(first, last):
            raise EditError(
                f"cannot bypass {self.first!r} ({first.op_type}) and {self.last!r} ({last.op_type}): expected "
                "the second to undo the first"
            )
        graph, middle = draft.graph_of(first), [first.outputs[0], *last.inputs[1:]]
        replace_output(draft, last, source)
        sweep(draft, graph, middle)


def cancel(first: ir.Node, last: ir.Node) -> bool:
    """Whether the second node, which reads the first, undoes it."""
    if (first.op_type, last.op_type) == ("Transpose", "Transpose"):
        one, two = (tuple(n.attributes.get_ints("perm") or ()) for n in (first, last))
        return bool(one) and len(one) == len(two) and all(one[axis] == i for i, axis in enumerate(two))
    if (first.op_type, last.op_type) == ("QuantizeLinear", "DequantizeLinear"):
        before = first.inputs[0].producer() if first.inputs[0] is not None else None
        axes = {n.attributes.get_int("axis", 1) for n in (before, first, last) if n is not None}
        return (
            before is not None
            and before.op_type == "DequantizeLinear"
            and len(axes) == 1
            and same(first, last)
            and same(before, first)
        )
    return False


@dataclass(frozen=True)
class CastToQuantize(Edit):
    """Let QuantizeLinear and DequantizeLinear with a scale of 1 take the place of Casts to and from float8_e4m3fn: the
    same numbers.

    Args:
        node: name of a Cast from float32 that saturates, and that only Casts back to float32 read.
    """

    method: ClassVar[str] = "cast_to_quantize"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        ends = fp8_casts(node)
        if ends is None:
            raise EditError(
                f"node {self.node!r} ({node.op_type}): expected a Cast to float8_e4m3fn that saturates, and only Casts "
                "back to float32 as readers"
            )
        name = node.outputs[0].name
        one = place.constant(draft, graph, f"{name}_one", ir.tensor(np.array(1, np.float32)))
        kind = ir.DataType.FLOAT8E4M3FN
        nothing = ir.Tensor(np.zeros((), kind.numpy()), kind)
        zero = place.constant(draft, graph, f"{name}_zero", nothing)
        for each, op_type in ((node, "QuantizeLinear"), *((end, "DequantizeLinear") for end in ends)):
            draft.set(each, "op_type", op_type)
            for attribute in list(each.attributes):
                draft.set_attribute(each, attribute, None)
            draft.set_inputs(each, [each.inputs[0], one, zero])


def fp8_casts(node: ir.Node) -> list[ir.Node] | None:
    """The Casts back to float32 that alone read a saturating Cast to float8_e4m3fn; None for any other node."""
    if (
        node.op_type != "Cast"
        or node.attributes.get_int("to") != ir.DataType.FLOAT8E4M3FN
        or not node.attributes.get_int("saturate", 1)
        or node.outputs[0].is_graph_output()
    ):
        return None
    ends = [user for user, _ in node.outputs[0].uses()]
    back = all(end.op_type == "Cast" and end.attributes.get_int("to") == ir.DataType.FLOAT for end in ends)
    return ends if ends and back else None


@dataclass(frozen=True)
class QuantizeWeight(Edit):
    """Keep a product's float32 weight as int8 with one scale for each output channel (the largest magnitude over 127),
    behind a DequantizeLinear. This changes the weight by at most half a step, and so the numbers.

    Args:
        node: name of a Conv, ConvTranspose without groups, Gemm or MatMul whose second input is a float32 weight.
    """

    method: ClassVar[str] = "quantize_weight"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        axis = channels(node)
        if axis is None:
            raise EditError(
                f"node {self.node!r} ({node.op_type}): expected a Conv, ConvTranspose without groups, Gemm or MatMul "
                "whose second input is a matrix of channels"
            )
        source = node.inputs[1]
        weight = constant_of(source, node)
        assert source is not None
        if weight.dtype != np.float32:
            raise EditError(
                f"node {self.node!r} ({node.op_type}): got a {weight.dtype} weight, expected float32"
            )
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.abs(weight).max(axis=others) / np.float32(127)
        scale[scale == 0] = 1
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        rounded = np.clip(np.round(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
        made = [
            place.constant(draft, graph, f"{source.name}_{what}", ir.tensor(array))
            for what, array in (("int8", rounded), ("scale", scale), ("zero", np.zeros(scale.shape, np.int8)))
        ]
        attributes = [ir.AttrInt64("axis", axis)]
        new = draft.create("", "DequantizeLinear", made, attributes, draft.free_node(f"{self.node}_weight"))
        new.outputs[0].name = draft.free(graph, f"{source.name}_dequantized")
        origins.note_node(draft, new, origins.of_node(node))
        draft.insert(graph, [new], node)
        draft.set_inputs(node, [node.inputs[0], new.outputs[0], *node.inputs[2:]])
        sweep(draft, graph, [source])


def channels(node: ir.Node) -> int | None:
    """The axis of a product's weight that its output's channels are; None where there is none."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    rank = len(weight.shape) if weight is not None and weight.shape is not None else 0
    if node.op_type == "Conv" and rank > 2:
        return 0
    if node.op_type == "ConvTranspose" and rank > 2 and node.attributes.get_int("group", 1) == 1:
        return 1
    if node.op_type == "Gemm" and rank == 2:
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if node.op_type == "MatMul" and rank == 2 else None
