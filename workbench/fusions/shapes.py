"""Shape folding: what Shape, Size, Gather or Slice of a Shape, and CastLike say where the types alone tell it.

Shape(x)[i] is a weight where dim i of x is a number in the inferred types, whatever the other dims are; CastLike(c, x)
is one where the dtype of x is known. Refuses dims that are symbolic or unknown, with their names.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from ..edits.draft import Draft
from ..model.info import from_type
from .match import Refusal, attribute, constant
from .rewrite import to_constant
from .rule import NodeRule, Site
from .types import type_of


class ShapeFolding(NodeRule):
    """See the module."""

    name: ClassVar[str] = "shape_folding"
    quiet: ClassVar[bool] = True
    together: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    op_types: ClassVar[tuple[str, ...]] = ("Shape", "Size", "Gather", "Slice", "CastLike")

    def test(self, draft: Draft, node: ir.Node) -> Any:
        if node.outputs[0].is_graph_output():
            return None
        if node.op_type == "CastLike":
            return self._cast(draft, node)
        if node.op_type in ("Shape", "Size"):
            dims = _dims(draft, node)
            if node.op_type == "Size":
                return np.array(math.prod(_numbers(dims)), np.int64)
            return np.array(_numbers(dims), np.int64)
        source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if source is None or source.op_type != "Shape" or source.domain:
            return None
        dims = _dims(draft, source)
        if node.op_type == "Gather":
            index = constant(node.inputs[1])
            if index is None:
                raise Refusal(f"the index {node.inputs[1].name!r} is no constant")  # type: ignore[union-attr]
            picked = np.array([dims[int(i)] for i in index.ravel()], object)
            return np.array(_numbers(list(picked)), np.int64).reshape(index.shape)
        return np.array(_numbers(dims[_slice(node)]), np.int64)

    def _cast(self, draft: Draft, node: ir.Node) -> np.ndarray | None:
        array, like = constant(node.inputs[0]), node.inputs[1]
        kind = type_of(draft, like) if like is not None else None
        if array is None:
            return None
        if kind is None or not kind.tensor_type.elem_type:
            raise Refusal(f"the dtype of {like.name if like else ''!r} is not known")
        return array.astype(ir.DataType(kind.tensor_type.elem_type).numpy())

    def apply(self, draft: Draft, site: Site) -> list[ir.Node]:
        to_constant(draft, site.anchor, site.match)
        return []


def _dims(draft: Draft, node: ir.Node) -> list[Any]:
    value = node.inputs[0]
    kind = type_of(draft, value) if value is not None else None
    shape = from_type(kind)[1] if kind is not None else None
    if shape is None:
        raise Refusal(f"the rank of {value.name if value else ''!r} is not known", node)
    if node.op_type == "Size":
        return list(shape)
    return list(shape)[attribute(node, "start", draft) or 0 : attribute(node, "end", draft)]


def _numbers(dims: list[Any]) -> list[int]:
    for index, dim in enumerate(dims):
        if not isinstance(dim, int):
            raise Refusal(f"dim {index} is {dim!r}" if dim else f"dim {index} is not known")
    return dims


def _slice(node: ir.Node) -> slice:
    given = [constant(value) if value is not None else None for value in node.inputs[1:]]
    if any(item is None for item in given) or len(given) < 2:
        raise Refusal("its bounds are no constants")
    start, end = int(given[0].ravel()[0]), int(given[1].ravel()[0])  # type: ignore[union-attr]
    step = int(given[3].ravel()[0]) if len(given) > 3 and given[3] is not None else 1
    return slice(start, None if end > 1 << 31 else end, step)
