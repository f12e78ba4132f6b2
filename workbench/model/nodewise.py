"""Shape inference of one node at a time, remembered: what onnx says of a node and of what it reads is asked once.

A graph of ten thousand nodes has perhaps a hundred different ones, where names do not count (``Signature``) and where
what is known of the inputs is one of few things (``Fact``). Each pair goes through onnx once, as a model of one node
and of what computes the values that it reads (``Term``), so that the answer is that of onnx for the whole graph.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from . import proto as protos
from .facts import SMALL, Fact, Term, absent, may_be_shape, of_tensor, of_type, renumbered, values_of
from .scopes import nested
from .walk import MAX_VISITS, NUMBERS, find_schema

_FLOATS = {"Resize": (1, 2), "Upsample": (1,), "Range": (0, 1, 2)}
"""Operators whose output shape depends on values of floats -> the inputs that hold these."""
_PLAIN = frozenset({ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING, ir.AttributeType.INTS,
                    ir.AttributeType.FLOATS, ir.AttributeType.STRINGS})  # fmt: skip
_LONGEST = 200  # nodes of a term: beyond that its values are not followed
_MOST = 1 << 17  # remembered results

Facts = tuple[Fact | None, ...]


@dataclass(frozen=True, eq=False)
class World:
    """What of a model a node's meaning depends on; interned.

    Attributes:
        ir_version, opsets: of the model.
        functions: its model-local functions, encoded as a model of nothing else; b"" for none.
        called: (domain, name, overload) of each of them.
    """

    ir_version: int
    opsets: tuple[tuple[str, int], ...]
    functions: bytes = b""
    called: frozenset[tuple[str, str, str]] = frozenset()

    def schema(self, op_type: str, domain: str) -> onnx.defs.OpSchema | None:
        """onnx's definition of an operator."""
        opsets = dict(self.opsets)
        version = opsets.get(domain) or (opsets.get("ai.onnx", 0) if not domain else 0)
        return find_schema(op_type, version, domain)

    def knows(self, node: ir.Node) -> bool:
        """Whether onnx can say what a node makes."""
        called = (node.domain, node.op_type, node.overload)
        return called in self.called or self.schema(node.op_type, node.domain) is not None

    def without_functions(self) -> World:
        """The same for nodes that call none."""
        return _world(self.ir_version, self.opsets) if self.functions else self


@lru_cache(maxsize=256)
def _world(ir_version: int, opsets: tuple[tuple[str, int], ...], functions: bytes = b"") -> World:
    held = onnx.ModelProto.FromString(functions).functions
    return World(ir_version, opsets, functions, frozenset((f.domain, f.name, f.overload) for f in held))


def world_of(model: ir.Model) -> World:
    """The world of a model's main graph; of functions that unfold without bound nothing is known."""
    shell = onnx.ModelProto()
    sizes = _unfolded(model.functions)
    shell.functions.extend(
        ir.serde.serialize_function(f) for key, f in model.functions.items() if sizes[key] <= MAX_VISITS
    )
    return _world(model.ir_version or 0, tuple(model.opset_imports.items()), shell.SerializeToString())


def _unfolded(functions: Mapping[ir.OperatorIdentifier, ir.Function]) -> dict[ir.OperatorIdentifier, float]:
    """The nodes of each function with those of what it calls; infinite for one that calls itself."""
    calls = {
        key: Counter(
            (node.domain, node.op_type, node.overload)
            for outer in function
            for node in (outer, *nested(outer))
        )
        for key, function in functions.items()
    }
    sizes: dict[ir.OperatorIdentifier, float] = {}
    waiting = list(functions)
    open_: set[ir.OperatorIdentifier] = set()
    while waiting:
        key = waiting[-1]
        missing = [other for other in calls[key] if other in calls and other not in sizes]
        if missing and key not in open_:
            open_.add(key)
            waiting.extend(missing)
            continue
        waiting.pop()
        sizes[key] = sum(n * (1 + sizes.get(o, math.inf if o in calls else 0)) for o, n in calls[key].items())
    return sizes


class Signature:
    """A node without its names; interned.

    Attributes:
        world: see there; without functions for a node that calls none.
        written: the node as a proto, without inputs and outputs.
        outputs: whether each output is there.
        values: input -> the encoded constant that it reads, where that decides about shapes and is no part of a fact.
        stated: the encoded type that the model states for each output, if any.
        schema: of its operator, None when onnx has none.
        known: whether onnx can say what it makes.
        carries: whether it may compute what shapes depend on: ``always``, ``passes`` on what its first input has, or
            ``never``.
    """

    def __init__(self, world: World, written: onnx.NodeProto, key: tuple[Any, ...]):
        _, _, _, _, _, self.outputs, self.values, self.stated = key
        self.world, self.written = world, written
        self.schema = None if world.functions else world.schema(written.op_type, written.domain)
        self.known = self.schema is not None or bool(world.functions)
        if world.functions:
            self.carries = "always"
        elif self.schema is None or not self.schema.has_data_propagation_function:
            self.carries = "never"
        else:
            self.carries = "always" if written.op_type in ("Shape", "Size") else "passes"


@dataclass(eq=False)
class Result:
    """What onnx says of a node; the same object for equal questions.

    Attributes:
        outputs: a fact per output.
        error: what does not fit, None when all does.
        fits: whether somebody has found that all else that is asked of such a node holds.
    """

    outputs: tuple[Fact, ...]
    error: str | None
    fits: bool = False


_signatures: dict[Any, Signature] = {}
RESULTS: dict[tuple[Any, ...], Result] = {}
"""What ``infer`` remembers, by its arguments."""


def signature(node: ir.Node, world: World, stated: tuple[bytes, ...] = ()) -> Signature:
    """The signature of a node that holds no bodies."""
    op_type, attributes = node.op_type, node.attributes.data
    if world.functions and (node.domain, op_type, node.overload) not in world.called:
        world = world.without_functions()
    key = (
        world,
        op_type,
        node.domain,
        node.overload,
        tuple([_attribute(item) for item in attributes.values()]) if attributes else (),
        tuple([bool(value.name) for value in node.outputs]),
        _values(node) if op_type in _FLOATS else (),
        stated,
    )
    found = _signatures.get(key)
    if found is None:
        written = onnx.NodeProto(domain=node.domain, op_type=op_type, overload=node.overload)
        written.attribute.extend(write_node(node).attribute)
        found = _signatures[key] = Signature(world, written, key)
    return found


def _attribute(attribute: ir.Attr) -> tuple[Any, ...]:
    if attribute.type in _PLAIN and not attribute.is_ref():
        return attribute.name, attribute.type, attribute.value
    if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
        tensor = attribute.value
        held = tensor.tobytes() if tensor.size <= SMALL and tensor.dtype != ir.DataType.STRING else b""
        return attribute.name, tensor.dtype, tensor.shape.numpy(), held
    return attribute.name, ir.serde.serialize_attribute(attribute).SerializeToString()


def write_node(node: ir.Node) -> onnx.NodeProto:
    """A node as a proto, with no weights of its bodies."""

    def place(tensor: ir.TensorProtocol, where: str) -> Any:
        return tensor if tensor.size <= SMALL else protos.reference(tensor, "", None, None)

    return ir.serde.serialize_node(protos.stand_in(node, place))


def reads_values(node: ir.Node, index: int, tensor: ir.TensorProtocol) -> bool:
    """Whether the shapes of what a node makes may depend on values of a constant that are no part of its fact."""
    return index in _FLOATS.get(node.op_type, ()) and tensor.size <= SMALL


def _values(node: ir.Node) -> tuple[tuple[int, bytes], ...]:
    found = []
    for index, value in enumerate(node.inputs):
        tensor = held(value) if value is not None else None
        if tensor is not None and reads_values(node, index, tensor):
            found.append((index, values_of(tensor)))
    return tuple(found)


def held(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer, or of what a Constant makes; None for any other value."""
    node = value.producer()
    return value.const_value if value.const_value is not None or node is None else constant(node)


def constant(node: ir.Node) -> ir.TensorProtocol | None:
    """The numbers that a Constant holds; None for text, for sparse ones, and for any other node."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    attribute = next(iter(node.attributes.data.values()), None)
    if attribute is None or attribute.is_ref():
        return None
    if attribute.type == ir.AttributeType.TENSOR:
        found: ir.TensorProtocol = attribute.value
        return found
    kind = NUMBERS.get(attribute.name)
    return ir.tensor(np.array(attribute.value, kind)) if kind is not None else None


def infer(*key: Any) -> Result:
    """What a node makes of what it reads: a ``Signature``, and a fact for each input (None for one left out)."""
    found = RESULTS.get(key)
    if found is None:
        if len(RESULTS) > _MOST:
            RESULTS.clear()
        found = RESULTS[key] = _ask(key[0], key[1:])
    return found


def of_constant(node: ir.Node) -> Fact | None:
    """What is known of what a Constant makes; None when onnx has to be asked."""
    tensor = constant(node)
    return of_tensor(tensor) if tensor is not None else None


def _ask(node: Signature, inputs: Facts) -> Result:
    model = Mini(node.world)
    model.node(node, inputs, "out")
    for index, there in enumerate(node.outputs):
        if there:
            info = model.proto.graph.output.add(name=f"out_{index}")
            if node.stated and node.stated[index]:
                info.type.ParseFromString(node.stated[index])
    found, error = model.infer("out")
    kinds = {info.name: info.type for info in found.graph.output}
    first = inputs[0] if inputs else None
    carries = node.carries == "always" or (
        node.carries == "passes"
        and first is not None
        and (isinstance(first.data, Term) or may_be_shape(first))
    )
    length = 1 + sum(f.data.length for f in inputs if f is not None and isinstance(f.data, Term))
    made = []
    for index in range(len(node.outputs)):
        fact = of_type(kinds.get(f"out_{index}"))
        if carries and length <= _LONGEST and (node.schema is not None or _integer(fact)):
            fact = of_type(fact.seen, Term(node, inputs, index, length))
        made.append(fact)
    return Result(tuple(made), error)


def _numbers(fact: Fact) -> bytes | None:
    """A vector of floats as a constant without its numbers: data propagation would make up as many unknown ones."""
    kind = fact.kind.tensor_type if fact.kind is not None else None
    if kind is None or _integer(fact) or not kind.elem_type:
        return None
    dims = [dim.dim_value for dim in kind.shape.dim if dim.HasField("dim_value")]
    return absent(kind.elem_type, dims).SerializeToString() if len(dims) == len(kind.shape.dim) == 1 else None


def _integer(fact: Fact) -> bool:
    kinds = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return fact.kind is not None and fact.kind.tensor_type.elem_type in kinds


class Mini:
    """A model of a few nodes, made to be inferred.

    Attributes:
        proto: the model.
    """

    def __init__(self, world: World):
        self.proto = onnx.ModelProto(ir_version=world.ir_version)
        self.proto.opset_import.extend(onnx.helper.make_opsetid(*item) for item in world.opsets)
        if world.functions:
            self.proto.MergeFromString(world.functions)
        self.proto.graph.name = "node"
        self._terms: dict[tuple[Signature, Facts], str] = {}
        self._declared: set[tuple[Any, int]] = set()
        self._symbols = 0

    def node(self, node: Signature, inputs: Facts, name: str, named: Mapping[int, str] = {}) -> None:
        """Add a node whose outputs are ``<name>_0``, ``<name>_1``, ..., but for those that are named."""
        names = []
        for index, fact in enumerate(inputs):
            values = next((data for at, data in node.values if at == index), None)
            if node.carries == "passes" and values is None and fact is not None and fact.data is None:
                values = _numbers(fact)
            names.append(self._operand(f"{name}_in_{index}", fact, values) if fact is not None else "")
        written = self.proto.graph.node.add()
        written.CopyFrom(node.written)
        written.name = name
        written.input.extend(names)
        outputs = [f"{name}_{index}" if there else "" for index, there in enumerate(node.outputs)]
        written.output.extend(named.get(index, given) for index, given in enumerate(outputs))

    def give(self, name: str, fact: Fact) -> None:
        """Let a tensor of that fact be there."""
        if isinstance(fact.data, Term):
            self._compute(fact.data, f"\0{name}", {fact.data.output: name})
            self._declare(self.proto.graph.value_info.add(name=name), fact)
        else:
            self._operand(name, fact)

    def _operand(self, name: str, fact: Fact, values: bytes | None = None) -> str:
        """Let something of that fact be there; its name, which is another one for what has to be computed."""
        data = values if values is not None else fact.data
        if isinstance(data, Term):
            key = (data.signature, data.inputs)
            known = self._terms.get(key)
            if known is None:
                known = self._terms[key] = f"\0{len(self._terms)}"
                self._compute(data, known)
            name = f"{known}_{data.output}"
            if (key, data.output) not in self._declared:
                self._declared.add((key, data.output))
                self._declare(self.proto.graph.value_info.add(name=name), fact)
            return name
        if data is not None:
            tensor = self.proto.graph.initializer.add()
            tensor.ParseFromString(data)
            tensor.name = name
        # up to version 3 of the format an initializer has to be an input too
        self._declare(self.proto.graph.input.add(name=name), fact)
        return name

    def _compute(self, term: Term, name: str, named: Mapping[int, str] = {}) -> None:
        functions = term.signature.world.functions
        if functions and not self.proto.functions:
            self.proto.MergeFromString(functions)
        self.node(term.signature, term.inputs, name, named)

    def _declare(self, info: onnx.ValueInfoProto, fact: Fact) -> None:
        if fact.seen is not None:
            made, self._symbols = renumbered(fact.seen, self._symbols)
            info.type.CopyFrom(made)

    def infer(self, node: str) -> tuple[onnx.ModelProto, str | None]:
        """The model with its types, and why that node does not fit, if it does not."""
        encoded = self.proto.SerializeToString()
        try:
            found = onnx.shape_inference.infer_shapes(encoded, strict_mode=True, data_prop=True)
            if self.proto.functions:  # nobody else checks the types in there
                strictly(encoded)
            return found, None
        except Exception as error:  # is the answer
            reason = first_error(error, node)
        try:
            return onnx.shape_inference.infer_shapes(encoded, data_prop=True), reason
        except Exception:  # one that is no matter of a node: of what the model makes nothing is known
            return onnx.ModelProto(), reason


def strictly(encoded: bytes) -> onnx.ModelProto:
    """Inference of a whole model that raises where a node does not fit."""
    return onnx.shape_inference.infer_shapes(encoded, check_type=True, strict_mode=True, data_prop=True)


def first_error(error: Exception, node: str | None = None) -> str | None:
    """The first of the errors that onnx's inference lists: ``node 'a' (Add): Incompatible dimensions``; or, of a node
    alone, what does not fit. None where all it says is that types are not known, as behind an operator without a
    schema."""
    found = re.findall(r"\(op_type:([^,]*), node name: (.*?)\): (?:\[\w+\] )?([^\n]*)", str(error))
    if not found:
        return str(error).strip()
    misfits = [item for item in found if "expected to have type but instead is null" not in item[2]]
    if node is not None:
        return next((reason for _, name, reason in misfits if name == node), None)
    return f"node {misfits[0][1]!r} ({misfits[0][0]}): {misfits[0][2]}" if misfits else None
