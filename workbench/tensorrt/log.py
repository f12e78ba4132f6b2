"""What TensorRT said while it worked, as a table to search in, and how far it is, as a bar."""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_WORST = ("INTERNAL_ERROR", "ERROR", "WARNING")


@dataclass(frozen=True)
class Log:
    """The log of one build.

    Attributes:
        records: (seconds since the start, severity, message) in order; severities are TensorRT's:
            ``INTERNAL_ERROR``, ``ERROR``, ``WARNING``, ``INFO``, ``VERBOSE``.
    """

    records: tuple[tuple[float, str, str], ...] = ()

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per message: ``seconds``, ``severity``, ``message``."""
        import pandas as pd

        return pd.DataFrame(list(self.records), columns=["seconds", "severity", "message"])

    def search(self, pattern: str, severity: str | None = None) -> pd.DataFrame:
        """The messages in which a regular expression is found (any case), of all severities or of one."""
        rows = self.table
        found = rows.message.str.contains(pattern, case=False, regex=True)
        return rows[found if severity is None else found & (rows.severity == severity.upper())]

    @property
    def errors(self) -> list[str]:
        """Messages of errors, the first one first, each once."""
        return self._of("INTERNAL_ERROR", "ERROR")

    @property
    def warnings(self) -> list[str]:
        """Warnings, the first one first, each once."""
        return self._of("WARNING")

    def _of(self, *severities: str) -> list[str]:
        return list(dict.fromkeys(m for _, severity, m in self.records if severity in severities))

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        counts = {name: sum(s == name for _, s, _ in self.records) for name in _WORST}
        said = ", ".join(f"{count} {name.lower()}" for name, count in counts.items() if count)
        return f"<Log: {len(self.records)} messages{f', {said}' if said else ''}>"


class Progress:
    """How far a build is, from the lines of `workbench.backends.tensorrt.log`.

    Phases nest: a step of a phase is as long as the phases inside it say. `done` is between 0 and 1 and never falls.
    """

    def __init__(self) -> None:
        self.done, self.phase = 0.0, ""
        self._steps: dict[str, tuple[str | None, int, int]] = {}  # phase -> (parent, steps, steps done)

    def take(self, line: list[Any]) -> None:
        """Take one line."""
        kind, name = line[0], line[1]
        if kind == "phase":
            self._steps[name] = line[2], max(1, line[3]), 0
            self.phase = name
        elif kind == "step" and name in self._steps:
            parent, steps, _ = self._steps[name]
            self._steps[name] = parent, steps, min(steps, line[2] + 1)
        elif kind == "done" and self._steps.pop(name, ("", 0, 0))[0] is None:
            self.done = 1.0
        self.done = max([self.done, *(self._share(n) for n, (p, _, _) in self._steps.items() if p is None)])

    def _share(self, name: str) -> float:
        _, steps, done = self._steps[name]
        inner = max(
            (self._share(n) for n, (parent, _, _) in self._steps.items() if parent == name), default=0.0
        )
        return min(1.0, (done + inner) / steps)


class Follower:
    """Reads the file that the worker writes its lines to, and moves a bar meanwhile.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, bar: Any):
        self.path, self._bar, self._progress = path, bar, Progress()
        self._records: list[tuple[float, str, str]] = []
        self._rest = ""
        self._ended = threading.Event()

    @property
    def log(self) -> Log:
        """What was logged by now."""
        return Log(tuple(self._records))

    def watch(self) -> None:
        """Follow the file until `end`."""
        with self.path.open() as file:
            while not self._ended.wait(0.1):
                self._take(file)
            self._take(file)

    def end(self) -> None:
        """Read what is there and stop."""
        self._ended.set()

    def _take(self, file: Iterable[str]) -> None:
        for text in file:
            text, self._rest = self._rest + text, ""
            if not text.endswith("\n"):  # the rest of it is not written yet, or never will be
                self._rest = text
                continue
            line = json.loads(text)
            if line[0] == "log":
                self._records.append((line[1], line[2], line[3]))
            else:
                self._progress.take(line)
        if self._bar is not None:
            self._bar.set_description_str(self._progress.phase or "build", refresh=False)
            self._bar.update(round(100 * self._progress.done) - self._bar.n)


@contextlib.contextmanager
def following(name: str, show: bool) -> Iterator[Follower]:
    """A file for a worker to write its log to, followed by a thread until the block ends.

    Args:
        name: of the model, for the bar.
        show: whether to show a bar.
    """
    bar = None
    if show:
        from tqdm.auto import tqdm

        bar = tqdm(total=100, unit="%", desc=f"build {name}", leave=False, delay=0.5)
    with tempfile.TemporaryDirectory(prefix="workbench-") as place:
        path = Path(place) / "events"
        path.touch()
        follower = Follower(path, bar)
        thread = threading.Thread(target=follower.watch, daemon=True)
        thread.start()
        try:
            yield follower
        finally:
            follower.end()
            thread.join()
            if bar is not None:
                bar.close()
