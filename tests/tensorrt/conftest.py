"""One TensorRT-RTX worker for all of these tests, and a cache of engines of their own."""

from __future__ import annotations

import importlib.util

import pytest

from workbench.backends import Worker


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def rtx():
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed; pip install trt-workbench[tensorrt-rtx]")
    with Worker("tensorrt", library="tensorrt_rtx", timeout=120) as worker:
        yield worker
