"""Fewer nodes that compute the same: constants folded, what nothing uses removed, the part between two tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model.nodewise import write_node
from ..model.scopes import bodies, nested
from ..model.walk import evaluate_node
from .base import Edit, names
from .draft import Draft
from .nodes import make_input
from .ports import add_output
from .weights import data

_NOT_FOLDED = frozenset(
    """
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli Dropout
    Constant QuantizeLinear DequantizeLinear
    """.split()  # noqa: SIM905 - shorter than a list of strings
)


@dataclass(frozen=True)
class FoldConstants(Edit):
    """Compute the nodes that depend on constants alone (with onnx's reference implementation) and keep the results
    as weights. Weights that nothing reads any more go.

    Args:
        limit: nodes of which an output has more bytes stay.
    """

    method: ClassVar[str] = "fold_constants"
    limit: int = 16 << 20

    def change(self, draft: Draft) -> None:
        for graph in list(draft.values):
            if not draft.is_function(graph):
                self._fold(draft, graph)
        clean(draft)

    def _fold(self, draft: Draft, graph: ir.Graph) -> None:
        folded = []
        for node in list(graph):
            found = self.compute(draft, graph, node)
            if not found:
                continue
            for output, array in found:
                value = ir.Value(name=output.name, const_value=ir.tensor(array, name=output.name))
                value.type, value.shape = ir.TensorType(value.const_value.dtype), value.const_value.shape  # type: ignore
                name = output.name or ""
                draft.rename_value(output, draft.free(graph, f"{name}_folded"))
                draft.add_initializer(graph, value)
                draft.redirect(output, value)
            folded.append(node)
        if folded:
            draft.remove(graph, folded)

    def compute(self, draft: Draft, graph: ir.Graph, node: ir.Node) -> list[tuple[ir.Value, np.ndarray]]:
        """The outputs of a node that depends on constants alone, none for other nodes."""
        for value in node.inputs:  # first, because it is what most nodes fail at
            if value is not None and not _is_constant(value):
                return []
        if (
            node.op_type in _NOT_FOLDED
            or node.domain != ""
            or any(bodies(node))
            or any(output.is_graph_output() for output in node.outputs)
        ):
            return []
        feeds = {value.name or "": value for value in node.inputs if value is not None}
        made = [draft.types.of(output) for output in node.outputs if output.name]
        if any(kind is None or _bytes(kind) is None or _bytes(kind) > self.limit for kind in made):  # type: ignore[operator]
            return []
        try:
            arrays = {name: data(value).numpy() for name, value in feeds.items()}
            found = evaluate_node(write_node(node), arrays, dict(draft.opsets(graph)))
        except Exception:  # an operator that the reference implementation lacks: the node stays
            return []
        pairs = [(output, np.asarray(found[output.name])) for output in node.outputs if output.name]
        types = [draft.types.of(output) for output, _ in pairs]
        for (_, array), kind in zip(pairs, types, strict=True):
            if onnx.helper.np_dtype_to_tensor_dtype(array.dtype) != kind.tensor_type.elem_type:  # type: ignore[union-attr]
                return []
        return pairs


def _is_constant(value: ir.Value) -> bool:
    if value.const_value is not None:
        return not value.is_graph_input()
    node = value.producer()
    return (
        node is not None
        and node.op_type == "Constant"
        and node.domain == ""
        and not any(attribute.is_ref() for attribute in node.attributes.values())
    )


def _bytes(kind: onnx.TypeProto) -> int | None:
    tensor = kind.tensor_type
    if not kind.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    if (
        any(not dim.HasField("dim_value") for dim in tensor.shape.dim)
        or tensor.elem_type == onnx.TensorProto.STRING
    ):
        return None
    return math.prod(dim.dim_value for dim in tensor.shape.dim) * 8


@dataclass(frozen=True)
class CleanUp(Edit):
    """Remove nodes, weights and functions that no output of the model depends on. Inputs stay."""

    method: ClassVar[str] = "clean_up"

    def change(self, draft: Draft) -> None:
        clean(draft)
        drop_functions(draft)


def drop_functions(draft: Draft) -> None:
    """Remove functions that nothing calls."""
    while draft.model.functions:
        used = {(node.domain, node.op_type, node.overload) for node in draft.nodes.values()}
        gone = [key for key in draft.model.functions if key not in used]
        if not gone:
            return
        for key in gone:
            draft.remove_function(key)


def _unread(node: ir.Node, inside: set[ir.Node]) -> bool:
    """Whether nothing but the given nodes reads what a node makes."""
    for value in node.outputs:
        for user, _ in value.uses():
            if user not in inside:
                return False
        if value.is_graph_output():
            return False
    return True


def clean(draft: Draft) -> None:
    """Remove nodes that nothing reads, then weights that nothing reads."""
    for graph in reversed(list(draft.values)):
        if graph not in draft.values:
            continue
        dead: dict[ir.Node, None] = {}
        inside: set[ir.Node] = set()
        for node in reversed(list(graph)):
            if _unread(node, inside):
                dead[node] = None
                inside.update((node, *nested(node)))
        if dead:
            draft.remove(graph, dead)
    for graph in list(draft.values):
        for value in list(graph.initializers.values()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                draft.remove_initializer(graph, value)


@dataclass(frozen=True)
class Extract(Edit):
    """Keep the part of the main graph between some tensors.

    Args:
        inputs: tensors that become the inputs; where none is given, the model's own inputs stay.
        outputs: tensors that become the outputs; where none is given, the model's own outputs stay.
    """

    method: ClassVar[str] = "extract"
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", names(self.inputs))
        object.__setattr__(self, "outputs", names(self.outputs))

    def change(self, draft: Draft) -> None:
        graph = draft.model.graph
        starts, ends = [draft.value(key) for key in self.inputs], [draft.value(key) for key in self.outputs]
        for value in (*starts, *ends):
            if draft.graph_of_value(value) is not graph:
                raise EditError(
                    f"cannot extract at tensor {draft.key(value)!r}: it is in a body or function, expected tensors of "
                    "the main graph; name the outputs of the node that holds it"
                )
        for value in ends:
            if not value.is_graph_output():
                add_output(draft, value, f"cannot extract up to tensor {value.name!r}")
        if ends:
            draft.set_ports(graph, "outputs", ends)
        new = [self._start(draft, value) for value in starts]
        clean(draft)
        drop_functions(draft)
        if starts:
            self._check(draft, new)
            draft.set_ports(graph, "inputs", new)

    def _start(self, draft: Draft, value: ir.Value) -> ir.Value:
        graph = draft.model.graph
        if value.is_graph_input():
            return value
        new = make_input(draft, value)
        name = value.name or ""
        if value.is_graph_output():
            draft.set_ports(graph, "outputs", [new if item is value else item for item in graph.outputs])
        draft.redirect(value, new)
        draft.rename_value(value, draft.free(graph, f"{name}_before"))
        return new

    def _check(self, draft: Draft, new: list[ir.Value]) -> None:
        for value in draft.model.graph.inputs:
            if value in new or value.const_value is not None or not (value.uses() or value.is_graph_output()):
                continue
            by = f"by node {next(iter(value.uses()))[0].name!r}" if value.uses() else "which is one of them"
            raise EditError(
                f"cannot extract from {', '.join(map(repr, self.inputs))}: the outputs depend on the input "
                f"{value.name!r} too, {by}; add it to inputs"
            )
