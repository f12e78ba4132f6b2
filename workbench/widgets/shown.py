"""What the browser has of a model: columns with a number, and the patches that lead from one number to the next."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock

import numpy as np

from .. import view
from ..model import Model

AT_ONCE = 400
"""Nodes up to which shapes are inferred before the first picture; beyond, after it."""


class Shown:
    """The columns that a view shows.

    Attributes:
        columns: of the model as the browser has it, or is about to have it.
        stamp: counts the changes of the columns; the browser says which one it has.
        lock: held while columns change: inferred shapes come from a thread.
    """

    def __init__(self, model: Model, make: Callable[[Model, bool, view.Columns | None], view.Columns]):
        self.lock = RLock()
        self.stamp = 0
        self.model, self._make = model, make
        self.columns = make(model, len(model.ir.graph) <= AT_ONCE, None)
        self.columns.header["stamp"] = 0

    def show(self, model: Model) -> view.Columns | None:
        """Go on to another model; what changes of the columns, None when all of it does."""
        with self.lock:
            old, self.model = self.columns, model
            new = self._make(model, len(model.ir.graph) <= AT_ONCE, old)
            related = old.builder is not None and new.builder is not None and old.builder.goes_on(new.builder)
            return self._take(new, view.patch(old, new) if related else None)

    def inferring(
        self,
        models: tuple[Model, ...],
        infer: Callable[[Model, view.Columns], view.Columns],
        tell: Callable[[view.Columns | None], None],
    ) -> Callable[[Callable[[], bool]], tuple[None, list[bytes]]]:
        """What goes on to the same columns with shapes, MACs and bytes, in a thread.

        Args:
            models: all that is drawn.
            infer: makes the columns of those, whose shapes are known by then.
            tell: takes what changes, as ``show`` gives it; not called when another model is shown by then.
        """
        model = self.model
        for one in models:  # made here: the thread must not take the graph
            one._skeleton, one.inputs, one.outputs  # noqa: B018

        def work(cancelled: Callable[[], bool]) -> tuple[None, list[bytes]]:
            for one in models:
                one.walk()  # the long part; without the lock
            with self.lock:
                if model is self.model:
                    new = infer(model, self.columns)
                    tell(self._take(new, view.patch(self.columns, new)))
            return None, []

        return work

    def _take(self, new: view.Columns, change: view.Columns | None) -> view.Columns | None:
        self.stamp += 1
        self.columns = new
        new.header["stamp"] = self.stamp
        if change is not None:
            change.header |= {"from": self.stamp - 1, "stamp": self.stamp}
        return change

    def rows(self, old: view.Columns) -> np.ndarray:
        """For each node now, its number in earlier columns, -1 for none."""
        new = self.columns
        if old.builder is not None and new.builder is not None and old.builder.goes_on(new.builder):
            return new.builder.before(old.builder)[0]
        known = {name: index for index, name in enumerate(old.header["nodes"])}
        return np.array([known.get(name, -1) for name in new.header["nodes"]], np.int32)
