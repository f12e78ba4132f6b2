"""Rules about the graph: branches and loops, domains, layouts, shapes that depend on values."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir

from ...edits import ReplaceOp  # type: ignore[attr-defined]
from ...edits.base import Edit
from ...model.scopes import bodies, nested
from ..fixes import BoundLoop, CompressToGather, FoldNode, TakeBranch, TransposeOutside, at_edge, endless
from .view import Finding, View, found

_RECURRENT = frozenset(("LSTM", "GRU", "RNN", "Loop", "Scan"))
_BY_VALUE = frozenset(("NonZero", "NonMaxSuppression", "Unique", "Compress"))
_CHANNELS = {(0, 3, 1, 2): "NHWC to NCHW", (0, 2, 3, 1): "NCHW to NHWC"}


_STANDARD = {"com.microsoft": {"Gelu": 20, "QuantizeLinear": 13, "DequantizeLinear": 13}}
"""Operators that other domains have in the same sense as ONNX -> the operator set that has them."""


def branches(view: View) -> Iterator[Finding]:
    """If with a recurrence inside, or with branches of different ranks: the builder fails with an internal error,
    unless the condition follows from shapes that are fixed, in the model or by the profile."""
    for node in view.nodes:
        if node.op_type != "If":
            continue
        inner = next((n.op_type for n in nested(node) if n.op_type in _RECURRENT), "")
        ranks = {tuple(_rank(value) for value in body.outputs) for _, body in bodies(node)}
        different = len(ranks) > 1 and not any(None in found for found in ranks)
        if not inner and not different and not any(n.op_type == "If" for n in nested(node)):
            continue
        why = f"{inner or 'If'} inside it" if not different else "its branches have different ranks"
        taken = view.condition(node)
        if taken is not None and view.fixed:
            continue
        known = "" if taken is None else f"; its condition is {taken} for the inputs {view.example}"
        edit = (
            None if taken is None else TakeBranch(node.name or "", "then_branch" if taken else "else_branch")
        )
        reason = f"{why}: TensorRT-RTX 1.7 fails to build that{known}"
        advice = (
            ""
            if edit
            else "its condition is not known: give check(inputs=, shapes=) what it is to be judged for"
        )
        yield found("branches", "error", node, reason, edit, advice)


def _rank(value: ir.Value) -> int | None:
    if value.shape is not None:
        return len(value.shape)
    maker = value.producer()
    step = {"Squeeze": -1, "Unsqueeze": 1, "Identity": 0}.get(maker.op_type) if maker is not None else None
    source = maker.inputs[0] if maker is not None and step is not None else None
    rank = _rank(source) if source is not None else None
    return None if rank is None or step is None else rank + step


def loops(view: View) -> Iterator[Finding]:
    """Loops without an end whose body reads the number of the iteration: the parser does not know that number."""
    for node in view.nodes:
        if not endless(node):
            continue
        for _, body in bodies(node):
            if body.inputs[0].uses():
                reason = (
                    "its body reads the number of the iteration, which TensorRT only has where a trip count below "
                    "2³¹ - 1 is given"
                )
                most = node.inputs[0]
                fed = most is not None and most.is_graph_input()
                advice = (
                    "the edit takes the input's default for the trip count, as TensorRT does" if fed else ""
                )
                yield found("loop", "error", node, reason, BoundLoop(node.name or ""), advice)


def domains(view: View) -> Iterator[Finding]:
    """Operators of other domains whose name ONNX has too: the parser does not look at the domain."""
    known = {(key[0], key[1]) for key in view.model.ir.functions}
    here = view.model.ir.opset_imports.get("", 0)
    for node in view.nodes:
        if (
            node.domain in ("", "ai.onnx")
            or (node.domain, node.op_type) in known
            or not onnx.defs.has(node.op_type)
        ):
            continue
        reason = (
            f"TensorRT's parser ignores the domain {node.domain!r} and takes it for ONNX's own {node.op_type}"
        )
        since = _STANDARD.get(node.domain, {}).get(node.op_type)
        if since is None:
            advice = (
                "give the operator a name that ONNX does not have (a plugin of that name is then looked for), or put "
                "ONNX's operators in its place: replace_nodes, inline_functions"
            )
            yield found("domain", "warning", node, reason, None, advice)
        elif here < since:
            advice = (
                f"they mean the same from operator set {since} on: m.convert_opset({since}), and check again"
            )
            yield found("domain", "warning", node, reason, None, advice)
        else:
            edit = ReplaceOp(node.name or "", node.op_type)
            yield found("domain", "warning", node, reason, edit, "both mean the same: the edit says so")


def layouts(view: View) -> Iterator[Finding]:
    """Transposes between channels first and channels last that nothing undoes."""
    for node in view.nodes:
        perm = tuple(node.attributes.get_ints("perm") or ()) if node.op_type == "Transpose" else ()
        if perm not in _CHANNELS or view.constant(node.inputs[0]) is not None:
            continue
        reason = f"{_CHANNELS[perm]}: it moves the whole tensor, as a reformat of TensorRT's own does"
        edge = at_edge(node)
        advice = (
            "the edit leaves it to the caller, who feeds or gets the other layout: Check.fix applies it only by name"
            if edge
            else "what is around it needs both layouts: export the model channels first throughout"
        )
        edit = TransposeOutside(node.name or "") if edge else None
        yield found("layout", "cost", node, reason, edit, advice)


def by_value(view: View) -> Iterator[Finding]:
    """Operators whose output shape depends on values."""
    for node in view.nodes:
        if node.op_type not in _BY_VALUE or node.domain:
            continue
        edit: Edit | None = None
        if all(value is None or view.constant(value) is not None for value in node.inputs):
            edit = FoldNode(node.name or "")
        elif node.op_type == "Compress" and view.constant(node.inputs[1]) is not None:
            edit = CompressToGather(node.name or "")
        advice = (
            ""
            if edit
            else "how many there are is known at run time alone, so no operator of fixed shape is equal: bound the "
            "number (TopK), keep all with a mask, or run what follows on another runtime"
        )
        reason = "how large its output is depends on values: what follows cannot be planned nor fused with it"
        yield found("by_value", "cost", node, reason, edit, advice)
