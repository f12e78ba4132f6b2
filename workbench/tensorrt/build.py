"""`build`: an engine from a model, in a worker process, kept in a cache."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends import Worker
from ..errors import BackendCrashed, BackendTimeout, BuildError, InputError
from ..model import Model, load
from ..model.card import size
from . import cache as store
from .log import Follower, Log, following
from .profiles import OptimizationProfile, make

if TYPE_CHECKING:
    import pandas as pd

_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX 1.7 can be told to build for (``trt.ComputeCapability``)."""

_HINT = ". workbench.tensorrt.check(model) looks for fixes"
_ORIGIN = r"\[ONNX Layer: (.*?)(?: \| [^\]]*)?\]"
"""A node in a layer's metadata; for one in a body, the body and the node around it follow after a bar."""


@dataclass(frozen=True, eq=False)
class BuildResult:
    """A built engine.

    Attributes:
        plan: the serialised engine.
        library: ``tensorrt`` or ``tensorrt_rtx``; `version` is that of the library.
        seconds: that parsing and building took (when it was built: `cached` says whether that was now).
        peak_bytes: most memory that the worker process held meanwhile (host memory, not the GPU's).
        log: what the library said.
        layers: the engine inspector's JSON text; None when it was built without a GPU.
        network: layers as parsed: ``name``, ``type``, ``inputs``, ``outputs`` (name, dtype, shape), ``metadata``
            (``[ONNX Layer: <node>]``).
        profiles: what it was built for.
        model: what it was built from.
        settings: what it was built with.
        cached: whether it came from the cache.
    """

    plan: bytes = field(repr=False)
    library: str
    version: str
    seconds: float
    peak_bytes: int
    log: Log
    layers: str | None
    network: list[dict[str, Any]]
    profiles: tuple[OptimizationProfile, ...]
    model: Model
    settings: Mapping[str, Any]
    cached: bool = False

    @cached_property
    def table(self) -> pd.DataFrame:
        """The network's layers, index ``layer``: ``type``, ``inputs``, ``outputs`` (names), ``dtypes`` and ``shapes``
        of the outputs, ``nodes`` (ONNX nodes that TensorRT's parser made it for)."""
        import pandas as pd

        rows = [
            {
                "layer": layer["name"],
                "type": layer["type"],
                "inputs": tuple(tensor["name"] for tensor in layer["inputs"]),
                "outputs": tuple(tensor["name"] for tensor in layer["outputs"]),
                "dtypes": tuple(tensor["dtype"] for tensor in layer["outputs"]),
                "shapes": tuple(t["shape"] and tuple(t["shape"]) for t in layer["outputs"]),
                "nodes": tuple(re.findall(_ORIGIN, layer["metadata"])),
            }
            for layer in self.network
        ]
        columns = ["layer", "type", "inputs", "outputs", "dtypes", "shapes", "nodes"]
        return pd.DataFrame(rows, columns=columns).set_index("layer")

    def compared_with(self, reference: Any, inputs: Any = None, **options: Any) -> Any:
        """What ``workbench.compare(reference, engine)`` calls; see `workbench.tensorrt.debug.compare`."""
        from .debug import compare

        return compare(reference, self, inputs, **options)

    def profiled(self, inputs: Any = None, **options: Any) -> Any:
        """What ``workbench.profile(engine)`` calls: the engine with the times of the first measurement of
        `workbench.tensorrt.profile`."""
        from .run import profile

        return profile(self, inputs, **options).engine()

    def save(self, path: str | Path) -> Path:
        """Write the plan to a file, completely or not at all."""
        target = Path(path)
        with store.writing(target) as out:
            out.write(self.plan)
        return target

    def __repr__(self) -> str:
        how = "from the cache" if self.cached else f"in {self.seconds:.2f} s, peak {size(self.peak_bytes)}"
        lines = [
            f"<Engine of {self.model.name!r}: {size(len(self.plan))}, {len(self.network)} layers parsed, "
            f"{self.library} {self.version}, built {how}>",
            *(f"  profile {index}: {profile}" for index, profile in enumerate(self.profiles)),
        ]
        return "\n".join(lines)


def build(
    model: Any,
    *,
    shapes: Mapping[str, Any] | None = None,
    profiles: Sequence[Mapping[str, Any]] | None = None,
    values: Mapping[str, Any] | None = None,
    backend: str | None = None,
    compute_capabilities: Sequence[Any] | None = None,
    strip_weights: bool = False,
    tf32: bool = True,
    strongly_typed: bool = True,
    debug_tensors: bool = False,
    timing_cache: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    cache: bool = True,
    cache_limit: int | str | None = None,
    timeout: float = 3600.0,
    progress: bool = True,
    worker: Worker | None = None,
) -> BuildResult:
    """Build an engine. The stop button (Ctrl-C) ends a build at once.

    Args:
        model: a Model, or anything that `workbench.load` takes.
        shapes: sizes of dynamic dims as ``{"batch": (1, 8, 32)}``; see `workbench.tensorrt.profiles`.
        profiles: several of these, one optimisation profile each.
        values: values of integer inputs that shapes are computed from: a value or (min, opt, max).
        backend: ``tensorrt`` or ``tensorrt_rtx``; None: the first that is installed.
        compute_capabilities: TensorRT-RTX only: GPUs to build for (``"8.6"``, ``"12.0"``); None: the library's choice,
            which needs no GPU.
        strip_weights: leave the weights out of the plan (TensorRT-RTX needs a GPU for this).
        tf32: whether fp32 layers may use TF32, as TensorRT does by default.
        strongly_typed: precision is what the model says. False only has a meaning for TensorRT 10, with the flags of
            ``config=`` (``{"fp16": True}``).
        debug_tensors: mark what is not fused away so that ``workbench.compare`` can see the values of its tensors.
        timing_cache: a file that is read and extended. It is not part of the cache's key.
        config: further arguments of Polygraphy's ``CreateConfig`` that are plain data, for example
            ``{"builder_optimization_level": 3}``.
        cache: look in the cache first, and keep the engine there (see `workbench.tensorrt.cache`).
        cache_limit: what the cache keeps at most, in bytes or as ``"20GB"``; engines that were used least recently make
            room. None: by the environment variable ``WORKBENCH_ENGINE_CACHE``, else 10 GB.
        timeout: seconds after which a build is ended.
        progress: show a progress bar.
        worker: build in this worker (of ``Worker("tensorrt")``) instead of a new one.

    Raises:
        InputError: profiles that do not fit the model, or other arguments that cannot be.
        BuildError: TensorRT refused the model: names the node and the reason.
        BackendError: the library is not installed, crashed or timed out.
    """
    model = model if isinstance(model, Model) else load(model)
    made = make(model, shapes, profiles, values)
    settings: dict[str, Any] = {
        "profiles": [dict(profile.shapes) for profile in made],
        "values": [dict(profile.values) for profile in made],
        "capabilities": [_capability(item) for item in compute_capabilities or ()],
        "strongly_typed": strongly_typed,
        "debug": debug_tensors,
        "config": {"tf32": tf32, "strip_plan": strip_weights, **(config or {})},
    }
    with using(worker, backend, timeout) as worker:
        about = worker.call("about", phase="start")
        if settings["capabilities"] and about["library"] != "tensorrt_rtx":
            raise InputError(
                f"compute_capabilities={settings['capabilities']}: {about['library']} builds for the GPU of this "
                "machine; use config={'hardware_compatibility_level': ...} or backend='tensorrt_rtx'"
            )
        where = settings["capabilities"] or [gpu["capability"] + gpu["name"] for gpu in about["gpus"][:1]]
        about = {"library": about["library"], "version": about["version"]}
        name = store.key({"model": model.fingerprint, "settings": settings, "where": where, **about})
        entry = store.Entry(name)
        most = store.limit(cache_limit)
        with entry.locked() if cache else contextlib.nullcontext():
            found = entry.read() if cache else None
            if found is None:
                to = {**settings, "timing_cache": None if timing_cache is None else str(timing_cache)}
                found = _build(worker, model, to, progress)
                if cache:
                    label = {"model": model.name, **about, "where": ", ".join(where)}
                    _keep(entry, found, label, most)
                found[0]["cached"] = False
    data, plan = found
    log = Log(tuple((s, severity, message) for s, severity, message in data.pop("log")))
    return BuildResult(
        plan=plan, log=log, model=model, profiles=made, settings=settings, **about, **{"cached": True, **data}
    )


def _keep(entry: store.Entry, found: tuple[dict[str, Any], bytes], label: dict[str, Any], most: int) -> None:
    """Put an engine into the cache. That this cannot be is no reason to lose it."""
    why = f"it is larger than the limit of {size(most)}; give cache_limit=, or set {store.VARIABLE}"
    try:
        kept = entry.write(*found, label, most)
    except OSError as error:
        kept, why = False, str(error)
    if not kept and most:
        warnings.warn(
            f"the engine of {label['model']!r} is not kept in the cache {entry.path.parent}: {why}",
            stacklevel=4,
        )


@contextlib.contextmanager
def using(worker: Worker | None, backend: str | None, timeout: float) -> Iterator[Worker]:
    """The given worker, or a new one for the block."""
    if worker is not None:
        yield worker
        return
    if backend not in (None, "tensorrt", "tensorrt_rtx"):
        raise InputError(
            f"backend={backend!r}: expected 'tensorrt', 'tensorrt_rtx' or None (what is installed)"
        )
    with Worker("tensorrt", timeout=timeout, library=backend) as own:
        yield own


def _capability(given: Any) -> str:
    """``"8.6"`` of 8.6, "8.6", "SM86" or (8, 6)."""
    text = ".".join(map(str, given)) if isinstance(given, tuple | list) else str(given)
    if match := re.fullmatch(r"sm_?(\d+)(\d)", text, re.IGNORECASE):
        text = f"{match[1]}.{match[2]}"
    if text not in _CAPABILITIES:
        raise InputError(f"compute_capabilities: got {given!r}, expected some of {', '.join(_CAPABILITIES)}")
    return text


def _build(
    worker: Worker, model: Model, settings: dict[str, Any], progress: bool
) -> tuple[dict[str, Any], bytes]:
    """(what to keep of it, plan)."""
    with following(model.name, progress) as events, _ending_with(events):
        data = model.to_proto().SerializeToString()
        built = worker.call(
            "build", phase="build", label=model.name, model=data, settings=settings, events=str(events.path)
        )
    log = events.log
    if built["errors"]:
        raise parse_error(model, worker, built["errors"], log)
    if built["plan"] is None:
        raise _builder_error(model, worker, built["failure"], log)
    keep = {name: built[name] for name in ("seconds", "peak_bytes")}
    return {**keep, "layers": built["layers_json"], "network": built["layers"], "log": log.records}, built[
        "plan"
    ]


@contextlib.contextmanager
def _ending_with(events: Follower) -> Iterator[None]:
    """What ended the library says what it logged last, which is still there."""
    try:
        yield
    except (BackendCrashed, BackendTimeout) as error:
        events.end()
        last = [f"{severity}: {message}" for _, severity, message in events.log.records[-5:]]
        if not last:
            raise
        raise type(error)(
            f"{error}. The log ends with: {' | '.join(last)}",
            backend=error.backend, model=error.model, phase=error.phase,
        ) from error  # fmt: skip


def parse_error(
    model: Model, worker: Worker, errors: Sequence[Mapping[str, Any]], log: Log | None
) -> BuildError:
    """The error of a model that the parser refused."""
    listed = "; ".join(
        f"node {error['node']!r} ({error['op_type']}): {short(error['reason'])}" for error in errors
    )
    return BuildError(
        f"{worker.backend} cannot parse {model.name!r}: {listed}{_HINT}",
        nodes=tuple(error["node"] for error in errors),
        reasons=tuple(error["reason"] for error in errors),
        log=log, backend=worker.backend, model=model.name, phase="parse",
    )  # fmt: skip


def _builder_error(model: Model, worker: Worker, failure: str, log: Log) -> BuildError:
    said = log.errors or [failure]
    nodes = tuple(dict.fromkeys(name for text in said for name in named(model, text)))
    where = f" (nodes: {', '.join(map(repr, nodes[:5]))})" if nodes else ""
    return BuildError(
        f"{worker.backend} cannot build {model.name!r}{where}: {'; '.join(map(short, said))}{_HINT}",
        nodes=nodes, reasons=tuple(said), log=log, backend=worker.backend, model=model.name, phase="build",
    )  # fmt: skip


def short(reason: str) -> str:
    """A reason without the place in TensorRT's own sources."""
    text = re.sub(r"\s*In \w+ at /?_src\S*\)*", "", " ".join(reason.split()))
    return re.sub(r"^Assertion failed: ", "", text).strip()


def named(model: Model, text: str) -> list[str]:
    """Nodes of the main graph that a message speaks of, by their own name or a tensor's that they make or read."""
    words = {word.rstrip(".:") for word in re.findall(r"[\w./:\-]{3,}", text)}
    graph = model.ir.graph
    nodes = [node.name or "" for node in graph if node.name in words]
    made = [node.name or "" for node in graph if any(value.name in words for value in node.outputs)]
    reads = [node.name or "" for node in graph if any(v is not None and v.name in words for v in node.inputs)]
    return list(dict.fromkeys(nodes or made or reads))
