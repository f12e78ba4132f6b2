"""Model: load, save, inspect."""

from __future__ import annotations

from .core import Model, load
from .info import TensorInfo

__all__ = ["Model", "TensorInfo", "load"]
