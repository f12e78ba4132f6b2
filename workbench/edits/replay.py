"""Edits read back from a script or JSON, and applied again. A script is read, never executed."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import EditError, WorkbenchError
from ..model import Model, load
from .base import Edit, read
from .content import Content, Store
from .history import apply, held_in
from .kinds import BY_METHOD


def replay(source: Any, model: Any) -> Model:
    """Apply recorded edits to a model.

    Args:
        source: what ``history.to_python`` or ``history.to_json`` gave: its text, the path of the file, or the JSON as
            data; or edits. Of a script only lines of the form ``m = m.<edit>(<literals>)`` are used, and nothing in it
            is executed.
        model: what they start from, as ``wb.load`` takes it.

    Returns:
        The model; for the original file it is byte-equal to the one that the edits were recorded from.

    Raises:
        EditError: the source holds something else, or an edit does not fit this model (with its number).
    """
    made: Model = load(model)
    for number, edit in enumerate(parse(source), 1):
        try:
            made = apply(made, edit)
        except WorkbenchError as error:
            raise EditError(f"edit {number} ({edit.python()}) was refused: {error}") from error
    return made


def parse(source: Any) -> list[Edit]:
    """The edits in a source; see ``replay``."""
    if isinstance(source, list | tuple) and all(isinstance(edit, Edit) for edit in source):
        return list(source)
    folder = None
    if isinstance(source, os.PathLike) or (isinstance(source, str) and _is_path(source)):
        path = Path(source)
        try:
            source = path.read_text()
        except OSError as error:
            raise EditError(
                f"cannot read edits from {path}: {error.strerror}; expected a .py or .json file"
            ) from None
        folder = path.with_name(f"{path.stem}.contents")
    if isinstance(source, str) and not source.lstrip().startswith(("{", "[")):
        return list(_script(source, folder))
    try:
        data = json.loads(source) if isinstance(source, str | bytes) else source
    except ValueError as error:
        raise EditError(
            f"cannot read edits: it is no JSON ({error}); give what history.to_json wrote"
        ) from None
    return edits_of(data, Store(folder, held_in(data)))


def _is_path(text: str) -> bool:
    return "\n" not in text and text.endswith((".py", ".json"))


def edits_of(data: Any, store: Store) -> list[Edit]:
    """The edits in JSON data."""
    listed = data.get("edits") if isinstance(data, dict) else data
    if not isinstance(listed, list) or (isinstance(data, dict) and data.get("workbench") != 1):
        raise EditError("cannot read edits: expected what history.to_json wrote (version 1); write it again")
    return [read(item, BY_METHOD, store) for item in listed]


def _script(text: str, folder: Path | None) -> Iterator[Edit]:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise EditError(
            f"cannot read edits: line {error.lineno} is no Python; give what to_python wrote"
        ) from None
    store = Store(folder)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or _is_text(statement):
            continue
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(statement, ast.Assign) and isinstance(target, ast.Name):
            call = statement.value
            if target.id == "here" or _calls(call, "wb", ("load",)):
                continue
            if target.id == "m" and _calls(call, "m", BY_METHOD):
                yield _edit(call, store)
                continue
        raise EditError(
            f"cannot read edits: line {statement.lineno} is {ast.unparse(statement)[:80]!r}, expected "
            "m = m.<edit>(...) with plain values; remove it, or run the script with Python"
        )


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _calls(call: ast.expr, name: str, methods: Any) -> bool:
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == name
        and call.func.attr in methods
    )


def _edit(call: Any, store: Store) -> Edit:
    arguments = [_value(item, store) for item in call.args]
    keywords = {item.arg: _value(item.value, store) for item in call.keywords}
    try:
        return BY_METHOD[call.func.attr](*arguments, **keywords)
    except TypeError as error:
        raise EditError(
            f"cannot read edits: line {call.lineno}: {error}; give the fields of the edit"
        ) from None


def _value(item: ast.expr, store: Store) -> Any:
    if isinstance(item, ast.BinOp) and isinstance(item.op, ast.Div) and isinstance(item.right, ast.Constant):
        return _content(str(item.right.value), store)
    if isinstance(item, ast.Call) and isinstance(item.func, ast.Name) and item.func.id == "float":
        return float(ast.literal_eval(item.args[0]))
    if isinstance(item, ast.List | ast.Tuple):
        return tuple(_value(inner, store) for inner in item.elts)
    if isinstance(item, ast.Dict) and None not in item.keys:
        return {ast.literal_eval(k): _value(v, store) for k, v in zip(item.keys, item.values, strict=True)}  # type: ignore[arg-type]
    try:
        return ast.literal_eval(item)
    except ValueError:
        raise EditError(
            f"cannot read edits: line {item.lineno} has {ast.unparse(item)[:80]!r}, expected a plain value"
        ) from None


def _content(name: str, store: Store) -> Content:
    if store.folder is None or Path(name).name != name:
        raise EditError(
            f"cannot read edits: the content {name!r} is in a file; give replay the path of the script, not its text"
        )
    return store.read(store.folder / name)
