"""The types that onnx infers for a whole model, beside those that a draft knows."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir
from edits.random_edits import content, draft_of

from workbench import Model
from workbench.edits.draft import Draft
from workbench.edits.infer import text
from workbench.edits.tensortypes import canonical
from workbench.model.scopes import bodies


def differences(model: Model) -> list[str]:
    """The tensors of which a draft knows something else than onnx finds for the whole model at once."""
    found = onnx.shape_inference.infer_shapes(content(model), data_prop=True)
    return list(_compare(draft_of(model), model.ir.graph, found.graph))


def _compare(draft: Draft, graph: ir.Graph, found: onnx.GraphProto) -> Iterator[str]:
    kinds = {info.name: info.type for info in (*found.input, *found.output, *found.value_info)}
    for name, value in draft.values[graph].items():
        if value.const_value is not None:
            continue
        kind = kinds.get(name, onnx.TypeProto())
        wanted = text(canonical(kind) if kind.WhichOneof("value") else None)
        got = draft.types.text(value)
        if got != wanted:
            yield f"{draft.key(value)}: got {got}, onnx finds {wanted}"
    for node, written in zip(graph, found.node, strict=True):
        inner = [
            body
            for attribute in written.attribute
            for body in ([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs)
        ]
        for (_, part), body in zip(bodies(node), inner, strict=True):
            yield from _compare(draft, part, body)
