"""Q/DQ clean-up: QuantizeLinear(DequantizeLinear(q, s, z), s, z) = q.

(q - z) * s divided by s again is q - z up to a rounding far below one half, so that rounding gives q to the bit.
Applies where scale, zero point, axis and dtype are the same. Refuses where they differ: that is a requantisation.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from ..edits.draft import Draft
from ..model.info import from_type
from .duplicates import equal_inputs
from .identity import IdentityRemoval
from .match import Refusal, attribute
from .rewrite import may_stand_in
from .rule import Site
from .types import type_of


class QDQCleanUp(IdentityRemoval):
    """See the module."""

    name: ClassVar[str] = "qdq"
    together: ClassVar[bool] = False
    op_types: ClassVar[tuple[str, ...]] = ("QuantizeLinear",)

    def test(self, draft: Draft, node: ir.Node) -> Any:
        value = node.inputs[0]
        maker = value.producer() if value is not None else None
        if maker is None or maker.op_type != "DequantizeLinear" or maker.domain:
            return None
        source = maker.inputs[0]
        assert source is not None
        for index, what in ((1, "scale"), (2, "zero point")):
            pair = [item.inputs[index] if len(item.inputs) > index else None for item in (node, maker)]
            if (pair[0] is None) != (pair[1] is None) or (pair[0] is not None and not equal_inputs(*pair)):
                raise Refusal(f"its {what} differs from that of {maker.name!r}")
        for name in ("axis", "block_size"):
            if attribute(node, name, draft) != attribute(maker, name, draft):
                raise Refusal(f"its {name} differs from that of {maker.name!r}")
        got, wanted = (type_of(draft, item) for item in (source, node.outputs[0]))
        if got is None or wanted is None or from_type(got)[0] != from_type(wanted)[0]:
            raise Refusal(f"it makes another dtype than {maker.name!r} reads")
        may_stand_in(draft, node, source)
        return source

    def find(self, draft: Draft, node: ir.Node, functions: bool = True) -> Any:
        found = super().find(draft, node, functions)
        if isinstance(found, Site):
            found.nodes = [node.inputs[0].producer(), node]  # type: ignore[list-item, union-attr]
        return found
