"""What stands in a report: headline, answers with their figures, tables, and how everything was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import figures
from ..figures.style import printable
from . import words
from .tables import pairs, safe, shown, table

if TYPE_CHECKING:
    import pandas as pd

    from ..compare import Comparison
    from ..model import Model
    from ..profile import Profile
    from .page import Figures

_CHOICE = "the runtime's choice"
_WORST, _BLAMED, _LAYERS, _CHANGES = 15, 8, 15, 20

_TENSOR_COLUMNS = (
    ("tensor", "tensor", "name in the reference"),
    ("node", "node", "the node that makes it"),
    ("op_type", "operator", "of the node"),
    ("dtype", "dtype", ""),
    ("shape", "shape", ""),
    ("status", "status", "compared, or the reason why not"),
    ("error", "error", "largest absolute error, relative to the largest magnitude where that is above 1"),
    ("max_abs", "max abs", "largest absolute error"),
    ("max_rel", "max rel", "largest relative error"),
    ("cosine", "cosine", "cosine similarity"),
    ("snr_db", "SNR dB", "signal to noise ratio"),
    ("nan", "NaN", "in the candidate"),
    ("inf", "Inf", "in the candidate"),
    (
        "local_max_abs",
        "local max abs",
        "what the node itself adds: largest absolute error on the reference's values",
    ),
    ("local_snr_db", "local SNR dB", "the same as signal to noise ratio"),
)
_ONLY_IN_FULL = ("dtype", "shape", "status", "max_rel", "p95_ms", "macs", "bytes")
_LAYER_COLUMNS = (
    ("layer", "layer", "the runtime's name"),
    ("op_type", "operator", "the runtime's, after fusion"),
    ("ms", "ms", "median of the runs"),
    ("p95_ms", "p95 ms", "95th percentile"),
    ("share", "%", "of the sum of the layers"),
    ("bound", "bound by", "what the roofline says it is limited by"),
    ("gain_ms", "could gain ms", "at most, if it reached the roofline"),
    ("macs", "million MACs", "multiply-accumulates"),
    ("bytes", "kB moved", "in, out and weights"),
    ("nodes", "nodes", "of the model, that it stands for"),
)
_CHANGE_COLUMNS = (
    ("layer", "layer", "the most expensive one of the group, after the change if it is there"),
    ("op_type", "operator", ""),
    ("status", "status", "same: within the noise"),
    ("ms_a", "ms before", ""),
    ("ms_b", "ms after", ""),
    ("delta_ms", "change ms", ""),
    ("noise_ms", "noise ms", ""),
    ("nodes", "nodes", ""),
)


class Report:
    """Sections of one report, from whatever was given."""

    def __init__(
        self,
        comparison: Comparison | None,
        before: Profile | None,
        after: Profile | None,
        model: Model | None,
        candidate: Model | None,
        drawn: Figures,
    ):
        self.comparison, self.before, self.after = comparison, before, after
        self.model, self.candidate, self.drawn = model, candidate, drawn

    def names(self) -> tuple[str, str]:
        """Of the model and of the candidate; '' where there is none."""
        meta = self.comparison.meta if self.comparison else {}
        first = self.model.name if self.model else self.before.model_name if self.before else ""
        second = self.candidate.name if self.candidate else self.after.model_name if self.after else ""
        return str(meta.get("reference", first)), str(meta.get("candidate", second))

    def title(self) -> str:
        first, second = self.names()
        return f"{first} and {second}" if first and second else first or second or "Report"

    def subtitle(self) -> str:
        """Where and when it was measured, as far as that is known."""
        metas = [part.meta for part in (self.after, self.before, self.comparison) if part]
        found = {
            key: str(meta[key])
            for meta in reversed(metas)
            for key in ("runtime", "version", "machine")
            if key in meta
        }
        runtime = f"{found.get('runtime', '')} {found.get('version', '')}".strip()
        date = next((str(meta["date"]).replace("T", " ") for meta in metas if "date" in meta), "")
        return " · ".join(filter(None, [runtime, found.get("machine", ""), date]))

    @cached_property
    def blame(self) -> pd.DataFrame | None:
        """Of the nodes, where the models are at hand and differ."""
        comparison = self.comparison
        if comparison is None or comparison.rerun is None or comparison.first_divergence() is None:
            return None
        return comparison.blame(_BLAMED)

    @cached_property
    def diff(self) -> pd.DataFrame | None:
        from ..profile import profile_diff

        return profile_diff(self.before, self.after) if self.before and self.after else None

    # -- headline -------------------------------------------------------------------------------------------

    def headline(self) -> str:
        """The verdict, in sentences, then as a row of key figures."""
        lines = []
        if self.comparison:
            lines.append(words.verdict(self.comparison))
            if self.blame is not None and not self.comparison.ok:
                lines.append(words.culprit(self.blame))
        if self.before and self.after:
            lines.append(words.speed(self.before, self.after))
        elif profile := self.after or self.before:
            lines += [words.latency(profile), words.where(profile)]
        elif not lines and self.model:
            lines.append(str(self.model.summary()).splitlines()[1])
        tiles = "".join(
            f"<div class='tile {kind}'><dt>{safe(name)}<dd>{safe(value)}<small>{safe(note)}</small></div>"
            for name, value, note, kind in self._tiles()
        )
        first, *rest = lines
        kind = "" if not self.comparison else "good" if self.comparison.ok else "bad"
        sentences = "".join(f"<p>{safe(line)}" for line in rest)
        return f"<p class='verdict {kind}'>{safe(first)}</p>{sentences}<dl class=tiles>{tiles}</dl>"

    def _tiles(self) -> Iterator[tuple[str, str, str, str]]:
        comparison = self.comparison
        if comparison:
            compared = sum(r["status"] == words.COMPARED for r in comparison.records)
            of = f"{compared:,} of {len(comparison.records):,} tensors compared"
            note = f"{of}, {words.tolerance(comparison.tolerance)}"
            same = comparison.ok
            yield "Models", "same" if same else "different", note, "good" if same else "bad"
            first = comparison.first_divergence()
            if first is not None:
                yield "First divergence", str(first.name), f"{first['op_type']} {first['node']}", ""
            if self.blame is not None and self.blame["share"].max() >= 0.01:
                row = self.blame.sort_values("share", ascending=False).iloc[0]
                yield (
                    "Most to blame",
                    str(row.name),
                    f"{min(row['share'], 9.99):.0%} of the outputs' squared error",
                    "",
                )
        if self.before and self.after:
            a, b = self.before, self.after
            noise = f"noise {shown(100 * a.noise)} and {shown(100 * b.noise)} %"
            yield "Latency", f"{a.latency_ms:.4g} → {b.latency_ms:.4g} ms", noise, ""
        elif profile := self.after or self.before:
            yield "Latency", f"{profile.latency_ms:.4g} ms", f"noise {shown(100 * profile.noise)} %", ""
        profile = self.after or self.before
        if profile and len(profile.table):
            ops = profile.by_op()
            when = " after the change" if self.before and self.after else ""
            yield (
                "Most time in",
                str(ops.index[0]),
                f"{ops['share'].iloc[0]:.0%} of the layers' time{when}",
                "",
            )

    # -- sections -------------------------------------------------------------------------------------------

    def sections(self) -> Iterator[tuple[str, str, str]]:
        """(id, heading, HTML); the HTML is empty where nothing was given for it."""
        yield "same", "Are they the same, and where do they part?", self._same()
        yield "blame", "Which layer is to blame?", self._blame()
        yield "time", "Where does the time go?", self._time()
        yield "bought", "What did the change buy?", self._bought()
        yield "tensors", "Every tensor", self._tensors()
        yield "models", "The models", self._models()
        yield "measured", "How it was measured", self._measured()

    def _same(self) -> str:
        if not self.comparison:
            return ""
        reasons = words.not_compared(self.comparison)
        missing = "".join(f"<li>{count:,} {safe(reason)}" for reason, count in reasons[:8])
        left = sum(count for _, count in reasons[8:])
        missing += f"<li>{left:,} for other reasons" if left else ""
        missing = f"<p>Not compared:</p><ul>{missing}</ul>" if missing else ""
        said = (self.comparison.explain(), words.observer(self.comparison))
        explained = "".join(f"<p>{safe(line)}</p>" for line in said if line)
        return explained + self.drawn.add(figures.error_by_depth, self.comparison) + missing

    def _blame(self) -> str:
        if not self.comparison:
            return ""
        parts = []
        if self.blame is not None:
            if self.blame["share"].max() >= 0.01:
                parts.append(self.drawn.add(figures.blame, self.blame, _BLAMED))
            else:
                parts.append(f"<p>{safe(words.culprit(self.blame))}")
        worst = [r for r in self.comparison.records if r["status"] == words.COMPARED and r["error"] > 0]
        worst = sorted(worst, key=lambda r: -r["error"])[:_WORST]
        if worst:
            parts.append(self.drawn.add(figures.worst_tensors, self.comparison, _WORST))
            parts.append(_records("Tensors with the largest error", worst, leave_out=_ONLY_IN_FULL))
        return "".join(parts)

    def _time(self) -> str:
        profiles = [p for p in (self.after, self.before) if p]
        return "".join(self._profile(profile, first=not i) for i, profile in enumerate(profiles))

    def _profile(self, profile: Profile, *, first: bool) -> str:
        draw = self.drawn.add
        columns = [name for name, _, _ in _LAYER_COLUMNS]
        heads = [(title, meaning) for _, title, meaning in _LAYER_COLUMNS]
        few = [i for i, name in enumerate(columns) if name not in _ONLY_IN_FULL]
        layers = profile.table.reset_index()
        layers = layers.assign(
            share=100 * layers["share"], macs=layers["macs"] / 1e6, bytes=layers["bytes"] / 1e3
        )
        rows = _rows(layers[columns].sort_values("ms", ascending=False))
        html = f"<p>{safe(words.where(profile))}</p>"
        html += (
            draw(figures.time_by_layer, profile)
            + draw(figures.treemap, profile)
            + draw(figures.roofline, profile)
        )
        top = [[row[i] for i in few] for row in rows[:_LAYERS]]
        html += table(f"Most expensive layers of {profile.model_name}", [heads[i] for i in few], top)
        html += _folded(f"All {len(rows):,} layers of {profile.model_name}", table("All layers", heads, rows))
        if len(profile.unmapped):
            frame = profile.unmapped.reset_index()
            heads = [(name, "") for name in frame.columns]
            html += _folded(
                "Layers that no node is known for", table("Layers without nodes", heads, _rows(frame))
            )
        html = f"<h3>{safe(profile.model_name)}</h3>{html}"
        return html if first else _folded(f"The same for {profile.model_name}", html)

    def _bought(self) -> str:
        if self.diff is None or not self.before or not self.after:
            return ""
        columns = [name for name, _, _ in _CHANGE_COLUMNS]
        heads = [(title, meaning) for _, title, meaning in _CHANGE_COLUMNS]
        rows = _rows(self.diff.reset_index()[columns])
        return (
            f"<p>{safe(words.speed(self.before, self.after))} {safe(words.changes(self.diff))}</p>"
            + self.drawn.add(figures.before_after, self.before, self.after)
            + table("Largest changes", heads, rows[:_CHANGES])
            + _folded(f"All {len(rows):,} groups of layers", table("All changes", heads, rows))
        )

    def _tensors(self) -> str:
        if not self.comparison:
            return ""
        records = self.comparison.records
        return _folded(
            f"{len(records):,} tensors", _records("All tensors, in the order of execution", records)
        )

    def _models(self) -> str:
        cards = [m.summary()._repr_html_().splitlines() for m in (self.model, self.candidate) if m]
        html = "".join(f"<div>{chr(10).join(map(printable, lines))}</div>" for lines in cards)
        return f"<div class=cards>{html}</div>" if cards else ""

    def _measured(self) -> str:
        tables = []
        if self.comparison:
            meta = self.comparison.meta | {"tolerance": self.comparison.tolerance}
            tables.append(pairs("Comparison", meta | {"threads": meta.get("threads") or _CHOICE}))
        for profile, when in ((self.before, "before"), (self.after, "after")):
            if profile:
                noise = {"noise": f"{100 * profile.noise:.3g} %", "joined to nodes": f"{profile.mapped:.1%}"}
                meta = {"model": profile.model_name} | profile.meta | noise
                meta["threads"] = meta.get("threads") or _CHOICE
                tables.append(pairs(f"Profile {when}" if self.before and self.after else "Profile", meta))
        return f"<div class=measured>{''.join(tables)}</div>" if tables else ""


def _records(caption: str, records: list[dict[str, Any]], leave_out: tuple[str, ...] = ()) -> str:
    counts = [name for name in ("nan", "inf") if not any(record[name] > 0 for record in records)]
    columns = [
        c for c in _TENSOR_COLUMNS if c[0] not in (*leave_out, *counts) and any(c[0] in r for r in records)
    ]
    rows = [[_value(record.get(name)) for name, _, _ in columns] for record in records]
    return table(caption, [(title, meaning) for _, title, meaning in columns], rows)


def _value(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return "×".join(map(str, value)) or "scalar"
    return value


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    return [[_cell(value) for value in row] for row in frame.itertuples(index=False)]


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return ", ".join(value[:4]) + (f" and {len(value) - 4} more" if len(value) > 4 else "")
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _folded(summary: str, html: str) -> str:
    return f"<details><summary>{safe(summary)}</summary>{html}</details>"
