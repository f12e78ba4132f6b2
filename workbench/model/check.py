"""Whether a graph can be worked on at all; what is merely odd is a finding of the summary instead."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

import onnx

from ..errors import ModelError
from .info import BITS, DTYPES, nbytes
from .scopes import within

Nodes = Any  # a protobuf list of onnx.NodeProto
Maker: TypeAlias = str | onnx.NodeProto  # what a name is of: a word, or the node of which it is an output
LARGEST = 1 << 50  # bytes; no tensor of a model on disk comes near it
_A = onnx.AttributeProto
# what older exporters leave out: an attribute's type, told by the field that is set
_FIELDS = {
    _A.FLOAT: "f", _A.INT: "i", _A.STRING: "s", _A.TENSOR: "t", _A.GRAPH: "g", _A.TYPE_PROTO: "tp",
    _A.FLOATS: "floats", _A.INTS: "ints", _A.STRINGS: "strings", _A.TENSORS: "tensors", _A.GRAPHS: "graphs",
}  # fmt: skip
_NO_SPARSE = "is a sparse tensor, which Workbench cannot hold; store it as a dense one"


def check_model(proto: onnx.ModelProto, what: str) -> None:
    """Raise ModelError, beginning with ``what``, unless the graph is sound enough to be worked on.

    Sound is: a known IR version, every name defined exactly once and before it can be needed, no cycle,
    tensors whose data fit their shape. Nodes that are not in topological order are sorted in place,
    attributes without a type get it.
    """
    try:
        _check_version(proto)
        _check_graph(proto.graph, frozenset(), "")
        seen = set()
        for function in proto.functions:
            key = (function.domain, function.name, function.overload)
            if key in seen:
                raise _Unsound(
                    f"the model-local function {function.domain}::{function.name} is defined twice"
                )
            seen.add(key)
            _check_function(function)
    except _Unsound as problem:
        raise ModelError(f"{what}: {problem}") from None


class _Unsound(Exception):
    pass


def _check_version(proto: onnx.ModelProto) -> None:
    if proto.ir_version > onnx.IR_VERSION:
        raise _Unsound(
            f"it has ONNX IR version {proto.ir_version}; onnx {onnx.__version__} knows versions up to "
            f"{onnx.IR_VERSION}; upgrade onnx, or export the model with an older IR version"
        )
    if proto.ir_version < 1:
        raise _Unsound(
            f"it has ONNX IR version {proto.ir_version}; expected 1 to {onnx.IR_VERSION}; it is damaged"
        )
    if proto.training_info:
        raise _Unsound("it holds training information, which Workbench would lose; export it for inference")
    opsets = [
        *proto.opset_import,
        *(opset for function in proto.functions for opset in function.opset_import),
    ]
    for opset in opsets:
        if not 0 < opset.version < 1 << 31:
            raise _Unsound(
                f"it has version {opset.version} of opset {opset.domain or 'ai.onnx'!r}; it is damaged"
            )


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str], scope: str) -> None:
    where = f" in the body {scope}" if scope else ""
    local: dict[str, Maker] = {}
    for info in graph.input:
        _define(local, info.name, "graph input", where)
    inputs = set(local)
    initializers: dict[str, Maker] = {}
    for tensor in graph.initializer:
        _define(initializers, tensor.name, "initializer", where)
        _check_tensor(tensor, f"initializer {tensor.name!r}{where}")
    if graph.sparse_initializer:
        raise _Unsound(f"initializer {graph.sparse_initializer[0].values.name!r}{where} {_NO_SPARSE}")
    for name in initializers:
        if name not in inputs:
            local[name] = "initializer"
    _check_nodes(graph.node, local, outer, scope, where)
    for info in graph.output:
        if info.name not in local and info.name not in outer:
            raise _Unsound(
                f"graph output {info.name!r}{where} is made by no node; the model is cut off or damaged"
            )


def _check_function(function: onnx.FunctionProto) -> None:
    scope = f"{function.domain}::{function.name}"
    where = f" in the function {scope}"
    local: dict[str, Maker] = {}
    for name in function.input:
        _define(local, name, "input", where)
    for attribute in function.attribute_proto:
        _check_attribute(attribute, frozenset(), scope, where)
    _check_nodes(function.node, local, frozenset(), scope, where)
    for name in function.output:
        if name not in local:
            raise _Unsound(f"output {name!r}{where} is made by no node of it")


def _define(names: dict[str, Maker], name: str | bytes, kind: Maker, where: str) -> None:
    if isinstance(name, bytes):
        raise _Unsound(f"the name {name[:40]!r} of {_a(kind)}{where} is not UTF-8 text; the file is damaged")
    if not name:
        raise _Unsound(f"{kind} number {len(names)}{where} has no name")  # outputs of nodes always have one
    if name in names:
        raise _Unsound(f"the name {name!r} is used twice{where}: for {_a(names[name])} and for {_a(kind)}")
    names[name] = kind


def _a(kind: Maker) -> str:
    if not isinstance(kind, str):
        return f"an output of {_label(kind)}"
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"


def _check_nodes(
    nodes: Nodes, local: dict[str, Maker], outer: frozenset[str], scope: str, where: str
) -> None:
    given = set(local)
    every = list(nodes)
    for node in every:
        for text in (node.op_type, node.domain, node.overload, node.name, *node.input):
            if isinstance(text, bytes):
                raise _Unsound(
                    f"the name {text[:40]!r} at a node{where} is not UTF-8 text; the file is damaged"
                )
        for name in node.output:
            if name:
                _define(local, name, node, where)
    visible, made = outer | local.keys(), local.keys() - given
    needs, ordered, ready = [], True, given
    for node in every:
        needed = set(node.input)
        needed.discard("")
        if not needed <= visible:
            name = next(name for name in node.input if name and name not in visible)
            raise _Unsound(
                f"{_label(node)}{where} reads the tensor {name!r}, which nothing in the model makes"
            )
        if attributes := node.attribute:
            needed |= _check_attributes(node, attributes, visible, scope, where)
        needed &= made
        ordered = ordered and needed <= ready
        ready.update(node.output)
        needs.append(needed)
    if not ordered:
        _sort(nodes, needs, where)


def _check_attributes(
    node: onnx.NodeProto, attributes: Any, visible: frozenset[str], scope: str, where: str
) -> set[str]:
    """Check a node's attributes; returns the names from outside that bodies in them read."""
    if len({attribute.name for attribute in attributes}) != len(attributes):
        raise _Unsound(f"{_label(node)}{where} has an attribute twice")
    at, needed = within(scope, node.name or node.op_type), set()
    for attribute in attributes:
        needed |= _check_attribute(attribute, visible, at, where)
    return needed


def _check_attribute(
    attribute: onnx.AttributeProto, visible: frozenset[str], scope: str, where: str
) -> set[str]:
    """Check an attribute; returns the names from outside that bodies in it read."""
    if isinstance(attribute.name, bytes):
        raise _Unsound(
            f"the attribute name {attribute.name[:40]!r} at {scope} is not UTF-8 text; it is damaged"
        )
    if attribute.type == _A.UNDEFINED and not attribute.ref_attr_name:
        attribute.type = _guess_type(attribute)
    if attribute.type in (_A.SPARSE_TENSOR, _A.SPARSE_TENSORS):
        raise _Unsound(f"attribute {attribute.name!r} at {scope} {_NO_SPARSE}")
    if attribute.ref_attr_name:
        return set()
    held = {_A.TENSOR: "t", _A.TENSORS: "tensors", _A.GRAPH: "g", _A.GRAPHS: "graphs"}.get(attribute.type, "")
    one = held in ("t", "g")
    if attribute.type == _A.UNDEFINED or (one and not attribute.HasField(held)):
        raise _Unsound(f"attribute {attribute.name!r} at {scope} has no value; the model is damaged")
    needed: set[str] = set()
    for value in [getattr(attribute, held)] if one else getattr(attribute, held, ()):
        if held in ("t", "tensors"):
            _check_tensor(value, f"tensor in attribute {attribute.name!r} at {scope}")
        else:
            _check_graph(value, visible, f"{scope}.{attribute.name}")
            needed |= _names_read(value)
    return needed


def _guess_type(attribute: onnx.AttributeProto) -> int:
    for kind, field in _FIELDS.items():
        value = getattr(attribute, field)
        if attribute.HasField(field) if kind not in (6, 7, 8, 9, 10) else len(value):
            return kind
    return _A.UNDEFINED


def _names_read(body: onnx.GraphProto) -> set[str]:
    """Every name that a body and the bodies in it read (those that it defines itself too)."""
    names = {info.name for info in body.output}
    for node in body.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (_A.GRAPH, _A.GRAPHS) else ():
                names |= _names_read(inner)
    return names - {""}


def _sort(nodes: Nodes, needs: list[set[str]], where: str) -> None:
    """Put nodes into topological order, in place; those that are in order already stay in it."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    waits = [{producer[name] for name in needed} for needed in needs]
    order, state = [], [0] * len(nodes)  # 0 new, 1 being visited, 2 done
    for root in range(len(nodes)):
        stack = [(root, iter(sorted(waits[root])))] if not state[root] else []
        state[root] = state[root] or 1
        while stack:
            index, rest = stack[-1]
            following = next((other for other in rest if state[other] != 2), None)
            if following is None:
                stack.pop()
                state[index] = 2
                order.append(index)
            elif state[following] == 1:
                path = [i for i, _ in stack]
                loop = path[path.index(following) :][::-1]  # in the direction of the data
                first = loop.index(min(loop))
                raise _Unsound(
                    f"the graph has a cycle{where}: {_chain(loop[first:] + loop[: first + 1], nodes)}"
                )
            else:
                state[following] = 1
                stack.append((following, iter(sorted(waits[following]))))
    ordered = [nodes[index] for index in order]
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del nodes[:]
    nodes.extend(copies)


def _chain(indices: Iterable[int], nodes: Nodes) -> str:
    labels = [_label(nodes[index]) for index in indices]
    return " -> ".join(labels if len(labels) <= 8 else [*labels[:4], "...", *labels[-3:]])


def _label(node: onnx.NodeProto) -> str:
    if node.name:
        return f"node {node.name!r}"
    return f"the {node.op_type} node that makes {next((name for name in node.output if name), '?')!r}"


def _check_tensor(tensor: onnx.TensorProto, label: str) -> None:
    if tensor.data_type not in DTYPES:
        raise _Unsound(
            f"{label} has the data type number {tensor.data_type}, which onnx {onnx.__version__} lacks"
        )
    dtype, shape = DTYPES[tensor.data_type], tuple(tensor.dims)
    if any(dim < 0 for dim in shape):
        raise _Unsound(f"{label} has a negative dim: {list(shape)}")
    if math.prod(max(dim, 1) for dim in shape) * max(BITS.get(dtype, 8), 8) // 8 > LARGEST:
        raise _Unsound(f"{label} has the impossible shape {list(shape)}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, label)
        return
    have, need, unit = _stored(tensor, dtype, shape)
    if have != need:
        raise _Unsound(
            f"{label} {dtype}{list(shape)} holds {have} {unit}, its shape needs {need}; it is damaged"
        )


def _check_external(tensor: onnx.TensorProto, label: str) -> None:
    for entry in tensor.external_data:
        if entry.key in ("offset", "length") and not (entry.value.isascii() and entry.value.isdigit()):
            raise _Unsound(
                f"{label}: the {entry.key} of its external data is {entry.value[:40]!r}, not a number"
            )


def _stored(tensor: onnx.TensorProto, dtype: str, shape: tuple[int, ...]) -> tuple[int, int, str]:
    """(what is stored, what the shape needs, in which unit) of a tensor that holds its own data."""
    count = math.prod(shape)
    if dtype == "string":
        return len(tensor.string_data), count, "strings"
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data), nbytes(dtype, shape), "bytes"
    field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    if BITS[dtype] < 8 and dtype[:6] != "float6":
        count = nbytes(dtype, shape)
    if dtype.startswith("complex"):
        count *= 2
    return len(getattr(tensor, field)), count, f"values ({field})"
