"""The GPU bench: every built-in plugin checked and timed on this machine's GPU, written as JSON and as a table.

    python -m tests.gpu --output data/gpu/<name>.json

Times are GPU times by events, the cache emptied before each run; the copy that they are compared with is measured in
the same way. See `workbench.profile.kernels`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from workbench.backends import Worker
from workbench.plugins import builtin
from workbench.profile.kernels import bench, measure_rates

# 64 MB and more in the first input, for both dtypes
ELEMENTWISE = [(4096, 8192), (16384, 8192), (8192, 1024, 16)]
ROWS = [(32768, 1024), (8192, 4096), (16384, 8192)]
SHAPES = {
    "FusedMaskedSoftmax": [(8, 16, 512, 512), (16, 16, 1024, 1024), (4, 16, 2048, 2048)],
    "FusedLayerNorm": ROWS, "FusedRMSNorm": ROWS, "FusedSkipLayerNorm": ROWS,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", default="", help="names of plugins, with commas")
    parser.add_argument("--skip-check", action="store_true")
    parser.add_argument("--runs", type=int, default=30)
    given = parser.parse_args()
    plugins = [p for p in builtin.all_plugins() if not given.only or p.name in given.only.split(",")]
    result: dict[str, Any] = {"command": "make gpu", "date": time.strftime("%Y-%m-%d", time.gmtime())}
    if not given.skip_check:
        result["checks"] = [checked(plugin) for plugin in plugins]
    with Worker("cuda", timeout=300) as worker:
        rates = measure_rates(worker)
        result |= {
            "gpu": worker.call("about"),
            "copy_gb_s": rates.copy_bytes_per_s / 1e9,
            "flops": dict(rates.flops),
        }
        print(f"{result['gpu']['name']}: copy {result['copy_gb_s']:.0f} GB/s, matrix product "
              + ", ".join(f"{d} {f / 1e12:.0f} TFLOP/s" for d, f in rates.flops.items()), flush=True)  # fmt: skip
        rows: list[dict[str, Any]] = []
        for plugin in plugins:
            shapes = SHAPES.get(plugin.name, ELEMENTWISE)
            done = bench(plugin, shapes, runs=given.runs, rates=rates, worker=worker)
            rows += done.rows()
            print(done, flush=True)
    result["bench"] = rows
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(result, indent=1) + "\n")


def checked(plugin: Any) -> dict[str, Any]:
    done = plugin.check()
    print(done, flush=True)
    return {"plugin": plugin.name, "ok": done.ok, "cases": [vars(case) for case in done.cases]}


if __name__ == "__main__":
    main()
