"""Rules of onnxscript's rewriter, run as they are: their pattern, their condition and their replacement.

A rule is asked at each node of a copy of the graph that states what types are known (conditions look for shapes there).
What it would put in the place of a match goes into a `ReplaceNodes`, so it is an edit like all others, and replays
without the rule. Not supported, and refused by name: rules that make functions of onnxscript's own (``as_function``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import onnx
import onnx_ir as ir

from ..edits.base import Edit
from ..edits.content import of_bytes
from ..edits.draft import Draft
from ..edits.tensortypes import stated
from ..errors import EditError
from ..model.proto import encode
from ..model.scopes import scopes
from .nodes import ReplaceNodes
from .rule import Miss, Rule, Site
from .types import type_of


def rules_of(given: Any) -> list[Rule] | None:
    """The rules in what onnxscript's rewriter takes as one or several: a RewriteRule, a RewriteRuleSet, or a class or
    instance of RewriteRuleClassBase; None for anything else."""
    kind = given if isinstance(given, type) else type(given)
    names = {base.__name__ for base in kind.__mro__ if base.__module__.startswith("onnxscript.rewriter")}
    if "RewriteRuleSet" in names:
        return [ScriptRule(rule) for rule in given.rules]
    if "RewriteRuleClassBase" in names:
        return [ScriptRule(_of_class(given))]
    return [ScriptRule(given)] if "RewriteRule" in names else None


def _of_class(given: Any) -> Any:
    from onnxscript.rewriter.pattern import RewriteRule

    if isinstance(given, type):
        return given.rule()  # type: ignore[attr-defined]
    return RewriteRule(
        given.pattern, given.rewrite, given.check, name=given.name, remove_nodes=given.remove_nodes,
        graph_pre_visitor=given.setup, graph_post_visitor=given.cleanup, as_function=given.as_function,
    )  # fmt: skip


class ScriptRule(Rule):
    """A rule of onnxscript's rewriter.

    Raises:
        EditError: it is of a kind that is not supported.
    """

    name: str  # type: ignore[misc]

    def __init__(self, rule: Any):
        self.rule, self.name = rule, rule.name or "onnxscript"
        self.copies: WeakKeyDictionary[Draft, _Copy] = WeakKeyDictionary()
        if rule.as_function:
            raise EditError(
                f"cannot use the rule {self.name!r} of onnxscript: as_function is set, which makes a function of "
                "onnxscript's; use its pattern, wb.fusions.rule(name, rule), which becomes a function of the model"
            )

    def anchors(self) -> frozenset[str]:
        return frozenset()

    def find(self, draft: Draft, node: ir.Node, functions: bool = True) -> Site | Miss | None:
        from onnxscript.rewriter import MatchingTracer

        copy = self.copies.get(draft)
        if copy is None or not copy.holds(draft):
            copy = self.copies[draft] = _Copy(draft, self.rule)
        mine, graph = copy.nodes[node.name or ""]
        tracer = MatchingTracer()
        found = self.rule.try_rewrite(copy.model, graph, mine, tracer=tracer)
        if found is None:
            tried = tracer.best_matches_map.get(self.rule)
            return _missed(draft, node, tried[-1]) if tried else None
        made = _replacement(draft, copy, graph, found)
        nodes = [draft.nodes[item.name] for item in found.match.nodes]
        order = draft.order(draft.graph_of(node))
        return Site(node, sorted(nodes, key=order.__getitem__), made)

    def edit(self, sites: list[Site]) -> Edit:
        (site,) = sites
        inputs, outputs, graph = site.match
        nodes = tuple(node.name or "" for node in site.nodes)
        return ReplaceNodes(nodes, self.name, inputs, outputs, of_bytes(graph, ".onnx"))


def _missed(draft: Draft, node: ir.Node, tried: Any) -> Miss:
    """What onnxscript's matcher says of a node; it names the values at which it failed, not always the node."""
    refused = tried.status.name != "NO_MATCH"
    nodes = tuple(draft.nodes[item.name] for item in tried.match_result.nodes if item.name in draft.nodes)
    reason = tried.match_result.reason or ("its condition is not met" if refused else "no match")
    return Miss(node, node, reason, len(nodes), len(nodes) + (not refused), nodes, refused)


class _Copy:
    """A copy of the graph of a draft, with the types that are known, in which rules may make what they want.

    Attributes:
        nodes: name -> (node, the graph or function that it is in).
    """

    def __init__(self, draft: Draft, rule: Any):
        from onnxscript.optimizer import basic_constant_propagation

        self.model = draft.model.clone()
        self.nodes: dict[str, tuple[ir.Node, Any]] = {}
        self.keys: dict[ir.Value, str] = {}
        self._made = {name: tuple(node.inputs) for name, node in draft.nodes.items()}
        pairs = zip(scopes(draft.model), scopes(self.model), strict=True)
        for (_, theirs), (_, mine) in pairs:
            for one, two in _values(theirs, mine):
                self.keys[two] = draft.key(one)
                two.type, two.shape = stated(type_of(draft, one))
            for node in mine:
                self.nodes[node.name or ""] = node, mine
            basic_constant_propagation(mine)
        if rule.graph_pre_visitor is not None:
            rule.graph_pre_visitor()

    def holds(self, draft: Draft) -> bool:
        """Whether the draft is still as it was copied."""
        made = self._made
        return len(made) == len(draft.nodes) and all(
            made.get(name) == tuple(node.inputs) for name, node in draft.nodes.items()
        )


def _values(one: Any, two: Any) -> Iterator[tuple[ir.Value, ir.Value]]:
    yield from zip(one.inputs, two.inputs, strict=True)
    if isinstance(one, ir.Graph):
        yield from zip(one.initializers.values(), two.initializers.values(), strict=True)
    for a, b in zip(one, two, strict=True):
        yield from zip(a.outputs, b.outputs, strict=True)


def _replacement(
    draft: Draft, copy: _Copy, graph: Any, found: Any
) -> tuple[tuple[str, ...], tuple[str, ...], bytes]:
    """What a rule made, as keys of what it reads and of what it replaces, and a model; nothing of it stays in the
    copy."""
    names: dict[ir.Value, str] = {}
    held = {value: value.const_value for value in found.new_initializers}
    made = {value for node in found.new_nodes for value in node.outputs}
    read = [value for node in found.new_nodes for value in node.inputs if value is not None]
    inputs = [v for v in dict.fromkeys((*read, *found.new_outputs)) if v not in made and v not in held]
    for value in (*inputs, *held, *made):
        names[value] = f"v{len(names)}"
    nodes = []
    for value in made:
        value.name = names[value]
    for node in found.new_nodes:
        proto = ir.serde.serialize_node(node)
        proto.input[:] = [names[value] if value is not None else "" for value in node.inputs]
        proto.ClearField("metadata_props")
        nodes.append(proto)
    ends = []
    for index, value in enumerate(found.new_outputs):
        if value in made:
            ends.append(names[value])
        else:  # what a rule hands on needs a node to be an output
            ends.append(f"y{index}")
            nodes.append(onnx.helper.make_node("Identity", [names[value]], ends[-1:]))
    tensors = []
    for value, tensor in held.items():
        tensors.append(ir.serde.serialize_tensor(tensor))
        tensors[-1].name = names[value]
    ports = [[onnx.ValueInfoProto(name=name) for name in side] for side in ([names[v] for v in inputs], ends)]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "replacement", *ports, initializer=tensors))
    for node in found.new_nodes:
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    keys = tuple(copy.keys[value] for value in inputs)
    return keys, tuple(copy.keys[value] for value in found.match.outputs), encode(model)
