"""Arrays and models inside of edits: known by the sha256 of their bytes, kept in files beside a script."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import EditError
from ..model.info import DTYPES

_PLAIN = frozenset("float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split())  # noqa: SIM905


@dataclass(frozen=True)
class Content:
    """A file's worth of data; two with the same bytes are equal.

    Attributes:
        sha256: hex, of the bytes of the file.
        suffix: ``.npy`` or ``.onnx``.
        data: the bytes of the file.
    """

    sha256: str
    suffix: str
    data: bytes = field(compare=False, repr=False)

    @property
    def file_name(self) -> str:
        """Name of its file: 16 digits of the hash, and the suffix."""
        return f"{self.sha256[:16]}{self.suffix}"

    def array(self) -> np.ndarray:
        """The array in a .npy; types that .npy lacks (bfloat16, int4, ...) stand in it as ``|V``, so ask
        ``tensor``."""
        return np.load(io.BytesIO(self.data), allow_pickle=False)

    def tensor(self, name: str | None = None) -> ir.TensorProtocol:
        """The array in a .npy as a tensor."""
        array = self.array()
        if array.dtype.names:  # how array() stores what .npy lacks: one field, named after the type
            dtype = array.dtype.names[0]
            array = array[dtype].view(ir.DataType[_code(dtype)].numpy())
            return ir.Tensor(array, ir.DataType[_code(dtype)], name=name)
        if array.dtype.kind in "US":
            return ir.StringTensor(
                np.char.encode(array).astype(object) if array.dtype.kind == "U" else array, name=name
            )
        return ir.Tensor(array, name=name)


def _code(dtype: str) -> str:
    return ir.DataType(next(number for number, name in DTYPES.items() if name == dtype)).name


def of_bytes(data: bytes, suffix: str) -> Content:
    """Content of the bytes of a file."""
    return Content(hashlib.sha256(data).hexdigest(), suffix, data)


def of_array(value: Any, what: str) -> Content:
    """Content of an array, of what numpy makes one of, or of a .npy file; EditError when it is none."""
    if isinstance(value, Content):
        return value
    if isinstance(value, str | os.PathLike):
        return _of_file(Path(value), what)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise EditError(f"{what}: numpy makes no array of what was given: {error}; give an array") from None
    if array.dtype == object and all(isinstance(item, str) for item in array.ravel()):
        array = array.astype(str)
    name = array.dtype.name
    if array.dtype.kind not in "US" and name not in _PLAIN:
        if name not in DTYPES.values():
            raise EditError(
                f"{what}: got an array of {name}, expected one of {', '.join(DTYPES.values())}; convert it"
            )
        raw = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
        array = raw.view([(name, raw.dtype)])
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(array) if array.ndim else array, allow_pickle=False)
    return of_bytes(out.getvalue(), ".npy")


def _of_file(path: Path, what: str) -> Content:
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no path at all
        reason = error.strerror if isinstance(error, OSError) else error
        raise EditError(
            f"{what}: cannot read {path}: {reason}; give an array or the path of a .npy"
        ) from None
    if not data.startswith(b"\x93NUMPY"):
        raise EditError(f"{what}: {path} is no .npy file; save it with numpy.save")
    return of_bytes(data, ".npy")


class Store:
    """Where contents are found by name when edits are read back: in memory, or in a folder."""

    def __init__(self, folder: Path | None = None, held: Mapping[str, Content] | None = None):
        self.folder, self.held = folder, dict(held or {})

    def find(self, sha256: str, suffix: str) -> Content:
        """The content of a hash; EditError when it is not there or was changed."""
        if sha256 in self.held:
            return self.held[sha256]
        name = f"{sha256[:16]}{suffix}"
        if self.folder is None:
            raise EditError(
                f"the content {name} of an edit is not in the history, which keeps only small ones; "
                "expected its file; replay a script or JSON file that history.to_python or to_json wrote"
            )
        return self.read(self.folder / name, sha256)

    def read(self, path: Path, sha256: str | None = None) -> Content:
        """A content from its file."""
        try:
            found = of_bytes(path.read_bytes(), path.suffix)
        except OSError as error:
            raise EditError(
                f"the content of an edit cannot be read from {path}: {error.strerror}; keep it beside the script"
            ) from None
        if not (sha256 or found.sha256).startswith(found.sha256[:16]):
            raise EditError(
                f"{path} holds other data than when the edits were written: got sha256 {found.sha256[:16]}, "
                f"expected {(sha256 or '')[:16]}; restore the file"
            )
        self.held[found.sha256] = found
        return found
