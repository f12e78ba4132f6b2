"""Taking the steps of a plan on a draft: real types with Casts between them, or float32 that is rounded in place.

Both are the same walk over the tensors of the graph. Converting puts one Cast where a tensor is read in another type
than it has. Simulating leaves all in float32 and sends what the low type would hold through it and back (two Casts);
the arithmetic in between stays float32, as it is where a device multiplies in fp16 and accumulates in fp32.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..edits import origins
from ..edits.draft import Draft
from ..edits.place import constant
from ..edits.tensortypes import make as make_type
from ..edits.weights import data, set_weight
from ..model.info import from_type
from .operators import is_float, is_weight
from .plan import FULL, Plan
from .weights import Rounded

NUMBER = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
Uses = list[tuple[ir.Node, int]]


class Rewrite:
    """One plan being carried out on the draft that it was made for.

    Attributes:
        cut: names of weights of which numbers beyond the range were cut off.
    """

    def __init__(self, draft: Draft, plan: Plan, rounded: Rounded):
        self.draft, self.plan, self.rounded = draft, plan, rounded
        self.low = plan.roles.low
        self.cut: list[str] = []
        self.following: dict[ir.Node, ir.Node | None] = {}
        self.first: dict[ir.Graph, ir.Node | None] = {}
        self.shapes = {v: draft.types.of(v) for names in draft.values.values() for v in names.values()}

    def run(self) -> None:
        """Take all steps."""
        for graph in self.plan.roles.graphs:
            nodes = list(graph)
            self.first[graph] = nodes[0] if nodes else None
            self.following.update(zip(nodes, [*nodes[1:], None], strict=True))
        for graph in self.plan.roles.graphs:
            held = list(graph.initializers.values())
            held += [value for node in graph if node.op_type == "Constant" for value in node.outputs]
            for value in held:
                if is_weight(value) and is_float(self.draft, value):
                    self._weight(graph, value)
        lossy = set(self.plan.lossy)
        for value, dtype in list(self.plan.dtype.items()):
            self._value(value, dtype, value in lossy)
        self.draft.afterwards.append(self._restore_shapes)

    def _restore_shapes(self) -> None:
        """State the shapes that were known: they do not depend on precision, but onnx does not infer all of them."""
        changes = []
        for value, before in self.shapes.items():
            now = self.draft.types.of(value)
            dtype, shape = ("", None) if now is None else from_type(now)
            known = None if before is None else from_type(before)[1]
            if not dtype or known is None or (shape is not None and len(shape) != len(known)):
                continue  # what was stated before was not so
            merged = (
                known
                if shape is None
                else tuple(b if a is None else a for a, b in zip(shape, known, strict=True))
            )
            if merged != shape or (value.is_graph_output() and value.shape is None):
                changes.append((value, make_type(dtype, merged)))
        if changes:
            self.draft.types.declare_all(changes)

    def _weight(self, graph: ir.Graph, value: ir.Value) -> None:
        uses = [(use, self.plan.wanted(*use)) for use in value.uses()]
        low = [use for use, wanted in uses if wanted == self.low]
        if not low:
            return
        made, cut = self.rounded.of(data(value))
        if cut:
            self.cut.append(value.name or "")
        if len(low) == len(uses) and not value.is_graph_output():
            made.name = value.name
            set_weight(self.draft, value, made)
        else:
            other = constant(self.draft, graph, f"{value.name}_{self.low}", made)
            self.draft.redirect(value, other, low)

    def _value(self, value: ir.Value, dtype: str, lossy: bool) -> None:
        graph = self.draft.graph_of_value(value)
        uses: Uses = list(value.uses())
        wanted = [self.plan.wanted(*use) for use in uses]
        port = None
        main = graph is self.draft.model.graph
        if value.is_graph_output():
            port = FULL if self.plan.keep_io or not main else self.low
            if main and value.is_graph_input():
                port = None  # one tensor that is both: it stays as it is
        if self.rounded.simulated:
            if lossy or (dtype != FULL and value.is_graph_input()):
                self._splice(graph, value, [self.low, FULL], uses, port is not None)
            elif dtype == FULL:
                users = [use for use, want in zip(uses, wanted, strict=True) if want == self.low]
                self._splice(graph, value, [self.low, FULL], users, port == self.low)
            return
        self._retype(value, dtype, lossy)
        other = self.low if dtype == FULL else FULL
        users = [use for use, want in zip(uses, wanted, strict=True) if want == other]
        self._splice(graph, value, [other], users, port == other)

    def _retype(self, value: ir.Value, dtype: str, lossy: bool) -> None:
        """Where nothing that a node reads says what it makes: state it."""
        node, number = value.producer(), NUMBER[self.low]
        if node is None and dtype != FULL:
            kind = self.draft.types.of(value)
            assert kind is not None
            self.draft.types.declare(value, make_type(self.low, from_type(kind)[1]))
        elif dtype != FULL and node is not None and node.op_type == "Cast":
            self.draft.set_attribute(node, "to", ir.AttrInt64("to", number.value))
        elif lossy and node is not None and node.op_type == "ConstantOfShape":
            given = node.attributes.get("value")
            array = np.zeros(1, np.float32) if given is None else given.value.numpy()
            made, cut = self.rounded.of(ir.tensor(array))
            self.cut += [value.name or ""] * cut
            self.draft.set_attribute(node, "value", ir.AttrTensor("value", made))

    def _splice(self, graph: ir.Graph, value: ir.Value, to: list[str], users: Uses, port: bool) -> None:
        """Casts one after the other behind a tensor; users, and the graph where it is an output, get the last."""
        if not users and not port:
            return
        draft, name = self.draft, value.name or ""
        main = graph is draft.model.graph
        if port and main:
            origins.rename(draft, value, draft.free(graph, f"{name}_{'raw' if len(to) > 1 else self.low}"))
        nodes: list[ir.Node] = []
        last = value
        for dtype in to:
            attribute = ir.AttrInt64("to", NUMBER[dtype].value)
            node = draft.create("", "Cast", [last], [attribute], draft.free_node(f"Cast_{name}_{dtype}"))
            last = node.outputs[0]
            rounded = "rounded" if len(to) > 1 and dtype == FULL else dtype
            last.name = draft.free(graph, f"{name}_{rounded}")
            self.shapes[last] = self.shapes[value]
            nodes.append(node)
        if port and main:
            last.name = name
            draft.types.state_like(last, value)
        producer = value.producer()
        draft.insert(graph, nodes, self.first[graph] if producer is None else self.following[producer])
        if port:
            draft.set_ports(graph, "outputs", [last if v is value else v for v in graph.outputs])
        draft.redirect(value, last, users)


def opsets_have_cast(model: ir.Model, low: str) -> str:
    """Empty, or why the operator set of a model has no Cast to a dtype."""
    version = model.opset_imports.get("", 0)
    least = 13 if low == "bfloat16" else 9
    made = f"Cast to {low} needs operator set {least}, the model has {version}"
    return "" if version >= least else made
