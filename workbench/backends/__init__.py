"""Runtimes, each in a process of its own and each behind one interface.

`Worker` and `Session` are the interface that the library itself uses, `Runner` is the same as a Polygraphy runner.
"""

from __future__ import annotations

from typing import Any

from .process import Session, Worker, free, view

BACKENDS = ("onnxruntime",)

__all__ = ["BACKENDS", "Runner", "Session", "Worker", "free", "view"]


def __getattr__(name: str) -> Any:
    if name == "Runner":  # Polygraphy is imported only by those who use its interface
        from .runner import Runner

        return Runner
    raise AttributeError(name)
