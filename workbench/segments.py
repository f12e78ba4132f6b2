"""Cutting a graph into pieces that run on their own.

`Graph` indexes the main graph of a ModelProto: who makes a tensor, who uses it (uses inside If, Loop and Scan bodies
and what those bodies capture included), what depends on constants alone. `Graph.piece` makes a runnable model of some
of its nodes. The graph is never changed; pieces share nothing with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto

from .errors import ModelError, NotInModelError
from .model.info import DTYPES, nbytes
from .model.walk import NUMBERS

RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}
_ELEMENT = {name: number for number, name in DTYPES.items()} | {
    "object": TensorProto.STRING,
    "str": TensorProto.STRING,
}
_PLAIN = {**NUMBERS, "value_string": np.object_, "value_strings": np.object_}
_NAMES = {code: name for name, code in _ELEMENT.items() if name != "str"}
_SEQUENCES = {
    "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceMap", "SplitToSequence",
    "Optional",
}  # fmt: skip


class Node:
    """A node of the main graph as its place in it sees it.

    Attributes:
        index: position among the nodes of the graph.
        proto: the NodeProto.
        inputs: tensors that it reads, once each, captures of its bodies included, optional ones left out.
        outputs: tensors that it makes, optional ones left out.
        constant: whether it depends on weights alone.
    """

    __slots__ = ("constant", "index", "inputs", "outputs", "proto")

    def __init__(self, index: int, proto: onnx.NodeProto):
        self.index, self.proto = index, proto
        names = dict.fromkeys(name for name in proto.input if name)
        for _, body in bodies(proto):
            names.update(dict.fromkeys(captured(body)))
        self.inputs = tuple(names)
        self.outputs = tuple(name for name in proto.output if name)
        self.constant = False

    @property
    def name(self) -> str:
        return self.proto.name or self.outputs[0]

    @property
    def op_type(self) -> str:
        return self.proto.op_type


class Graph:
    """The main graph of a model, indexed.

    Constant nodes are weights, not nodes: `constants` holds them by the tensor that they make.

    Args:
        proto: the model; its nodes need not be named.
        weights: further initializers of it, so that they need not be copied into it.

    Raises:
        ModelError: two nodes make the same tensor, a tensor is missing, or there is a cycle.
    """

    def __init__(self, proto: onnx.ModelProto, weights: Iterable[onnx.TensorProto] = ()):
        self.proto = proto
        graph = proto.graph
        self.weights: dict[str, onnx.TensorProto | onnx.SparseTensorProto] = {
            t.name: t for t in (*graph.initializer, *weights)
        }
        self.weights.update((t.values.name, t) for t in graph.sparse_initializer)
        self.inputs = tuple(v.name for v in graph.input if v.name not in self.weights)
        self.dtypes = {v.name: _NAMES.get(v.type.tensor_type.elem_type, "") for v in graph.input}
        self.outputs = tuple(v.name for v in graph.output)
        self.constants = {n.output[0]: n for n in graph.node if n.op_type == "Constant" and not n.domain}
        computed = (n for n in graph.node if n.op_type != "Constant" or n.domain)
        self.nodes = [Node(i, n) for i, n in enumerate(computed)]
        self.producer: dict[str, Node] = {}
        for node in self.nodes:
            for name in node.outputs:
                if name in self.producer:
                    first = self.producer[name].name
                    raise ModelError(f"tensor {name!r} is made by two nodes: {first!r} and {node.name!r}")
                self.producer[name] = node
        self.order = self._sorted()
        known = {*self.weights, *self.constants}
        for node in self.order:
            node.constant = node.op_type not in RANDOM and all(name in known for name in node.inputs)
            if node.constant:
                known.update(node.outputs)

    def _sorted(self) -> list[Node]:
        """Nodes in an order that can be executed: the file's, if it can."""
        done = {*self.weights, *self.constants, *self.inputs}
        order: list[Node] = []
        placed = bytearray(len(self.nodes))
        for root in self.nodes:
            stack = [root]
            while stack:
                node = stack[-1]
                if placed[node.index] == 2:
                    stack.pop()
                    continue
                missing = [name for name in node.inputs if name not in done]
                if missing and placed[node.index]:
                    raise ModelError(f"node {node.name!r} depends on its own output: the graph has a cycle")
                placed[node.index] = 1
                if not missing:
                    placed[node.index] = 2
                    done.update(node.outputs)
                    order.append(stack.pop())
                    continue
                for name in missing:
                    if name not in self.producer:
                        raise ModelError(
                            f"node {node.name!r} reads tensor {name!r}, which nothing in the graph makes"
                        )
                todo = {self.producer[name].index: self.producer[name] for name in missing}
                stack.extend(reversed(todo.values()))
        return order

    @cached_property
    def sequences(self) -> set[str]:
        """What nodes make that is no tensor but a sequence or an optional: it cannot leave a piece."""
        found: set[str] = set()
        for node in self.order:
            names = node.proto.output
            if node.op_type in _SEQUENCES or (node.op_type == "Identity" and node.proto.input[0] in found):
                found.update(node.outputs)
            for _, body in bodies(node.proto):
                results = body.output[1:] if node.op_type == "Loop" else body.output
                kinds = (value.type.WhichOneof("value") for value in results)
                odd = (kind not in ("tensor_type", None) for kind in kinds)
                found.update(name for name, is_odd in zip(names, odd, strict=False) if name and is_odd)
        return found

    @cached_property
    def inseparable(self) -> list[list[Node]]:
        """The nodes in an order that can be executed, in groups that pieces cannot part: those that sequences
        join, with what lies between them. Any other node is alone.

        With edges that are sequences going both ways, these are the strongly connected components (Tarjan 1972).
        """
        linked: dict[int, list[Node]] = {node.index: [] for node in self.order}  # what comes before it, or with it
        for node in self.order:
            for name in self.producer.keys() & node.inputs:
                linked[node.index].append(self.producer[name])
                if name in self.sequences:
                    linked[self.producer[name].index].append(node)
        rank = {node.index: i for i, node in enumerate(self.order)}
        ahead = {index: iter(sorted(nodes, key=lambda n: rank[n.index])) for index, nodes in linked.items()}
        low: dict[int, int] = {}
        done: set[int] = set()
        opened: list[Node] = []
        groups: list[list[Node]] = []
        number: dict[int, int] = {}
        for root in self.order:
            stack = [] if root.index in done else [root]
            while stack:
                node = stack[-1]
                if node.index not in number:
                    number[node.index] = low[node.index] = len(number)
                    opened.append(node)
                if fresh := next((n for n in ahead[node.index] if n.index not in number), None):
                    stack.append(fresh)
                    continue
                stack.pop()
                low[node.index] = min(low[n.index] for n in (node, *linked[node.index]) if n.index not in done)
                if low[node.index] == number[node.index]:
                    at = opened.index(node)
                    groups.append(sorted(opened[at:], key=lambda n: rank[n.index]))
                    done.update(n.index for n in opened[at:])
                    del opened[at:]
        return groups

    def is_weight(self, name: str) -> bool:
        """Whether a tensor is stored in the model: an initializer or a Constant node."""
        return name in self.weights or name in self.constants

    def weight_bytes(self, name: str) -> int:
        """Bytes of an initializer; 0 for other tensors (also for Constant nodes)."""
        weight = self.weights.get(name)
        return nbytes(DTYPES[weight.data_type], tuple(weight.dims)) if isinstance(weight, TensorProto) else 0

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """Tensor -> nodes that read it."""
        table: dict[str, list[Node]] = {}
        for node in self.order:
            for name in node.inputs:
                table.setdefault(name, []).append(node)
        return table

    @cached_property
    def schedule(self) -> list[Node]:
        """`order`, but a node that depends on weights alone comes right before the first node that needs it."""
        rank = {node.index: i for i, node in enumerate(self.order)}
        result: list[Node] = []
        placed: set[int] = set()

        def place(node: Node) -> None:
            for i in sorted(
                self.ancestors(node, lambda n: n.constant and n.index not in placed), key=rank.__getitem__
            ):
                placed.add(i)
                result.append(self.nodes[i])
            placed.add(node.index)
            result.append(node)

        for node in self.order:
            if not node.constant:
                place(node)
        for node in self.order:
            if node.index not in placed:
                place(node)
        return result

    def ancestors(self, node: Node, through: Callable[[Node], bool]) -> set[int]:
        """Indices of the nodes upstream of `node` that satisfy `through`, reached through such nodes only."""
        found: set[int] = set()
        stack = [node]
        while stack:
            for name in stack.pop().inputs:
                maker = self.producer.get(name)
                if maker is not None and maker.index not in found and through(maker):
                    found.add(maker.index)
                    stack.append(maker)
        return found

    def needed(self, outputs: Iterable[str], given: Iterable[str] = ()) -> list[Node]:
        """Nodes that make `outputs` when `given` are known, in execution order.

        Raises:
            NotInModelError: an output that no node makes.
        """
        known = {*given, *self.weights, *self.constants, *self.inputs}
        found: set[int] = set()
        stack = [name for name in outputs if name not in known]
        while stack:
            name = stack.pop()
            if name not in self.producer:
                raise NotInModelError(f"the model has no tensor {name!r}")
            node = self.producer[name]
            if node.index not in found:
                found.add(node.index)
                stack.extend(n for n in node.inputs if n not in known)
        return [node for node in self.order if node.index in found]

    def piece(
        self,
        nodes: Sequence[Node],
        outputs: Sequence[str],
        types: Mapping[str, str],
        renamed: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """A model of `nodes` (in execution order).

        Args:
            outputs: tensors that it hands out; each is made by one of the nodes.
            types: dtype name of each tensor that flows in, under its name in the piece.
            renamed: tensors that `nodes` read under another name; a name that only `types` knows is an input.
        """
        model = onnx.ModelProto(ir_version=self.proto.ir_version)
        model.opset_import.extend(self.proto.opset_import)
        model.functions.extend(self.proto.functions)
        model.graph.name = "piece"
        made: set[str] = set()
        read: dict[str, None] = {}
        renamed = renamed or {}
        for node in nodes:
            model.graph.node.append(node.proto)
            if any(name in renamed for name in node.inputs):
                rename_inputs(model.graph.node[-1], renamed)
            read.update((renamed.get(name, name), None) for name in node.inputs)
            made.update(node.outputs)
        constants = [self.constants[name] for name in read if name in self.constants]
        if constants:
            computed = list(model.graph.node)
            del model.graph.node[:]
            model.graph.node.extend([*constants, *computed])
        for name in read:
            weight = self.weights.get(name)
            if name in self.constants:
                continue
            if isinstance(weight, TensorProto):
                model.graph.initializer.append(weight)
            elif weight is not None:
                model.graph.sparse_initializer.append(weight)
            elif name not in made:
                value = model.graph.input.add(name=name)
                value.type.tensor_type.elem_type = _ELEMENT[types[name]]
        for name in outputs:
            model.graph.output.add(name=name)
        return model


def with_outputs(proto: onnx.ModelProto, outputs: str | Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that hands out other tensors: ``"all"`` (what every node but Constant makes), or names.

    Raises:
        NotInModelError: a name that no node makes and that is no input.
    """
    graph = Graph(proto)
    if outputs == "all":
        names = [name for node in graph.order for name in node.outputs]
    else:
        names = list(outputs)
        for name in names:
            if not any(
                name in known for known in (graph.producer, graph.inputs, graph.weights, graph.constants)
            ):
                raise NotInModelError(f"the model has no tensor {name!r}")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    known = {v.name: v for v in (*proto.graph.output, *proto.graph.input)}
    del copy.graph.output[:]
    for name in names:
        if name in known:
            copy.graph.output.append(known[name])
        else:
            copy.graph.output.add(name=name)
    return copy


def constant(node: onnx.NodeProto) -> TensorProto | None:
    """The tensor that a Constant node makes; None for a sparse one."""
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, TensorProto):
            return value
        if attribute.name in _PLAIN:
            return onnx.numpy_helper.from_array(np.asarray(value, _PLAIN[attribute.name]))
    return None


def rename_inputs(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let a node read other tensors, in its bodies too (where a body does not make a tensor of that name itself)."""
    for i, name in enumerate(node.input):
        if name in names:
            node.input[i] = names[name]
    for _, body in bodies(node):
        own = _own(body)
        inner = {old: new for old, new in names.items() if old not in own}
        for child in body.node:
            rename_inputs(child, inner)
        for value in body.output:
            value.name = inner.get(value.name, value.name)


def captured(body: onnx.GraphProto) -> list[str]:
    """Tensors of the enclosing graphs that a body reads."""
    own = _own(body)
    names: dict[str, None] = {}
    for node in body.node:
        names.update(dict.fromkeys(node.input))
        for _, inner in bodies(node):
            names.update(dict.fromkeys(captured(inner)))
    names.update(dict.fromkeys(value.name for value in body.output))
    return [name for name in names if name and name not in own]


def _own(body: onnx.GraphProto) -> set[str]:
    own = {v.name for v in body.input} | {t.name for t in body.initializer}
    own.update(t.values.name for t in body.sparse_initializer)
    own.update(name for node in body.node for name in node.output)
    return own


def bodies(node: onnx.NodeProto) -> list[tuple[str, onnx.GraphProto]]:
    """(attribute name, graph) of each body of an If, Loop or Scan node."""
    found = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append((attribute.name, attribute.g))
        found += [(f"{attribute.name}[{i}]", graph) for i, graph in enumerate(attribute.graphs)]
    return found
