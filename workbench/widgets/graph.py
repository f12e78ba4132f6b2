"""GraphView: a model's graph in a notebook cell, drawn by the bundle in static/graph.js (extensions/widgets).

Python and the browser share traits (the columns of ``workbench.view``, the overlay, the selection). What is too
much to send for nothing (documentation, weights, inferred shapes) the browser asks for by message: ``{"rpc": id,
"method": name, "params": {...}}`` is answered by ``{"rpc": id, "result": ...}`` or ``{"rpc": id, "error": text}``;
``{"cancel": id}`` ends work that is no longer wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from .. import view
from ..errors import NotInModelError, WorkbenchError
from ..model import Model, load
from . import details, page, picture

if TYPE_CHECKING:
    from ..compare import Comparison
    from ..profile import Profile

BUNDLE = Path(__file__).parent / "static" / "graph.js"
AT_ONCE = 400
"""Nodes up to which shapes are inferred before the first picture; beyond, after it."""
PART = 32 << 20
"""Bytes of columns in one message."""
OVERLAYS = ("op", "dtype", "macs", "bytes", "origin")
HIDE = ("identity", "shape")


class GraphView(anywidget.AnyWidget):
    """The graph of a model, to look at.

    Args:
        model: a Model, or what ``wb.load`` takes.
        overlay: what colours the nodes: ``"op"``, ``"dtype"``, ``"macs"``, ``"bytes"``, ``"origin"`` (which fusion,
            plugin or edit made a node), a Profile (time), a Comparison (error; ``local=True`` for what a layer
            itself adds), or a mapping of node names to numbers or to words.
        hide: noise to leave out: ``"identity"`` (Identity, Dropout), ``"shape"`` (arithmetic on shapes alone);
            True for both.
        height: of the view, in pixels or as CSS.

    Attributes:
        model: the model shown; set another one and every picture of this view shows it, with what it has in
            common with the earlier one in its place.
        selection: names of the selected nodes, both ways; observe it with ``view.observe(f, "selection")``.

    Raises:
        NotInModelError: the overlay or the selection names what the model does not have.
    """

    _esm = BUNDLE
    _data = traitlets.Bytes().tag(sync=True)
    _parts = traitlets.Int(1).tag(sync=True)
    _overlay = traitlets.Dict().tag(sync=True)
    _values = traitlets.Bytes().tag(sync=True)
    _color = traitlets.Unicode("op").tag(sync=True)
    _hide = traitlets.List(traitlets.Unicode()).tag(sync=True)
    selection = traitlets.List(traitlets.Unicode()).tag(sync=True)
    height = traitlets.Unicode("620px").tag(sync=True)
    model = traitlets.Instance(Model)

    def __init__(
        self,
        model: Any,
        *,
        overlay: str | Profile | Comparison | Mapping[str, Any] = "op",
        local: bool = False,
        hide: bool | Iterable[str] = (),
        height: int | str = 620,
        **traits: Any,
    ):
        self._running: dict[str, Event] = {}
        self._threads = ThreadPoolExecutor(2, "workbench-view")
        self._drawn: str | None = None
        super().__init__(
            model=load(model), height=f"{height}px" if isinstance(height, int) else height, **traits
        )
        self.hide(hide)
        self.overlay(overlay, local=local)
        self.on_msg(self._receive)

    # -- what is shown

    @traitlets.observe("model")
    def _show(self, change: Any) -> None:
        self._columns = self._made(change.new, len(change.new.ir.graph) <= AT_ONCE)
        self._names = set(self._columns.header["nodes"])
        self._packed = self._columns.pack()
        self._drawn = None
        with self.hold_trait_notifications():
            self._parts = -(-len(self._packed) // PART)
            self._data = self._packed[:PART]
            self.selection = [name for name in self.selection if name in self._names]
            if self._values:  # numbers belong to the nodes of the earlier model
                self._overlay, self._values, self._color = {}, b"", "op"

    @traitlets.validate("selection")
    def _check_selection(self, proposal: Any) -> list[str]:
        unknown = [name for name in proposal.value if name not in self._names]
        if unknown:
            raise NotInModelError(
                f"cannot select in {self.model.name!r}: it has no node {unknown[0][:200]!r}; Model.nodes lists them"
            )
        return list(proposal.value)

    def overlay(
        self, source: str | Profile | Comparison | Mapping[str, Any] = "op", *, local: bool = False
    ) -> GraphView:
        """Colour the nodes by something else (see the class); returns the view."""
        if isinstance(source, str):
            if source not in OVERLAYS:
                raise NotInModelError(
                    f"cannot colour by {source!r}; expected one of {', '.join(OVERLAYS)}, a Profile, a Comparison "
                    "or a mapping"
                )
            self._color = source
            return self
        self._lay(view.overlay(self._columns, source, local))
        return self

    def _made(self, model: Model, infer: bool) -> view.Columns:
        """What is drawn of a model."""
        return view.columns(model, infer=infer)

    def _lay(self, made: view.Overlay) -> None:
        """Colour by an overlay."""
        with self.hold_trait_notifications():
            self._overlay = made.header()
            self._values = made.values.astype("<f8").tobytes()
            self._color = "values"
        self._drawn = None

    def hide(self, what: bool | Iterable[str] = True) -> GraphView:
        """Leave noise out of the picture, or show it again with ``hide(False)``; returns the view."""
        wanted = list(HIDE if what is True else () if what is False else what)
        for name in wanted:
            if name not in HIDE:
                raise NotInModelError(f"cannot hide {name!r}; expected some of {', '.join(HIDE)}")
        self._hide = wanted
        return self

    # -- files and pictures

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one self-contained interactive page (to look at; it needs no network); returns its path."""
        full = self._made(self.model, True)
        return page.write(Path(path), full.pack(), BUNDLE.read_text("utf-8"), self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "overlay": self._color,
            "hide": list(self._hide),
            "selection": list(self.selection),
            "header": dict(self._overlay) or None,
            "values": self._values,
            "title": self.model.name,
        }

    def to_svg(self, path: str | os.PathLike[str]) -> Path:
        """Write a static overview: the whole graph when it is small, else its modules; returns its path."""
        target = Path(path).absolute()
        target.write_text(self._svg(), "utf-8")
        return target

    def _svg(self) -> str:
        if self._drawn is None:
            numbers = np.frombuffer(self._values, "<f8") if self._color == "values" else None
            self._drawn = picture.svg(self._columns, numbers, self._overlay.get("categories", ()))
        return self._drawn

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, *rest = bundle if isinstance(bundle, tuple) else (bundle,)
        if data is None:
            return bundle
        data = {**data, "text/plain": repr(self), "image/svg+xml": self._svg()}
        return (data, *rest) if rest else data

    def __repr__(self) -> str:
        return f"<GraphView of {self.model.name!r}: {len(self._columns.header['nodes'])} nodes>"

    # -- what the browser asks for

    def _receive(self, _: Any, message: Any, buffers: Any) -> None:
        if not isinstance(message, dict):
            return
        if "cancel" in message:
            running = self._running.get(str(message["cancel"]))
            if running:
                running.set()
        elif "rpc" in message:
            event = self._running[str(message["rpc"])] = Event()
            self._threads.submit(self._answer, message, event)

    def _answer(self, message: dict[str, Any], event: Event) -> None:
        number = message["rpc"]
        try:
            result, buffers = self._call(message.get("method"), message.get("params") or {}, event.is_set)
            if not event.is_set():
                self.send({"rpc": number, "result": result}, buffers)
        except WorkbenchError as error:
            self.send({"rpc": number, "error": str(error)})
        except Exception as error:  # the browser must hear of it, whatever it is
            self.send({"rpc": number, "error": f"{type(error).__name__}: {error}"})
        finally:
            self._running.pop(str(number), None)

    def _call(
        self, method: Any, params: dict[str, Any], cancelled: Callable[[], bool]
    ) -> tuple[Any, list[bytes]]:
        if method == "node":
            return details.node(self.model, str(params.get("node"))), []
        if method == "weight":
            return details.weight(self._columns, int(params.get("tensor", -1)), cancelled), []
        if method == "shapes":
            return None, [view.shapes(self.model, self._columns).pack()]
        if method == "part":
            start = int(params.get("part", 0)) * PART
            return None, [self._packed[start : start + PART]]
        raise NotInModelError(f"the view cannot answer {method!r}; expected node, weight, shapes or part")

    def close(self) -> None:
        """End the view and its threads."""
        for event in self._running.values():
            event.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()
