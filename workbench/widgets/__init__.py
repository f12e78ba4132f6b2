"""Widgets: models in notebook cells."""

from __future__ import annotations

from .graph import GraphView

__all__ = ["GraphView"]
