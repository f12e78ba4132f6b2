"""The edit that puts one node, or a small graph, in the place of chosen nodes; rules of one's own make these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import onnx
import onnx_ir as ir

from ..edits import place
from ..edits.base import Edit, names
from ..edits.content import Content
from ..edits.draft import Draft
from ..edits.schema import require
from ..errors import EditError
from ..model.scopes import bodies
from . import rewrite
from .edit import Done, allow_weights
from .match import Refusal, is_constant
from .types import forget


@dataclass(frozen=True)
class ReplaceNodes(Edit):
    """Put a function, or a small graph, in the place of some nodes of one graph.

    Args:
        nodes: their names.
        name: of the function of domain ``workbench`` that their body becomes; with ``graph``, of the fusion.
        inputs: keys of the tensors that it reads, in order; none: all that the nodes read, but for small constants,
            which go into the body.
        outputs: keys of the tensors that it makes; none: all that others read.
        graph: an ONNX model with these inputs and outputs, whose nodes to take instead of a function.
    """

    method: ClassVar[str] = "replace_nodes"
    nodes: tuple[str, ...]
    name: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    graph: Content | None = None

    def __post_init__(self) -> None:
        for key in ("nodes", "inputs", "outputs"):
            object.__setattr__(self, key, names(getattr(self, key)))
        object.__setattr__(self, "done", [])

    def change(self, draft: Draft) -> None:
        forget(draft)
        nodes = self._nodes(draft)
        inputs = [draft.value(key) for key in self.inputs] or boundary(nodes)
        outputs = [draft.value(key) for key in self.outputs] or results(nodes)
        if not outputs:
            raise EditError(f"cannot replace the nodes {', '.join(self.nodes)}: nothing reads what they make")
        anchor = nodes[-1]
        name = anchor.name or ""
        if self.graph is not None:
            new = _insert(draft, self.name, nodes, inputs, outputs, self.graph, anchor)
        else:
            try:
                new = rewrite.outline(draft, self.name, self.name, nodes, inputs, outputs, anchor)
            except Refusal as refusal:
                raise EditError(
                    f"cannot replace the nodes {', '.join(self.nodes)}: {refusal.reason}"
                ) from None
        allow_weights(draft)
        keys = tuple(draft.key(value) for node in new for value in node.outputs)
        done: list[Done] = self.done  # type: ignore[attr-defined]
        done[:] = [Done(name, self.nodes, tuple(node.name or "" for node in new), keys)]

    def _nodes(self, draft: Draft) -> list[ir.Node]:
        found = {draft.node(name) for name in self.nodes}
        graphs = {draft.graph_of(node) for node in found}
        if len(graphs) != 1:
            raise EditError(
                f"cannot replace the nodes {', '.join(self.nodes)}: they are in {len(graphs)} graphs, expected one"
            )
        for node in found:
            if any(bodies(node)):
                raise EditError(f"cannot replace node {node.name!r} ({node.op_type}): it has bodies")
        return [node for node in graphs.pop() if node in found]


def boundary(nodes: list[ir.Node]) -> list[ir.Value]:
    """What some nodes read that none of them makes, small constants left out."""
    inside = {value for node in nodes for value in node.outputs}
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    return [value for value in read if value not in inside and not (is_constant(value) and _small(value))]


def _small(value: ir.Value) -> bool:
    return value.const_value is None or value.const_value.size <= rewrite.INLINE


def results(nodes: list[ir.Node]) -> list[ir.Value]:
    """What some nodes make that others read."""
    inside = set(nodes)
    return [
        value
        for node in nodes
        for value in node.outputs
        if value.is_graph_output() or any(user not in inside for user, _ in value.uses())
    ]


def _insert(
    draft: Draft,
    rule: str,
    nodes: list[ir.Node],
    inputs: list[ir.Value],
    outputs: list[ir.Value],
    content: Content,
    anchor: ir.Node,
) -> list[ir.Node]:
    proto = onnx.ModelProto.FromString(content.data).graph
    graph = draft.graph_of(anchor)
    there: dict[str, Any] = {info.name: value for info, value in zip(proto.input, inputs, strict=True)}
    for tensor in proto.initializer:
        held = ir.Tensor(onnx.numpy_helper.to_array(tensor), name=tensor.name)
        there[tensor.name] = place.constant(draft, graph, f"{anchor.name}_{tensor.name}", held)
    new = []
    for item in proto.node:
        require(item.op_type, item.domain, draft, graph)
        wires = [there[name] if name else None for name in item.input]
        attributes = {a.name: ir.serde.deserialize_attribute(a) for a in item.attribute}
        one = rewrite.node(
            draft,
            graph,
            item.op_type,
            wires,
            attributes,
            name=f"{anchor.name}_{item.op_type}",
            domain=item.domain,
            outputs=len(item.output),
        )
        there.update(zip(item.output, one.outputs, strict=True))
        # in the index at once, so that the next free name is another one
        draft.insert(graph, [one], anchor)
        new.append(one)
    rewrite.stamp(draft, rule, nodes, new)
    made = [there[info.name] for info in proto.output]
    rewrite.replace(draft, rule, nodes, [], dict(zip(outputs, made, strict=True)), anchor)
    return new
