"""What an edit is: a small frozen dataclass that changes a draft, prints as a line of Python and travels as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import EditError
from .content import Content, Store

if TYPE_CHECKING:
    import onnx_ir as ir

    from .draft import Draft


@dataclass(frozen=True)
class Edit:
    """One change of a model.

    A subclass is a frozen dataclass whose fields are plain data (text, numbers, None, tuples, dicts of these, and
    ``Content``), and ``change``, which takes steps on a draft. It may refuse at any point with EditError: what it did
    by then is undone. When it is through, the touched nodes and the cone of what follows from them are checked.
    A subclass that replaces the whole graph has ``replace`` instead.

    Class attributes:
        method: name of the Model method that makes and applies it.
        typed: whether types have to be known for it; the first such edit of a loaded model infers all of them.
    """

    method: ClassVar[str]
    typed: ClassVar[bool] = True

    def change(self, draft: Draft) -> None:
        """Take the steps. Raises EditError or NotInModelError to refuse."""
        raise NotImplementedError

    def python(self, content: str = "here") -> str:
        """``rename_node('a', 'b')``: the call on a model that makes this edit.

        Args:
            content: the expression for the folder of the contents.
        """
        written: list[str] = []
        keywords = False
        for item in fields(self):
            value = getattr(self, item.name)
            default = item.default if item.default_factory is MISSING else item.default_factory()
            if default is not MISSING and value == default and type(value) is type(default):
                keywords = True
                continue
            shown = _python(value, content)
            keywords = keywords or item.kw_only is True
            written.append(f"{item.name}={shown}" if keywords else shown)
        return f"{self.method}({', '.join(written)})"

    def __str__(self) -> str:
        return f"m = m.{self.python()}"

    def json(self) -> dict[str, Any]:
        """Plain data that ``read`` makes the same edit of."""
        return {"edit": self.method} | {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    def contents(self) -> list[Content]:
        """The contents that it refers to."""
        return [value for item in fields(self) for value in _contents(getattr(self, item.name))]


class Whole(Edit):
    """An edit that makes a new graph instead of changing the one that is there."""

    def replace(self, model: ir.Model) -> ir.Model:
        """The new graph; ``model`` must stay as it is. Raises EditError to refuse."""
        raise NotImplementedError


def read(data: dict[str, Any], kinds: Mapping[str, type[Edit]], store: Store) -> Edit:
    """The edit that ``Edit.json`` described; EditError when it describes none."""
    if not isinstance(data, dict) or data.get("edit") not in kinds:
        got = data.get("edit") if isinstance(data, dict) else data
        raise EditError(f"cannot read an edit: got {got!r}, expected one of {', '.join(sorted(kinds))}")
    kind = kinds[data["edit"]]
    try:
        return kind(**{key: _from_plain(value, store) for key, value in data.items() if key != "edit"})
    except TypeError as error:
        raise EditError(f"cannot read an edit {data['edit']!r}: {error}; expected its fields") from None


def tuples(value: Any) -> Any:
    """Lists and arrays to tuples, at any depth, so that an edit is a value."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, list | tuple):
        return tuple(tuples(item) for item in value)
    return value


def names(value: Any) -> tuple[Any, ...]:
    """One name or several as a tuple."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)


def _python(value: Any, content: str) -> str:
    if isinstance(value, Content):
        return f"{content} / {value.file_name!r}"
    if isinstance(value, tuple):
        items = [_python(item, content) for item in value]
        return f"[{', '.join(items)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_python(item, content)}" for key, item in value.items()) + "}"
    if isinstance(value, float) and not re.fullmatch(r"-?[\d.e+-]+", repr(value)):
        return f"float({str(value)!r})"
    return repr(value)  # which escapes what is not printable: a name cannot hide what a line does


def _plain(value: Any) -> Any:
    if isinstance(value, Content):
        return {"sha256": value.sha256, "suffix": value.suffix}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {"dict": {key: _plain(item) for key, item in value.items()}}
    return value


def _from_plain(value: Any, store: Store) -> Any:
    if isinstance(value, dict) and "sha256" in value:
        return store.find(value["sha256"], value["suffix"])
    if isinstance(value, dict):
        return {key: _from_plain(item, store) for key, item in value["dict"].items()}
    if isinstance(value, list):
        return tuple(_from_plain(item, store) for item in value)
    return value


def _contents(value: Any) -> list[Content]:
    if isinstance(value, Content):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [found for item in value for found in _contents(item)] if isinstance(value, tuple) else []
