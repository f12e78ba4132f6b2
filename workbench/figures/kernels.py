"""Kernels of plugins under what a GPU can do: a roofline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .profiled import _roof
from .style import Style, engineering, hover, label

if TYPE_CHECKING:
    import plotly.graph_objects as go

_MARKS = {"kernel": "circle", "triton": "square", "unfused": "x", "optimised": "diamond"}


def kernel_roofline(bench: Any, *, theme: str = "light") -> go.Figure:
    """Speed of each way to compute a plugin over its FLOP per byte, both on log axes.

    Args:
        bench: a ``workbench.profile.kernels.Bench``, or what the GPU bench recorded (a dict with ``bench``, ``gpu``,
            ``copy_gb_s`` and ``flops``).
        theme: ``light`` or ``dark``.
    """
    drawn = Style(theme)
    rows, name, bandwidth, flops = _read(bench)
    rows = [row for row in rows if row["intensity"] > 0 and row["gflops"] > 0]
    if not rows:
        return drawn.says("Kernels", "No kernel with a known number of operations was measured.")
    figure = drawn.figure(
        f"Kernels on {label(name, 40)}",
        height=520,
        note=f"measured beside them: a copy {engineering(bandwidth * 1e9, 'B/s')}"
        + "".join(f"; {kind} products {engineering(rate, 'FLOP/s')}" for kind, rate in flops.items()),
        legend=False,
    )
    x = [row["intensity"] for row in rows]
    ends = (10.0 ** math.floor(math.log10(min(x) / 2)), 10.0 ** math.ceil(math.log10(max(x) * 3)))
    tops = sorted(((rate / 1e9, kind) for kind, rate in flops.items()), reverse=True)
    _roof(figure, drawn, bandwidth, tops, ends)
    plugins = list(dict.fromkeys(row["plugin"] for row in rows))
    colours = drawn.colours(plugins)
    for what, mark in _MARKS.items():
        mine = [row for row in rows if row["what"] == what]
        if mine:
            figure.add_scatter(
                x=[row["intensity"] for row in mine],
                y=[row["gflops"] for row in mine],
                mode="markers",
                showlegend=False,
                hoverinfo="text",
                marker={
                    "symbol": mark, "size": 9, "opacity": 0.8,
                    "color": [colours.get(row["plugin"], drawn.other) for row in mine],
                },
                hovertext=[_hover(row) for row in mine],
            )  # fmt: skip
            _entry(figure, what, mark, drawn.dim)
    for plugin, colour in colours.items():
        _entry(figure, label(plugin, 24), "circle", colour)
    if len(plugins) > len(colours):
        _entry(figure, "others", "circle", drawn.other)
    y = [row["gflops"] for row in rows]
    bottom = 10.0 ** math.floor(math.log10(min(y) / 1.5))
    roof = min([bandwidth * ends[1], *(rate for rate, _ in tops[:1])])
    top = 10.0 ** math.ceil(math.log10(max(*y, roof) * 1.5))
    figure.update_layout(
        xaxis=drawn.decades("arithmetic intensity (FLOP per byte)", *ends),
        yaxis=drawn.decades("10⁹ operations per second", bottom, top),
        legend={"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"},
    )
    return figure


def _entry(figure: go.Figure, name: str, mark: str, colour: str) -> None:
    """A line of the legend: what a mark or a colour stands for."""
    figure.add_scatter(
        x=[None], y=[None], mode="markers", name=name, marker={"symbol": mark, "size": 9, "color": colour}
    )


def _read(bench: Any) -> tuple[list[dict[str, Any]], str, float, Mapping[str, float]]:
    """(rows, GPU, GB/s of a copy, FLOP/s by dtype)."""
    if isinstance(bench, Mapping):
        return list(bench["bench"]), bench["gpu"]["name"], float(bench["copy_gb_s"]), bench["flops"]
    return bench.rows(), bench.about["name"], bench.rates.copy_bytes_per_s / 1e9, bench.rates.flops


def _hover(row: Mapping[str, Any]) -> str:
    lines = [
        ("way", str(row["what"])),
        ("data", f"{row['dtype']} {row['shapes']}"),
        ("time", f"{row['ms']:.4f} ms, {row['speedup']:.1f} times as fast as unfused"),
        ("memory", f"{row['gb_s']:.0f} GB/s, {row['share']:.0%} of a copy's bandwidth"),
    ]
    return hover(str(row["plugin"]), lines)
