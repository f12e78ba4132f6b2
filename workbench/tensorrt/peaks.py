"""What GPUs can do at most, as their makers publish it, and how far a layer is from it (the roofline model).

Operations per second are those of dense products (a MAC is two), without structured sparsity, on tensor cores
where the GPU has them, with fp32 accumulation where the source tells the difference. Bandwidth is that of the
GPU's memory: data in the L2 cache can be faster, so a layer may be above it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError

_NVIDIA = "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center"
_T4 = f"{_NVIDIA}/tesla-t4/t4-tensor-core-datasheet-951643.pdf"
_A10 = f"{_NVIDIA}/a10/pdf/a10-datasheet.pdf"
_A100 = f"{_NVIDIA}/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf"
_H100 = "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet"
_H200 = "https://resources.nvidia.com/en-us-data-center-overview-mc/en-us-data-center-overview/hpc-datasheet-sc23-h200"
_BLACKWELL = {
    "FP32": 104.8,
    "TF32": 104.8,
    "FP16": 209.5,
    "BF16": 209.5,
    "INT8": 838,
    "FP8": 419,
    "FP4": 1676,
}
_ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
_GB202 = (
    "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf"
)
_GA102 = "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf"
_V100 = (
    "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf"
)
_L40S = "https://resources.nvidia.com/en-us-l40s/l40s-datasheet-28413"
_L4 = "https://resources.nvidia.com/en-us-data-center-overview/l4-gpu-datasheet"
_A40 = "https://images.nvidia.cn/content/Solutions/data-center/a40/nvidia-a40-datasheet.pdf"


@dataclass(frozen=True)
class Gpu:
    """Published peaks of a GPU.

    Attributes:
        tops: precision (``FP32``, ``TF32``, ``FP16``, ``BF16``, ``INT8``, ``FP8``, ``FP4``) -> 10¹²
            operations per second; what is not there runs at no rate of its own.
        gb_per_s: memory bandwidth, 10⁹ bytes per second.
        source: where the figures are published.
    """

    name: str
    tops: Mapping[str, float]
    gb_per_s: float
    source: str = "given by the user"

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


def _ampere(name: str, gb_per_s: float) -> Gpu:
    return Gpu(name, {"FP32": 19.5, "TF32": 156, "FP16": 312, "BF16": 312, "INT8": 624}, gb_per_s, _A100)


def _hopper(name: str, gb_per_s: float, source: str) -> Gpu:
    tops = {"FP32": 67, "TF32": 494.7, "FP16": 989.4, "BF16": 989.4, "INT8": 1979, "FP8": 1979}
    return Gpu(name, tops, gb_per_s, source)


GPUS = (
    Gpu("V100 SXM2", {"FP32": 15.7, "FP16": 125}, 900, _V100),
    Gpu("T4", {"FP32": 8.1, "FP16": 65, "INT8": 130}, 320, _T4),
    _ampere("A100 40GB", 1555),
    _ampere("A100 80GB PCIe", 1935),
    _ampere("A100 80GB SXM", 2039),
    Gpu("A10", {"FP32": 31.2, "TF32": 62.5, "FP16": 125, "BF16": 125, "INT8": 250}, 600, _A10),
    Gpu("A40", {"FP32": 37.4, "TF32": 74.8, "FP16": 149.7, "BF16": 149.7, "INT8": 299.3}, 696, _A40),
    Gpu("RTX 3090", {"FP32": 35.6, "TF32": 35.6, "FP16": 71, "BF16": 71, "INT8": 284}, 936, _GA102),
    Gpu("L4", {"FP32": 30.3, "TF32": 60, "FP16": 121, "BF16": 121, "INT8": 242, "FP8": 242}, 300, _L4),
    Gpu("L40S", {"FP32": 91.6, "TF32": 183, "FP16": 362, "BF16": 362, "INT8": 733, "FP8": 733}, 864, _L40S),
    Gpu("RTX 4090", {"FP32": 82.6, "TF32": 82.6, "FP16": 165.2, "BF16": 165.2, "INT8": 660.6, "FP8": 330.3}, 1008,
        _ADA),
    Gpu("RTX 5090", _BLACKWELL, 1792, _GB202),
    Gpu("H100 PCIe", {"FP32": 51, "TF32": 378, "FP16": 756, "BF16": 756, "INT8": 1513, "FP8": 1513}, 2000, _H100),
    _hopper("H100 SXM", 3350, _H100),
    _hopper("H200", 4800, _H200),
)  # fmt: skip
"""Dense peaks of GPUs from their data sheets and architecture papers."""


def gpu(name: str) -> Gpu:
    """The GPU of a name such as ``NVIDIA A100 80GB PCIe``: the one all of whose words are in it.

    Raises:
        EngineError: none or several of them fit; it lists what there is.
    """
    words = _words(name)
    fits = [
        known for known in GPUS if _words(known.name) <= words and not _OTHERS & (words - _words(known.name))
    ]
    if not fits and words:  # a shorter name than that of the table: it must name exactly one
        fits = [known for known in GPUS if words <= _words(known.name)]
    if len(fits) == 1:
        return fits[0]
    why = f"it could be {' or '.join(g.name for g in fits)}" if fits else "it is not in the table"
    raise EngineError(
        f"no peak figures for the GPU {name!r}: {why}; name one of {', '.join(g.name for g in GPUS)}, or give "
        "wb.tensorrt.Gpu(name, tops, gb_per_s)"
    )


_OTHERS = {
    "laptop",
    "mobile",
    "ti",
    "super",
    "max",
    "d",
    "nvl",
}  # words that make another GPU of the same number
_MAKERS = {"nvidia", "geforce", "tesla", "gpu"}


def _words(name: str) -> set[str]:
    """``A100-SXM4-80GB`` and ``NVIDIA A100 80GB SXM`` have the same words."""
    words = set(re.sub(r"[-_()]", " ", name.lower()).split()) - _MAKERS
    words = {re.sub(r"^(sxm|pcie)[3-9]$", r"\1", word) for word in words}
    return words | {"sxm"} if {"h100", "hbm3"} <= words else words  # what nvidia-smi calls the SXM board
