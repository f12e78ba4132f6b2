"""What the browser can ask a graph view for, by name: details, edits, the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import EditError, NotInModelError
from . import change, details

if TYPE_CHECKING:
    from .graph import GraphView

Params = Mapping[str, Any]
Answer = Callable[["GraphView", Params, list[bytes]], Any]
UPLOAD = 2 << 30
"""Bytes of one file that the browser may send."""


def _whole(view: GraphView, params: Params, _: list[bytes]) -> tuple[int, list[bytes]]:
    return view.pack(), [view.packed[: view.part]]


def _part(view: GraphView, params: Params, _: list[bytes]) -> tuple[None, list[bytes]]:
    start = int(params.get("part", 0)) * view.part
    return None, [view.packed[start : start + view.part]]


def _settle(view: GraphView, params: Params, _: list[bytes]) -> None:
    view.settle()


def _node(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    return details.node(view.model, str(params.get("node")))


def _tensor(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    return details.tensor(view.model, view.columns, int(params.get("tensor", -1)))


def _model(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    return details.overall(view.model)


def _operators(view: GraphView, params: Params, _: list[bytes]) -> list[str]:
    return details.operators(view.model)


def _edit(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    columns = view.columns
    if change.numbered(params["edit"]) and params.get("stamp", 0) != view.shown.stamp:
        raise EditError("the model has changed since this was shown; look at it again, and repeat the edit")
    made = change.edit(view.model, columns, params["edit"], view.uploads)
    view.uploads.pop(str(params["edit"].get("upload")), None)
    return _moved(view, view.model.apply(made), str(made))


def _undo(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    return _moved(view, view.model.history.undo(), "undone")


def _redo(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    return _moved(view, view.model.history.redo(int(params.get("branch", -1))), "redone")


def _goto(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    number = int(params.get("number", 0))
    return _moved(view, view.model.history.goto(number), f"version {number}")


def _moved(view: GraphView, model: Any, text: str) -> dict[str, Any]:
    view.model = model  # already so for a view that follows
    view.refresh()
    return {"text": text, "stamp": view.shown.stamp}


def _history(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    history = view.model.history
    rows = history.tree()
    at, here = history.number, 0
    while rows[at]["parent"] is not None:
        at, here = rows[at]["parent"], here + 1
    return {"rows": rows, "past": len(history) - here}


def _python(view: GraphView, params: Params, _: list[bytes]) -> dict[str, Any]:
    history = view.model.history
    held = any(edit.contents() for edit in history.edits)
    note = (
        "arrays of these edits are files: view.model.history.to_python('edits.py') writes both"
        if held
        else ""
    )
    return {"text": history.to_python(), "note": note}


def _upload(view: GraphView, params: Params, buffers: list[bytes]) -> int:
    """A piece of a file, in order; the number of bytes that are there."""
    key, at = str(params["file"]), int(params["at"])
    held = view.uploads.get(key, b"") if at else b""
    if at != len(held) or len(buffers) != 1 or at + len(buffers[0]) > UPLOAD:
        view.uploads.pop(key, None)
        raise EditError(
            f"the file did not arrive: got a piece at byte {at}, expected one at {len(held)}; send it again"
        )
    view.uploads[key] = held + bytes(buffers[0])
    return len(view.uploads[key])


ANSWERS: dict[str, Answer] = {
    "node": _node, "tensor": _tensor, "model": _model, "operators": _operators, "edit": _edit, "undo": _undo,
    "redo": _redo, "goto": _goto, "history": _history, "python": _python, "upload": _upload, "columns": _whole,
    "part": _part, "settle": _settle,
}  # fmt: skip
"""Answered at once, in the thread of the kernel: a model and those edited from it share a graph."""


def answer(view: GraphView, method: Any, params: Params, buffers: list[bytes]) -> tuple[Any, list[bytes]]:
    """(result, buffers) for a question of the browser."""
    if method not in ANSWERS:
        known = ", ".join([*ANSWERS, "weight", "shapes"])
        raise NotInModelError(f"the view cannot answer {method!r}; expected one of {known}")
    found = ANSWERS[method](view, params, buffers)
    return found if isinstance(found, tuple) else (found, [])
