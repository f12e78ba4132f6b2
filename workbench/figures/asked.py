"""What a model asks for in precision, beside what an engine does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .engine import colour_of, precisions, short_name
from .style import Style, hover, number, text

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from ..tensorrt import Engine

_UNKNOWN = "not known"


def asked_precision(engine: Engine, *, theme: str = "light") -> go.Figure:
    """What the ONNX model asks for (left) and what the engine computes in (right), as bands as wide as the layers take
    time (without times: as many layers); what disagrees is named.

    Args:
        engine: with its ONNX model.

    Raises:
        EngineError: there is no model.
    """
    import plotly.graph_objects as go

    drawn = Style(theme)
    title = "Asked for and done: precision of products"
    table = engine.asked()
    if table.empty:
        return drawn.says(
            title, "The engine has no layer with a convolution or a matrix product of the model."
        )
    timed = bool(table["ms"].notna().any())
    table = table.assign(size=table["ms"].fillna(0.0) if timed else 1.0)
    table["asked"] = table["asked"].replace("", _UNKNOWN)
    table["done"] = table["done"].replace("", _UNKNOWN)
    flows = list(table.groupby(["asked", "done"], sort=False))
    wrong = table[table["agrees"].eq(False)]
    note = f"{len(wrong)} of {len(table)} layers compute in another precision than the model asks for"
    if len(wrong):
        worst = wrong.loc[wrong["size"].idxmax()]
        name = short_name(worst, str(worst.name), 30)
        note += f"; the largest: {name}, {text(worst['asked'])} → {text(worst['done'])}"
    left, right = (precisions(list(table[side])) for side in ("asked", "done"))
    height = 130 + 70 * max(len(left), len(right))
    figure = drawn.figure(title, note=note, height=height, legend=False)
    figure.update_layout(margin={"l": 12, "r": 12, "b": 16})
    ends = [(name, "asked") for name in left] + [(name, "done") for name in right]
    total = float(table["size"].sum()) or 1.0
    shares = [float(table.loc[table[side] == name, "size"].sum()) / total for name, side in ends]
    figure.add_trace(
        go.Sankey(
            arrangement="fixed",
            node={
                "label": [f"{side}: {text(n)} · {share:.0%}" for (n, side), share in zip(ends, shares, strict=True)],
                "color": [colour_of(name.split(" + ")[0], drawn) for name, _ in ends],
                "thickness": 18, "pad": 24, "line": {"width": 0}, "hoverinfo": "skip",
            },
            link={
                "source": [left.index(asked) for (asked, _), _ in flows],
                "target": [len(left) + right.index(done) for (_, done), _ in flows],
                "value": [max(float(rows["size"].sum()), total * 1e-3) for _, rows in flows],
                "color": [_band(done, rows, drawn) for (_, done), rows in flows],
                "customdata": [_said(asked, done, rows, timed) for (asked, done), rows in flows],
                "hovertemplate": "%{customdata}<extra></extra>",
            },
            textfont={"size": 13, "color": drawn.text, "shadow": "none"},
        )
    )  # fmt: skip
    return figure


def _band(done: str, rows: pd.DataFrame, drawn: Style) -> str:
    """Grey where both agree, the colour of what is done where they do not."""
    wrong = rows["agrees"].eq(False).any()
    colour = colour_of(done, drawn) if wrong else drawn.other
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{0.65 if wrong else 0.3})"


def _said(asked: str, done: str, rows: pd.DataFrame, timed: bool) -> str:
    agrees = {True: "yes", False: "no"}.get(rows["agrees"].iloc[0], "not known")
    lines = [
        ("layers", str(len(rows))), ("time", number(float(rows["size"].sum()), " ms") if timed else ""),
        ("agrees", agrees), ("why", str(rows["why"].iloc[0])),
    ]  # fmt: skip
    largest = rows.sort_values("size", ascending=False)
    return hover(f"asked for {asked}, done in {done}", lines, [str(name) for name in largest.index])
