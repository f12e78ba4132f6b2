"""Two profiles side by side, aligned by what their layers stand for."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ProfileError
from .join import AFTER, BEFORE
from .result import Profile

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "layer", "op_type", "status", "ms_a", "ms_b", "delta_ms", "ratio", "noise_ms", "noise", "nodes", "layers_a",
    "layers_b",
)  # fmt: skip

Layer = tuple[int, int]  # (0 for a, 1 for b; row of its table)


def profile_diff(a: Profile, b: Profile) -> pd.DataFrame:
    """What became faster and slower from `a` to `b`.

    Layers are aligned by the nodes of the very first model that they stand for, never by position: layers
    that share nodes form one row (Conv and Relu of `a` beside the fused Conv of `b`), so that every ms of
    both counts once. Layers that move data for others (reorders, casts) are in the row of these. Layers
    without known nodes are aligned by their name.

    Returns:
        One row per group, index ``layer`` (its most expensive layer), largest change first; columns
        ``op_type``, ``status`` (``faster``, ``slower``, ``same``: within the noise of both, ``appeared``,
        ``disappeared``), ``ms_a``, ``ms_b`` (NaN where it does not exist), ``delta_ms`` (b - a), ``ratio`` (b
        / a), ``noise_ms``, ``noise`` (``measured``; ``assumed: 3 %`` of the larger side where the files of an engine
        tell a median, but not its spread; ``unknown``), ``nodes`` (their first names), ``layers_a``, ``layers_b``.
        Where the noise is unknown (one run) nothing counts as faster or slower. ``attrs`` holds ``latency_ms`` and
        ``sum_ms`` of both and their ``noise``.
    """
    import pandas as pd

    for given in (a, b):
        if not isinstance(given, Profile):
            raise ProfileError(
                f"profile_diff: got {type(given).__name__}, expected two profiles made by workbench.profile"
            )
    sides = (_rows(a), _rows(b))
    rows = [_row(group, sides, (a, b)) for group in groups(sides)]
    rows.sort(key=lambda row: -abs(row["delta_ms"]))
    _warn_of_strangers(rows, (a, b))
    frame = pd.DataFrame(rows, columns=list(_COLUMNS)).set_index("layer")
    frame.attrs = {
        "latency_ms": (a.latency_ms, b.latency_ms),
        "sum_ms": (a.sum_ms, b.sum_ms),
        "noise": (a.noise, b.noise),
    }
    return frame


def _warn_of_strangers(rows: list[dict[str, Any]], profiles: tuple[Profile, Profile]) -> None:
    """Say so when most of the time has nothing to stand beside, which is no change but another model."""
    total = np.nansum([profile.sum_ms for profile in profiles])
    alone = np.nansum([abs(row["delta_ms"]) for row in rows if not (row["layers_a"] and row["layers_b"])])
    if alone <= total / 2 or not all(len(profile.table) for profile in profiles):
        return
    engines = all(str(profile.meta["runtime"]).startswith("tensorrt") for profile in profiles)
    warnings.warn(
        f"profile_diff: {alone / total:.0%} of the time is in layers of which the other profile has no node (appeared, "
        "disappeared): these are profiles of models with other nodes, or with other names for them"
        + ("; workbench.tensorrt.diff(a, b) aligns such engines by what their layers compute" if engines else ""),
        stacklevel=3,
    )


def _rows(profile: Profile) -> list[dict[str, Any]]:
    return profile.table.reset_index().to_dict("records")


def groups(sides: tuple[list[dict], list[dict]]) -> list[list[Layer]]:
    """Groups of layers that do the same work, as (0 for a, 1 for b; index of the row).

    A row is a dict with ``layer`` (its name), ``origins`` (nodes of the very first model) and ``joined``.
    """
    leader: dict[Layer, Layer] = {(s, i): (s, i) for s in (0, 1) for i in range(len(sides[s]))}

    def top(layer: Layer) -> Layer:
        while leader[layer] != layer:
            leader[layer] = layer = leader[leader[layer]]
        return layer

    def unite(layers: Iterable[Layer]) -> None:
        first, *others = [top(layer) for layer in layers]
        for other in others:
            leader[other] = first

    owners = _owners(sides)
    for of_a, of_b in owners.values():  # the node belongs to one layer on each side: these do the same work
        if len(of_a) == 1 and len(of_b) == 1:
            unite([*of_a, *of_b])
    members = _members(leader, top)
    alone = {layer for group in members.values() if len({s for s, _ in group}) == 1 for layer in group}
    for of_a, of_b in owners.values():  # nodes that several layers on one side have a part in
        left = [[layer for layer in side if layer in alone] for side in (of_a, of_b)]
        if left[0] and left[1]:
            unite(left[0] + left[1])
    for side, rows in enumerate(sides):  # what moves data goes with the layer that it is for
        for i, row in enumerate(rows):
            if row["joined"] in (BEFORE, AFTER):
                hosts = [layer for name in row["origins"] for layer in owners.get(name, ((), ()))[side]]
                if hosts:
                    unite([hosts[0], (side, i)])
    return list(_members(leader, top).values())


def _members(leader: dict[Layer, Layer], top: Any) -> dict[Layer, list[Layer]]:
    members: dict[Layer, list[Layer]] = defaultdict(list)
    for layer in leader:
        members[top(layer)].append(layer)
    return members


def _owners(sides: tuple[list[dict], list[dict]]) -> dict[str, tuple[list[Layer], list[Layer]]]:
    """Node -> the layers of each side that compute it. A layer without nodes is known by its name."""
    owners: dict[str, tuple[list[Layer], list[Layer]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate(sides):
        for i, row in enumerate(rows):
            if row["joined"] not in (BEFORE, AFTER):
                for name in row["origins"] or [f"layer without nodes: {row['layer']}"]:
                    owners[name][side].append((side, i))
    return owners


def _row(
    group: list[Layer], sides: tuple[list[dict], list[dict]], profiles: tuple[Profile, Profile]
) -> dict[str, Any]:
    parts = [[sides[s][i] for s_, i in group if s_ == s] for s in (0, 1)]
    ms = [sum(row["ms"] for row in part) if part else np.nan for part in parts]
    noise, kind = noise_of(parts, profiles)
    delta = np.nansum([-ms[0], ms[1]])
    if not parts[0] or not parts[1]:
        status = "disappeared" if parts[0] else "appeared"
    elif np.isnan(noise) or abs(delta) <= noise:
        status = "same"
    else:
        status = "faster" if delta < 0 else "slower"
    main = max(parts[1] or parts[0], key=lambda row: row["ms"])
    return {
        "layer": main["layer"],
        "op_type": main["op_type"],
        "status": status,
        "ms_a": ms[0],
        "ms_b": ms[1],
        "delta_ms": float(delta),
        "ratio": ms[1] / ms[0] if ms[0] else np.nan,
        "noise_ms": noise,
        "noise": kind,
        "nodes": tuple(dict.fromkeys(name for part in parts for row in part for name in row["origins"])),
        "layers_a": tuple(row["layer"] for row in parts[0]),
        "layers_b": tuple(row["layer"] for row in parts[1]),
    }


def noise_of(parts: Sequence[Sequence[Mapping[str, Any]]], profiles: Sequence[Profile]) -> tuple[float, str]:
    """(ms that a change of these layers may have by chance, how that is known): ``measured``, ``assumed: 3 %`` of the
    larger side, or ``unknown`` (NaN)."""
    pairs = [(part, profile) for part, profile in zip(parts, profiles, strict=True) if part]
    measured = sum(_noise_ms(part, profile) for part, profile in pairs)
    if not math.isnan(measured):
        return measured, "measured"
    spreads = [p.assumed_noise if math.isnan(p.noise) else p.noise for _, p in pairs]
    if any(map(math.isnan, spreads)):
        return math.nan, "unknown"
    largest = max(sum(row["ms"] for row in part) for part, _ in pairs)
    ticks = sum(profile.tick_ms * len(part) for part, profile in pairs)
    return max(ticks, max(spreads) * largest), f"assumed: {max(spreads):.0%}".replace("%", " %")


def _noise_ms(rows: Sequence[Mapping[str, Any]], profile: Profile) -> float:
    """Noise of a sum of layers: their own (independent of each other), at least that of the whole run, and
    the clock."""
    own = [(row["noise"] * row["ms"]) ** 2 for row in rows if row["ms"] and not math.isnan(row["noise"])]
    whole = profile.noise * sum(row["ms"] for row in rows)
    return float(np.maximum(math.sqrt(sum(own)), whole)) + profile.tick_ms * len(rows)
