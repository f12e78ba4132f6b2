"""New nodes on an edge: any operator, Identity, Cast, a QuantizeLinear/DequantizeLinear pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from ..errors import EditError
from ..model.info import from_type
from . import origins, place, schema
from .base import Edit, tuples
from .content import Content, of_array
from .draft import Draft
from .place import Readers
from .tensortypes import make


def splice(
    draft: Draft, key: str, to: Any, build: Callable[[ir.Graph, ir.Value], list[ir.Node]]
) -> list[ir.Node]:
    """Put new nodes between a tensor and what reads it.

    Where the tensor is an output of the model, the last new node makes that output under its name.

    Args:
        to: None for all readers (the model's output too), else names of nodes or ``(node, input)`` pairs.
        build: (graph, tensor) -> the new nodes, the last of which has the output to read instead.
    """
    value = draft.value(key)
    graph = draft.graph_of_value(value)
    readers = place.uses(draft, value, to)
    outside = value.is_graph_output() and to is None
    if not readers and not outside:
        raise EditError(f"cannot insert after tensor {key!r}: nothing reads it; choose another tensor")
    name = value.name or ""
    main = graph is draft.model.graph
    if outside and main:
        if value.is_graph_input() or value.is_initializer():
            raise EditError(
                f"cannot insert between {key!r} and the model's output of the same name: both are one tensor; "
                "name the nodes that shall read the new one (to=)"
            )
        origins.rename(draft, value, draft.free(graph, f"{name}_before"))
    new = build(graph, value)
    last = new[-1].outputs[0]
    if outside and main:
        last.name = name
        draft.types.state_like(last, value)
    for node in new:
        for output in node.outputs:
            output.name = output.name or draft.free(graph, f"{name}_{node.op_type.lower()}")
    draft.insert(graph, new, place.following(draft, graph, [v for node in new for v in node.inputs]))
    if outside:
        draft.set_ports(graph, "outputs", [last if output is value else output for output in graph.outputs])
    draft.redirect(value, last, readers)
    for reader, _ in readers:
        place.arrange(draft, reader)
    return new


@dataclass(frozen=True)
class InsertNode(Edit):
    """Put a node between a tensor and the nodes that read it.

    Args:
        tensor: key of the tensor.
        op_type: the operator.
        attributes: its attributes.
        inputs: keys of all its inputs, in which the tensor stands as None; None: the tensor alone.
        domain: of the operator.
        name: of the new node; None: made from the tensor's.
        to: which readers get the new tensor: names of nodes or ``(node, input)`` pairs; None: all.
    """

    method: ClassVar[str] = "insert_node"
    tensor: str
    op_type: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str | None, ...] | None = None
    domain: str = ""
    name: str | None = None
    to: Readers = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", plain_attributes(self.attributes))
        object.__setattr__(self, "inputs", tuples(self.inputs))
        object.__setattr__(self, "to", tuples(self.to))

    def change(self, draft: Draft) -> None:
        def build(graph: ir.Graph, value: ir.Value) -> list[ir.Node]:
            schema.require(self.op_type, self.domain, draft, graph)
            name = draft.new_node_name(self.name, f"{self.op_type}_{value.name}")
            given = (None,) if self.inputs is None else self.inputs
            inputs = [value if key is None else draft.value(key) for key in given]
            return [new_node(draft, graph, self.op_type, self.domain, inputs, self.attributes, name)]

        splice(draft, self.tensor, self.to, build)


def new_node(
    draft: Draft,
    graph: ir.Graph,
    op_type: str,
    domain: str,
    inputs: list[ir.Value],
    attributes: Mapping[str, Any],
    name: str,
) -> ir.Node:
    """A node with typed attributes, not in a graph yet."""
    for value in inputs:
        if draft.graph_of_value(value) not in draft.around(graph):
            raise EditError(
                f"node {name!r} cannot read tensor {draft.key(value)!r}: it is in another scope; expected one of "
                f"{draft.scope(graph) or 'the main graph'!r} or around it"
            )
    known = schema.find(op_type, domain, draft.opsets(graph).get(domain, 0))
    label = f"node {name!r} ({op_type})"
    made = [schema.attribute(label, key, value, known) for key, value in attributes.items()]
    return draft.create(domain, op_type, inputs, made, name)


def plain_attributes(attributes: Any) -> Any:
    """Attributes as an edit keeps them: arrays as Content, lists as tuples, numpy's numbers as Python's."""
    if not isinstance(attributes, Mapping):
        return attributes  # which is refused
    return {key: plain_value(value, key) for key, value in attributes.items()}


def plain_value(value: Any, name: str) -> Any:
    """One attribute's value as an edit keeps it."""
    if isinstance(value, np.ndarray):
        return of_array(value, f"attribute {name!r}")
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, Content) else tuples(value)


@dataclass(frozen=True)
class InsertIdentity(Edit):
    """Put an Identity between a tensor and the nodes that read it; see ``insert_node``."""

    method: ClassVar[str] = "insert_identity"
    tensor: str
    name: str | None = None
    to: Readers = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", tuples(self.to))

    def change(self, draft: Draft) -> None:
        InsertNode(self.tensor, "Identity", name=self.name, to=self.to).change(draft)


@dataclass(frozen=True)
class InsertCast(Edit):
    """Put a Cast to a dtype (``float16``) between a tensor and the nodes that read it; see ``insert_node``."""

    method: ClassVar[str] = "insert_cast"
    tensor: str
    dtype: str
    name: str | None = None
    to: Readers = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", tuples(self.to))

    def change(self, draft: Draft) -> None:
        number = make(self.dtype, ()).tensor_type.elem_type
        InsertNode(self.tensor, "Cast", {"to": number}, name=self.name, to=self.to).change(draft)


@dataclass(frozen=True)
class InsertQDQ(Edit):
    """Put a QuantizeLinear/DequantizeLinear pair between a tensor and the nodes that read it.

    Args:
        tensor: key of a float tensor.
        scale: one number, or one per slice along ``axis``.
        zero_point: likewise.
        dtype: ``int8``, ``uint8`` (any type that QuantizeLinear of the operator set makes).
        axis: for per-axis scales.
        name: of the QuantizeLinear; the other gets it with ``_dequantize``.
        to: which readers get the new tensor; None: all.
    """

    method: ClassVar[str] = "insert_qdq"
    tensor: str
    scale: float | tuple[float, ...]
    zero_point: int | tuple[int, ...] = 0
    dtype: str = "int8"
    axis: int | None = None
    name: str | None = None
    to: Readers = None

    def __post_init__(self) -> None:
        for key in ("scale", "zero_point", "to"):
            value = getattr(self, key)
            object.__setattr__(self, key, tuples(value.tolist() if hasattr(value, "tolist") else value))

    def change(self, draft: Draft) -> None:
        splice(draft, self.tensor, self.to, lambda graph, value: self._pair(draft, graph, value))

    def _pair(self, draft: Draft, graph: ir.Graph, value: ir.Value) -> list[ir.Node]:
        schema.require("QuantizeLinear", "", draft, graph)
        kind = draft.types.of(value)
        dtype = from_type(kind)[0] if kind is not None else "float32"
        if dtype not in ("float32", "float16", "bfloat16"):
            raise EditError(
                f"cannot quantize tensor {self.tensor!r}: got {draft.types.text(value)}, expected a float type; "
                "choose another tensor"
            )
        scale = np.asarray(self.scale, np.float64)
        if np.any(scale <= 0) or not np.all(np.isfinite(scale)):
            raise EditError(
                f"cannot quantize tensor {self.tensor!r}: got the scale {self.scale}, expected it above 0"
            )
        number = make(self.dtype, ()).tensor_type.elem_type
        if np.ndim(self.zero_point) and np.shape(self.zero_point) != scale.shape:
            raise EditError(
                f"cannot quantize tensor {self.tensor!r}: got the zero points {self.zero_point} for the scale "
                f"{self.scale}, expected one, or one per scale"
            )
        zeros = np.broadcast_to(self.zero_point, scale.shape)
        known = ir.DataType(number).numpy()
        large = zeros.dtype == object  # beyond 64 bits
        if large or known.kind in "iu" and not np.array_equal(zeros.astype(known).astype(np.int64), zeros):
            raise EditError(
                f"cannot quantize tensor {self.tensor!r}: zero point {self.zero_point} is no {self.dtype}"
            )
        float_type = ir.DataType(make(dtype, ()).tensor_type.elem_type)
        base = value.name or ""
        scale_value = place.constant(
            draft,
            graph,
            f"{base}_scale",
            ir.Tensor(scale.astype(float_type.numpy()), float_type),
        )
        zero_value = place.constant(
            draft, graph, f"{base}_zero_point", ir.Tensor(zeros.astype(known), ir.DataType(number))
        )
        attributes = {} if self.axis is None else {"axis": self.axis}
        name = draft.new_node_name(self.name, f"QuantizeLinear_{base}")
        first = new_node(
            draft, graph, "QuantizeLinear", "", [value, scale_value, zero_value], attributes, name
        )
        first.outputs[0].name = draft.free(graph, f"{base}_quantized")
        known_schema = schema.find("DequantizeLinear", "", draft.opsets(graph).get("", 0))
        made = [schema.attribute("node", key, v, known_schema) for key, v in attributes.items()]
        inputs = [first.outputs[0], scale_value, zero_value]
        return [
            first,
            draft.create("", "DequantizeLinear", inputs, made, draft.free_node(f"{name}_dequantize")),
        ]
