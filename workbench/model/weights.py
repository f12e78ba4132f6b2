"""Weights that stay in their file: one shared memory map per file, and tensors that are windows into it."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir

from ..errors import ModelError

CHUNK = 16 << 20
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class DataFile:
    """A file that holds weights, as it was when the model was loaded.

    The bytes are mapped on first use. A file that was replaced (a new file under the old name) is still read
    from the map when that was open by then; a file that was changed in place, or replaced before it was ever
    read, raises ModelError rather than giving out other bytes than those that belong to the model.

    Attributes:
        path: absolute path.
        size: in bytes.
        embedded: whether this is the .onnx file itself and not an external data file.
    """

    def __init__(self, path: Path, *, embedded: bool = False):
        self.path, self.embedded = path, embedded
        self._fd: int | None = None
        self._map: mmap.mmap | None = None
        self._identity = _identity(os.stat(path))
        self.size = self._identity[2]
        if embedded:
            self._open()

    def _open(self) -> int:
        """The descriptor of the file, once it is known to be unchanged."""
        if self._fd is None:
            self.check_path()
            self._fd = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._fd)
        if _identity(os.fstat(self._fd)) != self._identity:
            raise self._changed("was changed in place")
        return self._fd

    def _changed(self, how: str) -> ModelError:
        return ModelError(
            f"weights in {self.path}: the file {how} since the model was loaded; load the model again"
        )

    def check_path(self) -> None:
        """Raise ModelError unless the path still leads to the file that the model was loaded from."""
        try:
            now = _identity(os.stat(self.path))
        except OSError as error:
            raise self._changed(f"cannot be opened any more ({error.strerror})") from None
        if now != self._identity:
            raise self._changed("was replaced or changed")

    def map(self) -> mmap.mmap:
        """The whole file as a read-only memory map."""
        fd = self._open()
        if self._map is None:
            self._map = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        return self._map

    def view(self, offset: int, length: int) -> memoryview:
        """The bytes, without copying them."""
        return memoryview(self.map())[offset : offset + length] if length else memoryview(b"")

    def chunks(self, offset: int, length: int) -> Iterator[bytes]:
        """The bytes in pieces, read and not mapped."""
        source, end = self._open(), offset + length
        while offset < end:
            piece = os.pread(source, min(end - offset, CHUNK), offset)
            if not piece:
                raise self._changed("became shorter")
            yield piece
            offset += len(piece)
        self._open()

    def copy_to(self, out: BinaryIO, offset: int, length: int) -> None:
        """Write the bytes to a file at its current position, inside the kernel where it can do that."""
        out.flush()
        source, target, done = self._open(), out.fileno(), 0
        with contextlib.suppress(_CannotCopy):
            while done < length:
                done += _copy_range(source, target, offset + done, length - done)
        out.seek(os.lseek(target, 0, os.SEEK_CUR))
        for piece in self.chunks(offset + done, length - done):
            out.write(piece)


class _CannotCopy(Exception):
    pass


def _copy_range(source: int, target: int, offset: int, length: int) -> int:
    """``copy_file_range``: shares the blocks where the file system can, else copies without passing through
    memory."""
    try:
        done = os.copy_file_range(source, target, min(length, 1 << 30), offset)
    except (OSError, AttributeError) as error:
        if getattr(error, "errno", None) in DISK_ERRORS:
            raise
        raise _CannotCopy from error
    if not done:
        raise _CannotCopy
    return done


def _identity(stat: os.stat_result) -> tuple[int, int, int, int]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


class FileTensor(ir.LazyTensor):
    """A tensor whose bytes lie in a DataFile; numpy() is a read-only view of the map, checked at each
    call."""

    __slots__ = ("file", "length", "offset")

    def __init__(self, file: DataFile, offset: int, dtype: ir.DataType, shape: ir.Shape, **names: Any):
        super().__init__(self._read, dtype, shape, **names)
        self.file, self.offset, self.length = file, offset, self.nbytes

    def _read(self) -> ir.TensorProtocol:
        return from_buffer(self.file.view(self.offset, self.length), self.dtype, self.shape, name=self.name)

    def __repr__(self) -> str:
        return f"<FileTensor {self.name!r} {self.dtype}{self.shape} at {self.offset} in {self.file.path}>"

    def tobytes(self) -> bytes:
        """The bytes as ONNX stores them."""
        return bytes(self.file.view(self.offset, self.length))

    def tofile(self, file: Any) -> None:
        """Write the bytes to a file object without holding them in memory."""
        for piece in self.file.chunks(self.offset, self.length):
            file.write(piece)


def same_data(one: ir.TensorProtocol, two: ir.TensorProtocol) -> bool:
    """Whether two weights are the same; those that are one place in one file are not read."""
    if one is two:
        return True
    if one.dtype != two.dtype or one.shape.numpy() != two.shape.numpy():
        return False
    if isinstance(one, FileTensor) and isinstance(two, FileTensor):
        here, there = ((t.file.path, t.offset, t.file._identity) for t in (one, two))
        if here == there:
            return True
        pieces = zip(
            one.file.chunks(one.offset, one.length), two.file.chunks(two.offset, two.length), strict=True
        )
        return all(a == b for a, b in pieces)
    if one.dtype == ir.DataType.STRING:
        return bool((one.numpy() == two.numpy()).all())
    return one.tobytes() == two.tobytes()


def from_buffer(buffer: memoryview, dtype: ir.DataType, shape: ir.Shape, **names: Any) -> ir.TensorProtocol:
    """A tensor over the bytes of a buffer, in ONNX's raw (little-endian, packed) form, without copying
    them."""
    if dtype.bitwidth < 8:
        return ir.PackedTensor(np.frombuffer(buffer, np.uint8), dtype, shape=shape, **names)
    array = np.frombuffer(buffer, np.dtype(dtype.numpy()).newbyteorder("<")).reshape(shape.numpy())
    return ir.Tensor(array, dtype, shape=shape, **names)
