"""Verification of fusions: the model before and after a rule, compared on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..compare import compare
from ..model import Model
from .report import Fused


class Verifier:
    """Judges the applications of one rule.

    Args:
        inputs: as `wb.compare` takes them; None generates some.
        tolerance: as in `wb.compare`.
        shapes: for generated inputs.
    """

    def __init__(self, inputs: Any, tolerance: float | Mapping[str, float], shapes: Mapping[str, Any] | None):
        self.inputs, self.tolerance, self.shapes = inputs, tolerance, shapes

    def judge(
        self, before: Model, after: Model, fused: list[Fused]
    ) -> tuple[dict[str, float], set[str], bool]:
        """Errors by anchor; the anchors whose own error is beyond the tolerance; whether an output of the model is.

        The error of a site is what its nodes add by themselves, on the inputs that they had before: it is told from
        what was inherited. For what makes no tensor that is there in both, it is the largest one at the outputs.
        """
        found = compare(
            before, after, self.inputs, shapes=self.shapes, tolerance=self.tolerance, progress=False
        )
        rows = {record["tensor"]: record for record in found.records if record["status"] == "compared"}
        reached = max((rows[name]["error"] for name in found.outputs if name in rows), default=float("nan"))
        errors: dict[str, float] = {}
        beyond: set[str] = set()
        for item in fused:
            own = [(rows[name], _own(rows[name])) for name in item.outputs if name in rows]
            errors[item.node] = max((error for _, error in own), default=reached)
            if any(self._beyond(row, error) for row, error in own):
                beyond.add(item.node)
        return errors, beyond, not found.ok

    def _beyond(self, row: Mapping[str, Any], own: float) -> bool:
        if not isinstance(self.tolerance, Mapping):
            return not own <= self.tolerance
        from ..compare.result import Comparison

        return Comparison([dict(row)], tolerance=self.tolerance).first_divergence() is not None


def _own(row: Mapping[str, Any]) -> float:
    """The error that the nodes add themselves, in the measure of ``Comparison.table``'s `error`."""
    local = row.get("local_max_abs")
    if local is None or not np.isfinite(local):
        return float(row["error"])
    largest = max(abs(row["ref_min"] or 0), abs(row["ref_max"] or 0), 1.0)
    return float(local / largest) if str(row["dtype"]).startswith(("float", "bfloat")) else float(local)
