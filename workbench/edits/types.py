"""What is known of the type of each tensor of a graph that is edited, and what an edit changes about that.

The whole graph goes through onnx's shape inference once, before the first edit that needs a type. From then on only
the affected cone is inferred again: the touched nodes, and what follows them until nothing changes any more.
"""

from __future__ import annotations

import heapq
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model import proto
from ..model.info import DTYPES, from_type
from .bodies import bodies, nested
from .infer import first_error, infer_call, misfit, small_data, text, write_node
from .schema import check_inputs, schema_of

if TYPE_CHECKING:
    from .draft import Draft


class Types:
    """Types of the values of a Draft; what is set here follows undo and redo."""

    def __init__(self, draft: Draft):
        self.draft = draft
        self._known: dict[ir.Value, onnx.TypeProto | None] | None = None

    # -- what is known ----------------------------------------------------------------------------------------

    def of(self, value: ir.Value) -> onnx.TypeProto | None:
        """The type of a tensor as far as it is known."""
        if value.const_value is not None:
            return _of_tensor(value.const_value)
        known = self._known or {}
        return known[value] if value in known else declared(value)

    def text(self, value: ir.Value) -> str:
        """``float32[1, n]`` for messages."""
        return text(self.of(value))

    def declare(self, value: ir.Value, kind: onnx.TypeProto | None) -> None:
        """Set the type of a value; where the graph states it, it is stated anew."""
        before = self.of(value)
        self.draft.retyped.setdefault(value, before)
        known = self._known
        assert known is not None or value.const_value is not None
        if known is not None:
            present, old = value in known, known.get(value)

            def undo() -> None:
                if present:
                    known[value] = old
                else:
                    known.pop(value, None)

            self.draft.do(lambda: known.__setitem__(value, kind), undo)
        stated = value.is_graph_input() or value.is_graph_output()
        if stated and (kind is None or not kind.WhichOneof("value")):
            return
        if stated or value.type is not None or value.shape is not None:
            self.state(value, kind, keep_rank=stated)

    def state_like(self, value: ir.Value, other: ir.Value) -> None:
        """State of a value in the graph what is stated of another."""
        self.draft.set(value, "type", other.type)
        self.draft.set(value, "shape", other.shape)

    def state(self, value: ir.Value, kind: onnx.TypeProto | None, *, keep_rank: bool = False) -> None:
        """Write the type of a value into the graph (as value_info); None removes it.

        Args:
            keep_rank: where no shape is known any more, keep the one that was stated: inputs and outputs need one.
        """
        shape = kind and ir.serde.deserialize_type_proto_for_shape(kind)
        self.draft.set(value, "type", kind and ir.serde.deserialize_type_proto_for_type(kind))
        if shape is not None or not keep_rank:
            self.draft.set(value, "shape", shape)

    def know(self) -> None:
        """Infer the whole model, once. To be called before the first step that changes a type."""
        if self._known is None:
            self._known = {}
            self._infer_everything()

    def _infer_everything(self) -> None:
        model = self.draft.model
        try:
            found = onnx.shape_inference.infer_shapes(proto.skeleton(model), data_prop=True)
        except Exception:  # an odd model: what it declares is all that is known
            return
        for value, kind in self._read(found.graph, model.graph):
            self._set(value, kind)

    def again(self) -> None:
        """Infer the whole main graph anew, because an input changed; EditError when a node does not fit any more."""
        graph = self.draft.model.graph
        fresh = self._without_stated()
        try:
            found = onnx.shape_inference.infer_shapes(
                fresh, check_type=True, strict_mode=True, data_prop=True
            )
        except Exception as error:
            if not self._failed_before():
                raise EditError(
                    f"the model does not take that: {first_error(error)}; change that node first"
                ) from None
            found = onnx.shape_inference.infer_shapes(fresh, data_prop=True)
        for value, kind in [
            *self._read(found.graph, graph),
            *zip(graph.outputs, map(_typed, found.graph.output), strict=True),
        ]:
            if not value.is_graph_input() and not same(self.of(value), kind):
                self.declare(value, kind)

    def _without_stated(self) -> onnx.ModelProto:
        fresh = proto.skeleton(self.draft.model)
        del fresh.graph.value_info[:]
        for info in fresh.graph.output:
            if info.type.HasField("tensor_type"):
                info.type.tensor_type.ClearField("shape")
        return fresh

    def _failed_before(self) -> bool:
        """Whether the model did not pass strict inference before this edit either."""
        steps, self.draft.log = self.draft.log, []
        for _, undo in reversed(steps):
            undo()
        try:
            onnx.shape_inference.infer_shapes(
                self._without_stated(), check_type=True, strict_mode=True, data_prop=True
            )
        except Exception:  # the answer
            return True
        finally:
            for step, _ in steps:
                step()
            self.draft.log = steps
        return False

    def _set(self, value: ir.Value, kind: onnx.TypeProto | None) -> None:
        assert self._known is not None
        self._known[value] = kind

    def _read(self, found: onnx.GraphProto, graph: ir.Graph) -> list[tuple[ir.Value, onnx.TypeProto]]:
        """What inference found for the values of a graph and of the bodies in it."""
        names = self.draft.values[graph]
        read = []
        for info in found.value_info:
            value = names.get(info.name)
            if value is not None and value.const_value is None and info.type.WhichOneof("value"):
                read.append((value, without_invented(info.type)))
        for node, found_node in zip(graph, found.node, strict=True):
            for attribute in found_node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    read += self._read(attribute.g, node.attributes[attribute.name].value)
        return read

    # -- what an edit changes ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Infer the cone of what the noted steps touched; EditError when a node in it does not fit any more."""
        draft = self.draft
        queue: list[tuple[Any, int, ir.Node]] = []
        waiting: set[ir.Node] = set()
        places: dict[ir.Graph, dict[ir.Node, int]] = {}

        def push(node: ir.Node) -> None:
            if node not in waiting and node.name in draft.nodes:
                waiting.add(node)
                heapq.heappush(queue, (self._place(node, places), id(node), node))

        for node in draft.touched:
            push(node)
        for value, before in list(draft.retyped.items()):
            if not same(before, self.of(value)):
                self._push_users(value, push)
        while queue:
            _, _, node = heapq.heappop(queue)
            waiting.discard(node)
            for value in self._infer_node(node):
                self._push_users(value, push)
        if any(map(self._reaches_far, draft.touched)) or any(map(self._counts, draft.retyped)):
            self.again()

    def _reaches_far(self, node: ir.Node) -> bool:
        """Whether a node takes part in the arithmetic on shapes, or is in a function: then what follows from it is
        not only in the types of its outputs, and the whole graph is inferred anew."""
        draft = self.draft
        if node.name not in draft.nodes:
            return False
        return draft.is_function(draft.graph_of(node)) or any(map(self._counts, node.outputs))

    def _counts(self, value: ir.Value) -> bool:
        """Whether a tensor looks like a shape or a part of one."""
        kind = self.of(value)
        if kind is None or kind.tensor_type.elem_type not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
            return False
        dims = kind.tensor_type.shape.dim
        return len(dims) <= 1 and all(not dim.HasField("dim_value") or dim.dim_value <= 64 for dim in dims)

    def _push_users(self, value: ir.Value, push: Any) -> None:
        for user, _ in value.uses():
            push(user)
        graph = value.graph
        if value.is_graph_output() and graph in self.draft.owners:
            push(self.draft.owners[graph][0])

    def _place(self, node: ir.Node, places: dict[ir.Graph, dict[ir.Node, int]]) -> tuple[int, ...]:
        """A key that sorts nodes in the order in which they run, bodies before the node that holds them."""
        key: tuple[int, ...] = (1 << 60,)
        while True:
            graph = self.draft.graph_of(node)
            if graph not in places:
                places[graph] = {other: index for index, other in enumerate(graph)}
            key = (places[graph][node], *key)
            if graph not in self.draft.owners:
                return key
            node, attribute = self.draft.owners[graph]
            key = ([name for name, _ in bodies(node)].index(attribute), *key)

    def _infer_node(self, node: ir.Node) -> list[ir.Value]:
        """Infer a node's outputs again; the values whose type is another one now."""
        draft = self.draft
        graph = draft.graph_of(node)
        function = draft.is_function(graph)
        inputs = [(value, self.of(value) if value is not None else None) for value in node.inputs]
        schema = schema_of(node, draft)
        if schema is not None and not function:
            check_inputs(schema, node, [kind for _, kind in inputs])
        if function or not node.outputs:
            return []
        found = self._inferred(schema, node, inputs)
        if found is None:
            return []
        changed = []
        kept = not any(value in draft.retyped for value, _ in inputs)
        for value in node.outputs:
            if not value.name:
                continue
            old, new = self.of(value), found.get(value.name)
            if kept and new is not None and old is not None:
                new = refined(new, old)
            if not same(old, new):
                self.declare(value, new)
                changed.append(value)
        return changed

    def _inferred(
        self, schema: Any, node: ir.Node, inputs: list[tuple[ir.Value | None, onnx.TypeProto | None]]
    ) -> dict[str, onnx.TypeProto] | None:
        """What onnx infers for a node; None: nothing can be said, what was known stays."""
        draft = self.draft
        if node.op_type == "Constant" and node.domain == "":
            attribute = next(iter(node.attributes.values()), None)
            if attribute is not None and attribute.type == ir.AttributeType.TENSOR:
                return {node.outputs[0].name or "": _of_tensor(attribute.value)}
        if schema is None and (node.domain, node.op_type, node.overload) not in draft.model.functions:
            return self._unknown(node)
        if any(value is not None and kind is None for value, kind in inputs):
            return {}
        written = write_node(node)
        types: dict[str, Any] = {value.name or "": kind for value, kind in inputs if value is not None}
        for inner in nested(node):
            for value in inner.inputs:
                if value is not None and value.name not in types and (kind := self.of(value)) is not None:
                    types[value.name or ""] = kind
        try:
            if schema is None:
                called = infer_call(draft, written, types)
                return {name: without_invented(kind) for name, kind in called.items()}
            data = {
                value.name: small for value, _ in inputs if value is not None and (small := small_data(value))
            }
            opsets = [onnx.helper.make_opsetid(*item) for item in draft.opsets(draft.graph_of(node)).items()]
            return onnx.shape_inference.infer_node_outputs(
                schema, written, types, data, opset_imports=opsets, ir_version=draft.model.ir_version
            )
        except Exception as error:
            if not self._changed(node):
                return None  # onnx could not infer it before either: nothing is known against it
            raise misfit(node, inputs, error) from None

    def _unknown(self, node: ir.Node) -> dict[str, onnx.TypeProto] | None:
        """What an operator without a schema makes: what it made, as long as what it reads has the same dtypes."""
        for value in node.inputs:
            before = self.draft.retyped.get(value) if value is not None else None
            if value is None or before is None or node in self.draft.touched:
                continue
            now = self.of(value)
            if now is None or from_type(before)[0] != from_type(now)[0]:
                raise EditError(
                    f"node {node.name!r} ({node.domain}::{node.op_type}) would read {text(now)} as {value.name!r}, "
                    f"expected {text(before)}: no schema says what it makes of that; insert a Cast back before it"
                )
        unchanged = (
            not any(value in self.draft.retyped for value in node.inputs) and node not in self.draft.touched
        )
        if unchanged:
            return None
        found = {}
        for value in node.outputs:
            kind = self.of(value)
            if kind is not None and kind.HasField("tensor_type") and node not in self.draft.touched:
                found[value.name or ""] = without_shape(kind)
        return found

    def _changed(self, node: ir.Node) -> bool:
        """Whether this edit changed a node, what it reads, or what a body of it gives."""
        retyped = self.draft.retyped
        given = [value for _, graph in bodies(node) for value in graph.outputs]
        return node in self.draft.touched or any(value in retyped for value in (*node.inputs, *given))


def _typed(info: onnx.ValueInfoProto) -> onnx.TypeProto:
    return without_invented(info.type)


def _of_tensor(tensor: ir.TensorProtocol) -> onnx.TypeProto:
    return _tensor_type(tensor.dtype.value, tuple(tensor.shape.numpy()))


@lru_cache(maxsize=4096)
def _tensor_type(dtype: int, shape: tuple[int, ...]) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(dtype, shape)


def make(dtype: str, shape: tuple[int | str | None, ...] | None) -> onnx.TypeProto:
    """A tensor type; EditError when there is no such dtype or dim."""
    number = next((number for number, name in DTYPES.items() if name == dtype), None)
    if number is None:
        raise EditError(
            f"got the dtype {dtype!r}, expected one of {', '.join(DTYPES.values())}; give one of these"
        )
    for dim in shape or ():
        if not (dim is None or isinstance(dim, str) or (type(dim) is int and dim >= 0)):
            raise EditError(
                f"got the dim {dim!r} in the shape {shape}, expected an int from 0, a name, or None for unknown"
            )
    return onnx.helper.make_tensor_type_proto(number, shape)


def declared(value: ir.Value) -> onnx.TypeProto | None:
    """The type that the graph states for a value."""
    if value.type is None:
        return None
    return ir.to_proto(value).type


def without_invented(kind: onnx.TypeProto) -> onnx.TypeProto:
    """A type without the symbols that onnx's inference makes up (``unk__0``)."""
    if kind.HasField("tensor_type"):
        for dim in kind.tensor_type.shape.dim:
            if dim.dim_param.startswith("unk__"):
                dim.ClearField("value")
    return kind


def refined(new: onnx.TypeProto, old: onnx.TypeProto) -> onnx.TypeProto:
    """A type with the dims that were known before where nothing new is known; for unchanged inputs only."""
    (dtype, shape), (old_dtype, old_shape) = from_type(new), from_type(old)
    if dtype != old_dtype or old_shape is None or not new.HasField("tensor_type"):
        return new
    if shape is None:
        return old
    if len(shape) != len(old_shape) or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(shape, old_shape, strict=True)
    ):
        return new
    dims = [
        a if isinstance(a, int) else b if b is not None else a for a, b in zip(shape, old_shape, strict=True)
    ]
    return onnx.helper.make_tensor_type_proto(new.tensor_type.elem_type, dims)


def without_shape(kind: onnx.TypeProto) -> onnx.TypeProto:
    """A tensor type of the same dtype and unknown rank."""
    found = onnx.TypeProto()
    found.tensor_type.elem_type = kind.tensor_type.elem_type
    return found


def same(one: onnx.TypeProto | None, two: onnx.TypeProto | None) -> bool:
    """Whether two types say the same."""
    return one is two or (one is not None and two is not None and from_type(one) == from_type(two))
