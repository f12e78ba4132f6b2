"""Profiles that several tests look at, each taken once; the cache of peaks lies in a folder of the tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import pytest
import real_models

import workbench as wb
from workbench.profile import Peaks, Profile

SHAPES = {
    "ppocr_det": {"x": (1, 3, 96, 96)},
    "ppocr_rec": {"x": (1, 3, 48, 96)},
    "ppocr_cls": {"x": (1, 3, 64, 64)},
    "style_multi": {"h": 64, "w": 64},
}


@pytest.fixture(scope="session")
def peaks() -> Peaks:
    """Round numbers: 100 GFLOP/s, 400 G operations/s in int8, 10 GB/s, 1 µs."""
    return Peaks(flops=1e11, int8_ops=4e11, bytes_per_s=1e10, overhead_ms=0.001)


@pytest.fixture(scope="session")
def profiled(peaks: Peaks) -> Iterator[Callable[..., Profile]]:
    """``profiled("ppocr_rec", optimize="none")``: a profile of a real model with a few runs, taken once."""

    @functools.cache
    def take(name: str, optimize: str = "all", runs: int = 3) -> Profile:
        return wb.profile(
            real_models.find(name),
            shapes=SHAPES.get(name),
            optimize=optimize,
            threads=1,  # threads that wait for each other on a busy machine take much longer
            runs=runs,
            warmup=1,
            peaks=peaks,
            progress=False,
        )

    yield take
    take.cache_clear()
