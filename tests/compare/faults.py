"""Faults to plant in a model: each changes one node of a copy, in a known way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import numpy_helper

Fault = Callable[[onnx.ModelProto, onnx.NodeProto], None]


def plant(model: onnx.ModelProto, *faults: tuple[str, Fault]) -> onnx.ModelProto:
    """A copy of the model with faults at the nodes that make the given tensors."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for output, fault in faults:
        (node,) = (node for node in changed.graph.node if output in node.output)
        fault(changed, node)
    return changed


def weight_of(model: onnx.ModelProto, node: onnx.NodeProto, position: int) -> np.ndarray:
    """The weight that a node reads, wherever it is held."""
    name = node.input[position]
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for other in model.graph.node:
        if name in other.output and other.op_type == "Constant":
            return numpy_helper.to_array(other.attribute[0].t)
    raise AssertionError(f"input {position} of {node.op_type} node {node.name!r} is no weight: {name}")


def new_weight(position: int, change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    """The node alone reads a changed weight (held as the old one was); others keep the old one."""

    def fault(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
        old = weight_of(model, node, position)
        value = np.ascontiguousarray(change(old.copy())).astype(old.dtype)
        assert not np.array_equal(old, value, equal_nan=True), "the fault changes nothing"
        held_by = [other for other in model.graph.node if node.input[position] in other.output]
        name = f"{node.input[position]}/planted"
        if held_by:
            constant = onnx.helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
            model.graph.node.insert(0, constant)
        else:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        node.input[position] = name

    return fault


def one_element(position: int = 1, factor: float = 3.0) -> Fault:
    """The weight's largest element is `factor` times as large."""

    def change(weight: np.ndarray) -> np.ndarray:
        weight.reshape(-1)[np.abs(weight).argmax()] *= factor
        return weight

    return new_weight(position, change)


def scaled(position: int, factor: float = 1.5) -> Fault:
    """The whole weight (a bias, say) is `factor` times as large."""
    return new_weight(position, lambda weight: weight * factor)


def transposed(position: int = 1) -> Fault:
    """The first two dims of a square weight are swapped."""

    def change(weight: np.ndarray) -> np.ndarray:
        axes = [1, 0, *range(2, weight.ndim)]
        assert weight.shape[0] == weight.shape[1], f"not square: {weight.shape}"
        return weight.transpose(axes)

    return new_weight(position, change)


def one_nan(position: int = 1) -> Fault:
    """One element of the weight is NaN."""

    def change(weight: np.ndarray) -> np.ndarray:
        weight.reshape(-1)[0] = np.nan
        return weight

    return new_weight(position, change)


def attribute(name: str, value: object) -> Fault:
    """An attribute has another value."""

    def fault(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
        old = [each for each in node.attribute if each.name == name]
        assert not old or onnx.helper.get_attribute_value(old[0]) != value, "the fault changes nothing"
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    return fault


def operator(op_type: str) -> Fault:
    """The node is another operator."""

    def fault(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
        node.op_type = op_type

    return fault


def swapped_inputs(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """The node's first two inputs are exchanged."""
    node.input[0], node.input[1] = node.input[1], node.input[0]
