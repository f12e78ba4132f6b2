"""Writing a model to disk: all of it or nothing, and no weight that is there already."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import onnx_ir as ir

from ..errors import ModelError
from . import wire
from .atomic import writing
from .collection import paused
from .proto import encode, reference, serialize
from .scopes import tensors
from .weights import CHUNK, DataFile, FileTensor

INLINE_LIMIT = 1_500_000_000
"""Bytes of weights up to which they go into the .onnx file, whose limit is 2 GB."""
PROTO_LIMIT = (1 << 31) - 1
STREAMED = 1 << 20  # larger weights are written one by one and not encoded in memory
PAGE = 4096


def save(model: ir.Model, path: Path, external: bool | None) -> Path:
    """Save a model; see ``Model.save``."""
    target = path.resolve()
    if target.is_dir():
        raise ModelError(f"cannot save to {path}: it is a folder; add a file name")
    if not target.parent.is_dir():
        raise ModelError(f"cannot save to {path}: there is no folder {target.parent}; make it first")
    plan = _Plan(model, target, external)
    made = None
    try:
        if plan.layout.size:
            made = _write_data(plan)
        with writing(target) as out:
            plan.write(out)
    except BaseException as error:
        if made is not None:
            made.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ModelError(
                f"cannot save to {path}: {error.strerror or error}; what was there before is unchanged"
            ) from error
        raise
    if plan.forced:
        warnings.warn(
            f"the weights of {target.name} ({plan.layout.size / 1e9:.1f} GB) are in {plan.data_name}, "
            "because an ONNX file holds at most 2 GB; keep the two together",
            stacklevel=3,
        )
    return target


Source = ir.TensorProtocol | tuple[DataFile, int]


class Layout:
    """Weights one behind the other in one data file.

    Neighbours in a file stay neighbours, at the same offset modulo a page, so that the file system can share
    blocks.

    Attributes:
        pieces: (offset, length, source) of what is written; a source is a weight, or a run of bytes in a
            file.
        offsets: id of a weight -> its offset.
        size: of the data file in bytes.
    """

    def __init__(self, weights: Iterable[ir.TensorProtocol]):
        self.pieces: list[tuple[int, int, Source]] = []
        self.offsets: dict[int, int] = {}
        self.size = 0
        self._weights = list(weights)  # so that the ids stay theirs
        files = [tensor for tensor in self._weights if isinstance(tensor, FileTensor)]
        for run in sorted(files, key=lambda tensor: (str(tensor.file.path), tensor.offset)):
            self._add_run(run)
        for tensor in self._weights:
            if id(tensor) not in self.offsets:
                self._add(tensor, _align(self.size), tensor.nbytes, tensor)

    def _add(self, tensor: ir.TensorProtocol, offset: int, length: int, source: Source) -> None:
        self.offsets[id(tensor)] = offset
        self.pieces.append((offset, length, source))
        self.size = offset + length

    def _add_run(self, tensor: FileTensor) -> None:
        start, length, source = self.pieces[-1] if self.pieces else (0, 0, tensor)
        file, begin = source if isinstance(source, tuple) else (None, 0)
        if file is tensor.file and tensor.offset <= begin + length + PAGE:
            self.offsets[id(tensor)] = start + tensor.offset - begin
            length = max(length, tensor.offset + tensor.length - begin)
            self.pieces[-1] = (start, length, source)
            self.size = start + length
        else:
            start = _align(self.size) + tensor.offset % PAGE
            self._add(tensor, start, tensor.length, (tensor.file, tensor.offset))

    def write(self, path: Path) -> None:
        """Write the data file, atomically."""
        with writing(path) as out:
            for offset, length, source in self.pieces:
                out.seek(offset)
                _copy(source, out, length)

    def is_in(self, path: Path) -> bool:
        """Whether a file has this content already."""
        if path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            for offset, length, source in self.pieces:
                file.seek(offset)
                for chunk in _chunks(source, length):
                    if file.read(len(chunk)) != chunk:
                        return False
        return True


class _Plan:
    """Where each weight goes: it stays in a data file that is there, moves into a new one, or goes into the
    file.

    Attributes:
        layout: of the new data file.
        forced: whether weights move because they would not fit otherwise.
    """

    def __init__(self, model: ir.Model, target: Path, external: bool | None):
        self.model, self.target, self.forced = model, target, False
        self.data_name = ""
        self._kept: dict[int, str] = {}
        moving: list[ir.TensorProtocol] = []
        inline: list[ir.TensorProtocol] = []
        for tensor in tensors(model):
            file = tensor.file if isinstance(tensor, FileTensor) and not tensor.file.embedded else None
            if file is not None and file.path == target:
                raise ModelError(
                    f"cannot save to {target}: it holds weights of this model; give another name"
                )
            if file is not None and external is not False and file.path.is_relative_to(target.parent):
                file.check_path()
                self._kept[id(tensor)] = file.path.relative_to(target.parent).as_posix()
            elif (file is not None and external is None) or (external and large(tensor)):
                moving.append(tensor)
            else:
                inline.append(tensor)
        if external is None and sum(tensor.nbytes for tensor in inline) > INLINE_LIMIT:
            moving += [tensor for tensor in inline if large(tensor)]
            self.forced = True
        self.layout = Layout(moving)

    def _place(self, tensor: ir.TensorProtocol, where: str) -> Any:
        if where == "attribute":
            return tensor
        if isinstance(tensor, FileTensor) and id(tensor) in self._kept:
            return reference(tensor, self._kept[id(tensor)], tensor.offset, tensor.length)
        if id(tensor) in self.layout.offsets:
            return reference(tensor, self.data_name, self.layout.offsets[id(tensor)], tensor.nbytes)
        if where == "graph" and tensor.dtype != ir.DataType.STRING and tensor.nbytes > STREAMED:
            self._streamed.append(tensor)
            return reference(tensor, wire.SELF, None, None)
        return tensor

    def write(self, out: BinaryIO) -> None:
        """Write the .onnx file; large weights in it are copied one by one (the wire format is that of
        wire.py)."""
        self._streamed: list[ir.TensorProtocol] = []
        with paused():
            proto = serialize(self.model, self._place)
        waiting = iter(self._streamed)
        parts: list[tuple[bytes, ir.TensorProtocol | None]] = []
        for header in proto.graph.initializer:
            tensor = None
            if any(entry.value == wire.SELF for entry in header.external_data):
                tensor = next(waiting)
                header.ClearField("external_data")
                header.ClearField("data_location")
            parts.append((wire.open_tensor(encode(header), tensor.nbytes if tensor else None), tensor))
        del proto.graph.initializer[:]
        graph = encode(proto.graph)
        proto.ClearField("graph")
        head = encode(proto)
        length = len(graph) + sum(len(prefix) + (tensor.nbytes if tensor else 0) for prefix, tensor in parts)
        if len(head) + length + 16 > PROTO_LIMIT:
            raise ModelError(
                f"cannot save to {self.target}: it would have {length / 1e9:.1f} GB, the limit is 2 GB; "
                "save with external=True, and make large Constant nodes initializers"
            )
        out.write(head + wire.open_graph(length) + graph)
        for prefix, tensor in parts:
            out.write(prefix)
            if tensor is not None:
                _copy(tensor, out)


def spill(weights: Iterable[ir.TensorProtocol], path: Path) -> dict[int, int]:
    """Write weights to a data file; id of a weight -> its offset."""
    layout = Layout(weights)
    try:
        layout.write(path)
    except OSError as error:
        raise ModelError(
            f"{layout.size / 1e9:.1f} GB of weights do not fit into a proto and cannot be written to {path}: "
            f"{error.strerror or error}; set TMPDIR to a folder with more room, or save the model first"
        ) from error
    return layout.offsets


def large(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype != ir.DataType.STRING and tensor.nbytes >= 1024


def _align(offset: int) -> int:
    return -(-offset // PAGE) * PAGE


def _copy(source: Source, out: BinaryIO, length: int = 0) -> None:
    if isinstance(source, tuple):
        source[0].copy_to(out, source[1], length)
    elif isinstance(source, FileTensor):
        source.file.copy_to(out, source.offset, source.length)
    else:
        out.write(source.tobytes())


def _write_data(plan: _Plan) -> Path | None:
    """Write the new data file under a name that is free; None when a file with the same content was there."""
    number = 0
    while True:
        plan.data_name = f"{plan.target.name}{f'.{number}' if number else ''}.data"
        path = plan.target.with_name(plan.data_name)
        if not path.exists():
            plan.layout.write(path)
            return path
        if plan.layout.is_in(path):
            return None
        number += 1


def _chunks(source: Source, length: int) -> Iterator[bytes | memoryview]:
    if isinstance(source, tuple):
        yield from source[0].chunks(source[1], length)
    elif isinstance(source, FileTensor):
        yield from source.file.chunks(source.offset, source.length)
    else:
        data = memoryview(source.tobytes())
        for start in range(0, length, CHUNK):
            yield data[start : start + CHUNK]
