"""Profile: what was measured, as tables, plain data and a short text."""

from __future__ import annotations

import html
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ProfileError
from .join import AFTER, BEFORE
from .roofline import Peaks

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_FORMAT = "workbench.profile/1"
_COLUMNS = (
    "op_type", "nodes", "ms", "p95_ms", "share", "macs", "bytes", "intensity", "bound", "gain_ms",
    "above_peak", "noise", "calls", "scope", "parent", "joined", "shapes", "origins",
)  # fmt: skip


class Profile:
    """Time per executed layer of a model, joined to its ONNX nodes. Made by `workbench.profile`.

    Args:
        data: what `to_json` writes: ``format``, ``model``, ``meta``, ``latency``, ``recorded`` (ms per run,
            in blocks), ``noise``, ``layers``, ``not_executed``, ``peaks``.

    Attributes:
        meta: dict: ``runtime``, ``version``, ``provider``, ``threads`` (0: the runtime's choice),
            ``optimize``, ``runs``, ``warmup``, ``warmup_recorded``, ``machine``, ``clock``, ``date``,
            ``inputs``, ``seed``, ``recorded_ms`` (median of a run with the runtime's profiling on, which
            costs time itself).
        noise: relative spread of the block medians, (largest - smallest) / median, of the runs without or
            with layers timed, whichever is larger; NaN from a single run.
        peaks: what the machine can do at most.
        assumed_noise: what stands in for `noise` where it cannot be known, as that of an engine's files; NaN: nothing.
        tick_ms: step of the clock that timed the layers.
    """

    assumed_noise: float = float("nan")
    tick_ms: float = 0.001  # the runtime's profiler counts whole µs

    def __init__(self, data: Mapping[str, Any]):
        self._data = data
        self.model_name: str = data["model"]
        self.meta: dict[str, Any] = dict(data["meta"])
        self.noise: float = float("nan") if data["noise"] is None else data["noise"]
        self.peaks = Peaks(**data["peaks"])

    @property
    def latency_ms(self) -> float:
        """Median time of a run as the model would serve: profiling off, layers not timed."""
        return float(np.median(np.concatenate(self._data["latency"])))

    @property
    def latency_p95_ms(self) -> float:
        """95th percentile of the same."""
        return float(np.percentile(np.concatenate(self._data["latency"]), 95))

    @property
    def sum_ms(self) -> float:
        """Sum of the layers' medians. More than the latency by what timing each layer costs."""
        return float(self.table["ms"].sum())

    @property
    def mapped(self) -> float:
        """Share of `sum_ms` in layers that are joined to ONNX nodes, 0 to 1."""
        return round(1.0 - float(self.unmapped["share"].sum()), 9)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per executed layer, in order of execution.

        Index ``layer`` (the runtime's name); columns ``op_type`` (the runtime's), ``nodes`` (names of the
        ONNX nodes that it stands for), ``ms`` (median; without the layers inside its bodies, which have rows
        of their own), ``p95_ms``, ``share`` of the sum, ``macs``, ``bytes`` (in, out and weights),
        ``intensity`` (FLOP per byte), ``bound`` (``compute``, ``memory``, ``overhead``), ``gain_ms`` (what it
        could gain at most), ``above_peak`` (faster than the measured peaks allow), ``noise`` (relative),
        ``calls`` per run, ``scope`` (module), ``parent`` (the If or Loop around it), ``joined`` (``exact``,
        ``shared``, ``inserted before`` / ``inserted after`` the layer of these nodes, or why it has none),
        ``shapes``, ``origins`` (nodes of the model before any edit). MACs and bytes that are not known are
        NaN.
        """
        import pandas as pd

        rows = [{**layer, **self.peaks.judge(layer)} for layer in self._data["layers"]]
        frame = pd.DataFrame(rows, columns=["layer", *_COLUMNS]).set_index("layer")
        frame["share"] = frame["ms"] / (frame["ms"].sum() or 1.0)
        for column in ("nodes", "origins"):
            frame[column] = frame[column].map(tuple)
        return frame.astype({"macs": "float64", "bytes": "float64", "noise": "float64"})

    @property
    def unmapped(self) -> pd.DataFrame:
        """Layers that could not be joined to nodes: ``op_type``, ``ms``, ``share``, ``reason``."""
        rows = self.table[self.table["nodes"].map(len) == 0]
        return rows[["op_type", "ms", "share", "joined"]].rename(columns={"joined": "reason"})

    @property
    def not_executed(self) -> pd.DataFrame:
        """ONNX nodes that no layer stands for; index ``node``, columns ``op_type``, ``reason``."""
        import pandas as pd

        return pd.DataFrame(self._data["not_executed"], columns=["node", "op_type", "reason"]).set_index(
            "node"
        )

    def by_op(self) -> pd.DataFrame:
        """Sums per operator type, most time first: ``layers``, ``ms``, ``share``, ``macs``, ``bytes``,
        ``gain_ms``."""
        return self._sums(self.table["op_type"])

    def by_scope(self, depth: int = 1) -> pd.DataFrame:
        """The same per scope (module), from the first `depth` parts of its path; ``''`` has layers without
        one."""
        if depth < 1:
            raise ProfileError(f"by_scope: got depth={depth}, expected 1 or more")
        return self._sums(self.table["scope"].map(lambda scope: "/".join(scope.split("/")[:depth])))

    def _sums(self, key: pd.Series) -> pd.DataFrame:
        columns = ["ms", "share", "macs", "bytes", "gain_ms"]
        groups = self.table.groupby(key)
        frame = groups[columns].sum()  # unknown MACs and bytes are left out of the sums
        frame.insert(0, "layers", groups.size())
        return frame.sort_values("ms", ascending=False)

    def plot(self) -> go.Figure:
        """Time per layer, as a plotly figure."""
        return importlib.import_module("workbench.figures").time_by_layer(self)

    def roofline(self) -> go.Figure:
        """The layers under the machine's roofline, as a plotly figure."""
        return importlib.import_module("workbench.figures").roofline(self)

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """The whole profile as JSON text, also written to `path` if given."""
        text = json.dumps({"format": _FORMAT, **self._data, "peaks": asdict(self.peaks)}, allow_nan=False)
        if path is not None:
            Path(path).write_text(text)
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike) -> Profile:
        """Read what `to_json` wrote: a path, or the text itself.

        Raises:
            ProfileError: it is not a profile of this format.
        """
        text = source if isinstance(source, str) and source.lstrip().startswith("{") else None
        name = "the text" if text else str(source)
        try:
            data = json.loads(text if text else Path(source).read_text())
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
        except (OSError, ValueError) as error:
            raise ProfileError(f"cannot read a profile from {name}: {error}") from error
        if found != _FORMAT:
            raise ProfileError(
                f"cannot read a profile from {name}: got format {found!r}, expected {_FORMAT!r}"
            )
        try:
            return cls(data)
        except (KeyError, TypeError) as error:
            raise ProfileError(
                f"cannot read a profile from {name}: it lacks or has too much: {error}"
            ) from error

    def __repr__(self) -> str:
        return "\n".join([*self._lines(), "", *self._top().to_string(index=False).splitlines()])

    def _lines(self) -> list[str]:
        meta, table = self.meta, self.table
        threads = f"{meta['threads']} threads" if meta["threads"] else "default threads"
        noise = "unknown" if np.isnan(self.noise) else f"{self.noise:.0%}"
        moves = float(table.loc[table["joined"].isin((BEFORE, AFTER)), "share"].sum())
        cost = meta["recorded_ms"] / self.latency_ms
        lines = [
            f"Profile of {self.model_name} on {meta['runtime']} {meta['version']},"
            f" optimize={meta['optimize']}, {threads}",
            f"latency {self.latency_ms:.4g} ms, p95 {self.latency_p95_ms:.4g} ms, noise {noise},"
            f" {meta['runs']} runs",
            f"{len(table)} layers, {self.sum_ms:.4g} ms together, {self.mapped:.1%} of it joined to nodes",
        ]
        if moves:
            lines[-1] += f", {moves:.1%} in layers that the runtime inserted to move data"
        if cost > 1.5:
            lines.append(
                f"timing its layers made a run {cost:.1f} times as long: small layers look too large"
            )
        return lines

    def _top(self, n: int = 8) -> pd.DataFrame:
        rows = self.table.sort_values("ms", ascending=False).head(n)
        nodes = rows["nodes"].map(
            lambda names: ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")
        )
        return rows.assign(
            ms=rows["ms"].map("{:.3f}".format),
            share=rows["share"].map("{:.1%}".format),
            gain_ms=rows["gain_ms"].map("{:.3f}".format),
            nodes=nodes.map(lambda text: text if len(text) <= 60 else text[:57] + "..."),
        )[["ms", "share", "op_type", "bound", "gain_ms", "nodes"]]

    def _repr_html_(self) -> str:
        first, *lines = (html.escape(line) for line in self._lines())
        table = self._top().to_html(index=False, border=0)
        return f"<b>{first}</b><br>{'<br>'.join(lines)}{table}"
