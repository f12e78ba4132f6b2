"""The worker process: one runtime, answering the requests of the notebook's process.

Requests are begun in their order; runs may overlap (on `parallel` threads), all else is done one after the other.

Only numpy and the runtime's own library are imported here. Requests are ``(number, verb, arguments, freed blocks)``,
replies ``(number, True, result)`` or ``(number, False, (error type, message))``.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .channel import Channel
from .memory import Block, Region, dtype_of, name_of, uniform


class Server:
    """Sessions of one runtime and the arrays that go in and out of them."""

    def __init__(self, backend: str, options: dict, theirs: Region, ours: Region):
        self.theirs, self.ours = theirs, ours
        self.runtime = importlib.import_module(f"workbench.backends.{backend}").Runtime(**options)
        self.sessions: dict[int, Any] = {}
        self.lock = threading.Lock()
        self.full: dict[
            Block, tuple[np.ndarray, set[int]]
        ] = {}  # uniform blocks spread out, and their sessions

    def load(self, session: int, model: Block, options: dict) -> None:
        data = self.theirs.view(model.place, model.dtype, model.shape).tobytes()
        self.sessions[session] = self.runtime.load(data, **options)

    def describe(self, session: int) -> dict:
        return self.runtime.describe(self.sessions[session])

    def unload(self, session: int) -> None:
        self.sessions.pop(session, None)
        with self.lock:
            for block, (_, users) in list(self.full.items()):
                users.discard(session)
                if not users:
                    del self.full[block]

    def run(
        self,
        session: int,
        feeds: dict[str, Block],
        outputs: list[str] | None,
        expected: dict[str, tuple[int, ...]],
    ) -> dict[str, Block]:
        loaded = self.sessions[session]
        placed: dict[int, tuple[Block, np.ndarray]] = {}

        def place(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
            block, array = self.ours.new(dtype, shape)
            placed[id(array)] = block, array
            return array

        try:
            arrays = {name: self._array(session, block) for name, block in feeds.items()}
            results = self.runtime.run(loaded, arrays, outputs, place, expected)
            used = {name: placed.pop(id(array))[0] for name, array in results.items() if id(array) in placed}
        finally:
            for block, _ in placed.values():
                self.ours.release(block.place)
        return {name: used.get(name) or self._store(results.pop(name)) for name in list(results)}

    def profile(self, session: int, feeds: dict[str, Block], options: dict) -> Any:
        arrays = {name: self._array(session, block) for name, block in feeds.items()}
        return self.runtime.profile(self.sessions[session], arrays, **options)

    def peak(self) -> int:
        return self.ours.peak

    def call(self, name: str, options: dict) -> Any:
        return getattr(self.runtime, name)(**options)

    def _array(self, session: int, block: Block) -> np.ndarray:
        if block.kind == "value":
            return block.place
        if block.kind == "shared":
            region = self.ours if block.region == self.ours.number else self.theirs
            return region.view(block.place, block.dtype, block.shape)
        with self.lock:
            return self._spread(session, block)

    def _spread(self, session: int, block: Block) -> np.ndarray:
        """The array of a uniform block: one for all sessions that read it."""
        if block not in self.full:
            one = np.frombuffer(block.place, dtype_of(block.dtype))[0]
            self.full[block] = np.full(block.shape, one), set()
        array, users = self.full[block]
        users.add(session)
        return array

    def _store(self, array: np.ndarray) -> Block:
        element = uniform(array)
        if element is None:
            return self.ours.store(array)
        return Block("uniform", self.ours.number, element, name_of(array.dtype), array.shape)


def main(
    backend: str, options: dict, parallel: int, pipe: int, lifeline: int, theirs: int, ours: int
) -> None:
    """Serve until the other side closes the pipe."""

    def watch() -> None:  # ends a busy or hanging runtime when the notebook's process is gone
        os.read(lifeline, 1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    channel = Channel(pipe)
    speaking = threading.Lock()

    def answer(number: int, do: Callable[..., Any], arguments: tuple) -> None:
        try:
            reply = (number, True, do(*arguments))
        except BaseException as error:
            reply = (number, False, (type(error).__name__, str(error)))
        with speaking:
            try:
                channel.send(reply)
            except (pickle.PicklingError, TypeError, AttributeError) as error:  # what `do` gave cannot travel
                channel.send((number, False, (type(error).__name__, str(error))))

    try:
        server = Server(backend, options, Region(theirs, 0, owner=False), Region(ours, 1, owner=True))
    except BaseException as error:
        channel.send((0, False, (type(error).__name__, str(error))))
        return
    channel.send((0, True, server.runtime.version))
    runs: queue.SimpleQueue = queue.SimpleQueue()

    def run() -> None:
        while True:
            answer(*runs.get())

    for _ in range(parallel):
        threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            number, verb, arguments, freed = channel.receive()
        except EOFError:
            os._exit(0)
        for start in freed:
            server.ours.release(start)
        if verb == "run" and parallel > 1:
            runs.put((number, server.run, arguments))
        else:
            answer(number, getattr(server, "run" if verb == "run alone" else verb), arguments)
