"""Where does the time go? Time per executed layer, joined to the ONNX nodes, against what the machine can
do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx

from ..backends import BACKENDS, Worker
from ..errors import BackendFailed, ProfileError
from ..inputs import feeds
from ..model import Model, load
from ..model.operators import require_bodies
from . import device
from .diff import profile_diff
from .layers import not_executed, records, spread
from .record import Recording, record
from .result import Profile
from .roofline import Peaks, machine

__all__ = ["Peaks", "Profile", "profile", "profile_diff"]

_LEVELS = ("none", "basic", "extended", "all")


def profile(
    model: Any,
    backend: str = "onnxruntime",
    inputs: Any = None,
    *,
    shapes: Mapping[str, Any] | None = None,
    runs: int = 20,
    warmup: int | None = None,
    threads: int | None = None,
    optimize: str = "all",
    peaks: Peaks | None = None,
    seed: int = 0,
    timeout: float = 600.0,
    progress: bool = True,
) -> Profile:
    """Measure a model layer by layer on a runtime, as the runtime really executes it (fused).

    The runtime writes what it made of the model, with the weights, to a temporary folder for the time of this
    call: that is how its layers are joined to the model's nodes.

    On ``cuda`` the layers' times are GPU times by events: of ONNX Runtime's optimised graph node by node, and of the
    kernels of plugins; the latency is that of the whole with the inputs on the GPU (see `workbench.backends.cuda`).

    Args:
        model: a Model, or anything that `workbench.load` takes; or an engine of `workbench.tensorrt.build` (see
            `workbench.tensorrt.profile`; it runs on the GPU, whatever `backend` says).
        backend: name of the runtime: ``onnxruntime`` or ``cuda``.
        inputs: input data, see `workbench.inputs`; the first item is used for every run.
        shapes: values for symbolic dims or whole input shapes, for generated inputs.
        runs: measured runs with the layers timed, and as many without.
        warmup: runs before them; None: until the times are stable (at most 50 runs or 2 s).
        threads: of the runtime; None: its own choice.
        optimize: ``none``, ``basic``, ``extended`` or ``all``: how far the runtime may optimise the graph.
        peaks: of the machine, for the roofline; None: measured, or from the cache (see `Peaks.measure`).
        seed: of generated inputs.
        timeout: seconds that loading the model, or a few runs of it, may take.
        progress: show a progress bar.

    Raises:
        ProfileError: an argument that cannot be.
        ModelError, InputError: the model or its inputs are not usable, or it has an operator without a body.
        BackendError: the runtime refused the model, failed or died.
    """
    if not isinstance(model, Model) and hasattr(model, "profiled"):  # an engine, of a later package
        return model.profiled(
            inputs,
            shapes=shapes,
            runs=runs,
            warmup=5 if warmup is None else warmup,
            seed=seed,
            timeout=timeout,
        )
    model = load(model) if not isinstance(model, Model) else model
    _check(model.name, backend, runs, warmup, threads, optimize)
    require_bodies(model, "profile")
    feed = _first(feeds(model, inputs, shapes=shapes, count=1, seed=seed), model.name)
    proto = model.to_proto()
    options = {"optimize": optimize, "threads": threads}
    meta: dict[str, Any] = {"runtime": backend, "provider": "CPUExecutionProvider"}
    with Worker(backend, timeout=timeout) as worker, _bar(model.name, 2 * runs, progress) as bar:
        with _naming_the_node(proto):
            if backend == "cuda":
                recording, more = device.record(
                    worker,
                    proto,
                    feed,
                    name=model.name,
                    runs=runs,
                    warmup=warmup,
                    optimize=optimize,
                    tick=bar.update,
                )
                meta |= more
            else:
                recording = record(
                    worker, proto, feed, name=model.name, nbytes=proto.ByteSize(), runs=runs, warmup=warmup,
                    options=options, tick=bar.update,
                )  # fmt: skip
        layers = records(recording, proto, feed)
        if peaks is None:
            peaks = (
                device.peaks(worker, layers)
                if backend == "cuda"
                else _peaks(layers, backend, threads, worker)
            )
        meta["version"] = worker.version
    noise = max(
        spread([float(np.median(block)) for block in kind])
        for kind in (recording.latency, recording.recorded)
    )
    return Profile(
        {
            "model": model.name,
            "meta": {
                **_circumstances(recording, feed),
                **meta,
                **options,
                "threads": threads or 0,
                "seed": seed,
            },
            "latency": recording.latency,
            "recorded": recording.recorded,
            "noise": None if np.isnan(noise) else noise,
            "layers": layers,
            "not_executed": not_executed(layers, proto),
            "peaks": vars(peaks),
        }
    )


def _peaks(layers: list[dict[str, Any]], backend: str, threads: int | None, worker: Worker) -> Peaks:
    """Those of the cache, measured again when many layers are faster: the machine was busy then."""
    peaks = Peaks.measure(backend, threads=threads, worker=worker)
    above = sum(layer["ms"] for layer in layers if peaks.judge(layer)["above_peak"])
    if above > 0.1 * sum(layer["ms"] for layer in layers) and peaks.age_s > 600:
        peaks = Peaks.measure(backend, threads=threads, worker=worker, refresh=True)
    return peaks


def _circumstances(recording: Recording, feed: Mapping[str, np.ndarray]) -> dict[str, Any]:
    plain, recorded = recording.warmup
    return {
        "runs": sum(map(len, recording.latency)),
        "warmup": plain,
        "warmup_recorded": recorded,
        "recorded_ms": float(np.median(np.concatenate(recording.recorded))),
        "machine": machine(),
        "clock": "time.perf_counter (latency), the runtime's profiler in whole µs (layers)",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "inputs": {
            name: f"{array.dtype.name}[{','.join(map(str, array.shape))}]" for name, array in feed.items()
        },
    }


def _check(
    name: str, backend: str, runs: int, warmup: int | None, threads: int | None, optimize: str
) -> None:
    def refuse(what: str, got: Any, expected: str) -> None:
        raise ProfileError(f"cannot profile {name!r}: got {what}={got!r}, expected {expected}")

    if backend not in BACKENDS:
        refuse("backend", backend, f"one of {', '.join(BACKENDS)}")
    if optimize not in _LEVELS:
        refuse("optimize", optimize, f"one of {', '.join(_LEVELS)}")
    for what, got, least in (("runs", runs, 1), ("warmup", warmup, 0), ("threads", threads, 1)):
        if got is not None and (
            not isinstance(got, int | np.integer) or isinstance(got, bool) or got < least
        ):
            refuse(what, got, f"a whole number of at least {least}")


@contextmanager
def _naming_the_node(proto: onnx.ModelProto) -> Iterator[None]:
    """ONNX Runtime names the operator that it does not know, but not the node."""
    try:
        yield
    except BackendFailed as error:
        unknown = re.search(r"\b([\w.]*):(\w+)\(-?\d+\) is not a registered", str(error))
        nodes = [n.name for n in proto.graph.node if unknown and (n.domain, n.op_type) == unknown.groups()]
        if not nodes:
            raise
        raise BackendFailed(
            f"{error} (node {nodes[0]!r}{f' and {len(nodes) - 1} more' if nodes[1:] else ''})",
            backend=error.backend, model=error.model, phase=error.phase,
        ) from error  # fmt: skip


def _first(items: Any, name: str) -> dict[str, np.ndarray]:
    for feed in items:
        return feed
    raise ProfileError(f"cannot profile {name!r}: inputs holds no item, expected at least one")


def _bar(name: str, total: int, show: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=f"profile {name}", unit="run", disable=not show, leave=False)
