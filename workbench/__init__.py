"""Workbench: see, change, compare and profile neural networks, layer by layer, in a notebook."""

from __future__ import annotations

__version__ = "0.1.0"
