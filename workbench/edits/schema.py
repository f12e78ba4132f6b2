"""What the schema of an operator says about a node: its attributes, how many inputs, which types."""

from __future__ import annotations

import difflib
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model.info import DTYPES
from .content import Content
from .words import choices

if TYPE_CHECKING:
    from .draft import Draft

_NAMES = {
    number: f"tensor({onnx.TensorProto.DataType.Name(number).lower()})" for number in DTYPES
}  # as schemas write them
_NAMES[onnx.TensorProto.FLOAT16] = "tensor(float16)"
_DTYPES = {name: DTYPES[number] for number, name in _NAMES.items()}
_KINDS = {
    "FLOAT": "a float", "INT": "an int", "STRING": "text", "FLOATS": "a list of floats", "INTS": "a list of ints",
    "STRINGS": "a list of texts", "TENSOR": "an array", "GRAPH": "a body", "GRAPHS": "bodies",
}  # fmt: skip


def schema_of(node: ir.Node, draft: Draft) -> onnx.defs.OpSchema | None:
    """The schema that holds for a node; None for custom operators and calls of functions."""
    if (node.domain, node.op_type, node.overload) in draft.model.functions:
        return None
    opsets = draft.opsets(draft.graph_of(node))
    return find(node.op_type, node.domain, opsets.get(node.domain, 0))


@lru_cache(maxsize=4096)
def find(op_type: str, domain: str, version: int) -> onnx.defs.OpSchema | None:
    """A schema by operator, domain and version of the operator set."""
    try:
        return onnx.defs.get_schema(op_type, version, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


def require(op_type: str, domain: str, draft: Draft, graph: ir.Graph) -> None:
    """Import the operator set of an operator's domain where the graph does not do that yet; refuse an operator that
    ONNX's own domains do not have in their version."""
    opsets = draft.opsets(graph)
    known = "" if domain == "ai.onnx" else domain
    standard = known in ("", "ai.onnx.ml")
    version = opsets.get(known)
    if version is None:
        version = _beside(opsets.get("", 0), draft.model.ir_version)[known == "ai.onnx.ml"] if standard else 1
        draft.put(opsets, known, version)
    if standard and find(op_type, known, version) is None:
        names = {s.name for s in onnx.defs.get_all_schemas() if s.domain == known}
        close = difflib.get_close_matches(op_type, sorted(names), n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; give one that it has"
        if op_type in names:
            hint = "; another version has it: convert_opset first"
        raise EditError(
            f"there is no operator {op_type!r} in operator set {version} of domain {known or 'ai.onnx'!r}{hint}"
        )


def _beside(opset: int, ir_version: int) -> tuple[int, int]:
    """Versions of (ai.onnx, ai.onnx.ml) that were released together, for a model that imports one of them."""
    rows = [row[1:4] for row in onnx.helper.VERSION_TABLE]
    fitting = [(main, ml) for ir_v, main, ml in rows if (main == opset if opset else ir_v <= ir_version)]
    return max(fitting, default=max((main, ml) for _, main, ml in rows))


def check_node(node: ir.Node, draft: Draft) -> None:
    """Refuse a node whose attributes, or numbers of inputs and outputs, its schema does not allow."""
    schema, label = schema_of(node, draft), f"node {node.name!r} ({node.op_type})"
    function = draft.model.functions.get((node.domain, node.op_type, node.overload))
    if function is not None:
        _check_count(label, "inputs", len(node.inputs), 0, len(function.inputs))
        _check_count(label, "outputs", len(node.outputs), 0, len(function.outputs))
    if schema is None:
        return
    for name, attribute in node.attributes.items():
        if name not in schema.attributes:
            raise EditError(_unknown_attribute(label, name, schema))
        wanted = schema.attributes[name].type.name
        if not attribute.is_ref() and attribute.type.name != wanted:
            raise EditError(
                f"{label}, attribute {name!r}: got {_KINDS.get(attribute.type.name, attribute.type.name)}, "
                f"expected {_KINDS.get(wanted, wanted)}; give a value of that kind"
            )
        if not attribute.is_ref() and wanted in ("STRING", "STRINGS"):
            _check_words(label, name, attribute.value, choices(schema, name))
    for name, wanted in schema.attributes.items():
        if wanted.required and name not in node.attributes:
            raise EditError(
                f"{label}: the attribute {name!r} is missing, expected "
                f"{_KINDS.get(wanted.type.name, wanted.type.name)}; give it a value"
            )
    inputs = [value for value in node.inputs]
    while inputs and inputs[-1] is None:
        inputs.pop()
    _check_count(label, "inputs", len(inputs), schema.min_input, schema.max_input)
    _check_count(label, "outputs", len(node.outputs), schema.min_output, schema.max_output)
    for index, formal in enumerate(schema.inputs[: len(inputs)]):
        if inputs[index] is None and formal.option == onnx.defs.OpSchema.FormalParameterOption.Single:
            raise EditError(
                f"{label}: input {index} ({formal.name}) is left out, but required; connect a tensor"
            )


def _check_words(label: str, name: str, value: Any, words: tuple[str, ...]) -> None:
    for word in (value if isinstance(value, list | tuple) else [value]) if words else ():
        if word not in words and not (name == "activations" and word.casefold() in map(str.casefold, words)):
            raise EditError(f"{label}, attribute {name!r}: got {word!r}, expected one of {', '.join(words)}")


def _check_count(label: str, what: str, got: int, least: int, most: int) -> None:
    if not least <= got <= most:
        expected = (
            str(least) if least == most else f"{least} to {most}" if most < 1 << 30 else f"{least} or more"
        )
        raise EditError(
            f"{label}: got {got} {what}, expected {expected}; choose an operator that takes so many"
        )


def _unknown_attribute(label: str, name: str, schema: onnx.defs.OpSchema) -> str:
    known = sorted(schema.attributes)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return (
        f"{label} has no attribute {name!r} in its schema ({schema.name}-{schema.since_version}); expected "
        f"{'one of ' + ', '.join(known) if known else 'none'}; "
        f"{f'did you mean {close[0]!r}?' if close else 'leave it out'}"
    )


def check_inputs(schema: onnx.defs.OpSchema, node: ir.Node, types: list[onnx.TypeProto | None]) -> None:
    """Refuse input types that the schema does not allow, or that do not go together."""
    bound: dict[str, tuple[str, int]] = {}
    formal = _formal(schema.name, schema.domain, schema.since_version)
    for index, kind in enumerate(types):
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.elem_type or not formal:
            continue
        name, variable, homogeneous, allowed = formal[min(index, len(formal) - 1)]
        got = _NAMES.get(kind.tensor_type.elem_type, "")
        label = f"node {node.name!r} ({node.op_type}), input {index} ({name})"
        value = node.inputs[index]
        if allowed and got not in allowed:
            listed = ", ".join(sorted(_DTYPES[t] for t in allowed if t in _DTYPES))
            raise EditError(
                f"{label}: got {_DTYPES.get(got, got)} from tensor {value.name if value else ''!r}, "
                f"expected one of {listed}; insert a Cast"
            )
        if homogeneous and bound.setdefault(variable, (got, index))[0] != got:
            other, at = bound[variable]
            raise EditError(
                f"{label}: got {_DTYPES.get(got, got)} from tensor {value.name if value else ''!r}, expected "
                f"{_DTYPES.get(other, other)} as input {at}; insert a Cast on one of them"
            )


@lru_cache(maxsize=4096)
def _formal(op_type: str, domain: str, version: int) -> list[tuple[str, str, bool, frozenset[str]]]:
    schema = onnx.defs.get_schema(op_type, version, domain)
    return [(i.name, i.type_str, i.is_homogeneous, frozenset(i.types)) for i in schema.inputs]


def attribute(label: str, name: str, value: Any, schema: onnx.defs.OpSchema | None) -> ir.Attr:
    """A typed attribute from a Python value; the schema decides what an empty list or a whole number means."""
    if schema is not None and name not in schema.attributes:
        raise EditError(_unknown_attribute(label, name, schema))
    wanted = schema.attributes[name].type.name if schema is not None else _guess(value)
    made = _convert(wanted, value)
    if made is None:
        raise EditError(
            f"{label}, attribute {name!r}: got {_shown(value)}, expected {_KINDS.get(wanted, wanted)}; "
            "give a value of that kind"
        )
    return ir.Attr(name, ir.AttributeType[wanted], made)


def _guess(value: Any) -> str:
    if isinstance(value, Content | np.ndarray):
        return "TENSOR"
    if isinstance(value, list | tuple):
        kinds = {_guess(item) for item in value} or {"INT"}
        return "FLOATS" if kinds == {"INT", "FLOAT"} else f"{kinds.pop()}S" if len(kinds) == 1 else "INTS"
    if isinstance(value, bool | int | np.integer):
        return "INT"
    return "FLOAT" if isinstance(value, float | np.floating) else "STRING"


def _convert(wanted: str, value: Any) -> Any:
    """A Python value as an attribute of a type; None when it is none."""
    if wanted.endswith("S"):
        if not isinstance(value, list | tuple):
            return None
        items = [_convert(wanted[:-1], item) for item in value]
        return None if any(item is None for item in items) else items
    if wanted == "INT" and isinstance(value, bool | int | np.integer):
        return int(value) if -(1 << 63) <= value < 1 << 63 else None
    if wanted == "FLOAT" and isinstance(value, bool | int | float | np.integer | np.floating):
        with np.errstate(over="ignore"):
            made = float(np.float32(value))
        return made if math.isfinite(made) or not math.isfinite(float(value)) else None
    if wanted == "STRING" and isinstance(value, str):
        return value
    if wanted == "TENSOR" and isinstance(value, Content):
        return value.tensor()
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
