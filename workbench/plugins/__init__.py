"""Custom operators: one declaration with a body in ONNX and a CUDA kernel (see `plugin`), and those that are built in.

fused = wb.plugins.gelu                         # built in
fused.compile()                                 # registers, spills, occupancy for each architecture; needs no GPU
m2 = m.replace(["Div_1", "Erf_2", ...], fused)  # a subgraph becomes a plugin node; its body keeps the model runnable
fused.check(); fused.bench()                    # on a GPU: kernel against body, and its speed
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builtin.bias_activation import bias_gelu, bias_relu, bias_silu
    from .builtin.gelu import gelu
    from .builtin.layer_norm import layer_norm
    from .builtin.masked_softmax import masked_softmax
    from .builtin.rms_norm import rms_norm
    from .builtin.silu_mul import silu_mul
    from .builtin.skip_layer_norm import skip_layer_norm
    from .declaration import Plugin, from_function
    from .declare import plugin

__all__ = [
    "Plugin", "bias_gelu", "bias_relu", "bias_silu", "from_function", "gelu", "layer_norm", "masked_softmax", "plugin",
    "rms_norm", "silu_mul", "skip_layer_norm",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Loaded when used: they need onnx."""
    if name not in __all__:
        raise AttributeError(f"module 'workbench.plugins' has no attribute {name!r}")
    if name in ("Plugin", "from_function", "plugin"):
        module = "declare" if name == "plugin" else "declaration"
        return getattr(importlib.import_module(f"workbench.plugins.{module}"), name)
    return importlib.import_module("workbench.plugins.builtin").named(name)


def __dir__() -> list[str]:
    return sorted(__all__)
