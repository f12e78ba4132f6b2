"""From what is typed in the browser to an edit: text becomes numbers, lists, shapes, as the schema wants them."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from ..edits import BY_METHOD, Edit
from ..edits.base import read
from ..edits.content import Store, of_bytes
from ..edits.nodes import SetAttribute
from ..edits.weights import ReplaceWeight
from ..errors import EditError
from ..model import Model
from ..view import Columns
from .details import find, schema_of


def edit(model: Model, columns: Columns, wanted: Mapping[str, Any], uploads: Mapping[str, bytes]) -> Edit:
    """The edit that the browser asks for.

    Args:
        columns: in which tensors have numbers.
        wanted: ``edit`` (the name of a Model method) and its fields. A field ``tensor`` and the members of
            ``inputs`` and ``outputs`` are numbers of tensors in the columns; fields that end in ``_text`` are what
            was typed; ``upload`` is the number of a file in ``uploads``.

    Raises:
        EditError: what was typed cannot be read.
    """
    fields = {key: value for key, value in wanted.items() if not key.endswith("_text") and key != "upload"}
    method = str(fields.get("edit"))
    for key in ("tensor",):
        if isinstance(fields.get(key), int):
            fields[key] = columns.key(_number(columns, fields[key]))
    for key in ("inputs", "outputs"):
        if method == "extract":
            fields[key] = [columns.key(_number(columns, item)) for item in fields[key]]
    if "upload" in wanted:
        data = uploads.get(str(wanted["upload"]), b"")
        if not data.startswith(b"\x93NUMPY"):
            raise EditError(
                f"cannot replace weight {fields['tensor']!r}: the file is no .npy; save it with numpy.save"
            )
        return ReplaceWeight(fields["tensor"], of_bytes(data, ".npy"))
    for key, text in wanted.items():
        if key.endswith("_text"):
            fields[key[:-5]] = _read(model, wanted, key[:-5], str(text))
    if isinstance(fields.get("value"), np.ndarray):
        return SetAttribute(fields["node"], fields["name"], fields["value"])
    return read(fields, BY_METHOD, Store())


def numbered(wanted: Mapping[str, Any]) -> bool:
    """Whether an edit names tensors by their numbers, which another edit may have moved."""
    return isinstance(wanted.get("tensor"), int) or wanted.get("edit") == "extract"


def _number(columns: Columns, tensor: Any) -> int:
    if not isinstance(tensor, int) or not 0 <= tensor < len(columns.header["tensors"]):
        raise EditError(f"there is no tensor {tensor!r} in the view; show the model again")
    return tensor


def _read(model: Model, wanted: Mapping[str, Any], key: str, text: str) -> Any:
    if key == "value":
        return value_of(model, str(wanted["node"]), str(wanted["name"]), text)
    if key == "shape":
        return dims(text)
    if key == "attributes":
        return {"dict": attributes(text)}
    if key == "inputs":
        return (
            [None if name in ("_", "") else name for name in re.split(r"\s*,\s*", text.strip())]
            if text.strip()
            else None
        )
    if key in ("scale", "zero_point"):
        return _number_or_list(key, text)
    if key in ("axis", "through", "version"):
        return int(_literal(key, text, int, "an int")) if text.strip() else None
    if key == "tensor":
        return text or None
    raise EditError(
        f"cannot read {key!r} from text; expected value, shape, attributes, inputs, scale or axis"
    )


def value_of(model: Model, node: str, name: str, text: str) -> Any:
    """An attribute's value from what was typed, by the type that the schema (or the value that is there) has."""
    graph, found = find(model, node)
    schema = schema_of(model, graph, found)
    there = found.attributes.get(name)
    kind = schema.attributes[name].type.name if schema and name in schema.attributes else None
    kind = kind or (there.type.name if there is not None and not there.is_ref() else None)
    label = f"node {node[:80]!r} ({found.op_type}), attribute {name!r}"
    if kind == "STRING":
        return text
    if kind == "TENSOR":
        return _tensor(label, text, there)
    if kind is None:  # a custom operator: what reads as Python is that, anything else is text
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
    if kind.endswith("S"):
        inner = text.strip()
        inner = inner if inner.startswith(("[", "(")) else f"[{inner}]"
        if kind == "STRINGS" and not re.match(r"""\[\s*(['"]|\])""", inner):
            return [part.strip() for part in inner[1:-1].split(",")]
        return list(_literal(label, inner, (list, tuple), f"{_WORDS[kind]}, such as {_SAMPLES[kind]}", text))
    return _literal(label, text, (int, float), _WORDS.get(kind, kind.lower()))


_WORDS = {"INT": "an int", "FLOAT": "a float", "INTS": "a list of ints", "FLOATS": "a list of floats",
          "STRINGS": "a list of texts"}  # fmt: skip
_SAMPLES = {"INTS": "[1, 2]", "FLOATS": "[0.5, 1.0]", "STRINGS": "['a', 'b']"}


def _literal(
    label: str, text: str, kinds: type | tuple[type, ...], expected: str, typed: str | None = None
) -> Any:
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
        if re.fullmatch(r"[+-]?(inf|nan)", text.strip().lower()):
            value = float(text)
    if not isinstance(value, kinds):
        raise EditError(f"{label}: got {(typed or text)[:60]!r}, expected {expected}; correct it")
    return value


def _number_or_list(key: str, text: str) -> Any:
    value = _literal(key, text, (int, float, list, tuple), "a number, or a list of one per slice")
    return list(value) if isinstance(value, list | tuple) else value


def _tensor(label: str, text: str, there: ir.Attr | None) -> np.ndarray:
    dtype = there.value.numpy().dtype if there is not None and not there.is_ref() else np.dtype(np.float32)
    try:
        return np.array(ast.literal_eval(text.strip()), dtype)
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError):
        raise EditError(
            f"{label}: got {text[:60]!r}, expected {dtype.name} numbers, such as [0, 1]; correct it"
        ) from None


def dims(text: str) -> list[int | str | None]:
    """A shape as it is written: ``1×3×height``, ``[1, 3, 'height']``, ``1, 3, ?``; ``scalar`` for none."""
    inner = text.strip().strip("[]()")
    if inner in ("", "scalar"):
        return []
    parts = [part.strip().strip("'\"") for part in re.split(r"[×,]", inner)]
    if parts[-1] == "":
        parts.pop()
    return [int(p) if re.fullmatch(r"-?\d+", p) else None if p in ("?", "None", "") else p for p in parts]


def attributes(text: str) -> dict[str, Any]:
    """``axis=1, perm=[0, 2, 1], mode='linear'`` as a mapping."""
    try:
        call = ast.parse(f"f({text.strip()})", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return {str(item.arg): ast.literal_eval(item.value) for item in call.keywords if item.arg}
    except (ValueError, SyntaxError, AssertionError, MemoryError, RecursionError):
        raise EditError(
            f"cannot read attributes: got {text[:60]!r}, expected them as axis=1, perm=[0, 2, 1], mode='linear'; "
            "correct it"
        ) from None
