"""Nodes that are there: their operator, their attributes, what they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx_ir as ir

from ..errors import EditError
from ..model.scopes import bodies, nested
from . import place, schema
from .base import Edit
from .draft import Draft
from .insert import plain_attributes, plain_value
from .tensortypes import typed_value


@dataclass(frozen=True)
class ReplaceOp(Edit):
    """Replace a node's operator; its name, inputs and outputs stay.

    Args:
        node: its name.
        op_type: the new operator.
        attributes: of the new operator; None: those that it has too keep their values.
        domain: of the new operator.
    """

    method: ClassVar[str] = "replace_op"
    node: str
    op_type: str
    attributes: Mapping[str, Any] | None = None
    domain: str = ""

    def __post_init__(self) -> None:
        if self.attributes is not None:
            object.__setattr__(self, "attributes", plain_attributes(self.attributes))

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        graph = draft.graph_of(node)
        if any(bodies(node)):
            raise EditError(
                f"cannot replace the operator of node {self.node!r}: {node.op_type} has bodies; delete it"
            )
        schema.require(self.op_type, self.domain, draft, graph)
        known = schema.find(self.op_type, self.domain, draft.opsets(graph).get(self.domain, 0))
        draft.set(node, "op_type", self.op_type)
        draft.set(node, "domain", self.domain)
        draft.set(node, "overload", "")
        label = f"node {self.node!r} ({self.op_type})"
        for name in list(node.attributes):
            if self.attributes is not None or (known is not None and name not in known.attributes):
                draft.set_attribute(node, name, None)
        for name, value in (self.attributes or {}).items():
            draft.set_attribute(node, name, schema.attribute(label, name, value, known))


@dataclass(frozen=True)
class SetAttribute(Edit):
    """Set an attribute of a node, or add it.

    Args:
        node: its name.
        name: of the attribute, which the operator's schema must know.
        value: of the type that the schema says (an array for a tensor).
    """

    method: ClassVar[str] = "set_attribute"
    node: str
    name: str
    value: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", plain_value(self.value, self.name))

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        if self.name in {attribute.split("[")[0] for attribute, _ in bodies(node)}:
            raise EditError(
                f"node {self.node!r} ({node.op_type}), attribute {self.name!r}: got {self.value!r}, expected a body; "
                "edit the nodes in it instead"
            )
        made = schema.attribute(
            f"node {self.node!r} ({node.op_type})", self.name, self.value, schema.schema_of(node, draft)
        )
        draft.set_attribute(node, self.name, made)


@dataclass(frozen=True)
class RemoveAttribute(Edit):
    """Remove an attribute of a node, so that the operator's default holds."""

    method: ClassVar[str] = "remove_attribute"
    node: str
    name: str

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        if self.name not in node.attributes:
            listed = (
                f"expected one of {', '.join(map(repr, node.attributes))}"
                if node.attributes
                else "it has none"
            )
            raise EditError(
                f"node {self.node!r} ({node.op_type}) has no attribute {self.name!r} set; {listed}"
            )
        if self.name in {attribute.split("[")[0] for attribute, _ in bodies(node)}:
            raise EditError(
                f"node {self.node!r} ({node.op_type}) needs its body {self.name!r}; delete the node instead"
            )
        draft.set_attribute(node, self.name, None)


@dataclass(frozen=True)
class Reconnect(Edit):
    """Let an input of a node read another tensor.

    Args:
        node: its name.
        input: index of the input; one more than there are appends one.
        tensor: key of the tensor; None leaves an optional input out.
    """

    method: ClassVar[str] = "reconnect"
    node: str
    input: int
    tensor: str | None

    def change(self, draft: Draft) -> None:
        node = draft.node(self.node)
        inputs = list(node.inputs)
        if type(self.input) is not int or not 0 <= self.input <= len(inputs):
            raise EditError(
                f"node {self.node!r} ({node.op_type}) has no input {self.input!r}; expected 0 to {len(inputs)}"
            )
        value = draft.value(self.tensor) if self.tensor is not None else None
        if value is not None and draft.graph_of_value(value) not in draft.around(draft.graph_of(node)):
            raise EditError(
                f"node {self.node!r} ({node.op_type}) cannot read tensor {self.tensor!r}: it is in another scope; "
                "connect one of its own scope or of those around it"
            )
        inputs[self.input :] = [value, *inputs[self.input + 1 :]]
        while inputs and inputs[-1] is None:
            inputs.pop()
        draft.set_inputs(node, inputs)
        place.arrange(draft, node)


@dataclass(frozen=True)
class DeleteNodes(Edit):
    """Delete nodes.

    Args:
        nodes: one name or several.
        how: ``bypass``: what read a node's output reads its input instead, which must be the only one that fits
            (same type, no constant); ``cut``: what read the outputs reads new inputs of the model of the same
            names, and outputs of the model that were made by the nodes are gone.
        through: for ``bypass``, the index of the input to take where several fit.
    """

    method: ClassVar[str] = "delete"
    nodes: tuple[str, ...]
    how: str = "bypass"
    through: int | None = None

    def __post_init__(self) -> None:
        from .base import names

        object.__setattr__(self, "nodes", names(self.nodes))

    def change(self, draft: Draft) -> None:
        if self.how not in ("bypass", "cut"):
            raise EditError(f"cannot delete nodes: got how={self.how!r}, expected 'bypass' or 'cut'")
        found = [draft.node(name) for name in self.nodes]
        if self.how == "cut":
            cut(draft, found)
        else:
            for node in found:
                _bypass(draft, node, self.through)


def _bypass(draft: Draft, node: ir.Node, through: int | None) -> None:
    graph, out = draft.graph_of(node), node.outputs[0]
    what = f"cannot bypass node {node.name!r} ({node.op_type})"
    for extra in node.outputs[1:]:
        if extra.uses() or extra.is_graph_output():
            raise EditError(f"{what}: its output {extra.name!r} is used too; delete it with how='cut'")
    source = node.inputs[_fitting(draft, node, through, what)]
    assert source is not None
    outside = out.is_graph_output()
    if outside and (source.producer() is None or source.graph is not out.graph or source.is_graph_output()):
        raise EditError(
            f"{what}: it makes the output {out.name!r}, and its input {source.name!r} cannot take that name; "
            "replace_op it with Identity instead"
        )
    name = out.name or ""
    draft.redirect(out, source)
    if outside:
        draft.set_ports(graph, "outputs", [source if output is out else output for output in graph.outputs])
    draft.remove(graph, [node])
    if outside and graph is draft.model.graph:
        draft.rename_value(source, name)
        draft.types.state_like(source, out)


def _fitting(draft: Draft, node: ir.Node, through: int | None, what: str) -> int:
    """Index of the one input that fits the place of the output."""
    from ..model.info import from_type

    out = draft.types.of(node.outputs[0])
    fits = []
    for index, value in enumerate(node.inputs):
        if value is None or value.const_value is not None or _constant(value):
            continue
        kind = draft.types.of(value)
        if out is not None and kind is not None:
            (dtype, shape), (other, wanted) = from_type(kind), from_type(out)
            clash = shape is not None and wanted is not None and not _compatible(shape, wanted)
            if dtype != other or clash:
                continue
        fits.append(index)
    if through is not None and through in fits:
        return through
    if through is None and len(fits) == 1:
        return fits[0]
    listed = ", ".join(
        f"{index}: {value.name} {draft.types.text(value)}"
        for index, value in enumerate(node.inputs)
        if value is not None
    )
    expected = f"one input of the type of its output {draft.types.text(node.outputs[0])}"
    hint = f"give through= one of {fits}" if fits else "delete it with how='cut'"
    raise EditError(f"{what}: got the inputs {listed or 'none'}, expected {expected}; {hint}")


def _compatible(one: Any, two: Any) -> bool:
    return len(one) == len(two) and not any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(one, two, strict=True)
    )


def _constant(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "Constant" and producer.domain == ""


def cut(draft: Draft, nodes: list[ir.Node]) -> None:
    """Delete nodes of the main graph; what others read of them becomes inputs of the model."""
    graph, gone = draft.model.graph, set(nodes)
    for node in nodes:
        if draft.graph_of(node) is not graph:
            raise EditError(
                f"cannot cut node {node.name!r} ({node.op_type}) out of {draft.scope(draft.graph_of(node))!r}: "
                "only the main graph can get new inputs; use how='bypass'"
            )
    inside = gone | {inner for node in nodes for inner in nested(node)}
    made = [value for node in nodes for value in node.outputs if value.name]
    outputs = [value for value in graph.outputs if value not in set(made)]
    if not outputs:
        raise EditError("cannot cut: the model would have no output left; add another output first")
    new = []
    for value in made:
        readers = [(user, index) for user, index in value.uses() if user not in inside]
        if readers:
            new.append(make_input(draft, value))
            draft.redirect(value, new[-1], readers)
    draft.set_ports(graph, "outputs", outputs)
    draft.remove(graph, nodes)
    draft.set_ports(graph, "inputs", [*graph.inputs, *new])


def make_input(draft: Draft, value: ir.Value) -> ir.Value:
    """A value for a new input of the model in the place of a tensor; it is no input yet."""
    kind = draft.types.of(value)
    if kind is None or (kind.HasField("tensor_type") and not kind.tensor_type.HasField("shape")):
        raise EditError(
            f"tensor {value.name!r} cannot become an input: its type is not known well enough, got "
            f"{draft.types.text(value)}; cut at another one"
        )
    return typed_value(value.name, kind)
