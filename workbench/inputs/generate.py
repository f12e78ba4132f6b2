"""Seeded, sensible values for a model's inputs, from what the graph does with them.

In this order, for every input:

- integers that index a table (Gather, GatherND, Scatter, OneHot, EmbedLayerNormalization) stay inside it;
  those named like positions count up, those named like token types or segments are 0, the others are drawn
  evenly;
- integers that are compared with a table of constants (a one-hot by Equal) are drawn from it;
- a single integer that is compared with a constant gets that constant (Equal: a sampling rate), or lies on
  the side of it that makes the comparison true (Less, Greater); the number of turns of a Loop is 3;
- lengths (of an LSTM's or ReverseSequence's input, or by name) are the whole length;
- masks, by use or by name, are ones; booleans are True;
- a single integer named like a sampling rate is 16000; any other is asked for;
- other integers: of 8 bits or less the whole range, pictures 0 to 255, else 0 or 1;
- floats: pictures and what goes into a logarithm or a root evenly in [0, 1), everything else, states too,
  normal;
- strings: words of a small vocabulary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol

import ml_dtypes
import numpy as np
import onnx

from ..errors import InputError
from ..model.info import TensorInfo
from .check import dtype_of
from .dims import Dims, Sizes, is_image
from .uses import Tracer, Uses
from .walk import Walk

_WORDS = np.array(["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "again"], object)
_TURNS = 3
_LARGEST = 1 << 30  # bytes of one generated input: more is a mistake, or a model made to exhaust the memory
_SEGMENT = r"token_?type|segment"
_WHOLE_RANGE = {
    "int8": (-128, 128),
    "uint8": (0, 256),
    "int4": (-8, 8),
    "uint4": (0, 16),
    "int2": (-2, 2),
    "uint2": (0, 4),
}


class HasInputs(Protocol):
    """What is needed of a Model."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...
    def to_proto(self) -> onnx.ModelProto: ...


class Generator:
    """Makes values for those inputs of a model that are not in ``given``.

    Args:
        shapes: sizes of open dims, as ``Dims`` takes them.
        given: inputs whose values are known; their shapes fix dims, and a given scalar may choose a branch.

    Raises:
        InputError: a size or a scalar cannot be derived; it is asked for by name.
    """

    def __init__(self, model: HasInputs, dims: Dims, given: Mapping[str, np.ndarray] | None = None):
        self._model, self._dims, self._given = model, dims, dict(given or {})
        self._proto = inlined(model.to_proto())
        self._tracer = Tracer(self._proto.graph)
        self._infos = [info for info in model.inputs if info.name not in self._given]
        self._dtypes = {info.name: dtype_of(info, model.name) for info in self._infos}
        self._uses = {info.name: self._tracer.follow(info.name) for info in self._infos}
        self._scalars = {
            info.name: value for info in self._infos if (value := self._scalar(info)) is not None
        }
        self._walk: Walk | None = None
        self._shapes = self._choose()

    def item(self, seed: int, index: int) -> dict[str, np.ndarray]:
        """The values for item ``index``; the same seed and index give the same values."""
        values = {}
        for position, info in enumerate(self._infos):
            rng = np.random.default_rng([seed, index, position])
            shape = self._shapes[info.name]
            values[info.name] = np.asarray(self._values(info, shape, rng), dtype=self._dtypes[info.name])
        return values

    def _choose(self) -> dict[str, tuple[int, ...]]:
        hints = {name: uses.sizes for name, uses in self._uses.items()}
        if self._dims.open() or any(
            uses.tables or uses.depths or uses.lengths for uses in self._uses.values()
        ):
            sizes = self._dims.choose(self._refusal, hints)
        else:
            sizes = self._dims.known
        shapes = self._concrete(sizes)
        if large := self._too_large(shapes):
            raise InputError(
                f"cannot make inputs for {self._model.name}: {large}; "
                f"give the data, or other sizes in shapes="
            )
        return shapes

    def _refusal(self, sizes: Sizes) -> tuple[str | None, int]:
        made = self._concrete(sizes)
        if self._dims.open() and (large := self._too_large(made)):
            return large, 0
        shapes = {**made, **{name: value.shape for name, value in self._given.items()}}
        small = {name: value for name, value in self._given.items() if value.size <= 16}
        self._walk = Walk(self._proto, shapes, {**small, **self._scalars})
        return (self._walk.refused if self._dims.open() else None), self._walk.steps

    def _concrete(self, sizes: Sizes) -> dict[str, tuple[int, ...]]:
        shapes = {}
        for info in self._infos:
            shape = self._dims.shape(info, sizes)
            if shape is None:
                raise InputError(
                    f"cannot make inputs for {self._model.name}: the model does not say the rank of input "
                    f"{info.name!r}; give its shape, for example shapes={{{info.name!r}: (1, 16)}}"
                )
            shapes[info.name] = tuple(dim if isinstance(dim, int) else 1 for dim in shape)
        return shapes

    def _too_large(self, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
        for name, shape in shapes.items():
            size = math.prod(shape) * self._dtypes[name].itemsize
            if size > _LARGEST:
                made = f"input {name!r} of shape {list(shape)}"
                return f"{made} would take {size:.2g} bytes, more than {_LARGEST:.2g}"
        return None

    def _scalar(self, info: TensorInfo) -> np.ndarray | None:
        """The value of a single integer, where it follows from the graph or from its name."""
        if not _is_single(info) or not _is_integer(info.dtype):
            return None
        uses = self._uses[info.name]
        single = [choice[0] for choice in uses.choices if choice.size == 1]
        value: float | None = None
        if uses.tables or uses.depths:
            return None
        if single:
            value = single[0]
        elif uses.below:
            value = max(min(uses.below) // 2, 0)
        elif uses.above:
            value = max(uses.above) + 1
        elif uses.counts:
            value = _TURNS
        elif re.search(r"^sr$|sample_?rate|sampling_?rate", info.name.lower()):
            value = 16000
        elif not (uses.lengths or uses.choices or _named_mask(info) or _named_length(info)):
            raise InputError(self._ask(info))
        if value is None:
            return None
        limits = ml_dtypes.iinfo(self._dtypes[info.name])
        if not limits.min <= value <= limits.max:
            raise InputError(self._ask(info))
        return np.full([1] * len(info.shape or ()), value, self._dtypes[info.name])

    def _ask(self, info: TensorInfo) -> str:
        others = "".join(f", {other.name!r}: None" for other in self._model.inputs if other.name != info.name)
        return (
            f"cannot make inputs for {self._model.name}: "
            f"no value can be derived for the single integer {info}; "
            f"give it, for example inputs={{{info.name!r}: 1{others}}}"
            + (" (None: let it be generated)" if others else "")
        )

    def _values(self, info: TensorInfo, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        if info.name in self._scalars:
            return self._scalars[info.name]
        if info.dtype == "string":
            return rng.choice(_WORDS, shape)
        if info.dtype == "bool":
            return np.ones(shape, bool)
        if _is_integer(info.dtype):
            return self._integers(info, shape, rng)
        if _named_mask(info):
            return np.ones(shape)
        if is_image(info) or self._uses[info.name].positive:
            return rng.random(shape)
        if info.dtype.startswith("complex"):
            return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        return rng.standard_normal(shape)

    def _integers(self, info: TensorInfo, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        uses, word = self._uses[info.name], info.name.lower()
        low, high = self._range(info, uses)
        table = next((choice for choice in uses.choices if choice.size > 1), None)
        if "position" in word and shape:
            return np.broadcast_to(low + np.arange(shape[-1]) % ((high or low + shape[-1]) - low), shape)
        if high is not None:
            return np.full(shape, low) if re.search(_SEGMENT, word) else rng.integers(low, high, shape)
        if table is not None:
            return rng.choice(table, shape)
        if uses.lengths or _named_length(info):
            return np.full(shape, self._length(info, uses))
        if uses.mask or _named_mask(info):
            return np.ones(shape)
        return rng.integers(*_WHOLE_RANGE.get(info.dtype, (0, 256 if len(shape) >= 4 else 2)), shape)

    def _range(self, info: TensorInfo, uses: Uses) -> tuple[int, int | None]:
        """The smallest index that fits every table, and one more than the largest; None without a table."""
        lows, highs = [0], []
        for tensor, axis, offset in uses.tables:
            shape = self._shape_of(tensor)
            if shape and (axis is None or -len(shape) <= axis < len(shape)):
                highs.append((min(shape) if axis is None else shape[axis]) - offset)
                lows.append(-offset)
        for tensor in uses.depths:
            depth = self._walk.values.get(tensor) if self._walk else None
            if depth is not None:
                highs.append(int(depth.reshape(-1)[0]))
        low = max(lows)
        if not highs:
            return low, None
        return low, max(min(*highs, int(ml_dtypes.iinfo(self._dtypes[info.name]).max) + 1), low + 1)

    def _length(self, info: TensorInfo, uses: Uses) -> int:
        for tensor, axis in uses.lengths:
            shape = self._shape_of(tensor)
            if shape and axis < len(shape):
                return shape[axis]
        steps = [shape[1] for name, shape in self._shapes.items() if name != info.name and len(shape) > 1]
        return steps[0] if steps else 1

    def _shape_of(self, tensor: str) -> tuple[int, ...] | None:
        constant = self._tracer.constants.get(tensor)
        if constant is not None:
            return tuple(constant.dims)
        return self._walk.shape(tensor) if self._walk else None


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without model-local functions, and then without its large weights (their shapes stay)."""
    if not proto.functions:
        return proto
    from onnx import inliner

    light = onnx.ModelProto()
    light.CopyFrom(proto)
    for tensor in light.graph.initializer:
        if len(tensor.raw_data) > 1 << 16:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    return inliner.inline_local_functions(light)


def _is_single(info: TensorInfo) -> bool:
    return info.shape is not None and all(dim == 1 for dim in info.shape)


def _is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint"))


def _named_mask(info: TensorInfo) -> bool:
    return "mask" in info.name.lower()


def _named_length(info: TensorInfo) -> bool:
    return (
        bool(re.search(r"len(gth)?s?$|lengths?_|seq_?lens?", info.name.lower())) and len(info.shape or ()) < 2
    )
