"""The plugins that come with Workbench, one file each; every one is a model of how to write one.

All take float32 and float16 (bfloat16 too where noted), any size, and compute in float32.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..declaration import Plugin

PLUGINS = {
    "gelu": "gelu",
    "silu_mul": "silu_mul",
    "layer_norm": "layer_norm",
    "rms_norm": "rms_norm",
    "skip_layer_norm": "skip_layer_norm",
    "masked_softmax": "masked_softmax",
    "bias_gelu": "bias_activation",
    "bias_relu": "bias_activation",
    "bias_silu": "bias_activation",
}
"""Name in ``wb.plugins`` -> file."""


@lru_cache(maxsize=1)
def all_plugins() -> tuple[Plugin, ...]:
    """Every one of them."""
    return tuple(named(name) for name in PLUGINS)


def named(name: str) -> Plugin:
    """The one of that name in ``wb.plugins``."""
    found: Plugin = getattr(importlib.import_module(f"{__name__}.{PLUGINS[name]}"), name)
    return found
