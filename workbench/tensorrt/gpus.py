"""Peaks of NVIDIA's GPUs, each with the document that publishes them and the figures as they stand there.

NVIDIA's data sheets and architecture papers were read in transcriptions that name them (`Gpu.read`), all on 2026-11-28.
GeForce boards compute FP16 and FP8 products with fp32 accumulation at half the rate: the rates here are those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import EngineError
from .peaks import Gpu


@dataclass(frozen=True)
class _Document:
    title: str
    url: str
    read: str

    def gpu(self, name: str, says: str, gb_per_s: float) -> Gpu:
        """A GPU whose figures are written as in the document: ``FP16 1979*`` is 989.5 without sparsity."""
        tops = {}
        for figure in says.split(", "):
            precision, number = figure.split()
            tops[precision] = float(number.rstrip("*")) / (2 if number.endswith("*") else 1)
        says = f"{says} ({'TFLOPS, TOPS; * with sparsity' if '*' in says else 'TFLOPS, TOPS'}); {gb_per_s:g} GB/s"
        return Gpu(name, tops, gb_per_s, self.url, self.title, says, self.read)


_DATA_CENTER = "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center"
_COMPOSER = "https://github.com/mosaicml/composer, composer/callbacks/speed_monitor.py"
_GPUMAP = "https://github.com/lamonoai/gpumap, nvidia/GPU.md"
_NOTES = "quoted with table and footnotes in public notes"

_V100 = _Document(
    "NVIDIA V100 Tensor Core GPU data sheet",
    "https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf",
    f"{_COMPOSER}; the bandwidth: {_NOTES}",
)
_T4 = _Document(
    "NVIDIA T4 Tensor Core GPU data sheet; bandwidth: Turing architecture paper, table 5 (the sheet prints 300 GB/s)",
    f"{_DATA_CENTER}/tesla-t4/t4-tensor-core-datasheet-951643.pdf",
    f"{_COMPOSER}; the bandwidth: {_NOTES}, and heise.de/news 4164684",
)
_A100 = _Document(
    "NVIDIA A100 Tensor Core GPU data sheet",
    f"{_DATA_CENTER}/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
    f"https://glennklockwood.com/garden/processors/A100; 80GB PCIe: {_GPUMAP}",
)
_A10 = _Document(
    "NVIDIA A10 Tensor Core GPU data sheet",
    f"{_DATA_CENTER}/a10/pdf/a10-datasheet.pdf",
    f"{_COMPOSER}; INT8 and bandwidth: {_GPUMAP}",
)
_A40 = _Document(
    "NVIDIA A40 data sheet",
    "https://images.nvidia.com/content/Solutions/data-center/a40/nvidia-a40-datasheet.pdf",
    "the sheet's table in an offer on ecer.com (NVIDIA A40 GPU, 48GB GDDR6 ECC)",
)
_GA102 = _Document(
    "NVIDIA Ampere GA102 GPU architecture, V2, appendix A, table 9",
    "https://www.nvidia.com/content/PDF/nvidia-ampere-ga-102-gpu-architecture-whitepaper-v2.pdf",
    _NOTES,
)
_ADA = _Document(
    "NVIDIA Ada GPU architecture, V2.02, appendix A, table 2 (footnote 4: FP8 with fp32 accumulation corrected)",
    "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf",
    f"{_NOTES}; {_GPUMAP}",
)
_L4 = _Document(
    "NVIDIA L4 Tensor Core GPU data sheet",
    "https://resources.nvidia.com/en-us-data-center-overview/l4-gpu-datasheet",
    "the sheet's table in an offer on store.sourcecode.com (NVIDIA L4, L40S)",
)
_L40S = _Document(
    "NVIDIA L40S data sheet",
    "https://resources.nvidia.com/en-us-l40s/l40s-datasheet-28413",
    f"the sheet's table in an offer on mullet.se (NVIDIA L40/L40S); INT8: {_GPUMAP}",
)
_GB202 = _Document(
    "NVIDIA RTX Blackwell GPU architecture, V1.1, table 3",
    "https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf",
    f"https://github.com/StarBeat/cpu-gpu-arch, gpu/NVidia-Blackwell.md; INT8: {_GPUMAP}",
)
_H100 = _Document(
    "NVIDIA H100 Tensor Core GPU data sheet",
    "https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet",
    "https://archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html",
)
_H200 = _Document(
    "NVIDIA H200 Tensor Core GPU data sheet",
    "https://resources.nvidia.com/en-us-data-center-overview-mc/en-us-data-center-overview/hpc-datasheet-sc23-h200",
    f"{_COMPOSER}; the bandwidth: {_GPUMAP}",
)

_AMPERE = "FP32 19.5, TF32 156, FP16 312, BF16 312, INT8 624"
_HOPPER = "FP32 67, TF32 989*, FP16 1979*, BF16 1979*, FP8 3958*, INT8 3958*"

GPUS = (
    _V100.gpu("V100 SXM2", "FP32 15.7, FP16 125", 900),
    _T4.gpu("T4", "FP32 8.1, FP16 65, INT8 130", 320),
    _A100.gpu("A100 40GB", _AMPERE, 1555),
    _A100.gpu("A100 80GB PCIe", _AMPERE, 1935),
    _A100.gpu("A100 80GB SXM", _AMPERE, 2039),
    _A10.gpu("A10", "FP32 31.2, TF32 62.5, FP16 125, BF16 125, INT8 250", 600),
    _A40.gpu("A40", "FP32 37.4, TF32 74.8, FP16 149.7, BF16 149.7, INT8 299.3", 696),
    _GA102.gpu("RTX 3090", "FP32 35.6, TF32 35.6, FP16 71, BF16 71, INT8 284", 936),
    _L4.gpu("L4", "FP32 30.3, TF32 120*, FP16 242*, BF16 242*, FP8 485*, INT8 485*", 300),
    _L40S.gpu("L40S", "FP32 91.6, TF32 183, FP16 362.05, BF16 362.05, FP8 733, INT8 733", 864),
    _ADA.gpu("RTX 4090", "FP32 82.6, TF32 82.6, FP16 165.2, BF16 165.2, FP8 330.3, INT8 660.6", 1008),
    _GB202.gpu(
        "RTX 5090", "FP32 104.8, TF32 104.8, FP16 209.5, BF16 209.5, FP8 419, INT8 838, FP4 1676", 1792
    ),
    _H100.gpu("H100 PCIe", "FP32 51, TF32 756*, FP16 1513*, BF16 1513*, FP8 3026*, INT8 3026*", 2000),
    _H100.gpu("H100 SXM", _HOPPER, 3350),
    _H200.gpu("H200", _HOPPER, 4800),
)
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
