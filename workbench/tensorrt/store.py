"""An engine as one JSON text, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from .info import Facts
from .layers import Layer, Read, Tensor, read_json
from .peaks import Gpu
from .times import Time, Times

if TYPE_CHECKING:
    from .engine import Engine

FORMAT = "workbench.engine/1"


def dump(engine: Engine) -> str:
    """What the engine was made of, without the ONNX model."""
    data = {
        "format": FORMAT,
        "name": engine.model_name,
        "layers": [asdict(layer) for layer in engine._read.layers],
        "bindings": engine._read.bindings,
        "missing": engine._read.missing,
        "times": asdict(engine._times) if engine._times else None,
        "about": asdict(engine._about),
        "meta": engine.meta,
        "gpu": asdict(engine.gpu) if engine.gpu else None,
        "shape_profile": engine.shape_profile,
        "network": engine._network,
        "fused": engine.fused,
    }
    return json.dumps(_finite(data), allow_nan=False)


def parse(source: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments for an Engine, its meta).

    Raises:
        EngineError: it is not an engine of this format.
    """
    data, name, _ = read_json(source, "engine", lambda text: None)
    found = data.get("format") if isinstance(data, dict) else type(data).__name__
    if found != FORMAT:
        raise EngineError(f"cannot read an engine from {name}: got format {found!r}, expected {FORMAT!r}")
    try:
        times = data["times"]
        given = {
            "read": Read(
                [_layer(entry) for entry in data["layers"]], tuple(data["bindings"]), data["missing"]
            ),
            "measured": times
            and Times(**{**times, "entries": [Time(**entry) for entry in times["entries"]]}),
            "name": data["name"],
            "gpu": Gpu(**data["gpu"]) if data["gpu"] else None,
            "about": _facts(data["about"]),
            "shape_profile": data["shape_profile"],
            "network": data["network"],
            "fused": data["fused"],
        }
        return given, data["meta"]
    except (KeyError, TypeError) as error:
        raise EngineError(f"cannot read an engine from {name}: it lacks or has too much: {error}") from error


def _facts(entry: Mapping[str, Any]) -> Facts:
    known: dict[str, Any] = {key: math.nan if value is None else value for key, value in entry.items()}
    return Facts(**known)


def _layer(entry: Mapping[str, Any]) -> Layer:
    def tensors(listed: list[dict[str, Any]]) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(**{**t, "shape": None if t["shape"] is None else tuple(t["shape"])}) for t in listed
        )

    return Layer(**{**entry, "inputs": tensors(entry["inputs"]), "outputs": tensors(entry["outputs"])})


def _finite(value: Any) -> Any:
    """NaN as None, for JSON."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
