"""Rules of one's own: a pattern written as a function, drawn with GraphSurgeon, or taken from selected nodes.

swap = wb.fusions.rule("swap", lambda op, x: op.Sigmoid(op.Relu(x)))
m.fuse([swap])                                       # each place becomes a call of workbench::swap
block = wb.fusions.rule("block", wb.fusions.pattern_of(m, ["MatMul_3", "Add_4", "Relu_5"]))
wb.fusions.find(m, block)                            # the selected nodes and their siblings
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ..edits.base import Edit
from ..edits.changes import draft_of
from ..edits.content import of_bytes
from ..errors import EditError
from ..model import Model
from ..model.proto import encode
from ..model.scopes import bodies
from .catalog import named
from .match import Match, Refusal, attribute, constant, is_constant
from .nodes import ReplaceNodes, boundary
from .pattern import Number, Operation, Operators, Output, Pattern, Variable
from .rule import PatternRule, Rule, Site
from .run import disjoint, find_all


class HandRule(PatternRule):
    """A rule that `rule` made; its edits carry what they put in, so histories replay without it."""

    name: str  # type: ignore[misc]

    def __init__(self, name: str, patterns: tuple[Pattern, ...], graph: bytes | None, check: Any, open: Any):
        self.name, self.patterns, self.graph, self.test = name, patterns, graph, check  # type: ignore[misc]
        self.open = frozenset(open)  # type: ignore[misc]

    def check(self, match: Match, functions: bool) -> None:
        if self.graph is None and not functions:
            raise Refusal("functions are not wanted")
        reason = self.test(match) if self.test is not None else None
        if reason:
            raise Refusal(str(reason))

    def edit(self, sites: list[Site]) -> Edit:
        (site,) = sites
        match: Match = site.match
        keys = match.draft.key
        nodes = tuple(node.name or "" for node in match.nodes)
        graph = None if self.graph is None else of_bytes(self.graph, ".onnx")
        order = [match.values[name] for name in match.pattern.variables if name in match.values]
        if graph is None:  # what is no variable and no small constant is needed too
            order += [value for value in boundary(match.nodes) if value not in order]
            return ReplaceNodes(nodes, self.name, tuple(map(keys, order)))
        outputs = tuple(keys(root) for root in _roots(match))
        return ReplaceNodes(nodes, self.name, tuple(map(keys, order)), outputs, graph)


def _roots(match: Match) -> list[ir.Value]:
    return [match.anchor.outputs[0]]


def rule(
    name: str,
    pattern: Any,
    into: Callable[..., Any] | None = None,
    *,
    constants: Iterable[str] = (),
    check: Callable[[Match], str | None] | None = None,
    open: Iterable[str] = (),
) -> HandRule:
    """A rule for `Model.fuse`.

    Args:
        name: of the rule, and of the function of domain ``workbench`` that it makes.
        pattern: a function of ``op`` and tensors (as onnxscript's rewriter takes it), an
            ``onnx_graphsurgeon.GraphPattern``, a `Pattern`, or several of these, tried in order.
        into: the replacement as such a function of the same tensors, made of operators that the model has; None: a
            function of the model, whose body is what was found.
        constants: names of tensors that must be weights.
        check: gets a `Match`; a text that it returns is the reason for which the match is refused.
        open: ``_name`` of operations whose outputs others may read too; only for a function.

    Raises:
        EditError: the pattern cannot be used.
    """
    given = list(pattern) if isinstance(pattern, list | tuple) else [pattern]
    patterns = tuple(as_pattern(item, constants) for item in given)
    names = tuple(patterns[0].variables)
    graph = None if into is None else _graph(name, into, names)
    return HandRule(name, patterns, graph, check, {*open, *(o for p in patterns for o in p.open)})


def as_pattern(given: Any, constants: Iterable[str] = ()) -> Pattern:
    """A `Pattern` of whatever describes one."""
    if isinstance(given, Pattern):
        return given
    if type(given).__name__ == "GraphPattern" and hasattr(given, "node_inputs"):
        return from_graphsurgeon(given)
    if hasattr(given, "pattern") and callable(given.pattern):  # a rule class of onnxscript's rewriter
        given = given.pattern
    if not callable(given):
        raise EditError(
            f"got {type(given).__name__} as a pattern; expected a function, a GraphPattern or a Pattern"
        )
    return Pattern(given, constants)


def find(model: Model, pattern: Any) -> list[Match]:
    """The places of a model where a pattern is found and nothing forbids to replace it.

    Args:
        pattern: as `rule` takes it, or a rule of a pattern, also by its name: ``find(m, "gelu")``. ``Model.replace``
            takes what this gives.
    """
    given = named(pattern) if isinstance(pattern, str) else pattern
    if isinstance(given, Rule) and not isinstance(given, PatternRule):
        raise EditError(
            f"the fusion {given.name!r} has no pattern; expected a rule of a pattern, such as 'gelu'"
        )
    made = given if isinstance(given, PatternRule) else rule("found", given)
    return [site.match for site in disjoint(find_all(model, made))]


def pattern_of(model: Model, nodes: Iterable[str], name: str = "selected") -> Pattern:
    """The pattern that some nodes of a model are, to find their siblings by.

    Operators, edges and attributes must be the same; a constant of one element must have the same value, other weights
    may be any weights, and what comes from outside may be anything.

    Raises:
        NotInModelError: there is no such node.
        EditError: the nodes are in several graphs, have bodies, or do not all lead to one of them.
    """
    draft = draft_of(model)
    chosen = {draft.node(item) for item in nodes}
    graphs = {draft.graph_of(item) for item in chosen}
    if len(graphs) != 1 or any(next(bodies(item), None) for item in chosen):
        raise EditError("cannot make a pattern: expected nodes of one graph, without bodies")
    order = [item for item in graphs.pop() if item in chosen]
    variables: dict[str, Variable] = {}
    known: dict[Any, Any] = {}

    def term(value: ir.Value | None) -> Any:
        if value is None or value in known:
            return known.get(value)
        producer = value.producer()
        if producer in chosen:
            operation = known[producer]
            made: Any = operation if value.index() == 0 else Output(operation, value.index() or 0)
        else:
            made = _leaf(value, variables)
        known[value] = made
        return made

    for item in order:
        attributes = {
            key: attribute(item, key, draft)
            for key, held in item.attributes.items()
            if held.type != ir.AttributeType.TENSOR
        }
        known[item] = Operation(
            (item.op_type,),
            tuple(term(value) for value in item.inputs),
            attributes,
            item.domain,
            item.name or "",
            outputs=len(item.outputs),
        )
    made = Pattern.of(name, variables, [known[order[-1]]])
    missing = [item.name for item in order if known[item] not in made.operations]
    if missing:
        raise EditError(
            f"cannot make a pattern: nodes {', '.join(map(repr, missing))} do not lead to {order[-1].name!r}; select "
            "nodes that all lead to the last one"
        )
    shared = {
        item.name or ""
        for item in order[:-1]
        for value in item.outputs
        if value.is_graph_output() or any(user not in chosen for user, _ in value.uses())
    }
    made.open = frozenset(shared)
    return made


def _leaf(value: ir.Value, variables: dict[str, Variable]) -> Any:
    array = constant(value) if is_constant(value) else None
    if array is not None and array.size == 1 and array.dtype.kind in "fiu":
        return Number(float(array.ravel()[0]))
    made = Variable(f"{'x' if array is None else 'w'}{len(variables)}", array is not None)
    variables[made.name] = made
    return made


def from_graphsurgeon(given: Any) -> Pattern:
    """The pattern that an ``onnx_graphsurgeon.GraphPattern`` draws; subpatterns and check_func included."""
    variables: dict[str, Variable] = {}
    roots = _drawn(given, {}, variables, "")
    if not roots:
        raise EditError("the GraphPattern has no output; call set_output_tensors, or add a node")
    return Pattern.of("drawn", variables, roots[:1])


def _drawn(given: Any, inputs: dict[int, Any], variables: dict[str, Variable], prefix: str) -> list[Any]:
    there: dict[int, Any] = dict(inputs)
    for tensor in given.input_tensors:
        if tensor not in there:
            there[tensor] = variables[f"{prefix}x{tensor}"] = Variable(f"{prefix}x{tensor}")
    for tensor, name in given.constant_tensors.items():
        there[tensor] = variables[f"{prefix}{name}"] = Variable(f"{prefix}{name}", True)
    for name, inner in given.nodes.items():
        wires = [there[tensor] for tensor in given.node_inputs[name]]
        outputs = given.node_outputs[name]
        if inner.op is None:
            made = _drawn(
                inner, dict(zip(inner.input_tensors, wires, strict=True)), variables, f"{prefix}{name}."
            )
        else:
            test = _checked(inner.check_func)
            operation = Operation(
                (inner.op,), tuple(wires), name=f"{prefix}{name}", outputs=len(outputs), test=test
            )
            made = [operation, *(Output(operation, index) for index in range(1, len(outputs)))]
        there.update(zip(outputs, made, strict=False))
    ends = given.output_tensors or list(given.node_outputs.values())[-1][:1]
    return [there[tensor] for tensor in ends]


def _checked(function: Any) -> Any:
    if function is None:
        return None

    def test(node: ir.Node) -> bool:
        import onnx_graphsurgeon as gs

        attributes = {key: held.value for key, held in node.attributes.items() if not held.is_ref()}
        return bool(function(gs.Node(node.op_type, node.name or "", attributes)))

    return test


def _graph(name: str, into: Callable[..., Any], variables: tuple[str, ...]) -> bytes:
    """The replacement as an encoded model."""
    made = Pattern(into)
    if tuple(made.variables) != variables:
        raise EditError(
            f"the replacement of {name!r} takes {', '.join(made.variables)}; expected the tensors of the pattern, "
            f"{', '.join(variables)}"
        )
    nodes, initializers = [], []
    names: dict[Any, str] = {variable: key for key, variable in made.variables.items()}

    def read(term: Any) -> str:
        if isinstance(term, Number) and term not in names:
            names[term] = f"c{len(names)}"
            array = np.array(term.value, np.float32)
            initializers.append(onnx.numpy_helper.from_array(array, names[term]))
        if isinstance(term, Output):
            return f"{names[term.operation]}_{term.index}"
        return "" if term is None else names[term]

    for item in made.operations:
        wires = [read(value) for value in item.inputs]
        names[item] = f"t{len(names)}"
        outputs = [names[item], *(f"{names[item]}_{index}" for index in range(1, item.outputs))]
        nodes.append(
            onnx.helper.make_node(item.op_types[0], wires, outputs, domain=item.domain, **item.attributes)
        )
    infos = [
        [onnx.ValueInfoProto(name=item) for item in side] for side in (variables, [names[made.roots[0]]])
    ]
    graph = onnx.helper.make_graph(nodes, name, *infos, initializer=initializers)
    return encode(onnx.helper.make_model(graph))


__all__ = ["HandRule", "Operators", "as_pattern", "find", "from_graphsurgeon", "pattern_of", "rule"]
