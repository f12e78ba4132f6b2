"""Walks a graph in order with types instead of data: the shape of every tensor, and what every node costs.

Each node goes through onnx's own shape inference; small integer tensors (the arithmetic on shapes that
exporters write) are computed, so that dims behind Shape -> Gather -> Concat -> Reshape are known. If, Loop,
Scan and model-local functions are entered (bodies.py). Weights are never read, except small ones.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, TensorProto, TypeProto

from . import bodies, costs
from .costs import UNKNOWN, NodeCost
from .dims import bind, evaluate, size, with_shape
from .info import TensorInfo, from_type
from .scopes import within

SMALL = 1024  # elements of a constant whose values are followed
FOLDED = 64  # elements of a computed value that is followed
MAX_VISITS = (
    50_000  # nodes walked beyond those that there are: functions of functions can unfold without bound
)
# what the arithmetic on shapes is made of; all are cheap and make no more than their inferred shape says
_SHAPE_ARITHMETIC = frozenset(
    """
    Shape Size Gather GatherElements GatherND Concat Slice Squeeze Unsqueeze Reshape Flatten
    Identity Cast Transpose Add Sub Mul Div Mod Neg Abs Sign Min Max Floor Ceil Round Pow Sqrt Equal
    Greater GreaterOrEqual Less LessOrEqual Not And Or Xor Where Range ConstantOfShape Expand Tile
    Split Pad ReduceProd ReduceSum ReduceMax ReduceMin ScatterND ScatterElements OneHot CumSum
    ArgMax ArgMin
    """.split()  # noqa: SIM905 - shorter than a list of strings
)
_ONNX = ("", "ai.onnx")
NUMBERS = {
    "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip
"""Attributes of a Constant that hold plain numbers -> their dtype."""
_UNKNOWN = TensorInfo("", "", None)


class Walk:
    """The result of walking a model.

    A tensor inside a body is under ``<node>.<attribute>/<name>``, one inside a function under
    ``<domain>::<function>/<name>`` (as at its first call). A node that holds bodies, or calls a function,
    costs what they cost: the dearer branch of an If, the body of a Loop or Scan as often as it is known to
    run (else once).

    Attributes:
        tensors: (scoped) tensor name -> TensorInfo.
        nodes: node name -> NodeCost.
        once: names of the loops whose number of turns is not known, so that one turn was counted.

    With ``count=False`` costs are left out, which is quicker.
    """

    def __init__(
        self, model: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]], *, count: bool = True
    ):
        self.tensors: dict[str, TensorInfo] = {}
        self.nodes: dict[str, NodeCost] = {}
        self.once: list[str] = []
        self.count = count
        self._scopes: dict[str, Scope] = {}
        self.visits_left = MAX_VISITS + 4 * len(model.graph.node)
        self.ir_version = model.ir_version
        self.functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self._symbols, self.stale = bind(model.graph, input_shapes)
        types = {i.name: self.filled(i.type, input_shapes.get(i.name)) for i in model.graph.input}
        opsets = {opset.domain: opset.version for opset in model.opset_import} or {"": 1}
        Scope(self, "", opsets, types).run(model.graph)

    def further(self, path: str, node: NodeProto, weights: Mapping[str, TypeProto]) -> NodeCost:
        """The cost of a node that takes the place of others in a graph that was walked; its outputs are known from then
        on. Not for nodes with bodies and calls.

        Args:
            path: of the graph: '' for the main one.
            weights: types of what it reads that was not there before.
        """
        scope = self._scopes.get(path)
        if scope is None:
            return UNKNOWN
        for name, kind in weights.items():
            scope.types[name] = kind
            scope.record(name)
        self.nodes.pop(node.name, None)
        scope.visit(node)
        return self.nodes[node.name]

    def known(self, path: str, name: str) -> TensorInfo | None:
        """What is known of a tensor of a graph that was walked."""
        return self._scopes[path].infos.get(name) if path in self._scopes else None

    def filled(self, declared: TypeProto, shape: tuple[int, ...] | None = None) -> TypeProto:
        """A declared type with the dims filled in that are known."""
        if not declared.HasField("tensor_type"):
            return declared
        dims = from_type(declared)[1] if shape is None else shape
        return with_shape(declared, None if dims is None else [evaluate(dim, self._symbols) for dim in dims])


class Scope:
    """One graph, body or function call that is walked; names that it lacks are looked up in the one around
    it."""

    def __init__(
        self,
        walk: Walk,
        path: str,
        opsets: dict[str, int],
        types: dict[str, TypeProto],
        *,
        values: dict[str, np.ndarray] | None = None,
        parent: Scope | None = None,
        attributes: Mapping[str, AttributeProto] | None = None,
        depth: int = 0,
    ):
        self.walk, self.path, self.opsets, self.depth, self.attributes = walk, path, opsets, depth, attributes
        self.types: ChainMap[str, TypeProto] = ChainMap(types, *(parent.types.maps if parent else ()))
        self.values: ChainMap[str, np.ndarray] = ChainMap(
            values or {}, *(parent.values.maps if parent else ())
        )
        self.infos: ChainMap[str, TensorInfo] = ChainMap({}, *(parent.infos.maps if parent else ()))
        self.spent = NodeCost(0, 0)
        self._declared: dict[str, TypeProto] = {}
        self._imports = [onnx.helper.make_opsetid(*item) for item in opsets.items()]
        walk._scopes.setdefault(path, self)

    def run(self, graph: GraphProto | FunctionProto) -> None:
        """Walk the nodes of a graph or function."""
        self._declared = {info.name: info.type for info in graph.value_info}
        for tensor in graph.initializer if isinstance(graph, GraphProto) else ():
            self._constant(tensor.name, tensor)
        if isinstance(graph, GraphProto):
            self._declared |= {info.name: info.type for info in graph.output}
        for name in self.types.maps[0]:
            self.record(name)
        for node in graph.node:
            self.walk.visits_left -= 1
            if self.walk.visits_left < 0:
                self.spent = NodeCost(None, None)
                return
            self.visit(node)

    def visit(self, node: NodeProto) -> None:
        """Walk one node."""
        if self.attributes is not None:
            node = _resolve(node, self.attributes)
        cost = None
        function = self.walk.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            cost = bodies.call(self, node, function)
        elif node.domain in _ONNX and node.op_type in bodies.CONTAINERS:
            cost = bodies.CONTAINERS[node.op_type](self, node)
        elif node.domain in _ONNX and node.op_type == "Constant":
            cost = self._constant_node(node)
        else:
            self._infer(node)
        for name in node.output:
            if name:
                self._complete(name)
                self.record(name)
        if cost is None:
            self._fold(node)
            cost = self._cost(node) if self.walk.count else UNKNOWN
        self.walk.nodes.setdefault(node.name, cost)
        self.spent += cost

    def _constant(self, name: str, tensor: TensorProto) -> None:
        self.types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        elements = size(tuple(tensor.dims))
        if elements is not None and elements <= SMALL and tensor.data_location != TensorProto.EXTERNAL:
            try:
                self._know(name, onnx.numpy_helper.to_array(tensor))
            except (ValueError, TypeError):  # an odd tensor has a type, but no values that can be followed
                return

    def _constant_node(self, node: NodeProto) -> NodeCost:
        attribute = node.attribute[0] if node.attribute else AttributeProto()
        if not node.output:
            return NodeCost(0, 0)
        if attribute.HasField("t"):
            self._constant(node.output[0], attribute.t)
        elif attribute.name in NUMBERS:
            array = np.array(onnx.helper.get_attribute_value(attribute), dtype=NUMBERS[attribute.name])
            dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            self.types[node.output[0]] = onnx.helper.make_tensor_type_proto(dtype, array.shape)
            self._know(node.output[0], array)
        else:
            self._infer(node)
        return NodeCost(0, 0)

    def _know(self, name: str, array: np.ndarray) -> None:
        if array.dtype.kind in "iubf":
            self.values[name] = array

    def _infer(self, node: NodeProto) -> None:
        """Let onnx infer the outputs of a node; what it cannot is left out."""
        schema = find_schema(node.op_type, self.opsets.get(node.domain, self.opsets.get("", 0)), node.domain)
        if schema is None or any(name and name not in self.types for name in node.input):
            return
        inputs = {name: self.types[name] for name in node.input if name}
        data = {n: onnx.numpy_helper.from_array(self.values[n], n) for n in node.input if n in self.values}
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, inputs, data, opset_imports=self._imports, ir_version=self.walk.ir_version
            )
        except Exception:  # an operator that is used wrongly: its outputs stay unknown
            return
        self.types.update(found)

    def _fold(self, node: NodeProto) -> None:
        """Compute the outputs of a node whose inputs are known, when they are small and look like shape
        arithmetic."""
        if node.op_type not in _SHAPE_ARITHMETIC or node.domain not in _ONNX:
            return
        feeds: dict[str, Any]
        if node.op_type in ("Shape", "Size"):
            shape = self._info(node.input[0]).shape if node.input else None
            if size(shape) is None:
                return
            feeds = {node.input[0]: shape}
        elif all(name in self.values for name in node.input if name):
            feeds = {name: self.values[name] for name in node.input if name}
        else:
            return
        for info in (self._info(name) for name in node.output if name):
            elements = size(info.shape)
            if elements is None or elements > (
                FOLDED if info.dtype.startswith(("int", "uint", "bool")) else 8
            ):
                return
        try:
            results = evaluate_node(node, feeds, self.opsets)
        except Exception:  # values that cannot be computed are not followed
            return
        for name, array in results.items():
            self._know(name, np.asarray(array))

    def _complete(self, name: str) -> None:
        """Fill what was not inferred from what the model declares."""
        declared = self._declared.get(name)
        if declared is None or self.walk.stale:
            return
        known = self.types.get(name)
        shape = from_type(known)[1] if known is not None else None
        if size(shape) is not None:
            return
        declared = self.walk.filled(declared)
        if known is None or not known.WhichOneof("value"):
            self.types[name] = declared
            return
        stated = from_type(declared)[1]
        if stated is not None and known.HasField("tensor_type"):
            if shape is None:
                self.types[name] = with_shape(known, stated)
            elif len(shape) == len(stated):
                dims = [a if isinstance(a, int) else b or a for a, b in zip(shape, stated, strict=True)]
                self.types[name] = with_shape(known, dims)

    def record(self, name: str) -> None:
        """Note what is known of a tensor."""
        if name in self.types:
            self.infos[name] = TensorInfo(name, *from_type(self.types[name]))
            self.walk.tensors.setdefault(within(self.path, name), self.infos[name])

    def _info(self, name: str) -> TensorInfo:
        return self.infos.get(name, _UNKNOWN)

    def _cost(self, node: NodeProto) -> NodeCost:
        inputs = [self._info(name) if name else TensorInfo("", "", ()) for name in node.input]
        outputs = [self._info(name) for name in node.output]
        attributes: dict[str, Any] = {}
        if node.op_type in costs.COUNTED:
            attributes = {
                a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name
            }
        return NodeCost(
            costs.macs(node.op_type, attributes, [i.shape for i in inputs], [o.shape for o in outputs]),
            costs.moved_bytes(
                [(i.dtype, i.shape) for i in inputs],
                [(o.dtype, o.shape) for o, name in zip(outputs, node.output, strict=True) if name],
                node.op_type,
            ),
        )


def _resolve(node: NodeProto, attributes: Mapping[str, AttributeProto]) -> NodeProto:
    """A node of a function with the attributes that it takes from the call filled in."""
    if not any(a.ref_attr_name for a in node.attribute):
        return node
    resolved = NodeProto()
    resolved.CopyFrom(node)
    del resolved.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            resolved.attribute.append(attribute)
        elif attribute.ref_attr_name in attributes:
            resolved.attribute.append(attributes[attribute.ref_attr_name])
            resolved.attribute[-1].name = attribute.name
    return resolved


@lru_cache(maxsize=4096)
def find_schema(op_type: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    """onnx's definition of an operator, None when it has none."""
    try:
        return onnx.defs.get_schema(op_type, version, "" if domain in _ONNX else domain)
    except onnx.defs.SchemaError:
        return None


def evaluate_node(node: NodeProto, feeds: dict[str, Any], opsets: Mapping[str, int]) -> dict[str, Any]:
    """The outputs of one node, by onnx's reference implementation; raises what that raises."""
    from onnx.reference import ReferenceEvaluator

    # as a function, because a node alone is always taken for one of the newest opset
    names = [name for name in node.output if name]
    function = FunctionProto(name="f", domain="f", input=list(feeds), output=names, node=[node])
    function.opset_import.extend(onnx.helper.make_opsetid(*item) for item in opsets.items())
    arrays = {n: np.broadcast_to(np.float32(0), v) if isinstance(v, tuple) else v for n, v in feeds.items()}
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(function).run(None, arrays, attributes={})
    return dict(zip(names, found, strict=True))
