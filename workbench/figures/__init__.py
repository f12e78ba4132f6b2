"""Figures of comparisons, profiles and engines: pure functions from their tables to plotly figures.

Every function takes ``theme="light"`` or ``"dark"``. A figure brings its page, so that it can be read in a notebook of
the other theme too. Where there is nothing to draw, the figure says so.
"""

from __future__ import annotations

from .asked import asked_precision
from .changed import before_after
from .compared import blame, error_by_depth, worst_tensors
from .engine import findings, footprint, precision_sunburst, product_sizes, time_by_precision, timeline
from .engines import engine_changes, engine_times
from .kernels import kernel_roofline
from .precision import precision_front
from .profiled import roofline, time_by_layer, treemap

__all__ = [
    "asked_precision",
    "before_after",
    "blame",
    "engine_changes",
    "engine_times",
    "error_by_depth",
    "findings",
    "footprint",
    "precision_front",
    "precision_sunburst",
    "product_sizes",
    "kernel_roofline",
    "roofline",
    "time_by_layer",
    "time_by_precision",
    "timeline",
    "treemap",
    "worst_tensors",
]
