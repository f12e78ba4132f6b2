"""Edits: changes of a model that are checked, can be undone, print as a line of Python and replay to the same bytes.

    m2 = m.rename_node("Conv_0", "stem")      # every kind of edit is a method; m stays as it is
    m2.history.undo()                         # m again
    print(m2.history.to_python())             # a script that makes m2 from the original file

``Model.apply`` takes the same as a value, ``RenameNode("Conv_0", "stem")``, which is what a widget sends.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

from ..model import Model
from . import origins, whole
from .base import Edit
from .history import History, apply, recorded
from .kinds import BY_METHOD, KINDS, LATER, LATER_METHODS, late
from .replay import parse, replay

globals().update({kind.__name__: kind for kind in KINDS})

__all__ = [
    "BY_METHOD",
    "KINDS",
    "METHODS",
    "Edit",
    "History",
    "apply",
    "origins",
    "parse",
    "recorded",
    "replay",
]
__all__ += [kind.__name__ for kind in KINDS]


def _method(kind: type[Edit]) -> Any:
    def method(self: Model, *args: Any, **kwargs: Any) -> Model:
        return self.apply(kind(*args, **kwargs))

    given = [*inspect.signature(kind).parameters.values()]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__name__, method.__doc__ = kind.method, kind.__doc__
    method.__qualname__ = f"Model.{kind.method}"
    method.__signature__ = inspect.Signature([own, *given])  # type: ignore[attr-defined]
    assert {item.name for item in fields(kind)} == set(inspect.signature(kind).parameters)
    return method


def _surgeon(self: Model) -> AbstractContextManager[Any]:
    """Script any change with GraphSurgeon: what the block did becomes one edit.

    with m.surgeon() as graph:
        graph.nodes[0].name = "first"
    m = graph.model

    Gives an ``onnx_graphsurgeon.Graph``; after the block its attribute ``model`` is the new Model. Of a model with more
    than 1.5 GB of weights, those of more than 1024 elements are there by name and shape; their values cannot be read.

    Raises:
        EditError: the block left a graph that is no model; nothing has changed.
    """
    return whole.surgeon(self, apply)


class Later:
    """A method of ``Model`` that a later package defines: the first use imports it and takes this one's place."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, model: Model | None, owner: type[Model]) -> Any:
        function = (
            late(LATER_METHODS, self.name) if self.name in LATER_METHODS else _method(BY_METHOD[self.name])
        )
        setattr(Model, self.name, function)
        return function if model is None else function.__get__(model, owner)


METHODS = (*BY_METHOD, *LATER_METHODS, "surgeon")
"""Names of the methods that this package adds to ``Model``."""
for _kind in KINDS:
    setattr(Model, _kind.method, _method(_kind))
for _name in (*LATER, *LATER_METHODS):
    setattr(Model, _name, Later(_name))
Model.surgeon = _surgeon  # type: ignore[attr-defined]
