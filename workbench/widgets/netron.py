"""The real Netron on a model: ``m.netron()`` serves its current state on Netron's own server."""

from __future__ import annotations

import html
import importlib.util
import re
import subprocess
import sys
import tempfile
import weakref
import webbrowser
from pathlib import Path
from typing import IO

from ..errors import BackendCrashed, BackendNotInstalled, BackendTimeout
from ..model import Model

SERVER = Path(__file__).with_name("_netron.py")
WAIT = 30.0
"""Seconds for the server to start."""


class Netron:
    """A running Netron. In a notebook it shows itself as a frame.

    The reader's browser must reach this machine under 127.0.0.1: with a kernel on another machine, choose a port and
    forward it (``ssh -L 8081:127.0.0.1:8081 host``).

    Attributes:
        url: where it is served, to this machine alone.
        height: of the frame, in pixels.
    """

    def __init__(self, model: Model, port: int, height: int):
        if importlib.util.find_spec("netron") is None:
            raise BackendNotInstalled(
                f"cannot open {model.name!r} in Netron: the package netron is not installed; pip install netron",
                backend="netron", model=model.name, phase="start",
            )  # fmt: skip
        self.height = height
        self._name = model.name
        folder = tempfile.TemporaryDirectory(prefix="workbench-netron-")
        # the name goes into Netron's page as it is
        file = Path(folder.name) / f"{re.sub(r'[^A-Za-z0-9._-]', '_', model.name)[:80] or 'model'}.onnx"
        file.write_bytes(model.to_proto().SerializeToString())
        log = (Path(folder.name) / "log.txt").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), str(file), str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        self._end = weakref.finalize(self, _end, process, folder, log)
        self.url = f"http://127.0.0.1:{_port(process, log, model.name, self._end)}"

    def stop(self) -> None:
        """End the server; again does nothing."""
        self._end()

    @property
    def running(self) -> bool:
        """Whether it still serves."""
        return self._end.alive

    def open(self) -> Netron:
        """Open it in a browser window of this machine; returns itself."""
        webbrowser.open(self.url)
        return self

    def __enter__(self) -> Netron:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _repr_html_(self) -> str:
        if not self.running:
            return "<p>Netron was stopped.</p>"
        return (
            f'<iframe src="{self.url}" title="Netron: {html.escape(self._name, quote=True)}" '
            f'style="width:100%;height:{int(self.height)}px;border:1px solid #8884"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<Netron of {self._name!r} {f'at {self.url}' if self.running else 'stopped'}>"


def netron(model: Model, *, port: int = 0, height: int = 800) -> Netron:
    """Open the current state of a model in Netron.

    Args:
        model: what to show; later edits do not show in it. Weights in data files of their own are not shown.
        port: of the server; 0: any that is free.
        height: of the frame in a notebook, in pixels.

    Raises:
        BackendNotInstalled: without the package netron.
        BackendCrashed, BackendTimeout: the server does not start, with what it wrote.
    """
    return Netron(model, port, height)


def _end(process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str], log: IO[str]) -> None:
    process.terminate()
    process.wait()
    for stream in (process.stdin, process.stdout, log):
        if stream is not None:
            stream.close()
    folder.cleanup()


def _port(process: subprocess.Popen[str], log: IO[str], name: str, end: weakref.finalize) -> int:
    """What the server writes when it serves."""
    import select

    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], WAIT)
    line = process.stdout.readline() if ready else ""
    if line.strip().isdigit():
        return int(line)
    log.seek(0)
    said = (log.read().strip().splitlines() or ["nothing"])[-1]
    end()
    about = {"backend": "netron", "model": name, "phase": "start"}
    if not ready:
        raise BackendTimeout(
            f"Netron gave no answer for {name!r} within {WAIT:.0f} s; it wrote: {said}", **about
        )
    raise BackendCrashed(f"Netron's server ended before it served {name!r}; it wrote: {said}", **about)
