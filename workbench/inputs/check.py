"""One item of input data against the model: names, dtypes, ranks and fixed dims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import ml_dtypes  # noqa: F401  (numpy then knows bfloat16, float8_e4m3fn, int4 ... by name)
import numpy as np

from ..errors import InputError
from ..model.info import TensorInfo


def dtype_of(info: TensorInfo, model: str) -> np.dtype[Any]:
    """The numpy dtype of an input; strings are held as objects.

    Raises:
        InputError: the input is no tensor (a sequence, an optional or a map).
    """
    if info.dtype == "string":
        return np.dtype(object)
    try:
        return np.dtype(info.dtype)
    except TypeError:
        raise InputError(
            f"input {info.name!r} of {model} is a {info.dtype or 'value of unknown type'}; "
            f"only tensors can be fed"
        ) from None


def item(
    raw: Any, infos: Sequence[TensorInfo], shapes: Mapping[str, Any], model: str, index: int
) -> dict[str, np.ndarray | None]:
    """``raw`` as a complete dict of arrays that fit the model; None stays None (to be generated).

    Args:
        raw: a dict of arrays by input name, or one array for a model with one input.
        shapes: input -> shape with the sizes that the user fixed filled in.

    Raises:
        InputError: names the input, what was got and expected, and the item.
    """
    where = f"inputs[{index}] of {model}"
    if not isinstance(raw, Mapping):
        if len(infos) != 1:
            names = [info.name for info in infos]
            raise InputError(
                f"{where}: got a single {type(raw).__name__}, but the model has inputs {names}; give a dict"
            )
        raw = {infos[0].name: raw}
    _names(raw, infos, where)
    return {
        info.name: None
        if raw[info.name] is None
        else _array(raw[info.name], info, shapes[info.name], where, model)
        for info in infos
    }


def _names(raw: Mapping[Any, Any], infos: Sequence[TensorInfo], where: str) -> None:
    known = [info.name for info in infos]
    for name in raw:
        if name not in known:
            close = get_close_matches(str(name), known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"{where}: the model has no input {name!r}, its inputs are {known}{hint}")
    missing = [name for name in known if name not in raw]
    if missing:
        raise InputError(
            f"{where}: missing {missing}, got {list(raw)}; give all inputs (None: let it be generated)"
        )


def _array(value: Any, info: TensorInfo, shape: Any, where: str, model: str) -> np.ndarray:
    expected = dtype_of(info, model)
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever an array-like of another library raises
        raise InputError(
            f"{where}: input {info.name!r}: a {type(value).__name__} is no array: {error}"
        ) from error
    cast = _cast(array, expected, python_number=isinstance(value, int | float | list))
    if isinstance(cast, str):
        advice = f"convert it with .astype({info.dtype!r})" if info.dtype != "string" else "give str values"
        raise InputError(
            f"{where}: input {info.name!r}: got {array.dtype}{list(array.shape)}, "
            f"expected {info.dtype} ({cast}); {advice}"
        )
    if shape is not None and not _fits(array.shape, shape):
        dims = ", ".join("?" if dim is None else str(dim) for dim in shape)
        raise InputError(f"{where}: input {info.name!r}: got shape {list(array.shape)}, expected [{dims}]")
    return np.require(cast, requirements="C")


def _fits(got: tuple[int, ...], expected: Sequence[int | str | None]) -> bool:
    return len(got) == len(expected) and all(
        not isinstance(size, int) or size == dim for dim, size in zip(got, expected, strict=True)
    )


def _cast(array: np.ndarray, expected: np.dtype[Any], python_number: bool) -> np.ndarray | str:
    """The array in the expected dtype, or why it is not converted.

    Converted are floats to floats (unless a finite value would become infinite), integers to integers that
    hold every value, and what numpy calls safe (bool to number, uint8 to float32). Python's own numbers are
    converted when the value stays the same.
    """
    if array.dtype == expected and array.dtype.kind != "O":
        return array.astype(expected, copy=False)
    if expected.kind == "O":
        texts = array.dtype.kind == "U" or all(isinstance(text, str) for text in array.reshape(-1))
        return array.astype(object) if texts else "not all of it is text"
    if array.dtype.kind in "OUSMm":
        return "it holds no numbers"
    if _is_float(array.dtype) and _is_float(expected):
        with np.errstate(over="ignore"):
            cast = array.astype(expected)
        if np.count_nonzero(np.isfinite(cast)) < np.count_nonzero(np.isfinite(array)):
            return f"a value is too large for {expected}"
        return cast
    if _is_integer(array.dtype) and _is_integer(expected) or python_number:
        with np.errstate(all="ignore"):
            cast = array.astype(expected)
        return cast if np.array_equal(cast.astype(array.dtype), array) else f"a value does not fit {expected}"
    return array.astype(expected) if np.can_cast(array.dtype, expected, "safe") else "the kind differs"


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" or dtype.name in ("int4", "uint4", "int2", "uint2")
