"""Times of an engine's layers, and joining them to the layers by name, never by position."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import EngineError
from .layers import Layer, read_json, salvage


@dataclass(frozen=True)
class Time:
    """One entry of a profile: ms of one run (median if it is there, else the average); where each run was recorded, the
    95th percentile and the relative noise, too (NaN: not known)."""

    name: str
    ms: float
    p95_ms: float = math.nan
    noise: float = math.nan


@dataclass
class Times:
    """What a profile holds.

    Attributes:
        count: runs that were measured, None when not said.
        statistic: ``median``, ``average`` or ``total / count``: what `ms` is.
    """

    entries: list[Time] = field(default_factory=list)
    count: int | None = None
    statistic: str = ""
    missing: list[str] = field(default_factory=list)


@dataclass
class Joined:
    """Which layer took how long.

    Attributes:
        times: layer name -> its time.
        how: layer name -> ``exact``, ``renamed`` (the names differ in separators only), ``in order`` (several
            layers of this name, as many times), or why it has no time.
        left: times that belong to no layer.
    """

    times: dict[str, Time] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    left: list[Time] = field(default_factory=list)


_KEYS = (("medianMs", "median"), ("averageMs", "average"), ("avgMs", "average"))


def read(source: Any) -> Times:
    """Times from a profile.

    Args:
        source: a path, JSON text or the data itself: what ``trtexec --exportProfile`` writes (a list, first
            ``{"count": n}``, then ``name``, ``timeMs``, ``averageMs``, ``medianMs``, ``percentage``), or a
            mapping of layer names to ms, as an ``IProfiler`` collects it.

    Raises:
        EngineError: there are no times in it.
    """
    data, name, missing = read_json(source, "layer times", salvage)
    if isinstance(data, Mapping) and "Layers" in data:
        raise EngineError(f"cannot read times from {name}: these are layers; give them as the first argument")
    if isinstance(data, Mapping):
        data = [{"name": key, "averageMs": value} for key, value in data.items()]
    entries = [entry for entry in data if isinstance(entry, Mapping)] if isinstance(data, list) else []
    count = next((entry["count"] for entry in entries if isinstance(entry.get("count"), int)), None)
    result = Times(count=count, missing=missing)
    statistics = set()
    for entry in entries:
        if "name" not in entry:
            continue
        ms, statistic = _ms(entry, count)
        if ms is None:
            result.missing.append(f"the profile has no time for {str(entry['name'])[:120]!r}")
            continue
        statistics.add(statistic)
        result.entries.append(Time(str(entry["name"]), ms))
    if not result.entries:
        raise EngineError(
            f"cannot read times from {name}: got {type(data).__name__} without a layer and its time, expected what "
            "trtexec --exportProfile writes"
        )
    result.statistic = " and ".join(sorted(statistics))
    return result


def _ms(entry: Mapping[str, Any], count: int | None) -> tuple[float | None, str]:
    for key, statistic in _KEYS:
        if _number(entry.get(key)):
            return float(entry[key]), statistic
    if _number(entry.get("timeMs")) and count:
        return float(entry["timeMs"]) / count, "total / count"
    return None, ""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def canonical(name: str) -> str:
    """A name without what tools change in it: separators, blanks, the mark of an optimisation profile."""
    bare = re.sub(r"\s*\[profile\s+\d+\]", "", name)
    return re.sub(r"\s*(?:[\x1e\x1f+]|\\u001[ef])\s*|\s+", " ", bare).strip()


def join(layers: Iterable[Layer], times: Iterable[Time]) -> Joined:
    """Give each layer its time.

    Names are compared as they are, then without what tools change in them. Where several layers have one name
    and there are as many times of it, they are paired in the order of execution; where the numbers differ,
    none of them gets one.
    """
    layers, times = list(layers), list(times)
    result = Joined()
    for how, of_layer, of_time in (
        ("exact", lambda layer: layer.written, lambda time: time.name.strip()),
        ("renamed", lambda layer: canonical(layer.written), lambda time: canonical(time.name)),
    ):
        open_layers: dict[str, list[Layer]] = defaultdict(list)
        open_times: dict[str, list[Time]] = defaultdict(list)
        for layer in layers:
            if layer.name not in result.times:
                open_layers[of_layer(layer)].append(layer)
        for time in times:
            open_times[of_time(time)].append(time)
        for name, group in open_layers.items():
            found = open_times.pop(name, [])
            if not found:
                continue
            if len(found) != len(group):
                for layer in group:
                    result.how[layer.name] = (
                        f"{len(group)} layers of this name, {len(found)} times: cannot tell which is whose"
                    )
                open_times[name] = found
                continue
            for layer, time in zip(group, found, strict=True):
                result.times[layer.name] = time
                result.how[layer.name] = how if len(group) == 1 else "in order"
        times = [time for group in open_times.values() for time in group]
    for layer in layers:
        result.how.setdefault(layer.name, "the profile has no layer of this name")
    result.left = times
    return result
