"""Where a model's external data may lie, and the data files that were opened for it."""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import ModelError
from .weights import DataFile


class Folder:
    """The folder that a model's external data is looked for in; nothing outside it is ever opened.

    A file that is a link counts as lying in the folder that it leads to (so a model and its data that are
    both links into one store, as in a Hugging Face cache, work); data that a link leads elsewhere is refused.
    """

    def __init__(self, path: Path, *, model: Path | None = None):
        self.path = path
        self._roots = {path.resolve()} | ({model.resolve().parent} if model else set())
        self._files: dict[str, DataFile] = {}

    def file(self, location: str, tensor: str) -> DataFile:
        """The data file at a location as written in the model; ModelError when it is missing or outside."""
        if location not in self._files:
            self._files[location] = self._open(location, f"external data of tensor {tensor!r}")
        return self._files[location]

    def _open(self, location: str, what: str) -> DataFile:
        if not location or "\x00" in location:
            raise ModelError(f"{what}: the location {location!r} is no file name; export the model again")
        inside = (
            f"expected a file in the model's folder {self.path}; move it there and export with a plain name"
        )
        pure = PurePosixPath(location)
        if pure.is_absolute() or PureWindowsPath(location).is_absolute() or ".." in pure.parts:
            raise ModelError(
                f"{what}: the location {location!r} is outside the model's folder and was refused; {inside}"
            )
        path = self.path / location
        try:
            real = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links that go in a circle
            raise ModelError(f"{what}: cannot follow {path}: {error}") from None
        if not any(real.is_relative_to(root) for root in self._roots):
            raise ModelError(f"{what}: {location!r} is a link that leads to {real} and was refused; {inside}")
        return open_file(path, what)


def open_file(path: Path, what: str, *, embedded: bool = False) -> DataFile:
    """A DataFile of a regular file; ModelError that says what is in the way otherwise."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ModelError(f"{what}: {path} is a folder; expected a file{similar(path / '_')}")
        if not stat.S_ISREG(mode):
            raise ModelError(
                f"{what}: {path} is no regular file (a device, pipe or socket); copy it to a file first"
            )
        return DataFile(path.resolve(), embedded=embedded)
    except ModelError:
        raise
    except FileNotFoundError:
        raise ModelError(f"{what}: there is no file {path}{similar(path)}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{what}: cannot open {path}: {getattr(error, 'strerror', None) or error}") from None


def similar(path: Path) -> str:
    """What else of the same kind lies in the folder of a path, as the end of an error message."""
    if not path.parent.is_dir():
        return f" (nor a folder {path.parent})"
    kind = path.suffix or ".onnx"
    try:
        found = sorted(entry.name for entry in os.scandir(path.parent) if entry.name.endswith(kind))
    except OSError:
        found = []
    close = difflib.get_close_matches(path.name, found, n=3, cutoff=0.5) or found[:5]
    if not close:
        return f"; {path.parent} holds no {kind} file"
    return f"; in {path.parent} there is {', '.join(close)}"
