"""Sizes in bytes, as people write them."""

from __future__ import annotations

import re

from ..errors import InputError

_PREFIXES = "kmgt"


def parse(given: str | int) -> int:
    """Bytes of ``64MB``, ``1.5 GiB`` or a number of bytes.

    Raises:
        InputError: it is none of these, or negative.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", str(given).lower())
    if not match:
        raise InputError(f"got {given!r}, expected a size as in 64MB or 1GiB")
    power = _PREFIXES.index(match[2]) + 1 if match[2] else 0
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)
