"""Sizes for the dims that a model leaves open: given ones, sensible ones, and ones that the graph accepts."""

from __future__ import annotations

import ast
import heapq
import itertools
import operator
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ..errors import InputError
from ..model.info import TensorInfo

Key = str | tuple[str, int]
"""A symbolic dim by its name, an unnamed one by (input, axis)."""

Sizes = dict[Key, int]

_SEQUENCE, _PAST, _IMAGE, _SMALLEST_IMAGE = 16, 8, 256, 8
_COMMON = (512, 256, 224, 128, 64, 32, 320, 640, 576, 1024, 2048, 2, 3, 4, 8, 48, 80, 96, 100)
_ATTEMPTS, _SECONDS = 500, 10.0
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}


class Dims:
    """The open dims of a model's inputs.

    Args:
        model: display name, for messages.
        infos: the model's inputs.
        shapes: what the user fixed: name of a symbolic dim -> size, or name of an input -> shape.

    Raises:
        InputError: ``shapes`` names something that the model does not have, or contradicts it.
    """

    def __init__(self, model: str, infos: Sequence[TensorInfo], shapes: Mapping[str, Any] | None = None):
        self.model, self.infos = model, {info.name: info for info in infos}
        self._symbols = {dim for info in infos for dim in info.shape or () if isinstance(dim, str)}
        self._plain = {symbol for symbol in self._symbols if symbol.isidentifier()}
        self.known: Sizes = {}
        for name, given in (shapes or {}).items():
            if isinstance(given, Sequence) and not isinstance(given, str):
                self._fix_input(name, tuple(given))
            else:
                self._fix_symbol(name, given)

    def _fix_symbol(self, name: str, size: Any) -> None:
        if name not in self._symbols:
            raise InputError(self._unknown(name))
        self.bind(name, self._size(name, size), f"shapes[{name!r}]")

    def _fix_input(self, name: str, given: tuple[Any, ...]) -> None:
        info = self.infos.get(name)
        if info is None:
            raise InputError(self._unknown(name))
        if info.shape is not None and len(given) != len(info.shape):
            raise InputError(
                f"shapes[{name!r}] of {self.model}: got {given} of rank {len(given)}, expected {info}"
            )
        for axis, size in enumerate(given):
            if size is not None:  # None: choose one
                self._bind_axis(info, axis, self._size(f"{name}[{axis}]", size), f"shapes[{name!r}]")

    def _bind_axis(self, info: TensorInfo, axis: int, size: int, source: str) -> None:
        dim = info.shape[axis] if info.shape is not None else None
        if isinstance(dim, int) and dim != size:
            raise InputError(
                f"{source} of {self.model}: axis {axis} got {size}, but the model fixes it: {info}"
            )
        if dim is None or isinstance(dim, str):
            self.bind(dim or (info.name, axis), size, source)

    def bind(self, key: Key, size: int, source: str) -> None:
        """Fix one dim; the same dim cannot have two sizes."""
        if self.known.setdefault(key, size) != size:
            raise InputError(
                f"{source} of {self.model}: dim {key!r} got {size}, but it is {self.known[key]} already"
            )

    def _size(self, name: str, size: Any) -> int:
        try:
            size = operator.index(size)
        except TypeError:
            size = -1
        if size < 0:
            raise InputError(f"shapes of {self.model}: {name} must be a whole number of 0 or more")
        return size

    def _unknown(self, name: str) -> str:
        known = [*sorted(self._symbols), *self.infos]
        close = get_close_matches(name, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return (
            f"shapes={{{name!r}: ...}} for {self.model}: no such dim or input; symbolic dims are "
            f"{sorted(self._symbols) or 'none'}, inputs are {list(self.infos)}{hint}"
        )

    def shape(self, info: TensorInfo, sizes: Mapping[Key, int]) -> tuple[int | str | None, ...] | None:
        """The shape of an input with these sizes filled in."""
        if info.shape is None:
            ranks = [key[1] for key in sizes if isinstance(key, tuple) and key[0] == info.name]
            return tuple(sizes.get((info.name, axis)) for axis in range(max(ranks) + 1)) if ranks else None
        return tuple(self._dim(info.name, axis, dim, sizes) for axis, dim in enumerate(info.shape))

    def _dim(self, name: str, axis: int, dim: int | str | None, sizes: Mapping[Key, int]) -> int | str | None:
        if dim is None:
            return sizes.get((name, axis))
        if isinstance(dim, int):
            return dim
        value = sizes.get(dim)
        if value is None and (tree := self._expression(dim)) is not None:
            value = _evaluate(tree, sizes)
        return dim if value is None else value

    def _expression(self, dim: str) -> ast.expr | None:
        """The dim as an expression of plain symbols, such as ``past + sequence``; None if it is none."""
        try:
            tree = ast.parse(dim, mode="eval").body
        except SyntaxError:
            return None
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return tree if not isinstance(tree, ast.Name) and names and names <= self._plain else None

    def open(self) -> list[Key]:
        """Dims that still need a size."""
        keys: dict[Key, None] = {}
        for info in self.infos.values():
            for axis, dim in enumerate(info.shape or ()):
                if isinstance(self._dim(info.name, axis, dim, self.known), int):
                    continue
                if dim is None:
                    keys[(info.name, axis)] = None
                elif isinstance(dim, str) and self._expression(dim) is None:
                    keys[dim] = None
        return list(keys)

    def default(self, key: Key) -> int:
        """A sensible size, by the dim's name and by the input that has it."""
        word = key.lower() if isinstance(key, str) else ""
        info, axis = next(
            (info, axis)
            for info in self.infos.values()
            for axis, dim in enumerate(info.shape or ())
            if key in (dim, (info.name, axis))
        )
        shape = info.shape or ()
        stepping = re.search(r"seq|len|time|step|token|frame|past|total|^[tls]$", word)
        if re.search(r"batch|^bs?$|^n$", word) or (axis == 0 and len(shape) > 1 and not stepping):
            return 1
        if axis == 1 and len(shape) == 3 and re.search(r"state|hidden|cell|^[hc]_?\d*n?$", info.name.lower()):
            return 1  # a recurrent state: [layers, batch, hidden]
        if is_image(info):
            return _IMAGE if axis > 1 or shape[-1] in (1, 3, 4) else 3
        if "total" in word:
            return _PAST + _SEQUENCE
        return _PAST if "past" in word else _SEQUENCE

    def choose(
        self, refusal: Callable[[Sizes], tuple[str | None, int]], hints: Mapping[str, set[int]]
    ) -> Sizes:
        """Sizes for the open dims that the graph accepts.

        Args:
            refusal: sizes -> (why the graph refuses them, or None; how far it came).
            hints: input -> sizes that its dims may have to have.

        Raises:
            InputError: none found; the dims are asked for by name.
        """
        keys = self.open()
        start: Sizes = {**self.known, **{key: self.default(key) for key in keys}}
        first, reached = refusal(start)
        if first is None:
            return start
        tried, seen, deadline = 1, {tuple(start[key] for key in keys)}, time.monotonic() + _SECONDS
        waiting = [(-reached, 0, start)]
        while waiting:  # go on from the sizes of which the graph accepts most
            far_before, _, base = heapq.heappop(waiting)
            single = self._single(keys, base, hints)
            for sizes in itertools.chain(self._together(keys, base), single) if base is start else single:
                identity = tuple(sizes[key] for key in keys)
                if identity in seen:
                    continue
                seen.add(identity)
                reason, far = refusal(sizes)
                tried += 1
                if reason is None:
                    return sizes
                if -far < far_before:
                    heapq.heappush(waiting, (-far, tried, sizes))
                if tried >= _ATTEMPTS or time.monotonic() > deadline:
                    raise InputError(self._ask(keys, tried, first))
        raise InputError(self._ask(keys, tried, first))

    def _together(self, keys: list[Key], best: Sizes) -> Iterator[Sizes]:
        """All dims that are no batch at the same size, as height and width often are."""
        dims = [key for key in keys if self.default(key) > 1]
        for size in _COMMON:
            yield {**best, **dict.fromkeys(dims, size)}

    def _single(self, keys: list[Key], best: Sizes, hints: Mapping[str, set[int]]) -> Iterator[Sizes]:
        """One dim changed, those that look like a batch last."""
        for key in sorted(keys, key=lambda key: self.default(key) == 1):
            for size in (1, *sorted(self._hints(key, hints)), *_COMMON):
                yield {**best, key: size}

    def _hints(self, key: Key, hints: Mapping[str, set[int]]) -> set[int]:
        if isinstance(key, tuple):
            return hints.get(key[0], set())
        return set().union(*(hints.get(i.name, set()) for i in self.infos.values() if key in (i.shape or ())))

    def _ask(self, keys: list[Key], tried: int, reason: str) -> str:
        example: dict[str, Any] = {}
        for key in keys:
            if isinstance(key, str):
                example[key] = self.default(key)
            else:
                defaults = {**self.known, **{k: self.default(k) for k in keys}}
                example[key[0]] = self.shape(self.infos[key[0]], defaults)
        names = ", ".join(map(_label, keys))
        given = ", ".join(f"{_label(key)}={size}" for key, size in self.known.items())
        return (
            f"cannot make inputs for {self.model}: no size found for {names} in {tried} tries"
            f"{f' (given: {given})' if given else ''}; at first {reason}; "
            f"give what you know, for example shapes={example}"
        )


def _label(key: Key) -> str:
    return repr(key) if isinstance(key, str) else f"{key[0]}[{key[1]}]"


def is_image(info: TensorInfo) -> bool:
    """Whether an input looks like a batch of pictures, NCHW or NHWC."""
    shape = info.shape or ()
    if len(shape) != 4 or not info.dtype.startswith(("float", "bfloat", "uint8")):
        return False
    rows_first = [1, 2] if shape[3] in (1, 3, 4) else [2, 3]
    sides = [shape[axis] for axis in rows_first]
    if any(isinstance(side, int) and side < _SMALLEST_IMAGE for side in sides):
        return False
    return (
        shape[1] in (1, 3, 4) or shape[3] in (1, 3, 4) or not any(isinstance(dim, int) for dim in shape[1:])
    )


def _evaluate(tree: ast.expr, sizes: Mapping[Key, int]) -> int | None:
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return tree.value
    if isinstance(tree, ast.Name):
        return sizes.get(tree.id)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        left, right = _evaluate(tree.left, sizes), _evaluate(tree.right, sizes)
        if (
            left is not None
            and right is not None
            and not (right == 0 and isinstance(tree.op, ast.Div | ast.FloorDiv))
        ):
            return int(_OPERATORS[type(tree.op)](left, right))
    return None
