"""What all figures share: colours, layout for light and dark pages, and names turned into text that is safe and short.

Plotly reads `<`, `&` in any text as HTML-like markup. Names come from model files: every one goes through `text`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import WorkbenchError

if TYPE_CHECKING:
    import plotly.graph_objects as go

THEMES = ("light", "dark")

# Okabe and Ito, "Color Universal Design" (2008): told apart with any kind of colour vision. Their yellow and black are
# left out, for they vanish on a white or a dark page; the blue is lifted on a dark one.
_OKABE_ITO = {
    "light": ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"),
    "dark": ("#3D9BDB", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#8CCBF0"),
}
BLUE, ORANGE, GREEN, PURPLE, RED, SKY = range(6)
_ON_DARK, _ON_LIGHT = "#ffffff", "#101418"
_INK = {
    "light": {"text": "#1f2328", "dim": "#59636e", "grid": "#e4e8ec", "line": "#adb5bd", "box": "#ffffff",
              "page": "#ffffff"},
    "dark": {"text": "#e6edf3", "dim": "#9aa4af", "grid": "#2b323b", "line": "#56606b", "box": "#1c232c",
             "page": "#0d1117"},
}  # fmt: skip
OTHER = {"light": "#9aa1a9", "dark": "#7d8690"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Style:
    """Colours of one theme."""

    def __init__(self, theme: str):
        if theme not in THEMES:
            raise WorkbenchError(f"cannot draw the figure: got theme={theme!r}, expected 'light' or 'dark'")
        self.theme = theme
        self.palette = _OKABE_ITO[theme]
        self.other = OTHER[theme]
        self.text, self.dim, self.grid, self.line, self.box, self.page = _INK[theme].values()

    def colours(self, names: Iterable[str]) -> dict[str, str]:
        """Colours for the first six names; `other` is for the rest."""
        return dict(zip(dict.fromkeys(names), self.palette, strict=False))

    def figure(
        self, title: str, *, height: int = 460, note: str = "", legend: bool = True, **layout: Any
    ) -> go.Figure:
        """An empty figure in this style. `title` and `note` (below it) are markup: names in them must be escaped."""
        import plotly.graph_objects as go

        # 76 letters fit into half of a notebook's width
        lines = [
            line for part in note.split("\n") for line in textwrap.wrap(part, 76, break_long_words=False)
        ]
        small = "".join(f"<br><span style='font-size:12px;color:{self.dim}'>{line}</span>" for line in lines)
        more = 20 * max(0, len(lines) - 1)
        figure = go.Figure()
        figure.update_layout(
            template="none",
            height=height + more,
            font={"family": FONT, "size": 13, "color": self.text},
            title={
                "text": title + small,
                "x": 0,
                "xref": "container",
                "xanchor": "left",
                "y": 1,
                "yref": "container",
                "yanchor": "top",
                "pad": {
                    "t": 12 + 8 * len(lines),
                    "l": 12,
                },  # Plotly centres a title of several lines on its first
                "font": {"size": 16},
            },
            paper_bgcolor=self.page,
            plot_bgcolor="rgba(0,0,0,0)",
            margin={"l": 64, "r": 24, "t": 40 + 20 * bool(lines) + more + 32 * legend, "b": 48},
            hoverlabel={
                "bgcolor": self.box,
                "bordercolor": self.line,
                "align": "left",
                "font": {"family": FONT, "size": 12, "color": self.text},
            },
            legend={
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": 1.01,
                "yanchor": "bottom",
                "font": {"size": 12},
                "itemsizing": "constant",
            },
            hovermode="closest",
            modebar={
                "bgcolor": "rgba(0,0,0,0)",
                "color": self.line,
                "activecolor": self.text,
                "remove": ["select2d", "lasso2d", "autoScale2d"],
            },
        )
        figure.update_layout(**layout)
        return figure

    def axis(self, title: str = "", **given: Any) -> dict[str, Any]:
        """An axis with a thin grid."""
        return {
            "title": {"text": title, "font": {"size": 12, "color": self.dim}, "standoff": 8},
            "tickfont": {"size": 12, "color": self.dim},
            "gridcolor": self.grid,
            "linecolor": self.line,
            "zeroline": False,
            "showline": True,
            "automargin": True,
            "ticks": "",
            **given,
        }

    def decades(self, title: str, low: float, high: float, **given: Any) -> dict[str, Any]:
        """A log axis from `low` to `high`, ticks at powers of ten."""
        span = math.log10(high / low)
        given.setdefault("tickfont", {"size": 10, "color": self.dim})  # Plotly draws powers larger
        return self.axis(
            title,
            type="log",
            range=[math.log10(low), math.log10(high)],
            dtick=max(1, math.ceil(span / 8)),
            exponentformat="power",
            **given,
        )

    def says(self, title: str, message: str, *, height: int = 220) -> go.Figure:
        """A figure that only says something, because there is nothing to draw."""
        figure = self.figure(title, height=height)
        figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
        figure.add_annotation(
            text="<br>".join(wrapped(message, 70)),
            x=0.5,
            y=0.5,
            xref="paper",
            yref="paper",
            showarrow=False,
            font={"size": 14, "color": self.dim},
        )
        return figure


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on a colour (relative luminance as in WCAG 2.2)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _ON_DARK if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.057 else _ON_LIGHT


def printable(name: object) -> str:
    """A name with control characters, line breaks and marks that turn the direction of text spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def text(name: object) -> str:
    """A name as Plotly shows it literally."""
    return printable(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def short(name: str, length: int = 32) -> str:
    """A name with its middle left out where it is longer than `length`; its two ends tell names apart best."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"


def label(name: str, length: int = 32) -> str:
    """For ticks and annotations: shortened, then escaped."""
    return text(short(name, length))


def wrapped(line: str, width: int = 72) -> list[str]:
    """A line in escaped pieces of at most `width` characters, broken after / . _ or a space where there is one."""
    pieces = []
    while len(line) > width:
        cut = max(line.rfind(c, width // 2, width) for c in " /._,") + 1 or width
        pieces.append(text(line[:cut]))
        line = line[cut:]
    return [*pieces, text(line)]


def hover(heading: str, rows: Sequence[tuple[str, str]], names: Sequence[str] = ()) -> str:
    """The text of a hover box: a bold heading, lines `what: value`, then names (at most eight)."""
    lines = [f"<b>{piece}</b>" for piece in wrapped(heading)]
    lines += [f"{text(what)}: {text(value)}" for what, value in rows if value]
    lines += [piece for name in names[:8] for piece in wrapped(name)]
    if len(names) > 8:
        lines.append(f"and {len(names) - 8} more")
    return "<br>".join(lines)


def number(value: float, unit: str = "") -> str:
    """Three digits; '' for NaN, which means that it is not known."""
    if value is None or math.isnan(value):
        return ""
    return f"{value:.3g}{unit}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def engineering(value: float, unit: str) -> str:
    """1.23 G<unit>, with decimal prefixes; '' for what is not known."""
    if value is None or not math.isfinite(value):
        return ""
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def decades_around(values: Iterable[float], below: int = 0, above: int = 0) -> tuple[float, float]:
    """Powers of ten around the positive finite values, with room for so many more; 1e-8 to 1 without any."""
    known = [v for v in values if 0 < v < math.inf]
    if not known:
        return 1e-8, 1.0
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    return 10.0 ** (low - below), 10.0 ** (max(high, low + 1) + above)
