"""Where input data comes from: files, folders, iterators and callables, as iterables to run through again."""

from __future__ import annotations

import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

_IN_MEMORY = 256 << 20  # bytes of spooled items that are kept in memory; more goes to a temporary file


class Spool:
    """The items of an iterator, kept (in memory, then in a temporary file) to be run through again."""

    def __init__(self, items: Iterable[Any]):
        self._items = iter(items)
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  (lives as long as this)
        self._starts: list[int] = []

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while True:
            if index == len(self._starts):
                item = next(self._items, _END)
                if item is _END:
                    return
                self._keep(item)
            else:
                self._file.seek(self._starts[index])
                item = pickle.load(self._file)  # only what _keep wrote into this process's own unnamed file
            yield item
            index += 1

    def _keep(self, item: Any) -> None:
        self._file.seek(0, 2)
        self._starts.append(self._file.tell())
        pickle.dump(item, self._file, protocol=5)


_END = object()


class Files:
    """Items in files, one file an item, read anew each time."""

    def __init__(self, paths: Sequence[Path]):
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[Any]:
        return map(read_array_file, self._paths)


def calls(function: Callable[[int], Any], count: int) -> Iterator[Any]:
    """``function(0)``, ``function(1)`` ... up to ``count`` items or to the first None."""
    for index in range(count):
        item = function(index)
        if item is None:
            return
        yield item


def path(source: Path, names: Sequence[str]) -> Iterable[Any]:
    """The items in a file or folder, for a model with inputs ``names``.

    Raises:
        InputError: there is nothing that can be read as input data.
    """
    if source.is_dir():
        return _folder(source, names)
    if not source.exists():
        raise InputError(f"inputs: no such file or folder: {source}")
    if source.suffix in (".npz", ".npy"):
        return Files([source])
    if source.suffix == ".json":
        return _polygraphy(source)
    raise InputError(
        f"inputs: cannot read {source}; expected .npz, .npy, .json (Polygraphy's) or a folder of .npz or .npy"
    )


def _folder(folder: Path, names: Sequence[str]) -> Iterable[Any]:
    archives, arrays = (sorted(folder.rglob(f"*{end}"), key=_natural) for end in (".npz", ".npy"))
    if archives and arrays:
        raise InputError(f"inputs: folder {folder} holds both .npz and .npy files; keep one kind")
    if archives or not arrays:
        if not archives:
            raise InputError(f"inputs: folder {folder} holds no .npz or .npy file")
        return Files(archives)
    by_name = {file.relative_to(folder).with_suffix("").as_posix(): file for file in arrays}
    if len(names) == 1 and names[0] not in by_name:
        return Files(arrays)
    return [{name: read_array_file(file) for name, file in by_name.items()}]


def _natural(file: Path) -> list[tuple[bool, int, str]]:
    """Sort key by which item2 comes before item10."""
    return [
        (part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in re.split(r"(\d+)", file.as_posix())
    ]


def read_array_file(file: Path) -> Any:
    """An array (.npy, or .npz with a single unnamed array), or a dict of the arrays in an .npz."""
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(_unreadable(file, error)) from error
    return arrays["arr_0"] if list(arrays) == ["arr_0"] else arrays


def _unreadable(file: Path, error: Exception) -> str:
    if "allow_pickle" in str(error):
        return (
            f"inputs: {file} holds pickled Python objects, which are not loaded because they can run code; "
            f"save plain arrays (for text: dtype 'U')"
        )
    return f"inputs: cannot read {file}: {error}"


def _polygraphy(file: Path) -> list[Any]:
    """Inputs saved by Polygraphy (``polygraphy run --save-inputs``): a list of dicts, or a single dict."""
    from polygraphy.json import load_json

    try:
        saved = load_json(str(file))
    except Exception as error:  # whatever Polygraphy raises on a file that it did not write
        raise InputError(f"inputs: cannot read {file} as Polygraphy's saved inputs: {error}") from error
    items = [saved] if isinstance(saved, dict) else saved
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(
            f"inputs: {file} holds a {type(saved).__name__}; "
            f"expected Polygraphy's saved inputs (a list of dicts of arrays)"
        )
    return items
