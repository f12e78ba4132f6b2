"""The rows of a comparison's table, made from what was measured: plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import onnx

from ..metrics import MEASURES, Measure
from ..segments import Graph, Node, bodies
from .plan import Plan
from .result import COMPARED, SHAPES_DIFFER
from .stream import Stream

ONLY_REFERENCE = "only in the reference"
ONLY_CANDIDATE = "only in the candidate"
AS_RUN = {  # the same where the candidate is the graph that the runtime's optimiser made
    ONLY_REFERENCE: "fused away: not in the graph that the runtime executes",
    ONLY_CANDIDATE: "made by the runtime's optimiser",
}


def records(stream: Stream, names: Mapping[str, str], local: bool) -> list[dict[str, Any]]:
    """The rows of the table, in the reference's order of execution, then what only the candidate has.

    `names`: reference input -> candidate input.
    """
    plan = stream.plan
    depth = _depth(plan.reference)
    rows = []
    for node in plan.reference.order:
        for name in node.outputs:
            rows.append(_record(stream, name, node, local) | {"depth": depth[name]})
        rows += _inside(node, local)
    rows += [_handed_on(stream, i, names, local) for i in _not_made(plan, names)]
    known = {row["tensor"] for row in rows}
    for node in plan.candidate.order:
        for name in node.outputs:
            if name not in plan.back and name not in known:
                rows.append(_blank(name, node, ONLY_CANDIDATE, local))
    for order, record in enumerate(rows):
        record["order"] = order
    return rows


def _not_made(plan: Plan, names: Mapping[str, str]) -> list[int]:
    """Positions of the reference's outputs that no node makes, but those that hand on the same input in both."""
    found = []
    for i, name in enumerate(plan.reference.outputs):
        if name not in plan.reference.producer and (name not in names or _other(plan, i) != names[name]):
            found.append(i)
    return found


def _other(plan: Plan, position: int) -> str:
    """The candidate's output for an output of the reference: of the same name, else at the same position."""
    name, theirs = plan.reference.outputs[position], plan.candidate.outputs
    if name in theirs:
        return name
    return theirs[position] if len(theirs) == len(plan.reference.outputs) else ""


def _handed_on(stream: Stream, position: int, names: Mapping[str, str], local: bool) -> dict[str, Any]:
    """The row of an output that is a weight or an input of the reference."""
    plan = stream.plan
    name, other = plan.reference.outputs[position], _other(plan, position)
    held = plan.reference.is_weight(name)
    node = Node(0, onnx.NodeProto(op_type="weight" if held else "input", output=[name]))
    if not (held and plan.candidate.is_weight(other)):
        return _blank(name, node, f"{node.op_type} of the reference alone", local)
    a, b = stream.stored("reference", name), stream.stored("candidate", other)
    if a.shape != b.shape:
        return _blank(name, node, f"{SHAPES_DIFFER}: {list(a.shape)} and {list(b.shape)}", local)
    measure = Measure()
    measure.add(a, b)
    record = _blank(name, node, COMPARED, local) | {"dtype": a.dtype.name, "shape": a.shape, "constant": True}
    record |= measure.result()
    return record | {"error": _error(record)}


def _record(stream: Stream, name: str, node: Node, local: bool) -> dict[str, Any]:
    plan = stream.plan
    dtype, shape = stream.seen["reference"].get(name, ("", None))
    measure = stream.measures.get((name, "candidate"))
    problem = stream.problems.get((name, "candidate"))
    if name not in plan.pairs:
        status = ONLY_REFERENCE
        if name in plan.reference.sequences:
            status = "a sequence: its elements are not compared"
        if name in plan.candidate.weights or name in plan.candidate.constants:
            status = "folded to a weight in the candidate"
    else:
        status = problem or (COMPARED if measure else "was not computed")
    record = _blank(name, node, status, local) | {"dtype": dtype, "shape": shape, "constant": node.constant}
    if measure and not problem:
        record |= measure.result()
        record["error"] = _error(record)
        added, problem = stream.measures.get((name, "local")), stream.problems.get((name, "local"))
        if local and added and not problem:
            record |= {f"local_{k}": v for k, v in added.result().items()}
        elif local:
            record["local_status"] = problem or "was not computed"
    return record


def _blank(name: str, node: Node, status: str, local: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"tensor": name, "node": node.name, "op_type": node.op_type, "status": status}
    record |= {"dtype": "", "shape": None, "constant": False, "error": math.nan}
    record |= dict.fromkeys(MEASURES, math.nan)
    if local:
        record |= {"local_status": "", **dict.fromkeys((f"local_{m}" for m in MEASURES), math.nan)}
    return record


def _error(record: Mapping[str, Any]) -> float:
    if record["dtype"].startswith(
        ("int", "uint", "bool")
    ):  # an index that is off by one is wrong, however large it is
        return record["max_abs"]
    largest = max((abs(record[k]) for k in ("ref_min", "ref_max") if not math.isnan(record[k])), default=0.0)
    return record["max_abs"] / max(1.0, largest)


def _inside(node: Node, local: bool, path: str = "") -> list[dict[str, Any]]:
    """Tensors of the bodies of an If, Loop or Scan node; a piece cannot hand them out."""
    path = f"{path}{node.name}/"
    rows = []
    for attribute, body in bodies(node.proto):
        for index, proto in enumerate(body.node):
            if proto.op_type == "Constant" or not any(proto.output):
                continue
            inner = Node(index, proto)
            status = f"inside {attribute} of {node.op_type} node {node.name!r}: only the node's outputs are compared"
            for name in inner.outputs:
                rows.append(_blank(f"{path}{attribute}/{name}", inner, status, local))
            rows += _inside(inner, local, f"{path}{attribute}/")
    return rows


def _depth(graph: Graph) -> dict[str, int]:
    """Tensor -> number of computed (not constant) nodes on the longest path to it."""
    table: dict[str, int] = {}
    for node in graph.order:
        level = max((table.get(name, 0) for name in node.inputs), default=0) + (not node.constant)
        table.update((name, level) for name in node.outputs)
    return table


def measured(name: str, dtype: str, shape: Any, status: str, measure: Measure | None) -> dict[str, Any]:
    """The row of a tensor that no graph is known of."""
    record: dict[str, Any] = {"tensor": name, "node": "", "op_type": "", "status": status or COMPARED}
    record |= {
        "dtype": dtype,
        "shape": shape,
        "constant": False,
        "error": math.nan,
        **dict.fromkeys(MEASURES, math.nan),
    }
    if measure is not None and not status:
        record |= measure.result()
        record["error"] = _error(record)
    return record
