"""What a graph does with each of its inputs: indexes a table, compares with a constant, masks, ...

An input is followed forward through the operators that only move or cast its elements (also into and out of
the bodies of If, Loop and Scan) until an operator that tells what its values must be like.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np
import onnx
from onnx import numpy_helper

# operator -> the inputs whose elements it hands on as they are
_MOVES: dict[str, tuple[int, ...]] = {
    "Cast": (0,),
    "CastLike": (0,),
    "Clip": (0,),
    "Dropout": (0,),
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "Identity": (0,),
    "Pad": (0,),
    "Reshape": (0,),
    "Slice": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
    "Where": (1, 2),
}
_LOGIC = frozenset({"And", "Or", "Not", "Xor"})
_STEPS = 400  # tensors followed per input: more than real models need, a bound for hostile ones


@dataclass
class Uses:
    """What was found for one input.

    Attributes:
        tables: (tensor, axis, offset): the input plus ``offset`` indexes ``axis`` (None: any) of the tensor.
        depths: tensors that hold a number of classes (OneHot).
        choices: constants that the input is compared with for equality.
        below, above: constants that it is compared with by Less or Greater.
        lengths: (tensor, axis): the input counts steps along that axis.
        mask: it switches elements on and off.
        positive: it goes into a logarithm or a root.
        counts: it is the number of turns of a Loop.
        sizes: dims of the constants that it meets: sizes that its own unknown dims may have to have.
    """

    tables: list[tuple[str, int | None, int]] = field(default_factory=list)
    depths: list[str] = field(default_factory=list)
    choices: list[np.ndarray] = field(default_factory=list)
    below: list[float] = field(default_factory=list)
    above: list[float] = field(default_factory=list)
    lengths: list[tuple[str, int]] = field(default_factory=list)
    mask: bool = False
    positive: bool = False
    counts: bool = False
    sizes: set[int] = field(default_factory=set)


class Tracer:
    """Follows the inputs of one graph; model-local functions must have been inlined."""

    def __init__(self, graph: onnx.GraphProto):
        self.constants: dict[str, onnx.TensorProto] = {}
        self._readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        self._leaves: dict[str, list[str]] = defaultdict(list)  # a body's output -> what it becomes outside
        for inner in _graphs(graph):
            self.constants.update({tensor.name: tensor for tensor in inner.initializer})
            for node in inner.node:
                self._note(node)

    def _note(self, node: onnx.NodeProto) -> None:
        for position, name in enumerate(node.input):
            if name:
                self._readers[name].append((node, position))
        for attribute in node.attribute:
            if attribute.type == attribute.GRAPH:
                outside = node.output if node.op_type == "If" else ["", *node.output]
                for inner, outer in zip(attribute.g.output, outside, strict=False):
                    self._leaves[inner.name].append(outer)
            elif node.op_type == "Constant" and attribute.name == "value":
                self.constants[node.output[0]] = attribute.t

    def value(self, name: str) -> np.ndarray | None:
        """The value of a small constant, else None."""
        tensor = self.constants.get(name)
        if (
            tensor is None
            or tensor.data_location == onnx.TensorProto.EXTERNAL
            or math.prod(tensor.dims) > 1 << 16
        ):
            return None
        return numpy_helper.to_array(tensor)

    def follow(self, name: str) -> Uses:
        """What the graph does with input ``name``."""
        uses = Uses()
        waiting, seen = [(name, 0)], {name}
        while waiting and len(seen) < _STEPS:
            tensor, offset = waiting.pop(0)
            onward = [(outer, offset) for outer in self._leaves[tensor]]
            for node, position in self._readers[tensor]:
                onward += self._meet(uses, node, position, offset)
            for step in onward:
                if step[0] and step[0] not in seen:
                    seen.add(step[0])
                    waiting.append(step)
        return uses

    def _meet(self, uses: Uses, node: onnx.NodeProto, position: int, offset: int) -> list[tuple[str, int]]:
        """Note what ``node`` asks of its input number ``position``; the tensors to follow from there."""
        op = node.op_type
        others = [self.value(n) for i, n in enumerate(node.input) if i != position]
        constant = others[0] if len(others) == 1 else None
        uses.sizes |= self._sizes(node, position)
        self._note_index(uses, node, position, offset)
        if (
            op in _LOGIC
            or (op == "Where" and position == 0)
            or (op == "Cast" and any(a.i == onnx.TensorProto.BOOL for a in node.attribute if a.name == "to"))
        ):
            uses.mask = True
        elif op in ("Log", "Sqrt"):
            uses.positive = True
        elif op == "Equal" and constant is not None:
            uses.choices.append(constant.reshape(-1))
        elif (
            op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
            and constant is not None
            and constant.size == 1
        ):
            smaller = op.startswith("Less") == (position == 0)
            (uses.below if smaller else uses.above).append(float(constant.reshape(-1)[0]) - offset)
        elif (op == "Mul" and constant is None) or (op == "Sub" and position == 1 and _is_one(constant)):
            uses.mask = True  # activation * mask, 1 - mask
        elif (op == "Add" or (op == "Sub" and position == 0)) and _is_whole(constant):
            shift = int(constant.reshape(-1)[0])
            return [(node.output[0], offset + (shift if op == "Add" else -shift))]
        return self._onward(uses, node, position, offset)

    def _onward(self, uses: Uses, node: onnx.NodeProto, position: int, offset: int) -> list[tuple[str, int]]:
        if node.op_type == "Concat" or position in _MOVES.get(node.op_type, ()) or node.op_type in _LOGIC:
            return [(name, offset) for name in node.output]
        body = next((a.g for a in node.attribute if a.name == "body"), None)
        if node.op_type == "Loop" and body is not None:
            uses.counts = uses.counts or position == 0
            return [(body.input[position].name, offset)] if position >= 2 else []
        if node.op_type == "Scan" and body is not None and position < len(body.input):
            return [(body.input[position].name, offset)]
        return []

    def _note_index(self, uses: Uses, node: onnx.NodeProto, position: int, offset: int) -> None:
        op, inputs = node.op_type, [*node.input, "", "", "", ""]  # a broken node may lack some
        whole = {attribute.name: attribute.i for attribute in node.attribute}
        axis = whole.get("axis", 0)
        if op in ("Gather", "GatherElements", "ScatterElements", "Scatter") and position == 1:
            uses.tables.append((inputs[0], axis, offset))
        elif op in ("GatherND", "ScatterND") and position == 1:
            uses.tables.append((inputs[0], None, offset))
        elif op == "OneHot" and position == 0:
            uses.depths.append(inputs[1])
        elif op == "EmbedLayerNormalization" and position in (0, 1):  # com.microsoft
            uses.tables.append((inputs[2 if position == 0 else 4], 0, offset))
        elif op == "EmbedLayerNormalization" and position == 7:
            uses.mask = True
        elif op in ("LSTM", "GRU", "RNN") and position == 4:
            uses.lengths.append((inputs[0], 1 if whole.get("layout") else 0))
        elif op == "ReverseSequence" and position == 1:
            uses.lengths.append((inputs[0], whole.get("time_axis", 0)))

    def _sizes(self, node: onnx.NodeProto, position: int) -> set[int]:
        sizes: set[int] = set()
        for other, name in enumerate(node.input):
            tensor = self.constants.get(name)
            if other == position or tensor is None:
                continue
            sizes |= set(tensor.dims)
            if node.op_type == "Reshape":
                target = [int(dim) for dim in _flat(self.value(name)) if dim > 0]
                sizes |= {*target, math.prod(target)}
            elif node.op_type == "Conv" and other == 1 and len(tensor.dims) > 1:
                sizes.add(tensor.dims[1] * next((a.i for a in node.attribute if a.name == "group"), 1))
        return {size for size in sizes if size > 1}


def _flat(constant: np.ndarray | None) -> Iterable[int]:
    return () if constant is None else constant.reshape(-1)


def _is_whole(constant: np.ndarray | None) -> TypeGuard[np.ndarray]:
    return constant is not None and constant.size == 1 and constant.dtype.kind in "iu"


def _is_one(constant: np.ndarray | None) -> bool:
    return constant is not None and constant.size == 1 and constant.reshape(-1)[0] == 1


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all the graphs inside its nodes."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.type == attribute.GRAPH else attribute.graphs
