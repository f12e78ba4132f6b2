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

import numpy as np

from workbench.backends import Worker
from workbench.errors import BackendError
from workbench.plugins import builtin
from workbench.profile.kernels import bench, measure_rates

from .block import feeds, transformer_block, with_plugins

# 64 MB and more in the first input, for both dtypes
ELEMENTWISE = [(4096, 8192), (16384, 8192)]
ROWS = [(32768, 1024), (16384, 8192)]
SHAPES = {
    "FusedMaskedSoftmax": [(8, 16, 512, 512), (16, 16, 1024, 1024)],
    "FusedLayerNorm": ROWS, "FusedRMSNorm": ROWS, "FusedSkipLayerNorm": ROWS,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", default="", help="names of plugins, with commas")
    parser.add_argument("--check", action="store_true", help="check the kernels too, as the tests do")
    parser.add_argument("--runs", type=int, default=30)
    given = parser.parse_args()
    plugins = [p for p in builtin.all_plugins() if not given.only or p.name in given.only.split(",")]
    try:
        with Worker("cuda", timeout=120) as worker:
            worker.version  # noqa: B018 - it starts
    except BackendError as error:
        print(f"Nothing was measured: {error}")
        return
    result: dict[str, Any] = {"command": "make gpu", "date": time.strftime("%Y-%m-%d", time.gmtime())}
    if given.check:
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
        result["block"] = block(worker)
        result["bench"] = rows = []
        for plugin in plugins:
            shapes = SHAPES.get(plugin.name, ELEMENTWISE)
            done = bench(plugin, shapes, runs=given.runs, rates=rates, worker=worker)
            rows += done.rows()
            print(done, flush=True)
            _write(given.output, result)


def _write(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")


BLOCK = {"batch": 8, "length": 512, "width": 1024, "heads": 16, "dtype": "float16"}


def block(worker: Worker) -> dict[str, Any]:
    """A transformer block end to end, with the inputs on the GPU: as it is and with plugins."""
    plain = transformer_block(**BLOCK)
    given = feeds(plain)
    found: dict[str, Any] = {"model": BLOCK, "ways": {}}
    outputs: dict[str, np.ndarray] = {}
    ways = (
        ("plain, unoptimised", plain, "none"),
        ("plain", plain, "all"),
        ("plugins", with_plugins(plain), "all"),
    )
    for name, model, optimize in ways:
        session = worker.load(model.to_proto().SerializeToString(), name=name, optimize=optimize)
        outputs[name] = session.run(given)["y"].astype(np.float64)
        session.profile(given, runs=10)
        done = session.profile(given, runs=100)
        session.close()
        times = {kind: float(np.median(done[kind])) for kind in ("ms", "gpu_ms")}
        error = (
            np.abs(outputs[name] - outputs["plain, unoptimised"]).max()
            / np.abs(outputs["plain, unoptimised"]).max()
        )
        found["ways"][name] = times | {"cuda_graph": done["graph"] or "yes", "error": float(error)}
        print(f"block, {name}: {found['ways'][name]}", flush=True)
    return found


def checked(plugin: Any) -> dict[str, Any]:
    done = plugin.check()
    print(done, flush=True)
    return {"plugin": plugin.name, "ok": done.ok, "cases": [vars(case) for case in done.cases]}


if __name__ == "__main__":
    main()
