"""The page of a report: its sections, its figures in both themes, and the document around them."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import sections
from .tables import safe

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..compare import Comparison
    from ..model import Model
    from ..profile import Profile

_BUTTONS = 30  # pixels that Plotly's buttons need above a figure


class Figures:
    """The figures of a page: each is built in both themes, and only the difference is stored for the second."""

    def __init__(self) -> None:
        self.data: list[dict[str, Any]] = []

    def add(self, draw: Callable[..., go.Figure], *args: Any, **options: Any) -> str:
        """HTML of the place where a figure will be drawn; `draw` is called once per theme."""
        light, dark = (
            json.loads(draw(*args, theme=theme, **options).to_json()) for theme in ("light", "dark")
        )
        title, _, note = light["layout"].pop("title")["text"].partition("<br>")
        dark["layout"].pop("title")
        top = light["layout"]["margin"]["t"]
        less = min(36 + 20 * bool(note), top - _BUTTONS)  # the page has title and note in HTML
        height = light["layout"].pop("height") - less
        dark["layout"].pop("height")
        for layout in (light["layout"], dark["layout"]):
            layout["margin"]["t"] = top - less
        self.data.append({"figure": light, "dark": list(_differences(light, dark))})
        note = note.partition(">")[2].removesuffix("</span>")
        caption = f"<strong>{title}</strong>{f' <span>{note}</span>' if note else ''}"
        return (
            f"<figure><figcaption>{caption}</figcaption>"
            f'<div class=plot data-figure={len(self.data) - 1} style="height:{height}px" role=img aria-label="'
            f'{safe(title)}"><noscript>This figure needs JavaScript.</noscript></div></figure>'
        )

    def script(self) -> str:
        """The figures as JSON that is safe inside a script element."""
        return json.dumps(self.data, separators=(",", ":")).replace("<", "\\u003c")


def _differences(a: Any, b: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any, Any]]:
    """(path, value in a, value in b) of every leaf that differs; both have the same structure."""
    if a == b:
        return
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from _differences(a[key], b[key], (*path, key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, (*path, index))
    else:
        yield path, a, b


def page(
    comparison: Comparison | None,
    before: Profile | None,
    after: Profile | None,
    model: Model | None,
    candidate: Model | None,
    title: str | None,
    extra: Sequence[tuple[str, str]],
) -> str:
    """The whole document."""
    drawn = Figures()
    parts = sections.Report(comparison, before, after, model, candidate, drawn)
    title = title or parts.title()
    body = [("headline", "", parts.headline())]
    body += [(f"extra-{i}", heading, html) for i, (heading, html) in enumerate(extra)]
    body += [(key, heading, html) for key, heading, html in parts.sections() if html]
    links = "".join(f'<li><a href="#{key}">{safe(heading)}</a>' for key, heading, _ in body if heading)
    content = "".join(
        f"<section id={key}>{f'<h2>{safe(heading)}</h2>' if heading else ''}{html}</section>"
        for key, heading, html in body
    )
    return _document(title, parts.subtitle(), links, content, drawn)


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _document(title: str, subtitle: str, links: str, content: str, drawn: Figures) -> str:
    from plotly.offline import get_plotlyjs

    scripts = [_asset("report.js")]
    if drawn.data:
        scripts.insert(0, get_plotlyjs())
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    # Only these scripts run and nothing is fetched, whatever a name in the page may hold. WebGL plots build functions.
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-eval' {hashes}"
    return (
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv=Content-Security-Policy content="{policy}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<meta name=generator content=Workbench><title>{safe(title)}</title>"
        f"<style>{_asset('report.css')}</style></head><body>"
        f"<header><h1>{safe(title)}</h1><p>{safe(subtitle)}</p>"
        "<button type=button id=theme hidden>Dark</button></header>"
        f"<nav aria-label=Contents><ul>{links}</ul></nav><main>{content}</main>"
        f"<footer>Made by Workbench on {time.strftime('%Y-%m-%d %H:%M')}. Times in ms, sizes in bytes.</footer>"
        f"<script type=application/json id=figures>{drawn.script()}</script>"
        f"{''.join(f'<script>{s}</script>' for s in scripts)}</body></html>\n"
    )
