"""Model, Profile and Comparison as plain columns for the graph widget: pure functions, no drawing."""

from __future__ import annotations

from .build import ACTIVATION, INPUT, WEIGHT, attribute_text, module_path, shape_text
from .columns import Columns, columns, inferred, shapes, unpack
from .merged import kept, merged
from .overlay import Overlay, overlay
from .patch import patch, patched

__all__ = [
    "ACTIVATION",
    "INPUT",
    "WEIGHT",
    "Columns",
    "Overlay",
    "attribute_text",
    "columns",
    "inferred",
    "kept",
    "merged",
    "module_path",
    "overlay",
    "patch",
    "patched",
    "shape_text",
    "shapes",
    "unpack",
]
