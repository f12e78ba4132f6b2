"""Shared regions: placing, joining and returning blocks, arrays of every kind."""

from __future__ import annotations

import os

import ml_dtypes
import numpy as np
import pytest

from workbench.backends.memory import Block, Region, create, dtype_of, expand, uniform


@pytest.fixture
def region():
    fd = create()
    yield Region(fd, 0, owner=True)
    os.close(fd)


def test_blocks_are_reused_from_the_lowest(region):
    first, second, third = region.allocate(100), region.allocate(1000), region.allocate(10)
    assert (first, second, third) == (0, 128, 1152)
    region.release(second)
    assert region.allocate(500) == 128
    assert region.allocate(400) == 640
    region.release(640)
    region.release(128)
    region.release(first)
    assert region.allocate(1152) == 0
    assert region.in_use == 1152 + 64
    assert region.peak == 1152 + 64


def test_everything_released_is_one_block_again(region):
    rng = np.random.default_rng(0)
    starts = [region.allocate(int(n)) for n in rng.integers(1, 10_000, 200)]
    for i in rng.permutation(200):
        region.release(starts[i])
    assert region.in_use == 0
    assert len(region._free) == 1


def test_two_mappings_see_the_same_array():
    fd = create()
    ours, theirs = Region(fd, 3, owner=True), Region(fd, 3, owner=False)
    os.close(fd)
    block = ours.store(np.arange(12.0).reshape(3, 4))
    assert block == Block("shared", 3, 0, "float64", (3, 4))
    np.testing.assert_array_equal(
        theirs.view(block.place, block.dtype, block.shape), np.arange(12.0).reshape(3, 4)
    )


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.bool_, np.int64, np.uint8]
)
def test_dtypes_keep_their_bits(region, dtype):
    array = np.array([0, 1, 1, 0], dtype)
    block = region.store(array)
    back = region.view(block.place, block.dtype, block.shape)
    assert back.dtype == np.dtype(dtype) == dtype_of(block.dtype)
    assert back.tobytes() == array.tobytes()


def test_strings_and_empty_arrays_travel_by_value(region):
    assert region.store(np.array(["a"], object)).kind == "value"
    assert region.store(np.zeros((0, 4))).kind == "value"


def test_pages_go_back_to_the_system():
    def pages() -> int:
        return os.fstat(fd).st_blocks * 512

    fd = create()
    region = Region(fd, 0, owner=True)
    blocks = []
    for _ in range(4):
        block, array = region.new("uint8", (16 << 20,))
        array[:] = 1
        blocks.append(block.place)
    del array
    assert pages() >= 64 << 20
    region.release(blocks[3])
    assert pages() >= 64 << 20  # warm for the next one
    region.release(blocks[2])
    region.release(blocks[1])
    assert 16 << 20 <= pages() < 17 << 20
    region.release(blocks[0])
    assert pages() < 1 << 20
    assert (region.view(region.allocate(100), "uint8", (100,)) == 0).all()
    os.close(fd)


def test_uniform_arrays_are_found_and_expanded():
    assert uniform(np.full(100_000, 2.5, "f4")) == np.float32(2.5).tobytes()
    assert uniform(np.full(100, 2.5, "f4")) is None  # too small to matter
    almost = np.full(1_000_000, 2.5, "f4")
    almost[-1] = 2.6
    assert uniform(almost) is None
    assert uniform(np.array([0.0, -0.0] * 50_000, "f4")) is None  # equal, but not the same bytes
    one = expand(Block("uniform", 0, np.float32(2.5).tobytes(), "float32", (1000, 1000)))
    assert one.shape == (1000, 1000)
    assert one[3, 4] == 2.5
    assert one.strides == (0, 0)
