"""TensorRT and TensorRT-RTX: what runs inside the worker process, which holds one of the two.

They are one API under two names. The process imports the one that is asked for, or that is installed, and lets
``import tensorrt`` give it, so that the files of this package (the sole importers of TensorRT) are checked against
TensorRT's type stubs. `building` parses and builds, which needs no GPU with TensorRT-RTX; `running` needs one.

Precision is what the model says: networks are strongly typed; only TF32 can be turned off.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import gpu

LIBRARIES = ("tensorrt", "tensorrt_rtx")


class Runtime:
    """TensorRT for the worker.

    Args:
        library: ``tensorrt`` or ``tensorrt_rtx``; None: the first that is installed.
    """

    def __init__(self, library: str | None = None) -> None:
        self.library = find(library)
        os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = str(int(self.library == "tensorrt_rtx"))
        self.trt = sys.modules["tensorrt"] = importlib.import_module(self.library)
        self.version: str = self.trt.__version__
        from .log import install

        self.log = install()

    def about(self) -> dict[str, Any]:
        """The library, its version and the GPUs that it can reach."""
        return {"library": self.library, "version": self.version, "gpus": gpu.devices()}

    def parse(self, model: bytes, events: str = "") -> dict[str, Any]:
        """See `building.parse`."""
        from . import building

        with self.log.to(events):
            return building.described(model)

    def support(self, model: bytes, events: str = "") -> dict[str, Any]:
        """See `building.support`."""
        from . import building

        with self.log.to(events):
            return building.support(model)

    def inspect(self, plan: bytes, events: str = "") -> str | None:
        """See `building.inspect`."""
        from . import building

        with self.log.to(events):
            return building.inspect(plan)

    def build(self, model: bytes, settings: Mapping[str, Any], events: str = "") -> dict[str, Any]:
        """See `building.build`."""
        from . import building

        with self.log.to(events):
            return building.build(model, settings, self.log)

    def load(self, model: bytes) -> Any:
        """An engine (a serialised plan), ready to run. See `running.Engine`."""
        from . import running

        return running.Engine(model)

    def describe(self, loaded: Any) -> dict[str, Any]:
        """Inputs and outputs of a loaded engine: (name, dtype, shape), -1 for a dynamic dim."""
        return loaded.describe()

    def run(
        self,
        loaded: Any,
        feeds: dict[str, np.ndarray],
        outputs: list[str] | None,
        place: Any,
        expected: dict[str, tuple[int, ...]] | None = None,
    ) -> dict[str, np.ndarray]:
        """One run; the engine's outputs as arrays."""
        results = loaded.run(feeds)
        return {name: results[name] for name in (outputs or results)}

    def profile(self, loaded: Any, feeds: dict[str, np.ndarray], **options: Any) -> Any:
        """See `running.Engine.work`."""
        return loaded.work(feeds, **options)


def find(library: str | None) -> str:
    """The library to use. A namespace without a Builder (the stubs for type checkers) does not count as TensorRT."""
    found = []
    for name in LIBRARIES if library is None else (library,):
        try:
            if hasattr(importlib.import_module(name), "Builder"):
                return name
            found.append(f"{name} has no Builder")
        except ImportError as error:
            found.append(str(error))
    raise ImportError(f"{'; '.join(found)}. TensorRT-RTX: pip install trt-workbench[tensorrt-rtx]. TensorRT")
