"""What the GPU bench recorded, as the tables of README.md: nothing there is typed by hand.

    python -m tests.gpu.record          # writes them anew, from all of data/gpu
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

Recorded = dict[str, Any]


def told(recorded: Recorded) -> str:
    """All of it as Markdown."""
    parts = [headline(recorded), kernels(recorded)]
    parts += [part(recorded) for key, part in (("block", block), ("real", real)) if key in recorded]
    return "\n\n".join(parts)


def headline(recorded: Recorded) -> str:
    """GPU, date, versions, command, tests and the copy that everything is held against."""
    gpu = recorded["gpu"]
    driver = gpu.get("driver_package") or f"for CUDA {gpu['driver'] // 1000}.{gpu['driver'] % 1000 // 10}"
    tests = recorded.get("tests")
    lines = [
        f"**{gpu['name']}**, {recorded['date']}, driver {driver}, onnxruntime-gpu {gpu['onnxruntime']}, NVRTC "
        f"{gpu['nvrtc']}{gpu.get('triton', '') and ', Triton ' + gpu['triton']}; `{recorded['command']}`.",
        f"A copy of 1 GiB on the GPU: {recorded['copy_gb_s']:.0f} GB/s, read plus written; a matrix product: "
        + ", ".join(f"{rate / 1e12:.0f} TFLOP/s in {dtype}" for dtype, rate in recorded["flops"].items())
        + ".",
    ]
    if tests:
        lines.append("Tests of this folder: " + ", ".join(f"{count} {how}" for how, count in tests.items()) + ".")
    if left := recorded.get("left_out"):
        lines.append("Left out: " + "; ".join(left) + ".")
    return "\n".join(lines)


def kernels(recorded: Recorded) -> str:
    """One row per plugin, kernel and dtype: least and most over the shapes."""
    rows = [
        "| plugin | kernel | dtype | bandwidth, of a copy's | times faster than the unfused body | "
        "than ONNX Runtime at its best |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    times = {(r["plugin"], r["dtype"], r["shapes"], r["what"]): r["ms"] for r in recorded["bench"]}
    groups: dict[tuple[str, str, str], list[Recorded]] = {}
    for row in recorded["bench"]:
        if row["what"] in ("kernel", "triton"):
            groups.setdefault((row["plugin"], row["what"], row["dtype"]), []).append(row)
    for (plugin, what, dtype), found in groups.items():
        best = [times[plugin, dtype, row["shapes"], "optimised"] / row["ms"] for row in found]
        rows.append(
            f"| {plugin} | {'CUDA' if what == 'kernel' else 'Triton'} | {dtype} | "
            f"{_range([100 * row['share'] for row in found], 0)} % | "
            f"{_range([row['speedup'] for row in found], 1)} | {_range(best, 1)} |"
        )
    return "\n".join(rows)


def block(recorded: Recorded) -> str:
    """The transformer block end to end."""
    made = recorded["block"]["model"]
    lines = [
        f"A transformer block (batch {made['batch']}, {made['length']} tokens, width {made['width']}, {made['heads']} "
        f"heads, {made['dtype']}), inputs on the GPU:",
        "",
        "| | ms, as a CUDA graph | ms, launched one by one | difference of the outputs |",
        "| --- | --- | --- | --- |",
    ]
    for way, found in recorded["block"]["ways"].items():
        alone = f"{found['ms_no_graph']:.3f}" if "ms_no_graph" in found else "not measured"
        lines.append(f"| {way} | {found['ms']:.3f} | {alone} | {found['error']:.1g} |")
    return "\n".join(lines)


def real(recorded: Recorded) -> str:
    """The real model."""
    found = recorded["real"]
    return "\n".join(
        [
            f"{found['model']} {found['shapes']} with {found['kernels']} plugin nodes: {found['compared']} of "
            f"{found['tensors']} tensors compared with the CPU, largest difference {found['max_abs']:.1g} "
            f"({found['local_max_abs']:.1g} of a layer on the CPU's inputs), within tolerance: {found['ok']}.",
            f"Latency {found['ms']['plugins']:.2f} ms, without plugins {found['ms']['plain']:.2f} ms; plugin kernels "
            f"have {found['share']:.0%} of the layers' time, {found['mapped']:.0%} of it is joined to nodes; "
            f"CUDA graph: {found['cuda_graph']}.",
        ]
    )


def tests(path: Path) -> dict[str, int]:
    """passed, failed and skipped in pytest's JUnit file."""
    cases = ET.parse(path).iter("testcase")
    kinds = [next((child.tag for child in case if child.tag in _KINDS), "passed") for case in cases]
    counts = {"passed": kinds.count("passed"), "failed": kinds.count("failure") + kinds.count("error")}
    return counts | {"skipped": kinds.count("skipped")}


_KINDS = ("failure", "error", "skipped")


def _range(values: list[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


README = Path(__file__).with_name("README.md")
RECORDS = Path(__file__).resolve().parents[2] / "data" / "gpu"
HEADING = "## Records\n"


def readme() -> str:
    """README.md with what is recorded now, the latest first."""
    recorded = [json.loads(path.read_text()) for path in RECORDS.glob("*.json")]
    recorded.sort(key=lambda each: str(each["date"]), reverse=True)
    front = README.read_text().split(HEADING)[0]
    return front + "\n".join([HEADING, *(f"### {each['gpu']['name']}\n\n{told(each)}\n" for each in recorded)])


if __name__ == "__main__":
    README.write_text(readme())
