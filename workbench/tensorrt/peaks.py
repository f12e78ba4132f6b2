"""What a GPU can do at most, and how far a layer is from it (the roofline model). `gpus` has published figures.

Operations per second are those of dense products (a MAC is two), without structured sparsity, on tensor cores
where the GPU has them, with fp32 accumulation where the source tells the difference. Bandwidth is that of the
GPU's memory: data in the L2 cache can be faster, so a layer may be above it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """Published peaks of a GPU.

    Attributes:
        tops: precision (``FP32``, ``TF32``, ``FP16``, ``BF16``, ``INT8``, ``FP8``, ``FP4``) -> 10¹²
            operations per second; what is not there runs at no rate of its own.
        gb_per_s: memory bandwidth, 10⁹ bytes per second.
        source: address of the document that publishes the figures; `title` is its title.
        says: the figures as they stand there; a star marks one with structured sparsity, which is twice the dense
            one in `tops`.
        read: where the document's words were read, if not in itself.
    """

    name: str
    tops: Mapping[str, float]
    gb_per_s: float
    source: str = "given by the user"
    title: str = ""
    says: str = ""
    read: str = ""

    @property
    def bytes_per_s(self) -> float:
        """Memory bandwidth in bytes per second."""
        return self.gb_per_s * 1e9

    def rate(self, precision: str) -> float:
        """Operations per second in a precision; NaN where none is published."""
        stand_in = {"UINT8": "INT8", "INT4": "INT8", "BF16": "FP16"}
        known = precision if precision in self.tops else stand_in.get(precision, precision)
        return self.tops.get(known, math.nan) * 1e12

    def judge(self, layer: Mapping[str, Any]) -> dict[str, Any]:
        """Roofline of one layer record (with ``macs``, ``bytes``, ``ms``, ``math``).

        Returns:
            ``intensity``, ``bound``, ``gain_ms``, ``above_peak`` as ``Peaks.judge`` does; ``compute_eff`` and
            ``memory_eff``: which part of the peak of its precision, and of the bandwidth, it reached.
        """
        return judge(layer, self.rate(layer["math"]), self.bytes_per_s)


def judge(layer: Mapping[str, Any], rate: float = math.nan, bandwidth: float = math.nan) -> dict[str, Any]:
    """Roofline of one layer record; without peaks (NaN) only its intensity is known."""
    macs, moved, ms = layer["macs"], layer["bytes"], layer["ms"]
    verdict: dict[str, Any] = {
        "intensity": 2 * macs / moved if macs is not None and moved else math.nan,
        "bound": None, "gain_ms": math.nan, "above_peak": False, "compute_eff": math.nan, "memory_eff": math.nan,
    }  # fmt: skip
    compute = 0.0 if macs == 0 else math.nan if macs is None else 2000 * macs / rate
    memory = math.nan if moved is None else 1000 * moved / bandwidth
    if ms is None or math.isnan(ms) or ms <= 0:
        return verdict
    if macs:
        verdict["compute_eff"] = compute / ms
    verdict["memory_eff"] = memory / ms
    if not math.isnan(compute + memory):
        verdict["bound"] = "compute" if compute > memory else "memory"
        verdict["gain_ms"] = max(0.0, ms - max(compute, memory))
        verdict["above_peak"] = ms < max(compute, memory)
    return verdict
