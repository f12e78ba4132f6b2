"""The tests of this folder need an NVIDIA GPU, CUDA and onnxruntime-gpu; elsewhere they are skipped with the reason."""

from __future__ import annotations

import pytest

from workbench.backends import Worker
from workbench.errors import BackendError


@pytest.fixture(scope="session", autouse=True)
def gpu() -> str:
    """Name of the GPU."""
    try:
        with Worker("cuda", timeout=120) as worker:
            name: str = worker.call("about")["name"]
            return name
    except BackendError as error:
        pytest.skip(f"no GPU: {error}")
