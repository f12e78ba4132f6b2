"""The tracks of a comparison: where each runs, what it holds, and the sessions of their pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backends import Session, Worker
from ..backends.memory import Block, dtype_of
from ..segments import RANDOM, Graph
from .plan import Piece

RUN = {"optimize": "none", "prepack": False, "arena": False}


@dataclass
class Track:
    """One of the three tracks: where it runs and what it holds."""

    name: str
    graph: Graph
    worker: Worker
    title: str
    options: dict[str, Any]
    feeds: list[dict[str, Block]] = field(default_factory=list)
    held: list[dict[str, Block]] = field(default_factory=list)
    once: dict[str, Block] = field(default_factory=dict)

    def get(self, name: str, item: int | None) -> Block | None:
        """The block of a tensor, for one input of the group or of what is computed once."""
        if item is not None:
            block = self.held[item].get(name) or self.feeds[item].get(name)
            if block is not None:
                return block
        return self.once.get(name)


@dataclass
class Sessions:
    """The sessions of pieces: one for two tracks where both have the same nodes and weights.

    Attributes:
        loaded: how many were loaded.
    """

    tracks: Mapping[str, Track]
    loaded: int = 0
    _open: dict[tuple[str, int], Session | None] = field(default_factory=dict)
    _contents: dict[tuple[str, int], bytes] = field(default_factory=dict)  # digests of their models

    def __contains__(self, piece: Piece) -> bool:
        return (piece.track, piece.key) in self._open

    def get(self, piece: Piece, types: Mapping[str, str]) -> Session | None:
        """The session of a piece, loaded if it is not yet (`types`: dtypes of its inputs); None after `spoil`."""
        slot = piece.track, piece.key
        if slot not in self._open:
            self._open[slot] = self._load(piece, types)
        return self._open[slot]

    def spoil(self, piece: Piece) -> None:
        """Let a piece not be run any more: it failed."""
        self._open[piece.track, piece.key] = None

    def close(self, track: str, key: int) -> None:
        """Close a session, if there is one that no other track uses."""
        self._contents.pop((track, key), None)
        session = self._open.pop((track, key), None)
        if session is not None and session not in self._open.values():
            session.close()

    def _load(self, piece: Piece, types: Mapping[str, str]) -> Session:
        track = self.tracks[piece.track]
        data = track.graph.piece(piece.nodes, piece.outputs, types, piece.renamed).SerializeToString()
        # A session goes on drawing random numbers where it was. A second run is given room for whole arrays, where the
        # first finds that all elements of one are equal, as those of large weights made by ConstantOfShape are.
        own = piece.constant or any(name.encode() in data for name in RANDOM)
        content = b"" if own else hashlib.sha256(data).digest()
        for other in self.tracks.values():
            slot = other.name, piece.key
            alike = self._open.get(slot)
            if alike and content and other.worker is track.worker and self._contents.get(slot) == content:
                return alike
        first, last = piece.nodes[0].name, piece.nodes[-1].name
        title = f"{track.title} [{first}]" if first == last else f"{track.title} [{first} … {last}]"
        self.loaded += 1
        self._contents[piece.track, piece.key] = content
        return track.worker.load(data, name=title, **track.options)


def fitting(graph: Graph, feed: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """A feed of the reference under the names and in the dtypes of the candidate's inputs."""
    found = {}
    for name, other in names.items():
        if name in feed and other in graph.dtypes:
            array, dtype = np.asarray(feed[name]), graph.dtypes[other]
            same = array.dtype.kind in "OSU" or dtype in ("", array.dtype.name)
            found[other] = array if same else array.astype(dtype_of(dtype))
    return found
