"""Input shapes to count with: what was given, what the model says, and stated assumptions for the rest."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InputError, NotInModelError
from .dims import evaluate
from .info import TensorInfo

Given = Mapping[str, "int | tuple[int | None, ...]"]
BATCH, SIDE, STEPS = 1, 224, 128


def input_shapes(
    inputs: tuple[TensorInfo, ...], given: Given
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """Shapes of the inputs, and the dims among them that were assumed.

    Args:
        inputs: of the model.
        given: symbolic dim -> size, or input name -> shape (None in it: not given), as in ``{"batch": 2}`` or
            ``{"x": (2, 3, 224, 224)}``. A dim without a name is called ``x[0]`` (input, axis).

    Returns:
        (input name -> shape, dim -> assumed size). Assumed are 1 for the first axis, 224 for the others of
        inputs with four or more axes (pictures), 128 for the others (sequences).

    Raises:
        NotInModelError: a name that is neither an input nor a dim.
        InputError: a shape of the wrong rank, or a dim that is no size.
    """
    sizes = _sizes(inputs, given)
    shapes: dict[str, tuple[int, ...]] = {}
    assumed: dict[str, int] = {}
    for info in inputs:
        if info.shape is None:
            continue
        shape = []
        for axis, dim in enumerate(info.shape):
            label = dim if isinstance(dim, str) else f"{info.name}[{axis}]"
            size = sizes.get(f"{info.name}[{axis}]", evaluate(dim, sizes))
            if not isinstance(size, int):
                size = sizes.get(label)
            if size is None:
                size = BATCH if axis == 0 else SIDE if len(info.shape) >= 4 else STEPS
                sizes[label] = assumed[label] = size
            shape.append(size)
        shapes[info.name] = tuple(shape)
    return shapes, assumed


def _sizes(inputs: tuple[TensorInfo, ...], given: Given) -> dict[str, int]:
    """What was given, by the names of dims."""
    by_name = {info.name: info for info in inputs}
    known = {dim for info in inputs for dim in info.shape or () if isinstance(dim, str)}
    known |= {f"{info.name}[{axis}]" for info in inputs for axis in range(len(info.shape or ()))}
    sizes: dict[str, int] = {}
    for key, value in given.items():
        if key in by_name and not isinstance(value, int):
            _from_shape(by_name[key], value, sizes)
        elif key in known and isinstance(value, int):
            sizes[key] = _checked(key, value)
        else:
            raise NotInModelError(
                f"shapes= names {key!r} ({value!r}), which is no input and no dim of the model; "
                f"it has {', '.join(map(str, inputs)) or 'no inputs'}; give a dim a size or an input a shape"
            )
    return sizes


def _from_shape(info: TensorInfo, shape: tuple[int | None, ...], sizes: dict[str, int]) -> None:
    if info.shape is not None and len(shape) != len(info.shape):
        raise InputError(
            f"shapes= gives {info.name!r} {len(shape)} axes; the model expects {len(info.shape)}: {info}"
        )
    for axis, (dim, size) in enumerate(zip(info.shape or (), shape, strict=False)):
        if size is not None:
            sizes[f"{info.name}[{axis}]"] = _checked(info.name, size)
            if isinstance(dim, str):
                sizes.setdefault(dim, size)


def _checked(name: str, size: int) -> int:
    if not isinstance(size, int) or size < 0:
        raise InputError(f"shapes= gives {name!r} the size {size!r}; expected an int of 0 or more")
    return size
