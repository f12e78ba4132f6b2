"""Input data for a model: made from the graph, or taken from arrays, files, iterators and callables.

What ``inputs=`` takes, here and in ``compare`` and ``profile``:

``None``
    ``count`` items are generated; ``workbench.inputs.generate`` has the rules.
dict of arrays
    One item. A value None is generated.
array, number
    One item of a model with one input.
list or tuple of these
    Several items.
``.npz``, ``.npy``
    One item: arrays named like the inputs; for a model with one input also a single unnamed array.
``.json``
    Polygraphy's saved inputs.
folder
    Of .npz: one item per file, in natural order. Of .npy: one item, files named like the inputs; or, for a
    model with one input and no file of its name, one item per file.
callable
    Called with 0, 1, 2 ... ``count`` times, or until it returns None.
other iterables and iterators
    Their items, kept (in memory, then in a temporary file) so that every run through them sees the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from . import check, load
from .dims import Dims
from .generate import Generator, HasInputs

__all__ = ["Feeds", "feeds"]


class Feeds:
    """Items of input data: run through it as often as needed, every item is complete and checked.

    Each item is a dict: input name -> array (C order, the dtype of the model; text as objects). ``len()``
    works where the number is known beforehand.
    """

    def __init__(self, model: HasInputs, source: Iterable[Any], shapes: Mapping[str, Any] | None, seed: int):
        self._model, self._source, self._seed = model, source, seed
        self._fixed = dict(shapes or {})
        self._dims = Dims(model.name, model.inputs, shapes)
        self._expected = {info.name: self._dims.shape(info, self._dims.known) for info in model.inputs}
        self._generators: dict[Any, Generator] = {}

    def __len__(self) -> int:
        if isinstance(self._source, Sized):
            return len(self._source)
        raise TypeError("the number of items is not known before they are run through")

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for index, raw in enumerate(self._source):
            item = check.item(raw, self._model.inputs, self._expected, self._model.name, index)
            yield self._complete(item, index)

    def _complete(self, item: dict[str, np.ndarray | None], index: int) -> dict[str, np.ndarray]:
        given = {name: value for name, value in item.items() if value is not None}
        if len(given) == len(item):
            return given
        # A small given value may choose a branch, any shape fixes dims: these need a generator of their own.
        key = tuple(
            (name, v.shape, v.tobytes() if v.size <= 16 and v.dtype != object else b"")
            for name, v in given.items()
        )
        if key not in self._generators:
            shapes = {**self._fixed, **{name: value.shape for name, value in given.items()}}
            self._generators[key] = Generator(
                self._model, Dims(self._model.name, self._model.inputs, shapes), given
            )
        made = self._generators[key].item(self._seed, index)
        return {name: made[name] if value is None else value for name, value in item.items()}


def feeds(
    model: HasInputs,
    inputs: Any = None,
    *,
    shapes: Mapping[str, Any] | None = None,
    count: int = 1,
    seed: int = 0,
) -> Feeds:
    """Input data for ``model``, checked against its inputs and, where asked for, generated.

    Args:
        model: a ``Model``.
        inputs: see the list above.
        shapes: sizes of open dims: the name of a symbolic dim -> size, or the name of an input -> shape (None
            in it: choose one). Data that is given must have them, too.
        count: how many items are generated, or asked of a callable.
        seed: of the generated values; the same seed gives the same values.

    Raises:
        InputError: the data does not fit the model, or a size or value cannot be derived and has to be given.
            Items are checked when they are reached, so it may be raised while running through them.
    """
    if count < 1:
        raise InputError(f"count={count}: expected 1 or more items")
    return Feeds(model, _source(inputs, [info.name for info in model.inputs], count), shapes, seed)


def _source(inputs: Any, names: list[str], count: int) -> Iterable[Any]:
    if inputs is None:
        return [dict.fromkeys(names)] * count
    if isinstance(inputs, str | os.PathLike):
        return load.path(Path(inputs), names)
    if isinstance(inputs, list | tuple | Feeds):
        if not len(inputs):
            raise InputError("inputs: the list is empty; give at least one item")
        return inputs
    if isinstance(inputs, Mapping | np.ndarray | np.generic | int | float) or hasattr(inputs, "__array__"):
        return [inputs]
    if isinstance(inputs, Iterable):
        return load.Spool(inputs)
    if callable(inputs):
        return load.Spool(load.calls(inputs, count))
    raise InputError(
        f"inputs: cannot use a {type(inputs).__name__}; "
        f"expected None, arrays, a path, an iterable or a callable"
    )
