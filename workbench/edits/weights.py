"""Weights: other values, another dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from ..errors import EditError
from ..model.info import DTYPES
from . import place
from .base import Edit
from .content import Content, of_array
from .draft import Draft
from .tensortypes import make


@dataclass(frozen=True)
class ReplaceWeight(Edit):
    """Replace a weight (an initializer, or what a Constant node makes).

    Args:
        tensor: its key.
        value: an array, or the path of a .npy file, which is read now. Its dtype and shape are the weight's from now
            on; the nodes that read it must take them.
    """

    method: ClassVar[str] = "replace_weight"
    tensor: str
    value: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", of_array(self.value, f"cannot replace weight {self.tensor!r}"))

    def change(self, draft: Draft) -> None:
        content: Content = self.value
        if not content.data:
            raise EditError(
                f"cannot replace weight {self.tensor!r}: the array {content.file_name} is not in the history, which "
                "keeps only small ones; replay a script that history.to_python wrote"
            )
        set_weight(draft, weight(draft, self.tensor), content.tensor(draft.value(self.tensor).name))


@dataclass(frozen=True)
class SetWeightDtype(Edit):
    """Convert a weight to another dtype.

    Args:
        tensor: its key.
        dtype: as in ``Model.tensors``: ``float16``, ``bfloat16``, ``int8``, ...
        cast: keep the nodes that read it as they are, by a Cast back to the old dtype.
    """

    method: ClassVar[str] = "set_weight_dtype"
    tensor: str
    dtype: str
    cast: bool = False

    def change(self, draft: Draft) -> None:
        value = weight(draft, self.tensor)
        old = data(value)
        number = make(self.dtype, ()).tensor_type.elem_type
        if ir.DataType.STRING in (old.dtype, ir.DataType(number)):
            raise EditError(
                f"cannot convert weight {self.tensor!r}: got {DTYPES[old.dtype.value]} to {self.dtype}, "
                "expected numbers"
            )
        with np.errstate(all="ignore"):
            array = old.numpy().astype(ir.DataType(number).numpy())
        readers = list(value.uses())
        set_weight(draft, value, ir.Tensor(array, ir.DataType(number), name=value.name))
        if not self.cast:
            return
        graph = draft.graph_of_value(value)
        attribute = ir.AttrInt64("to", old.dtype.value)
        node = draft.create("", "Cast", [value], [attribute], draft.free_node(f"Cast_{value.name}"))
        node.outputs[0].name = draft.free(graph, f"{value.name}_cast")
        draft.insert(graph, [node], place.following(draft, graph, [value]))
        draft.redirect(value, node.outputs[0], [(user, index) for user, index in readers])


def weight(draft: Draft, key: str) -> ir.Value:
    """A tensor that is a weight; EditError when it is none."""
    value = draft.value(key)
    if value.const_value is None and _attribute(value) is None:
        producer = value.producer()
        made = f"it is made by node {producer.name!r} ({producer.op_type})" if producer else "it is an input"
        raise EditError(
            f"tensor {key!r} is no weight: {made}; expected an initializer or the output of a Constant"
        )
    return value


def data(value: ir.Value) -> ir.TensorProtocol:
    """The data of a weight."""
    if value.const_value is not None:
        return value.const_value
    attribute = _attribute(value)
    assert attribute is not None
    if attribute.type == ir.AttributeType.TENSOR:
        tensor: ir.TensorProtocol = attribute.value
        return tensor
    kinds = {"FLOAT": np.float32, "INT": np.int64, "STRING": np.str_}
    return ir.tensor(np.array(attribute.value, kinds[attribute.type.name.rstrip("S")]))


def _attribute(value: ir.Value) -> ir.Attr | None:
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain != "":
        return None
    found = next(iter(node.attributes.values()), None)
    return None if found is None or found.is_ref() else found


def set_weight(draft: Draft, value: ir.Value, tensor: ir.TensorProtocol) -> None:
    """Replace the data of a weight."""
    if value.const_value is not None:
        draft.set_weight(value, tensor)
        return
    node = value.producer()
    assert node is not None
    for name in list(node.attributes):
        draft.set_attribute(node, name, None)
    draft.set_attribute(node, "value", ir.AttrTensor("value", tensor))
    draft.touch_readers(value, tensor)
