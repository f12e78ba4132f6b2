"""Which tensor has which type when some nodes are kept in float32: pure planning, nothing is changed."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from ..edits.base import names
from ..edits.draft import Draft
from ..edits.history import version_of
from ..errors import EditError
from ..model import Model
from ..model.scopes import bodies, nested
from .operators import LOW, Role, is_float, is_weight, role

FULL = "float32"


@dataclass
class Roles:
    """The role of every node of a model, found once; what is kept does not change it.

    Attributes:
        low: the dtype: ``float16`` or ``bfloat16``.
        graphs: the main graph and the bodies in it, outer ones first.
        nodes: node -> its role, in an order in which they can run within each graph.
    """

    low: str
    graphs: list[ir.Graph] = field(default_factory=list)
    nodes: dict[ir.Node, Role] = field(default_factory=dict)

    @property
    def computing(self) -> list[str]:
        """Names of the nodes that can be computed in either type."""
        return [node.name or "" for node, found in self.nodes.items() if found.kind == "computes"]


@dataclass
class Plan:
    """The types of a converted model.

    Attributes:
        roles: see there.
        dtype: float32 tensor -> ``float32`` or the low dtype. Weights are not in it: each reader gets what it wants.
        low: nodes that compute in the low type.
        lossy: tensors that the low type rounds where they are made (the others of low type hold rounded values).
    """

    roles: Roles
    keep_io: bool
    dtype: dict[ir.Value, str] = field(default_factory=dict)
    low: set[ir.Node] = field(default_factory=set)
    lossy: list[ir.Value] = field(default_factory=list)

    def wanted(self, node: ir.Node, index: int) -> str | None:
        """The type in which a node reads an input; None for any."""
        found = self.roles.nodes.get(node)
        if found is None or found.kind == "none" or (found.kind == "computes" and not found.inputs):
            return None
        if index not in found.inputs:
            return FULL
        if found.kind == "moves":
            return self.dtype[node.outputs[found.outputs[0]]] if found.outputs else FULL
        return self.roles.low if node in self.low else FULL


@contextlib.contextmanager
def borrowed(model: Model) -> Iterator[Draft]:
    """The graph of a model as a draft that knows its types; the steps that are taken on it are undone in the end."""
    version = version_of(model)
    version.graph()
    draft = version.line.draft
    draft.start()
    draft.types.know()
    try:
        yield draft
    finally:
        draft.back()


def check_type(to: str, what: str) -> str:
    """The dtype for ``fp16`` or ``bf16``."""
    if to not in LOW:
        raise EditError(f"cannot {what}: got the type {to!r}, expected 'fp16' or 'bf16'; give one of them")
    return LOW[to]


def roles_of(draft: Draft, low: str) -> Roles:
    """The roles of all nodes of the main graph and of the bodies in it."""
    found = Roles(low)

    def enter(graph: ir.Graph) -> None:
        found.graphs.append(graph)
        for node in graph:
            found.nodes[node] = role(draft, node, low)
            for _, body in bodies(node):
                enter(body)

    enter(draft.model.graph)
    return found


def warn_of_opset(roles: Roles, to: str) -> None:
    """Name what stays float32 only because the model's operator set is older than the type is for it."""
    held = [(node.op_type, found.opset) for node, found in roles.nodes.items() if found.opset]
    if held:
        kinds = Counter(op_type for op_type, _ in held)
        said = ", ".join(f"{count} {op_type}" for op_type, count in kinds.most_common(6))
        newest = max(opset for _, opset in held)
        many = "s stay in float32, for which" if len(held) > 1 else " stays in float32, for which"
        warnings.warn(
            f"{len(held)} node{many} the model's operator set has no {to} ({said}); operator set {newest} has: "
            f"model.convert_opset({newest}) first",
            stacklevel=3,
        )


def make(draft: Draft, roles: Roles, keep: Iterable[str], keep_io: bool) -> Plan:
    """Plan a conversion.

    Args:
        keep: names of nodes that stay in float32, with what is in their bodies. What only moves values follows: it
            stays float32 where it carries a tensor of a kept node to one that reads it in float32.
        keep_io: whether the inputs and outputs of the model stay float32.

    Raises:
        NotInModelError: there is no node of a name in ``keep``.
    """
    plan = Plan(roles, keep_io)
    named = [draft.node(name) for name in names(keep)]
    kept = {node for outer in named for node in (outer, *nested(outer))}
    plan.low = {node for node, r in roles.nodes.items() if r.kind == "computes" and node not in kept}
    exact = _exact(draft, plan, kept)
    needed = _needed(draft, plan, kept)
    for graph in roles.graphs:
        for value in _made(draft, graph):
            producer = value.producer()
            found = roles.nodes[producer] if producer is not None else None
            if (
                found is not None
                and found.kind == "moves"
                and producer not in kept
                and _changes(value, found)
            ):
                full = value in needed and exact[value] is not False
            else:
                full = exact[value] is True
            plan.dtype[value] = FULL if full else roles.low
            if producer in plan.low and not full:
                plan.lossy.append(value)
    return plan


def _changes(value: ir.Value, found: Role) -> bool:
    producer = value.producer()
    assert producer is not None
    return any(producer.outputs[i] is value for i in found.outputs)


def _made(draft: Draft, graph: ir.Graph) -> Iterator[ir.Value]:
    """The float32 tensors of a graph that are no weights: inputs first, then in order."""
    for value in graph.inputs:
        if is_float(draft, value):
            yield value
    for node in graph:
        for value in node.outputs:
            if value.name and is_float(draft, value) and not is_weight(value):
                yield value


def _exact(draft: Draft, plan: Plan, kept: set[ir.Node]) -> dict[ir.Value, bool | None]:
    """Tensor -> whether it holds more than the low type can; None for what is moved from weights alone."""
    exact: dict[ir.Value, bool | None] = {}
    main = draft.model.graph
    for graph in plan.roles.graphs:
        for value in _made(draft, graph):
            producer = value.producer()
            if producer is None:  # an input with a default keeps its type, so that the default can
                exact[value] = graph is not main or plan.keep_io or value.const_value is not None
                continue
            found = plan.roles.nodes[producer]
            if found.kind == "moves" and producer not in kept and _changes(value, found):
                read = [exact.get(producer.inputs[i]) for i in found.inputs]  # type: ignore[arg-type]
                exact[value] = True if True in read else False if False in read else None
            else:
                exact[value] = not (producer in plan.low and _changes(value, found))
    return exact


def _needed(draft: Draft, plan: Plan, kept: set[ir.Node]) -> set[ir.Value]:
    """The tensors that something reads in float32, directly or through nodes that only move them."""
    needed: set[ir.Value] = set()
    for graph in plan.roles.graphs:
        if graph is not draft.model.graph or plan.keep_io:
            needed.update(graph.outputs)
    for graph in reversed(plan.roles.graphs):
        for node in reversed(graph):
            found = plan.roles.nodes[node]
            if found.kind == "none" or (found.kind == "computes" and not found.inputs):
                full = []
            elif node in plan.low:
                full = [i for i in range(len(node.inputs)) if i not in found.inputs]
            elif found.kind == "moves" and node not in kept:
                reads = any(node.outputs[i] in needed for i in found.outputs)
                full = [i for i in range(len(node.inputs)) if reads or i not in found.inputs]
            else:
                full = list(range(len(node.inputs)))
            for i in full:
                value = node.inputs[i]
                if value is not None:
                    needed.add(value)
    return needed
