"""Text for a terminal: tables fitted to its width, wrapped sentences, colour where it is wanted."""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from ..figures.style import printable, short

_LEAST = 8  # characters that a shortened column keeps
_READABLE = 22  # characters of a name that a column is left out for
_GAP = "  "


def width(stream: TextIO | None = None) -> int | None:
    """Columns of the terminal; None where the output is not one: then nothing is shortened."""
    stream = stream or sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def wrap(sentence: str) -> str:
    """A sentence in lines of the terminal's width, at most 100 characters; control characters are spelled out."""
    return textwrap.fill(
        printable(sentence),
        min(width() or 100, 100),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def colour(text: str, name: str, stream: TextIO | None = None) -> str:
    """Text in bold `green` or `red`, or as it is where the output is no terminal or NO_COLOR is set."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[1;{ {'green': 32, 'red': 31}[name] }m{text}\033[0m"


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[Any]],
    columns: int | None = None,
    spare: Sequence[str] = (),
) -> str:
    """A table of text (left) and numbers (right), made to fit `columns`.

    Titles in `spare` are left out one after the other while names would be shortened too much; then text columns are
    shortened in their middle.
    """
    numeric = [any(isinstance(row[i], (int, float)) for row in rows) for i in range(len(titles))]
    cells = [[value(cell) for cell in row] for row in rows]
    sizes = [max(len(title), *(len(row[i]) for row in cells), 0) for i, title in enumerate(titles)]
    kept = list(range(len(titles)))
    if columns:
        for title in (title for title in spare if title in titles):
            wanted = sum(sizes[i] if numeric[i] else min(sizes[i], _READABLE) for i in kept)
            if wanted + len(_GAP) * (len(kept) - 1) > columns:
                kept.remove(titles.index(title))
        _fit(sizes, [i for i in kept if not numeric[i]], kept, columns - len(_GAP) * (len(kept) - 1))
    lines = [
        _GAP.join(
            short(row[i], sizes[i]).rjust(sizes[i]) if numeric[i] else short(row[i], sizes[i]).ljust(sizes[i])
            for i in kept
        ).rstrip()
        for row in [list(titles), *cells]
    ]
    return "\n".join(lines)


def _fit(sizes: list[int], flexible: list[int], kept: list[int], columns: int) -> None:
    """Take from the widest text column until all fit, or none has more than the least."""
    while sum(sizes[i] for i in kept) > columns:
        widest = max(flexible, key=lambda i: sizes[i], default=None)
        if widest is None or sizes[widest] <= _LEAST:
            return
        sizes[widest] -= 1


def value(cell: Any) -> str:
    """A value as text: three digits, `-` for what is not known; control characters of names are spelled out."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3g}"
    if isinstance(cell, tuple):
        return ", ".join(map(value, cell))
    return printable(cell)
