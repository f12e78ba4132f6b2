"""What an edit may hold: its fields are checked against their annotations, and numpy's numbers become Python's."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..errors import EditError
from .base import Edit

E = TypeVar("E", bound=Edit)
_WORDS = {str: "text", int: "whole number", float: "number", bool: "True or False", type(None): "None"}


def checked(edit: E) -> E:
    """An edit whose fields are what they are annotated as; EditError for one whose fields are not."""
    if not isinstance(edit, Edit):
        raise EditError(
            f"cannot apply {edit!r}: got {type(edit).__name__}, expected an edit; see workbench.edits"
        )
    changed, kind = {}, type(edit)
    hints = _hints(kind)  # type: ignore[arg-type]  # a class can be hashed
    for item in fields(edit):
        hint, value = hints[item.name], getattr(edit, item.name)
        plain = _plain(value)
        text = _encodable(plain)
        if not text or not _fits(plain, hint):
            shown = ascii(value)
            expected = _words(hint) if text else "text that UTF-8 has"
            raise EditError(
                f"cannot {edit.method}: got {shown if len(shown) <= 60 else shown[:57] + '...'} as {item.name!r}, "
                f"expected {'a ' * expected.startswith(('whole', 'number'))}{expected}; "
                f"see help(Model.{edit.method})"
            )
        if plain is not value:
            changed[item.name] = plain
    return replace(edit, **changed) if changed else edit


@lru_cache(maxsize=256)
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _plain(value: Any) -> Any:
    """A value with Python's numbers in the place of numpy's; the same object where there are none."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        items = tuple(map(_plain, value))
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def _encodable(value: Any) -> bool:
    """Whether all text in it can be written into a file."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
    if isinstance(value, Mapping):
        return all(map(_encodable, (*value.keys(), *value.values())))
    return all(map(_encodable, value)) if isinstance(value, tuple | list) else True


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, given = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, item) for item in given)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if given[-1] is not ...:
            return len(value) == len(given) and all(map(_fits, value, given))
        return all(_fits(item, given[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _fits(key, given[0]) and _fits(item, given[1]) for key, item in value.items()
        )
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any, *, many: bool = False) -> str:
    """``a list of texts or None``."""
    origin, given = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        words = [_words(item, many=many) for item in given]
        return ", ".join(words) if many else f"{', '.join(words[:-1])} or {words[-1]}"
    if origin is tuple:
        items = [_words(item, many=given[-1] is ...) for item in given if item is not ...]
        lead = "lists" if many else "a list"
        simple = given[-1] is ... and len(items) == 1 and "," not in items[0] and not many
        return f"{lead} of {items[0]}" if simple else f"{lead} ({', '.join(items)})"
    if origin is Mapping:
        return "a dict"
    word = _WORDS.get(hint, getattr(hint, "__name__", str(hint)))
    return f"{word}s" if many and word in ("text", "whole number", "number") else word
