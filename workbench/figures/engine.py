"""Figures of one TensorRT engine: precision, bytes, sizes of products, streams, findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Style,
    engineering,
    hover,
    ink_on,
    label,
    number,
    text,
)  # fmt: skip

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from ..tensorrt import Engine

_PRECISIONS = {
    "FP32": RED, "TF32": ORANGE, "FP16": BLUE, "BF16": SKY, "INT8": GREEN, "UINT8": GREEN, "FP8": PURPLE, "FP4": PURPLE,
}  # fmt: skip
_NARROW = 0.015  # sectors of less of the circle than this have no room for a name
_NO_TIMES = "This engine has no times: load it with the profile that trtexec --exportProfile writes."


def colour_of(precision: str, drawn: Style) -> str:
    """The same colour for a precision in every figure."""
    return drawn.palette[_PRECISIONS[precision]] if precision in _PRECISIONS else drawn.other


def precisions(names: Sequence[str]) -> list[str]:
    """Each once, the widest first."""
    order = [*_PRECISIONS]
    return sorted(
        dict.fromkeys(names), key=lambda name: (order.index(name) if name in order else len(order), name)
    )


def precision_sunburst(engine: Engine, *, theme: str = "light") -> go.Figure:
    """Where the time goes by precision (inner ring), operator, layer (outer ring); without times, how many
    layers."""
    import plotly.graph_objects as go

    drawn = Style(theme)
    timed = len(engine.table) > 0
    table = (engine.table if timed else engine.layers).assign(size=lambda t: t["ms"] if timed else 1.0)
    table = table[table["size"] > 0]
    title = f"{'Time' if timed else 'Layers'} by precision, operator and layer"
    if table.empty:
        return drawn.says(title, "The engine has no layers that take time.")
    total = float(table["size"].sum())
    rings: list[tuple[str, str, str, float, str, str]] = []  # id, label, parent, size, colour, hover
    for precision in precisions(list(table["math"])):
        mine = table[table["math"] == precision]
        shown, colour = precision or "unknown", colour_of(precision, drawn)
        rings.append(_part(shown, shown, "", mine, total, timed, colour))
        for op_type, rows in mine.groupby("op_type", sort=False):
            key = f"{shown}/{op_type}"
            rings.append(_part(key, str(op_type), shown, rows, total, timed, colour))
            for name, row in rows.iterrows():
                rings.append(
                    (
                        f"{key}/{name}",
                        short_name(row, str(name), 18) if row["size"] > _NARROW * total else "",
                        text(key),
                        float(row["size"]),
                        colour,
                        layer_hover(str(name), row),
                    )
                )
    figure = drawn.figure(title, height=560, legend=False, margin={"l": 8, "r": 8, "t": 52, "b": 8})
    ids, labels, parents, sizes, colours, said = zip(*rings, strict=True)
    figure.add_trace(
        go.Sunburst(
            ids=[text(key) for key in ids], labels=list(labels), parents=list(parents), values=list(sizes),
            branchvalues="total", hovertext=list(said), hoverinfo="text",
            marker={"colors": list(colours), "line": {"color": drawn.box, "width": 1}},
            insidetextorientation="auto", textinfo="label",
            insidetextfont={"color": [ink_on(colour) for colour in colours], "size": 12}, sort=False,
            leaf={"opacity": 1},
        )
    )  # fmt: skip
    return figure


def _part(
    key: str, name: str, parent: str, rows: pd.DataFrame, total: float, timed: bool, colour: str
) -> tuple[str, str, str, float, str, str]:
    size = float(rows["size"].sum())
    share = f"{size / total:.1%}"
    lines = [("layers", str(len(rows))), ("time", f"{size:.4g} ms" if timed else ""), ("share", share)]
    shown = f"{label(name, 18)}<br>{share}" if size > _NARROW * total else ""
    return key, shown, text(parent), size, colour, hover(name, lines)


def time_by_precision(engine: Engine, *, theme: str = "light") -> go.Figure:
    """Time by operator type, most time first, each bar divided by precision."""
    drawn = Style(theme)
    title = "Time by operator and precision"
    if not len(engine.table):
        return drawn.says(title, _NO_TIMES)
    sums = engine.table.groupby(["op_type", "math"])["ms"].sum().unstack(fill_value=0.0)
    sums = sums.loc[sums.sum(axis=1).sort_values(ascending=False).index]
    sums = sums[sums.sum(axis=1) > 0]
    if sums.empty:
        return drawn.says(title, "Every layer took less than the clock can tell.")
    figure = drawn.figure(title, height=130 + 40 * len(sums), barmode="stack", bargap=0.35)
    for precision in precisions(list(sums.columns)):
        values = sums[precision]
        if values.sum() > 0:
            figure.add_bar(
                x=list(values), y=list(range(len(sums))), orientation="h", name=text(precision or "unknown"),
                marker={"color": colour_of(precision, drawn)}, hoverinfo="text",
                hovertext=[
                    hover(str(op), [("precision", precision or "unknown"), ("time", f"{ms:.4g} ms")])
                    for op, ms in values.items()
                ],
            )  # fmt: skip
    figure.update_layout(legend_traceorder="normal")
    _named_rows(figure, drawn, [str(op) for op in sums.index], "ms")
    return figure


def footprint(engine: Engine, *, theme: str = "light") -> go.Figure:
    """Bytes that each layer moves, in order: weights, what it reads, what it writes."""
    drawn = Style(theme)
    title = "Bytes per layer"
    table = engine.layers[engine.layers["bytes"] > 0]
    if table.empty:
        return drawn.says(title, "The layers do not tell their sizes.")
    unknown = int(engine.layers["bytes"].isna().sum())
    total = engineering(float(table["bytes"].sum()), "B")
    note = f"{total} in all, {engineering(float(table['weight_bytes'].sum()), 'B')} of it weights"
    note += f"; the sizes of {unknown} layers are not known" if unknown else ""
    figure = drawn.figure(title, note=note, barmode="stack", bargap=0.15)
    said = [layer_hover(str(name), row) for name, row in table.iterrows()]
    parts = (("weight_bytes", "weights", ORANGE), ("bytes_in", "read", BLUE), ("bytes_out", "written", SKY))
    for column, name, colour in parts:
        figure.add_bar(
            x=list(range(len(table))), y=list(table[column] / 1e6), name=name, hovertext=said, hoverinfo="text",
            marker={"color": drawn.palette[colour], "line": {"width": 0}},
        )  # fmt: skip
    names = [short_name(row, str(name), 22) for name, row in table.iterrows()]
    ticks = (
        {"tickvals": list(range(len(names))), "ticktext": names, "tickangle": -45} if len(names) <= 24 else {}
    )
    figure.update_layout(
        xaxis=drawn.axis(
            "" if ticks else "layer, in order", showgrid=False, range=[-0.6, len(table) - 0.4], **ticks
        ),
        yaxis=drawn.axis("MB", rangemode="tozero"),
    )
    return figure


def product_sizes(engine: Engine, *, theme: str = "light") -> go.Figure:
    """M, N and K of the products that convolutions and matrix products are, and how near they come to the
    GPU's peak."""
    drawn = Style(theme)
    title = "Sizes of matrix products (M × K times K × N)"
    table = engine.layers[engine.layers["m"].notna()]
    if table.empty:
        return drawn.says(title, "No layer tells the sizes of its product.")
    known = table["compute_eff"].notna().any()
    note = "area: time; colour: part of the GPU's peak in this precision" if known else "area: time"
    figure = drawn.figure(title, height=500, note=note, legend=False)
    ms = table["ms"].fillna(0.0)
    size = 8 + 34 * (ms / ms.max()) ** 0.5 if ms.max() > 0 else ms + 12
    said = [_product(str(name), row) for name, row in table.iterrows()]
    scale = [[0.0, drawn.palette[RED]], [0.5, drawn.palette[ORANGE]], [1.0, drawn.palette[GREEN]]]
    bar = {
        "title": {"text": "of the peak", "font": {"size": 12}},
        "tickformat": ".0%",
        "thickness": 12,
        "outlinewidth": 0,
    }
    marker: dict[str, Any] = {"size": list(size), "opacity": 0.8, "line": {"width": 1, "color": drawn.box}}
    marker |= (
        {"color": list(table["compute_eff"]), "colorscale": scale, "cmin": 0, "cmax": 1, "colorbar": bar}
        if known
        else {}
    )
    marker.setdefault("color", drawn.palette[BLUE])
    places = table.assign(size=size).groupby(["m", "k"])  # several products may be in one place
    named = {}  # the three largest places by the first node of their largest product, and how many more there are
    for index in table.assign(ms=ms).loc[places["size"].idxmax()].nlargest(3, "ms").index:
        row, more = table.loc[index], len(places.get_group((table["m"][index], table["k"][index]))) - 1
        first = short_name({"nodes": row["nodes"][:1]}, str(index), 16)
        named[index] = f"{first} +{more}" if more else first
    figure.add_scatter(  # many products have the same M and N: K beside M keeps more of them apart
        x=list(table["m"]), y=list(table["k"]), mode="markers+text", marker=marker, hovertext=said, hoverinfo="text",
        text=[named.get(name, "") for name in table.index], cliponaxis=False,
        textposition="top center",
        textfont={"size": 11, "color": drawn.text},
    )  # fmt: skip
    low = lambda column: 10.0 ** math.floor(math.log10(max(1.0, float(table[column].min()) / 1.5)))  # noqa: E731
    high = lambda column: 10.0 ** math.ceil(math.log10(float(table[column].max()) * 1.5))  # noqa: E731
    figure.update_layout(
        xaxis=drawn.decades("M: positions of the output, rows", low("m"), high("m")),
        yaxis=drawn.decades("K: products per element of the output", low("k"), high("k")),
    )
    return figure


def _product(name: str, row: Any) -> str:
    times = f", {row['groups']:.0f} of these" if row["groups"] > 1 else ""
    lines = [
        ("M × N × K", f"{row['m']:.0f} × {row['n']:.0f} × {row['k']:.0f}{times}"),
        ("precision", row["math"]),
        ("time", number(row["ms"], " ms")),
        ("of the peak", "" if _none(row["compute_eff"]) else f"{row['compute_eff']:.1%}"),
        ("tactic", str(row["tactic"])[:80]),
    ]
    return hover(name, lines, list(row["nodes"]))


def timeline(engine: Engine, *, theme: str = "light") -> go.Figure:
    """Layers on their streams. When each starts is an estimate: as soon as its stream is free and its inputs
    are made."""
    drawn = Style(theme)
    title = "Timeline (estimated)"
    table = engine.table[engine.table["ms"] > 0]
    if table.empty:
        return drawn.says(title, _NO_TIMES)
    known = table["stream"].notna().any()
    note = "starts are estimated: the files tell durations only"
    if not known:
        note += ", and no streams"
    streams = table["stream"].map(lambda stream: "stream" if _none(stream) else f"stream {int(stream)}")
    starts = _starts(table, list(streams))
    rows = list(dict.fromkeys(sorted(streams)))
    figure = drawn.figure(title, height=150 + 56 * len(rows), note=note, barmode="overlay", bargap=0.25)
    colours = drawn.colours(engine.by_op().index)
    for op_type in [*colours, "other"]:
        group = table["op_type"].map(lambda kind: kind if kind in colours else "other") == op_type  # noqa: B023
        mine = [i for i, inside in enumerate(group) if inside]
        if mine:
            figure.add_bar(
                x=[float(table["ms"].iloc[i]) for i in mine], base=[starts[i] for i in mine], orientation="h",
                y=[rows.index(streams.iloc[i]) for i in mine], name=label(op_type, 24), hoverinfo="text",
                marker={"color": colours.get(op_type, drawn.other), "line": {"width": 0.5, "color": drawn.box}},
                text=[short_name(table.iloc[i], str(table.index[i]), 22) for i in mine], textposition="inside",
                textfont={"color": ink_on(colours.get(op_type, drawn.other))}, insidetextanchor="middle", textangle=0,
                hovertext=[layer_hover(str(table.index[i]), table.iloc[i]) for i in mine],
            )  # fmt: skip
    figure.update_layout(uniformtext={"minsize": 9, "mode": "hide"})
    _named_rows(figure, drawn, rows, "ms")
    return figure


def _none(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _starts(table: pd.DataFrame, streams: list[str]) -> list[float]:
    free: dict[str, float] = {}
    made: dict[str, float] = {}
    starts = []
    for (_, row), stream in zip(table.iterrows(), streams, strict=True):
        start = max([free.get(stream, 0.0), *(made.get(name, 0.0) for name in row["inputs"])])
        starts.append(start)
        free[stream] = end = start + float(row["ms"])
        made |= {name: max(end, made.get(name, 0.0)) for name in row["outputs"]}
    return starts


def findings(engine: Engine, n: int = 12, *, theme: str = "light") -> go.Figure:
    """What `Engine.lint` found, by the time of the layers: copies, quantising alone, float outputs ..."""
    drawn = Style(theme)
    title = "Findings, by the time of their layers"
    found = engine.lint()
    if found.empty:
        return drawn.says(title, "Nothing was found, as far as the layers tell.")
    top = found.head(n).reset_index()
    note = (
        f"{len(found)} findings; the time of a layer is the most that one could gain"
        if len(found) > n
        else ""
    )
    height = 98 + 36 * len(top) + 20 * bool(note)
    figure = drawn.figure(title, note=note, height=height, legend=False, barmode="overlay", bargap=0.35)
    colours = drawn.colours(found["lint"])
    for kind in colours:
        mine = top[top["lint"] == kind]
        if len(mine):
            figure.add_bar(
                x=list(mine["ms"].fillna(0.0)), y=list(mine.index), orientation="h", name=text(kind), hoverinfo="text",
                marker={"color": colours[kind]}, text=[text(kind)] * len(mine), textposition="auto", textangle=0,
                insidetextanchor="end", insidetextfont={"color": ink_on(colours[kind])}, showlegend=False,
                outsidetextfont={"color": drawn.dim},
                hovertext=[_finding(row) for _, row in mine.iterrows()],
            )  # fmt: skip
    names = [
        f"{short_name(row, str(row['layer']))}<br><i>{text(row['problem'].split(':')[0][:44])}</i>"
        for _, row in top.iterrows()
    ]
    _named_rows(figure, drawn, names, "ms", True)
    return figure


def _finding(row: Any) -> str:
    lines = [("finding", row["lint"]), ("time", number(row["ms"], " ms")), ("problem", row["problem"])]
    return hover(str(row["layer"]), [*lines, ("because", row["origin"]), ("do", row["advice"])])


def short_name(row: Any, name: str, length: int = 34) -> str:
    """A layer by its nodes, which are shorter than TensorRT's names of layers; escaped."""
    quantising = ("QuantizeLinear", "DequantizeLinear")
    nodes = [node for node in row["nodes"] if not node.startswith(quantising)] or list(row["nodes"])
    return label(" + ".join(node.rsplit("/", 1)[-1] for node in nodes) or name, length)


def layer_hover(name: str, row: Any) -> str:
    """What a hover box says of a layer."""
    share = "" if _none(row["share"]) else f", {row['share']:.1%}"
    rows = [
        ("operator", f"{row['op_type']} ({row['layer_type']})" if row["layer_type"] else row["op_type"]),
        ("precision", row["math"]),
        ("time", "" if _none(row["ms"]) else f"{row['ms']:.4g} ms{share}"),
        ("bound by", row["bound"] or ""),
        ("MACs", engineering(row["macs"], "")),
        ("moves", engineering(row["bytes"], "B")),
        (
            "formats",
            f"{row['formats_in']} → {row['formats_out']}" if row["formats_in"] or row["formats_out"] else "",
        ),
        ("tactic", str(row["tactic"])[:70]),
    ]
    return hover(name, rows, list(row["nodes"]))


def _named_rows(
    figure: go.Figure, drawn: Style, names: Sequence[str], title: str, markup: bool = False
) -> None:
    ticks = list(names) if markup else [label(name, 30) for name in names]
    figure.update_layout(
        xaxis=drawn.axis(title, rangemode="tozero"),
        yaxis=drawn.axis(
            tickvals=list(range(len(ticks))), ticktext=ticks, range=[len(ticks) - 0.4, -0.6], showgrid=False
        ),
    )
