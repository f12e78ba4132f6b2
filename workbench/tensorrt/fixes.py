"""Edits that make a model acceptable to TensorRT and leave what it computes as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from ..edits import origins, place
from ..edits.base import Edit
from ..edits.draft import Draft
from ..edits.tidy import clean
from ..edits.weights import data
from ..errors import EditError
from ..model.nodewise import write_node
from ..model.scopes import bodies, nested
from ..model.walk import evaluate_node

MOVES = frozenset(
    ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Identity", "Expand", "Tile")
)
"""Operators that only move the elements of their first input."""


@dataclass(frozen=True)
class FoldNode(Edit):
    """Compute one node that reads constants alone (with onnx's reference implementation) and keep the result as a
    weight; what nothing reads any more goes.

    Args:
        node: its name.
    """

    method: ClassVar[str] = "fold_node"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        arrays = {v.name or "": _constant(v, node) for v in node.inputs if v is not None}
        output = node.outputs[0]
        if (
            len(node.outputs) != 1
            or output.is_graph_output()
            or any(bodies(node))
            or draft.is_function(graph)
        ):
            raise EditError(
                f"cannot fold node {self.node!r} ({node.op_type}): expected one output, which other nodes read"
            )
        if node.op_type == "DequantizeLinear" and node.domain == "":
            found = _dequantized(node)
        else:
            found = np.asarray(
                evaluate_node(write_node(node), arrays, dict(draft.opsets(graph)))[output.name or ""]
            )
        value = place.constant(draft, graph, f"{output.name}_folded", ir.tensor(found))
        draft.redirect(output, value)
        inputs = list(node.inputs)
        draft.remove(graph, [node])
        _sweep(draft, graph, inputs)


def _dequantized(node: ir.Node) -> np.ndarray:
    """(x - zero_point) * scale, along the axis, as the operator says (the reference implementation lacks old versions
    of it)."""
    source, scale = _constant(node.inputs[0], node), _scale(node)
    zero = _zero(node, source.dtype)
    if scale.ndim == 1:
        axis = node.attributes.get_int("axis", 1) if source.ndim > 1 else 0
        shape = [-1 if i == (axis or 0) % source.ndim else 1 for i in range(source.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.ndim else zero
    elif scale.ndim > 1:
        raise EditError(f"cannot fold node {node.name!r} (DequantizeLinear): it has a scale per block")
    made: np.ndarray = (source.astype(np.int64) - zero.astype(np.int64)).astype(scale.dtype) * scale
    return made


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
        if source is None or _constant(source, node).dtype != np.int8:
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
        if source is None or last is None or last.op_type != "DequantizeLinear" or _scale(last).size != 1:
            raise EditError(
                f"node {self.node!r} ({node.op_type}): expected one reader, a DequantizeLinear with one scale"
            )
        _constant(source, node)
        name = draft.free_node(f"{last.name}_first")
        new = draft.create("", "DequantizeLinear", [source, *last.inputs[1:]], [], name)
        new.outputs[0].name = draft.free(graph, f"{source.name}_dequantized")
        origins.note_node(draft, new, origins.of_node(last))
        draft.insert(graph, [new], place.following(draft, graph, new.inputs))
        draft.set_inputs(node, [new.outputs[0], *node.inputs[1:]])
        place.arrange(draft, node)
        _replace_output(draft, last, node.outputs[0])


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
        scale, zero = _scale(node), _zero(node)
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
        _replace_output(draft, node, value)
        for end in ends:
            draft.set(end, "op_type", "Mul")
            for name in list(end.attributes):
                draft.set_attribute(end, name, None)
            draft.set_inputs(end, end.inputs[:2])
        _sweep(draft, graph, unused)

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
            elif index == 0 and user.op_type == "DequantizeLinear" and _same(node, user):
                found.append(user)
            else:
                return None
    return found


def _same(one: ir.Node, two: ir.Node) -> bool:
    try:
        pairs = ((_scale(one), _scale(two)), (_zero(one), _zero(two)))
    except EditError:
        return False
    return all(a.dtype == b.dtype and np.array_equal(a.ravel(), b.ravel()) for a, b in pairs)


def _scale(node: ir.Node) -> np.ndarray:
    return _constant(node.inputs[1], node)


def _zero(node: ir.Node, kind: Any = np.uint8) -> np.ndarray:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return np.zeros((), kind)
    return _constant(node.inputs[2], node)


def _constant(value: ir.Value | None, node: ir.Node) -> np.ndarray:
    """The array of a constant that a node reads."""
    maker = value.producer() if value is not None else None
    held = maker is not None and maker.op_type == "Constant" and maker.domain == ""
    if value is None or (value.const_value is None and not held) or value.is_graph_input():
        name = value.name if value is not None else None
        raise EditError(
            f"node {node.name!r} ({node.op_type}): its input {name!r} is no constant, expected one"
        )
    array: np.ndarray = data(value).numpy()
    return array


def _replace_output(draft: Draft, node: ir.Node, value: ir.Value) -> None:
    """Let everything read another tensor than a node's output, and remove the node."""
    graph, out = draft.graph_of(node), node.outputs[0]
    name, outside = out.name or "", out.is_graph_output()
    draft.redirect(out, value)
    if not outside:
        draft.remove(graph, [node])
        return
    new = draft.create("", "Identity", [value], [], draft.free_node(f"{node.name}_output"))
    origins.note_node(draft, new, origins.of_node(node))
    draft.insert(graph, [new], None)
    draft.set_ports(graph, "outputs", [new.outputs[0] if v is out else v for v in graph.outputs])
    draft.remove(graph, [node])
    draft.rename_value(new.outputs[0], name)
    draft.types.state_like(new.outputs[0], out)


def _sweep(draft: Draft, graph: ir.Graph, values: Iterable[ir.Value | None]) -> None:
    """Remove those of some tensors that nothing reads any more, and what only they needed."""
    stack = list(dict.fromkeys(value for value in values if value is not None))
    while stack:
        value = stack.pop()
        node = value.producer()
        if value.uses() or value.is_graph_output() or value.is_graph_input():
            continue
        if node is not None and node.graph is graph and len(node.outputs) == 1:
            stack += [read for read in node.inputs if read is not None]
            draft.remove(graph, [node])
        elif value.is_initializer() and value.graph is graph and value.name in graph.initializers:
            draft.remove_initializer(graph, value)


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
        _replace_output(draft, last, source)
        _sweep(draft, graph, middle)


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
            and _same(first, last)
            and _same(before, first)
        )
    return False


@dataclass(frozen=True)
class TakeBranch(Edit):
    """Put one branch of an If in its place; the other goes. Right where the condition is always the same, as one that
    follows from the shapes of the inputs.

    Args:
        node: name of the If.
        branch: ``then_branch`` or ``else_branch``.
    """

    method: ClassVar[str] = "take_branch"
    node: str
    branch: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        found = dict(bodies(node))
        if node.op_type != "If" or self.branch not in found:
            raise EditError(
                f"cannot take {self.branch!r} of node {self.node!r} ({node.op_type}): expected then_branch or "
                "else_branch of an If"
            )
        graph, body = draft.graph_of(node), found[self.branch]
        inner, results = list(body), list(body.outputs)
        wires = [(n, tuple(n.inputs)) for outer in inner for n in (outer, *nested(outer))]
        draft.set_ports(body, "outputs", [])
        others = [names for other, names in draft.values.items() if other is not body]
        for value in [*body.initializers.values(), *(v for n in inner for v in n.outputs if v.name)]:
            if any(value.name in names for names in others):
                origins.rename(draft, value, draft.free(graph, value.name or ""))
        weights = list(body.initializers.values())
        draft.remove(body, inner)
        for value in weights:
            draft.remove_initializer(body, value)
            draft.add_initializer(graph, value)
        draft.insert(graph, inner, node)
        for reader, inputs in wires:
            draft.set_inputs(reader, inputs)
        self._hand_over(draft, graph, node, results)

    def _hand_over(self, draft: Draft, graph: ir.Graph, node: ir.Node, results: list[ir.Value]) -> None:
        """Let what read the If's outputs read the branch's; what the graph returns keeps its name."""
        ports, named = list(graph.outputs), []
        for out, value in zip(list(node.outputs), results, strict=True):
            draft.redirect(out, value)
            if out in ports:
                new = draft.create("", "Identity", [value], [], draft.free_node(f"{node.name}_output"))
                origins.note_node(draft, new, origins.of_node(node))
                draft.insert(graph, [new], node)
                ports = [new.outputs[0] if port is out else port for port in ports]
                named.append((new.outputs[0], out))
        draft.set_ports(graph, "outputs", ports)
        draft.remove(graph, [node])
        for value, out in named:
            draft.rename_value(value, out.name or "")
            draft.types.state_like(value, out)
        clean(draft)
