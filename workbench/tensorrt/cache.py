"""Engines that were built before, by content: the same model, settings, library and GPU give the same file.

One folder, ``$XDG_CACHE_HOME/workbench/engines`` (or ``~/.cache/...``). An entry is one file, written completely or
not at all, and a lock beside it: of two builders that want the same engine at once, one builds and the other waits.
The folder keeps at most `limit` bytes: what was used least recently makes room for what comes. The time of a file is
that of its last use.

    wb.tensorrt.cache.table()             # what is there, what was used last first
    wb.tensorrt.cache.clear()             # remove all of it; keep="2GB" keeps what was used last
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import BackendError, InputError
from ..model.atomic import writing as writing
from ..model.card import size
from ..model.size import parse

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 2
"""Goes into every key: another layout of the entries is another cache."""
LIMIT = "10GB"
"""What the folder keeps at most, unless `VARIABLE` or an argument says otherwise."""
VARIABLE = "WORKBENCH_ENGINE_CACHE"
"""Environment variable: a size as in ``20GB``; ``0`` keeps nothing."""
_MAGIC = b"WBENGIN2"
_HEAD = struct.Struct(
    "<8sQQQI"
)  # magic, bytes of the label, of the JSON and of the plan, CRC-32 of these three


def folder() -> Path:
    """Where the entries lie."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "workbench" / "engines"


def limit(given: str | int | None = None) -> int:
    """Bytes that the folder keeps at most: as given (``"20GB"`` or a number), else by `VARIABLE`, else `LIMIT`.

    Raises:
        InputError: it is no size.
    """
    said = os.environ.get(VARIABLE) or LIMIT if given is None else given
    try:
        return parse(said)
    except InputError as error:
        where = VARIABLE if given is None else "cache_limit"
        raise InputError(f"{where}: {error}") from error


def key(about: Mapping[str, Any]) -> str:
    """The name of an entry: sha256 of everything that the engine depends on, as JSON."""
    text = json.dumps([FORMAT, about], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def table() -> pd.DataFrame:
    """Engines in the cache, what was used last first; index ``engine`` (the beginning of its key).

    Columns ``model`` (its name), ``library``, ``version``, ``where`` (compute capabilities or the GPU that it is for),
    ``bytes``, ``used`` (UTC), ``path``. ``attrs``: ``bytes`` in all, ``limit``, ``folder``.
    """
    import pandas as pd

    rows = []
    for path, nbytes, used in reversed(_entries()):
        row = {"engine": path.stem[:12], **_label(path), "bytes": nbytes, "path": str(path)}
        rows.append(row | {"used": pd.Timestamp(used, unit="ns", tz="UTC").floor("s")})
    columns = ["engine", "model", "library", "version", "where", "bytes", "used", "path"]
    frame = pd.DataFrame(rows, columns=columns).set_index("engine")
    frame.attrs = {"bytes": int(frame["bytes"].sum()), "limit": limit(), "folder": str(folder())}
    return frame


def clear(keep: str | int = 0) -> int:
    """Remove engines, those first that were not used for longest, until at most ``keep`` bytes (``"2GB"``, or a number)
    are left; what another process builds or reads just now stays. Returns the bytes that were freed."""
    wanted = parse(keep)
    if not folder().is_dir():
        return 0
    with _locked(folder() / "lock"):
        freed = _make_room(wanted)
        for lock in folder().glob("*.lock"):  # of builds that failed or were stopped
            if not lock.with_suffix(".engine").exists():
                _remove(lock.with_suffix(".engine"))
    return freed


class Entry:
    """One engine in the cache, or its place there."""

    def __init__(self, name: str, root: Path | None = None):
        self.path = (root or folder()) / f"{name}.engine"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all processes: waits for the one that has this entry's lock. The system frees it when its
        holder ends, however that happens."""
        with contextlib.ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_locked(self.path.with_suffix(".lock")))
            except OSError as error:
                raise BackendError(
                    f"cannot use the cache of engines in {self.path.parent}: {error}; set XDG_CACHE_HOME to a folder "
                    "that can be written, or give cache=False",
                    backend="tensorrt", phase="build",
                ) from error  # fmt: skip
            yield

    def read(self) -> tuple[dict[str, Any], bytes] | None:
        """(what was said of it, plan), or None when there is none or the file is damaged."""
        with contextlib.suppress(FileNotFoundError):
            data = self.path.read_bytes()
            if len(data) >= _HEAD.size:
                magic, label, about, plan, checksum = _HEAD.unpack_from(data)
                body = memoryview(data)[_HEAD.size :]
                if magic == _MAGIC and len(body) == label + about + plan and zlib.crc32(body) == checksum:
                    os.utime(self.path)
                    return json.loads(bytes(body[label : label + about])), bytes(body[label + about :])
        return None

    def write(
        self,
        about: Mapping[str, Any],
        plan: bytes,
        label: Mapping[str, Any] | None = None,
        most: str | int | None = None,
    ) -> bool:
        """Put an engine there, in the place of those that were used least recently.

        Args:
            about: what was said of it.
            label: what `table` tells of it.
            most: bytes that the folder keeps; see `limit`.

        Returns:
            Whether it is there: an engine that is larger than the limit is not kept.
        """
        parts = (json.dumps(label or {}).encode(), json.dumps(about).encode(), plan)
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        room = limit(most) - _HEAD.size - sum(map(len, parts))
        if room < 0:
            return False
        with _locked(self.path.with_name("lock")):
            _make_room(room, self.path.parent)
            with writing(self.path) as out:
                out.write(_HEAD.pack(_MAGIC, *map(len, parts), checksum))
                for part in parts:
                    out.write(part)
        return True


@contextlib.contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock that a file is. BlockingIOError where another holds it and one does not wait.

    A lock file is removed by who holds it, so whoever waited for one that is gone takes the new one."""
    while True:
        with open(path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                yield
                return


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of that path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _entries(root: Path | None = None) -> list[tuple[Path, int, int]]:
    """(path, bytes, last use in ns) of every engine, what was used least recently first."""
    found = []
    for path in (root or folder()).glob("*.engine"):
        with contextlib.suppress(FileNotFoundError):
            seen = path.stat()
            found.append((path, seen.st_size, seen.st_mtime_ns))
    return sorted(found, key=lambda entry: (entry[2], entry[0]))


def _make_room(keep: int, root: Path | None = None) -> int:
    """Remove what was used least recently until at most ``keep`` bytes are left; returns the bytes freed. Only with the
    folder's lock."""
    entries, freed = _entries(root), 0
    total = sum(nbytes for _, nbytes, _ in entries)
    for path, nbytes, used in entries:
        if total - freed <= keep and keep > 0:
            break
        freed += nbytes * _remove(path, used)
    return freed


def _remove(path: Path, used: int | None = None) -> bool:
    """Remove an engine and its lock, unless somebody holds that or has used the engine since."""
    lock = path.with_suffix(".lock")
    try:
        with _locked(lock, wait=False):
            if used is not None and path.stat().st_mtime_ns != used:
                return False
            path.unlink(missing_ok=True)
            lock.unlink()
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def _label(path: Path) -> dict[str, Any]:
    """What `table` tells of an entry; nothing of one that is damaged or of another format."""
    nothing: dict[str, Any] = dict.fromkeys(("model", "library", "version", "where"), "?")
    with contextlib.suppress(OSError, ValueError, struct.error), open(path, "rb") as file:
        magic, nbytes, *_ = _HEAD.unpack(file.read(_HEAD.size))
        if magic == _MAGIC and nbytes < 1 << 20:
            return nothing | json.loads(file.read(nbytes))
    return nothing


def describe(found: pd.DataFrame) -> str:
    """The table in words, for the shell."""
    said = found.attrs
    lines = [
        f"{len(found)} engine{'s' * (len(found) != 1)}, {size(said['bytes'])} of at most {size(said['limit'])}, "
        f"in {said['folder']}"
    ]
    for row in found.itertuples():
        lines.append(
            f"  {row.used:%Y-%m-%d %H:%M}  {size(row.bytes):>8}  {row.model} ({row.library} {row.version}, {row.where})"
        )
    return "\n".join(lines)
