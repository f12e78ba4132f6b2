"""Replacing a subgraph by a plugin node, as an edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx
import onnx_ir as ir

from ..edits import origins, place
from ..edits.base import Edit
from ..edits.content import Content, of_bytes
from ..edits.draft import Draft
from ..edits.infer import text
from ..edits.insert import plain_attributes
from ..errors import EditError, PluginError
from ..model.info import from_type
from ..model.operators import has_body, qualified
from . import body as bodies
from .declaration import Plugin, from_function, of


@dataclass(frozen=True)
class Replace(Edit):
    """Replace nodes by one node of a plugin, whose body comes into the model as a function.

    Args:
        nodes: names of the nodes, or a match that has them (anything with ``nodes``).
        plugin: a Plugin, or the name of a built-in one.
        inputs: tensors for the plugin's inputs, in its order; None: what flows into the nodes, in the order in which
            they read it (constants of one element that are too many are taken as part of the body).
        outputs: tensors that the plugin's outputs become, in its order; None: what others read of the nodes.
        attributes: of the plugin.
        name: of the new node.
    """

    method: ClassVar[str] = "replace"
    nodes: tuple[str, ...]
    plugin: Any
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", _names(self.nodes))
        if isinstance(self.plugin, Plugin):
            object.__setattr__(self, "plugin", _carried(self.plugin))
        for field in ("inputs", "outputs"):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, (value,) if isinstance(value, str) else tuple(value))
        if self.attributes is not None:
            object.__setattr__(self, "attributes", plain_attributes(self.attributes))

    def change(self, draft: Draft) -> None:
        plugin = _plugin(self.plugin)
        found = [draft.node(name) for name in dict.fromkeys(self.nodes)]
        if not found:
            raise EditError(f"cannot replace by {plugin.name}: got no nodes; name at least one")
        graph = draft.graph_of(found[0])
        for node in found:
            if draft.graph_of(node) is not graph:
                raise EditError(
                    f"cannot replace by {plugin.name}: nodes {found[0].name!r} and {node.name!r} are in "
                    "different graphs; "
                    "give nodes of one"
                )
        try:
            given = plugin.given(dict(self.attributes or {}))
        except PluginError as error:
            raise EditError(f"cannot replace {_listed(found)}: {error}") from None
        draft.types.know()
        reads = self._reads(draft, plugin, found)
        makes = self._makes(draft, plugin, found)
        _fit(draft, plugin, found, reads, makes, given)
        add_function(draft, plugin)
        _put(draft, graph, plugin, found, reads, makes, self)

    def _reads(self, draft: Draft, plugin: Plugin, found: list[ir.Node]) -> list[ir.Value]:
        made = {value for node in found for value in node.outputs}
        values = [v for node in found for v in node.inputs if v is not None and v not in made]
        boundary = list(dict.fromkeys(values))
        if self.inputs is not None:
            return [draft.value(key) for key in self.inputs]
        if len(boundary) > len(plugin.inputs):
            boundary = [value for value in boundary if not _is_small(value)]
        if len(boundary) != len(plugin.inputs):
            listed = ", ".join(f"{value.name} {draft.types.text(value)}" for value in boundary)
            raise EditError(
                f"cannot replace {_listed(found)} by {plugin.signature}: the nodes read "
                f"{listed or 'nothing'}, the plugin "
                f"takes {len(plugin.inputs)} inputs; say which with inputs=[...]"
            )
        return boundary

    def _makes(self, draft: Draft, plugin: Plugin, found: list[ir.Node]) -> list[ir.Value]:
        inside = set(found)
        used = [
            value
            for node in found
            for value in node.outputs
            if value.is_graph_output() or any(user not in inside for user, _ in value.uses())
        ]
        wanted = [draft.value(key) for key in self.outputs] if self.outputs is not None else used
        if len(set(wanted)) < len(wanted):
            raise EditError(
                f"cannot replace {_listed(found)} by {plugin.signature}: got outputs={list(self.outputs or ())}, "
                "expected each tensor once"
            )
        kept = [value for value in used if value not in wanted]
        if len(wanted) != len(plugin.outputs) or kept:
            listed = ", ".join(f"{value.name} {draft.types.text(value)}" for value in (*wanted, *kept))
            raise EditError(
                f"cannot replace {_listed(found)} by {plugin.signature}: outside of the nodes {listed or 'nothing'} is "
                f"read, the plugin makes {len(plugin.outputs)}; say which is which with outputs=[...], or take in the "
                "nodes that read the others"
            )
        return wanted


def add_function(draft: Draft, plugin: Plugin) -> None:
    """Add the body of a plugin to the model, unless it is there."""
    model, made = draft.model, ir.serde.deserialize_function(_at_opset(draft, plugin))
    key = made.identifier()
    known = model.functions.get(key)
    if known is not None:
        held = ir.serde.serialize_function(known)
        there = from_function(held)
        same = there is not None and (there.cuda, there.rule) == (plugin.cuda, plugin.rule)
        if not same or _nameless(held) != _nameless(ir.serde.serialize_function(made)):
            raise EditError(
                f"cannot add plugin {plugin.name!r}: the model has another plugin or function of that "
                "name; undo back to "
                "before it, or give this one another name"
            )
        return
    for node in made:
        if not has_body(node, model):
            raise EditError(
                f"cannot add plugin {plugin.name!r}: its body calls {qualified(node)}, which has no body itself; "
                "write it with operators of ONNX or functions that the model has"
            )
    used: set[str] = set()
    for node in made:  # names are unique in the whole model
        node.name = bodies.unused(f"{plugin.name}/{node.name or node.op_type}", used | draft.nodes.keys())
        used.add(node.name)
    draft.add_function(made)
    if bodies.DOMAIN not in model.opset_imports:
        draft.put(model.opset_imports, bodies.DOMAIN, 1)
    if model.ir_version < 8:  # the first with functions
        draft.set(model, "ir_version", 8)


def _nameless(made: onnx.FunctionProto) -> list[Any]:
    """What a function computes, without the names of its nodes, which differ from model to model."""
    found: list[Any] = [list(made.input), list(made.output), bodies.attributes(made)]
    for node in made.node:
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        for kept in ("name", "doc_string", "metadata_props"):
            bare.ClearField(kept)
        found.append(bare.SerializeToString(deterministic=True))
    return found


def _at_opset(draft: Draft, plugin: Plugin) -> onnx.FunctionProto:
    """The function at the operator set of the model; EditError when an operator of the body is not the same there."""
    made = onnx.FunctionProto()
    made.CopyFrom(plugin.function)
    for item in made.opset_import:
        wanted = draft.model.opset_imports.get(item.domain)
        if wanted is None or wanted == item.version:
            continue
        for node in made.node:
            if node.domain != item.domain:
                continue
            try:
                mine, theirs = (
                    onnx.defs.get_schema(node.op_type, version, item.domain).since_version
                    for version in (item.version, wanted)
                )
            except onnx.defs.SchemaError:
                mine, theirs = 0, -1
            if mine != theirs and not _alike(node.op_type, item.domain, item.version, wanted):
                raise EditError(
                    f"cannot add plugin {plugin.name!r}: its body uses {node.op_type} of operator set "
                    f"{item.version}, the "
                    f"model has operator set {wanted}, where that is another; convert_opset({item.version}) first"
                )
        item.version = wanted
    return made


def _alike(op_type: str, domain: str, one: int, two: int) -> bool:
    """Whether an operator has the same inputs and outputs in two operator sets, and attributes that both have: what
    differs is types that were added, or optional attributes."""
    try:
        a, b = (onnx.defs.get_schema(op_type, version, domain) for version in (one, two))
    except onnx.defs.SchemaError:
        return False

    def ports(schema: Any) -> Any:
        return [[(p.name, p.option) for p in ports] for ports in (schema.inputs, schema.outputs)]

    unlike = a.attributes.keys() ^ b.attributes.keys()
    fine = not any((a.attributes.get(name) or b.attributes[name]).required for name in unlike)
    return bool(ports(a) == ports(b) and fine)


def _fit(
    draft: Draft,
    plugin: Plugin,
    found: list[ir.Node],
    reads: list[ir.Value],
    makes: list[ir.Value],
    given: Mapping[str, Any],
) -> None:
    """Refuse a plugin whose types or shapes are others than those of what it replaces, with both signatures."""
    kinds = [draft.types.of(value) for value in reads]
    wanted = [draft.types.of(value) for value in makes]
    reads_text, makes_text = ([text(kind) for kind in types] for types in (kinds, wanted))
    theirs = f"({', '.join(reads_text)}) -> ({', '.join(makes_text)})"
    if len(reads) != len(plugin.inputs):
        raise EditError(
            f"cannot replace {_listed(found)}, {theirs}, by {plugin.signature}: got {len(reads)} inputs, expected "
            f"{len(plugin.inputs)}"
        )
    known = [kind for kind in kinds if kind is not None]
    if len(known) != len(kinds):
        return  # nothing is known that could be compared
    try:
        made = bodies.infer(_at_opset(draft, plugin), known, given)
    except PluginError as error:
        raise EditError(f"cannot replace {_listed(found)}, {theirs}, by {plugin.name}: {error}") from None
    for kind, want in zip(made, wanted, strict=True):
        if want is not None and not _same(kind, want):
            mine = bodies.signature(plugin.body, reads_text, [text(kind) for kind in made])
            raise EditError(
                f"cannot replace {_listed(found)} by plugin {plugin.name!r}: the nodes are {theirs}, the "
                f"plugin is {mine}; "
                "choose nodes and inputs that fit its body"
            )


def _same(one: onnx.TypeProto, two: onnx.TypeProto) -> bool:
    (dtype, shape), (other, dims) = from_type(one), from_type(two)
    if dtype and other and dtype != other:
        return False
    if shape is None or dims is None:
        return True
    return len(shape) == len(dims) and not any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(shape, dims, strict=True)
    )


def _put(
    draft: Draft,
    graph: ir.Graph,
    plugin: Plugin,
    found: list[ir.Node],
    reads: list[ir.Value],
    makes: list[ir.Value],
    edit: Replace,
) -> None:
    """Put the new node in the place of the last of the nodes; its outputs take the tensors' names."""
    attributes = ir.convenience.convert_attributes(plugin.given(dict(edit.attributes or {})))
    base = f"{plugin.name}_{found[-1].name}"
    node = ir.Node(
        bodies.DOMAIN, plugin.name, (), attributes, num_outputs=len(makes),
        name=draft.new_node_name(edit.name, base),
    )  # fmt: skip
    order = draft.order(graph)
    last = max(found, key=order.__getitem__)
    draft.insert(graph, [node], last)
    draft.set_inputs(node, reads)
    noted = [name for old in sorted(found, key=order.__getitem__) for name in origins.of_node(old)]
    tensors = [(value.name or "", origins.of_value(value)) for value in makes]
    outputs = list(graph.outputs)
    for old, new in zip(makes, node.outputs, strict=True):
        kind = draft.types.of(old)
        draft.redirect(old, new)
        if old.is_graph_output():
            outputs = [new if value is old else value for value in outputs]
            draft.set(new, "type", old.type)
            draft.set(new, "shape", old.shape)
        draft.types.declare(new, kind)
    draft.set_ports(graph, "outputs", outputs)
    draft.remove(graph, found)
    for (name, origin), new in zip(tensors, node.outputs, strict=True):
        draft.rename_value(new, name)
        if origin != name:
            origins.rename(draft, new, name)
    origins.note_node(draft, node, noted)
    place.arrange(draft, node)
    for user in {user for value in node.outputs for user, _ in value.uses()}:
        if draft.graph_of(user) is graph:
            place.arrange(draft, user)


def _names(nodes: Any) -> tuple[str, ...]:
    if isinstance(nodes, str):
        return (nodes,)
    listed: Iterable[Any] = getattr(nodes, "nodes", nodes)
    if not isinstance(listed, Iterable):
        raise EditError(f"cannot replace by a plugin: got {nodes!r} as nodes, expected their names, or a match")
    return tuple(node if isinstance(node, str) else str(node.name) for node in listed)


def _carried(plugin: Plugin) -> Any:
    """A plugin as an edit holds it: by name if it is built in, else as a file with its function."""
    from . import builtin

    if any(plugin == known for known in builtin.all_plugins()):
        return plugin.name
    made = onnx.ModelProto(ir_version=10)
    made.functions.append(plugin.function)
    return of_bytes(made.SerializeToString(deterministic=True), ".onnx")


def _plugin(held: Any) -> Plugin:
    try:
        if not isinstance(held, Content):
            return of(held)
        if not held.data:
            raise EditError("the plugin is not in the history; replay a script that history.to_python wrote")
        functions = onnx.ModelProto.FromString(held.data).functions
        found = from_function(functions[0]) if functions else None
    except PluginError as error:
        raise EditError(str(error)) from None
    if found is None:
        raise EditError(f"{held.file_name} holds no plugin; expected what history.to_python wrote")
    return found


def _is_small(value: ir.Value) -> bool:
    producer = value.producer()
    if producer is not None:
        return producer.op_type == "Constant" and not producer.domain
    return value.const_value is not None and value.const_value.size == 1


def _listed(found: list[ir.Node]) -> str:
    names = ", ".join(repr(node.name) for node in found[:4])
    return f"nodes {names}{f' and {len(found) - 4} more' if len(found) > 4 else ''}"
