"""Tables of a report: rows of plain values to HTML. Every value is escaped here; end tags that HTML does not need are
left out, for a report may have thousands of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ..figures.style import printable

ROWS = 4000  # of one table; a browser stays quick
_WIDE = 36  # characters; longer text is broken into lines


def table(caption: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> str:
    """A table that can be sorted by its columns.

    Args:
        columns: (title, what it means), the latter shown when pointing at it.
        rows: values; numbers are shown with three digits and aligned right, None and NaN as an empty cell.
    """
    numeric = [any(isinstance(row[i], (int, float)) for row in rows) for i in range(len(columns))]
    heads = "".join(
        f'<th scope=col{" class=n" if number else ""} title="{safe(meaning)}">'
        f"<button type=button>{safe(title)}</button>"
        for (title, meaning), number in zip(columns, numeric, strict=True)
    )
    more = f" The first {ROWS:,} of {len(rows):,} rows." if len(rows) > ROWS else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}" for row in rows[:ROWS])
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{safe(caption)}"><table class=sortable>'
        f"<caption>{safe(caption)}{more}</caption><thead><tr>{heads}<tbody>{body}</table></div>"
    )


def pairs(caption: str, rows: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """A table of two columns: what, value."""
    items = rows.items() if isinstance(rows, Mapping) else rows
    body = "".join(f"<tr><th scope=row>{safe(str(name))}{_cell(shown(value))}" for name, value in items)
    return f"<table class=pairs><caption>{safe(caption)}</caption><tbody>{body}</table>"


def safe(value: object) -> str:
    """Text for HTML, also for the value of an attribute; control characters are spelled out."""
    return escape(printable(value))


def shown(value: Any) -> str:
    """A value as text."""
    if value is None:
        return ""
    if isinstance(value, float):
        if not math.isfinite(value):
            return "" if math.isnan(value) else "∞" if value > 0 else "-∞"
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {shown(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return str(value)


def _cell(value: Any) -> str:
    text = shown(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    kind = " class=n" if number else " class=w" if len(text) > _WIDE else ""
    return f"<td{kind}>{safe(text)}"
