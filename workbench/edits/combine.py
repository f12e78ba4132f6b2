"""Two models in one: one after the other, or side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from ..errors import EditError
from ..model import Model, load
from ..model import proto as protos
from ..model.info import from_type
from ..model.save import INLINE_LIMIT
from ..model.scopes import bodies, tensors
from . import origins
from .base import Edit
from .content import Content, of_bytes
from .draft import Draft
from .infer import text
from .place import arrange


def content_of(model: Any) -> Content:
    """A model (or what ``wb.load`` makes one of, or a file of Content) as Content with its weights inside."""
    if isinstance(model, Content):
        return model
    if isinstance(model, str | Path) and not Path(model).suffix:
        raise EditError(f"cannot read a model from {str(model)!r}; expected the path of a .onnx file")
    loaded = load(model)
    if sum(int(tensor.nbytes) for tensor in tensors(loaded.ir)) > INLINE_LIMIT:
        raise EditError(
            f"model {loaded.name!r} has over 1.5 GB of weights, which an edit cannot hold; combine the files with "
            "onnx.compose first"
        )
    return of_bytes(protos.encode(protos.serialize(loaded.ir, lambda tensor, _: tensor)), ".onnx")


@dataclass(frozen=True)
class _Combine(Edit):
    """Fields of the three edits that combine two models."""

    model: Any
    connect: Mapping[str, str] | None = None
    prefix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", content_of(self.model))

    def other(self, draft: Draft) -> Draft:
        """A fresh copy of the other model, with names that are free here."""
        if not self.model.data:
            raise EditError(
                "the other model is not in the history; replay a script that history.to_python wrote"
            )
        loaded = Model(load(self.model.data).ir).ir
        mine, opsets = draft.model.opset_imports, loaded.opset_imports
        for domain, version in opsets.items():
            if mine.get(domain, version) != version:
                raise EditError(
                    f"cannot combine the models: the other one uses operator set {version} of domain "
                    f"{domain or 'ai.onnx'!r}, this one {mine[domain]}; convert_opset one of them first"
                )
        for domain, version in opsets.items():
            if domain not in mine:
                draft.put(mine, domain, version)
        for key, function in loaded.functions.items():
            if key in draft.model.functions:
                raise EditError(
                    f"cannot combine the models: both have a function {key[0]}::{key[1]}; rename one"
                )
            draft.add_function(_named(draft, function))
        theirs = Draft(loaded)
        theirs.types.know()
        self._rename(draft, theirs)
        return theirs

    def _rename(self, draft: Draft, theirs: Draft) -> None:
        taken = {name for graph in draft.values for name in draft.values[graph]}
        used = set(draft.nodes)
        for graph in list(theirs.values):
            if theirs.is_function(graph):
                continue
            for name, value in list(theirs.values[graph].items()):
                wanted = f"{self.prefix}{name}"
                while wanted != name and theirs.taken(graph, wanted) or wanted in taken:
                    wanted += "_1"
                if wanted != name:
                    origins.rename(theirs, value, wanted)
        for name, node in list(theirs.nodes.items()):
            wanted = f"{self.prefix}{name}"
            while wanted != name and wanted in theirs.nodes or wanted in used:
                wanted += "_1"
            if wanted != name:
                known = origins.of_node(node)
                theirs.rename_node(node, wanted)
                origins.note_node(theirs, node, known)


def _named(draft: Draft, function: ir.Function) -> ir.Function:
    def walk(graph: Any) -> None:
        for node in graph:
            node.name = draft.free_node(node.name or node.op_type)
            for _, body in bodies(node):
                walk(body)

    walk(function)
    return function


def _pairs(
    what: str, connect: Mapping[str, str] | None, sources: list[str], targets: list[str]
) -> dict[str, str]:
    """target -> source; by default in order, for as many as both have."""
    if connect is None:
        if len(sources) != len(targets):
            raise EditError(
                f"cannot {what}: {len(sources)} outputs ({', '.join(sources)}) meet {len(targets)} inputs "
                f"({', '.join(targets)}); say which go together with connect={{output: input}}"
            )
        return dict(zip(targets, sources, strict=True))
    for source, target in connect.items():
        if source not in sources or target not in targets:
            raise EditError(
                f"cannot {what}: got connect={{{source!r}: {target!r}}}, expected an output of "
                f"{sources} and an input of {targets}"
            )
    return {target: source for source, target in connect.items()}


def _check_types(what: str, source: Any, wanted: Any, names: tuple[str, str]) -> None:
    (dtype, shape), (other, dims) = from_type(source), from_type(wanted)
    fits = dtype == other and (
        shape is None
        or dims is None
        or (
            len(shape) == len(dims)
            and all(
                a == b or not (isinstance(a, int) and isinstance(b, int))
                for a, b in zip(shape, dims, strict=True)
            )
        )
    )
    if not fits:
        raise EditError(
            f"cannot {what}: the output {names[0]!r} is {text(source)}, the input {names[1]!r} expects "
            f"{text(wanted)}; insert a Cast or Reshape first"
        )


def _take(draft: Draft, other: Draft, *, first: bool) -> None:
    """Move the nodes and weights of another model's main graph into this one's."""
    graph, theirs = draft.model.graph, other.model.graph
    values = [v for part in other.values if not other.is_function(part) for v in other.values[part].values()]
    draft.types.learn({value: other.types.fact(value) for value in values})
    nodes, weights = list(theirs), list(theirs.initializers.values())
    theirs.remove(nodes)
    theirs.outputs.clear()
    theirs.initializers.clear()
    for value in weights:
        draft.add_initializer(graph, value)
    before = next(iter(graph), None) if first else None
    draft.insert(graph, nodes, before)
    for node in nodes:
        draft.touched.pop(node, None)


@dataclass(frozen=True)
class Append(_Combine):
    """Put another model behind this one: outputs of this model feed inputs of the other.

    Args:
        model: the other model, as ``wb.load`` takes it; it is read now.
        connect: output of this model -> input of the other; None: in order. Connected outputs are outputs no more;
            what is not connected stays an input or output.
        prefix: before all names of the other model; names that are taken get ``_1`` anyway.
    """

    method: ClassVar[str] = "append_model"

    def change(self, draft: Draft) -> None:
        graph = draft.model.graph
        raw = load(self.model.data).ir.graph if self.model.data else None
        names = (
            [value.name or "" for value in raw.inputs if value.name not in raw.initializers] if raw else []
        )
        pairs = _pairs("append the model", self.connect, [v.name or "" for v in graph.outputs], names)
        other = self.other(draft)
        inputs = (
            dict(zip([v.name for v in raw.inputs], list(other.model.graph.inputs), strict=True))
            if raw
            else {}
        )
        outputs, made = list(other.model.graph.outputs), {value.name: value for value in graph.outputs}
        rest = [value for name, value in inputs.items() if name not in pairs and not value.is_initializer()]
        other.model.graph.inputs.clear()
        _take(draft, other, first=False)
        for target, source in pairs.items():
            _check_types(
                "append the model",
                draft.types.of(made[source]),
                _stated(inputs[target]),
                (source, target),
            )
            draft.redirect(inputs[target], made[source])
            outputs = [made[source] if value is inputs[target] else value for value in outputs]
        draft.set_ports(graph, "inputs", [*graph.inputs, *rest])
        kept = [value for value in graph.outputs if value.name not in pairs.values()]
        draft.set_ports(graph, "outputs", [*kept, *outputs])


def _stated(value: ir.Value) -> Any:
    return ir.to_proto(value).type


@dataclass(frozen=True)
class Prepend(_Combine):
    """Put another model before this one: its outputs feed inputs of this model.

    Args:
        model: the other model, as ``wb.load`` takes it; it is read now.
        connect: output of the other model -> input of this one; None: in order.
        prefix: before all names of the other model; names that are taken get ``_1`` anyway.
    """

    method: ClassVar[str] = "prepend_model"

    def change(self, draft: Draft) -> None:
        graph = draft.model.graph
        raw = load(self.model.data).ir.graph if self.model.data else None
        names = [value.name or "" for value in raw.outputs] if raw else []
        mine = {value.name or "": value for value in graph.inputs if value.const_value is None}
        pairs = _pairs("prepend the model", self.connect, names, list(mine))
        other = self.other(draft)
        outputs = dict(zip(names, list(other.model.graph.outputs), strict=True))
        inputs = [value for value in other.model.graph.inputs if not value.is_initializer()]
        other.model.graph.inputs.clear()
        types = {name: _stated(value) for name, value in outputs.items()}
        _take(draft, other, first=True)
        results = list(graph.outputs)
        for target, source in pairs.items():
            _check_types("prepend the model", types[source], draft.types.of(mine[target]), (source, target))
            draft.redirect(mine[target], outputs[source])
            results = [outputs[source] if value is mine[target] else value for value in results]
        kept = [value for value in graph.inputs if value.name not in pairs]
        draft.set_ports(
            graph, "outputs", [*results, *(v for n, v in outputs.items() if n not in pairs.values())]
        )
        draft.set_ports(graph, "inputs", [*inputs, *kept])
        for node in list(graph):
            if any(value in outputs.values() for value in node.inputs):
                arrange(draft, node)


@dataclass(frozen=True)
class Merge(_Combine):
    """Put another model beside this one: its inputs and outputs are added to this model's.

    Args:
        model: the other model, as ``wb.load`` takes it; it is read now.
        connect: input of the other model -> input of this one that feeds it too.
        prefix: before all names of the other model; names that are taken get ``_1`` anyway.
    """

    method: ClassVar[str] = "merge_model"
    connect: Mapping[str, str] | None = field(default_factory=dict)

    def change(self, draft: Draft) -> None:
        graph = draft.model.graph
        raw = load(self.model.data).ir.graph if self.model.data else None
        mine = {value.name or "": value for value in graph.inputs}
        names = [value.name or "" for value in raw.inputs] if raw else []
        pairs = _pairs("merge the model", self.connect or {}, names, list(mine))
        other = self.other(draft)
        inputs = dict(zip(names, list(other.model.graph.inputs), strict=True))
        outputs = list(other.model.graph.outputs)
        rest = [v for n, v in inputs.items() if n not in pairs.values() and not v.is_initializer()]
        other.model.graph.inputs.clear()
        _take(draft, other, first=False)
        for target, source in pairs.items():
            _check_types(
                "merge the model",
                draft.types.of(mine[target]),
                _stated(inputs[source]),
                (target, source),
            )
            draft.redirect(inputs[source], mine[target])
        draft.set_ports(graph, "inputs", [*graph.inputs, *rest])
        draft.set_ports(graph, "outputs", [*graph.outputs, *outputs])
