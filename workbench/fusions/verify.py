"""Verification of fusions: what each adds by itself, on the values that the model has there, and what reaches the
outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..compare.inside import Inside
from ..compare.result import COMPARED, Comparison
from ..edits.draft import Draft
from ..inputs import feeds
from ..model import Model
from ..model.operators import require_bodies
from ..model.shapes import infer
from .beside import Added, Beside
from .edit import Done
from .report import Fused
from .rule import Site


class Verifier:
    """Judges the fusions of a model; to be used with ``with``.

    Args:
        model: as it was.
        inputs: as `wb.compare` takes them; None generates some.
        tolerance: as in `wb.compare`.
        shapes: for generated inputs.
    """

    def __init__(
        self,
        model: Model,
        inputs: Any,
        tolerance: float | Mapping[str, float],
        shapes: Mapping[str, Any] | None,
    ):
        require_bodies(model, "verify fusions of")
        self.tolerance = tolerance
        self.beside = Beside(model)
        self.feeds = feeds(model, inputs, shapes=shapes)
        example = next(iter(self.feeds))
        known = infer(self.beside.proto, {name: tuple(item.shape) for name, item in example.items()})
        self.sizes = {name: info.bytes for name, info in known.items() if info.bytes is not None}
        self.inside = Inside()
        self.start()

    def __enter__(self) -> Verifier:
        self.inside.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.inside.__exit__(*exc)

    def start(self) -> None:
        """Begin with the model as it was."""
        self.added: list[Added] = []
        self.beside.forget()

    def before(self, sites: list[Site]) -> dict[str, str]:
        """What `after` needs to know from before a fusion."""
        return self.beside.replaced(sites)

    def after(self, draft: Draft, done: Done, before: Mapping[str, str]) -> int:
        """Note a fusion; its number."""
        self.added.append(self.beside.fusion(draft, done, before))
        return len(self.added) - 1

    def judge(
        self, model: Model, fused: Sequence[Fused], numbers: Sequence[int | None]
    ) -> tuple[list[Fused], set[int], bool]:
        """The fusions with their errors; which of them exceed the tolerance by what they add themselves; whether the
        outputs are within it.

        Args:
            numbers: of the fusions, as `after` gave them; None: exact ones, of which only the outputs tell.
        """
        cone = self.beside.cone(model)
        rows = self._rows(model, [*self.added, cone])
        ends = [rows[name] for name in cone.pairs]
        reached = max((_error(row) for row in ends), default=0.0)
        beyond: set[int] = set()
        wrong: set[Any] = (
            set()
        )  # bodies and functions in which one was wrong: of those after it nothing is known yet
        judged = []
        for index, (item, number) in enumerate(zip(fused, numbers, strict=True)):
            added = Added() if number is None else self.added[number]
            own = [rows[name] for name in added.pairs]
            judged.append(replace(item, error=max(map(_error, own), default=reached)))
            if any(map(self._beyond, own)) and wrong.isdisjoint(added.holders):
                beyond.add(index)
                wrong |= added.holders
        return judged, beyond, not any(map(self._beyond, ends))

    def fits(self, model: Model) -> bool:
        """Whether the outputs of a version between are within the tolerance."""
        cone = self.beside.cone(model)
        return not any(map(self._beyond, self._rows(model, [cone]).values()))

    def _rows(self, model: Model, parts: list[Added]) -> dict[str, dict[str, Any]]:
        graph = self.beside.with_all(parts, model.ir.opset_imports, model.ir.ir_version)
        pairs = {name: other for part in parts for name, other in part.pairs.items()}
        sizes = self.sizes | {name: self.sizes[other] for name, other in pairs.items() if other in self.sizes}
        return self.inside.compare(graph, pairs, self.feeds, sizes, model.name)

    def _beyond(self, row: Mapping[str, Any]) -> bool:
        if not isinstance(self.tolerance, Mapping):
            return not _error(row) <= self.tolerance
        return Comparison([dict(row)], tolerance=self.tolerance).first_divergence() is not None


def _error(row: Mapping[str, Any]) -> float:
    """The ``error`` of ``Comparison.table``; infinite where the shapes differ."""
    return float(row["error"]) if row["status"] == COMPARED and not np.isnan(row["error"]) else float("inf")
