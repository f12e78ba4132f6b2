"""The graph that is edited as onnx's inference wants it: encoded, without weights, at once.

To write 10,000 nodes takes longer than to infer them. So their bytes are kept, and only nodes that a step changed are
written again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from ..model import proto as protos
from ..model import wire
from .bodies import bodies
from .infer import SMALL, write_node

if TYPE_CHECKING:
    from .draft import Draft

_INITIALIZER, _NODE = 5, 1  # fields of GraphProto


class Encoded:
    """The nodes of the main graph of a draft, and its weights' types, as bytes.

    Args:
        draft: the graph.
        read: the model as it was read, whose nodes need not be written again; None for no such.
    """

    def __init__(self, draft: Draft, read: onnx.ModelProto | None):
        self.draft = draft
        self._read = read
        self._values = dict(draft.values[draft.model.graph])  # as they were read
        self._changed: set[Any] = set()
        self._nodes: dict[ir.Node, bytes] = {}
        self._weights: dict[ir.Value, tuple[ir.TensorProtocol, str | None, bytes]] = {}

    def forget(self, *things: Any) -> None:
        """Nodes have changed, or change back; all else is ignored."""
        if self._read is not None:
            self._changed.update(things)
        for thing in things:
            self._nodes.pop(thing, None)

    def model(self, stated: Collection[str] = ()) -> bytes:
        """The model for inference: weights of more than 1024 elements have a type alone, nothing is stated of what
        nodes make but the dtypes of the outputs, and the shapes of the given ones."""
        model, graph = self.draft.model, self.draft.model.graph
        shell = onnx.ModelProto(ir_version=model.ir_version)
        shell.opset_import.extend(onnx.helper.make_opsetid(*item) for item in model.opset_imports.items())
        shell.functions.extend(ir.serde.serialize_function(f) for f in model.functions.values())
        ends = onnx.GraphProto(name=graph.name or "graph")
        ends.input.extend(ir.to_proto(value) for value in graph.inputs)
        ends.output.extend(ir.to_proto(value) for value in graph.outputs)
        for info, value in zip(ends.output, graph.outputs, strict=True):
            free = value.producer() is not None and value.name not in stated
            if free and info.type.HasField("tensor_type"):
                info.type.tensor_type.ClearField("shape")
        if self._read is not None:
            self._take(self._read)
        weights = [self._weight(name, value) for name, value in graph.initializers.items()]
        known = self._nodes
        nodes = [known.get(node) or self._node(node) for node in graph]
        body = b"".join([ends.SerializeToString(), *weights, *nodes])
        return shell.SerializeToString() + wire.open_graph(len(body)) + body

    def _take(self, read: onnx.ModelProto) -> None:
        """Keep the bytes of the nodes that are as they were read."""
        for item in read.graph.node:
            value = self._values.get(next((name for name in item.output if name), ""))
            node = value.producer() if value is not None else None
            if node is None or node in self._changed or node.name != item.name:
                continue
            if not node.attributes or not any(bodies(node)):
                self._nodes[node] = wire.message(_NODE, item.SerializeToString())
        self._read, self._values, self._changed = None, {}, set()

    def _node(self, node: ir.Node) -> bytes:
        made = wire.message(_NODE, write_node(node).SerializeToString())
        if not any(bodies(node)):  # a step in a body does not name the node that holds it
            self._nodes[node] = made
        return made

    def _weight(self, name: str, value: ir.Value) -> bytes:
        tensor = value.const_value
        if tensor is None:
            return b""
        kept = self._weights.get(value)
        if kept is not None and kept[0] is tensor and kept[1] == name:
            return kept[2]
        shown = tensor if tensor.size <= SMALL else protos.reference(tensor, "", None, None)
        written = ir.serde.serialize_tensor(shown)
        written.name = name
        made = wire.message(_INITIALIZER, written.SerializeToString())
        self._weights[value] = (tensor, name, made)
        return made
