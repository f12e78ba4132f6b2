"""The body of a plugin: an ONNX function, from text, onnxscript, a proto or nodes of a model; its types and signature.

Text is ONNX's own syntax (``onnx.parser``): ``FusedGelu (x) => (y) { ... }``, with attributes and their defaults as
``FusedNorm <epsilon: float = 1e-5> (x) => (y) { ... }``; domain and operator sets are added.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import onnx

from ..errors import PluginError
from ..model import Model
from ..model.info import DTYPES, from_type
from ..segments import Graph, rename_inputs
from .launch import Spec

DOMAIN = "workbench"
OPSET = 18
"""The operator set of a body in text that names none."""
_CODES = {name: number for number, name in DTYPES.items()}
_ATTRIBUTE_TYPES = {
    onnx.AttributeProto.FLOAT: "float", onnx.AttributeProto.INT: "int", onnx.AttributeProto.STRING: "str",
    onnx.AttributeProto.FLOATS: "floats", onnx.AttributeProto.INTS: "ints",
    onnx.AttributeProto.STRINGS: "strs",
}  # fmt: skip
_SCALARS: dict[str, tuple[Any, Any]] = {"float": (Real, float), "int": (Integral, int), "str": (str, str)}


def function(name: str, body: Any) -> onnx.FunctionProto:
    """The body as a function ``workbench::<name>``.

    Args:
        name: of the plugin.
        body: text, an onnxscript function, a FunctionProto, or ``(model, node names)``.

    Raises:
        PluginError: it is none of these, or it is no function that can be checked.
    """
    if isinstance(body, str):
        made = _from_text(name, body)
    elif isinstance(body, onnx.FunctionProto):
        made = onnx.FunctionProto()
        made.CopyFrom(body)
    elif hasattr(body, "to_function_proto"):
        made = body.to_function_proto()
    elif isinstance(body, tuple) and len(body) == 2 and isinstance(body[0], Model):
        made = _from_nodes(name, *body)
    else:
        raise PluginError(
            f"the body of plugin {name!r} is {_kind(body)}; expected text, an onnxscript function, an "
            "onnx.FunctionProto, or (model, node names)"
        )
    made.name, made.domain = name, DOMAIN
    made.ClearField("overload")
    _check(made)
    _name_ports(made)
    return made


def _kind(body: Any) -> str:
    inner = f" of {', '.join(type(item).__name__ for item in body)}" if isinstance(body, tuple) else ""
    return f"{type(body).__name__}{inner}"


def _name_ports(made: onnx.FunctionProto) -> None:
    """Give inputs and outputs names that launch rules and CUDA C++ (``T_<name>``) can write: a tensor
    ``conv.0/out:0`` becomes ``conv_0_out_0``."""
    taken = {*made.input, *made.output, *(name for node in made.node for name in (*node.input, *node.output))}
    names: dict[str, str] = {}
    for port in dict.fromkeys((*made.input, *made.output)):
        wanted = re.sub(r"\W", "_", port, flags=re.ASCII)
        if wanted[:1].isdigit() or keyword.iskeyword(wanted):
            wanted = f"_{wanted}"
        if wanted != port:
            names[port] = unused(wanted, taken)
            taken.add(names[port])
    for ports in (made.input, made.output, *(node.output for node in made.node)):
        ports[:] = [names.get(port, port) for port in ports]
    for node in made.node if names else ():
        rename_inputs(node, names)


def unused(wanted: str, taken: Collection[str]) -> str:
    """A name that is not taken: `wanted`, or with a number behind it."""
    name, number = wanted, 0
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _from_text(name: str, text: str) -> onnx.FunctionProto:
    whole = text if re.match(r"\s*<", text) else f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n{text}'
    try:
        return onnx.parser.parse_function(whole)
    except onnx.parser.ParseError as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise PluginError(f"the body of plugin {name!r} cannot be read: {said.strip()}") from None


def _from_nodes(name: str, model: Model, nodes: Iterable[str]) -> onnx.FunctionProto:
    """The nodes of a model as a function: what flows in are its inputs (constants of one element go along inside)."""
    from ..edits.base import names

    graph = Graph(model.to_proto())
    wanted = set(names(nodes))
    if not wanted:
        raise PluginError(f"the body of plugin {name!r}: got no node names, expected at least one")
    inside = [node for node in graph.order if node.name in wanted]
    missing = wanted - {node.name for node in inside} - {n.name for n in graph.constants.values()}
    if missing or not inside:
        raise PluginError(
            f"the body of plugin {name!r}: the model has no node {sorted(missing or wanted)[0]!r} that computes "
            "something in its main graph"
        )
    made = onnx.FunctionProto(name=name, domain=DOMAIN)
    own = {t for node in inside for t in node.outputs}
    for tensor in dict.fromkeys(t for node in inside for t in node.inputs if t not in own):
        constant = _small(graph, tensor)
        if constant is None:
            made.input.append(tensor)
        else:
            made.node.append(onnx.helper.make_node("Constant", [], [tensor], value=constant))
    made.node.extend(node.proto for node in inside)
    for node in made.node:
        del node.metadata_props[:]
    used = {t for node in graph.order if node not in inside for t in node.inputs} | set(graph.outputs)
    made.output.extend(t for node in inside for t in node.outputs if t in used)
    made.opset_import.extend(model.to_proto().opset_import)
    return made


def _small(graph: Graph, tensor: str) -> onnx.TensorProto | None:
    """A constant of at most one element."""
    if tensor in graph.constants:
        found = next((a.t for a in graph.constants[tensor].attribute if a.name == "value"), None)
    else:
        weight = graph.weights.get(tensor)
        found = weight if isinstance(weight, onnx.TensorProto) else None
    if (
        found is None
        or any(dim != 1 for dim in found.dims)
        or found.data_location == onnx.TensorProto.EXTERNAL
    ):
        return None
    return found


def _check(made: onnx.FunctionProto) -> None:
    context = onnx.checker.C.CheckerContext()
    context.ir_version = 10
    context.opset_imports = {item.domain: item.version for item in made.opset_import}
    lexical = onnx.checker.C.LexicalScopeContext()
    try:
        onnx.checker.check_function(made, context, lexical)
    except onnx.checker.ValidationError as error:
        raise PluginError(
            f"the body of plugin {made.name!r} is not valid: {str(error).splitlines()[0]}"
        ) from None
    known = {*made.input, *(name for node in made.node for name in node.output)}
    for name in made.output:
        if name not in known:
            raise PluginError(f"the body of plugin {made.name!r} has no tensor {name!r}, which it returns")


def attributes(made: onnx.FunctionProto) -> dict[str, Any]:
    """Attribute -> default, None where there is none."""
    found: dict[str, Any] = dict.fromkeys(made.attribute)
    for item in made.attribute_proto:
        value = onnx.helper.get_attribute_value(item)
        found[item.name] = value.decode() if isinstance(value, bytes) else value
    return found


def attribute_types(made: onnx.FunctionProto) -> dict[str, str]:
    """Attribute -> ``float``, ``int``, ``str``, or their plurals, by its default or by where the body uses it; ``''``
    where neither tells."""
    used = {a.ref_attr_name: a.type for node in made.node for a in node.attribute if a.ref_attr_name}
    kinds = {name: used.get(name, 0) for name in made.attribute} | {a.name: a.type for a in made.attribute_proto}
    return {name: _ATTRIBUTE_TYPES.get(kind, "") for name, kind in kinds.items()}


def as_attribute(value: Any, kind: str) -> Any:
    """A value as one of an attribute of that kind (see `attribute_types`).

    Raises:
        TypeError: it is none.
    """
    if not kind:
        return value
    if kind.endswith("s"):
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise TypeError(value)
        return [as_attribute(item, kind[:-1]) for item in value]
    accepted, convert = _SCALARS[kind]
    if not isinstance(value, accepted):
        raise TypeError(value)
    return convert(value)


def signature(made: onnx.FunctionProto, given: Sequence[str] = (), results: Sequence[str] = ()) -> str:
    """``FusedGelu(x: float32[2, 3]) -> (y: float32[2, 3])``; without types where none are given."""

    def listed(names: Sequence[str], types: Sequence[str]) -> str:
        if not types:
            return ", ".join(names)
        return ", ".join(f"{name}: {kind}" for name, kind in zip(names, types, strict=True))

    options = "".join(f", {name}={_plain(value)}" for name, value in attributes(made).items())
    return f"{made.name}({listed(made.input, given)}{options}) -> ({listed(made.output, results)})"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def infer(
    made: onnx.FunctionProto, types: Sequence[onnx.TypeProto], given: Mapping[str, Any]
) -> list[onnx.TypeProto]:
    """Types of the outputs for types of the inputs.

    Raises:
        PluginError: the body does not take them.
    """
    values = [onnx.helper.make_attribute(name, value) for name, value in given.items()]
    try:
        return list(onnx.shape_inference.infer_function_output_types(made, list(types), values))
    except Exception as error:
        found = re.search(r"\(op_type:\s*(\w+)[^)]*\):? ?(?:\[\w+\] )?([^\n]*)", str(error))
        reason = f"{found[1]}: {found[2]}" if found else str(error).replace("\n", " ").split("] ")[-1].strip()
        listed = [_text(kind) for kind in types]
        if "inconsistent type" in reason:
            reason += "; a Constant keeps its type: take CastLike(constant, x) in the body, or leave the dtype out"
        raise PluginError(f"{signature(made, listed)} does not take these inputs: {reason}") from None


def _text(kind: onnx.TypeProto) -> str:
    dtype, shape = from_type(kind)
    dims = "?" if shape is None else ",".join("?" if dim is None else str(dim) for dim in shape)
    return f"{dtype}[{dims}]"


def outputs(made: onnx.FunctionProto, specs: Sequence[Spec], given: Mapping[str, Any]) -> list[Spec]:
    """dtype and shape of each output for inputs of these.

    Raises:
        PluginError: the body does not take these inputs, or its shapes depend on values.
    """
    types = [onnx.helper.make_tensor_type_proto(_CODES[spec.dtype], spec.shape) for spec in specs]
    found = []
    for name, kind in zip(made.output, infer(made, types, given), strict=True):
        dtype, shape = from_type(kind)
        dims = tuple(dim for dim in shape or () if isinstance(dim, int))
        if shape is None or len(dims) != len(shape) or not dtype:
            raise PluginError(
                f"the shape of output {name!r} of {made.name} is not known from its inputs "
                f"({', '.join(map(str, specs))}): got {_text(kind)}; expected a body whose shapes do not "
                "depend on values"
            )
        found.append(Spec(dtype, dims))
    return found
