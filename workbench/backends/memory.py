"""Arrays in memory that two processes share.

A `Region` is one sparse file in memory that both processes map whole; pages cost memory only once they are written.
One side (the owner) hands out blocks of it, the other reads them. `/dev/shm` is not used: containers make it small.
"""

from __future__ import annotations

import bisect
import functools
import math
import mmap
import os
import sys
import threading
from typing import Any, NamedTuple

import numpy as np

_CAPACITY = 1 << 38  # bytes of address space, not of memory
_ALIGN = 64
_PAGE = mmap.PAGESIZE
_KEPT = 4 << 20  # bytes that are not worth giving back to the system


class Block(NamedTuple):
    """An array by reference, small enough to send in a message.

    Kinds: ``shared`` (at byte `place` of region `region`), ``uniform`` (every element has the bytes `place`) and
    ``value`` (`place` is the array itself: strings and empty arrays).
    """

    kind: str
    region: int
    place: Any
    dtype: str
    shape: tuple[int, ...]


@functools.cache
def name_of(dtype: np.dtype) -> str:
    """The name of a dtype, kept: numpy puts it together anew each time."""
    return dtype.name


@functools.cache
def dtype_of(name: str) -> np.dtype:
    """The numpy dtype of that name; bfloat16, float8 and 4-bit types come from ml_dtypes."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def create() -> int:
    """A file descriptor of a new region."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("workbench")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _CAPACITY)
    return fd


class Region:
    """One mapped region.

    Args:
        fd: its file descriptor.
        number: its number in the blocks of a conversation.
        owner: whether this process hands out its blocks.
    """

    def __init__(self, fd: int, number: int, *, owner: bool):
        self.number = number
        self._map = mmap.mmap(fd, _CAPACITY)
        self._free = [(0, _CAPACITY)] if owner else []
        self._used: dict[int, int] = {}
        self._lock = threading.Lock()
        self.in_use = self.peak = self._high = 0  # bytes; _high: the end of what has been written

    def allocate(self, nbytes: int) -> int:
        """The offset of a new block of at least `nbytes` bytes: the lowest that fits, so that memory stays warm."""
        size = max(_ALIGN, -(-nbytes // _ALIGN) * _ALIGN)
        with self._lock:
            return self._place(size)

    def _place(self, size: int) -> int:
        for i, (start, length) in enumerate(self._free):
            if length >= size:
                if length == size:
                    del self._free[i]
                else:
                    self._free[i] = (start + size, length - size)
                self._used[start] = size
                self.in_use += size
                self.peak = max(self.peak, self.in_use)
                self._high = max(self._high, start + size)
                return start
        raise MemoryError(f"no {size} bytes left in a shared region of {_CAPACITY}")

    def release(self, start: int) -> None:
        """Give a block back. Pages stay warm for the next one until less than half of them are in use."""
        with self._lock:
            self._give_back(start)

    def _give_back(self, start: int) -> None:
        size = self._used.pop(start)
        self.in_use -= size
        i = bisect.bisect(self._free, (start, 0))
        if i < len(self._free) and start + size == self._free[i][0]:
            size += self._free.pop(i)[1]
        if i and sum(self._free[i - 1]) == start:
            before, length = self._free[i - 1]
            self._free[i - 1] = (before, length + size)
        else:
            self._free.insert(i, (start, size))
        end = self._free[-1][0]
        if self._high > max(_KEPT, 2 * end):
            first = -(-end // _PAGE) * _PAGE
            if sys.platform == "linux":
                self._map.madvise(mmap.MADV_REMOVE, first, -(-self._high // _PAGE) * _PAGE - first)
            self._high = end

    def view(self, offset: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """The array at `offset`, without a copy."""
        return np.frombuffer(self._map, dtype_of(dtype), math.prod(shape), offset).reshape(shape)

    def new(self, dtype: str, shape: tuple[int, ...]) -> tuple[Block, np.ndarray]:
        """A new block and the writable array in it."""
        offset = self.allocate(math.prod(shape) * dtype_of(dtype).itemsize)
        return Block("shared", self.number, offset, dtype, shape), self.view(offset, dtype, shape)

    def store(self, array: np.ndarray) -> Block:
        """Copy an array in and return its block."""
        array = np.asarray(array)
        if array.dtype.kind in "OSU" or not array.size:
            return Block("value", self.number, array, name_of(array.dtype), array.shape)
        block, target = self.new(name_of(array.dtype), array.shape)
        target[...] = array
        return block


def uniform(array: np.ndarray, least: int = 1 << 16) -> bytes | None:
    """The bytes of the element that the whole array repeats, or None (also for arrays under `least` bytes)."""
    if array.nbytes < least or array.dtype.kind in "OSU" or not array.flags.c_contiguous:
        return None
    bits = array.reshape(-1).view(f"u{array.dtype.itemsize}")
    first, step = bits[0], 1 << 16
    if not (bits[:64] == first).all():
        return None
    if not all((bits[start : start + step] == first).all() for start in range(0, bits.size, step)):
        return None
    return bits[:1].tobytes()


def expand(block: Block) -> np.ndarray:
    """The array of a ``uniform`` block as a read-only view of one element."""
    one = np.frombuffer(block.place, dtype_of(block.dtype))
    return np.broadcast_to(one.reshape((1,) * len(block.shape)), block.shape)
