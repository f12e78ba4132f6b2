"""Which original nodes does each layer of a runtime's optimised graph stand for?

The optimised graph is held against the original one tensor by tensor, never by position. For every tensor of
the optimised graph `_Match` looks for the original tensor that holds the same data (perhaps in another memory
layout or type); a layer then stands for the original nodes between its output tensors and its input tensors.

Conventions of ONNX Runtime's optimiser that are relied on (core/optimizer in its sources): a fused node keeps
the tensor that it ends in; the NCHWc transformer calls a node ``<output tensor>_nchwc`` and renames its
tensors; the NHWC transformer calls it ``<node>_token_<n>``; a duplicated DequantizeLinear is
``<node>/duplicated``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .graph import Graph, Op, Tensor

# Ops with which runtimes change layout, type or place of a tensor; the data stays the same.
_MOVES = {
    "ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Identity",
    "QuantizeLinear", "DequantizeLinear", "MemcpyFromHost", "MemcpyToHost",
}  # fmt: skip
_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish"}
_NCHWC = re.compile(r"^(.*?)(?:_bn|_mul)?_nchwc(?:_token_\d+)?$")
_INLINED = "_inlfunc_"  # tensors in the body of a function that the runtime inlined
_RENAMED = re.compile(r"(?:/duplicated|_token_\d+)$")

EXACT, SHARED, BEFORE, AFTER = "exact", "shared", "inserted before", "inserted after"


@dataclass(frozen=True)
class Origin:
    """What a layer stands for.

    Attributes:
        nodes: names of the original nodes, in the order of the original graph; empty if it could not be
            joined.
        how: ``exact``; ``shared`` (the nodes could not be told apart from those of the next layer);
            ``inserted before`` / ``inserted after`` (moves data for the layer that has these nodes); or why
            it was not joined.
    """

    nodes: tuple[str, ...]
    how: str


def join(stages: Sequence[Graph]) -> dict[tuple[int, str], Origin]:
    """Origins of the layers of the last stage in terms of the nodes of the first.

    Args:
        stages: the original graph, then what the runtime made of it, level by level (one is enough, but more
            levels leave less to guess).

    Returns:
        (body, layer name) -> Origin.
    """
    first = stages[0]
    order = {op.name: i for i, op in enumerate(first.ops)}
    known: dict[int, tuple[tuple[str, ...], str]] = {id(op): ((op.name,), EXACT) for op in first.ops}
    for before, after in zip(stages, stages[1:], strict=False):
        known = _compose(_Match(before, after).origins(), known, order)
    return {(op.body, op.name): Origin(*known[id(op)]) for op in stages[-1].ops}


def _compose(step: dict[int, tuple[list[Op], str]], known: dict, order: dict[str, int]) -> dict:
    """Replace the nodes of the stage before by what they stand for themselves."""
    result = {}
    for layer, (ops, how) in step.items():
        names = {name for op in ops for name in known[id(op)][0]}
        if how == EXACT and len(ops) == 1:
            how = known[id(ops[0])][1]
        elif ops and not names:
            how = next(known[id(op)][1] for op in ops)
        result[layer] = (tuple(sorted(names, key=order.__getitem__)), how)
    return result


class _Match:
    """Graph `b` held against graph `a`, from which an optimiser made it."""

    def __init__(self, a: Graph, b: Graph):
        self.a, self.b = a, b
        self.pair = {0: 0}  # body of b -> body of a
        for op in b.ops:
            twin = next((o for o in a.by_name.get(op.name, ()) if o.bodies), None)
            for attribute, body in op.bodies.items():
                self.pair[body] = twin.bodies.get(attribute, 0) if twin else 0
        self.same: dict[Tensor, Tensor] = {}  # tensor of b -> tensor of a with the same data
        self._by_name()
        self._by_later_moves()
        self._by_anchors()
        self.known = set(self.same.values())
        self.made: dict[int, list[Op]] = {}

    # -- tensors

    def _by_name(self) -> None:
        for number, body in enumerate(self.b.bodies):
            here = self.pair.get(number, 0)
            names = [*body.inputs, *body.initializers, *(name for op in body.ops for _, name in op.outputs)]
            for name in names:
                if (tensor := self.a.find(name, here)) is not None:
                    self.same[number, name] = tensor

    def _by_later_moves(self) -> None:
        """A renamed tensor from which an inserted move makes a tensor with an original name."""
        for op in reversed(self.b.ops):
            if self._inserted_move(op) and op.outputs[0] in self.same:
                self.same.setdefault(op.inputs[0], self.same[op.outputs[0]])

    def _by_anchors(self) -> None:
        """What the name of the layer tells about its output; moves inherit from their input."""
        for op in self.b.ops:
            if all(t in self.same for t in op.outputs):
                continue
            if self._inserted_move(op):
                if op.inputs[0] in self.same:
                    self.same[op.outputs[0]] = self.same[op.inputs[0]]
            elif found := self._anchor(op):
                for mine, tensor in zip(op.outputs, found, strict=False):
                    self.same.setdefault(mine, tensor)

    def _inserted_move(self, op: Op) -> bool:
        if op.op_type not in _MOVES or len(op.outputs) != 1 or not op.inputs:
            return False
        if op.outputs[0][1].startswith(_INLINED):
            return False
        kept = self._kept(op)
        return kept is None or kept.op_type != op.op_type

    def _kept(self, op: Op) -> Op | None:
        """The node of `a` that this layer is, going by its name."""
        name = op.name
        while True:
            for candidate in self.a.by_name.get(name, ()):
                if len(self.a.by_name[name]) == 1 or candidate.body == self.pair.get(op.body):
                    return candidate
            shorter = _RENAMED.sub("", name)
            if shorter == name:
                return None
            name = shorter

    def _anchor(self, op: Op) -> list[Tensor]:
        here = self.pair.get(op.body, 0)
        if match := _NCHWC.match(op.name):
            tensor = self.a.find(match[1], here) or self.a.find(op.name.removesuffix("_nchwc"), here)
            return [self._after_fused(op, tensor)] if tensor else []
        kept = self._kept(op)
        if kept is None or len(kept.outputs) < len(op.outputs):
            return []
        if op.op_type.startswith("QLinear"):
            return [self._quantised(kept.outputs[0])]
        return kept.outputs

    def _after_fused(self, op: Op, tensor: Tensor) -> Tensor:
        """Follow the sum and the activation that an NCHWc Conv took in from behind `tensor`."""
        maker = self.a.producer.get(tensor)
        has = maker.attributes if maker else {}
        if len(op.inputs) > 3 and (maker is None or len(maker.inputs) < 4):
            tensor = self._next(tensor, {"Add", "Sum"}) or tensor
        if "activation" in op.attributes and "activation" not in has:
            tensor = self._next(tensor, {op.attributes["activation"].s.decode()}) or tensor
        return tensor

    def _quantised(self, tensor: Tensor) -> Tensor:
        """The quantised tensor behind `tensor`, past an activation that the quantised op took in."""
        after: Tensor | None = tensor
        while after is not None:
            if quantised := self._next(after, {"QuantizeLinear"}):
                return quantised
            after = self._next(after, _ACTIVATIONS)
        return tensor

    def _next(self, tensor: Tensor, op_types: set[str]) -> Tensor | None:
        """What the only reader of `tensor`, past any Identity, makes of it, if it is one of `op_types`."""
        users = self.a.consumers.get(tensor, [])
        while len(users) == 1 and users[0].op_type == "Identity":
            users = self.a.consumers.get(users[0].outputs[0], [])
        return users[0].outputs[0] if len(users) == 1 and users[0].op_type in op_types else None

    # -- layers

    def origins(self) -> dict[int, tuple[list[Op], str]]:
        """id(layer of b) -> (nodes of a, how)."""
        for op in self.b.ops:
            self.made[id(op)] = self._region(op)
        result: dict[int, tuple[list[Op], str]] = {}
        for op in self.b.ops:
            if self.made[id(op)]:
                result[id(op)] = self.made[id(op)], EXACT
            elif any(t in self.same for t in op.outputs):
                result[id(op)] = self._neighbour(op)
            else:
                result[id(op)] = self._shared(op)
        return result

    def _region(self, op: Op) -> list[Op]:
        """The nodes of `a` between what this layer reads and what it makes."""
        inputs = {self.same[t] for t in op.reads if t in self.same}
        made = [self.same[t] for t in op.outputs if t in self.same]
        outputs = [t for t in dict.fromkeys(made) if t not in inputs]
        if not outputs:
            return []
        near, ends = self.a.between(outputs, inputs, self.known)
        if ends <= inputs:
            return near
        # a tensor that some other layer makes as well lies in between: this layer computes it once more
        far, ends = self.a.between(outputs, inputs, limit=4 * len(near) + 8)
        return far if far and ends <= inputs else near

    def _shared(self, op: Op) -> tuple[list[Op], str]:
        """Outputs unknown: the layers that read them stand for this layer's nodes as well."""
        users = [user for t in op.outputs for user in self.b.consumers.get(t, ())]
        if ops := self._after(op, set()) or self._of(users, self._before, set()):
            return ops, SHARED
        names = ", ".join(name for _, name in op.outputs)
        reason = f"the original graph has no tensor for its output {names!r}, nor do the layers that read it"
        return [], reason

    def _neighbour(self, op: Op) -> tuple[list[Op], str]:
        """An inserted layer works for the layer on that side of it where the tensor was renamed."""
        renamed = [t for t in op.outputs if self.same.get(t, t)[1] != t[1]]
        sides = [(BEFORE, self._after), (AFTER, self._before)]
        if not renamed:
            sides.reverse()
        for how, neighbours in sides:
            if ops := neighbours(op, set()):
                return ops, how
        names = ", ".join(name for _, name in op.outputs)
        return [], f"inserted by the runtime to make {names!r}; no layer beside it could be joined"

    def _after(self, op: Op, seen: set[int]) -> list[Op]:
        seen.add(id(op))
        users = [u for t in op.outputs for u in self.b.consumers.get(t, ()) if id(u) not in seen]
        return self._of(users, self._after, seen)

    def _before(self, op: Op, seen: set[int]) -> list[Op]:
        seen.add(id(op))
        makers = [m for t in op.inputs[:1] if (m := self.b.producer.get(t)) is not None and id(m) not in seen]
        return self._of(makers, self._before, seen)

    def _of(self, neighbours: list[Op], further, seen: set[int]) -> list[Op]:  # type: ignore[no-untyped-def]
        found: dict[int, Op] = {}
        for neighbour in neighbours:
            for op in self.made[id(neighbour)] or further(neighbour, seen):
                found[id(op)] = op
        return list(found.values())
