"""Walking what is inside of nodes: If, Loop, Scan (ONNX operators of these names) and calls of model-local
functions."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx
from onnx import AttributeProto, FunctionProto, NodeProto, TypeProto

from . import scopes
from .costs import UNKNOWN, NodeCost
from .dims import common, with_axis, without_axis

if TYPE_CHECKING:
    from .walk import Scope

MAX_DEPTH = 50
ENDLESS = 2**31 - 1
"""Turns from which on a limit is none: exporters write the largest integer for a loop that its condition ends."""


def call(scope: Scope, node: NodeProto, function: FunctionProto) -> NodeCost:
    """Walk the body of a model-local function with what a call gives it."""
    from .walk import Scope

    if scope.depth >= MAX_DEPTH:
        return UNKNOWN
    pairs = [(inner, outer) for inner, outer in zip(function.input, node.input, strict=False) if outer]
    child = Scope(
        scope.walk,
        scopes.function(function.domain, function.name, function.overload),
        {opset.domain: opset.version for opset in function.opset_import} or scope.opsets,
        {inner: scope.types[outer] for inner, outer in pairs if outer in scope.types},
        values={inner: scope.values[outer] for inner, outer in pairs if outer in scope.values},
        attributes={a.name: a for a in (*function.attribute_proto, *node.attribute)},
        depth=scope.depth + 1,
    )
    child.run(function)
    for outer, inner in zip(node.output, function.output, strict=False):
        if outer and inner in child.types:
            scope.types[outer] = child.types[inner]
        if outer and inner in child.values:
            scope.values[outer] = child.values[inner]
    return child.spent


def _body(
    scope: Scope, node: NodeProto, attribute: AttributeProto, types: dict[str, TypeProto]
) -> Scope | None:
    """Walk a body whose inputs have the given types."""
    from .walk import Scope

    if scope.depth >= MAX_DEPTH:
        return None
    for info in attribute.g.input:
        types.setdefault(info.name, scope.walk.filled(info.type))
    path = scopes.body(scope.path, node.name, attribute.name)
    child = Scope(
        scope.walk,
        path,
        scope.opsets,
        types,
        parent=scope,
        attributes=scope.attributes,
        depth=scope.depth + 1,
    )
    if not child.values.keys().isdisjoint(types):  # a name of the body hides values of that name outside
        seen = {name: value for name, value in child.values.items() if name not in types}
        child.values = ChainMap({}, seen)
    child.run(attribute.g)
    return child


def _if(scope: Scope, node: NodeProto) -> NodeCost:
    branches = {a.name: (a.g, _body(scope, node, a, {})) for a in node.attribute if a.HasField("g")}
    condition = scope.values.get(node.input[0]) if node.input else None
    if condition is not None and condition.size == 1:
        name = "then_branch" if condition.item() else "else_branch"
        branches = {name: branches[name]} if name in branches else {}
    for index, name in enumerate(node.output):
        found = [
            child.types.get(graph.output[index].name) if child and index < len(graph.output) else None
            for graph, child in branches.values()
        ]
        if name and found and None not in found:
            scope.types[name] = common(found)
    return NodeCost.most(child.spent if child else UNKNOWN for _, child in branches.values())


def _loop(scope: Scope, node: NodeProto) -> NodeCost:
    body = next((a for a in node.attribute if a.name == "body" and a.HasField("g")), None)
    if body is None or len(node.input) < 2:
        return UNKNOWN
    limit = scope.values.get(node.input[0])
    known = limit is not None and limit.size == 1 and 0 <= limit.item() < ENDLESS
    count = int(limit.item()) if limit is not None and known else None
    state = [scope.types.get(name) for name in node.input[2:]]
    names = [info.name for info in body.g.input][2:]
    return _repeat(scope, node, body, names, state, [], count, [])


def _scan(scope: Scope, node: NodeProto) -> NodeCost:
    body = next((a for a in node.attribute if a.name == "body" and a.HasField("g")), None)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.name != "body"}
    scanned = attributes.get("num_scan_inputs")
    if body is None or not isinstance(scanned, int) or scope.opsets.get("", 0) < 9:
        return UNKNOWN  # Scan-8 has a batch axis of its own
    first = len(node.input) - scanned
    axes = attributes.get("scan_input_axes") or [0] * len(node.input[first:])
    sliced = [
        without_axis(scope.types.get(n), axis) for n, axis in zip(node.input[first:], axes, strict=False)
    ]
    count = next((steps for _, steps in sliced if steps is not None), None)
    return _repeat(
        scope,
        node,
        body,
        [info.name for info in body.g.input],
        [scope.types.get(name) for name in node.input[:first]],
        [kind for kind, _ in sliced],
        count,
        attributes.get("scan_output_axes") or [],
    )


def _repeat(
    scope: Scope,
    node: NodeProto,
    body: AttributeProto,
    names: list[str],
    state: list[TypeProto | None],
    slices: list[TypeProto | None],
    count: int | None,
    out_axes: Sequence[int],
) -> NodeCost:
    """Walk a loop's body with the types of its first turn; where state changes its shape, again with that
    unknown."""
    lead = 1 if node.op_type == "Loop" else 0
    child = None
    for _ in range(2):
        kinds = {n: kind for n, kind in zip(names, [*state, *slices], strict=False) if kind is not None}
        child = _body(scope, node, body, kinds)
        if child is None:
            return UNKNOWN
        after = [child.types.get(info.name) for info in body.g.output[lead : lead + len(state)]]
        merged = [common([a, b]) if a and b else a for a, b in zip(state, after, strict=False)]
        if merged == state:
            break
        state = merged
    made = [child.types.get(info.name) if child else None for info in body.g.output[lead + len(state) :]]
    for index, kind in enumerate(made):
        steps = count if node.op_type == "Scan" else None  # a Loop's condition may end it earlier
        made[index] = kind and with_axis(kind, out_axes[index] if index < len(out_axes) else 0, steps)
    for name, kind in zip(node.output, [*state, *made], strict=False):
        if name and kind is not None:
            scope.types[name] = kind
    if count is None:
        scope.walk.once.append(node.name)
    return child.spent.times(1 if count is None else count) if child else UNKNOWN


CONTAINERS = {"If": _if, "Loop": _loop, "Scan": _scan}
