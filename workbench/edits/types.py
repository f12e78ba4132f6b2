"""What is known of the type of each tensor of a graph that is edited, and what an edit changes about that.

The whole graph goes through onnx's shape inference once, when the model is read (``model/inferred.py``). From then on
only the affected cone is inferred again: the touched nodes, and what follows them until nothing changes any more.
Where the cone cannot be told from types (the arithmetic on shapes) or is nearly everything (an input's shape), the
whole graph goes through onnx again, as bytes of which most are kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model.inferred import infer
from ..model.info import from_type
from ..model.proto import skeleton
from .bodies import bodies, nested
from .infer import first_error, infer_call, misfit, small_data, strictly, text, write_node
from .schema import check_inputs, schema_of
from .tensortypes import canonical, declared, has_rank, of_tensor, refined, same, stated, without_shape

if TYPE_CHECKING:
    from .draft import Draft

MANY = 100  # touched nodes from which on the whole graph is inferred at once, if it has to be anyway


class Types:
    """Types of the values of a Draft; what is set here follows undo and redo.

    Args:
        draft: the graph, as it is before the first step.
        found: what onnx inferred for it when it was read; None: that is done before the first edit that needs types.
    """

    def __init__(self, draft: Draft, found: onnx.ModelProto | None):
        self.draft = draft
        self._known: dict[ir.Value, onnx.TypeProto | None] = {}
        self._first_names: dict[ir.Value, str] = {}
        # nodes whose function this edit changes; None: what they give could not be inferred
        self._calls: dict[ir.Node, bool | None] = {}
        self._keep(found)

    def _keep(self, found: onnx.ModelProto | None) -> None:
        """Remember what was inferred for the graph as it is now; the names tell of which tensor, until they change."""
        self._found = found
        self._named = {graph: dict(names) for graph, names in self.draft.values.items()} if found else {}
        self._graphs = dict(self._pairs(found.graph, self.draft.model.graph)) if found else {}
        self._by_name: dict[ir.Graph, dict[str, onnx.ValueInfoProto]] = {}
        self._first_names.clear()

    # -- what is known ----------------------------------------------------------------------------------------

    def of(self, value: ir.Value) -> onnx.TypeProto | None:
        """The type of a tensor as far as it is known."""
        if value.const_value is not None:
            return of_tensor(value.const_value)
        if value in self._known:
            return self._known[value]
        graph, name = value.graph, self._first_names.get(value, value.name or "")
        if graph in self._graphs and self._named[graph].get(name) is value:
            if graph not in self._by_name:
                found = self._graphs[graph]
                self._by_name[graph] = {info.name: info for info in (*found.output, *found.value_info)}
            info = self._by_name[graph].get(name)
            if info is not None and info.type.WhichOneof("value"):
                return canonical(info.type)
        return declared(value)

    def renamed(self, value: ir.Value, old: str) -> None:
        """A tensor has another name now; what is known of it is found by its first one."""
        self._first_names.setdefault(value, old)

    def text(self, value: ir.Value) -> str:
        """``float32[1, n]`` for messages."""
        return text(self.of(value))

    def learn(self, kinds: dict[ir.Value, onnx.TypeProto | None]) -> None:
        """Note what the types of values are, and state nothing in the graph."""
        known = self._known
        olds = {value: known[value] for value in kinds if value in known}

        def undo() -> None:
            for value in kinds:
                del known[value]
            known.update(olds)

        self.draft.do(lambda: known.update(kinds), undo)

    def declare(self, value: ir.Value, kind: onnx.TypeProto | None) -> None:
        """Set the type of a value; where the graph states it, it is stated anew."""
        self.declare_all([(value, self.of(value), kind)])

    def declare_all(
        self, changes: list[tuple[ir.Value, onnx.TypeProto | None, onnx.TypeProto | None]]
    ) -> None:
        """``declare`` for many (value, type before, type), in one step."""
        retyped = self.draft.retyped
        new, restated = {}, []
        for value, before, kind in changes:
            retyped.setdefault(value, before)
            port = value.is_graph_input() or value.is_graph_output()
            if port and (kind is None or not kind.WhichOneof("value")):
                continue
            of_it, shape = stated(kind)
            if port and shape is None and value.shape is not None:  # ports keep the rank that is stated
                shape = value.shape
                kind = ir.to_proto(ir.Value(name="", type=of_it, shape=shape)).type
            new[value] = kind
            if port or value.type is not None or value.shape is not None:
                restated.append((value, of_it, shape))
        self.learn(new)
        self._state(restated)

    def state_like(self, value: ir.Value, other: ir.Value) -> None:
        """State of a value in the graph what is stated of another, which it takes the place of."""
        self.learn({value: self.of(other)})
        self._state([(value, other.type, other.shape)])

    def state(self, value: ir.Value, kind: onnx.TypeProto | None) -> None:
        """Write the type of a value into the graph (as value_info); None removes it."""
        self._state([(value, *stated(kind))])

    def _state(self, news: list[tuple[ir.Value, Any, Any]]) -> None:
        olds = [(value, value.type, value.shape) for value, _, _ in news]

        def step(items: list[tuple[ir.Value, Any, Any]]) -> None:
            for value, kind, shape in items:
                value.type, value.shape = kind, shape

        if news:
            self.draft.do(lambda: step(news), lambda: step(olds))

    def know(self) -> None:
        """Infer the whole model, if that was not done yet. To be called before the first step that changes a type."""
        if self._found is None:
            self._keep(infer(skeleton(self.draft.model).SerializeToString()) or onnx.ModelProto())

    def _pairs(self, found: onnx.GraphProto, graph: ir.Graph) -> Iterator[tuple[ir.Graph, onnx.GraphProto]]:
        """The graphs, bodies included, with what was inferred for them."""
        yield graph, found
        if not any(self.draft.graph_of(node) is graph for node, _ in self.draft.owners.values()):
            return
        for node, found_node in zip(graph, found.node, strict=False):
            for attribute in found_node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    yield from self._pairs(attribute.g, node.attributes[attribute.name].value)

    def _again(self) -> list[ir.Value]:
        """Infer the whole main graph anew; the values whose type is another one now. EditError when a node does not
        fit any more."""
        graph = self.draft.model.graph
        found = self._whole()
        ends = zip(graph.outputs, found.graph.output, strict=True)
        lost = {v.name or "" for v, info in ends if v.shape is not None and not has_rank(info.type)}
        if lost:  # outputs keep what is stated of them, and what reads them sees it
            found = self._whole(lost)
        changes = []
        for part, inferred in self._pairs(found.graph, graph):
            names = self.draft.values[part]
            for info in (*inferred.value_info, *inferred.output):
                value, kind = names.get(info.name), canonical(info.type)
                if value is None or value.const_value is not None or not kind.WhichOneof("value"):
                    continue
                before = self.of(value)
                if not same(before, kind) and not value.is_graph_input():
                    changes.append((value, before, kind))
        self.declare_all(changes)
        return [value for value, _, _ in changes]

    def _whole(self, stated: Collection[str] = ()) -> onnx.ModelProto:
        encoded = self.draft.encoded.model(stated)
        try:
            return strictly(encoded)
        except Exception as error:
            reason = first_error(error)
            if reason is not None and not self._failed_before():
                raise EditError(f"the model does not take that: {reason}; change that node first") from None
        return onnx.shape_inference.infer_shapes(encoded, data_prop=True)

    def _failed_before(self) -> bool:
        """Whether the model did not pass strict inference before this edit either."""
        steps, self.draft.log = self.draft.log, []
        for _, undo in reversed(steps):
            undo()
        try:
            strictly(self.draft.encoded.model())
        except Exception:  # the answer
            return True
        finally:
            for step, _ in steps:
                step()
            self.draft.log = steps
        return False

    # -- what an edit changes ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Infer the cone of what the noted steps touched; EditError when a node in it does not fit any more."""
        draft = self.draft
        changed = [value for value, old in draft.retyped.items() if not same(old, self.of(value))]
        self._calls = self._calls_of_touched()
        far = draft.everywhere or any(map(self._reaches_far, (*draft.touched, *self._calls)))
        far = far or any(map(self._counts, draft.retyped))
        if not draft.everywhere and not (far and len(draft.touched) > MANY):
            self._follow((*draft.touched, *self._calls), changed)
            far = far or None in self._calls.values() or any(map(self._counts, draft.retyped))
        if far:  # of operators without a schema onnx says nothing
            reached = {*changed, *self._again()}
            odd = [node for node in self._without_schema() if not reached.isdisjoint(node.inputs)]
            self._follow(odd, [])

    def _calls_of_touched(self) -> dict[ir.Node, bool | None]:
        """The nodes that call, at any depth, the functions in which this edit touched a node."""
        draft = self.draft
        roots = {draft.around(draft.graph_of(n))[-1] for n in draft.touched if n.name in draft.nodes}
        roots.discard(draft.model.graph)
        found: dict[ir.Node, bool | None] = {}
        while roots:
            inside = {key for key, function in draft.model.functions.items() if function.graph in roots}
            new = [
                n
                for n in draft.nodes.values()
                if (n.domain, n.op_type, n.overload) in inside and n not in found
            ]
            found.update(dict.fromkeys(new, True))
            roots = {draft.around(draft.graph_of(node))[-1] for node in new} - {draft.model.graph}
        return found

    def _without_schema(self) -> Iterator[ir.Node]:
        """The nodes whose operator onnx does not know, and that call no function either."""
        known: dict[tuple[str, str, str], bool] = {}
        for node in self.draft.nodes.values():
            key = (node.domain, node.op_type, node.overload)
            if key not in known:
                known[key] = key in self.draft.model.functions or schema_of(node, self.draft) is not None
            if not known[key]:
                yield node

    def _follow(self, nodes: Iterable[ir.Node], values: Iterable[ir.Value]) -> None:
        """Infer nodes and the users of values, and what follows from them until nothing changes any more."""
        draft = self.draft
        self._inferred_calls: dict[Any, list[onnx.TypeProto]] = {}
        queue: list[tuple[Any, int, ir.Node]] = []
        waiting: set[ir.Node] = set()

        def push(node: ir.Node) -> None:
            if node not in waiting and node.name in draft.nodes:
                waiting.add(node)
                heapq.heappush(queue, (self._place(node), id(node), node))

        for node in nodes:
            push(node)
        for value in values:
            self._push_users(value, push)
        while queue:
            _, _, node = heapq.heappop(queue)
            waiting.discard(node)
            for value in self._infer_node(node):
                self._push_users(value, push)

    def _reaches_far(self, node: ir.Node) -> bool:
        """Whether a node takes part in the arithmetic on shapes: then what follows from it is not only in the types of
        its outputs, and the whole graph is inferred anew."""
        return node.name in self.draft.nodes and any(map(self._counts, node.outputs))

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

    def _place(self, node: ir.Node) -> tuple[int, ...]:
        """A key that sorts nodes in the order in which they run, bodies before the node that holds them."""
        key: tuple[int, ...] = (1 << 60,)
        while True:
            graph = self.draft.graph_of(node)
            key = (self.draft.order(graph)[node], *key)
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
                return {node.outputs[0].name or "": of_tensor(attribute.value)}
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
                called = infer_call(draft, written, types, self._inferred_calls)
                return {name: canonical(kind) for name, kind in called.items()}
            data = {
                value.name: small
                for index, (value, _) in enumerate(inputs)
                if value is not None and (small := small_data(node, index))
            }
            opsets = [onnx.helper.make_opsetid(*item) for item in draft.opsets(draft.graph_of(node)).items()]
            return onnx.shape_inference.infer_node_outputs(
                schema, written, types, data, opset_imports=opsets, ir_version=draft.model.ir_version
            )
        except Exception as error:
            if node in self._calls:
                self._calls[node] = None  # the inference of the whole tells whether that was so before
                return None
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
