"""TensorRT from a notebook: build, check, run and compare engines.

    wb.tensorrt.check(m)                       # what TensorRT would refuse or be slow with, each with a fix
    e = wb.tensorrt.build(m, shapes={"batch": (1, 8, 32)})

Works with `tensorrt` (10 and 11) and `tensorrt_rtx`, whichever is installed. TensorRT-RTX parses and builds without a
GPU. The library runs in a process of its own.
"""

from __future__ import annotations

from .build import BuildResult, build
from .log import Log
from .profiles import OptimizationProfile

__all__ = ["BuildResult", "Log", "OptimizationProfile", "build"]
