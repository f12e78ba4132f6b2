"""What a change bought: two profiles side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, Style, hover, label, number

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from ..profile import Profile

_OPERATORS = 10
_GAP = 110  # pixels between the two plots
_STATUS = {"faster": GREEN, "slower": RED, "appeared": PURPLE, "disappeared": SKY}


def before_after(before: Profile, after: Profile, n: int = 12, *, theme: str = "light") -> go.Figure:
    """Time by operator type in both profiles, and the `n` largest changes of `profile_diff` below it.

    Changes within the noise of the two profiles are grey.
    """
    from plotly.subplots import make_subplots

    drawn = Style(theme)
    title = "Before and after"
    sums = _by_operator(before, after)
    if sums.empty:
        return drawn.says(title, "Neither profile has layers.")
    changes = _changes(before, after, n)
    note = f"latency of a whole run {before.latency_ms:.4g} → {after.latency_ms:.4g} ms"
    figure = drawn.figure(title, note=note)
    upper, lower = 34 * len(sums), 34 * max(1, len(changes))
    space = _GAP / (upper + lower + _GAP)
    grid = make_subplots(rows=2, cols=1, row_heights=[upper, lower], vertical_spacing=space, figure=figure)
    _operators(grid, drawn, sums, (before, after))
    _deltas(grid, drawn, changes)
    second = grid.layout.legend.to_plotly_json() | {
        "y": grid.layout.yaxis2.domain[1] + 8 / (upper + lower + _GAP)
    }
    grid.update_layout(
        height=upper + lower + _GAP + 150,
        barmode="group",
        bargap=0.3,
        legend2=second,
        margin={"t": 100, "b": 50},
    )
    return grid


def _by_operator(before: Profile, after: Profile) -> pd.DataFrame:
    """Index: operator type (the last may be "other"); columns: ms before and after."""
    import pandas as pd

    sums = pd.DataFrame({"before": before.by_op()["ms"], "after": after.by_op()["ms"]}).fillna(0.0)
    sums = sums.loc[sums.max(axis=1).sort_values(ascending=False).index]
    if len(sums) > _OPERATORS:
        rest = sums.iloc[_OPERATORS - 1 :].sum().rename(f"{len(sums) - _OPERATORS + 1} others")
        sums = pd.concat([sums.iloc[: _OPERATORS - 1], rest.to_frame().T])
    return sums


def _changes(before: Profile, after: Profile, n: int) -> list[dict[str, Any]]:
    from ..profile import profile_diff

    table = profile_diff(before, after).reset_index()
    return [row for row in table.to_dict("records") if abs(row["delta_ms"]) > 0][:n]


def _operators(
    figure: go.Figure, drawn: Style, sums: pd.DataFrame, profiles: tuple[Profile, Profile]
) -> None:
    for column, colour, profile in zip(
        ("before", "after"), (drawn.palette[ORANGE], drawn.palette[BLUE]), profiles, strict=True
    ):
        texts = [
            hover(str(name), [("model", profile.model_name), (column, f"{ms:.4g} ms")])
            for name, ms in sums[column].items()
        ]
        figure.add_bar(
            x=list(sums[column]),
            y=list(range(len(sums))),
            orientation="h",
            marker={"color": colour},
            name=f"{column}: {label(profile.model_name, 36)}",
            hovertext=texts,
            hoverinfo="text",
            row=1,
            col=1,
        )
    ticks = [label(str(name), 30) for name in sums.index]
    figure.update_xaxes(drawn.axis("ms by operator type", rangemode="tozero"), row=1, col=1)
    figure.update_yaxes(
        drawn.axis(tickvals=list(range(len(sums))), ticktext=ticks, autorange="reversed", showgrid=False),
        row=1,
        col=1,
    )


def _same(row: dict[str, Any]) -> str:
    """What is said of a change that may be none."""
    if row["noise"].startswith("assumed"):
        return f"within {row['noise'].removeprefix('assumed: ')}, noise not known"
    return "within the noise" if row["noise"] == "measured" else "noise not known"


def _deltas(figure: go.Figure, drawn: Style, changes: list[dict[str, Any]]) -> None:
    for status in [*_STATUS, "same"]:
        mine = [i for i, row in enumerate(changes) if row["status"] == status]
        if mine:
            figure.add_bar(
                x=[changes[i]["delta_ms"] for i in mine],
                y=mine,
                orientation="h",
                hoverinfo="text",
                width=0.6,
                name=_same(changes[mine[0]]) if status == "same" else status,
                marker={"color": drawn.palette[_STATUS[status]] if status in _STATUS else drawn.other},
                hovertext=[_hover(changes[i]) for i in mine],
                legend="legend2",
                row=2,
                col=1,
            )
    names = [f"{label(str(row['layer']), 34)}<br><i>{label(row['op_type'], 30)}</i>" for row in changes]
    figure.update_xaxes(drawn.axis("change in ms, the largest first"), row=2, col=1)
    figure.update_yaxes(
        drawn.axis(tickvals=list(range(len(changes))), ticktext=names, autorange="reversed", showgrid=False),
        row=2,
        col=1,
    )
    if not changes:
        figure.add_annotation(text="no layer changed", showarrow=False, row=2, col=1)


def _hover(row: dict[str, Any]) -> str:
    rows = [
        ("operator", row["op_type"]),
        ("status", f"same, {_same(row)}" if row["status"] == "same" else row["status"]),
        ("before", number(row["ms_a"], " ms")),
        ("after", number(row["ms_b"], " ms")),
        (
            "change",
            f"{row['delta_ms']:+.3g} ms" + ("" if math.isnan(row["ratio"]) else f" (× {row['ratio']:.3g})"),
        ),
        ("noise", f"{number(row['noise_ms'], ' ms')} ({row['noise']})"),
        ("layers before", ", ".join(row["layers_a"][:6])),
        ("layers after", ", ".join(row["layers_b"][:6])),
    ]
    return hover(str(row["layer"]), rows, list(row["nodes"]))
