"""What fusing costs, beside its peers, and what verifying it costs: `python -m tests.bench.fuse [--quick]`.

Speed: a transformer of 1,000 and of 10,000 nodes, in CPU seconds of one run: load and `fuse`, its report, `why_not`;
beside onnxslim and onnxscript's optimizer with its rewriter on the same file, which do other work (they name no
reason, and nothing of theirs can be undone).

Verification: `fuse` as it is, `fuse(verify=...)`, and the whole model compared by `wb.compare` after each rule, which
is what verification did before: wall seconds and the peak memory (PSS) of the whole process tree, each in a process of
its own.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import workbench as wb
from tests import graphs, real_models

VERIFIED = (
    "ppocr_det",
    "ppocr_rec",
    "bert_tiny_script",
    "gpt2_tiny_script",
    "llama_tiny_dynamo",
    "light_resnet50",
)
HOW = ("fuse", "fuse(verify=True)", "compared whole after each rule")
SHAPES = {"batch": 2, "sequence": 8}
LIMIT = 2_000  # nodes up to which onnxscript is run: its time grows with their square


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """(CPU seconds, what it gave)."""
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def slim(path: Path) -> object:
    import onnxslim

    return onnxslim.slim(str(path))


def onnxscript(path: Path) -> object:
    import onnx_ir as ir
    from onnxscript import optimizer, rewriter

    model = ir.load(path)
    optimizer.optimize(model)
    return rewriter.rewrite(model)


def speed(nodes: int, folder: Path) -> dict[str, float]:
    """CPU seconds on a transformer of so many nodes."""
    path = folder / f"{nodes}.onnx"
    path.write_bytes(graphs.transformer(nodes, shared=True).SerializeToString())
    loading, model = timed(lambda: wb.load(path))
    fusing, made = timed(lambda: model.fuse(progress=False))  # type: ignore[attr-defined]
    report, _ = timed(lambda: (str(made.report), made.report._repr_html_(), made.report.table))  # type: ignore[attr-defined]
    middle = model.ir.graph[len(model.ir.graph) // 2].name  # type: ignore[attr-defined]
    asking, _ = timed(lambda: model.why_not("gelu", middle))  # type: ignore[attr-defined]
    return {
        "fusions": sum(made.report.counts.values()),  # type: ignore[attr-defined]
        "load": loading,
        "fuse": fusing,
        "report": report,
        "why_not": asking,
        "onnxslim": timed(lambda: slim(path))[0],
        "onnxscript": timed(lambda: onnxscript(path))[0] if nodes <= LIMIT else math.nan,
    }


def opened(name: str) -> wb.Model:
    """A model; weights that are inputs, or made by nodes (light_resnet50), as plain ones, which rules can use."""
    model = wb.load(real_models.find(name))
    for value in list(model.ir.graph.inputs):
        if value.name in model.ir.graph.initializers:
            model = model.remove_input(value.name or "")
    return model.fold_constants(limit=1 << 30) if name.startswith("light") else model


def verification(name: str, how: str) -> dict[str, float]:
    """Fuse a model in one of the ways."""
    model, shapes = opened(name), SHAPES if "_tiny_" in name else None
    start = time.perf_counter()
    if how == HOW[2]:
        made, count = model, 0
        for rule in wb.fusions.RULES:
            after = made.fuse([rule], shapes=shapes, progress=False)
            count += sum(after.report.counts.values())
            if after.report.counts:
                assert wb.compare(made, after, shapes=shapes, tolerance=1e-4, progress=False).ok
                made = after
    else:
        made = model.fuse(verify=how == HOW[1], shapes=shapes, progress=False)
        count = sum(made.report.counts.values())
    return {"seconds": time.perf_counter() - start, "fusions": count}


def run(quick: bool = False) -> dict[str, dict[str, dict]]:
    """All figures."""
    from tests.bench.__main__ import watched

    found: dict[str, dict[str, dict]] = {"speed": {}, "verification": {}}
    with tempfile.TemporaryDirectory(prefix="workbench-bench-") as temporary:
        folder = Path(temporary)
        speed(200, folder)  # what is imported on first use is no matter of speed
        for nodes in (1_000,) if quick else (1_000, 10_000):
            found["speed"][f"{nodes:,}"] = speed(nodes, folder)
        for name in VERIFIED[2:3] if quick else VERIFIED:
            command = [sys.executable, "-m", "tests.bench.fuse", "--one", name]
            found["verification"][name] = {
                how: watched([*command, how, str(folder / "result.json")], folder) for how in HOW
            }
    return found


def text(found: dict[str, dict[str, dict]]) -> str:
    """The figures as tables."""
    lines = [
        "Fusing a transformer (CPU seconds)",
        f"{'nodes':24}" + "".join(f"{n:>12}" for n in found["speed"]),
    ]
    columns = list(found["speed"].values())
    lines += [f"{row:24}" + "".join(f"{column[row]:12.2f}" for column in columns) for row in columns[0]]
    for peer in ("onnxslim", "onnxscript"):
        ratios = [column[peer] / (column["load"] + column["fuse"]) for column in columns]
        lines.append(f"{peer + ' / load and fuse':24}" + "".join(f"{ratio:12.1f}" for ratio in ratios))
    lines += ["", "Verification (s of the call, peak MB of the process tree)"]
    lines.append(
        f"{'model':18}{'fusions':>8}"
        + "".join(f"{how:>32}" for how in HOW)
        + f"{'verifying, times less':>24}"
    )
    for name, ways in found["verification"].items():
        cells = [f"{way['seconds']:.2f} s, {way['peak_bytes'] / 1e6:.0f} MB" for way in ways.values()]
        plain, verified, whole = (way["seconds"] for way in ways.values())
        less = (whole - plain) / max(verified - plain, 1e-3)
        lines.append(
            f"{name:18}{ways[HOW[1]]['fusions']:8}" + "".join(f"{c:>32}" for c in cells) + f"{less:24.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small model each")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "HOW", "RESULT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, how, result = options.one
        Path(result).write_text(json.dumps(verification(name, how)))
        return
    figures = run(options.quick)
    print(text(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
