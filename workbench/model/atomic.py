"""Writing a file so that it is either there completely or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends and has reached the disk by
    then.

    Whatever happens before that (an error, a full disk, the end of the process) leaves ``path`` as it was.
    Where the file system allows it the file has no name until it is complete, so that nothing is left behind
    even when the process is killed. An existing file keeps its permissions.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fd, nameless = _create(path.parent, temporary)
        with os.fdopen(fd, "wb") as out:
            yield out
            out.flush()
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(fd, stat.S_IMODE(path.stat().st_mode))
            os.fsync(fd)
            if nameless:  # with dst_dir_fd, so that linkat follows /proc's link to the file
                os.link(f"/proc/self/fd/{fd}", temporary, dst_dir_fd=folder, follow_symlinks=True)
            os.replace(temporary, path)
        os.fsync(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(folder)


def _create(folder: Path, temporary: Path) -> tuple[int, bool]:
    """(descriptor, whether it has no name yet) of a new file in a folder."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # not every file system has files without a name
            return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), True
    return os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666), False
