"""One pass over a model's graphs that makes its columns; one over an edited model reuses what has not changed."""

from __future__ import annotations

import ast
import weakref
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import onnx_ir as ir

from ..edits.notes import SCOPE
from ..model import Model, scopes
from ..model.info import DTYPES
from ..model.nodewise import held
from ..model.scopes import GraphLike
from .origin import made_by

INPUT, WEIGHT, ACTIVATION = 0, 1, 2
"""Kinds of tensors: fed to its graph; a constant (initializer or Constant node); made by a node."""
LONGEST = 160
"""Characters of a node's attributes in the columns; the rest is fetched on demand."""


class Table:
    """Strings that are stored once and referred to by their number."""

    def __init__(self, *first: str):
        self.rows = list(first)
        self._at = {row: index for index, row in enumerate(first)}

    def __call__(self, row: str) -> int:
        index = self._at.setdefault(row, len(self.rows))
        if index == len(self.rows):
            self.rows.append(row)
        return index


class Builder:
    """Goes through the graphs once. Tensors are numbered in the order in which they are met.

    Args:
        model: what to go through.
        earlier: the builder of an earlier version of the model: its tables go on, so that what did not change keeps
            its numbers, and its rows of unchanged nodes and tensors are taken over.
    """

    def __init__(self, model: Model, earlier: Builder | None = None):
        old = earlier
        self.dtypes: Table = old.dtypes if old else Table("")
        self.dims: Table = old.dims if old else Table("")
        self.ops: Table = old.ops if old else Table()
        self.attributes: Table = old.attributes if old else Table("")
        self.made: Table = old.made if old else Table("")
        self.tree: list[list[Any]] = old.tree if old else [[-1, ""]]
        self.paths: dict[tuple[str, ...], int] = old.paths if old else {(): 0}
        self._named: dict[str, int] = old._named if old else {}
        self._numbers: dict[tuple[str, str], int] = old._numbers if old else {}
        self._stated: dict[tuple[Any, ...], tuple[int, int]] = old._stated if old else {}
        self._told: dict[ir.Node, tuple[Any, int]] = old._told if old else {}
        self._family: object = old._family if old else object()
        self.first = old is None
        self._lent: dict[ir.Node, int] = old._lent if old else {}
        self._before: tuple[weakref.ref[Builder], np.ndarray, np.ndarray] | None = None
        self.model = model
        self.ordered = True  # each tensor is made before it is read
        self.steps: list[ir.Node] = []
        self.constants: list[int] = []  # places of Constant nodes in the steps
        self.nodes: list[ir.Node] = []
        self.values: list[ir.Value] = []
        self.kinds, self.producers, self.homes = [], [], []  # type: list[int], list[int], list[int]
        self.numbers: dict[ir.Value, int] = {}
        self.ins, self.outs = [], []  # type: list[int], list[int]
        self.in_ends, self.out_ends = [0], [0]
        self.where: list[int] = []
        self.every: list[Found] = []
        self.graphs: list[dict[str, Any]] = []

    def walk(self) -> Builder:
        """Go through all graphs."""
        self.every = list(_below(self.model))
        self.graphs = [self._graph(home, *row[:3]) for home, row in enumerate(self.every)]
        return self

    def _graph(self, home: int, scope: str, graph: GraphLike, nodes: list[ir.Node]) -> dict[str, Any]:
        held = graph.initializers if isinstance(graph, ir.Graph) else {}
        for value in held.values():
            self._add(value, home, WEIGHT)
        inputs = [self._add(value, home, INPUT) for value in graph.inputs if value.name not in held]
        self.go(home, nodes)
        return {
            "scope": scope,
            "inputs": inputs,
            "outputs": [self._read(value, home) for value in graph.outputs],
        }

    def number(self, values: list[ir.Value]) -> None:
        """Give tensors the next numbers."""
        self.numbers.update(zip(values, range(len(self.values), len(self.values) + len(values)), strict=True))
        self.values += values
        for column in (self.kinds, self.producers, self.homes):
            column += [0] * len(values)

    def place(self, step: int) -> tuple[int, int]:
        """How many nodes and tensors were met before a step (of an only graph that is in order)."""
        made = (value for node in islice(self.steps, step, None) for value in node.outputs)
        numbers = (self.numbers[value] for value in made if value in self.numbers)
        return step - bisect_left(self.constants, step), next(numbers, len(self.values))

    def go(self, home: int, nodes: list[ir.Node]) -> None:
        """Go through nodes that follow one another in a graph."""
        ins, outs, number, index = self.ins, self.outs, self.numbers.get, len(self.nodes)
        for place, node in enumerate(nodes, len(self.steps)):
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                self.constants.append(place)
                for value in node.outputs:
                    self._add(value, home, WEIGHT)
                continue
            self.nodes.append(node)
            for value in node.outputs:
                outs.append(self._add(value, home, ACTIVATION, index) if value.name else -1)
            for source in node.inputs:
                if source is None:
                    ins.append(-1)
                    continue
                known = number(source)
                ins.append(self._read(source, home) if known is None else known)
            self.in_ends.append(len(ins))
            self.out_ends.append(len(outs))
            index += 1
        self.steps += nodes
        self.where += [home] * (index - len(self.where))

    def _read(self, value: ir.Value, home: int) -> int:
        """Number of a tensor that is read; one met before it is made moves to its producer when that comes."""
        self.ordered = self.ordered and value in self.numbers
        return self._add(value, home, INPUT)

    def _add(self, value: ir.Value, home: int, kind: int, producer: int = -1) -> int:
        """Number of a tensor; a tensor of an enclosing graph keeps the number that it has there."""
        number = self.numbers.get(value)
        if number is None:
            number = self.numbers[value] = len(self.values)
            self.values.append(value)
            self.kinds.append(kind)
            self.producers.append(producer)
            self.homes.append(home)
        elif kind == ACTIVATION:
            self.kinds[number], self.producers[number], self.homes[number] = kind, producer, home
        return number

    def lend(self, tree: list[list[Any]], rows: np.ndarray) -> None:
        """Keep modules that were found for nodes without one, for this and later versions of the model."""
        if len(tree) == len(self.tree):
            return  # none were found
        self.tree[:] = [list(row) for row in tree]
        self._lent |= dict(zip(self.nodes, rows.tolist(), strict=True))

    def _home(self, node: ir.Node, row: int) -> int:
        """The module of a node; one that an edit brought is where its first input came from."""
        if row or node in self._lent:
            return row or self._lent[node]
        maker = next((value.producer() for value in node.inputs if value is not None), None)
        self._lent[node] = self._lent.get(maker, 0) if maker is not None else 0
        return self._lent[node]

    def before(self, old: Builder) -> tuple[np.ndarray, np.ndarray]:
        """Of each node and of each tensor its number in an earlier builder, -1 for none."""
        if self._before is None or self._before[0]() is not old:
            known = {node: index for index, node in enumerate(old.nodes)}
            nodes = np.array([known.get(node, -1) for node in self.nodes], np.int32)
            values = np.array([old.numbers.get(value, -1) for value in self.values], np.int32)
            self._before = weakref.ref(old), nodes, values
        return self._before[1:]

    def follows(self, old: Builder, nodes: np.ndarray, values: np.ndarray) -> None:
        """What ``before`` is to give for an earlier builder."""
        self._before = weakref.ref(old), nodes, values

    def goes_on(self, later: Builder) -> bool:
        """Whether a later one has taken over the tables and rows of this one."""
        return self._family is later._family

    def names(self) -> tuple[list[str], list[str]]:
        """Of the nodes and of the tensors."""
        return [node.name or "" for node in self.nodes], [value.name or "" for value in self.values]

    def header(self, nodes: list[str], tensors: list[str]) -> dict[str, Any]:
        """The part of the columns that JSON holds, with the names of all nodes and tensors."""
        self._own()
        made = {"made": list(self.made.rows)} if len(self.made.rows) > 1 else {}
        return made | {
            "name": self.model.name,
            "nodes": nodes,
            "tensors": tensors,
            "ops": [op.split("\0") for op in self.ops.rows],
            "attributes": list(self.attributes.rows),
            "shapes": list(self.dims.rows),
            "dtypes": list(self.dtypes.rows),
            "scopes": [list(row) for row in self.tree],
            "graphs": self.graphs,
        }

    def arrays(self, node: int = 0, value: int = 0) -> dict[str, np.ndarray]:
        """The part of the columns that is numbers, of the nodes and tensors from some on."""
        nodes = self.nodes[node:]
        rows = self._rows(nodes)
        facts = self.facts(self.values[value:])
        if self._lent:
            rows[:, 1] = [self._home(item, row) for item, row in zip(nodes, rows[:, 1].tolist(), strict=True)]
        made = {"node.made": rows[:, 3]} if len(self.made.rows) > 1 else {}
        return made | {
            "node.op": rows[:, 0],
            "node.graph": np.array(self.where[node:], np.int32),
            "node.scope": rows[:, 1],
            "node.attributes": rows[:, 2],
            "node.in.start": np.array(self.in_ends, np.int32),
            "node.in": np.array(self.ins, np.int32),
            "node.out.start": np.array(self.out_ends, np.int32),
            "node.out": np.array(self.outs, np.int32),
            "tensor.kind": np.array(self.kinds[value:], np.uint8),
            "tensor.producer": np.array(self.producers[value:], np.int32),
            "tensor.graph": np.array(self.homes[value:], np.int32),
            "tensor.dtype": facts[:, 0],
            "tensor.shape": facts[:, 1],
        }

    def _rows(self, nodes: list[ir.Node]) -> np.ndarray:
        """(operator, module, attributes, what made it) of nodes, by number."""
        rows, numbers = [], self._numbers
        for node in nodes:
            kind, noted = (node.op_type, node.domain), node.metadata_props
            op = numbers.get(kind)
            if op is None:
                op = numbers[kind] = self.ops("\0".join(kind))
            words = self._words(node) if node.attributes.data else 0
            rows.append((op, self._scope(node), words, self.made(made_by(node)) if noted or node.domain else 0))
        return np.array(rows, np.int32).reshape(-1, 4)

    def facts(self, values: list[ir.Value]) -> np.ndarray:
        """(dtype, shape) of tensors as the file states them, by number."""
        rows, stated = [], self._stated
        for value in values:
            source: Any = value if value.shape is not None else held(value) or value
            key = source.dtype, None if source.shape is None else source.shape.dims
            row = stated.get(key)
            if row is None:
                dtype, dims = declared(value)
                row = stated[key] = self.dtypes(dtype), self.dims(shape_text(dims))
            rows.append(row)
        return np.array(rows, np.int32).reshape(-1, 2)

    def _own(self) -> None:
        """Note which node has which body."""
        numbers = {node: index for index, node in enumerate(self.nodes)} if len(self.graphs) > 1 else {}
        for row, (scope, graph, _, owner, label) in zip(self.graphs, self.every, strict=True):
            row["kind"] = "function" if isinstance(graph, ir.Function) else "body" if label else "main"
            row["owner"] = numbers.get(owner, -1) if owner is not None else -1
            row["label"] = label or scope
            if isinstance(graph, ir.Function):
                row["op"] = [graph.name, graph.domain]

    def _scope(self, node: ir.Node) -> int:
        """Number of the module that a node belongs to, from metadata or from its name."""
        if node.metadata_props:
            return self._path(module_path(node))
        around = (node.name or "").rpartition("/")[0]
        known = self._named.get(around)
        if known is None:
            known = self._named[around] = self._path(module_path(node))
        return known

    def _path(self, path: tuple[str, ...]) -> int:
        known = self.paths.get(path)
        if known is not None:
            return known
        for depth in range(1, len(path) + 1):
            part = path[:depth]
            if part not in self.paths:
                self.paths[part] = len(self.tree)
                self.tree.append([self.paths[part[:-1]], part[-1]])
        return self.paths[path]

    def _words(self, node: ir.Node) -> int:
        """Number of the text of a node's attributes."""
        given, known = tuple(node.attributes.data.values()), self._told.get(node)
        if known is None or known[0] != given:
            parts = [f"{a.name}={attribute_text(a)}" for a in given if not is_graph(a)]
            known = self._told[node] = given, self.attributes(" ".join(parts)[:LONGEST])
        return known[1]


Found = tuple[str, GraphLike, list[ir.Node], ir.Node | None, str]
"""A graph: its scope, itself, its nodes, the node that it is a body of and the attribute."""


def _below(model: Model) -> Iterator[Found]:
    """Every graph of a model, in the order of ``model.scopes``."""
    graph = model.ir
    yield from _in("", graph.graph, None, "")
    for item in graph.functions.values():
        yield from _in(scopes.function(item.domain, item.name, item.overload), item, None, "")


def _in(scope: str, graph: GraphLike, owner: ir.Node | None, label: str) -> Iterator[Found]:
    nodes = list(graph)
    yield scope, graph, nodes, owner, label
    for node in nodes:
        for attribute in node.attributes.data.values():
            if attribute.is_ref() or not is_graph(attribute):
                continue
            several = attribute.type == ir.AttributeType.GRAPHS
            for index, inner in enumerate(attribute.value if several else [attribute.value]):
                name = f"{attribute.name}[{index}]" if several else attribute.name
                yield from _in(scopes.body(scope, node.name or "", name), inner, node, attribute.name)


def shape_text(shape: tuple[int | str | None, ...] | None) -> str:
    """``1×3×224×224``; ``?`` for an unknown dim, ``scalar`` for no dims, ``''`` when the rank is unknown."""
    if shape is None:
        return ""
    return "×".join("?" if dim is None else str(dim) for dim in shape) or "scalar"


def is_graph(attribute: ir.Attr) -> bool:
    return attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def declared(value: ir.Value) -> tuple[str, tuple[int | str | None, ...] | None]:
    """(dtype, shape) of a tensor as the file states them."""
    source: Any = value
    if value.shape is None:
        source = held(value) or value
    dtype = DTYPES.get(int(source.dtype), "") if source.dtype is not None else ""
    if source.shape is None:
        return dtype, None
    return dtype, tuple(dim if isinstance(dim, int) else dim.value for dim in source.shape)


def attribute_text(attribute: ir.Attr, longest: int = 80) -> str:
    """An attribute's value in a few characters."""
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        return f"{DTYPES.get(int(value.dtype), '')}[{shape_text(tuple(value.shape.numpy()))}]"
    if attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
        numbers = list(value) if attribute.type == ir.AttributeType.FLOATS else [value]
        words = ",".join(f"{number:.6g}" for number in numbers[:longest])
        return words if attribute.type == ir.AttributeType.FLOAT else f"[{words}]"
    if isinstance(value, list | tuple):
        value = "[" + ",".join(str(item) for item in value[:longest]) + "]"
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def module_path(node: ir.Node) -> tuple[str, ...]:
    """The modules that a node is in, outermost first.

    From ``workbench.scope`` (``m.set_scope``), from ``pkg.torch.onnx.name_scopes`` (what torch's exporter writes),
    from ``namespace``, or from a name like ``/layers.0/attention/MatMul``.
    """
    stated = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
    if stated.startswith("[") and SCOPE not in node.metadata_props:
        try:
            parts = [str(part) for part in ast.literal_eval(stated) if part]
        except (ValueError, SyntaxError):
            parts = []
        return tuple(parts[:-1])
    noted = node.metadata_props
    text = noted.get(SCOPE) or noted.get("namespace") or (node.name or "").rpartition("/")[0]
    return tuple(part for part in text[:2000].split("/") if part)[:16]
