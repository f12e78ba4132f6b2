"""Matching a pattern against a graph, backwards from one tensor, and remembering how far that came.

A matcher of our own, because the reason why something does *not* match is half of what fusions are for (CONTRIBUTING
says what onnxscript's told instead): every failure is a reason with its node and both values, and the deepest is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from ..edits.draft import Draft
from ..edits.schema import schema_of
from ..edits.weights import data
from ..model.info import from_type
from .pattern import COMMUTATIVE, Number, Operation, Output, Pattern, Variable
from .types import type_of

STEPS = 4000
"""Goals tried for one attempt; the largest pattern needs some hundred."""


class Refusal(Exception):
    """Why a match is not fused: a reason and the node that it is about."""

    def __init__(self, reason: str, node: ir.Node | None = None):
        super().__init__(reason)
        self.reason, self.node = reason, node


@dataclass
class Match:
    """A pattern found in a graph.

    Attributes:
        anchor: the node that makes what the pattern returns first.
        nodes: the matched nodes, each after those that it reads.
        values: variable of the pattern -> tensor.
        named: ``_name`` of an operation -> node.
    """

    draft: Draft
    pattern: Pattern
    anchor: ir.Node
    nodes: list[ir.Node]
    values: dict[str, ir.Value]
    named: dict[str, ir.Node]

    @property
    def graph(self) -> ir.Graph:
        """The graph that the nodes are in."""
        return self.draft.graph_of(self.anchor)

    @property
    def opset(self) -> int:
        """Version of the ONNX operator set that holds here."""
        return int(self.draft.opsets(self.graph).get("", 0))

    def shape(self, value: ir.Value) -> tuple[Any, ...] | None:
        """The shape of a tensor as far as it is known."""
        kind = type_of(self.draft, value)
        return None if kind is None else from_type(kind)[1]

    def dtype(self, value: ir.Value) -> str:
        """The dtype of a tensor, '' where it is not known."""
        kind = type_of(self.draft, value)
        return "" if kind is None else from_type(kind)[0]


@dataclass
class Attempt:
    """How far matching came at one anchor.

    Attributes:
        match: when all of the pattern was found.
        matched: nodes that fitted, on the best way.
        reason, node: what broke that way, and where.
        passed: the nodes of that way.
        telling: 0 when the reason may come from a wrong order of operands alone, 2 for another value of a constant,
            which is looked at last, else 1.
    """

    pattern: Pattern
    anchor: ir.Node
    match: Match | None = None
    matched: int = 0
    reason: str = ""
    node: ir.Node | None = None
    passed: tuple[ir.Node, ...] = ()
    telling: int = 0
    _steps: int = field(default=STEPS, repr=False)


def attempt(draft: Draft, pattern: Pattern, anchor: ir.Node) -> Attempt:
    """Match a pattern whose first root is made by a node."""
    found = Attempt(pattern, anchor)
    search = _Search(draft, found)
    goals: list[tuple[Any, ir.Value | None]] = [(pattern.roots[0], anchor.outputs[0])]
    if search.solve(goals):
        nodes = _sorted(anchor, set(search.nodes.values()))
        values = {
            term.name: value for term, value in search.bound.items() if isinstance(term, Variable) and value
        }
        named = {item.name: node for item, node in search.nodes.items() if item.name}
        found.match = Match(draft, pattern, anchor, nodes, values, named)
    return found


def _sorted(anchor: ir.Node, nodes: set[ir.Node]) -> list[ir.Node]:
    """Some nodes that lead to one of them, each after those that it reads."""
    order: dict[ir.Node, None] = {}

    def visit(node: ir.Node) -> None:
        for value in node.inputs:
            maker = value.producer() if value is not None else None
            if maker in nodes and maker not in order:
                visit(maker)
        order[node] = None

    visit(anchor)
    return list(order)


class _Search:
    def __init__(self, draft: Draft, found: Attempt):
        self.draft, self.found = draft, found
        self.bound: dict[Any, ir.Value | None] = {}
        self.nodes: dict[Operation, ir.Node] = {}

    def solve(self, goals: list[tuple[Any, ir.Value | None]]) -> bool:
        """Meet all goals, each a term and the tensor that it stands for; False with nothing bound when it fails."""
        if not goals:
            return True
        self.found._steps -= 1
        if self.found._steps < 0:
            return False
        (term, value), rest = goals[0], goals[1:]
        if isinstance(term, Operation | Output):
            return self._operation(term, value, rest)
        if term is None or value is None:
            if term is None and value is None:
                return self.solve(rest)
            return self._fail("an optional input is given" if term is None else "an input is left out")
        if isinstance(term, Number):
            return self._number(term, value) and self.solve(rest)
        return self._variable(term, value, rest)

    def _variable(self, term: Variable, value: ir.Value, rest: Any) -> bool:
        if term in self.bound:
            same = self.bound[term] is value
            other = self.bound[term]
            assert other is not None
            return (
                self.solve(rest)
                if same
                else self._fail(
                    f"tensor {value.name!r} is read where {other.name!r} would have to be: the pattern has one "
                    "tensor at both places",
                    self._reader(value),
                )
            )
        if term.constant and not is_constant(value):
            return self._fail(f"{described(value)} ({term.name}) is no constant", self._reader(value))
        self.bound[term] = value
        if self.solve(rest):
            return True
        del self.bound[term]
        return False

    def _reader(self, value: ir.Value) -> ir.Node | None:
        return next((node for node in reversed(list(self.nodes.values())) if value in node.inputs), None)

    def _number(self, term: Number, value: ir.Value) -> bool:
        array = constant(value)
        if array is None:
            reason = f"tensor {value.name!r} is no constant, expected {term.value:g}"
            return self._fail(reason, self._reader(value), telling=0)
        near = 1e-3 if array.dtype.itemsize == 2 else 1e-5
        if array.size != 1 or not math.isclose(float(array.ravel()[0]), term.value, rel_tol=near):
            shown = f"{float(array.ravel()[0]):g}" if array.size == 1 else f"an array {array.shape}"
            return self._fail(
                f"the constant is {shown}, expected {term.value:g}", self._reader(value), telling=2
            )
        return True

    def _operation(self, term: Any, value: ir.Value | None, rest: Any) -> bool:
        operation, index = (term.operation, term.index) if isinstance(term, Output) else (term, 0)
        if term in self.bound:
            return self.solve(rest) if self.bound[term] is value else self._fail("another tensor is read")
        node = value.producer() if value is not None else None
        reason = self._fits(operation, index, value, node)
        if not reason:
            assert node is not None
            other_output = operation in self.nodes
            self.bound[term] = value
            self.nodes[operation] = node
            ahead, behind = operation.order
            for inputs in self._orders(operation, node):
                first = [(operation.inputs[i], inputs[i]) for i in ahead]
                if self.solve([*first, *rest, *((operation.inputs[i], inputs[i]) for i in behind)]):
                    return True
            del self.bound[term]
            if not other_output:
                del self.nodes[operation]
        if operation.optional:
            return self.solve([(operation.inputs[0], value), *rest])
        return bool(reason) and self._fail(
            reason, node or (value is not None and self._reader(value)) or None
        )

    def _fits(self, operation: Operation, index: int, value: ir.Value | None, node: ir.Node | None) -> str:
        """'' or why a node is not what an operation asks for."""
        if node is None or value is None:
            what = "a left-out input" if value is None else f"tensor {value.name!r}, which no node makes"
            return f"expected {operation}, got {what}"
        domain = "" if node.domain == "ai.onnx" else node.domain
        if node.op_type not in operation.op_types or domain != operation.domain:
            return f"expected {operation}, got {node.op_type}"
        if value.index() != index:
            return f"output {value.index()} of {node.op_type} is read, expected output {index}"
        if operation in self.nodes and self.nodes[operation] is not node:
            return f"expected one {operation}, got two"
        if node in self.nodes.values() and operation not in self.nodes:
            return f"one {operation} is read twice, expected two"
        if operation.test is not None and not operation.test(node):
            return f"the check of the pattern refuses this {node.op_type}"
        return self._attributes(operation, node)

    def _attributes(self, operation: Operation, node: ir.Node) -> str:
        for name, wanted in operation.attributes.items():
            got = attribute(node, name, self.draft)
            if callable(wanted):
                if not wanted(got):
                    return f"attribute {name!r} is {got!r}"
            elif not _equal(got, wanted):
                return f"attribute {name!r} is {got!r}, expected {wanted!r}"
        return ""

    def _orders(self, operation: Operation, node: ir.Node) -> Iterator[list[ir.Value | None]]:
        given: list[ir.Value | None] = list(node.inputs)
        wanted = len(operation.inputs)
        given += [None] * (wanted - len(given))
        yield given[: max(wanted, 0)]
        if node.op_type in COMMUTATIVE and len(given) == 2 and given[0] is not given[1]:
            yield given[::-1]

    def _fail(self, reason: str, node: ir.Node | None = None, *, telling: int = 1) -> bool:
        """Note a failure if it is the deepest one; of two as deep, the more telling one."""
        if len(self.nodes) < self.found.matched:
            return False
        count = sum(not operation.optional for operation in self.nodes)
        if (count, telling) > (self.found.matched, self.found.telling) or not self.found.reason:
            self.found.matched, self.found.reason, self.found.node = count, reason, node
            self.found.passed, self.found.telling = tuple(self.nodes.values()), telling
        return False


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The data of a weight that nobody can feed anew; None for other tensors."""
    if value is None or value.is_graph_input():
        return None
    producer = value.producer()
    if producer is not None and (producer.op_type != "Constant" or producer.domain):
        return None
    if value.const_value is None and (producer is None or not _plain(producer)):
        return None
    return np.asarray(data(value).numpy())


def is_constant(value: ir.Value | None) -> bool:
    """Whether a tensor is such a weight; its data are not read."""
    if value is None or value.is_graph_input():
        return False
    producer = value.producer()
    return value.const_value is not None or (
        producer is not None and producer.op_type == "Constant" and not producer.domain and _plain(producer)
    )


def _plain(node: ir.Node) -> bool:
    kinds = ("value", "value_float", "value_floats", "value_int", "value_ints")
    return any(name in kinds and not item.is_ref() for name, item in node.attributes.items())


def described(value: ir.Value) -> str:
    """A tensor that is no constant, with where it comes from."""
    maker = value.producer()
    if maker is not None:
        return f"tensor {value.name!r}, made by {maker.op_type} {maker.name!r},"
    fed = " (a default, which may be fed anew)" if value.const_value is not None else ""
    return f"tensor {value.name!r}, an input of the graph{fed},"


def attribute(node: ir.Node, name: str, draft: Draft) -> Any:
    """An attribute of a node, or the operator's default."""
    found = node.attributes.get(name)
    if found is not None:
        return None if found.is_ref() else found.value
    schema = schema_of(node, draft)
    known = schema.attributes.get(name) if schema is not None else None
    if known is None or not known.default_value.type:
        return None
    return ir.serde.deserialize_attribute(known.default_value).value


def _equal(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(got, wanted, rel_tol=1e-4)
    if isinstance(wanted, list | tuple):
        return got is not None and list(got) == list(wanted)
    return bool(got == wanted)


def dims_differ(one: Any, two: Any) -> bool:
    """Whether two dims are known to differ, or one is 1 and would be spread; a name or None may be any size."""
    return one != two and (1 in (one, two) or (isinstance(one, int) and isinstance(two, int)))
