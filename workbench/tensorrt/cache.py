"""Engines that were built before, by content: the same model, settings, library and GPU give the same file.

One folder, ``$XDG_CACHE_HOME/workbench/engines`` (or ``~/.cache/...``). An entry is one file, written completely or
not at all, and a lock beside it: of two builders that want the same engine at once, one builds and the other waits.
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
from typing import Any

from ..errors import BackendError
from ..model.atomic import writing as writing

FORMAT = 1
"""Goes into every key: another layout of the entries is another cache."""
_MAGIC = b"WBENGINE"
_HEAD = struct.Struct("<8sQQI")  # magic, bytes of the JSON, bytes of the plan, CRC-32 of both


def folder() -> Path:
    """Where the entries lie."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "workbench" / "engines"


def key(about: Mapping[str, Any]) -> str:
    """The name of an entry: sha256 of everything that the engine depends on, as JSON."""
    text = json.dumps([FORMAT, about], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Entry:
    """One engine in the cache, or its place there."""

    def __init__(self, name: str, root: Path | None = None):
        self.path = (root or folder()) / f"{name}.engine"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among all processes: waits for the one that has this entry's lock. The system frees it when its
        holder ends, however that happens."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path.with_suffix(".lock"), "w")  # noqa: SIM115 - closed below
        except OSError as error:
            raise BackendError(
                f"cannot use the cache of engines in {self.path.parent}: {error}; set XDG_CACHE_HOME to a folder that "
                "can be written, or give cache=False",
                backend="tensorrt", phase="build",
            ) from error  # fmt: skip
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self) -> tuple[dict[str, Any], bytes] | None:
        """(what was said of it, plan), or None when there is none or the file is damaged."""
        with contextlib.suppress(FileNotFoundError):
            data = self.path.read_bytes()
            if len(data) >= _HEAD.size:
                magic, about, plan, checksum = _HEAD.unpack_from(data)
                body = memoryview(data)[_HEAD.size :]
                if magic == _MAGIC and len(body) == about + plan and zlib.crc32(body) == checksum:
                    return json.loads(bytes(body[:about])), bytes(body[about:])
        return None

    def write(self, about: Mapping[str, Any], plan: bytes) -> None:
        """Put an engine there."""
        text = json.dumps(about).encode()
        checksum = zlib.crc32(plan, zlib.crc32(text))
        with writing(self.path) as out:
            out.write(_HEAD.pack(_MAGIC, len(text), len(plan), checksum) + text)
            out.write(plan)
