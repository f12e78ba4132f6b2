"""How many nodes stay in float32: the search, beside a contiguous prefix: `python -m tests.bench.precision`.

Polygraphy's `debug precision --mode bisect` kept the first (or with ``--dir reverse`` the last) k layers in float32 and
bisected k; TensorRT 11 took away what it did that with. Here both directions are bisected on the same simulation of
fp16, with the same inputs, error and tolerance as the search, and the better one counts. Tolerances are a half and a
quarter of the error with all in fp16, or 1 % where that overflows.
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import workbench as wb
from tests import graphs, real_models
from workbench.precision.trials import Trials

MODELS = (
    "needs_constraints", "residual_block", *real_models.TRANSFORMERS, "ppocr_cls", "ppocr_det", "ppocr_rec",
    "minilm_int8", "magika", "mtcnn_pnet", "silero_vad_ifless", "1,000 nodes",
)  # fmt: skip


def find(name: str) -> wb.Model:
    return wb.load(graphs.transformer(1000) if name == "1,000 nodes" else real_models.find(name))


def prefix(model: wb.Model, feeds: list, tolerance: float) -> dict[str, int]:
    """The fewest first, or last, nodes that are enough, and the runs of the better direction."""
    found: dict[str, int] = {}
    for way in ("first", "last"):
        with Trials(model, "float16", feeds, tolerance=tolerance) as trials:
            names = trials.roles.computing[:: 1 if way == "first" else -1]
            low, high = 0, len(names)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if trials.trial(names[:middle]).ok else (middle, high)
            found[way], found[f"{way}_runs"] = high, trials.runs
    return found


def row(name: str, share: float) -> dict:
    """One model at one tolerance."""
    model = find(name)
    feeds = [{k: np.asarray(v) for k, v in feed.items()} for feed in wb.inputs.feeds(model)]
    with Trials(model, "float16", feeds) as trials:
        error = trials.trial(()).error
    tolerance = share * error if error < 0.5 else 0.01
    start = time.perf_counter()
    result = wb.precision.search(model, "fp16", inputs=feeds, tolerance=tolerance, progress=False)
    seconds = time.perf_counter() - start
    limit = 2 * math.ceil(math.log2(max(2, len(result.nodes)))) + 20
    best = prefix(model, feeds, tolerance)
    return {
        "model": name, "nodes": len(result.nodes), "error": error, "tolerance": tolerance, "kept": len(result.keep),
        "full": int(result.trials.full[[set(n) == set(result.keep) for n in result.trials.nodes]].min()),
        "complete": result.complete, "runs": result.runs, "limit": limit, "seconds": seconds, **best,
    }  # fmt: skip


def run(models: tuple[str, ...] = MODELS) -> list[dict]:
    """All rows; models that overflow have one."""
    rows: list[dict] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in models:
            for share in (0.5, 0.25):
                if not rows or rows[-1]["model"] != name or rows[-1]["error"] < 0.5:
                    rows.append(row(name, share))
    return rows


def text(rows: list[dict]) -> str:
    """The rows as a table, and what they add up to."""
    titles = ("model", "nodes", "all fp16", "tolerance", "kept", "runs", "limit", "s", "first k", "last k", "fewer")
    lines = [
        "Nodes kept in float32 for fp16 within a tolerance: the search, and the best contiguous prefix",
        f"{titles[0]:22}" + "".join(f"{title:>11}" for title in titles[1:]),
    ]
    fewer = ties = 0
    for r in rows:
        best = min(r["first"], r["last"])
        fewer, ties = fewer + (r["kept"] < best), ties + (r["kept"] == best)
        kept = f"{r['kept']}{'' if r['complete'] else '*'}"
        errors = f"{r['error']:.2g}", f"{r['tolerance']:.2g}"
        ratio = f"{best / max(1, r['kept']):.1f} x"
        seconds = f"{r['seconds']:.1f}"
        numbers = (r["nodes"], *errors, kept, r["runs"], r["limit"], seconds, r["first"], r["last"], ratio)
        lines.append(f"{r['model']:22}" + "".join(f"{number:>11}" for number in numbers))
    lines.append("* the runs were used up before every single node had been tried")
    over = [r["model"] for r in rows if r["runs"] > r["limit"]]
    lines.append(f"fewer nodes than a contiguous prefix: {fewer} of {len(rows)}, as many: {ties}, more: "
                 f"{len(rows) - fewer - ties}; more runs than 2 log2(n) + 20: {over or 'none'}")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    figures = run()
    print(text(figures))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(figures, indent=1))
