"""No-op Cast removal: Cast(x, to=dtype of x) = x.

Refuses a Cast that changes the dtype, and one whose input's dtype is not known.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from ..edits.draft import Draft
from ..model.info import DTYPES, from_type
from .identity import IdentityRemoval
from .match import Refusal, attribute
from .rewrite import may_stand_in
from .types import type_of


class CastRemoval(IdentityRemoval):
    """See the module."""

    name: ClassVar[str] = "cast"
    quiet: ClassVar[bool] = True
    op_types: ClassVar[tuple[str, ...]] = ("Cast",)

    def test(self, draft: Draft, node: ir.Node) -> Any:
        value = node.inputs[0]
        assert value is not None
        kind = type_of(draft, value)
        got, to = from_type(kind)[0] if kind is not None else "", DTYPES.get(attribute(node, "to", draft))
        if not got:
            raise Refusal(f"the dtype of {value.name!r} is not known")
        if got != to:
            raise Refusal(f"it changes {got} to {to}")
        may_stand_in(draft, node, value)
        return value
