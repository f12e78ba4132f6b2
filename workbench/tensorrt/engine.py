"""Engine: a TensorRT engine as tables: its layers, their times, the ONNX nodes behind them."""

from __future__ import annotations

import functools
import importlib
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..model import Model
from ..model import load as load_model
from ..profile import Profile
from . import asked, graph, layers, lint, records, store, text, times
from .build import BuildResult
from .build import build as build_plan
from .gpus import gpu
from .info import Facts, facts, siblings
from .layers import Layer
from .peaks import Gpu
from .plan import PLANS, inspected

if TYPE_CHECKING:
    import pandas as pd


@functools.wraps(build_plan)
def build(model: Any, **options: Any) -> Engine:
    return Engine.from_build(build_plan(model, **options))


class Engine(Profile):
    """A TensorRT engine, as far as the files that describe it tell. Made by `load` or by
    `workbench.tensorrt.build`.

    It can be used where a `Profile` can: ``m.view(overlay=engine)``, ``wb.profile_diff(a, b)``,
    ``wb.figures.treemap``.

    Attributes:
        model: the ONNX model that it was made from, or None.
        gpu: peaks of the GPU that it ran on, or None.
        missing: what the files do not tell, in words.
        shape_profile: the optimisation profile whose copy of the layers is shown; `shape_profiles` are all.
        fused: False when these are the layers of the network before it was built (built without a GPU).
        built: how it was built (`BuildResult`: plan, log, seconds, network ...), or None for an engine from
            files. Its attributes are the engine's too: ``engine.plan``, ``engine.log``,
            ``engine.save(path)``.
        meta: ``runtime``, ``version``, ``gpu``, ``count`` (measured runs), ``statistic``, ``build``,
            ``device``, ``inference``: whatever the files tell.
    """

    assumed_noise = 0.03  # the files tell a median, not its spread
    tick_ms = 0.001024  # trtexec's times are multiples of this

    def __init__(
        self,
        read: layers.Read,
        measured: times.Times | None = None,
        *,
        name: str = "engine",
        model: Any = None,
        gpu: str | Gpu | None = None,
        about: Facts | None = None,
        shape_profile: int = 0,
        network: Iterable[Mapping[str, Any]] = (),
        fused: bool = True,
    ):
        self._read, self._times, self._network, self.fused = read, measured, list(network), fused
        self._about = about or Facts()
        self.model_name = name
        self.model: Model | None = load_model(model) if model is not None else None
        self.meta = {"runtime": "tensorrt", "version": "", **self._about.meta}
        self.built: BuildResult | None = None
        self.noise = self._about.noise
        self.missing: list[str] = [
            *read.missing,
            *(measured.missing if measured else ()),
            *self._about.missing,
        ]
        self.shape_profile, self._layers = self._of_profile(shape_profile)
        self.gpu = self._gpu(gpu)
        joined = times.join(self._layers, measured.entries if measured else ())
        if not measured:
            joined.how = dict.fromkeys(joined.how, "no times were given")
        self.peaks: Any = self.gpu  # what a Profile calls them
        self._records = records.Records(self._layers, joined, self.model, self._network, self.gpu)
        self.missing += self._untold()

    def _of_profile(self, wanted: int) -> tuple[int, list[Layer]]:
        found = sorted({layer.profile for layer in self._read.layers})
        self.shape_profiles = tuple(found)
        if wanted not in found:
            raise EngineError(
                f"cannot show engine {self.model_name!r} for optimisation profile {wanted}: its layers are of "
                f"{', '.join(map(str, found))}; give shape_profile= one of these"
            )
        if len(found) > 1:
            self.missing.append(
                f"the engine has {len(found)} optimisation profiles, one copy of the layers for each; this is {wanted}"
            )
        return wanted, [layer for layer in self._read.layers if layer.profile == wanted]

    def _gpu(self, given: str | Gpu | None) -> Gpu | None:
        if isinstance(given, Gpu):
            return given
        if given is not None:
            return gpu(given)
        named = str(self.meta.get("gpu") or "")
        try:
            return gpu(named) if named else None
        except EngineError as error:
            self.missing.append(str(error))
            return None

    def _untold(self) -> list[str]:
        rows = self._records.rows
        untimed = sum(math.isnan(row["ms"]) for row in rows)
        ghosts = len(rows) - len(self._layers)
        said = []
        if not self.fused:
            said.append(
                "built without a GPU: these are the network's layers as parsed, before they are fused"
            )
        if self._times is None:
            said.append("no times were given")
        elif untimed:
            said.append(f"{untimed} of {len(self._layers)} layers have no time (engine.untimed)")
        if ghosts:
            lost = sum(row["ms"] for row in rows[-ghosts:])
            said.append(f"{ghosts} times ({lost:.3g} ms) belong to no layer that is listed")
        return said

    # -- where it comes from --------------------------------------------------------------------------------

    @classmethod
    def load(cls, layers_json: Any, times_json: Any = None, **options: Any) -> Engine:
        """An engine from files: `workbench.tensorrt.load`, whose arguments these are."""
        return load(layers_json, times_json, **options)

    @classmethod
    def from_build(cls, built: BuildResult) -> Engine:
        """The engine that ``workbench.tensorrt.build`` made (a `BuildResult`). Without a GPU the library
        cannot tell what it fused: then these are the network's layers as parsed, and `fused` is False."""
        fused = built.layers is not None
        read = layers.read(built.layers) if fused else layers.Read(layers.of_network(built.network))
        made = cls(read, name=built.model.name, model=built.model, network=built.network, fused=fused)
        made.built = built
        made.meta |= {"runtime": built.library, "version": built.version}
        return made

    def with_model(self, model: Any) -> Engine:
        """The same engine, joined to the nodes of an ONNX model."""
        return self._again(model=model)

    def with_times(self, times_json: Any) -> Engine:
        """The same engine with other times."""
        return self._again(measured=times.read(times_json))

    def _again(self, **changed: Any) -> Engine:
        given: dict[str, Any] = {
            "read": replace(self._read), "measured": self._times, "name": self.model_name, "model": self.model,
            "gpu": self.gpu, "about": self._about, "shape_profile": self.shape_profile, "network": self._network,
            "fused": self.fused,
        }  # fmt: skip
        made = type(self)(**(given | changed))
        made.built, made.meta = self.built, dict(self.meta)
        return made

    def __getattr__(self, name: str) -> Any:
        built = self.__dict__.get("built")
        if (
            not name.startswith("_")
            and hasattr(BuildResult, name)
            or name in BuildResult.__dataclass_fields__
        ):
            if built is not None:
                return getattr(built, name)
            raise AttributeError(
                f"engine {self.__dict__.get('model_name')!r} has no {name!r}: it was read from files, not built here"
            )
        raise AttributeError(f"'Engine' object has no attribute {name!r}")

    # -- tables ---------------------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> pd.DataFrame:
        """All layers, in the order of the file; index ``layer``.

        The columns of ``Profile.table`` and: ``precision`` (of weights, else of data), ``math`` (``TF32``
        where fp32 is computed in that), ``weight_bytes``, ``bytes_in``, ``bytes_out``, ``m``, ``n``, ``k``
        and ``groups`` (of the matrix product that a convolution or product is, per group), ``tops`` (10¹²
        operations per second reached), ``compute_eff`` and ``memory_eff`` (part of the GPU's peak for that
        precision, and of its bandwidth), ``formats_in``, ``formats_out``, ``tactic``, ``tensor_core`` (by the
        tactic's name), ``layer_type`` (TensorRT's name of the implementation), ``stream``, ``timed`` (how the
        time was found, or why there is none), ``constants`` (weights in its name), ``mapped_by``, ``inputs``,
        ``outputs`` (tensors), ``attributes`` (all others). ``bytes`` counts every tensor once, channels
        padded as the format asks for. NaN: not known.
        """
        return self._records.frame()

    @cached_property
    def table(self) -> pd.DataFrame:
        """The layers that have a time, as in ``Profile.table``."""
        return self.layers[self.layers["ms"].notna()]

    @property
    def untimed(self) -> pd.DataFrame:
        """Layers without a time: ``op_type``, ``nodes``, ``reason``."""
        rows = self.layers[self.layers["ms"].isna()]
        return rows[["op_type", "nodes", "timed"]].rename(columns={"timed": "reason"})

    @cached_property
    def nodes(self) -> pd.DataFrame:
        """One row per ONNX node; index ``node``: ``op_type``, ``layers`` (that it went into), ``ms``,
        ``share``, ``estimate`` (the time of a layer was split over several nodes), ``split`` (by what),
        ``precision``, ``reason`` (why it is in no layer). Without the model only nodes that layers name."""
        import pandas as pd

        columns = ["node", "op_type", "ms", "share", "estimate", "split", "precision", "layers", "reason"]
        rows = records.by_node(self._records, self.gpu)
        frame = pd.DataFrame(rows, columns=columns).set_index("node")
        frame["ms"] = frame["ms"].astype(float)
        frame["share"] = frame["ms"] / (self.sum_ms or math.nan)
        return frame

    @cached_property
    def tensors(self) -> pd.DataFrame:
        """One row per tensor of the engine; index ``tensor``: ``dtype``, ``layout``, ``shape``, ``bytes``,
        ``kind``, ``producers``, ``consumers`` (layers), ``location``, ``written`` (the format in TensorRT's
        words)."""
        import pandas as pd

        columns = [
            "tensor",
            "kind",
            "dtype",
            "layout",
            "shape",
            "bytes",
            "producers",
            "consumers",
            "location",
            "written",
        ]
        rows = records.tensors(self._layers, self._read.bindings)
        return pd.DataFrame(rows, columns=columns).set_index("tensor").astype({"bytes": "float64"})

    @property
    def not_executed(self) -> pd.DataFrame:
        """ONNX nodes that no layer stands for; index ``node``, columns ``op_type``, ``reason``. Empty without
        a model."""
        import pandas as pd

        return pd.DataFrame(self._records.not_executed, columns=["node", "op_type", "reason"]).set_index(
            "node"
        )

    def by_precision(self) -> pd.DataFrame:
        """Sums per precision, most time first: ``layers``, ``ms``, ``share``, ``macs``, ``bytes``,
        ``gain_ms``."""
        return self._sums(self.table["precision"].replace("", "unknown"))

    def asked(self) -> pd.DataFrame:
        """What the ONNX model asks for in precision against what the engine does, per layer with weights or
        products.

        Index ``layer``: ``nodes``, ``asked``, ``done``, ``agrees``, ``why`` (where that was read), ``ms``.

        Raises:
            EngineError: there is no model.
        """
        return asked.asked(self)

    def lint(self) -> pd.DataFrame:
        """What costs time and could be avoided, most time first; see `workbench.tensorrt.lint`."""
        return lint.lint(self)

    def diff(self, other: Engine, **options: Any) -> pd.DataFrame:
        """What differs in another engine; see `workbench.tensorrt.diff`."""
        from .diff import diff

        return diff(self, other, **options)

    # -- sums -----------------------------------------------------------------------------------------------

    @property
    def latency_ms(self) -> float:
        """Median time of a run, as trtexec measured it without timing layers; NaN when no file tells it."""
        return self._about.latency_ms

    @property
    def latency_p95_ms(self) -> float:
        """95th percentile of the same; NaN when no file tells it."""
        return self._about.latency_p95_ms

    @property
    def mapped(self) -> float:
        """Share of the time in layers that are joined to ONNX nodes, 0 to 1; NaN without times."""
        return super().mapped if len(self.table) else math.nan

    # -- graph and figures ----------------------------------------------------------------------------------

    @cached_property
    def graph(self) -> Model:
        """The layers as a graph that ``GraphView`` shows: a node per layer, named as the layer."""
        return graph.as_model(self._layers, self.layers, self._read.bindings, self.model_name)

    def view(self, beside: Any = None, **options: Any) -> Any:
        """The engine's graph in a notebook cell, coloured by time.

        Args:
            beside: a GraphView of the ONNX model: selecting a layer selects its nodes there, and the other
                way round.
            options: those of ``GraphView``.
        """
        return importlib.import_module("workbench.widgets.engine").view(self, beside, **options)

    # -- as data and text -----------------------------------------------------------------------------------

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """What was read, as JSON text, also written to `path` if given. The ONNX model is not in it."""
        made = store.dump(self)
        if path is not None:
            Path(path).write_text(made)
        return made

    @classmethod
    def from_json(cls, source: str | os.PathLike, *, model: Any = None) -> Engine:
        """Read what `to_json` wrote: a path, or the text itself.

        Raises:
            EngineError: it is not an engine of this format.
        """
        given, meta = store.parse(source)
        made = cls(**given, model=model)
        made.meta = meta
        return made

    def _lines(self) -> list[str]:
        return text.lines(self)

    def _top(self, n: int = 8) -> pd.DataFrame:
        return text.top(self, n)


def load(
    layers_json: Any,
    times_json: Any = None,
    *,
    metadata: Any = None,
    model: Any = None,
    gpu: str | Gpu | None = None,
    name: str | None = None,
    shape_profile: int = 0,
) -> Engine:
    """An engine from files that describe it; needs neither TensorRT nor a GPU. From a plan (a serialised
    engine) it needs
    both: TensorRT deserialises a plan only with the version, and on the kind of GPU, that it was built for.

    Args:
        layers_json: layer information: a path, JSON text or data, from ``trtexec --exportLayerInfo`` (with
            ``--profilingVerbosity=detailed``), of TREx, or of ``IEngineInspector`` (one text, or one for each
            layer). For a path that ends in ``.graph.json`` the files ``.profile.json``,
            ``.profile.metadata.json`` and ``.build.metadata.json`` beside it are read too. Or a plan: bytes,
            or a path that ends in ``.plan``, ``.engine`` or ``.trt``.
        times_json: layer times, from ``trtexec --exportProfile`` (with ``--separateProfileRun``).
        metadata: more files, a path or a list of paths: TREx's metadata, ``trtexec --exportTimes``.
        model: the ONNX model, to check names against and to join what only tensors tell.
        gpu: for the roofline: a name such as ``A100 80GB PCIe``, or a `Gpu` of your own; None: from the
            metadata.
        name: for display.
        shape_profile: the optimisation profile to show, of an engine with several.

    Raises:
        EngineError: there is nothing to show in it. What is merely missing is a warning, and in
            ``Engine.missing``.
        BackendError: for a plan: TensorRT is not installed, or failed.
    """
    beside = siblings(layers_json)
    plan = isinstance(layers_json, bytes) or str(layers_json).endswith(PLANS)
    times_json = beside.times if times_json is None else times_json
    made = Engine(
        inspected(layers_json, name or beside.name) if plan else layers.read(layers_json),
        times.read(times_json) if times_json is not None else None,
        name=name or beside.name,
        model=model,
        gpu=gpu,
        about=facts(beside.metadata if metadata is None else metadata),
        shape_profile=shape_profile,
    )
    if made.missing:
        told = "; ".join(made.missing)
        warnings.warn(f"engine {made.model_name!r} is explored as far as its files go: {told}", stacklevel=2)
    return made
