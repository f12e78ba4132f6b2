"""What a search found: the set, the model, every run that was made, and what it cost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..model import Model
from .convert import convert, simulate
from .noise import HUGE
from .trials import Trial

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A trial with what its set costs.

    Attributes:
        trial: what was kept, and the error.
        full: nodes that compute in float32 then.
        ms: estimated (`speed.estimate_ms`).
    """

    trial: Trial
    full: int
    ms: float


@dataclass(eq=False)
class SearchResult:
    """The smallest set of nodes that a search found.

    Attributes:
        original: the model in float32.
        to: ``fp16`` or ``bf16``.
        keep: names of the nodes to keep in float32, in order; with what ``search(keep=)`` named.
        tolerance: what was asked for.
        runs: full runs made, a comparison counted as three; those that the state file had are not counted.
        complete: whether each node of `keep` was tried without; False: it ended before that, see `ended`.
        ended: why it ended early, ``""`` otherwise.
        found: whether a set within tolerance was found; False only when it ended early: then all is kept.
        tried: every set that was run, in order.
        nodes: (name, operator) of all nodes that could compute in either type.
        edges: what rounds -> estimated share of the outputs' noise energy, relative to each other.
    """

    original: Model
    to: str
    keep: tuple[str, ...]
    tolerance: Any
    runs: int
    ended: str
    found: bool
    keep_io: bool
    nodes: list[tuple[str, str]] = field(repr=False)
    tried: list[Run] = field(repr=False)
    edges: dict[frozenset[str], float] = field(repr=False)

    @property
    def complete(self) -> bool:
        return not self.ended

    @cached_property
    def model(self) -> Model:
        """The converted model: ``convert(original, to, keep=keep)``."""
        return convert(self.original, self.to, keep=self.keep, keep_io=self.keep_io)

    @cached_property
    def simulated(self) -> Model:
        """The same simulated in float32, to compare or to run where fp16 is not at hand."""
        return simulate(self.original, self.to, keep=self.keep, keep_io=self.keep_io)

    @property
    def error(self) -> float | None:
        """The error with `keep` kept, as measured; None when that was not run."""
        kept = frozenset(self.keep)
        return next((run.trial.error for run in self.tried if run.trial.keep == kept), None)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per node that could compute in either type, kept ones first; index ``node``.

        Columns: ``op_type``; ``kept``; ``share``, the estimated share of the outputs' noise energy that rounding at
        this node has a part in when nothing is kept (inf: numbers overflow there); ``with``: the nodes with which it
        has the largest of that in common, and without which keeping it does not remove it.
        """
        import pandas as pd

        share = dict.fromkeys((name for name, _ in self.nodes), 0.0)
        partner: dict[str, tuple[float, str]] = {}
        total = sum(value for value in self.edges.values() if value < HUGE) or 1.0
        for nodes, value in self.edges.items():
            for name in nodes & share.keys():
                share[name] += float("inf") if value >= HUGE else value / total
                for other in nodes - {name}:
                    partner[name] = max(partner.get(name, (0.0, "")), (value, other))
        kept = set(self.keep)
        rows = [(n, op, n in kept, share[n], partner.get(n, (0.0, ""))[1]) for n, op in self.nodes]
        rows.sort(key=lambda row: (not row[2], -row[3]))
        return pd.DataFrame(rows, columns=["node", "op_type", "kept", "share", "with"]).set_index("node")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """Every set that was run, in order: ``kept`` (named nodes), ``full`` (nodes that compute in float32),
        ``error``, ``ok``, ``ms`` (estimated, `speed.Speed`), ``nodes``."""
        import pandas as pd

        rows = [(len(r.trial.keep), r.full, r.trial.error, r.trial.ok, r.ms, tuple(sorted(r.trial.keep)))
                for r in self.tried]  # fmt: skip
        return pd.DataFrame(rows, columns=["kept", "full", "error", "ok", "ms", "nodes"])

    @cached_property
    def pareto(self) -> pd.DataFrame:
        """The rows of `trials` to which no other is better in error and in estimated time, fastest first."""
        return _front(self.trials)

    def measured(self, timer: Callable[[Model], float]) -> pd.DataFrame:
        """The Pareto front by measured time.

        Args:
            timer: gives the milliseconds of a converted model on the device that is to run it; called once for each
                set on the estimated front.
        """
        rows = self.pareto.copy()
        rows["ms"] = [
            timer(convert(self.original, self.to, keep=nodes, keep_io=self.keep_io)) for nodes in rows.nodes
        ]
        return _front(rows)

    def explain(self) -> str:
        """What was found, in a few sentences."""
        first = self.tried[0].trial if self.tried else None
        text = []
        if first is not None:
            within = "within" if first.ok else "beyond"
            error = f"the error is {first.error:.3g}, {within} the tolerance {self.tolerance}"
            text.append(f"With all in {self.to} {error}.")
        total = len(self.nodes)
        if not self.found:
            text.append(f"No smaller set than all {total} nodes was found to be within tolerance.")
        elif self.keep:
            some = ", ".join(map(repr, self.keep[:6])) + (", ..." if len(self.keep) > 6 else "")
            text.append(
                f"Keeping {len(self.keep)} of the {total} computing nodes in float32 brings it to "
                f"{self.error:.3g}: {some}."
                if self.error is not None
                else f"Kept: {some}."
            )
            over = sorted(
                {n for nodes, value in self.edges.items() if value >= HUGE for n in nodes} & set(self.keep)
            )
            if over:
                text.append(f"Numbers beyond the range of {self.to} pass {', '.join(map(repr, over[:6]))}.")
        else:
            text.append("Nothing has to be kept in float32.")
        text.append(f"{self.runs} full runs{'' if self.complete else f'; it ended early: {self.ended}'}.")
        return " ".join(text)

    def to_json(self) -> str:
        """All of it but the models, as JSON; infinite and missing numbers are "inf" and null."""
        tables = {"table": self.table.reset_index(), "trials": self.trials, "pareto": self.pareto}
        data = {"to": self.to, "keep": self.keep, "error": self.error, "tolerance": self.tolerance, "runs": self.runs,
                "complete": self.complete, "ended": self.ended, "found": self.found, "explanation": self.explain(),
                **{name: frame.to_dict("records") for name, frame in tables.items()}}  # fmt: skip
        return json.dumps(_finite(data), indent=1)

    def plot(self) -> Any:
        """Error against estimated time of every set that was run, as a plotly figure."""
        from importlib import import_module  # figures draw results; results do not depend on figures

        return import_module("workbench.figures").precision_front(self)

    def __repr__(self) -> str:
        return f"<SearchResult: {self.explain()}>"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _front(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that no other beats in time and error."""
    ordered = rows.sort_values(["ms", "error", "kept"], kind="stable")
    lowest, taken = float("inf"), []
    for index, error in ordered.error.items():
        if error < lowest:
            taken.append(index)
            lowest = error
    return ordered.loc[taken].reset_index(drop=True)
