"""Values of command line options: shapes, sizes, tolerances."""

from __future__ import annotations

import argparse
import re
from typing import Any

from ..errors import InputError
from ..model.size import parse


def shape(text: str) -> tuple[str, int | tuple[int, ...]]:
    """``batch=2`` or ``x=1,3,48,320`` (also with ``x`` between the numbers)."""
    name, equals, sizes = text.rpartition("=")
    numbers = re.split(r"[,x×]", sizes.strip())
    if not equals or not name or not all(re.fullmatch(r"\d+", number.strip()) for number in numbers):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected NAME=SIZE or NAME=SIZE,SIZE,... as in x=1,3,48,320"
        )
    values = tuple(map(int, numbers))
    return name, values[0] if len(values) == 1 else values


def shapes(given: list[tuple[str, Any]] | None, inputs: Any) -> dict[str, Any] | None:
    """The mapping that `workbench.inputs` takes; a single number for an input of one dim is its shape."""
    ranks = {info.name for info in inputs}
    return {name: (v,) if name in ranks and isinstance(v, int) else v for name, v in given or ()} or None


def size(text: str) -> int:
    """``64MB``, ``1.5 GiB`` or a number of bytes."""
    try:
        return parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def limit(text: str) -> tuple[str, float]:
    """``0.01``, or ``snr_db=40`` for a limit of one measure."""
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if value != value:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a number, or MEASURE=NUMBER as in snr_db=40"
        )
    return name, value


def tolerance(given: list[tuple[str, float]] | None, default: float = 1e-3) -> float | dict[str, float]:
    """What `workbench.compare` takes as tolerance."""
    limits = dict(given or ())
    if not limits:
        return default
    if set(limits) == {""}:
        return limits[""]
    return {name or "error": value for name, value in limits.items()}


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not re.fullmatch(r"\d+", text.strip()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return int(text)
