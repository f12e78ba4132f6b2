"""Optimisation profiles: for which input shapes an engine is built, checked against the model.

What ``shapes=`` takes (one profile) and each item of ``profiles=`` (several):

- the name of a symbolic dim: a size, or ``(min, opt, max)``: ``{"batch": (1, 8, 32)}``;
- the name of an input: its shape, in which a dim is a size, ``(min, opt, max)`` or None (choose one):
  ``{"x": ((1, 8, 32), 3, 224, 224)}``;
- the name of an input: three whole shapes, min, opt and max (three items, each as long as the input's rank).

A dim that is not named gets the size that `workbench.inputs` would generate, as min, opt and max.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError
from ..inputs import feeds
from ..inputs.dims import Dims, Sizes
from ..inputs.generate import inlined
from ..inputs.walk import Walk
from ..model import Model

WHICH = ("min", "opt", "max")
MOST = 2**31 - 1
_SMALL = 64  # elements of an integer input whose values may be shapes

Range = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class OptimizationProfile:
    """Input shapes that an engine takes.

    Attributes:
        shapes: input -> (min, opt, max) shapes.
        values: input of few integers -> (min, opt, max) values, used where TensorRT computes shapes from them.
    """

    shapes: Mapping[str, Range]
    values: Mapping[str, Range] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{name} {self._text(*sizes)}" for name, sizes in self.shapes.items())

    @staticmethod
    def _text(low: tuple[int, ...], best: tuple[int, ...], high: tuple[int, ...]) -> str:
        dims = zip(low, best, high, strict=True)
        return "×".join(str(a) if a == c else f"{a}…{b}…{c}" for a, b, c in dims) or "scalar"

    def holds(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether inputs of these shapes are within it."""
        return all(
            len(shape) == len(self.shapes[name][0])
            and all(
                a <= size <= c
                for size, a, c in zip(shape, self.shapes[name][0], self.shapes[name][2], strict=True)
            )
            for name, shape in shapes.items()
        )


def make(
    model: Model,
    shapes: Mapping[str, Any] | None = None,
    profiles: Sequence[Mapping[str, Any]] | None = None,
    values: Mapping[str, Any] | None = None,
) -> tuple[OptimizationProfile, ...]:
    """The profiles for what the user gave; see the module.

    Raises:
        InputError: a name that the model does not have, a size that it does not take, or min > opt > max.
    """
    if shapes is not None and profiles is not None:
        raise InputError(
            f"cannot make profiles for {model.name}: got shapes= and profiles=; give one of them"
        )
    if profiles is not None and (
        not isinstance(profiles, Sequence) or not all(isinstance(p, Mapping) for p in profiles)
    ):
        raise InputError(
            f"cannot make profiles for {model.name}: got profiles={profiles!r}, expected a list of dicts such as "
            '[{"batch": (1, 8, 32)}, ...]'
        )
    if shapes is not None and not isinstance(shapes, Mapping):
        raise InputError(
            f"cannot make a profile for {model.name}: got shapes={shapes!r}, expected a dict such as "
            '{"batch": (1, 8, 32)}; several of them go into profiles='
        )
    if profiles is not None and not profiles:
        raise InputError(
            f"cannot make profiles for {model.name}: profiles= is empty; leave it out for one profile"
        )
    given = [shapes or {}] if profiles is None else profiles
    return tuple(_profile(model, item, values or {}) for item in given)


def _profile(model: Model, given: Mapping[str, Any], values: Mapping[str, Any]) -> OptimizationProfile:
    picked: tuple[dict[str, Any], ...] = ({}, {}, {})
    for name, sizes in given.items():
        for target, part in zip(picked, _three(model, name, sizes), strict=True):
            target[name] = part
    low, best, high = (Dims(model.name, model.inputs, part) for part in picked)
    feed = next(iter(feeds(model, _feed(model, values), shapes=picked[1])))
    known = _sizes(model, feed)
    every = []
    for which, dims in zip(WHICH, (low, best, high), strict=True):
        sizes = {**known, **dims.known}
        found = {info.name: dims.shape(info, sizes) or feed[info.name].shape for info in model.inputs}
        every.append({name: tuple(map(operator.index, shape)) for name, shape in found.items()})
        for name, shape in every[-1].items():
            if max(shape, default=0) > MOST:  # TensorRT-RTX 1.7 names nothing, or goes on with the lower 32 bits
                raise InputError(
                    f"the {which} shape of {name} of {model.name} is {list(shape)}; a dim of TensorRT is at most {MOST}"
                )
        if which != "opt":
            _accepted(model, which, every[-1], feed)
    ranges = {name: (every[0][name], every[1][name], every[2][name]) for name in feed}
    integers = {
        name: _values(name, array, values)
        for name, array in feed.items()
        if array.dtype.kind in "iu" and array.size <= _SMALL
    }
    return OptimizationProfile(ranges, integers)


def _three(model: Model, name: str, given: Any) -> tuple[Any, Any, Any]:
    """min, opt and max of what was given for a dim or an input, each as `Dims` takes it."""
    what = f"shapes[{name!r}] of {model.name}"
    rank = next((len(i.shape) for i in model.inputs if i.name == name and i.shape is not None), None)
    if rank is None and name not in {i.name for i in model.inputs}:
        return _range(what, given)
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InputError(f"{what}: got {given!r}, expected a shape, or three shapes (min, opt, max)")
    whole = len(given) == 3 and all(isinstance(part, Sequence) for part in given)
    if whole and all(len(part) == rank for part in given):
        dims = [_range(f"{what}, axis {axis}", sizes) for axis, sizes in enumerate(zip(*given, strict=True))]
    else:
        dims = [_range(f"{what}, axis {axis}", size) for axis, size in enumerate(given)]
    low, best, high = zip(*dims, strict=True) if dims else ((), (), ())
    return low, best, high


def _range(what: str, given: Any) -> tuple[Any, Any, Any]:
    if not isinstance(given, Sequence):
        return given, given, given
    sizes = tuple(given)
    if len(sizes) != 3 or not all(isinstance(s, int | np.integer) for s in sizes):
        raise InputError(f"{what}: got {given!r}, expected a size or (min, opt, max)")
    low, best, high = (int(size) for size in sizes)
    if not low <= best <= high:
        raise InputError(f"{what}: got {sizes}, expected min <= opt <= max")
    return low, best, high


def _feed(model: Model, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """One input item in which given values stand (of a range: the middle one)."""
    names = [info.name for info in model.inputs]
    for name in values:
        if name not in names:
            raise InputError(f"values[{name!r}] of {model.name}: no such input; inputs are {names}")
    return {n: _opt(values[n]) if n in values else None for n in names} if names else None


def _opt(value: Any) -> Any:
    return value[1] if isinstance(value, tuple) and len(value) == 3 else value


def _values(name: str, array: np.ndarray, values: Mapping[str, Any]) -> Range:
    given = values.get(name)
    parts = given if isinstance(given, tuple) and len(given) == 3 else (array, array, array)
    low, best, high = (tuple(int(v) for v in np.ravel(part)) for part in parts)
    return low, best, high


def _sizes(model: Model, feed: Mapping[str, np.ndarray]) -> Sizes:
    """Sizes of the open dims that an input item has; those that are computed from others are left out."""
    sizes: Sizes = {}
    opened = set(Dims(model.name, model.inputs).open())
    for info in model.inputs:
        for axis, dim in enumerate(info.shape or ()):
            key = (info.name, axis) if dim is None else dim
            if key in opened:
                sizes[key] = feed[info.name].shape[axis]
    return sizes


def _accepted(
    model: Model, which: str, shapes: Mapping[str, tuple[int, ...]], feed: Mapping[str, np.ndarray]
) -> None:
    """Refuse shapes with which the model's own nodes cannot work."""
    small = {name: array for name, array in feed.items() if array.size <= 1 and array.shape == shapes[name]}
    refused = Walk(inlined(model.to_proto()), dict(shapes), small).refused
    if refused:
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise InputError(
            f"the {which} shapes of {model.name} ({listed}) do not work: {refused}; "
            f"give other sizes in shapes={{name: (min, opt, max)}}"
        )
