"""Identity removal: y = x.

Refuses where it makes an output of the graph out of an input, a weight or another output, which keep their own names.
"""

from __future__ import annotations

from typing import Any, ClassVar

import onnx_ir as ir

from ..edits.draft import Draft
from .rewrite import may_stand_in, stand_in
from .rule import NodeRule, Site


class IdentityRemoval(NodeRule):
    """See the module."""

    name: ClassVar[str] = "identity"
    together: ClassVar[bool] = True
    exact: ClassVar[bool] = True
    op_types: ClassVar[tuple[str, ...]] = ("Identity",)

    def test(self, draft: Draft, node: ir.Node) -> Any:
        may_stand_in(draft, node, node.inputs[0])  # type: ignore[arg-type]
        return node.inputs[0]

    def apply(self, draft: Draft, site: Site) -> list[ir.Node]:
        stand_in(draft, site.anchor, site.match)
        return []
