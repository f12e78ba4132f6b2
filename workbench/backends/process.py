"""A runtime in a process of its own, so that what kills the runtime does not kill the notebook.

`Worker` starts the process and speaks with it; `Session` is one model loaded there. Arrays travel through shared
memory. A segfault, an abort, running out of memory or a hang becomes a `BackendError` that names the runtime, the
model and the phase; Ctrl-C (the notebook's stop button) ends the process and raises KeyboardInterrupt.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import BackendCrashed, BackendError, BackendFailed, BackendNotInstalled, BackendTimeout
from .channel import Channel
from .memory import Block, Region, create, expand

_START = (
    "import json,sys; a=json.loads(sys.argv[1]); sys.path[:]=a.pop('path');"
    "from workbench.backends._serve import main; main(**a)"
)
# glibc: give memory back at once and keep one heap, so that the worker is as small as what it holds
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 20),
}
_alive: weakref.WeakSet[Worker] = weakref.WeakSet()


class Worker:
    """One process that holds a runtime.

    Args:
        backend: name of the runtime, a module of `workbench.backends`.
        timeout: seconds that one request (loading a model, one run) may take before the process is ended.
        parallel: runs that may overlap.
        options: the runtime's own, for the whole process (see `Runtime` in its module).

    Raises:
        BackendNotInstalled: the runtime's library is missing.
        BackendError: the process could not be started.
    """

    def __init__(
        self, backend: str = "onnxruntime", *, timeout: float = 600.0, parallel: int = 1, **options: Any
    ):
        self.backend, self.timeout, self.parallel, self.options = backend, timeout, parallel, options
        self._version = ""
        self._count = 0
        self._freed: list[int] = []
        self._ignored: set[int] = set()
        self._what: dict[int, tuple[str, str]] = {0: ("start", "")}
        self._replies: dict[int, tuple[bool, Any]] = {}
        self._arrived: queue.SimpleQueue = queue.SimpleQueue()
        self._dead: BackendError | None = None
        self._start()
        _alive.add(self)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        life, self._lifeline = os.pipe()
        regions = create(), create()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        fds = {"pipe": theirs.fileno(), "lifeline": life, "theirs": regions[0], "ours": regions[1]}
        arguments = json.dumps(
            {
                "backend": self.backend,
                "options": self.options,
                "parallel": self.parallel,
                "path": sys.path,
                **fds,
            }
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, arguments],
                pass_fds=list(fds.values()),
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                start_new_session=True,
                env={**os.environ, **_MALLOC},
            )
            self._feeds = Region(regions[0], 0, owner=True)
            self._results = Region(regions[1], 1, owner=False)
        finally:
            theirs.close()
            for fd in (life, *regions):
                os.close(fd)
        self._pipe = Channel(ours.detach())
        self._listener = threading.Thread(target=_listen, args=(self._pipe, self._arrived), daemon=True)
        self._listener.start()

    @property
    def version(self) -> str:
        """Version of the runtime's library, as it reports it."""
        if not self._version:
            self._version = self._wait(0)
        return self._version

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def load(self, model: bytes, *, name: str = "model", **options: Any) -> Session:
        """Load a serialised model; `options` are the runtime's own (see its module). Returns at once.

        The first use of the session waits for the load and raises what went wrong with it.
        """
        block = self._feeds.store(np.frombuffer(model, np.uint8))
        number = self._count + 1
        self._send("load", (number, block, options), "load", name)
        return Session(self, number, name, block)

    def store(self, array: np.ndarray) -> Block:
        """Put an array where the worker can read it; give it back with `free`."""
        return self._feeds.store(array)

    def peak_bytes(self) -> int:
        """Most bytes of arrays that were shared at a time."""
        return self._feeds.peak + self._wait(self._send("peak", (), "wait", ""))

    def call(self, name: str, *, phase: str = "run", label: str = "", **options: Any) -> Any:
        """Call a function of the runtime's module in the worker and return its (picklable) result.

        `label` names the model in errors.
        """
        return self._wait(self._send("call", (name, options), phase, label or name))

    def close(self) -> None:
        """End the process. Closing twice is fine."""
        self._end(BackendCrashed(f"{self.backend}: the worker process was closed", backend=self.backend))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _send(self, verb: str, arguments: tuple, phase: str, model: str) -> int:
        if self._dead is not None:
            raise self._dead
        self._count += 1
        self._what[self._count] = (phase, model)
        freed, self._freed = self._freed, []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the reader tells what happened
            self._pipe.send((self._count, verb, arguments, freed))
        return self._count

    def _wait(self, number: int, timeout: float | None = None) -> Any:
        """The result of request `number`; what it raised; or what became of the process."""
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        while number not in self._replies:
            if self._dead is not None:
                raise self._dead
            try:
                reply = self._arrived.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                self._end(self._timed_out())
                continue
            except BaseException:  # Ctrl-C: a run cannot be interrupted, its process can
                self.close()
                raise
            if reply is None:
                self._end(self._crashed())
            elif reply[0] in self._ignored:
                self._ignored.discard(reply[0])
                self._what.pop(reply[0])
            else:
                self._replies[reply[0]] = reply[1:]
                if reply[0] == 0 and not reply[1] and number:
                    self._wait(0)  # raises why it did not start
        phase, model = self._what.pop(number)
        fine, result = self._replies.pop(number)
        if fine:
            return result
        kind, message = result
        if phase == "start":
            self._end(BackendCrashed(f"{self.backend} did not start", backend=self.backend, phase=phase))
            if kind in ("ImportError", "ModuleNotFoundError"):
                how = f"pip install trt-workbench[{self.backend}]"
                raise BackendNotInstalled(
                    f"{self.backend} cannot be imported: {message}. Install it: {how}",
                    backend=self.backend,
                    phase=phase,
                )
        where = f" {model!r}" if model else ""
        raise BackendFailed(
            f"{self.backend} could not {phase}{where}: {message or kind}",
            backend=self.backend,
            model=model,
            phase=phase,
        )

    def _current(self) -> tuple[str, str]:
        waiting = [number for number in self._what if number not in self._replies]
        return self._what[min(waiting)] if waiting else ("wait", "")

    def _timed_out(self) -> BackendError:
        phase, model = self._current()
        return BackendTimeout(
            f"{self.backend} gave no answer within {self.timeout:g} s (phase: {phase}, model: {model!r}) and was ended;"
            " pass a larger timeout= if the work is really that long",
            backend=self.backend,
            model=model,
            phase=phase,
        )

    def _crashed(self) -> BackendError:
        phase, model = self._current()
        try:
            code = self._process.wait(5)
            how = f"exit status {code}"
            if code < 0:
                how = signal.Signals(-code).name
                if -code == signal.SIGKILL:
                    how += ", most likely out of memory"
        except subprocess.TimeoutExpired:
            how = "its process still runs, but closed the connection"
        self._stderr.seek(0)
        said = self._stderr.read()[-2000:].decode(errors="replace").strip()
        return BackendCrashed(
            f"{self.backend} died ({how}) in phase {phase} of model {model!r}; the notebook is unharmed"
            + (f". It last said: {said}" if said else ""),
            backend=self.backend,
            model=model,
            phase=phase,
        )

    def _end(self, why: BackendError) -> None:
        if self._dead is not None:
            return
        self._dead = why
        self._process.kill()
        self._process.wait()
        if self._listener is not threading.current_thread():
            self._listener.join()  # else it might read on from a descriptor that the next worker has been given
        os.close(self._lifeline)
        self._pipe.close()
        self._stderr.close()


class Session:
    """One model in a worker. Made by `Worker.load`."""

    def __init__(self, worker: Worker, number: int, name: str, model: Block):
        self.worker, self.number, self.name = worker, number, name
        self._model: Block | None = model
        self._description: dict = {}

    @property
    def description(self) -> dict:
        """What the runtime says of the loaded model: ``inputs`` and ``outputs``, lists of (name, dtype, shape)."""
        self._ready()
        if not self._description:
            self._description = self.worker._wait(
                self.worker._send("describe", (self.number,), "load", self.name)
            )
        return self._description

    def _ready(self) -> None:
        if self._model is not None:
            block, self._model = self._model, None
            try:
                self.worker._wait(self.number)
            finally:
                self.worker._feeds.release(block.place)

    def submit(
        self,
        feeds: Mapping[str, Block],
        outputs: list[str] | None = None,
        expected: Mapping[str, tuple[int, ...]] | None = None,
        *,
        alone: bool = False,
    ) -> int:
        """Start a run and return its number for `result`.

        `expected` shapes of outputs save the runtime a copy; a wrong one costs a second run, nothing else.
        `alone`: let nothing that is asked later begin before it is done.
        """
        return self.worker._send(
            "run alone" if alone else "run",
            (self.number, dict(feeds), outputs, dict(expected or {})),
            "run",
            self.name,
        )

    def result(self, number: int) -> dict[str, Block]:
        """Wait for a run: its outputs as blocks, to be read with `array` and given back with `free`."""
        self._ready()
        return self.worker._wait(number)

    def array(self, block: Block) -> np.ndarray:
        """The array of a block, without a copy; not to be used after `free`."""
        return view(self.worker, block)

    def free(self, blocks: Iterable[Block]) -> None:
        """Give blocks back."""
        free(self.worker, blocks)

    def run(self, feeds: Mapping[str, np.ndarray], outputs: list[str] | None = None) -> dict[str, np.ndarray]:
        """Run once. Returns name -> array, copied out of the shared memory."""
        given = {name: self.worker.store(np.asarray(array)) for name, array in feeds.items()}
        try:
            results = self.result(self.submit(given, outputs))
        finally:
            self.free(given.values())
        arrays = {name: np.array(self.array(block)) for name, block in results.items()}
        self.free(results.values())
        return arrays

    def profile(self, feeds: Mapping[str, np.ndarray], **options: Any) -> Any:
        """Profile; options and result are the runtime's own (see its module)."""
        self._ready()
        given = {name: self.worker.store(np.asarray(array)) for name, array in feeds.items()}
        try:
            number = self.worker._send("profile", (self.number, given, options), "profile", self.name)
            return self.worker._wait(number)
        finally:
            self.free(given.values())

    def close(self) -> None:
        """Unload the model, without waiting for it; the worker stays."""
        if self.worker._dead is None:
            self._ready()
            self.worker._ignored.add(self.worker._send("unload", (self.number,), "unload", self.name))


def view(worker: Worker, block: Block) -> np.ndarray:
    """The array of a block of that worker, without a copy."""
    if block.kind == "value":
        return block.place
    if block.kind == "uniform":
        return expand(block)
    region = worker._feeds if block.region == worker._feeds.number else worker._results
    return region.view(block.place, block.dtype, block.shape)


def free(worker: Worker, blocks: Iterable[Block]) -> None:
    """Give blocks of that worker back."""
    for block in blocks:
        if block.kind == "shared":
            if block.region == worker._feeds.number:
                worker._feeds.release(block.place)
            else:
                worker._freed.append(block.place)


def _listen(pipe: Channel, arrived: queue.SimpleQueue) -> None:
    """Move replies to a queue, so that neither side ever blocks on a full pipe; None says that the worker is gone."""
    try:
        with contextlib.suppress(EOFError, OSError):
            while True:
                arrived.put(pipe.receive())
    finally:
        arrived.put(None)


@atexit.register
def _close_all() -> None:
    for worker in list(_alive):
        worker.close()
