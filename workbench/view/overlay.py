"""What colours the nodes of a graph: a Profile's times, a Comparison's errors, any mapping to numbers or words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NotInModelError
from .columns import Columns

if TYPE_CHECKING:
    from ..compare import Comparison
    from ..profile import Profile


@dataclass(frozen=True)
class Overlay:
    """One number per node of the columns (NaN: none) to colour them by.

    Attributes:
        scale: ``linear`` or ``log``, larger is worse (or more) in both; or ``category``: a value is a place in
            ``categories``.
        note: what could not be joined to a node, or ``''``.
        categories: name, colour (``#rrggbb``, or ``''`` to have one chosen) and a sign that stands before a label.
        texts: more words on some of the nodes, by their number.
    """

    title: str
    unit: str
    values: np.ndarray
    scale: str = "linear"
    note: str = ""
    categories: tuple[tuple[str, str, str], ...] = ()
    texts: Mapping[int, str] = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        """All but the numbers."""
        found: dict[str, Any] = {
            "title": self.title, "unit": self.unit, "scale": self.scale, "note": self.note
        }  # fmt: skip
        if self.scale == "category":
            found["categories"] = [list(row) for row in self.categories]
            found["texts"] = {str(index): text for index, text in self.texts.items()}
        return found

    def moved(self, rows: np.ndarray) -> Overlay:
        """The same for other columns: ``rows`` has for each of their nodes its number in these, -1 for none."""
        texts = {now: self.texts[was] for now, was in enumerate(rows.tolist()) if was in self.texts}
        return replace(self, values=np.append(self.values, np.nan)[rows], texts=texts)


def overlay(made: Columns, source: Profile | Comparison | Mapping[str, Any], local: bool = False) -> Overlay:
    """Numbers from a Profile (ms; a layer's time goes to its nodes in equal parts), a Comparison (relative
    error of a node's outputs: noise over signal, 0 exact), or a mapping of node names to numbers or to words
    (also a pandas Series); each word gets a colour of its own.

    Raises:
        NotInModelError: the mapping names what the model does not have.
    """
    if hasattr(source, "latency_ms"):
        return _time(made, source)  # type: ignore[arg-type]
    if hasattr(source, "first_divergence"):
        return _error(made, source, local)  # type: ignore[arg-type]
    numbers: dict[str, Any] = dict(source.items())
    at = {name: index for index, name in enumerate(made.header["nodes"])}
    unknown = [str(name) for name in numbers if name not in at]
    if unknown:
        raise NotInModelError(
            f"cannot colour {made.header['name']!r}: {len(unknown)} names are not nodes of it, first {unknown[0]!r}; "
            "name nodes as Model.nodes does"
        )
    values = np.full(len(at), np.nan)
    title = str(getattr(source, "name", None) or "value")
    words = list(dict.fromkeys(word for word in numbers.values() if isinstance(word, str)))
    for name, number in numbers.items():
        values[at[name]] = words.index(str(number)) if words else number
    if words:
        return Overlay(title, "", values, "category", categories=tuple((word, "", "") for word in words))
    return Overlay(title, "", values)


def _time(made: Columns, profile: Profile) -> Overlay:
    at = {name: index for index, name in enumerate(made.header["nodes"])}
    values = np.full(len(at), np.nan)
    lost = 0.0
    for names, ms in zip(profile.table["nodes"], profile.table["ms"], strict=True):
        known = [at[name] for name in names if name in at]
        lost += 0.0 if known else float(ms)
        for index in known:
            values[index] = np.nan_to_num(values[index]) + float(ms) / len(known)
    values[values == 0] = np.nan  # which is no time to be seen, not the least of them
    note = f"{lost:.3g} ms belong to no node shown" if lost else ""
    return Overlay("time", "ms", values, "log", note)


def _error(made: Columns, comparison: Comparison, local: bool) -> Overlay:
    table = comparison.table
    column = "local_snr_db" if local else "snr_db"
    if column not in table.columns:
        raise NotInModelError(
            f"cannot colour by local error: the comparison has no {column!r}; compare with local=True"
        )
    at = {name: index for index, name in enumerate(made.header["nodes"])}
    values = np.full(len(at), np.nan)
    lost = 0
    for node, snr in zip(table["node"], table[column].astype(float), strict=True):
        index = at.get(node)
        lost += index is None or bool(np.isnan(snr))
        if index is not None and not np.isnan(snr):
            values[index] = np.fmax(values[index], 10.0 ** (-snr / 20))
    note = f"{lost} tensors are not compared or belong to no node" if lost else ""
    return Overlay("local error" if local else "error", "noise/signal", values, "log", note)
