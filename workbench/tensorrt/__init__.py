"""TensorRT engines from a notebook.

e = wb.tensorrt.load("engine.graph.json")  # an engine from the files that trtexec writes: no GPU needed
e.layers; e.nodes; e.lint(); wb.tensorrt.diff(a, e)
"""

from __future__ import annotations

from .diff import diff
from .engine import Engine
from .peaks import GPUS, Gpu, gpu

load = Engine.load

__all__ = ["GPUS", "Engine", "Gpu", "diff", "gpu", "load"]
