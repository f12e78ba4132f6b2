"""TensorRT's log and progress, written line by line to a file that the notebook's process reads while work goes on.

A file and not the pipe: what was said before an abort is still there after it. Lines are JSON:
``["log", seconds, severity, message]``, ``["phase", name, parent or null, steps]``, ``["step", name, step]`` and
``["done", name]``.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt as trt


class Writer:
    """Where the lines go: nowhere, outside of `to`."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._start = 0.0

    @contextlib.contextmanager
    def to(self, path: str) -> Iterator[None]:
        """Write to the end of that file; nowhere for an empty path."""
        self._start = time.monotonic()
        with open(path, "a", buffering=1) if path else contextlib.nullcontext() as self._file:
            try:
                yield
            finally:
                self._file = None

    def write(self, *line: Any) -> None:
        """One line; threads of the library may call this at the same time."""
        file = self._file
        if file is not None:
            file.write(json.dumps(line) + "\n")

    def say(self, severity: str, message: str) -> None:
        """A line of the log."""
        self.write("log", round(time.monotonic() - self._start, 4), severity, message)


def install() -> Writer:
    """Make Polygraphy's loaders and runners log to the Writer that is returned, and keep Polygraphy itself silent."""
    import tensorrt as trt
    from polygraphy.backend.trt import util
    from polygraphy.logger import G_LOGGER

    writer = Writer()

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: trt.ILogger.Severity, message: str) -> None:
            writer.say(severity.name, message)

    util.TRT_LOGGER = Log()  # a process has one logger: the first that TensorRT is given
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    return writer


def monitor(writer: Writer) -> trt.IProgressMonitor:
    """A progress monitor that writes what it is told."""
    import tensorrt as trt

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            writer.write("phase", phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            writer.write("step", phase_name, step)
            return True  # who cancels ends this process: that works in the long phases without steps, too

        def phase_finish(self, phase_name: str) -> None:
            writer.write("done", phase_name)

    return Monitor()
