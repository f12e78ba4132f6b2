"""Numbers that colour the nodes of a graph: a Profile's times, a Comparison's errors, or any mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        scale: ``linear`` or ``log``; larger is worse (or more) in both.
        note: what could not be joined to a node, or ``''``.
    """

    title: str
    unit: str
    values: np.ndarray
    scale: str = "linear"
    note: str = ""

    def header(self) -> dict[str, str]:
        """All but the numbers."""
        return {"title": self.title, "unit": self.unit, "scale": self.scale, "note": self.note}


def overlay(
    made: Columns, source: Profile | Comparison | Mapping[str, float], local: bool = False
) -> Overlay:
    """Numbers from a Profile (ms; a layer's time goes to its nodes in equal parts), a Comparison (relative
    error of a node's outputs: noise over signal, 0 exact), or a mapping of node names (also a pandas Series).

    Raises:
        NotInModelError: the mapping names what the model does not have.
    """
    if hasattr(source, "latency_ms"):
        return _time(made, source)  # type: ignore[arg-type]
    if hasattr(source, "first_divergence"):
        return _error(made, source, local)  # type: ignore[arg-type]
    numbers = dict(source.items())
    at = {name: index for index, name in enumerate(made.header["nodes"])}
    unknown = [str(name) for name in numbers if name not in at]
    if unknown:
        raise NotInModelError(
            f"cannot colour {made.header['name']!r}: {len(unknown)} names are not nodes of it, first {unknown[0]!r}; "
            "name nodes as Model.nodes does"
        )
    values = np.full(len(at), np.nan)
    for name, number in numbers.items():
        values[at[name]] = number
    return Overlay(str(getattr(source, "name", None) or "value"), "", values)


def _time(made: Columns, profile: Profile) -> Overlay:
    at = {name: index for index, name in enumerate(made.header["nodes"])}
    values = np.full(len(at), np.nan)
    lost = 0.0
    for names, ms in zip(profile.table["nodes"], profile.table["ms"], strict=True):
        known = [at[name] for name in names if name in at]
        lost += 0.0 if known else float(ms)
        for index in known:
            values[index] = np.nan_to_num(values[index]) + float(ms) / len(known)
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
