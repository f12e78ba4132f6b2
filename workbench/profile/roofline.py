"""What this machine can do at most, measured, and how far a layer is from it.

The roofline model (Williams, Waterman, Patterson 2009): a layer needs at least the time of its arithmetic at
the peak rate and the time of its memory traffic at the peak bandwidth, whichever is longer; here also at
least the time that the runtime needs for any layer at all.
"""

from __future__ import annotations

import calendar
import contextlib
import hashlib
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ..backends import Worker
from .events import read

_SIZES = (512, 1024)  # of square matrices: the small ones stay in the caches, the large ones fill all threads
# Bytes of three arrays that are streamed: from within a core's cache to more than most machines' caches hold.
_FOOTPRINTS = (192 << 10, 768 << 10, 3 << 20, 12 << 20, 144 << 20)
_CHAIN = 64
_ROUNDS, _SECONDS = 3, 0.1
_FORMAT = 4
_DATE = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Peaks:
    """The most that one machine did with one runtime and thread count.

    Attributes:
        flops: floating point operations per second of a float32 matrix product (a MAC is two).
        int8_ops: the same for products of 8-bit integers.
        bytes_per_s: main memory bandwidth, adding two large arrays into a third.
        caches: the same for smaller arrays, which stay in the caches: (bytes of the three arrays, bytes per
            second), smallest first.
        overhead_ms: time of a layer that does nothing, as the runtime's own profiler reports it.
        threads: of the runtime (0: its own choice).
        machine: processor and number of cores.
        runtime: name and version.
        date: when it was measured (UTC, ISO 8601).
    """

    flops: float
    int8_ops: float
    bytes_per_s: float
    overhead_ms: float
    caches: tuple[tuple[int, float], ...] = ()
    threads: int = 0
    machine: str = ""
    runtime: str = ""
    date: str = ""

    @classmethod
    def measure(
        cls,
        backend: str = "onnxruntime",
        *,
        threads: int | None = None,
        worker: Worker | None = None,
        refresh: bool = False,
    ) -> Peaks:
        """Peaks of this machine: from the cache, or measured in about three seconds.

        All through the runtime itself, with its own thread count: its matrix product reaches what numpy's
        BLAS reaches and uses the same threads as the layers. The cache is a file in
        ``$XDG_CACHE_HOME/workbench`` (or ``~/.cache/workbench``), one per processor, thread count and version
        of the runtime.

        Args:
            backend: name of the runtime.
            threads: its thread count.
            worker: measure in this worker instead of a new one.
            refresh: measure again even if the cache has it (the machine may have been busy), and keep the
                better.
        """
        if worker is None:
            with Worker(backend) as own:
                return cls.measure(backend, threads=threads, worker=own, refresh=refresh)
        about: dict[str, Any] = {"threads": threads or 0, "machine": machine()}
        about["runtime"] = f"{backend} {worker.version}"
        path, known = _cache(about), None
        with contextlib.suppress(OSError, ValueError, TypeError):  # none yet, or of another version
            cached = cls(**json.loads(path.read_text()))
            known = cached if cached.age_s >= 0 else None
        if known and not refresh:
            return known
        peaks = cls(*_measure(worker, threads), **about, date=time.strftime(_DATE, time.gmtime()))
        peaks = peaks._or(known) if known else peaks
        with contextlib.suppress(OSError):  # the cache saves time only: a read-only home is no reason to fail
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(asdict(peaks)))
            part.replace(path)
        return peaks

    def __post_init__(self) -> None:
        object.__setattr__(self, "caches", tuple((int(size), float(rate)) for size, rate in self.caches))

    @property
    def age_s(self) -> float:
        """Seconds since these were measured; 0 for peaks without a date."""
        return time.time() - calendar.timegm(time.strptime(self.date, _DATE)) if self.date else 0.0

    def _or(self, other: Peaks) -> Peaks:
        """The better of both."""
        rates = {
            name: max(getattr(self, name), getattr(other, name))
            for name in ("flops", "int8_ops", "bytes_per_s")
        }
        old = dict(other.caches)
        caches = tuple((size, max(rate, old.get(size, 0.0))) for size, rate in self.caches)
        return replace(self, **rates, caches=caches, overhead_ms=min(self.overhead_ms, other.overhead_ms))

    def bandwidth(self, footprint: float) -> float:
        """Bytes per second for a layer that touches that many bytes: of the caches if they hold them."""
        return max([self.bytes_per_s, *(rate for size, rate in self.caches if size >= footprint)])

    def judge(self, layer: Mapping[str, Any]) -> dict[str, Any]:
        """Roofline of one layer record.

        Returns:
            ``intensity`` (FLOP per byte), ``bound`` (which of ``compute``, ``memory``, ``overhead`` needs the
            longest; None if MACs or bytes are unknown), ``gain_ms`` (measured time minus that: what it could
            gain at most) and ``above_peak`` (faster than these peaks allow: they were measured on a busy
            machine, only part of the data was needed, or the algorithm takes fewer operations than the
            definition, as Winograd's).
        """
        macs, moved = layer["macs"], layer["bytes"]
        if macs is None or moved is None:
            return {"intensity": math.nan, "bound": None, "gain_ms": math.nan, "above_peak": False}
        needs = {
            "compute": 2000 * macs / (self.int8_ops if layer["int8"] else self.flops),
            "memory": 1000 * moved / self.bandwidth(moved / layer["calls"]),
            "overhead": self.overhead_ms * (layer["calls"] + layer["inner_calls"]),
        }
        bound = max(needs, key=needs.__getitem__)
        return {
            "intensity": 2 * macs / moved if moved else math.nan,
            "bound": bound,
            "gain_ms": max(0.0, layer["ms"] - needs[bound]),
            "above_peak": bound != "overhead" and layer["ms"] < needs[bound],
        }


def machine() -> str:
    """Processor and number of usable cores, for example ``Intel(R) Xeon(R) Processor, 2 cores``."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):  # Linux only
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def _cache(about: Mapping[str, Any]) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(json.dumps([_FORMAT, about], sort_keys=True).encode()).hexdigest()[:16]
    return root / "workbench" / f"peaks-{key}.json"


def _measure(worker: Worker, threads: int | None) -> tuple[float, float, float, float, tuple]:
    """The first five fields of Peaks: the best of some rounds, so that a busy moment does not count."""
    probes = [
        *_products("MatMul", np.float32),
        *_products("MatMulInteger", np.uint8),
        *map(_triad, _FOOTPRINTS),
    ]
    load: dict[str, Any] = {"name": "peak", "threads": threads, "optimize": "none"}
    sessions = [worker.load(p.model.SerializeToString(), **load) for p in probes]
    times: list[list[float]] = [[] for _ in probes]
    for _ in range(_ROUNDS):
        for probe, session, measured in zip(probes, sessions, times, strict=True):
            until = time.monotonic() + _SECONDS
            while time.monotonic() < until:
                measured += session.profile(probe.feed, runs=3)["ms"]
    for session in sessions:
        session.close()
    rates = [1000 * probe.work / min(measured) for probe, measured in zip(probes, times, strict=True)]
    caches = tuple(zip(_FOOTPRINTS[:-1], rates[4:-1], strict=True))
    return max(rates[0:2]), max(rates[2:4]), rates[-1], _overhead(worker, threads), caches


@dataclass(frozen=True)
class _Probe:
    model: onnx.ModelProto
    feed: dict[str, np.ndarray]
    work: float  # operations or bytes of one run


def _products(op_type: str, dtype: type) -> list[_Probe]:
    probes = []
    for n in _SIZES:
        a: np.ndarray = np.random.default_rng(0).integers(0, 100, (n, n)).astype(dtype)
        weights = a.astype(np.int8) if dtype is np.uint8 else a
        result = "int32" if dtype is np.uint8 else "float32"
        node = helper.make_node(op_type, ["a", "b"], ["y"])
        probes.append(_Probe(_model([node], {"a": a}, result, {"b": weights}), {"a": a}, 2 * n**3))
    return probes


def _triad(footprint: int) -> _Probe:
    """Additions one after the other, so that the start of a run does not count for small arrays."""
    line = np.ones(footprint // 12, np.float32)
    feed = {"t0": line, "b": line}
    steps = 32 if footprint < 1 << 24 else 2
    names = [f"t{i}" for i in range(steps)] + ["y"]
    nodes = [helper.make_node("Add", [x, "b"], [y]) for x, y in zip(names, names[1:], strict=False)]
    return _Probe(_model(nodes, feed, "float32"), feed, 3 * line.nbytes * steps)


def _overhead(worker: Worker, threads: int | None) -> float:
    names = [f"t{i}" for i in range(_CHAIN)] + ["y"]
    nodes = [helper.make_node("Abs", [a], [b], name=b) for a, b in zip(names, names[1:], strict=False)]
    feed = {"t0": np.ones(1, np.float32)}
    with tempfile.TemporaryDirectory(prefix="workbench-peaks-", ignore_cleanup_errors=True) as folder:
        session = worker.load(
            _model(nodes, feed, "float32").SerializeToString(),
            name="peak", threads=threads, optimize="none", events=os.path.join(folder, "events"),
        )  # fmt: skip
        session.profile(feed, runs=50)
        path = session.profile({}, finish=True)["events"]
        session.close()
        layers = read(Path(path), range(10, 50))
    return float(np.median([np.mean(layer.ms) for layer in layers]))


def _model(
    nodes: list[onnx.NodeProto],
    feed: Mapping[str, np.ndarray],
    result: str,
    weights: Mapping[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype
    inputs = [helper.make_tensor_value_info(name, kind(a.dtype), a.shape) for name, a in feed.items()]
    output = helper.make_tensor_value_info("y", kind(np.dtype(result)), None)
    held = [onnx.numpy_helper.from_array(a, name) for name, a in (weights or {}).items()]
    graph = helper.make_graph(nodes, "peak", inputs, [output], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
