"""Dropout removal: Dropout(x) = x when not training.

Refuses training mode (or a mode that is only known at run time), and where the mask is used.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from ..edits.draft import Draft
from .identity import IdentityRemoval
from .match import Refusal, attribute, constant
from .rewrite import may_stand_in


class DropoutRemoval(IdentityRemoval):
    """See the module."""

    name: ClassVar[str] = "dropout"
    op_types: ClassVar[tuple[str, ...]] = ("Dropout",)

    def test(self, draft: Draft, node: ir.Node) -> Any:
        training = node.inputs[2] if len(node.inputs) > 2 else None
        if training is not None:
            mode = constant(training)
            if mode is None:
                raise Refusal(f"training_mode is {training.name!r}, which is no constant")
            if mode.ravel()[0]:
                raise Refusal("training_mode is true")
        opset = draft.opsets(draft.graph_of(node)).get("", 0)
        if opset < 7 and not attribute(node, "is_test", draft):
            raise Refusal("is_test is 0: it trains")
        for mask in node.outputs[1:]:
            if mask.uses() or mask.is_graph_output():
                raise Refusal(f"its mask {mask.name!r} is used")
        may_stand_in(draft, node, node.inputs[0])  # type: ignore[arg-type]
        return node.inputs[0]
