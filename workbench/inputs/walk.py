"""Walk a graph with concrete input shapes: the shapes of its tensors, and the node that refuses them.

``onnx.shape_inference`` alone does not see through shape arithmetic that goes over Cast, Reshape or If, and
accepts a kernel larger than its input. Here every node is inferred on its own
(``onnx.shape_inference.infer_node_outputs``) with the values of small tensors computed by ONNX's reference
operators, and only the branch of an If that is taken is walked. No runtime is used and no large tensor is
touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

_SMALL = 4096  # elements of a tensor whose value is followed
_RANDOM = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
                     "Multinomial", "Dropout"})  # fmt: skip
_KERNELS = frozenset({"Conv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool"})
# a custom operator, or one that is used against its schema: that is no matter of shapes
_NOT_BY_SCHEMA = (onnx.defs.SchemaError, onnx.checker.ValidationError, ValueError, TypeError)
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


class _Refused(Exception):
    """A node cannot work on the shapes that reach it; the text names the node and says why."""


class Walk:
    """Shapes and small values in one graph whose inputs have these shapes (and values, where known).

    Attributes:
        types: tensor name -> ``onnx.TypeProto``; a tensor that nothing is known of is missing.
        values: tensor name -> array, for small tensors whose value follows from shapes and constants.
        refused: which node cannot work on the shapes that reach it, and why; None if all can.
        steps: number of nodes that were walked before that.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        shapes: Mapping[str, tuple[int, ...]],
        values: Mapping[str, np.ndarray] | None = None,
    ):
        self.types: dict[str, onnx.TypeProto] = {}
        self.values: dict[str, np.ndarray] = dict(values or {})
        self._opsets = {entry.domain: entry.version for entry in proto.opset_import}
        self._imports = list(proto.opset_import)
        self._constants(proto.graph)
        for info in proto.graph.input:
            if info.name in shapes:
                elem_type = info.type.tensor_type.elem_type
                self.types[info.name] = onnx.helper.make_tensor_type_proto(elem_type, shapes[info.name])
        self.refused: str | None = None
        self.steps = 0
        try:
            self._graph(proto.graph)
        except _Refused as refusal:
            self.refused = str(refusal)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, or None if its rank or one of its dims is not known."""
        kind = self.types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None

    def _constants(self, graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            self._constant(tensor.name, tensor)

    def _constant(self, name: str, tensor: onnx.TensorProto) -> None:
        self.types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if not external and math.prod(tensor.dims) <= _SMALL:
            self.values[name] = numpy_helper.to_array(tensor)

    def _graph(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            self.steps += 1
            if node.op_type == "If" and node.domain in ("", "ai.onnx"):
                self._if(node)
            else:
                self._node(node)

    def _if(self, node: onnx.NodeProto) -> None:
        branches = {a.name: a.g for a in node.attribute}
        condition = self.values.get(node.input[0]) if node.input else None
        if condition is None or condition.size != 1:  # either may run: nothing is known of what comes out
            return
        branch = branches.get("then_branch" if condition.item() else "else_branch", onnx.GraphProto())
        self._constants(branch)
        self._graph(branch)
        for inner, outer in zip(branch.output, node.output, strict=False):
            self._alias(inner.name, outer)

    def _alias(self, source: str, target: str) -> None:
        if source in self.types:
            self.types[target] = self.types[source]
        if source in self.values:
            self.values[target] = self.values[source]

    def _node(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            self._constant(node.output[0], node.attribute[0].t)
            return
        self._infer(node)
        if node.op_type in ("Shape", "Size"):
            self._shape_value(node)
        elif node.op_type not in _RANDOM:
            self._evaluate(node)

    def _infer(self, node: onnx.NodeProto) -> None:
        used = [name for name in node.input if name]
        if any(name not in self.types for name in used):
            return
        has_body = any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(node.domain, 1), node.domain)
            types = self.types if has_body else {name: self.types[name] for name in used}
            data = {name: numpy_helper.from_array(self.values[name]) for name in used if name in self.values}
            inferred = shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=self._imports
            )
        except shape_inference.InferenceError as error:
            if has_body:  # the types of a body's own inputs may change from turn to turn
                return
            raise _Refused(f"{_describe(node)} refuses {self._shapes(node)}: {_reason(error)}") from None
        except _NOT_BY_SCHEMA:
            return
        self.types.update({name: kind for name, kind in inferred.items() if name})
        self._check(node)

    def _check(self, node: onnx.NodeProto) -> None:
        """What the operators require and ONNX's inference does not check."""
        x = self.shape(node.input[0]) if node.input else None
        y = self.shape(node.output[0]) if node.output else None
        weight = self.shape(node.input[1]) if len(node.input) > 1 else None
        attributes = {a.name: a for a in node.attribute}
        if x is None:
            return
        if node.op_type in _KERNELS:
            kernel = attributes["kernel_shape"].ints if "kernel_shape" in attributes else (weight or ())[2:]
            self._check_kernel(node, x, tuple(kernel), attributes)
        if node.op_type == "Conv" and weight and min(len(x), len(weight)) > 1:
            group = attributes["group"].i if "group" in attributes else 1
            _require(node, "input channels", x[1], weight[1] * group)
        elif node.op_type in _RECURRENT and weight:
            self._check_recurrent(node, x, weight)
        elif node.op_type == "BatchNormalization" and weight and len(x) > 1:
            _require(node, "channels", x[1], weight[0])
        elif node.op_type == "Reshape" and y is not None:
            _require(node, "elements", math.prod(x), math.prod(y))
        elif node.op_type == "Pad" and y is not None and any(a.s == b"reflect" for a in node.attribute):
            grown = zip(x, y, strict=True)
            if any(after - before > 2 * max(before - 1, 0) for before, after in grown):
                raise _Refused(f"{_describe(node)} refuses {x}: it reflects more than the input holds")

    def _check_kernel(
        self,
        node: onnx.NodeProto,
        x: tuple[int, ...],
        kernel: tuple[int, ...],
        attributes: Mapping[str, onnx.AttributeProto],
    ) -> None:
        if "auto_pad" in attributes and attributes["auto_pad"].s not in (b"NOTSET", b"VALID"):
            return
        pads = list(attributes["pads"].ints) if "pads" in attributes else [0] * 2 * len(kernel)
        dilations = attributes["dilations"].ints if "dilations" in attributes else [1] * len(kernel)
        for axis, (size, dilation) in enumerate(zip(kernel, dilations, strict=False)):
            padded = x[2 + axis] + pads[axis] + pads[axis + len(kernel)]
            if padded < (size - 1) * dilation + 1:
                raise _Refused(
                    f"{_describe(node)} refuses {self._shapes(node)}: the kernel is larger than its input"
                )

    def _check_recurrent(self, node: onnx.NodeProto, x: tuple[int, ...], weight: tuple[int, ...]) -> None:
        _require(node, "input size", x[-1], weight[-1])
        batch = 0 if next((a.i for a in node.attribute if a.name == "layout"), 0) else 1
        for name in node.input[5:7]:  # the initial state, and for LSTM the initial cell
            state = self.shape(name) if name else None
            if state is not None and len(state) == 3:
                _require(node, f"batch of the state {name!r}", state[batch], x[batch])

    def _shape_value(self, node: onnx.NodeProto) -> None:
        shape = self.shape(node.input[0]) if node.input else None
        if shape is None or not node.output:
            return
        if node.op_type == "Size":
            self.values[node.output[0]] = np.array(math.prod(shape), np.int64)
            return
        cut = {a.name: a.i for a in node.attribute}
        self.values[node.output[0]] = np.array(shape, np.int64)[
            cut.get("start", 0) : cut.get("end", len(shape))
        ]

    def _evaluate(self, node: onnx.NodeProto) -> None:
        """The node's value, if those of its inputs are known and all is small."""
        from onnx.reference import ReferenceEvaluator

        if any(name and name not in self.values for name in node.input):
            return
        sizes = [self.shape(name) for name in node.output if name]
        if any(size is None or math.prod(size) > _SMALL for size in sizes):
            return
        function = onnx.helper.make_function(
            "workbench", "node", [n for n in node.input if n], list(node.output), [node], self._imports
        )
        try:
            from onnx.reference import ReferenceEvaluator  # costs 10 MB and is rarely needed

            with np.errstate(all="ignore"):
                given = {n: self.values[n] for n in node.input if n}
                results = ReferenceEvaluator(function).run(None, given, {})
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
            return  # the reference operators lack some operators and types: the value stays unknown
        for name, value in zip(node.output, results, strict=True):
            if name and isinstance(value, np.ndarray | np.generic):
                self.values[name] = np.asarray(value)

    def _shapes(self, node: onnx.NodeProto) -> str:
        shown = [f"{name}{list(self.shape(name) or '?')}" for name in node.input[:2] if name]
        return " and ".join(shown)


def _require(node: onnx.NodeProto, what: str, got: int, expected: int) -> None:
    if got != expected:
        raise _Refused(f"{_describe(node)} refuses {node.input[0]}: {what}: got {got}, expected {expected}")


def _describe(node: onnx.NodeProto) -> str:
    return f"{node.op_type} node {node.name or node.output[0]!r}"


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].replace("[ShapeInferenceError]", "").strip()
