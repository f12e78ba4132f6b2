"""The GPU bench: what this machine's GPU makes of the plugins, written as JSON after every measurement, then as tables.

    python -m tests.gpu --output data/gpu/<name>.json

Times are GPU times by events, the cache emptied before each run; the copy that they are compared with is measured in
the same way. See `workbench.profile.kernels`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.backends import Worker
from workbench.errors import BackendError
from workbench.plugins import Plugin, builtin
from workbench.profile.kernels import Rates, bench, measure_rates

from . import record
from .block import feeds, transformer_block, with_plugins
from .real import SHAPES as REAL
from .real import recognition

# 64 MB and more in the first input, for both dtypes
ELEMENTWISE = [(4096, 8192), (16384, 8192)]
ROWS = [(32768, 1024), (16384, 8192)]
SHAPES = {
    "FusedMaskedSoftmax": [(8, 16, 512, 512), (16, 16, 1024, 1024)],
    "FusedLayerNorm": ROWS, "FusedRMSNorm": ROWS, "FusedSkipLayerNorm": ROWS,
}  # fmt: skip
PARTS = ("block", "real", "kernels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--only", default="", help="names of plugins, with commas")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--budget", type=float, default=270.0, help="seconds after which nothing more is begun")
    parser.add_argument("--tests", type=Path, help="pytest's JUnit file, whose counts are recorded too")
    given = parser.parse_args()
    try:
        with Worker("cuda", timeout=120) as worker:
            worker.version  # noqa: B018 - it starts
            print(record.told(Measuring(worker, given).result))
    except BackendError as error:
        print(f"Nothing more was measured: {error}")


class Measuring:
    """One measurement after the other, each with a line of progress and the file written anew."""

    def __init__(self, worker: Worker, given: argparse.Namespace):
        self.worker, self.given, self.start = worker, given, time.perf_counter()
        self.result: dict[str, Any] = {
            "command": f"python -m tests.gpu --runs {given.runs}",
            "date": time.strftime("%Y-%m-%d", time.gmtime()), "gpu": worker.call("about") | _installed(),
            "left_out": [],
        }  # fmt: skip
        if given.tests and given.tests.is_file():
            self.result["tests"] = record.tests(given.tests)
        self.rates = measure_rates(worker)
        self.result |= {"copy_gb_s": self.rates.copy_bytes_per_s / 1e9, "flops": dict(self.rates.flops), "bench": []}
        for name, measurement in self.measurements():
            self.measured(name, measurement)

    def measurements(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        parts = self.given.parts.split(",")
        if "block" in parts:
            yield "block", lambda: self.result.update(block=block(self.worker))
        if "real" in parts:
            yield "real model", lambda: self.result.update(real=real())
        only = self.given.only.split(",")
        for plugin in builtin.all_plugins() if "kernels" in parts else ():
            if self.given.only and plugin.name not in only:
                continue
            for dtype in plugin.dtypes:
                for shape in SHAPES.get(plugin.name, ELEMENTWISE):
                    one = partial(kernel, self.worker, self.rates, plugin, dtype, shape, self.given.runs)
                    yield f"{plugin.name} {dtype} {list(shape)}", lambda one=one: self.result["bench"].extend(one())

    def measured(self, name: str, measurement: Callable[[], Any]) -> None:
        begun = time.perf_counter()
        why = f"no time after {self.given.budget:.0f} s" if begun - self.start > self.given.budget else ""
        if not why:
            try:
                measurement()
            except (wb.errors.WorkbenchError, pytest.skip.Exception) as error:  # the others are worth having
                why = str(error)
        if why:
            self.result["left_out"].append(f"{name} ({why})")
        now = time.perf_counter()
        print(f"[{now - self.start:3.0f} s] {name}: {why or 'done'}, {now - begun:.1f} s", flush=True)
        if path := self.given.output:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.result, indent=1) + "\n")


def kernel(
    worker: Worker, rates: Rates, plugin: Plugin, dtype: str, shape: tuple[int, ...], runs: int
) -> list[dict[str, Any]]:
    """One plugin's kernels and body for one dtype and shape."""
    done = bench(plugin, [shape], dtypes=[dtype], runs=runs, rates=rates, worker=worker)
    print(done, flush=True)
    return done.rows()


BLOCK = {"batch": 8, "length": 512, "width": 1024, "heads": 16, "dtype": "float16"}


def block(worker: Worker) -> dict[str, Any]:
    """A transformer block end to end, with the inputs on the GPU: as it is and with plugins, each as a CUDA graph and
    launched one by one."""
    plain = transformer_block(**BLOCK)
    given = feeds(plain)
    found: dict[str, Any] = {"model": BLOCK, "ways": {}}
    wanted = None
    for name, model, optimize in (
        ("plain, unoptimised", plain, "none"),
        ("plain", plain, "all"),
        ("plugins", with_plugins(plain), "all"),
    ):
        way: dict[str, Any] = {}
        for graph, suffix in ((True, ""), (False, "_no_graph")):
            session = worker.load(model.to_proto().SerializeToString(), name=name, optimize=optimize, graph=graph)
            done = session.profile(given, runs=110)
            way |= {f"{kind}{suffix}": float(np.median(done[kind][10:])) for kind in ("ms", "gpu_ms")}
            if graph:
                way["cuda_graph"] = done["graph"] or "yes"
                made = session.run(given)["y"].astype(np.float64)
                wanted = made if wanted is None else wanted
                way["error"] = float(np.abs(made - wanted).max() / np.abs(wanted).max())
            session.close()
        found["ways"][name] = way
        print(f"block, {name}: {way}", flush=True)
    return found


def real() -> dict[str, Any]:
    """A real model with plugin nodes: every tensor against the CPU, and the time of every layer."""
    plain, plugged = recognition()
    c = wb.compare(plugged, plugged, shapes=REAL, count=1, candidate_backend="cuda", tolerance=1e-3, progress=False)
    table = c.table[c.table["status"] == "compared"]
    profiles = {
        way: wb.profile(model, "cuda", shapes=REAL, runs=20, progress=False)
        for way, model in (("plain", plain), ("plugins", plugged))
    }
    p = profiles["plugins"]
    found = {
        "model": plain.name, "shapes": str(REAL), "kernels": len(p.meta["kernels"]), "cuda_graph": p.meta["cuda_graph"],
        "tensors": len(c.table), "compared": len(table), "ok": bool(c.ok),
        "max_abs": float(table["max_abs"].max()), "local_max_abs": float(table["local_max_abs"].max()),
        "ms": {way: profile.latency_ms for way, profile in profiles.items()},
        "share": float(p.table.loc[p.table["op_type"].str.startswith("Fused"), "share"].sum()), "mapped": p.mapped,
    }  # fmt: skip
    print(f"real model: {found}", flush=True)
    return found


def _installed() -> dict[str, str]:
    """Versions that the worker does not know."""
    found = {}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["triton"] = importlib.metadata.version("triton")
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        found["driver_package"] = said.split("\n")[0]
    return found


if __name__ == "__main__":
    main()
