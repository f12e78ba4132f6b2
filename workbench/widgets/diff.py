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
        options: those of ``GraphView``.

    Attributes:
        before: what is compared with; ``model`` is the other one, and setting it compares that.
        table: the differences, as ``wb.diff`` gives them.
    """

    def __init__(self, before: Any, after: Any, **options: Any):
        self.before = load(before)
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
        self.table = diff(self.before, model)
        match = self.table._match
        one, two = view.kept(view.columns(self.before)), view.kept(view.columns(model))
        made, self._differences = view.merged(
            one, two, match.nodes, match.tensors, self.table.itertuples(index=False)
        )
        both = len(two.header["nodes"])
        gone = [name for name in one.header["nodes"] if name not in match.nodes]
        self._gone = dict(zip(made.header["nodes"][both:], gone, strict=True))
        return made

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
