"""Workbench: see, change, compare and profile neural networks, layer by layer, in a notebook.

    import workbench as wb

    m = wb.load("model.onnx")                     # a Model; it shows itself as a summary card
    c = wb.compare(m, "changed.onnx")             # a Comparison: every tensor, local and propagated error
    p = wb.profile(m)                             # a Profile: time per executed layer, joined to nodes
    m.view(overlay=p)                             # its graph, to look at in a notebook cell

The names are loaded when first used, so that importing this package costs nothing and needs no runtime, GPU,
torch or TensorRT.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench import (
        backends,
        edits,
        errors,
        figures,
        fusions,
        inputs,
        plugins,
        precision,
        report,
        tensorrt,
    )
    from workbench.compare import Comparison, compare
    from workbench.diff import diff
    from workbench.edits import replay
    from workbench.model import Model, load
    from workbench.plugins import plugin
    from workbench.profile import Profile, profile, profile_diff
    from workbench.widgets import GraphView

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "GraphView",
    "Model",
    "Profile",
    "__version__",
    "backends",
    "compare",
    "diff",
    "edits",
    "errors",
    "figures",
    "fusions",
    "inputs",
    "load",
    "plugin",
    "plugins",
    "precision",
    "profile",
    "profile_diff",
    "replay",
    "report",
    "tensorrt",
]

# public name -> module that defines it
_NAMES = {
    "GraphView": "workbench.widgets",
    "Model": "workbench.model",
    "load": "workbench.model",
    "Comparison": "workbench.compare",
    "compare": "workbench.compare",
    "plugin": "workbench.plugins",
    "load_ipython_extension": "workbench.plugins.magic",
    "Profile": "workbench.profile",
    "diff": "workbench.diff",
    "replay": "workbench.edits",
    "profile": "workbench.profile",
    "profile_diff": "workbench.profile",
}
_MODULES = (
    "backends",
    "edits",
    "errors",
    "figures",
    "fusions",
    "inputs",
    "plugins",
    "precision",
    "report",
    "tensorrt",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"workbench.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps ``workbench.compare`` the function where importing the module of that name would put that."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _NAMES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
