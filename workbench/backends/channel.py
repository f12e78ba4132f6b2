"""Messages between the notebook's process and a worker, over one socket.

Only os and pickle are used: a worker's start is part of what every comparison waits for, and `multiprocessing` would
make it longer.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

_HEAD = 8  # bytes of the length that goes before each message
_READ = 1 << 16


class Channel:
    """One end. Sending and receiving may overlap, two sends may not."""

    def __init__(self, fd: int):
        self.fd = fd
        self._received = bytearray()

    def send(self, message: Any) -> None:
        """Send anything that can be pickled; waits while the other side's buffer is full.

        Raises:
            OSError: the other side is gone.
        """
        said = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        rest = memoryview(len(said).to_bytes(_HEAD, "little") + said)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def receive(self) -> Any:
        """The next message; waits for it.

        Raises:
            EOFError, OSError: the other side is gone.
        """
        held = self._received
        end = _HEAD
        while len(held) < end or len(held) < (end := _HEAD + int.from_bytes(held[:_HEAD], "little")):
            part = os.read(self.fd, max(_READ, end - len(held)))
            if not part:
                raise EOFError("the other side is gone")
            held += part
        said = bytes(held[_HEAD:end])
        del held[:end]
        return pickle.loads(said)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)
