"""Fixtures for every test: the real models, and a guard that no process outlives the tests."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import real_models


@pytest.fixture(scope="session")
def real_model() -> Callable[[str], Path]:
    """``real_model("ppocr_rec")`` gives the model's path; the names are ``real_models.ALL_MODELS``."""
    return real_models.find


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Every process started by the tests (the workers above all) has ended when they end."""
    yield
    gc.collect()
    left = [child for child in psutil.Process().children(recursive=True) if not _is_python_s_own(child)]
    _, alive = psutil.wait_procs(left, timeout=5)
    described = [f"{child.pid}: {_command(child)}" for child in alive]
    assert not described, "processes left behind by the tests: " + "; ".join(described)


def _is_python_s_own(process: psutil.Process) -> bool:
    """multiprocessing keeps one tracker and one fork server per program; they end with it."""
    return any(word in _command(process) for word in ("resource_tracker", "forkserver"))


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
