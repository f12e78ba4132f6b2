"""The types that onnx infers for a whole model, kept with its graph from loading on, because an edit needs them at
once. Python's own walk (walk.py) knows more, and takes twenty times as long."""

from __future__ import annotations

import onnx
import onnx_ir as ir

KEY = "workbench.inferred"
"""Key in ``onnx_ir.Model.meta``, which is not written anywhere."""
LARGEST = 1 << 26  # bytes of a proto that is inferred at once: an odd one may still hold its weights


def keep(model: ir.Model, proto: onnx.ModelProto) -> None:
    """Infer the model that was just read from a proto without weights."""
    if not proto.functions and proto.ByteSize() <= LARGEST:  # calls of calls can unfold without bound
        found = infer(proto.SerializeToString())
        if found is not None:
            model.meta[KEY] = found


def take(model: ir.Model) -> onnx.ModelProto | None:
    """What ``keep`` found, once; None when there is nothing."""
    found: onnx.ModelProto | None = model.meta.pop(KEY, None)
    return found


def infer(encoded: bytes) -> onnx.ModelProto | None:
    """A model with the types that onnx infers; None for an odd one, of which only what it declares is known."""
    try:
        return onnx.shape_inference.infer_shapes(encoded, data_prop=True)
    except Exception:
        return None
