"""What TensorRT is known to refuse or to be slow with, found in the graph alone: each with a reason and, where what the
model computes stays the same, with an edit; where an edit changes something, or there is none, with advice.

A rule is a function of a `View`; the order of `RULES` is the order of the findings. What the parser refuses is seen by
the parser itself (`check`): its rules only bring the fix. What only the builder refuses was seen with TensorRT-RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...model import Model
from .quantized import bare_int8, bias, half_quantized, offset, repeated
from .structure import branches, by_value, domains, layouts, loops
from .types import TYPES, casts, doubles, inputs
from .view import Finding, View

__all__ = ["ON_REQUEST", "RULES", "SEEN_BY_PARSER", "SEEN_WITH_RTX", "TYPES", "Finding", "View", "findings"]

Rule = Callable[[View], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    inputs, offset, bias, bare_int8, branches, loops, casts, doubles, domains, repeated, layouts, half_quantized,
    by_value,
)  # fmt: skip

SEEN_BY_PARSER = frozenset(("offset", "bias", "cast_type", "input_type", "loop"))
"""Rules whose findings are dropped where the parser accepts the node after all."""
SEEN_WITH_RTX = frozenset(("branches", "bare_int8", "cast_quantized"))
"""What the builder of TensorRT-RTX 1.7 refuses; other libraries have not been asked."""
ON_REQUEST = frozenset(("int64_input", "float64", "layout", "half_quantized"))
"""Rules whose edit asks for other data or changes numbers, and that `Check.fix` leaves out unless they are named."""


def findings(model: Model, inputs: Any = None, shapes: Mapping[str, Any] | None = None) -> list[Finding]:
    """What all rules find in a model; conditions are judged for these inputs (see `workbench.inputs.feeds`)."""
    view = View(model, inputs, shapes)
    return [finding for rule in RULES for finding in rule(view)]
