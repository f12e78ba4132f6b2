"""What differs between two models: nodes matched by origin, then by structure; the differences as a table."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ..edits import origins
from ..edits.notes import SCOPE
from ..model import load
from ..model.info import from_value_info
from ..model.scopes import bodies, scopes, within
from ..model.weights import same_data
from .match import Matching, Node, Side, Weight, describe

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["change", "kind", "before", "after", "what", "old", "new"]


def diff(a: Any, b: Any) -> pd.DataFrame:
    """The differences between two models.

    Nodes are matched by their origin (what edits and fusions note, else the name), then by what they compute from
    what, from the inputs on and from the outputs back. Where names tell something else than the weights (layers that
    were numbered anew), what nodes compute comes before their names. Tensors are matched by the nodes that make them,
    inputs and weights by origin, by name, by the nodes that read them.

    Args:
        a, b: models, as ``wb.load`` takes them.

    Returns:
        A DataFrame, whose ``view()`` shows both models as one graph with the differences marked.
        One row per difference, empty for none. ``change``: ``added``, ``removed``, ``renamed``, ``moved`` (to another
        body, function or scope), ``changed operator``, ``changed attribute``, ``changed weight``, ``rewired`` (reads
        another tensor), ``changed type`` (of an input or output), ``changed metadata``. ``kind``: ``node``,
        ``tensor``, ``weight``, ``input``, ``output``, ``model``. ``before``, ``after``: its name in the two models.
        ``what``: the attribute, or the index of the input. ``old``, ``new``: what was there and is there now. The
        order of nodes and where weights are stored are no differences.
    """
    before, after = load(a), load(b)
    match = _Match(_read(before), _read(after))
    table = _table()(list(match.rows()), columns=COLUMNS, dtype=object)
    table._models = (before, after)
    table._match = match
    return table


@functools.cache
def _table() -> type:
    """The class of the table; made when it is first wanted, so that importing this stays light."""
    import pandas as pd

    class Diff(pd.DataFrame):
        """The differences between two models; what is cut out of it is an ordinary DataFrame."""

        _metadata = ["_models", "_match"]

        @property
        def _constructor(self) -> type:
            return pd.DataFrame

        def __reduce__(self) -> Any:
            return pd.DataFrame(self).__reduce__()

        def view(self, **options: Any) -> Any:
            """A ``GraphView`` of both models as one graph: what was added, removed and changed is coloured and
            can be stepped through; ``to_html`` writes it as a page.

            Args:
                options: those of ``GraphView``: overlay, hide, height.
            """
            # widgets draw differences, which do not depend on widgets
            return importlib.import_module("workbench.widgets.diff").DiffView(
                *self._models, table=self, **options
            )

    return Diff


def _read(model: Any) -> Side:
    side, graph = Side(), model.ir
    for scope, part in scopes(graph):
        for value in part.inputs:
            _tensor(side, scope, value)
        for value in getattr(part, "initializers", {}).values():
            _tensor(side, scope, value)
            if value.const_value is not None:
                side.weights[within(scope, value.name or "")] = value.const_value
        for node in part:
            for value in node.outputs:
                _tensor(side, scope, value)
    keys = {id(value): key for key, value in _keys(graph)}
    for scope, part in scopes(graph):
        for node in part:
            inner = {name.split("[")[0] for name, _ in bodies(node)}
            side.nodes[node.name or ""] = Node(
                node.name or "",
                f"{node.domain}::{node.op_type}" if node.domain else node.op_type,
                scope,
                node.metadata_props.get(SCOPE, ""),
                tuple(origins.of_node(node)),
                tuple(keys.get(id(value), "") if value is not None else "" for value in node.inputs),
                tuple(within(scope, value.name) if value.name else "" for value in node.outputs),
                {name: _plain(item) for name, item in node.attributes.items() if name not in inner},
            )
    for kind, ports in (("input", model.inputs), ("output", graph.graph.outputs)):
        infos = ports if kind == "input" else [from_value_info(ir.to_proto(value)) for value in ports]
        side.ports[kind] = {info.name: str(info).partition(": ")[2] for info in infos}
    side.notes = dict(graph.metadata_props) | {
        f"opset {domain or 'ai.onnx'}": str(version) for domain, version in graph.opset_imports.items()
    }
    return side


def _keys(graph: ir.Model) -> Iterator[tuple[str, ir.Value]]:
    for scope, part in scopes(graph):
        held = getattr(part, "initializers", {}).values()
        for value in (*part.inputs, *held, *(value for node in part for value in node.outputs)):
            yield within(scope, value.name or ""), value


def _tensor(side: Side, scope: str, value: ir.Value) -> None:
    if value.name:
        side.tensors[within(scope, value.name)] = within(scope, origins.of_value(value))


def _plain(attribute: ir.Attr) -> Any:
    """An attribute as something that can be compared and shown."""
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    if attribute.type == ir.AttributeType.TENSOR:
        return Weight(attribute.value)
    if attribute.type == ir.AttributeType.TENSORS:
        return tuple(Weight(tensor) for tensor in attribute.value)
    value = attribute.value
    return tuple(value) if isinstance(value, list | tuple) else value


class _Match(Matching):
    """The differences as rows."""

    # -- rows -------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[tuple[Any, ...]]:
        for name, node in self.one.nodes.items():
            if name in self.nodes:
                yield from self._node(node, self.two.nodes[self.nodes[name]])
            else:
                yield "removed", "node", name, None, None, node.op_type, None
        for name, node in self.two.nodes.items():
            if name not in self._taken:
                yield "added", "node", None, name, None, None, node.op_type
        yield from self._renamed()
        yield from self._weights()
        for kind in ("input", "output"):
            yield from self._ports(kind)
        for key in {**self.one.notes, **self.two.notes}:
            old, new = self.one.notes.get(key), self.two.notes.get(key)
            if old != new:
                yield "changed metadata", "model", None, None, key, old, new

    def _node(self, mine: Node, other: Node) -> Iterator[tuple[Any, ...]]:
        both = (mine.name, other.name)
        if mine.name != other.name:
            yield "renamed", "node", *both, None, mine.name, other.name
        if mine.op_type != other.op_type:
            yield "changed operator", "node", *both, None, mine.op_type, other.op_type
        moved = mine.scope != self._scope(other.scope)
        if moved or mine.group != other.group:
            yield (
                "moved",
                "node",
                *both,
                None,
                mine.scope if moved else mine.group,
                other.scope if moved else other.group,
            )
        for key in {**mine.attributes, **other.attributes}:
            old, new = mine.attributes.get(key), other.attributes.get(key)
            if type(old) is not type(new) or old != new:
                yield "changed attribute", "node", *both, key, _shown(old), _shown(new)
        for index in range(max(len(mine.inputs), len(other.inputs))):
            old = mine.inputs[index] if index < len(mine.inputs) else ""
            new = other.inputs[index] if index < len(other.inputs) else ""
            if (self.tensors.get(old) if old else "") != new:
                yield "rewired", "node", *both, index, old or None, new or None

    def _scope(self, scope: str) -> str:
        """A scope of the second model in the words of the first: bodies follow the node that they belong to."""
        for other, mine in self._holders.items():
            if f"{other}." in scope:
                scope = scope.replace(f"{other}.", f"{mine}.")
        return scope

    def _renamed(self) -> Iterator[tuple[Any, ...]]:
        for mine, other in self.tensors.items():
            if mine == other or (self._holders and mine == self._scope(other)):
                continue
            kind = next((k for k in ("input", "output") if mine in self.one.ports[k]), "")
            yield (
                "renamed",
                kind or ("weight" if mine in self.one.weights else "tensor"),
                mine,
                other,
                None,
                mine,
                other,
            )

    def _weights(self) -> Iterator[tuple[Any, ...]]:
        for key, tensor in self.one.weights.items():
            other = self.two.weights.get(self.tensors.get(key, ""))
            if other is None:
                yield "removed", "weight", key, None, None, describe(tensor), None
            elif not same_data(tensor, other):
                yield (
                    "changed weight",
                    "weight",
                    key,
                    self.tensors[key],
                    None,
                    describe(tensor),
                    describe(other),
                )
        for key, tensor in self.two.weights.items():
            if self._back.get(key) not in self.one.weights:
                yield "added", "weight", None, key, None, None, describe(tensor)

    def _ports(self, kind: str) -> Iterator[tuple[Any, ...]]:
        one, two = self.one.ports[kind], self.two.ports[kind]
        for name, old in one.items():
            other = self.tensors.get(name, "")
            if other not in two:
                yield "removed", kind, name, None, None, old, None
            elif two[other] != old:
                yield "changed type", kind, name, other, None, old, two[other]
        for name, new in two.items():
            if self._back.get(name) not in one:
                yield "added", kind, None, name, None, None, new


def _shown(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(str(item) if isinstance(item, Weight) else item for item in value)
    return str(value) if isinstance(value, Weight) else value
