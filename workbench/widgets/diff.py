"""DiffView: two versions of a model as one graph in a notebook cell, what differs marked."""

from __future__ import annotations

from typing import Any

import traitlets

from .. import view
from ..diff import diff
from ..errors import NotInModelError
from ..model import Model, load
from . import details
from .graph import GraphView


class DiffView(GraphView):
    """The graph of two versions of a model, to look at.

    Args:
        before, after: models, or what ``wb.load`` takes.
        table: their differences, where ``wb.diff`` has found them already.
        options: those of ``GraphView``.

    Attributes:
        before: what is compared with; ``model`` is the other one, and setting it compares that.
        table: the differences, as ``wb.diff`` gives them.
    """

    def __init__(self, before: Any, after: Any, *, table: Any = None, **options: Any):
        self.before = load(before)
        self._known: dict[Model, Any] = {} if table is None else {after: table}
        overlay = options.pop("overlay", None)
        super().__init__(after, follow=False, **options)
        self._editable = False
        if overlay is None:
            self._lay(self._differences)
        else:
            self.overlay(overlay)

    @traitlets.observe("model")
    def _show(self, change: Any) -> None:
        super()._show(change)
        self._lay(self._differences)

    def _made(self, model: Model, infer: bool, earlier: view.Columns | None = None) -> view.Columns:
        if model not in self._known:
            self._known = {model: diff(self.before, model)}
        self.table = self._known[model]
        one = view.kept(view.columns(self.before, infer=infer))
        two = view.kept(view.columns(model, infer=infer))
        self._pair = one, two
        made, self._differences = self._merged()
        both = len(two.header["nodes"])
        gone = [name for name in one.header["nodes"] if name not in self.table._match.nodes]
        self._gone = dict(zip(made.header["nodes"][both:], gone, strict=True))
        return made

    def _merged(self) -> tuple[view.Columns, view.Overlay]:
        (one, two), match = self._pair, self.table._match
        return view.merged(one, two, match.nodes, match.tensors, self.table.itertuples(index=False))

    @property
    def _models(self) -> tuple[Model, ...]:
        return self.before, self.model

    def _inferred(self, model: Model, made: view.Columns) -> view.Columns:
        one, two = self._pair
        self._pair = view.inferred(self.before, one), view.inferred(model, two)
        return self._merged()[0]

    def _ask(self, method: Any, params: dict[str, Any], buffers: list[bytes]) -> tuple[Any, list[bytes]]:
        if method not in ("node", "columns", "part", "settle"):
            raise NotInModelError(
                f"a view of differences cannot answer {method!r}; it is only to look at: edit a Model, or a view of one"
            )
        name = str(params.get("node"))
        if method == "node" and name in self._gone:
            return details.node(self.before, self._gone[name]), []
        return super()._ask(method, params, buffers)

    def __repr__(self) -> str:
        return f"<DiffView of {self.before.name!r} and {self.model.name!r}: {len(self.table)} differences>"
