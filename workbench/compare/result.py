"""`Comparison`: the table of a comparison and the questions that it answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import CompareError, NotInModelError
from ..metrics import MEASURES

if TYPE_CHECKING:
    import pandas as pd

    from .rerun import Rerun

COMPARED = "compared"
SHAPES_DIFFER = "shapes differ"
_LOWER_IS_WORSE = {"cosine", "snr_db"}


class Pair(NamedTuple):
    """The values of one tensor in both models.

    Attributes:
        reference, candidate: as each model computes it.
        local: as the candidate's nodes compute it from the reference's values (None if it cannot be).
    """

    reference: np.ndarray
    candidate: np.ndarray
    local: np.ndarray | None = None


@dataclass(eq=False)
class Comparison:
    """What `workbench.compare` found.

    Attributes:
        records: one dict per tensor, plain data; see `table`.
        outputs: the reference's output tensors.
        tolerance: what `ok` and `first_divergence` go by, see there.
        meta: what was compared, on what, with how many inputs; seconds, segments, budget in bytes.
    """

    records: list[dict[str, Any]]
    outputs: tuple[str, ...] = ()
    tolerance: float | Mapping[str, float] = 1e-3
    meta: dict[str, Any] = field(default_factory=dict)
    rerun: Rerun | None = field(default=None, repr=False)
    _blamed: tuple[int, pd.DataFrame] | None = field(default=None, init=False, repr=False)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per tensor in the order of execution, index `tensor`.

        `status` is ``compared`` or the reason why not. The measures are those of `workbench.metrics.Measure`; with the
        prefix ``local_`` they are of the error that the node itself adds. `error` is what tolerances are held against:
        max_abs, divided by the largest magnitude of the reference tensor where that is above 1 and no integer.
        """
        import pandas as pd

        none = ["tensor", "node", "op_type", "status", "dtype", "shape", "error", *MEASURES, "order"]
        frame = pd.DataFrame(self.records, columns=None if self.records else none).set_index("tensor")
        counts = [c for c in frame.columns if c.rsplit("_")[-1] in ("nan", "inf") and "max" not in c]
        return frame.astype({c: "Int64" for c in counts})

    @property
    def ok(self) -> bool:
        """Whether every output was compared and is within tolerance. An output that is an input is as it is."""
        rows = {r["tensor"]: r for r in self.records}
        found = [rows[name] for name in self.outputs if name in rows]
        return bool(self.outputs) and all(r["status"] == COMPARED and not self._beyond(r) for r in found)

    def first_divergence(self, tolerance: float | Mapping[str, float] | None = None) -> pd.Series | None:
        """The first tensor in execution order whose error is beyond the tolerance: its row, or None.

        A tensor that has another shape in the candidate is beyond any tolerance.

        Args:
            tolerance: a number that `error` may not exceed (absolute where the tensor's values are within ±1,
                relative to its largest magnitude above), or limits by measure, for example
                ``{"max_abs": 1e-2, "snr_db": 40}`` (a cosine or SNR may not be below its limit).
        """
        for record in self.records:
            if self._beyond(record, tolerance):
                return self.table.loc[record["tensor"]]
        return None

    def worst(self, n: int = 10, by: str = "max_abs") -> pd.DataFrame:
        """The `n` tensors with the largest error (for ``cosine`` and ``snr_db`` the smallest value) in column `by`.

        ``by="local_max_abs"`` and the like rank by what the nodes themselves add.
        """
        table = self.table
        if by not in measures_in(self.records):
            raise CompareError(
                f"cannot rank tensors by {by!r}; use one of {', '.join(measures_in(self.records))}"
            )
        rows = table[table.status == COMPARED].dropna(subset=[by])
        return rows.sort_values(
            by, ascending=by.removeprefix("local_") in _LOWER_IS_WORSE, kind="stable"
        ).head(n)

    def _beyond(
        self, record: Mapping[str, Any], tolerance: float | Mapping[str, float] | None = None
    ) -> bool:
        if record["status"] != COMPARED:
            return record["status"].startswith(SHAPES_DIFFER)
        limits = self.tolerance if tolerance is None else tolerance
        if not isinstance(limits, Mapping):
            limits = {"error": float(limits)}
        for name, limit in limits.items():
            if name not in record:
                raise CompareError(
                    f"no measure {name!r} for a tolerance; use one of {', '.join(measures_in([dict(record)]))}"
                )
            value = record[name]
            if name.removeprefix("local_") in _LOWER_IS_WORSE:
                if value < limit:
                    return True
            elif not value <= limit:
                return True
        return False

    def explain(self) -> str:
        """What happened, in a few sentences: where error starts, which nodes add most, what that does to the output."""
        from .explain import explain

        return explain(self)

    def blame(self, n: int = 5) -> pd.DataFrame:
        """How much of the outputs' error each of the `n` worst nodes causes by itself.

        Each node's local error alone is put into the reference, which is run on from there (first input): `share` is
        the squared error that this makes in the outputs as a fraction of the squared error of the whole candidate.
        Shares of errors that add up or cancel do not sum to 1. Index `node`; `judged` is how many of the candidate's
        nodes were judged as one, because the tensors between them are not in the reference. Kept for the next call.
        """
        from .explain import blame

        if self._blamed is None or n > self._blamed[0]:
            self._blamed = n, blame(self, n)
        return self._blamed[1].head(n)

    def __getitem__(self, tensor: str) -> Pair:
        """Both models' values of a tensor for the first input: only what it depends on is run again."""
        return self.arrays(tensor)

    def arrays(self, tensor: str, item: int = 0) -> Pair:
        """Both models' values of a tensor for input number `item`."""
        return self._rerun().pair(self._record(tensor)["tensor"], item)

    def to_polygraphy(self, tensors: list[str] | None = None) -> Any:
        """The values as a Polygraphy RunResults of two runners, for all inputs; the outputs if no names are given."""
        return self._rerun().to_polygraphy(list(tensors or self.outputs))

    @classmethod
    def from_polygraphy(cls, results: Any, tolerance: float | Mapping[str, float] = 1e-3) -> Comparison:
        """Compare what two runners gave: a Polygraphy RunResults or a file of ``polygraphy run --save-outputs``.

        The first runner is the reference. Tensors are joined by name; there is no local error.
        """
        from .rerun import from_polygraphy

        return from_polygraphy(results, tolerance)

    def to_json(self) -> str:
        """Everything but the models as JSON; infinite and missing values are the strings "inf", "-inf" and null."""
        data = {
            "outputs": list(self.outputs),
            "tolerance": self.tolerance,
            "ok": self.ok,
            "meta": self.meta,
            "records": self.records,
        }
        return json.dumps(_plain(data), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Comparison:
        """What `to_json` wrote. Values cannot be run again from it."""
        data = json.loads(text)
        records = [{k: _number(k, v) for k, v in record.items()} for record in data["records"]]
        return cls(records, tuple(data["outputs"]), data["tolerance"], data["meta"])

    def plot(self) -> Any:
        """Error along the depth of the network, local beside propagated, as a plotly figure."""
        from importlib import import_module  # figures draw comparisons; comparisons do not depend on figures

        return import_module("workbench.figures").error_by_depth(self)

    def _record(self, tensor: str) -> dict[str, Any]:
        for record in self.records:
            if record["tensor"] == tensor:
                return record
        raise NotInModelError(
            f"the comparison has no tensor {tensor!r}; see .table.index for those that it has"
        )

    def _rerun(self) -> Rerun:
        if self.rerun is None:
            raise CompareError(
                "the models of this comparison are not at hand (it was read from a file): compare again"
            )
        return self.rerun

    def __len__(self) -> int:
        return len(self.records)

    def __str__(self) -> str:
        compared = [r for r in self.records if r["status"] == COMPARED]
        head = f"{self.meta.get('reference', 'reference')} | {self.meta.get('candidate', 'candidate')}: "
        verdict = "equal within tolerance" if self.ok else "different"
        text = f"{head}{verdict} ({_limit(self.tolerance)}); {len(compared)} of {len(self.records)} tensors compared"
        first = self.first_divergence()
        if first is not None:
            how = f"error {first.error:.3g}" if first.status == COMPARED else first.status
            text += f"; first divergence {first.name!r} (node {first.node!r}, {how})"
        return text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        columns = ["node", "op_type", "status", "error", "max_abs", "snr_db", "local_max_abs", "local_snr_db"]
        shown = (
            self.worst(8, by="error")
            if any(r["status"] == COMPARED for r in self.records)
            else self.table.head(8)
        )
        shown = shown[[c for c in columns if c in shown.columns]]
        return f"<p>{escape(str(self))}</p>{shown.to_html(float_format=lambda x: f'{x:.3g}', border=0)}"


def measures_in(records: list[dict[str, Any]]) -> list[str]:
    """Names of the columns that hold a measure."""
    known = ("error", *MEASURES, *(f"local_{m}" for m in MEASURES))
    return [name for name in known if any(name in record for record in records)]


def _limit(tolerance: float | Mapping[str, float]) -> str:
    if isinstance(tolerance, Mapping):
        return ", ".join(f"{k} {v:g}" for k, v in tolerance.items())
    return f"tolerance {tolerance:g}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _number(name: str, value: Any) -> Any:
    if name in ("tensor", "node", "op_type", "dtype", "status", "shape", "local_status"):
        return tuple(value) if isinstance(value, list) else value
    if value is None:
        return math.nan
    return float(value) if isinstance(value, str) else value
