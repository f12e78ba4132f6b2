"""Fixes of the graph around the numbers: what is folded, expanded, bounded, taken or left to the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir

from ...edits import origins, place
from ...edits.base import Edit
from ...edits.content import of_bytes
from ...edits.draft import Draft
from ...edits.tidy import clean
from ...errors import EditError
from ...fusions.nodes import ReplaceNodes
from ...model.nodewise import write_node
from ...model.scopes import bodies, nested
from ...model.walk import evaluate_node
from .common import constant_of, scale_of, sweep, zero_of


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
        arrays = {v.name or "": constant_of(v, node) for v in node.inputs if v is not None}
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
        sweep(draft, graph, inputs)


def _dequantized(node: ir.Node) -> np.ndarray:
    """(x - zero_point) * scale, along the axis, as the operator says (the reference implementation lacks old versions
    of it)."""
    source, scale = constant_of(node.inputs[0], node), scale_of(node)
    zero = zero_of(node, source.dtype)
    if scale.ndim == 1:
        axis = node.attributes.get_int("axis", 1) if source.ndim > 1 else 0
        shape = [-1 if i == (axis or 0) % source.ndim else 1 for i in range(source.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.ndim else zero
    elif scale.ndim > 1:
        raise EditError(f"cannot fold node {node.name!r} (DequantizeLinear): it has a scale per block")
    made: np.ndarray = (source.astype(np.int64) - zero.astype(np.int64)).astype(scale.dtype) * scale
    return made


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


ENDLESS = 2**31 - 1
"""A Loop with a trip count of this or more is taken for endless by TensorRT's parser (seen with TensorRT-RTX 1.7)."""


@dataclass(frozen=True)
class BoundLoop(Edit):
    """Let a Loop end after 2³¹ - 2 iterations if nothing ends it before: the same for any loop that is shorter.

    Args:
        node: name of the Loop, whose trip count is left out or is a constant of 2³¹ - 1 or more.
    """

    method: ClassVar[str] = "bound_loop"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        if not endless(node):
            raise EditError(
                f"node {self.node!r} ({node.op_type}): expected a Loop without a trip count, or with a constant one of "
                f"{ENDLESS} or more"
            )
        graph, old = draft.graph_of(node), node.inputs[0]
        most = place.constant(
            draft, graph, f"{self.node}_trip_count", ir.tensor(np.array(ENDLESS - 1, np.int64))
        )
        draft.set_inputs(node, [most, *node.inputs[1:]])
        sweep(draft, graph, [old])


def endless(node: ir.Node) -> bool:
    """Whether a Loop has no trip count, or a constant one that TensorRT takes for none."""
    if node.op_type != "Loop" or node.domain:
        return False
    most = node.inputs[0]
    if most is None:
        return True
    if most.is_graph_input():  # with a default, which TensorRT takes for a constant
        return most.const_value is not None and bool(np.all(most.const_value.numpy() >= ENDLESS))
    try:
        return bool(np.all(constant_of(most, node) >= ENDLESS))
    except EditError:
        return False


@dataclass(frozen=True)
class ExpandOperator(Edit):
    """Put what ONNX's standard defines an operator by, simpler operators, in the place of a node.

    Args:
        node: its name. Its operator is one that the standard defines by others (``onnx.defs``: a function).
    """

    method: ClassVar[str] = "expand_operator"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        inputs = list(dict.fromkeys(value for value in node.inputs if value is not None))
        outputs = [value for value in node.outputs if value.uses() or value.is_graph_output()]
        types = {value.name: draft.types.of(value) for value in inputs}
        version = dict(draft.opsets(graph)).get("", 1)
        body = _expanded(write_node(node), types, [value.name or "" for value in outputs], version)
        if body is None:
            raise EditError(
                f"cannot expand node {self.node!r} ({node.op_type}): the standard does not define it by others for "
                f"these inputs at operator set {version}"
            )
        reads, makes = (tuple(draft.key(value) for value in values) for values in (inputs, outputs))
        name = f"expanded {node.op_type}"
        ReplaceNodes((self.node,), name, reads, makes, of_bytes(body, ".onnx")).change(draft)


def _expanded(
    node: onnx.NodeProto, types: dict[str | None, onnx.TypeProto | None], outputs: list[str], version: int
) -> bytes | None:
    """A model of what a node stands for; None where the standard does not say that, or in bodies (Loop, If)."""
    if node.domain or None in types.values():
        return None
    node.output[:] = [name if name in outputs else "" for name in node.output]
    while node.output and not node.output[-1]:
        node.output.pop()
    graph = onnx.helper.make_graph(
        [node], "one",
        [onnx.ValueInfoProto(name=name, type=kind) for name, kind in types.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    made = onnx.inliner.inline_selected_functions(model, [("", node.op_type)], inline_schema_functions=True)
    simpler = all(new.op_type != node.op_type for new in made.graph.node)
    flat = not any(a.type in (a.GRAPH, a.GRAPHS) for new in made.graph.node for a in new.attribute)
    return made.SerializeToString() if simpler and flat and made.graph.node else None


@dataclass(frozen=True)
class CompressToGather(Edit):
    """Let Gather take the elements that a Compress with a constant condition takes.

    Args:
        node: name of the Compress.
    """

    method: ClassVar[str] = "compress_to_gather"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        if node.op_type != "Compress" or len(node.inputs) < 2:
            raise EditError(f"node {self.node!r} ({node.op_type}): expected a Compress")
        source, condition = node.inputs[:2]
        chosen = np.flatnonzero(constant_of(condition, node))
        axis = node.attributes.get_int("axis", None)
        if axis is None:  # of the elements in a row
            row = place.constant(draft, graph, f"{self.node}_row", ir.tensor(np.array([-1], np.int64)))
            flat = draft.create("", "Reshape", [source, row], [], draft.free_node(f"{self.node}_flat"))
            flat.outputs[0].name = draft.free(graph, f"{node.outputs[0].name}_flat")
            origins.note_node(draft, flat, origins.of_node(node))
            draft.insert(graph, [flat], node)
            source = flat.outputs[0]
        indices = place.constant(draft, graph, f"{self.node}_indices", ir.tensor(chosen.astype(np.int64)))
        draft.set(node, "op_type", "Gather")
        draft.set_attribute(node, "axis", ir.AttrInt64("axis", axis or 0))
        draft.set_inputs(node, [source, indices])
        sweep(draft, graph, [condition])


@dataclass(frozen=True)
class TransposeOutside(Edit):
    """Leave a Transpose at the model's edge to the caller: an input is fed as the Transpose would make it, or an output
    comes as the Transpose would read it.

    Args:
        node: name of a Transpose that alone reads an input, or that makes an output that nothing else reads.
    """

    method: ClassVar[str] = "transpose_outside"
    node: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph, source, result = draft.graph_of(node), node.inputs[0], node.outputs[0]
        if not at_edge(node) or source is None:
            raise EditError(
                f"node {self.node!r} ({node.op_type}): expected a Transpose that alone reads an input of the model, or "
                "that makes an output that nothing else reads"
            )
        if not source.is_graph_input():
            name, kind = result.name or "", draft.types.of(source)
            draft.set_ports(graph, "outputs", [source if port is result else port for port in graph.outputs])
            draft.remove(graph, [node])
            origins.rename(draft, source, name)
            draft.types.state(source, kind)
            return
        kind, made = draft.types.of(source), draft.types.of(result)
        if kind is None or made is None:
            raise EditError(
                f"node {self.node!r} (Transpose): the shape of input {source.name!r} is not known"
            )
        draft.redirect(result, source)
        draft.remove(graph, [node])
        draft.types.declare(source, made)


def at_edge(node: ir.Node) -> bool:
    """Whether a node alone reads an input of the main graph, or alone makes an output of it that nothing reads."""
    source, result = node.inputs[0], node.outputs[0]
    if node.op_type != "Transpose" or source is None or node.graph is None:
        return False
    if source.is_graph_input() and source.const_value is None and not result.is_graph_output():
        return len(list(source.uses())) == 1
    alone = result.is_graph_output() and not result.uses() and len(list(source.uses())) == 1
    return alone and not source.is_graph_output() and source.producer() is not None


@dataclass(frozen=True)
class DoubleToFloat(Edit):
    """Compute in float32 what is float64: inputs, weights, Casts and all that follows. This rounds, as TensorRT does,
    which has no float64; the model then wants float32 data and says what it computes in."""

    method: ClassVar[str] = "double_to_float"

    def change(self, draft: Draft) -> None:
        graphs = [graph for _, graph in draft.graphs()]
        found = [_narrow(draft, node) for graph in graphs for node in list(graph)]
        for graph in graphs:
            for value in list(graph.initializers.values()):
                if value.const_value is not None and value.const_value.dtype == ir.DataType.DOUBLE:
                    array = value.const_value.numpy().astype(np.float32)
                    draft.set_weight(value, ir.tensor(array, name=value.name))
                    found.append(True)
        made = [value for graph in graphs for node in graph for value in node.outputs]
        values = dict.fromkeys([*(v for graph in graphs for v in (*graph.inputs, *graph.outputs)), *made])
        doubles = [(v, kind) for v in values if (kind := draft.types.of(v)) and _is_double(kind)]
        draft.types.declare_all([(value, _as_float(kind)) for value, kind in doubles])
        if not any(found) and not any(value.is_graph_input() for value, _ in doubles):
            raise EditError(
                "cannot change float64 to float32: the model has no float64 input, weight or Cast"
            )


def _is_double(kind: onnx.TypeProto) -> bool:
    return kind.tensor_type.elem_type == onnx.TensorProto.DOUBLE


def _as_float(kind: onnx.TypeProto) -> onnx.TypeProto:
    made = onnx.TypeProto()
    made.CopyFrom(kind)
    made.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return made


def _narrow(draft: Draft, node: ir.Node) -> bool:
    """Let a node make float32 that makes float64 by an attribute."""
    changed = False
    for name, attribute in list(node.attributes.items()):
        if name in ("to", "dtype") and attribute.value == ir.DataType.DOUBLE:
            draft.set_attribute(node, name, ir.AttrInt64(name, int(ir.DataType.FLOAT)))
        elif attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype == ir.DataType.DOUBLE:
            array = attribute.value.numpy().astype(np.float32)
            draft.set_attribute(node, name, ir.AttrTensor(name, ir.tensor(array)))
        else:
            continue
        changed = True
    return changed
