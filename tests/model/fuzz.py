"""Damages model files in every way and sees that Workbench answers with its own errors: no crash, no hang.

    python -m model.fuzz SECONDS [SEED]        (in the folder tests)

Each case is one number: it fixes the file and the damage, so ``replay(number)`` repeats it. Cases run in a
process of their own with limited memory, watched from outside; a case that ends the process or takes too long
is a failure.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import onnx
import real_models
from model import build

SECONDS_PER_CASE = 30
FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else None  # so that a busy disk is no hang
MEMORY = 6 << 30
NAMES = (
    "loop", "mtcnn_pnet", "silero_vad_16k_sequence", "light_bvlc_alexnet", "light_squeezenet", "light_zfnet512",
    "light_resnet50", "needs_constraints",
)  # fmt: skip
EXTREMES = (0, 1, -1, 2, 3, 7, 64, 1 << 20, 1 << 31, -(1 << 31), 1 << 40, 1 << 60, (1 << 63) - 1, -(1 << 63))
TEXTS = (
    "",
    "x",
    "\x00",
    "../../etc/passwd",
    "/etc/passwd",
    "a" * 3000,
    "ß→",
    "Loop",
    "If",
    "Constant",
    "<b>",
)


def corpus() -> list[bytes]:
    """The files that are damaged: real ones, and small ones with bodies, functions and external data."""
    files = [real_models.find(name).read_bytes() for name in NAMES]
    made = [build.mlp(), build.branches(), build.loops(), build.calls()]
    external = build.mlp()
    tensor = external.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, text in (("location", "model.data"), ("offset", "16"), ("length", "8192")):
        tensor.external_data.add(key=key, value=text)
    return files + [proto.SerializeToString() for proto in (*made, external)]


def damage(rng: random.Random, files: list[bytes]) -> bytes:
    """One damaged file."""
    data = rng.choice(files)
    kinds = [_flip, _cut, _splice, _fields, _fields, _fields]
    for _ in range(rng.choice((1, 1, 1, 2))):
        data = rng.choice(kinds)(rng, data, files)
    return data


def _flip(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    changed = bytearray(data)
    reach = len(changed) if rng.random() < 0.5 else min(len(changed), 4000)  # the start holds the structure
    for _ in range(rng.choice((1, 2, 8, 64)) if changed else 0):
        changed[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    other = rng.choice(files)
    at, start = rng.randrange(len(data) + 1), rng.randrange(len(other))
    piece = other[start : start + rng.choice((1, 4, 50, 1000))]
    return data[:at] + piece + data[at + rng.choice((0, len(piece), 30)) :]


def _fields(rng: random.Random, data: bytes, files: list[bytes]) -> bytes:
    """Change fields of the decoded model: what no random byte would hit."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            _change(rng, proto)
        return proto.SerializeToString()
    except Exception:  # not decodable, or a value that a field cannot hold
        return data


def _change(rng: random.Random, message) -> None:
    fields = message.ListFields()
    while True:  # go down to a random field
        descriptor, value = rng.choice(fields)
        if descriptor.message_type is None or rng.random() < 0.15:
            break
        inner = rng.choice(value) if hasattr(value, "add") else value
        if not inner.ListFields():
            break
        message, fields = inner, inner.ListFields()
    name = descriptor.name
    if hasattr(value, "extend"):
        _change_list(rng, message, name, value, descriptor)
    elif descriptor.message_type is not None:
        message.ClearField(name)
    else:
        setattr(message, name, _other(rng, value))


def _change_list(rng: random.Random, message, name: str, value, descriptor) -> None:
    index = rng.randrange(len(value))
    action = rng.randrange(4)
    if action == 0:
        del value[index]
    elif action == 1:
        value.append(value[index])
    elif action == 2 and descriptor.message_type is None:
        value[index] = _other(rng, value[index])
    elif action == 3:
        items = list(value)
        rng.shuffle(items)
        copies = [type(i).FromString(i.SerializeToString()) if descriptor.message_type else i for i in items]
        del value[:]
        value.extend(copies)
    else:
        message.ClearField(name)


def _other(rng: random.Random, value):
    if isinstance(value, bool | int):
        return rng.choice(EXTREMES) if rng.random() < 0.7 else value + rng.choice((-1, 1))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    if isinstance(value, bytes):
        return rng.choice((b"", value[: len(value) // 2], value + b"\xff", b"\xff" * 40))
    return rng.choice((*TEXTS, value + "_", value[:-1]))


def exercise(data: bytes, folder: Path) -> str:
    """Do everything that a model allows; 'refused' or 'worked'. Anything but a WorkbenchError gets out."""
    import workbench as wb
    from workbench.errors import WorkbenchError
    from workbench.model.shapes import infer

    path = folder / "model.onnx"
    path.write_bytes(data)
    try:
        m = wb.load(path)
    except WorkbenchError:
        return "refused"
    try:
        summary = m.summary()
        assert str(summary) and summary._repr_html_() and repr(m)
        infer(m.to_proto(), {info.name: tuple(2 for _ in info.shape or ()) for info in m.inputs})
        assert len(m.nodes) == summary.nodes and m.tensors is not None and m.parameters >= 0
        saved = m.save(folder / "saved.onnx")
        assert wb.load(saved).fingerprint == m.fingerprint, "saved and loaded, it is another model"
        wb.load(m.to_proto().SerializeToString(), base_dir="/")
    except WorkbenchError as error:
        return f"refused later: {error}"
    return "worked"


def case(number: int, files: list[bytes]) -> bytes:
    """The damaged file of a case."""
    return damage(random.Random(number), files)


def replay(number: int) -> str:
    """Run one case here."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        (Path(folder) / "model.data").write_bytes(bytes(10_000))
        return exercise(case(number, corpus()), Path(folder))


def _work(pipe: Connection, folder: Path) -> None:
    import logging
    import resource
    import warnings

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    files = corpus()
    (folder / "model.data").write_bytes(bytes(10_000))
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        if number == "crash":  # for the test of the watch itself
            os._exit(7)
        if number == "hang":
            time.sleep(60)
        try:
            result = exercise(case(number, files), folder)
        except BaseException:  # the very thing that is looked for
            result = "FAILED " + traceback.format_exc()
        pipe.send(result)


class Fuzzer:
    """Runs cases in a watched process."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.failures: list[str] = []
        self.late: list[str] = []
        self._folder = tempfile.TemporaryDirectory(dir=FOLDER)
        self._process: multiprocessing.process.BaseProcess | None = None

    def run(self, first: int, seconds: float) -> int:
        """Run cases from a number on for a time; how many."""
        end, number = time.monotonic() + seconds, first
        self._start()
        while time.monotonic() < end:
            self._one(number)
            number += 1
        self._stop()
        return number - first

    def _one(self, number: int) -> None:
        result = None
        try:
            self._pipe.send(number)
            result = self._pipe.recv() if self._pipe.poll(SECONDS_PER_CASE) else "FAILED hangs"
        except (EOFError, OSError):
            self._process.join(5)
            result = f"FAILED the process ended with {self._process.exitcode}"
        if result.startswith("FAILED"):
            self.failures.append(f"case {number}: {result[7:]}")
        if result.startswith(("FAILED hangs", "FAILED the process")):
            self._stop()
            self._start()
        if result.startswith("refused later"):
            self.late.append(f"case {number}: {result}")
        key = " ".join(result.split(":")[0].split()[:2])
        self.counts[key] = self.counts.get(key, 0) + 1

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, Path(self._folder.name)), daemon=True)
        self._process.start()
        theirs.close()
        assert self._pipe.recv() == "ready"

    def _stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


if __name__ == "__main__":
    fuzzer = Fuzzer()
    count = fuzzer.run(int(sys.argv[2]) if len(sys.argv) > 2 else 0, float(sys.argv[1]))
    print(f"{count} cases: {fuzzer.counts}")
    for failure in (*fuzzer.late, *fuzzer.failures):
        print(failure)
    sys.exit(bool(fuzzer.failures))
