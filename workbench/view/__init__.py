"""Model, Profile and Comparison as plain columns for the graph widget: pure functions, no drawing."""

from __future__ import annotations

from .columns import (
    ACTIVATION,
    INPUT,
    WEIGHT,
    Columns,
    attribute_text,
    columns,
    held,
    shape_text,
    shapes,
    unpack,
)
from .merged import kept, merged
from .overlay import Overlay, overlay

__all__ = [
    "ACTIVATION",
    "INPUT",
    "WEIGHT",
    "Columns",
    "Overlay",
    "attribute_text",
    "columns",
    "held",
    "kept",
    "merged",
    "overlay",
    "shape_text",
    "shapes",
    "unpack",
]
