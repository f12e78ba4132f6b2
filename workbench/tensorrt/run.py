"""`profile`: an engine's layers timed on the GPU, for each optimisation profile and shape.

Thin over TensorRT's IProfiler and CUDA events, through Polygraphy's TrtRunner in the worker process. Not run on
hardware yet: tested against a stand-in that obeys the documented contract.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Worker
from ..errors import EngineError, InputError, ProfileError
from ..inputs import feeds
from ..profile.layers import statistics
from . import times
from .build import BuildResult, using
from .engine import Engine

if TYPE_CHECKING:
    import pandas as pd

NOTE = (
    "latency: CUDA events around whole runs, layers not timed; layer times: runs of their own, in which the GPU waits "
    "between layers, so that they add up to more than the latency"
)
_QUERY = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw")
_UNITS = ("sm_mhz", "memory_mhz", "celsius", "watts")


@dataclass(frozen=True)
class Measurement:
    """One optimisation profile with inputs of one shape.

    Attributes:
        profile: index of the optimisation profile.
        shapes: input -> shape.
        ms: of each run, by CUDA events.
        recorded_ms: of each run with layers timed.
        layers: (name, number among the layers of that name) -> ms of each run.
        clocks: before and after, as nvidia-smi tells them (empty without it).
    """

    profile: int
    shapes: Mapping[str, tuple[int, ...]]
    ms: tuple[float, ...]
    recorded_ms: tuple[float, ...]
    layers: Mapping[tuple[str, int], tuple[float, ...]]
    clocks: tuple[Mapping[str, float], Mapping[str, float]] = field(default=({}, {}))

    @property
    def sum_ms(self) -> float:
        """Sum of the layers' medians."""
        return float(sum(np.median(values) for values in self.layers.values()))

    @property
    def text(self) -> str:
        """The shapes in words."""
        return ", ".join(
            f"{name} {'×'.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items()
        )


@dataclass(frozen=True, eq=False)
class Runs:
    """What `workbench.tensorrt.profile` measured.

    Attributes:
        source: the engine that ran.
        measurements: one for each optimisation profile and shape.
        warmup: runs before each.
        note: how to read the times.
    """

    source: Engine
    measurements: tuple[Measurement, ...]
    warmup: int
    note: str = NOTE

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per measurement and layer: ``profile``, ``shapes``, ``layer``, ``ms`` (median), ``mean_ms``,
        ``p95_ms``, ``share`` of the layers' sum, ``runs``."""
        import pandas as pd

        rows = [
            {
                "profile": m.profile,
                "shapes": m.text,
                "layer": name,
                "ms": float(np.median(values)),
                "mean_ms": float(np.mean(values)),
                "p95_ms": float(np.percentile(values, 95)),
                "share": float(np.median(values)) / (m.sum_ms or 1.0),
                "runs": len(values),
            }
            for m in self.measurements
            for (name, _), values in m.layers.items()
        ]
        return pd.DataFrame(
            rows, columns=["profile", "shapes", "layer", "ms", "mean_ms", "p95_ms", "share", "runs"]
        )

    @cached_property
    def latency(self) -> pd.DataFrame:
        """One row per measurement: ``profile``, ``shapes``, ``ms`` (median of whole runs), ``p95_ms``, ``recorded_ms``
        (with layers timed), ``sum_ms`` (of the layers), ``warmup``, and the clocks before and after."""
        import pandas as pd

        rows = []
        for m in self.measurements:
            row = {"profile": m.profile, "shapes": m.text, "ms": float(np.median(m.ms))}
            row |= {"p95_ms": float(np.percentile(m.ms, 95)), "recorded_ms": float(np.median(m.recorded_ms))}
            row |= {"sum_ms": m.sum_ms, "warmup": self.warmup}
            for when, clocks in zip(("before", "after"), m.clocks, strict=True):
                row |= {f"{name}_{when}": clocks.get(name, float("nan")) for name in _UNITS}
            rows.append(row)
        return pd.DataFrame(rows)

    def engine(self, index: int = 0) -> Engine:
        """The engine with the times of one measurement, joined to its layers and to ONNX nodes."""
        m = self.measurements[index]
        entries = [times.Time(name, **statistics(values)) for (name, _), values in m.layers.items()]
        whole = statistics(m.ms)
        about = replace(
            self.source._about,
            latency_ms=whole["ms"], latency_p95_ms=whole["p95_ms"],
            noise=max(whole["noise"], statistics(m.recorded_ms)["noise"]),
        )  # fmt: skip
        return self.source._again(measured=times.Times(entries, len(m.ms), "median"), about=about)

    def __repr__(self) -> str:
        lines = [f"<Runs of {self.source.model_name!r}: {len(self.measurements)} measured>"]
        lines += [
            f"  profile {m.profile}, {m.text}: {np.median(m.ms):.3f} ms, layers {m.sum_ms:.3f} ms"
            for m in self.measurements
        ]
        return "\n".join([*lines, f"  {self.note}"])


def profile(
    engine: Any,
    inputs: Any = None,
    *,
    shapes: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    runs: int = 20,
    warmup: int = 5,
    seed: int = 0,
    timeout: float = 600.0,
    worker: Worker | None = None,
) -> Runs:
    """Time an engine's layers on the GPU, for each optimisation profile and shape.

    Args:
        engine: an Engine that was built here (it needs the plan).
        inputs: see `workbench.inputs.feeds`; None generates them. The first item is used.
        shapes: one or several sets of shapes, each measured with every optimisation profile that takes it; None: each
            profile with the shapes that it was optimised for.
        runs: measured runs without layers timed, and as many with.
        warmup: runs before them.
        seed: of generated inputs.
        timeout: seconds that one measurement may take.
        worker: a worker of ``Worker("tensorrt")`` to use instead of a new one.

    Raises:
        EngineError: the engine has no plan.
        InputError: no optimisation profile takes the inputs.
        BackendError: there is no GPU that the engine runs on, or the library failed.
    """
    engine, built = of(engine)
    if runs < 1 or warmup < 0:
        raise ProfileError(
            f"cannot profile {engine.model_name!r}: got runs={runs}, warmup={warmup}, expected runs of 1 or more and "
            "warmup of 0 or more"
        )
    made = []
    with using(worker, built.library, timeout) as worker:
        session = worker.load(built.plan, name=engine.model_name)
        for index, feed in _cases(built, inputs, shapes, seed):
            before = _clocks()
            said = session.profile(feed, task="times", profile=index, runs=runs, warmup=warmup)
            of_layers = _layers(engine.model_name, said["layers"])
            sizes = {name: tuple(array.shape) for name, array in feed.items()}
            made.append(
                Measurement(
                    index,
                    sizes,
                    tuple(said["ms"]),
                    tuple(said["recorded_ms"]),
                    of_layers,
                    (before, _clocks()),
                )
            )
        session.close()
    return Runs(engine, tuple(made), warmup)


def of(engine: Any) -> tuple[Engine, BuildResult]:
    """An engine and how it was built."""
    if isinstance(engine, BuildResult):
        return Engine.from_build(engine), engine
    if not isinstance(engine, Engine) or engine.built is None:
        raise EngineError(
            f"cannot run {getattr(engine, 'model_name', engine)!r}: it was read from files, without its plan; build it "
            "here with workbench.tensorrt.build"
        )
    return engine, engine.built


def _cases(
    built: BuildResult, inputs: Any, shapes: Any, seed: int
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(optimisation profile, input item) of what is to be measured."""
    if shapes is None and inputs is None:
        for index, found in enumerate(built.profiles):
            best = {name: sizes[1] for name, sizes in found.shapes.items()}
            yield index, next(iter(feeds(built.model, shapes=best, seed=seed)))
        return
    for given in [shapes] if shapes is None or isinstance(shapes, Mapping) else shapes:
        feed = next(iter(feeds(built.model, inputs, shapes=given, seed=seed)))
        for index in fitting(built, feed):
            yield index, feed


def fitting(built: BuildResult, feed: Mapping[str, np.ndarray]) -> list[int]:
    """The optimisation profiles that take an input item.

    Raises:
        InputError: none does.
    """
    sizes = {name: array.shape for name, array in feed.items()}
    found = [index for index, profile in enumerate(built.profiles) if profile.holds(sizes)]
    if not found:
        got = ", ".join(f"{name} {list(shape)}" for name, shape in sizes.items())
        known = "; ".join(map(str, built.profiles))
        raise InputError(
            f"no optimisation profile of {built.model.name!r} takes the inputs {got}; there are: {known}. Build with "
            "shapes= that hold them"
        )
    return found


def _layers(name: str, recorded: list[list[tuple[str, float]]]) -> dict[tuple[str, int], tuple[float, ...]]:
    """Layers of all runs, told apart by name and, where several have one name, by their number among these."""
    values: dict[tuple[str, int], list[float]] = {}
    for run in recorded:
        count: dict[str, int] = defaultdict(int)
        for layer, ms in run:
            values.setdefault((layer, count[layer]), []).append(ms)
            count[layer] += 1
    if not values:
        raise ProfileError(f"TensorRT reported no layer of {name!r}: expected at least one")
    return {key: tuple(found) for key, found in values.items()}


def _clocks() -> dict[str, float]:
    """Clocks, temperature and power of the first GPU, as nvidia-smi tells them; empty without it."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for name, text in zip(_UNITS, said.strip().split(","), strict=False):
        try:
            found[name] = float(text)
        except ValueError:  # "[N/A]" where the GPU does not tell
            continue
    return found
