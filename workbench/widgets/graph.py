"""GraphView: a model's graph in a notebook cell, drawn by the bundle in static/graph.js (extensions/widgets).

Python and the browser share traits (the columns of ``workbench.view``, the overlay, the selection). What changes of
the columns is sent as a patch, ``{"patch": [from, to]}``, to those who look (``{"hello": id}`` until ``{"bye": id}``).
What is too much to send for nothing (documentation, weights, inferred shapes), and every edit, the browser asks for by
message: ``{"rpc": id, "method": name, "params": {...}}`` is answered by ``{"rpc": id, "result": ...}`` or ``{"rpc": id,
"error": text}``; ``{"cancel": id}`` ends work that is no longer wanted.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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
from .answers import answer
from .shown import Shown

if TYPE_CHECKING:
    from ..compare import Comparison
    from ..profile import Profile

BUNDLE = Path(__file__).parent / "static" / "graph.js"
PAUSE = 0.25  # seconds between two pictures while Python makes edit after edit
OVERLAYS = ("op", "dtype", "macs", "bytes", "origin")
HIDE = ("identity", "shape")


class GraphView(anywidget.AnyWidget):
    """The graph of a model, to look at and to edit.

    Args:
        model: a Model, or what ``wb.load`` takes.
        overlay: what colours the nodes: ``"op"``, ``"dtype"``, ``"macs"``, ``"bytes"``, ``"origin"`` (which fusion,
            plugin or edit made a node), a Profile (time), a Comparison (error; ``local=True`` for what a layer
            itself adds), or a mapping of node names to numbers or to words.
        hide: noise to leave out: ``"identity"`` (Identity, Dropout), ``"shape"`` (shape arithmetic); True for both.
        height: of the view, in pixels or as CSS.
        follow: whether an edit, undo or redo of the model shown (in Python, or in another view) shows here; without,
            only edits made in this view do.

    Attributes:
        model: the model shown, which is another one after each edit; observe it with ``view.observe(f, "model")``.
            Set another one and every picture of this view shows it, with what it has in common with the earlier one
            in its place.
        selection: names of the selected nodes, both ways; observe it with ``view.observe(f, "selection")``.

    Raises:
        NotInModelError: the overlay or the selection names what the model does not have.
    """

    part = 32 << 20  # bytes of columns in one message
    _esm = BUNDLE
    _data = traitlets.Bytes().tag(sync=True)
    _parts = traitlets.Int(1).tag(sync=True)
    _overlay = traitlets.Dict().tag(sync=True)
    _values = traitlets.Bytes().tag(sync=True)
    _color = traitlets.Unicode("op").tag(sync=True)
    _hide = traitlets.List(traitlets.Unicode()).tag(sync=True)
    selection = traitlets.List(traitlets.Unicode()).tag(sync=True)
    height = traitlets.Unicode("620px").tag(sync=True)
    _editable = traitlets.Bool(True).tag(sync=True)
    _still = traitlets.Unicode().tag(sync=True)  # name of the picture that stands for it without a kernel
    model = traitlets.Instance(Model)

    def __init__(
        self,
        model: Any,
        *,
        overlay: str | Profile | Comparison | Mapping[str, Any] = "op",
        local: bool = False,
        hide: bool | Iterable[str] = (),
        height: int | str = 620,
        follow: bool = True,
        **traits: Any,
    ):
        self.follow = follow
        self.uploads: dict[str, bytes] = {}
        self._watching: set[str] = set()
        self._stale, self._due, self._last = False, False, 0.0
        self._thread, self._loop = threading.get_ident(), _loop()
        self._following = False
        self._ends: Callable[[], None] = lambda: None
        self._running: dict[str, Event] = {}
        self._threads = ThreadPoolExecutor(2, "workbench-view")
        self._drawn: str | None = None
        self._visible: str | None = None
        traits.setdefault("_still", uuid.uuid4().hex)
        model = load(model)
        # the browser reads the bundle while the columns are made
        super().__init__(height=f"{height}px" if isinstance(height, int) else height, **traits)
        self.on_msg(self._receive)
        try:
            self.model = model
            self.hide(hide)
            self.overlay(overlay, local=local)
        except BaseException:
            self.close()
            raise

    # -- what is shown

    @traitlets.observe("model")
    def _show(self, change: Any) -> None:
        self._ends()
        if self.follow:
            self._ends = change.new.history.on_change(self._follow)
        if not hasattr(self, "shown"):
            self.shown = Shown(change.new, self._made)
            self.settle()
            return
        self._stale = True
        if not self._following:
            self.refresh()

    def _follow(self, model: Model) -> None:
        """Show what an edit elsewhere made: now, or soon when the last picture is hardly done."""
        self._following = True
        try:
            self.model = model
        finally:
            self._following = False
        if not self._watching:
            return  # it is shown when somebody looks
        wait = self._last + PAUSE - time.monotonic()
        loop = _loop()
        if wait <= 0 or loop is None:
            self.refresh()
        elif not self._due:
            self._due = True
            loop.call_later(wait, self.refresh)

    def refresh(self) -> None:
        """Send the browser what is not shown yet."""
        self._due = False
        if not self._stale:
            return
        self._stale, self._last = False, time.monotonic()
        old = self.shown.columns
        patch = self.shown.show(self.model)
        self._drawn = self._visible = None
        self._tell(patch)
        rows = self.shown.rows(old)
        chosen = {old.header["nodes"].index(name) for name in self.selection}
        with self.hold_trait_notifications():
            if chosen:
                nodes = self.shown.columns.header["nodes"]
                self.selection = [nodes[now] for now in np.flatnonzero(np.isin(rows, list(chosen)))]
            if self._values and patch is None:  # numbers belong to the nodes of another model
                self._overlay, self._values, self._color = {}, b"", "op"
            elif self._values:
                self._lay(self._laid.moved(rows), self._color)

    def _tell(self, patch: view.Columns | None) -> None:
        """Tell the browser what has changed of the columns; None for all of it."""
        if patch is None:
            self.settle()
        elif self._watching:
            self.send({"patch": [patch.header["from"], patch.header["stamp"]]}, [patch.pack()])

    @property
    def columns(self) -> view.Columns:
        """The columns of the model that is shown now."""
        self.refresh()
        return self.shown.columns

    def pack(self) -> int:
        """Pack the columns as they are now; the number of messages that they take."""
        self.packed = self.columns.pack()
        return -(-len(self.packed) // self.part)

    def settle(self) -> None:
        """Give the saved state of the widget the columns as they are now."""
        parts = self.pack()
        with self.hold_trait_notifications():
            self._parts, self._data = parts, self.packed[: self.part]
        self._settled = self.shown.stamp

    @traitlets.validate("selection")
    def _check_selection(self, proposal: Any) -> list[str]:
        here = threading.get_ident() == self._thread
        known = set((self.columns if here else self.shown.columns).header["nodes"])
        unknown = [name for name in proposal.value if name not in known]
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
        self._lay(view.overlay(self.columns, source, local))
        return self

    def _made(self, model: Model, infer: bool, earlier: view.Columns | None = None) -> view.Columns:
        """What is drawn of a model."""
        return view.columns(model, infer=infer, earlier=earlier)

    def _ask(self, method: Any, params: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
        """What is answered at once."""
        return answer(self, method, params, buffers)

    def _lay(self, made: view.Overlay, color: str = "values") -> None:
        """Have the numbers of an overlay, and colour by them or by something else."""
        self._laid = made
        with self.hold_trait_notifications():
            self._overlay = made.header()
            self._values = made.values.astype("<f8").tobytes()
            self._color = color
        self._drawn = self._visible = None

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
        """Write what is in view in the browser, as it was when it last came to rest; returns the path.

        Where nothing is shown yet (no browser, the same cell) an overview is written: the whole graph when it is
        small, else its modules.
        """
        target = Path(path).absolute()
        target.write_text(self._visible or self._svg(), "utf-8")
        return target

    def _svg(self) -> str:
        self.refresh()
        if self._drawn is None:
            numbers = np.frombuffer(self._values, "<f8") if self._color == "values" else None
            self._drawn = picture.svg(self.columns, numbers, self._overlay.get("categories", ()))
        return self._drawn

    def _ipython_display_(self) -> None:
        """The widget, and a picture that is seen where the widget is not: without a kernel, in exported HTML."""
        from IPython.display import display

        bundle = super()._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        if data is not None:
            if self.shown.stamp != self._settled:
                self.settle()
            display({**data, "text/plain": repr(self)}, raw=True)
        svg = self._svg()
        display(
            {"text/html": picture.still(svg, self._still), "image/svg+xml": svg, "text/plain": ""}, raw=True
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, *rest = bundle if isinstance(bundle, tuple) else (bundle,)
        if data is None:
            return bundle
        if self.shown.stamp != self._settled:
            self.settle()
        data = {**data, "text/plain": repr(self), "image/svg+xml": self._svg()}
        return (data, *rest) if rest else data

    def __repr__(self) -> str:
        return f"<GraphView of {self.model.name!r}: {len(self.columns.header['nodes'])} nodes>"

    # -- what the browser asks for

    def _receive(self, _: Any, message: Any, buffers: Any) -> None:
        if not isinstance(message, dict):
            return
        if "cancel" in message:
            running = self._running.get(str(message["cancel"]))
            if running:
                running.set()
        elif "visible" in message:
            self._visible = str(message["visible"])
        elif "bye" in message:
            self._watching.discard(str(message["bye"]))
        elif "rpc" in message:
            work = partial(self._answer, message, [bytes(item) for item in buffers or ()])
            # JupyterLab's messages may come in a thread of their own, while a cell runs that uses the same graph
            if self._loop is None or threading.get_ident() == self._thread:
                work()
            else:
                self._loop.call_soon_threadsafe(work)

    def _answer(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        """Answer at once, or begin what takes long in a thread (which takes nothing of the graph that edits move)."""
        number, method, params = str(message["rpc"]), message.get("method"), message.get("params") or {}
        slow: Callable[[Callable[[], bool]], Any] | None = None
        if method == "hello":
            self._watching.add(str(params.get("id")))
            work: Callable[[], Any] = lambda: (self._stamp(), [])  # noqa: E731
        elif method == "weight":
            made, tensor = self.columns, int(params.get("tensor", -1))
            slow = lambda cancelled: (details.weight(made, tensor, cancelled), [])  # noqa: E731
        elif method == "shapes":
            slow = self._shapes()
        else:
            work = lambda: self._ask(method, params, buffers)  # noqa: E731
        if slow is None:
            self._reply(number, work)
            return
        event = self._running[number] = Event()
        self._threads.submit(self._reply, number, lambda: slow(event.is_set), event)

    def _stamp(self) -> int:
        self.refresh()
        return self.shown.stamp

    def _shapes(self) -> Callable[[Callable[[], bool]], Any]:
        """Shapes and costs of the model shown; everybody gets them as a patch."""
        self.refresh()
        return self.shown.inferring(self._models, self._inferred, self._tell)

    @property
    def _models(self) -> tuple[Model, ...]:
        """What is drawn."""
        return (self.model,)

    def _inferred(self, model: Model, made: view.Columns) -> view.Columns:
        """The columns with what inferring shapes found."""
        return view.inferred(model, made)

    def _reply(
        self, number: str, work: Callable[[], tuple[Any, list[bytes]]], event: Event | None = None
    ) -> None:
        try:
            result, buffers = work()
            if event is None or not event.is_set():
                self.send({"rpc": number, "result": result}, buffers)
        except WorkbenchError as error:
            self.send({"rpc": number, "error": str(error)})
        except Exception as error:  # the browser must hear of it, whatever it is
            self.send({"rpc": number, "error": f"{type(error).__name__}: {error}"})
        finally:
            self._running.pop(number, None)

    def close(self) -> None:
        """End the view and its threads."""
        self._ends()
        for event in self._running.values():
            event.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()


def _loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs here: that of the kernel, or none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
