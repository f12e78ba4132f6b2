"""TensorRT from a notebook: build, check, explore, run and compare engines.

    e = wb.tensorrt.build(m, shapes={"batch": (1, 8, 32)})
    wb.tensorrt.profile(e)                     # layer times per optimisation profile and shape, on a GPU
    e = wb.tensorrt.load("engine.graph.json")  # what trtexec wrote elsewhere: needs neither TensorRT nor a GPU
    e.layers; e.nodes; e.lint(); wb.tensorrt.diff(a, e)

Works with `tensorrt` (10 and 11) and `tensorrt_rtx`, whichever is installed. TensorRT-RTX parses and builds without a
GPU. The library runs in a process of its own.
"""

from __future__ import annotations

from . import cache
from .build import BuildResult
from .check import Check, check
from .diff import diff
from .engine import Engine, build, load
from .gpus import GPUS, gpu
from .log import Log
from .peaks import Gpu
from .profiles import OptimizationProfile
from .rules import Finding
from .run import Runs, profile

__all__ = [
    "GPUS",
    "BuildResult",
    "Check",
    "Engine",
    "Finding",
    "Gpu",
    "Log",
    "OptimizationProfile",
    "Runs",
    "build",
    "cache",
    "check",
    "diff",
    "gpu",
    "load",
    "profile",
]
