"""Runtimes, each in a process of its own and each behind one interface.

`Worker` and `Session` are the interface that the library itself uses, `Runner` is the same as a Polygraphy runner.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .process import Session, Worker, free, view
    from .runner import Runner

BACKENDS = ("onnxruntime", "cuda")

__all__ = ["BACKENDS", "Runner", "Session", "Worker", "free", "view"]


def __getattr__(name: str) -> Any:
    """Imported when used: the worker process needs none of these, and only Runner needs Polygraphy."""
    if name not in __all__:
        raise AttributeError(f"module 'workbench.backends' has no attribute {name!r}")
    return getattr(
        importlib.import_module("workbench.backends." + ("runner" if name == "Runner" else "process")), name
    )
