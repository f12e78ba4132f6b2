"""Figures of comparisons and profiles: pure functions from their tables to plotly figures.

Every function takes ``theme="light"`` or ``"dark"`` (the page that the figure is for: its own background is
transparent). Where there is nothing to draw, the figure says so.
"""

from __future__ import annotations

from .changed import before_after
from .compared import blame, error_by_depth, worst_tensors
from .precision import precision_front
from .profiled import roofline, time_by_layer, treemap

__all__ = [
    "before_after",
    "blame",
    "error_by_depth",
    "precision_front",
    "roofline",
    "time_by_layer",
    "treemap",
    "worst_tensors",
]
