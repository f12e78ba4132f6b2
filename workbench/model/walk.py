"""Walks a graph in order with types instead of data: the shape of every tensor, and what every node costs.

Each node goes through onnx's own shape inference; small integer tensors (the arithmetic on shapes that exporters
write) are computed, so that dims behind Shape -> Gather -> Concat -> Reshape are known. If, Loop, Scan and model-local
functions are entered. Weights are never read, except small ones.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto

from . import costs
from .info import TensorInfo, from_type

SMALL = 1024  # elements of a tensor whose values are followed
MAX_VISITS = 500_000  # nodes walked before giving up: functions that call functions can unfold without bound
MAX_DEPTH = 50
_CONTAINERS = ("If", "Loop", "Scan")
# what the arithmetic on shapes is made of; all are cheap and make no more than their inferred shape says
_FOLDED = frozenset(
    ["Shape", "Size", "Gather", "GatherElements", "GatherND", "Concat", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Identity", "Cast", "Transpose", "Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs", "Sign", "Min", "Max", "Floor", "Ceil", "Round", "Pow", "Sqrt", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "Where", "Range", "ConstantOfShape", "Expand", "Tile", "Split", "Pad", "ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin", "ScatterND", "ScatterElements", "OneHot", "CumSum", "ArgMax", "ArgMin"]
)


@dataclass(frozen=True)
class NodeCost:
    """What one run of a node costs: MACs and bytes moved; None where a shape is not known."""

    macs: int | None
    bytes: int | None


class Walk:
    """The result of walking a model: ``tensors`` by (scoped) name, ``nodes`` by node name.

    A tensor inside a body is under ``<node>.<attribute>/<name>``, inside a function under ``<domain>::<function>/<name>``
    (as at its first call). A node that holds bodies, or calls a function, costs what they cost: the dearer branch of
    an If, a Loop or Scan as often as it is known to run (else once).
    """

    def __init__(self, model: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]], *, symbols=None):
        self.tensors: dict[str, TensorInfo] = {}
        self.nodes: dict[str, NodeCost] = {}
        self.once: list[str] = []
        self._ir_version = model.ir_version
        self._functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self._visits = 0
        self._symbols: dict[str, int] = dict(symbols or {})
        self._stale = _bind(model.graph, input_shapes, self._symbols)
        types: dict[str, TypeProto] = {}
        for info in model.graph.input:
            types[info.name] = self._declared(info.type, input_shapes.get(info.name))
        opsets = {opset.domain: opset.version for opset in model.opset_import} or {"": 1}
        _Scope(self, "", opsets, types, {}).run(model.graph)

    def _declared(self, declared: TypeProto, shape: tuple[int, ...] | None = None) -> TypeProto:
        """A declared type with every dim filled in that is known."""
        filled = TypeProto()
        filled.CopyFrom(declared)
        if filled.HasField("tensor_type") and (shape is not None or filled.tensor_type.HasField("shape")):
            dims = from_type(filled)[1] if shape is None else shape
            dims = [evaluate(dim, self._symbols) for dim in dims or ()]
            _set_shape(filled, dims)
        return filled


class _Scope:
    """One graph, body or function call that is walked; names resolve outwards."""

    def __init__(
        self,
        walk: Walk,
        path: str,
        opsets: dict[str, int],
        types: MutableMapping[str, TypeProto],
        values: MutableMapping[str, np.ndarray],
        attributes: Mapping[str, AttributeProto] | None = None,
        depth: int = 0,
    ):
        self.walk, self.path, self.opsets, self.depth = walk, path, opsets, depth
        self.types, self.values, self.attributes = types, values, attributes
        self.declared: dict[str, TypeProto] = {}
        self.macs: int | None = 0
        self.bytes: int | None = 0
        self._imports = [onnx.helper.make_opsetid(*item) for item in opsets.items()]

    def run(self, graph: onnx.GraphProto | onnx.FunctionProto) -> None:
        """Walk the nodes of a graph or function."""
        for info in graph.value_info:
            self.declared[info.name] = info.type
        if isinstance(graph, onnx.GraphProto):
            for info in graph.output:
                self.declared[info.name] = info.type
            for tensor in graph.initializer:
                self._constant(tensor.name, tensor)
        for name in list(self.types.maps[0] if isinstance(self.types, ChainMap) else self.types):
            self._record(name)
        for node in graph.node:
            self.walk._visits += 1
            if self.walk._visits > MAX_VISITS:
                return
            self._node(node)

    def _node(self, node: NodeProto) -> None:
        if self.attributes is not None:
            node = _resolve(node, self.attributes)
        function = self.walk._functions.get((node.domain, node.op_type, node.overload))
        cost = NodeCost(0, 0)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            self._constant_node(node)
        elif function is not None:
            cost = self._call(node, function)
        elif node.op_type in _CONTAINERS and node.domain in ("", "ai.onnx"):
            cost = getattr(self, f"_{node.op_type.lower()}")(node)
        else:
            self._infer(node)
            self._fold(node)
            cost = self._cost(node)
        for name in node.output:
            self._complete(name)
            self._record(name)
        self.walk.nodes.setdefault(node.name, cost)
        self.macs = _plus(self.macs, cost.macs)
        self.bytes = _plus(self.bytes, cost.bytes)

    # -- types and values ---------------------------------------------------------------------------------------

    def _constant(self, name: str, tensor: TensorProto) -> None:
        self.types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        if math.prod(tensor.dims) <= SMALL and tensor.data_location != TensorProto.EXTERNAL:
            try:
                self._know(name, onnx.numpy_helper.to_array(tensor))
            except (ValueError, TypeError):  # an odd tensor has a type but no values
                return

    def _constant_node(self, node: NodeProto) -> None:
        attribute = node.attribute[0] if node.attribute else AttributeProto()
        if attribute.HasField("t"):
            self._constant(node.output[0], attribute.t)
            return
        kinds = {
            "value_float": np.float32,
            "value_floats": np.float32,
            "value_int": np.int64,
            "value_ints": np.int64,
        }
        if attribute.name in kinds:
            array = np.array(onnx.helper.get_attribute_value(attribute), dtype=kinds[attribute.name])
            self.types[node.output[0]] = onnx.helper.make_tensor_type_proto(
                onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            self._know(node.output[0], array)
        else:
            self._infer(node)

    def _know(self, name: str, array: np.ndarray) -> None:
        if array.size <= SMALL and array.dtype.kind in "iubf":
            self.values[name] = array

    def _infer(self, node: NodeProto) -> None:
        """Let onnx infer the outputs of a node; what it cannot is left out."""
        schema = _schema(node.op_type, self.opsets.get(node.domain, 0), node.domain)
        if schema is None or any(name and name not in self.types for name in node.input):
            return
        inputs = {name: self.types[name] for name in node.input if name}
        data = {
            n: onnx.numpy_helper.from_array(self.values[n], n) for n in node.input if n and n in self.values
        }
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, inputs, data, opset_imports=self._imports, ir_version=self.walk._ir_version
            )
        except Exception:  # noqa: BLE001 - an operator used wrongly: its outputs are not known, as documented
            return
        self.types.update(found)

    def _fold(self, node: NodeProto) -> None:
        """Compute the outputs of a node whose inputs are known and small."""
        if node.op_type not in _FOLDED or node.domain not in ("", "ai.onnx"):
            return
        outputs = [name for name in node.output if name]
        sizes = [_size(self.types.get(name)) for name in outputs]
        if not outputs or any(size is None or size > SMALL for size in sizes):
            return
        if node.op_type in ("Shape", "Size"):
            shape = from_type(self.types[node.input[0]])[1] if node.input[0] in self.types else None
            if shape is None or not all(isinstance(dim, int) for dim in shape):
                return
            feeds = {node.input[0]: np.broadcast_to(np.float32(0), shape)}
        elif all(name in self.values for name in node.input if name):
            feeds = {name: self.values[name] for name in node.input if name}
        else:
            return
        try:
            results = _evaluate(node, feeds, self.opsets)
        except Exception:  # noqa: BLE001 - values that cannot be computed are not followed
            return
        for name, array in zip(node.output, results, strict=False):
            if name:
                self._know(name, np.asarray(array))

    def _complete(self, name: str) -> None:
        """Fill what was not inferred from what the model declares."""
        declared = self.declared.get(name)
        if not name or declared is None or self.walk._stale:
            return
        declared = self.walk._declared(declared)
        known = self.types.get(name)
        if known is None or not known.WhichOneof("value"):
            self.types[name] = declared
            return
        shape, stated = from_type(known)[1], from_type(declared)[1]
        if stated is not None and known.HasField("tensor_type"):
            if shape is None:
                _set_shape(known, stated)
            elif len(shape) == len(stated):
                _set_shape(
                    known, [s if isinstance(s, int) else t or s for s, t in zip(shape, stated, strict=True)]
                )

    def _record(self, name: str) -> None:
        if name and name in self.types:
            key = f"{self.path}/{name}" if self.path else name
            self.walk.tensors.setdefault(key, TensorInfo(name, *from_type(self.types[name])))

    def _cost(self, node: NodeProto) -> NodeCost:
        inputs = [
            TensorInfo(n, *from_type(self.types[n])) if n in self.types else TensorInfo(n, "", ())
            for n in node.input
        ]
        outputs = [TensorInfo(n, *from_type(self.types.get(n, TypeProto()))) for n in node.output]
        attributes = {}
        if node.op_type in costs.COUNTED:
            attributes = {
                a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if not a.ref_attr_name
            }
        return NodeCost(
            costs.macs(node.op_type, attributes, [i.shape for i in inputs], [o.shape for o in outputs]),
            costs.moved_bytes(
                [(i.dtype, i.shape) for i in inputs],
                [(o.dtype, o.shape) for o in outputs if o.name],
                node.op_type,
            ),
        )

    # -- nodes with graphs in them --------------------------------------------------------------------------------

    def _child(
        self, node: NodeProto, attribute: AttributeProto, types: dict[str, TypeProto]
    ) -> _Scope | None:
        """Walk a body with the given types of its inputs."""
        if self.depth >= MAX_DEPTH:
            return None
        path = f"{self.path}/{node.name}.{attribute.name}".lstrip("/")
        for info in attribute.g.input:
            types.setdefault(info.name, self.walk._declared(info.type))
        child = _Scope(
            self.walk, path, self.opsets, ChainMap(types, *_maps(self.types)), ChainMap({}, *_maps(self.values)),
            self.attributes, self.depth + 1,
        )  # fmt: skip
        child.run(attribute.g)
        return child

    def _if(self, node: NodeProto) -> NodeCost:
        branches = {a.name: (a, self._child(node, a, {})) for a in node.attribute if a.HasField("g")}
        chosen = list(branches.values())
        condition = self.values.get(node.input[0]) if node.input else None
        if condition is not None and condition.size == 1:
            name = "then_branch" if condition.item() else "else_branch"
            chosen = [branches[name]] if name in branches else []
        for index, name in enumerate(node.output):
            found = [
                scope.types.get(a.g.output[index].name) if scope and index < len(a.g.output) else None
                for a, scope in chosen
            ]
            if name and found and all(kind is not None for kind in found):
                self.types[name] = _common(found)
        spent = [NodeCost(s.macs, s.bytes) if s else NodeCost(None, None) for _, s in chosen]
        return NodeCost(_most(cost.macs for cost in spent), _most(cost.bytes for cost in spent))

    def _loop(self, node: NodeProto) -> NodeCost:
        body = next((a for a in node.attribute if a.name == "body" and a.HasField("g")), None)
        if body is None or len(node.input) < 2:
            return NodeCost(None, None)
        names = [info.name for info in body.g.input]
        state = [self.types.get(name) for name in node.input[2:]]
        count = self._trips(node.input[0])
        return self._iterate(node, body, names[2:], state, [], count)

    def _scan(self, node: NodeProto) -> NodeCost:
        body = next((a for a in node.attribute if a.name == "body" and a.HasField("g")), None)
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.name != "body"}
        scanned = attributes.get("num_scan_inputs")
        if body is None or not isinstance(scanned, int) or self.opsets.get("", 0) < 9:
            return NodeCost(None, None)
        first = len(node.input) - scanned
        axes = list(attributes.get("scan_input_axes", [0] * scanned))
        slices, count = [], None
        for name, axis in zip(node.input[first:], axes, strict=False):
            kind, steps = _without_axis(self.types.get(name), axis)
            slices.append(kind)
            count = steps if count is None else count
        out_axes = list(attributes.get("scan_output_axes", []))
        state = [self.types.get(name) for name in node.input[:first]]
        return self._iterate(node, body, [i.name for i in body.g.input], state, slices, count, out_axes)

    def _trips(self, name: str) -> int | None:
        value = self.values.get(name)
        return int(value.item()) if value is not None and value.size == 1 and value.item() >= 0 else None

    def _iterate(self, node, body, names, state, slices, count, out_axes=()) -> NodeCost:
        """Walk a loop body once with the shapes of the first step; state that changes shape becomes unknown."""
        lead = 1 if node.op_type == "Loop" else 0
        child = None
        for _ in range(2):
            kinds = dict(zip(names, [*state, *slices], strict=False))
            child = self._child(node, body, {name: kind for name, kind in kinds.items() if kind is not None})
            if child is None:
                return NodeCost(None, None)
            after = [child.types.get(info.name) for info in body.g.output[lead : lead + len(state)]]
            merged = [
                _common([a, b]) if a is not None and b is not None else a
                for a, b in zip(state, after, strict=False)
            ]
            if merged == state:
                break
            state = merged
        for name, kind in zip(node.output, state, strict=False):
            if name and kind is not None:
                self.types[name] = kind
        for index, name in enumerate(node.output[len(state) :]):
            position = lead + len(state) + index
            info = body.g.output[position] if position < len(body.g.output) else None
            kind = child.types.get(info.name) if info is not None else None
            if name and kind is not None:
                axis = out_axes[index] if index < len(out_axes) else 0
                self.types[name] = _with_axis(kind, axis, count if node.op_type == "Scan" else None)
        if count is None:
            self.walk.once.append(node.name)
        times = 1 if count is None else count
        return NodeCost(_times(child.macs, times), _times(child.bytes, times))

    def _call(self, node: NodeProto, function: onnx.FunctionProto) -> NodeCost:
        if self.depth >= MAX_DEPTH:
            return NodeCost(None, None)
        attributes = {a.name: a for a in function.attribute_proto} | {a.name: a for a in node.attribute}
        pairs = [(inner, outer) for inner, outer in zip(function.input, node.input, strict=False) if outer]
        types = {inner: self.types[outer] for inner, outer in pairs if outer in self.types}
        values = {inner: self.values[outer] for inner, outer in pairs if outer in self.values}
        opsets = {opset.domain: opset.version for opset in function.opset_import} or self.opsets
        path = f"{function.domain}::{function.name}"
        child = _Scope(self.walk, path, opsets, types, values, attributes, self.depth + 1)
        child.run(function)
        for outer, inner in zip(node.output, function.output, strict=False):
            if outer and inner in child.types:
                self.types[outer] = child.types[inner]
            if outer and inner in child.values:
                self.values[outer] = child.values[inner]
        return NodeCost(child.macs, child.bytes)


# -- small steps on types, values and counts ----------------------------------------------------------------------


def evaluate(dim: int | str | None, symbols: Mapping[str, int]) -> int | str | None:
    """A dim with known symbols filled in; expressions (``2*seq + 1``) are computed when all of theirs are known."""
    if not isinstance(dim, str) or not symbols:
        return dim
    if dim in symbols:
        return symbols[dim]
    if len(dim) > 200 or "**" in dim or not any(sign in dim for sign in "+-*/%("):
        return dim
    import onnx_ir as ir

    try:
        value = ir.SymbolicDim(dim).evaluate(symbols)
    except Exception:  # noqa: BLE001 - a name that only looks like an expression stays a name
        return dim
    return value if isinstance(value, int) else dim


def _bind(graph: onnx.GraphProto, given: Mapping[str, tuple[int, ...]], symbols: dict[str, int]) -> bool:
    """Note what the given shapes say about symbolic dims; returns whether they contradict the declared ones."""
    stale = False
    for info in graph.input:
        declared = from_type(info.type)[1]
        if info.name in given and declared is not None:
            for dim, value in zip(declared, given[info.name], strict=False):
                if isinstance(dim, str):
                    symbols.setdefault(dim, value)
                stale |= isinstance(dim, int) and dim != value
    return stale


def _set_shape(kind: TypeProto, dims) -> None:
    kind.tensor_type.ClearField("shape")
    kind.tensor_type.shape.SetInParent()
    for dim in dims:
        entry = kind.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim:
            entry.dim_param = dim


def _size(kind: TypeProto | None) -> int | None:
    shape = from_type(kind)[1] if kind is not None else None
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return math.prod(shape)  # type: ignore[arg-type]


def _common(kinds: list[TypeProto]) -> TypeProto:
    """What types agree on."""
    common = TypeProto()
    common.CopyFrom(kinds[0])
    for other in kinds[1:]:
        one, two = from_type(common), from_type(other)
        if one[0] != two[0] or not common.HasField("tensor_type"):
            return common if one == two else TypeProto()
        if one[1] is None or two[1] is None or len(one[1]) != len(two[1]):
            common.tensor_type.ClearField("shape")
        elif one[1] != two[1]:
            _set_shape(common, [a if a == b else None for a, b in zip(one[1], two[1], strict=True)])
    return common


def _without_axis(kind: TypeProto | None, axis: int) -> tuple[TypeProto | None, int | None]:
    shape = from_type(kind)[1] if kind is not None else None
    if kind is None or shape is None or not -len(shape) <= axis < len(shape):
        return None, None
    rest, steps = list(shape), shape[axis]
    del rest[axis]
    sliced = TypeProto()
    sliced.CopyFrom(kind)
    _set_shape(sliced, rest)
    return sliced, steps if isinstance(steps, int) else None


def _with_axis(kind: TypeProto, axis: int, steps: int | None) -> TypeProto:
    stacked = TypeProto()
    stacked.CopyFrom(kind)
    shape = from_type(kind)[1]
    if shape is not None and kind.HasField("tensor_type"):
        at = axis if axis >= 0 else len(shape) + 1 + axis
        _set_shape(stacked, [*shape[:at], steps, *shape[at:]])
    return stacked


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
def _schema(op_type: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


def _evaluate(node: NodeProto, feeds: dict[str, np.ndarray], opsets: Mapping[str, int]) -> list[np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        return ReferenceEvaluator(node, opsets=dict(opsets)).run(None, feeds)  # type: ignore[return-value]


def _maps(names: MutableMapping) -> list:
    return names.maps if isinstance(names, ChainMap) else [names]


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _times(a: int | None, count: int) -> int | None:
    return None if a is None else a * count


def _most(counts) -> int | None:
    found = list(counts)
    return None if not found or any(count is None for count in found) else max(found)
