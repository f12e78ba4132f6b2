"""What a norm or a softmax computes along some axes, as exporters write it: reduced, and given its dims back.

A statistic keeps its dims (keepdims), or loses them and gets them back by a Reshape or an Unsqueeze; then it may be
spread by an Expand (JAX and TensorFlow write both).
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from .match import Match, Refusal, attribute, constant, dims_differ


def spread(op: Any, value: Any, name: str, shape: Any, size: Any) -> Any:
    """In a pattern: a statistic, given its dims back (named ``<name>_back``) and spread (``<name>_spread``)."""
    back = op.Reshape(value, shape, _optional=True, _or=("Unsqueeze",), _name=f"{name}_back")
    return op.Expand(back, size, _optional=True, _name=f"{name}_spread")


def axes(match: Match, node: ir.Node, name: str = "") -> list[int]:
    """The axes of a reduction; Refusal where they are not known, or the dims are lost and ``<name>_back`` does not give
    them back."""
    held = attribute(node, "axes", match.draft)
    if held is None and len(node.inputs) > 1:
        array = constant(node.inputs[1])
        held = None if array is None else array.ravel().tolist()
    if not held:
        raise Refusal("its axes are not known", node)
    found = [int(axis) for axis in held]
    if not attribute(node, "keepdims", match.draft):
        back, value = match.named.get(f"{name}_back"), node.inputs[0]
        if back is None or value is None:
            raise Refusal("keepdims is 0", node)
        before, after = match.shape(value), match.shape(back.outputs[0])
        if before is None or after is None or len(before) != len(after):
            raise Refusal(f"it gives the shape {after} to what is reduced from {before}", back)
        if any(after[axis] != 1 for axis in found):
            raise Refusal(f"it gives the shape {after}, expected 1 at the axes {found}", back)
    return found


def last_axes(match: Match, node: ir.Node, x: ir.Value, name: str = "") -> int:
    """How many axes a reduction takes, when they are the last ones; else Refusal."""
    found, shape = axes(match, node, name), match.shape(x)
    if found == [-1]:
        return 1
    if shape is None:
        raise Refusal(f"its axes are {found}, and the rank of {x.name!r} is not known", node)
    positive = sorted(axis % len(shape) for axis in found)
    if positive != list(range(len(shape) - len(positive), len(shape))):
        raise Refusal(f"its axes are {found} of {len(shape)}, expected the last ones", node)
    return len(positive)


def as_large(match: Match, x: ir.Value) -> None:
    """Refuse a match that makes something larger of a tensor, because a statistic is spread beyond it."""
    made, shape = match.shape(match.anchor.outputs[0]), match.shape(x)
    spreads = any(name.endswith("_spread") or name.endswith("_back") for name in match.named)
    if not spreads:
        return
    if made is None or shape is None or len(made) != len(shape) or any(map(dims_differ, made, shape)):
        raise Refusal(f"it makes the shape {made} of {shape}, expected the same")
