"""A real model with plugin nodes: PP-OCRv6's text recognition, fused by the rules, its chains then given kernels."""

from __future__ import annotations

import workbench as wb
from tests import real_models
from workbench import plugins

SHAPES = {"x": (8, 3, 48, 320)}
KERNELS = {"GeluErf": plugins.gelu, "LayerNormalization": plugins.layer_norm, "SkipLayerNorm": plugins.skip_layer_norm}
"""What the fusions make of the chains -> what runs it on a GPU."""


def recognition() -> tuple[wb.Model, wb.Model]:
    """The model, and the same with 17 plugin nodes."""
    plain = wb.load(real_models.find("ppocr_rec")).convert_opset(18)
    plugged = plain.fuse(progress=False)
    for name, op_type in [(node.name, node.op_type) for node in plugged.ir.graph]:
        if op_type in KERNELS:
            plugged = plugged.replace(name, KERNELS[op_type])
    return plain, plugged
