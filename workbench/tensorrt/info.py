"""What the files beside an engine's layers tell: the GPU, how it was built, how long whole runs took."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..profile.layers import statistics
from .layers import read_json, salvage


@dataclass(frozen=True)
class Beside:
    """Files that belong to a file of layers, by TREx's names for them."""

    name: str
    times: Path | None = None
    metadata: tuple[Path, ...] = ()


@dataclass
class Facts:
    """What metadata tells.

    Attributes:
        meta: ``gpu`` (its name), ``device``, ``build``, ``inference``: what was found.
        latency_ms, latency_p95_ms: median and 95th percentile of whole runs, NaN when not said.
        noise: relative spread of whole runs; NaN where they are not told one by one.
    """

    meta: dict[str, Any] = field(default_factory=dict)
    latency_ms: float = math.nan
    latency_p95_ms: float = math.nan
    noise: float = math.nan
    missing: list[str] = field(default_factory=list)


def siblings(source: Any) -> Beside:
    """The other files of ``X.graph.json``, as far as they are there."""
    if not isinstance(source, str | os.PathLike) or str(source).lstrip()[:1] in ("{", "["):
        return Beside("engine")
    path = Path(source)
    stem = re.sub(r"(\.graph)?\.json$|\.(plan|engine|trt)$", "", path.name)
    if not path.name.endswith(".graph.json"):
        return Beside(stem)

    def there(ending: str) -> list[Path]:
        other = path.with_name(stem + ending)
        return [other] if other.is_file() else []

    times = there(".profile.json")
    metadata = [*there(".profile.metadata.json"), *there(".build.metadata.json")]
    return Beside(
        stem.removesuffix(".engine").removesuffix(".onnx"), times[0] if times else None, tuple(metadata)
    )


def facts(sources: Any) -> Facts:
    """Read metadata: TREx's files, ``trtexec --exportTimes``.

    Raises:
        EngineError: a file is not JSON.
    """
    result = Facts()
    listed = sources if isinstance(sources, list | tuple) else [] if sources is None else [sources]
    for source in listed:
        data, name, missing = read_json(source, "metadata", salvage)
        result.missing += missing
        if isinstance(data, list) and data and isinstance(data[0], Mapping) and "latencyMs" in data[0]:
            runs = statistics([float(run["latencyMs"]) for run in data if "latencyMs" in run])
            result.latency_ms, result.latency_p95_ms = runs["ms"], runs["p95_ms"]
            result.noise = runs["noise"]
        elif isinstance(data, Mapping):
            _trex(data, result)
        else:
            result.missing.append(f"{name} is no metadata that is known")
    return result


def _trex(data: Mapping[str, Any], result: Facts) -> None:
    device = data.get("device_information") or {}
    for key, section in (
        ("device", device),
        ("build", data.get("build_options")),
        ("inference", data.get("inference_options")),
    ):
        if section:
            result.meta[key] = dict(section)
    if device.get("Selected Device"):
        result.meta["gpu"] = str(device["Selected Device"])
    if version := (data.get("build_options") or {}).get("TensorRT version") or device.get("TensorRT version"):
        result.meta["version"] = str(version)
    measured = (data.get("performance_summary") or {}).get("Latency")
    # TREx takes these from trtexec's summary: min, max, mean, median, then percentiles
    if isinstance(measured, Sequence) and len(measured) >= 4:
        result.latency_ms = float(measured[3])
