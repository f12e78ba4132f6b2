"""What each operator does with its floats: compute, move or select values, or stay in float32.

By ONNX's own definitions: an operator can be computed in a type when the type constraints of its float inputs and
outputs, in the operator set of the model, allow that type. What they cannot say stands in the tables below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ..edits.draft import Draft
from ..edits.schema import find, schema_of
from ..edits.weights import data
from ..model.scopes import bodies

LOW = {"fp16": "float16", "bf16": "bfloat16", "float16": "float16", "bfloat16": "bfloat16"}
TINY = {"float16": 2.0**-14, "bfloat16": 2.0**-126}
"""The smallest normal number."""
FLOAT = onnx.TensorProto.FLOAT

MOVES = frozenset({
    "Abs", "Compress", "Concat", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements",
    "GatherND", "GlobalMaxPool", "Identity", "Max", "MaxPool", "Min", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu",
    "Reshape", "ReverseSequence", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu",
    "Unsqueeze", "Where",
})  # fmt: skip
"""Operators that give only values that they were given, or their negatives: of rounded values they make rounded
values, without an error of their own. They follow their neighbours."""

STAYS = {
    ("Resize", 1): "the region of interest is in coordinates, which fp16 cannot resolve",
}
"""(operator, input) that stays float32 beside data of another type."""
_OWN_TYPE = {("LayerNormalization", 1), ("LayerNormalization", 2)}  # statistics, whose type is stash_type
_TYPED = ("Cast", "ConstantOfShape")  # an attribute says what they make
_ANY_INPUT = ("Shape", "Size", "IsNaN", "IsInf")  # what they say does not depend on the type, or hardly
_TYPE_ATTRIBUTES = ("dtype", "output_dtype", "output_datatype")


@dataclass(frozen=True)
class Role:
    """How a node takes part.

    Attributes:
        kind: ``computes`` (in either type), ``moves`` (values as they are), ``stays`` (in float32), ``none`` (it
            reads any type, or no float32 at all).
        inputs: positions of the float32 inputs that change type with the node.
        outputs: positions of the float32 outputs that do.
        reason: for ``stays``, why.
        opset: for what stays because of the operator set, one from which on it could change; else 0.
    """

    kind: str
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    reason: str = ""
    opset: int = 0


def element(draft: Draft, value: ir.Value | None) -> int | None:
    """The element type of a tensor as ONNX numbers it; None when it is not known, 0 when it is no tensor."""
    kind = draft.types.of(value) if value is not None else None
    if kind is None or not kind.WhichOneof("value"):
        return None
    return int(kind.tensor_type.elem_type) if kind.HasField("tensor_type") else 0


def is_float(draft: Draft, value: ir.Value | None) -> bool:
    """Whether a tensor is known to be float32."""
    return value is not None and element(draft, value) == FLOAT


def role(draft: Draft, node: ir.Node, low: str) -> Role:
    """What a node is to a conversion to the dtype ``low``."""
    inputs = [i for i, value in enumerate(node.inputs) if is_float(draft, value)]
    outputs = [i for i, value in enumerate(node.outputs) if value.name and is_float(draft, value)]
    if any(True for _ in bodies(node)):
        why = "what enters and leaves its bodies is float32; the nodes in them are converted"
        return Role("stays", reason=why)
    if not inputs and not outputs:
        return Role("none")
    onnx_own = node.domain in ("", "ai.onnx")
    if onnx_own and (node.op_type in _ANY_INPUT or node.op_type == "Constant"):
        return Role("none")
    schema = schema_of(node, draft)
    if onnx_own and schema is not None and node.op_type in _TYPED:
        if not outputs:
            return Role("none")
        if _allowed(schema, schema.outputs, 0, low):
            same = inputs and node.op_type == "Cast"  # of a float32, a Cast to float32 makes nothing else
            return Role("moves", (0,), (0,)) if same else Role("computes", (), (0,))
        return Role("stays", reason=f"{node.op_type} of operator set {schema.since_version} makes no {low}")
    if schema is None:
        return Role("stays", reason="no definition of this operator says which types it takes")
    tensors = [value for value in (*node.inputs, *node.outputs) if value is not None and value.name]
    if any(element(draft, value) in (None, 0) for value in tensors):
        return Role("stays", reason="it has a tensor of unknown type, or a sequence")
    return _by_schema(draft, node, schema, inputs, outputs, low)


def _by_schema(
    draft: Draft,
    node: ir.Node,
    schema: onnx.defs.OpSchema,
    inputs: list[int],
    outputs: list[int],
    low: str,
) -> Role:
    changing = [
        i for i in inputs if _allowed(schema, schema.inputs, i, low) and (node.op_type, i) not in STAYS
    ]
    own = [i for i in outputs if (node.op_type, i) not in _OWN_TYPE]
    version = schema.since_version
    if not changing or not all(_allowed(schema, schema.outputs, i, low) for i in own):
        reason, newer = f"{node.op_type} of operator set {version} takes or makes no {low}", _newer(schema, low)
        if newer:
            reason += f", that of operator set {newer} does: convert_opset({newer})"
        return Role("stays", reason=reason, opset=newer)
    if own and any(name in node.attributes for name in _TYPE_ATTRIBUTES):
        return Role("stays", reason="an attribute sets the type that it makes")
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        scale = node.inputs[1]
        if scale is None or not _scale_fits(scale, low):
            return Role("stays", reason=f"its scale is not known to fit {low}")
    moved = node.op_type in MOVES and node.domain in ("", "ai.onnx")
    return Role("moves" if moved else "computes", tuple(changing), tuple(own))


def _allowed(schema: onnx.defs.OpSchema, formal: Sequence[Any], index: int, low: str) -> bool:
    """Whether the definition lets an input or output have a dtype."""
    name = formal[min(index, len(formal) - 1)].type_str
    return any(
        f"tensor({low})" in c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == name
    )


def _newer(schema: onnx.defs.OpSchema, low: str) -> int:
    """The first operator set after that of a definition with which the operator has a dtype; 0 if none has it."""
    newest = onnx.defs.onnx_opset_version() if schema.domain == "" else schema.since_version
    for version in range(schema.since_version + 1, newest + 1):
        later = find(schema.name, schema.domain, version)
        if later is not None and _allowed(later, later.inputs, 0, low) and _allowed(later, later.outputs, 0, low):
            return version
    return 0


def _scale_fits(scale: ir.Value, low: str) -> bool:
    if not is_weight(scale):
        return False
    array = np.abs(data(scale).numpy().astype(np.float64))
    return bool(array.size == 0 or (array.min() >= TINY[low] and array.max() <= largest(low)))


def largest(low: str) -> float:
    """The largest finite number of a dtype."""
    import ml_dtypes

    return float(ml_dtypes.finfo(low).max)


def is_weight(value: ir.Value) -> bool:
    """Whether a tensor is stored in the model and cannot be fed: an initializer, or what a Constant makes."""
    if value.is_graph_input():
        return False
    producer = value.producer()
    if value.const_value is not None and producer is None:
        return True
    return producer is not None and producer.op_type == "Constant" and producer.domain == ""
