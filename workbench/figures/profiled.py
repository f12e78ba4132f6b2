"""Figures of a `Profile`: time per layer, where the time goes by operator, the roofline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .style import Style, engineering, hover, ink_on, label, number, text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from ..profile import Profile

_BARS = 600  # more layers than this: runs of cheap neighbours share a bar
_NOTHING = "The profile has no layers."


def time_by_layer(profile: Profile, *, theme: str = "light") -> go.Figure:
    """Median time per executed layer, in order of execution, coloured by operator type.

    Beyond 600 layers, neighbours that cost little are drawn as one bar ("12 layers"); every ms stays in the figure.
    """
    drawn = Style(theme)
    table = profile.table
    title = "Time per layer"
    if table.empty:
        return drawn.says(title, _NOTHING)
    colours = _colours(profile, drawn)
    bars = _bars(table)
    note = f"{len(table):,} layers, {profile.sum_ms:.4g} ms together"
    if not math.isnan(profile.latency_ms):
        note += f"; a whole run takes {profile.latency_ms:.4g} ms"
    figure = drawn.figure(title, note=note, barmode="overlay", bargap=0.12)
    for op_type in [*colours, _OTHER]:
        mine = [i for i, bar in enumerate(bars) if _group(bar["op_type"], colours) == op_type]
        if mine:
            figure.add_bar(
                x=mine,
                width=0.9,
                y=[bars[i]["ms"] for i in mine],
                name=label(op_type, 24),
                hoverinfo="text",
                marker={"color": colours.get(op_type, drawn.other), "line": {"width": 0}},
                hovertext=[bars[i]["hover"] for i in mine],
            )
    few = len(bars) <= 24
    ticks = {
        "tickvals": list(range(len(bars))),
        "ticktext": [label(b["name"], 22) for b in bars],
        "tickangle": -45,
    }
    figure.update_layout(
        xaxis=drawn.axis(
            "" if few else "executed layer, in order",
            showgrid=False,
            range=[-0.6, len(bars) - 0.4],
            **(ticks if few else {}),
        ),
        yaxis=drawn.axis("ms", rangemode="tozero"),
    )
    return figure


def treemap(profile: Profile, *, theme: str = "light") -> go.Figure:
    """Where the time goes: areas are ms, by operator type, then by layer."""
    drawn = Style(theme)
    table = profile.table
    title = "Time by operator and layer"
    total = float(table["ms"].sum())
    if table.empty or total <= 0:
        return drawn.says(
            title, _NOTHING if table.empty else "Every layer took less than the clock can tell."
        )
    import plotly.graph_objects as go

    colours = _colours(profile, drawn)
    areas: dict[str, list] = {key: [] for key in ("ids", "labels", "parents", "values", "colours", "texts")}

    def area(key: str, name: str, parent: str, ms: float, op_type: str, said: str) -> None:
        colour = colours.get(op_type, drawn.other)
        for column, value in zip(areas.values(), (key, name, parent, ms, colour, said), strict=True):
            column.append(value)

    for op_type, rows in table.groupby("op_type", sort=False):
        ms = float(rows["ms"].sum())
        share = f"{ms / total:.1%}"
        said = hover(op_type, [("layers", str(len(rows))), ("time", f"{ms:.4g} ms"), ("share", share)])
        top = f"op {text(op_type)}"
        area(top, f"{label(op_type, 24)} {share}", "", ms, op_type, said)
        small = rows["ms"] < total / 1000
        for layer, row in rows[~small].iterrows():
            key = f"layer {len(areas['ids'])}"
            area(key, label(str(layer), 28), top, row["ms"], op_type, _hover(layer, row))
        if small.any():
            ms, many = float(rows["ms"][small].sum()), f"{small.sum()} small layers"
            said = hover(many, [("time", f"{ms:.4g} ms"), ("share", f"{ms / total:.1%}")])
            area(f"small of {top}", many, top, ms, op_type, said)
    figure = drawn.figure(title, height=520, margin={"l": 4, "r": 4, "t": 56, "b": 8})
    figure.add_trace(
        go.Treemap(
            ids=areas["ids"],
            labels=areas["labels"],
            parents=areas["parents"],
            values=areas["values"],
            branchvalues="total",
            marker={
                "colors": areas["colours"],
                "line": {"color": drawn.box, "width": 1},
                "pad": {"t": 22, "l": 2, "r": 2, "b": 2},
            },
            hovertext=areas["texts"],
            hoverinfo="text",
            textinfo="label",
            textfont={"color": [ink_on(colour) for colour in areas["colours"]], "size": 12},
            tiling={"pad": 1},
            pathbar={"visible": False},
        )
    )
    figure.update_layout(uniformtext={"minsize": 9, "mode": "hide"})
    return figure


def roofline(profile: Profile, *, theme: str = "light") -> go.Figure:
    """Layers under what this machine can do at most: speed over FLOP per byte, both on log axes.

    Area of a marker: the layer's time. Layers without MACs, or whose MACs or bytes are not known, cannot be placed; the
    figure says how much of the time they take.
    """
    drawn = Style(theme)
    table = profile.table
    title = "Roofline"
    if table.empty:
        return drawn.says(title, _NOTHING)
    rows = table[(table["macs"] > 0) & (table["bytes"] > 0) & (table["ms"] > 0)]
    rest = 1 - float(rows["share"].sum())
    if rows.empty:
        return drawn.says(title, "No layer has a known number of multiply-accumulates.")
    note = (
        f"area: time; the other {rest:.1%} of the time is in layers without MACs or of unknown size"
        if rest > 5e-4
        else ""
    )
    figure = drawn.figure(title, height=520, note=note or "area: time")
    x, y = rows["intensity"], 2 * rows["macs"] / rows["ms"] / 1e6  # GFLOP/s
    tops = _tops(profile, rows)
    if not tops:
        return drawn.says(title, "The GPU's peaks are not known: give gpu= a name or wb.tensorrt.Gpu(...).")
    ends = (10.0 ** math.floor(math.log10(x.min() / 2)), 10.0 ** math.ceil(math.log10(x.max() * 3)))
    bottom = 10.0 ** math.floor(math.log10(y.min() / 1.5))
    _roof(figure, drawn, profile.peaks.bytes_per_s / 1e9, tops, ends)
    colours = _colours(profile, drawn)
    size = 40 * (rows["ms"] / rows["ms"].max()) ** 0.5
    for op_type in [*colours, _OTHER]:
        mine = rows["op_type"].map(lambda name: _group(name, colours)) == op_type  # noqa: B023  (used at once)
        if mine.any():
            figure.add_scatter(
                x=x[mine],
                y=y[mine],
                mode="markers",
                name=label(op_type, 24),
                hoverinfo="text",
                marker={
                    "size": size[mine].clip(lower=5),
                    "color": colours.get(op_type, drawn.other),
                    "opacity": 0.75,
                    "line": {"width": 1, "color": drawn.box},
                },
                hovertext=[_hover(layer, row, speed=True) for layer, row in rows[mine].iterrows()],
            )
    top = 10.0 ** math.ceil(math.log10(max(y.max(), *(peak for peak, _ in tops)) * 1.5))
    figure.update_layout(
        xaxis=drawn.decades("arithmetic intensity (FLOP per byte)", *ends),
        yaxis=drawn.decades("10⁹ operations per second (a MAC is two)", bottom, top),
    )
    return figure


_OTHER = "other"


def _tops(profile: Profile, rows: pd.DataFrame) -> list[tuple[float, str]]:
    """Peaks in 10⁹ operations per second with their names: an engine's GPU has one for each precision."""
    peaks: Any = profile.peaks
    if "math" in rows:
        rates = {str(kind): peaks.rate(kind) / 1e9 for kind in rows["math"].unique()} if peaks else {}
        return sorted((rate, kind) for kind, rate in rates.items() if not math.isnan(rate))
    int8 = peaks.int8_ops if rows["op_type"].str.contains("Integer|QLinear|Quant").any() else 0.0
    return [(peaks.flops / 1e9, "float32")] + ([(int8 / 1e9, "int8")] if int8 else [])


def _colours(profile: Profile, drawn: Style) -> dict[str, str]:
    """The same colour for an operator type in every figure of a profile: the six that take most time have one."""
    return drawn.colours(profile.by_op().index)


def _group(op_type: str, colours: dict[str, str]) -> str:
    return op_type if op_type in colours else _OTHER


def _bars(table: pd.DataFrame) -> list[dict[str, Any]]:
    """What `time_by_layer` draws, in order of execution."""
    threshold = 0.0
    if len(table) > _BARS:
        threshold = float(table["ms"].nlargest(_BARS // 2).iloc[-1])
    bars: list[dict[str, Any]] = []
    cheap: list[tuple[str, Any]] = []

    def flush() -> None:
        if len(cheap) == 1:
            bars.append(_bar(*cheap[0]))
        elif cheap:
            bars.append(_merged(cheap))
        cheap.clear()

    for layer, row in table.iterrows():
        if row["ms"] < threshold:
            cheap.append((str(layer), row))
        else:
            flush()
            bars.append(_bar(str(layer), row))
    flush()
    return bars


def _bar(layer: str, row: pd.Series) -> dict[str, Any]:
    return {"name": layer, "op_type": row["op_type"], "ms": row["ms"], "hover": _hover(layer, row)}


def _merged(layers: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    ms = sum(row["ms"] for _, row in layers)
    name = f"{len(layers)} layers"
    said = hover(name, [("time", f"{ms:.4g} ms")], [layer for layer, _ in layers])
    return {"name": name, "op_type": "", "ms": ms, "hover": said}


def _hover(layer: object, row: pd.Series, *, speed: bool = False) -> str:
    rows = [
        ("operator", row["op_type"]),
        ("time", f"{row['ms']:.4g} ms{_p95(row)}, {row['share']:.1%}"),
        ("bound by", row["bound"] or ""),
        ("could gain at most", number(row["gain_ms"], " ms")),
        ("MACs", engineering(row["macs"], "")),
        ("moves", engineering(row["bytes"], "B")),
    ]
    if speed:
        rows.append(("speed", f"{2 * row['macs'] / row['ms'] / 1e6:.4g} GFLOP/s"))
        rows.append(("intensity", number(row["intensity"], " FLOP/B")))
        if row["above_peak"]:
            rows.append(("above the roof", "its data was in the caches, or it needs fewer operations"))
    nodes = list(row["nodes"])
    rows.append(("nodes" if len(nodes) > 1 else "node", " ") if nodes else ("nodes", row["joined"]))
    return hover(str(layer), rows, nodes)


def _p95(row: pd.Series) -> str:
    return "" if math.isnan(row["p95_ms"]) else f" (p95 {row['p95_ms']:.4g})"


def _roof(
    figure: go.Figure, drawn: Style, bandwidth: float, tops: list[tuple[float, str]], ends: tuple
) -> None:
    """Lines in GFLOP/s over FLOP per byte: the slope is the bandwidth in GB/s, the flat parts are the peaks."""
    low, high = ends
    for index, (peak, kind) in enumerate(tops):
        knee = min(max(peak / bandwidth, low), high)
        xs = [low, knee, high] if index == 0 else [min(max(tops[0][0] / bandwidth, low), high), knee, high]
        figure.add_scatter(
            x=xs,
            y=[min(peak, bandwidth * x) for x in xs],
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
            line={"color": drawn.dim, "width": 2, "dash": "solid" if index == 0 else "dot"},
        )
        if peak > bandwidth * high:
            continue  # memory is the limit all over the picture
        figure.add_annotation(
            x=math.log10(high),
            y=math.log10(peak),
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            text=f"{kind} peak {engineering(peak * 1e9, 'OP/s' if 'int' in kind.lower() else 'FLOP/s')}",
            font={"size": 12, "color": drawn.dim},
        )
    figure.add_annotation(
        x=math.log10(low),
        y=math.log10(bandwidth * low),
        xanchor="left",
        yanchor="top",
        showarrow=False,
        text=f"memory {engineering(bandwidth * 1e9, 'B/s')}",
        font={"size": 12, "color": drawn.dim},
        xshift=24,
    )
