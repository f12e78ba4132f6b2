"""Figures of several TensorRT engines: where their time goes, and what changed from one to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from .engine import _NO_TIMES, _named_rows, colour_of, precisions, short_name
from .style import GREEN, PURPLE, RED, SKY, Style, hover, label, number, short, text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..tensorrt import Engine

_STATUS = {"faster": GREEN, "slower": RED, "appeared": PURPLE, "disappeared": SKY}


def engine_times(engines: Sequence[Engine], by: str = "op_type", *, theme: str = "light") -> go.Figure:
    """Time of several engines, each bar divided by operator type or by precision.

    Args:
        engines: two or more, in the order in which to draw them.
        by: ``op_type`` or ``precision``.

    Raises:
        EngineError: `by` is neither.
    """
    drawn = Style(theme)
    what = "precision" if by == "precision" else "operator"
    title = f"Engines by {what}"
    if by not in ("op_type", "precision"):
        raise EngineError(f"cannot draw engines by {by!r}; use op_type or precision")
    timed = [engine for engine in engines if len(engine.table)]
    if not timed:
        return drawn.says(title, _NO_TIMES)
    column = "math" if by == "precision" else by
    sums = [engine.table.groupby(column)["ms"].sum() for engine in timed]
    total: dict[str, float] = {}
    for part in sums:
        for name, ms in part.items():
            total[str(name)] = total.get(str(name), 0.0) + float(ms)
    names = sorted((name for name in total if total[name] > 0), key=lambda name: -total[name])
    if by == "precision":
        names = precisions(names)
    colours = {name: colour_of(name, drawn) for name in names} if by == "precision" else drawn.colours(names)
    figure = drawn.figure(title, height=200 + 44 * len(timed), barmode="stack", bargap=0.35)
    figure.update_layout(margin={"t": 104})  # a legend of several rows, where the figure is narrow
    for name in names:
        figure.add_bar(
            x=[float(part.get(name, 0.0)) for part in sums], y=list(range(len(timed))), orientation="h",
            name=label(name or "unknown", 24), marker={"color": colours.get(name, drawn.other)}, hoverinfo="text",
            hovertext=[
                hover(engine.model_name, [(what, name or "unknown"), *_part(float(part.get(name, 0.0)), engine)])
                for engine, part in zip(timed, sums, strict=True)
            ],
        )  # fmt: skip
    figure.update_layout(legend_traceorder="normal")
    runs = [(i, engine.latency_ms) for i, engine in enumerate(timed) if not math.isnan(engine.latency_ms)]
    if runs:
        figure.add_scatter(
            x=[ms for _, ms in runs], y=[i for i, _ in runs], mode="markers", name="a whole run", hoverinfo="text",
            marker={"symbol": "diamond", "size": 11, "color": drawn.text, "line": {"width": 1.5, "color": drawn.box}},
            hovertext=[hover(timed[i].model_name, [("a whole run", f"{ms:.4g} ms")]) for i, ms in runs],
        )  # fmt: skip
    what = "ms, sum of the layers' times<br>◆ a whole run, as measured without timing layers"
    _named_rows(figure, drawn, [engine.model_name for engine in timed], what if runs else "ms")
    return figure


def _part(ms: float, engine: Engine) -> list[tuple[str, str]]:
    return [("time", f"{ms:.4g} ms"), ("share", f"{ms / engine.sum_ms:.1%}")]


def engine_changes(a: Engine, b: Engine, n: int = 14, *, theme: str = "light", **options: Any) -> go.Figure:
    """The `n` largest changes from engine `a` to engine `b`, with what changed in precision, fusion and
    copies.

    Args:
        options: those of ``wb.tensorrt.diff``.
    """
    from ..tensorrt import diff

    drawn = Style(theme)
    title = "What changed between the engines"
    table = diff(a, b, **options)
    rows = [row for row in table.reset_index().to_dict("records") if abs(row["delta_ms"]) > 0][:n]
    if not rows:
        return drawn.says(
            title,
            _NO_TIMES
            if not (len(a.table) and len(b.table))
            else "No layer takes another time in the second engine.",
        )
    before, after = table.attrs["sum_ms"]
    names = f"{label(a.model_name, 30)} → {label(b.model_name, 30)}"
    note = f"{names}\n{before:.4g} → {after:.4g} ms in layers, aligned by {table.attrs['align']}"
    figure = drawn.figure(title, note=note, height=150 + 40 * len(rows), barmode="overlay", bargap=0.4)
    for status in [*_STATUS, "same"]:
        mine = [i for i, row in enumerate(rows) if row["status"] == status]
        if mine:
            figure.add_bar(
                x=[rows[i]["delta_ms"] for i in mine], y=mine, orientation="h", hoverinfo="text", width=0.6,
                name="the same (within 3 % and two ticks)" if status == "same" else status,
                marker={"color": drawn.palette[_STATUS[status]] if status in _STATUS else drawn.other},
                hovertext=[_hover(rows[i]) for i in mine],
            )  # fmt: skip
    figure.update_layout(margin={"r": 24})
    ticks = []
    for row in rows:
        name = short_name({"nodes": row["nodes_b"] or row["nodes_a"]}, str(row["layer"]))
        ticks.append(f"{name}<br><i>{text(_summary(row))}</i>")
    _named_rows(figure, drawn, ticks, "change in ms", True)
    figure.update_xaxes(rangemode="normal", zeroline=True, zerolinecolor=drawn.line)
    return figure


def _summary(row: dict[str, Any]) -> str:
    """What changed, in a few words."""
    said = [
        what.removeprefix("precision ")
        for what in row["changed"]
        if what.startswith(("precision", "fused", "copies", "layers"))
    ]
    if row["status"] in ("appeared", "disappeared"):
        said = [f"{row['op_type']} {row['precision_b'] or row['precision_a']}"]
    return short(", ".join(said) or (row["changed"][0] if row["changed"] else str(row["op_type"])), 40)


def _hover(row: dict[str, Any]) -> str:
    lines = [
        ("status", row["status"]),
        ("before", number(row["ms_a"], " ms")),
        ("after", number(row["ms_b"], " ms")),
        (
            "change",
            f"{row['delta_ms']:+.3g} ms" + ("" if math.isnan(row["ratio"]) else f" (× {row['ratio']:.3g})"),
        ),
        *(("", what) for what in row["changed"]),
        ("tactic before", row["tactic_a"][:70]),
        ("tactic after", row["tactic_b"][:70]),
        ("aligned by", row["aligned"]),
    ]
    return hover(str(row["layer"]), lines, list(dict.fromkeys((*row["nodes_a"], *row["nodes_b"]))))
