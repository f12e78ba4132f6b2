"""Figures of a `Comparison`: error along the network, the worst tensors, which nodes are to blame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import CompareError
from .style import BLUE, ORANGE, RED, Style, decades_around, hover, ink_on, label, number

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from ..compare import Comparison

COMPARED = "compared"
_DRAWN = {
    "error": "error (relative where values exceed ±1)",
    "max_abs": "largest absolute error",
    "mean_abs": "mean absolute error",
    "max_rel": "largest relative error",
    "mean_rel": "mean relative error",
}
_MANY = 4000  # points; more are drawn with WebGL
_DETAILED = 1000  # tensors; more get a shorter hover text


def error_by_depth(comparison: Comparison, *, by: str = "error", theme: str = "light") -> go.Figure:
    """Error along the depth of the network on a log axis, one marker per tensor, local beside propagated.

    Exact zeros are drawn at the floor of the axis and what is not finite at its ceiling, both with symbols of their
    own that the legend names.

    Args:
        by: ``error`` (what tolerances are held against), ``max_abs``, ``mean_abs``, ``max_rel`` or ``mean_rel``.

    Raises:
        CompareError: `by` is none of these.
    """
    drawn = Style(theme)
    rows = [r for r in comparison.records if r["status"] == COMPARED]
    _check(by)
    title = "Error along the network"
    if not rows:
        return drawn.says(title, "No tensor could be compared: the table's column status says why.")
    both = {"propagated": [_value(r, by) for r in rows], "local": [_value(r, by, "local_") for r in rows]}
    low, high = _ends(both, comparison, by)
    note = f"{len(rows):,} of {len(comparison.records):,} tensors compared"
    figure = drawn.figure(title, note=note, height=500)
    depth = [r.get("depth", math.nan) for r in rows]
    if any(map(math.isnan, depth)):
        depth = list(range(len(rows)))
    detailed = len(rows) <= _DETAILED
    for kind, values in both.items():
        if not all(map(math.isnan, values)):
            texts = [_hover(r, kind, detailed) for r in rows]
            _scatter(figure, drawn, kind, depth, values, texts, (low, high))
    figure.update_layout(
        xaxis=drawn.axis(
            "depth: nodes on the longest path to the tensor",
            rangemode="tozero",
            **({"dtick": 1} if max(depth) < 10 else {}),
        ),
        yaxis=drawn.decades(_DRAWN[by], low / 2, high * 1.6),
    )
    _tolerance(figure, drawn, _limits(comparison, by))
    _first_divergence(figure, drawn, comparison, by, depth, rows, (low, high))
    return figure


def worst_tensors(
    comparison: Comparison, n: int = 15, *, by: str = "error", theme: str = "light"
) -> go.Figure:
    """The `n` tensors with the largest error, as horizontal bars on a log axis, with what their own nodes add.

    Args and errors as for `error_by_depth`.
    """
    drawn = Style(theme)
    _check(by)
    title = "Worst tensors"
    rows = [r for r in comparison.records if r["status"] == COMPARED]
    if not rows:
        return drawn.says(title, "No tensor could be compared: the table's column status says why.")
    rows = sorted((r for r in rows if _value(r, by) > 0), key=lambda r: -_value(r, by))[:n]
    if not rows:
        return drawn.says(
            title, f"All compared tensors are equal, bit for bit: no {_DRAWN[by].split(' (')[0]}."
        )
    both = {"propagated": [_value(r, by) for r in rows], "local": [_value(r, by, "local_") for r in rows]}
    low, high = _ends(both, comparison, by)
    figure = drawn.figure(title, height=130 + 34 * len(rows), barmode="group", bargap=0.35)
    for kind, colour in (("propagated", drawn.palette[BLUE]), ("local", drawn.palette[ORANGE])):
        values = both[kind]
        if all(map(math.isnan, values)):
            continue
        figure.add_bar(
            name=_KINDS[kind],
            orientation="h",
            y=list(range(len(rows))),
            x=[high if math.isinf(v) else v if v > 0 else None for v in values],
            text=["NaN or Inf" if math.isinf(v) else "" for v in values],
            textposition="inside",
            textfont={"size": 11, "color": ink_on(colour)},
            constraintext="none",
            marker={"color": colour},
            hovertext=[_hover(r, kind, True) for r in rows],
            hoverinfo="text",
        )
    ticks = [f"{label(r['tensor'], 34)}<br>{_op(r, 30)}" for r in rows]
    figure.update_layout(
        xaxis=drawn.decades(_DRAWN[by], low, high),
        yaxis=drawn.axis(
            tickvals=list(range(len(rows))), ticktext=ticks, range=[len(rows) - 0.4, -0.6], showgrid=False
        ),
    )
    for limit in _limits(comparison, by):
        figure.add_scatter(
            x=[limit, limit],
            y=[-0.6, len(rows) - 0.4],
            mode="lines",
            name=f"tolerance {limit:g}",
            hoverinfo="skip",
            line={"color": drawn.palette[RED], "dash": "dash", "width": 1.5},
        )
    return figure


def blame(comparison: Comparison | pd.DataFrame, n: int = 8, *, theme: str = "light") -> go.Figure:
    """How much of the outputs' squared error each of the worst nodes causes by itself.

    Args:
        comparison: a Comparison, whose models are run again for it, or the table that `Comparison.blame` gave.
    """
    import pandas as pd

    drawn = Style(theme)
    title = "Which nodes are to blame"
    if isinstance(comparison, pd.DataFrame):
        table = comparison
    elif comparison.rerun is None:
        return drawn.says(
            title, "This comparison was read from a file: its models are not there to run again."
        )
    else:
        table = comparison.blame(n)
    table = table[table["share"] >= 5e-4].sort_values("share", ascending=False).head(n)
    if table.empty:
        return drawn.says(title, "No single node causes even 0.05 % of the outputs' squared error by itself.")
    note = "share of the outputs' squared error when only this node's own error is put into the reference"
    figure = drawn.figure(title, note=note, height=110 + 40 * len(table), legend=False)
    texts = [
        hover(
            str(node),
            [
                ("operator", row.op_type),
                ("tensor", row.tensor),
                ("share of the output's squared error", f"{row.share:.2%}"),
                ("its own SNR", number(row.local_snr_db, " dB")),
                ("its own largest error", number(row.local_max_abs)),
            ],
        )
        for node, row in table.iterrows()
    ]
    figure.add_bar(
        orientation="h",
        x=list(table["share"]),
        y=list(range(len(table))),
        marker={"color": drawn.palette[ORANGE]},
        text=[f"{share:.1%}" for share in table["share"]],
        textposition="outside",
        cliponaxis=False,
        textfont={"color": drawn.text},
        hovertext=texts,
        hoverinfo="text",
        width=0.6,
    )
    names = [f"{label(str(node), 34)}<br>{_op(row, 30)}" for node, row in table.iterrows()]
    figure.update_layout(
        xaxis=drawn.axis(tickformat=".0%", rangemode="tozero", range=[0, 1.12 * float(table["share"].max())]),
        yaxis=drawn.axis(
            tickvals=list(range(len(table))), ticktext=names, autorange="reversed", showgrid=False
        ),
    )
    return figure


_KINDS = {"propagated": "propagated: what arrives here", "local": "local: what the node itself adds"}


def _ends(both: dict[str, list[float]], comparison: Comparison, by: str) -> tuple[float, float]:
    """Ends of the axis, with a decade below for zeros and one above for what is not finite, where there are such."""
    values = [v for column in both.values() for v in column]
    return decades_around(values + _limits(comparison, by), 0.0 in values, math.inf in values)


def _check(by: str) -> None:
    if by not in _DRAWN:
        raise CompareError(f"cannot draw tensors by {by!r}; use one of {', '.join(_DRAWN)}")


def _value(record: Mapping[str, Any], by: str, prefix: str = "") -> float:
    """The measure; the local `error` is not in the table: max_abs on the same scale as `error`."""
    if by != "error" or not prefix:
        return record.get(prefix + by, math.nan)
    scale = 1.0
    if not record["dtype"].startswith(("int", "uint")):
        scale = max((abs(record[k]) for k in ("ref_min", "ref_max") if math.isfinite(record[k])), default=0.0)
    return record.get("local_max_abs", math.nan) / max(1.0, scale)


def _limits(comparison: Comparison, by: str) -> list[float]:
    limits = comparison.tolerance
    limit = limits.get(by) if isinstance(limits, Mapping) else limits if by == "error" else None
    return [float(limit)] if limit else []


def _op(row: Any, length: int) -> str:
    return f"<i>{label(row['op_type'] or 'runner', length)}</i>"


def _hover(record: Mapping[str, Any], kind: str, detailed: bool) -> str:
    rows = [("node", record["node"]), ("operator", record["op_type"])]
    propagated = [("error", number(record["error"])), ("SNR", number(record["snr_db"], " dB"))]
    local = [
        ("local error", number(_value(record, "error", "local_"))),
        ("local SNR", number(record.get("local_snr_db", math.nan), " dB")),
    ]
    if not detailed:
        return hover(
            record["tensor"],
            [(record["op_type"], record["node"]), (local if kind == "local" else propagated)[0]],
        )
    shape = record["shape"]
    rows.append(("type", f"{record['dtype']}{list(shape) if shape is not None else ''}"))
    measures = [("max abs", number(record["max_abs"])), ("cosine", f"{record['cosine']:.6g}")]
    bad = [(k, str(record[c])) for k, c in (("NaN", "nan"), ("Inf", "inf")) if record[c] > 0]
    return hover(
        record["tensor"],
        rows + propagated + measures + bad + local + [("no local error", record.get("local_status", ""))],
    )


def _scatter(
    figure: go.Figure,
    drawn: Style,
    kind: str,
    depth: list,
    values: list[float],
    texts: list[str],
    ends: tuple,
) -> None:
    """Three traces: where there is an error, where there is none (floor), where it is not finite (ceiling)."""
    import plotly.graph_objects as go

    low, high = ends
    local = kind == "local"
    colour = drawn.palette[ORANGE if local else BLUE]
    normal = {"symbol": "diamond-open" if local else "circle", "size": 7 if local else 6, "color": colour}
    zero = {"symbol": "line-ns-open", "size": 7, "color": colour, "line": {"width": 1, "color": colour}}
    broken = {"symbol": "x", "size": 9, "color": drawn.palette[RED] if not local else colour}
    count = sum(v == 0 for v in values)
    parts = (
        (_KINDS[kind], normal, lambda v: 0 < v < math.inf, None),
        (f"{kind}: exactly 0 ({count:,})", zero, lambda v: v == 0, low * (1.0 if not local else 0.62)),
        (f"{kind}: NaN or Inf", broken, lambda v: v == math.inf, high * (1.0 if not local else 1.4)),
    )
    draw = go.Scattergl if len(values) > _MANY else go.Scatter
    for name, marker, chosen, at in parts:
        points = [i for i, v in enumerate(values) if chosen(v)]
        if points:
            figure.add_trace(
                draw(
                    x=[depth[i] for i in points],
                    y=[values[i] if at is None else at for i in points],
                    mode="markers",
                    marker=marker,
                    name=name,
                    hovertext=[texts[i] for i in points],
                    hoverinfo="text",
                )
            )


def _tolerance(figure: go.Figure, drawn: Style, limits: list[float]) -> None:
    for limit in limits:
        figure.add_hline(y=limit, line={"color": drawn.palette[RED], "dash": "dash", "width": 1.5})
        figure.add_annotation(
            x=1,
            xref="paper",
            y=math.log10(limit),
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            text=f"tolerance {limit:g}",
            font={"size": 12, "color": drawn.palette[RED]},
        )


def _first_divergence(
    figure: go.Figure, drawn: Style, comparison: Comparison, by: str, depth: list, rows: list, ends: tuple
) -> None:
    first = comparison.first_divergence()
    if first is None:
        return
    said = f"first divergence: <b>{label(str(first.name), 40)}</b>"
    place: dict[str, Any] = {
        "x": 0,
        "y": 0.02,
        "xref": "paper",
        "yref": "paper",
        "showarrow": False,
        "xanchor": "left",
    }
    at = next((i for i, r in enumerate(rows) if r["tensor"] == first.name), None)
    if at is None:
        said += f"<br>{label(first['status'], 60)}"
    else:
        value = _value(rows[at], by)
        y = ends[1] if math.isinf(value) else value if value > 0 else ends[0]
        right = depth[at] > max(depth) / 2
        place = {
            "x": depth[at],
            "y": math.log10(y),
            "ax": -40 if right else 40,
            "ay": 44,
            "showarrow": True,
            "arrowhead": 2,
            "arrowwidth": 1.2,
            "arrowcolor": drawn.text,
            "xanchor": "right" if right else "left",
        }
    figure.add_annotation(
        text=said,
        align="left",
        font={"size": 12, "color": drawn.text},
        bgcolor=drawn.box,
        bordercolor=drawn.line,
        borderpad=4,
        opacity=0.95,
        **place,
    )
