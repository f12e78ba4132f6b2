"""The worker process: one runtime, answering the requests of the notebook's process one after the other.

Only numpy and the runtime's own library are imported here. Requests are ``(number, verb, arguments, freed blocks)``,
replies ``(number, True, result)`` or ``(number, False, (error type, message))``.
"""

from __future__ import annotations

import importlib
import os
import threading
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from .memory import Block, Region, dtype_of, uniform


class Server:
    """Sessions of one runtime and the arrays that go in and out of them."""

    def __init__(self, backend: str, theirs: Region, ours: Region):
        self.theirs, self.ours = theirs, ours
        self.runtime = importlib.import_module(f"workbench.backends.{backend}").Runtime()
        self.sessions: dict[int, Any] = {}
        self.full: dict[int, dict[str, tuple[Block, np.ndarray]]] = {}

    def load(self, session: int, model: Block, options: dict) -> dict:
        data = self.theirs.view(model.place, model.dtype, model.shape).tobytes()
        self.sessions[session] = loaded = self.runtime.load(data, **options)
        self.full[session] = {}
        return self.runtime.describe(loaded)

    def unload(self, session: int) -> None:
        self.sessions.pop(session, None)
        self.full.pop(session, None)

    def run(self, session: int, feeds: dict[str, Block], outputs: list[str] | None) -> dict[str, Block]:
        placed: dict[int, tuple[Block, np.ndarray]] = {}

        def place(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
            block, array = self.ours.new(dtype, shape)
            placed[id(array)] = block, array
            return array

        try:
            arrays = {name: self._array(session, name, block) for name, block in feeds.items()}
            results = self.runtime.run(self.sessions[session], arrays, outputs, place)
            used = {name: placed.pop(id(array))[0] for name, array in results.items() if id(array) in placed}
        finally:
            for block, _ in placed.values():
                self.ours.release(block.place)
        return {name: used.get(name) or self._store(results.pop(name)) for name in list(results)}

    def profile(self, session: int, feeds: dict[str, Block], options: dict) -> Any:
        arrays = {name: self._array(session, name, block) for name, block in feeds.items()}
        return self.runtime.profile(self.sessions[session], arrays, **options)

    def peak(self) -> int:
        return self.ours.peak

    def call(self, name: str, options: dict) -> Any:
        return getattr(self.runtime, name)(**options)

    def _array(self, session: int, name: str, block: Block) -> np.ndarray:
        if block.kind == "value":
            return block.place
        if block.kind == "shared":
            region = self.ours if block.region == self.ours.number else self.theirs
            return region.view(block.place, block.dtype, block.shape)
        kept = self.full[session].get(name)
        if kept is None or kept[0] != block:
            one = np.frombuffer(block.place, dtype_of(block.dtype))[0]
            kept = self.full[session][name] = (block, np.full(block.shape, one))
        return kept[1]

    def _store(self, array: np.ndarray) -> Block:
        element = uniform(array)
        if element is None:
            return self.ours.store(array)
        return Block("uniform", self.ours.number, element, array.dtype.name, array.shape)


def main(backend: str, pipe: int, lifeline: int, theirs: int, ours: int) -> None:
    """Serve until the other side closes the pipe."""

    def watch() -> None:  # ends a busy or hanging runtime when the notebook's process is gone
        os.read(lifeline, 1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    connection = Connection(pipe)
    try:
        server = Server(backend, Region(theirs, 0, owner=False), Region(ours, 1, owner=True))
        connection.send((0, True, server.runtime.version))
    except BaseException as error:
        connection.send((0, False, (type(error).__name__, str(error))))
        return
    while True:
        try:
            number, verb, arguments, freed = connection.recv()
        except EOFError:
            return
        for start in freed:
            server.ours.release(start)
        try:
            reply = (number, True, getattr(server, verb)(*arguments))
        except BaseException as error:
            reply = (number, False, (type(error).__name__, str(error)))
        connection.send(reply)


