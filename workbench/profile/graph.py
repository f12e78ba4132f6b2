"""An index over an ONNX graph for walking it by tensor: producers, consumers, bodies of If / Loop / Scan.

A tensor is identified by (number of the body that defines it, name), because sibling bodies may use the same
name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx

Tensor = tuple[int, str]

# Without inputs and yet not a constant: each run makes other values.
_RANDOM = {
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli",
}  # fmt: skip


@dataclass(eq=False)
class Op:
    """One node.

    `inputs` are resolved to the body that defines them, those left out are not among them; `slots` are the
    inputs by position, None where one is left out; `captured` is what the bodies of the node read from around
    it.
    """

    name: str
    op_type: str
    domain: str
    body: int
    slots: list[Tensor | None]
    outputs: list[Tensor]
    captured: list[Tensor]
    attributes: dict[str, onnx.AttributeProto]
    bodies: dict[str, int]

    def __post_init__(self) -> None:
        self.inputs = [t for t in self.slots if t]
        self.reads = self.inputs + self.captured


@dataclass
class Body:
    """The main graph (number 0) or a graph inside a node."""

    parent: int | None
    owner: str
    inputs: list[str]
    outputs: list[str]
    initializers: dict[str, onnx.TensorProto]
    ops: list[Op] = field(default_factory=list)


class Graph:
    """Index over a model's main graph and all bodies in it.

    Attributes:
        bodies: outer ones before inner ones; `bodies[0]` is the main graph.
        producer: the op that makes a tensor.
        consumers: the ops that read it, also from inside their bodies.
        constants: tensors that do not depend on the model's inputs (weights and what is computed from them).
    """

    def __init__(self, model: onnx.ModelProto):
        self.bodies: list[Body] = []
        self.producer: dict[Tensor, Op] = {}
        self.consumers: dict[Tensor, list[Op]] = {}
        self.constants: set[Tensor] = set()
        self._where: dict[str, list[Tensor]] = {}
        self._add(model.graph, None, "")
        self.ops = [op for body in self.bodies for op in body.ops]
        self.by_name: dict[str, list[Op]] = {}
        for op in self.ops:
            self.by_name.setdefault(op.name, []).append(op)

    def _add(self, proto: onnx.GraphProto, parent: int | None, owner: str) -> int:
        number = len(self.bodies)
        weights = {t.name: t for t in proto.initializer} | {
            t.values.name: t.values for t in proto.sparse_initializer
        }
        inputs = [i.name for i in proto.input if i.name not in weights]
        body = Body(parent, owner, inputs, [o.name for o in proto.output], weights)
        self.bodies.append(body)
        for name in [*body.inputs, *weights]:
            self._where.setdefault(name, []).append((number, name))
        self.constants.update((number, name) for name in weights)
        made = [o for node in proto.node for o in node.output if o]
        for name in made:
            self._where.setdefault(name, []).append((number, name))
        for node in proto.node:
            body.ops.append(self._op(node, number))
        return number

    def _op(self, node: onnx.NodeProto, body: int) -> Op:
        slots = [self.resolve(name, body) if name else None for name in node.input]
        bodies = {}
        for a in node.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                bodies[a.name] = self._add(a.g, body, node.name)
        captured = [t for inner in bodies.values() for t in self._reads_outside(inner)]
        attributes = {a.name: a for a in node.attribute}
        outputs = [(body, name) for name in node.output if name]
        op = Op(node.name, node.op_type, node.domain, body, slots, outputs, captured, attributes, bodies)
        for tensor in outputs:
            self.producer[tensor] = op
        for tensor in dict.fromkeys(op.reads):
            self.consumers.setdefault(tensor, []).append(op)
        if op.op_type == "Constant" or (
            op.reads and op.op_type not in _RANDOM and all(t in self.constants for t in op.reads)
        ):
            self.constants.update(outputs)
        return op

    def _reads_outside(self, inner: int) -> Iterator[Tensor]:
        body = self.bodies[inner]
        for op in body.ops:
            yield from (t for t in op.reads if t[0] < inner)
        yield from (t for t in (self.resolve(name, inner) for name in body.outputs) if t[0] < inner)

    def resolve(self, name: str, body: int) -> Tensor:
        """The tensor that `name` means inside `body`: its own, or that of the nearest body around it."""
        places = {number for number, _ in self._where.get(name, ())}
        at: int | None = body
        while at is not None:
            if at in places:
                return at, name
            at = self.bodies[at].parent
        return body, name

    def find(self, name: str, body: int) -> Tensor | None:
        """Like `resolve`, but None if there is none; a name that only one body of the whole model has is
        found too."""
        tensor = self.resolve(name, body)
        places = self._where.get(name, [])
        return tensor if tensor in places else places[0] if len(places) == 1 else None

    def initializer(self, tensor: Tensor) -> onnx.TensorProto | None:
        return self.bodies[tensor[0]].initializers.get(tensor[1])

    def between(
        self, outputs: list[Tensor], *stops: set[Tensor], limit: int | None = None
    ) -> tuple[list[Op], set[Tensor]]:
        """The ops from which `outputs` are computed, walking back to the tensors in `stops`.

        Ops that only make constants are left out (unless all `outputs` are constants). Returns the ops and
        where the walk ended: tensors of `stops` that were reached, and inputs of a graph. The walk is given
        up (no ops) when more than `limit` ops are found.
        """
        ops: dict[int, Op] = {}
        ends: set[Tensor] = set()
        todo = list(outputs)
        skip = set() if self.constants.issuperset(outputs) else self.constants
        seen = set(outputs)
        while todo:
            op = self.producer.get(tensor := todo.pop())
            if op is None:
                ends.add(tensor)
                continue
            if id(op) in ops:
                continue
            ops[id(op)] = op
            if limit is not None and len(ops) > limit:
                return [], ends
            for read in op.reads:
                if read in seen or read in skip:
                    continue
                if any(read in stop for stop in stops):
                    ends.add(read)
                else:
                    seen.add(read)
                    todo.append(read)
        return list(ops.values()), ends
