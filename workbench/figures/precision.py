"""The figure of a precision search: what error each set of nodes in float32 gives, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .style import BLUE, GREEN, RED, Style, decades_around, hover, number, short

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..precision import SearchResult


def precision_front(result: SearchResult, *, theme: str = "light") -> go.Figure:
    """Error against estimated time of every set that a search ran, with the Pareto front, the tolerance and the choice.

    Errors of 0 are drawn at the floor of the axis and those that are not finite at its ceiling; their hover text has
    the number.
    """
    drawn = Style(theme)
    title = "Error and estimated time, by what stays in float32"
    rows = result.trials
    if not len(rows):
        return drawn.says(title, "No set was run, so there is nothing to draw.")
    limit = None if isinstance(result.tolerance, Mapping) else float(result.tolerance)
    low, high = decades_around([*rows.error, *([limit] if limit else [])], below=1, above=1)
    note = f"{len(result.keep)} of {len(result.nodes)} nodes kept, {result.runs} full runs"
    figure = drawn.figure(title, note=note, height=440)
    front = result.pareto
    times, unit = (1.0, "ms") if rows.ms.max() >= 1 else (1e3, "µs")
    figure.add_scatter(
        x=list(front.ms * times), y=[_inside(e, low, high) for e in front.error], mode="lines", name="Pareto front",
        line={"color": drawn.palette[BLUE], "width": 1.5, "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip
    for name, wanted, colour in (("within tolerance", True, GREEN), ("beyond", False, RED)):
        some = rows[rows.ok == wanted]
        figure.add_scatter(
            x=list(some.ms * times), y=[_inside(e, low, high) for e in some.error], mode="markers", name=name,
            marker={"color": drawn.palette[colour], "size": 8, "symbol": "circle" if wanted else "x"},
            text=[_text(row) for row in some.itertuples()], hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    chosen = rows[[set(nodes) == set(result.keep) for nodes in rows.nodes]]
    figure.add_scatter(
        x=list(chosen.ms * times), y=[_inside(e, low, high) for e in chosen.error], mode="markers", name="found",
        marker={"color": "rgba(0,0,0,0)", "size": 16, "line": {"color": drawn.text, "width": 2}}, hoverinfo="skip",
    )  # fmt: skip
    if limit and limit > 0:
        figure.add_hline(y=limit, line={"color": drawn.dim, "dash": "dash", "width": 1})
        figure.add_annotation(
            x=1, xref="paper", y=math.log10(limit), yref="y", text=f"tolerance {number(limit)}", showarrow=False,
            xanchor="right", yanchor="bottom", font={"size": 11, "color": drawn.dim},
        )  # fmt: skip
    figure.update_layout(
        xaxis=drawn.axis(f"estimated {unit} of a run (roofline of the device that was named)"),
        yaxis=drawn.decades("error of the outputs", low / 2, high * 1.6),
    )
    return figure


def _inside(error: float, low: float, high: float) -> float:
    return min(max(error, low), high) if not math.isnan(error) else high


def _text(row: Any) -> str:
    known = [("error", number(row.error) or "NaN"), ("estimated", number(row.ms, " ms"))]
    known.append(("computing in float32", str(row.full)))
    return hover(f"{row.kept} nodes kept", known, [short(name, 60) for name in row.nodes])
