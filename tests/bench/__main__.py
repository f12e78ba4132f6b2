"""The bench: `python -m tests.bench [--json FILE] [--quick]`.

Prints what a per-layer comparison of light_resnet50, light_densenet121 and light_vgg19 costs (4 inputs, every
tensor; time and peak memory; ratios to Polygraphy and to merely running both models, beside their targets),
the overhead of the worker process, what opening a 5 GB model costs, and
what one edit costs beside GraphSurgeon.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import contestants, edits, light, overhead, precision, view

ROOT = Path(__file__).resolve().parents[2]
MB = 1e6
RUNNING, POLYGRAPHY = "merely running both", "Polygraphy, all marked"
PROPAGATED, LOCAL = "wb.compare(local=False)", "wb.compare(local=True)"
GEOMEAN, EACH, MEMORY, LOCAL_GEOMEAN = 25, 20, 12, 15  # times better than Polygraphy
SLOWER, LOCAL_SLOWER = 2, 3  # times the wall time of merely running both


def watched(command: list[str], folder: Path) -> dict:
    """Run a command below a watcher of its own; its figures, and those it wrote to its last argument."""
    seen, result, log = folder / "watched.json", Path(command[-1]), folder / "log.txt"
    result.unlink(missing_ok=True)
    with log.open("w") as sink:
        line = [sys.executable, "-m", "tests.bench.watch", "--json", str(seen), "--", *command]
        subprocess.run(line, cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT, check=False)
    if not result.exists():
        raise SystemExit(f"{' '.join(command[:4])} failed:\n" + log.read_text()[-4000:])
    figures = json.loads(seen.read_text())
    return {"process_seconds": figures.pop("seconds"), **figures, **json.loads(result.read_text())}


def contest(name: str, reference: Path, candidate: Path, feeds: Path, folder: Path) -> dict:
    """One run of one contestant on one pair of models, in a fresh process."""
    module = [sys.executable, "-m", "tests.bench.contestants"]
    return watched([*module, name, *map(str, (reference, candidate, feeds, folder / "result.json"))], folder)


def middle(runs: list[dict]) -> dict:
    """The run of median time, with the highest peak memory of all."""
    ordered = sorted(runs, key=lambda run: run["seconds"])
    peak = max(run["peak_bytes"] for run in runs)
    return {**ordered[(len(runs) - 1) // 2], "peak_bytes": peak, "all_seconds": [r["seconds"] for r in runs]}


def compare_models(options: argparse.Namespace, folder: Path) -> dict:
    """model -> {"same" | "changed": {contestant: figures}}. The contestants take turns, `repeat` rounds of them."""
    results: dict = {}
    for model in options.models:
        changed = light.write_changed(model, folder / f"{model}_changed.onnx")
        feeds = folder / "feeds.npz"
        contestants.save_feeds(str(feeds), light.feeds(model))
        results[model] = {}
        for kind, candidate in (("same", light.path(model)), ("changed", changed)):
            runs: dict[str, list[dict]] = {}
            for turn in range(options.repeat):
                for name in options.contestants:
                    slow = name.startswith("Polygraphy")
                    if not slow or (turn == 0 and kind in options.polygraphy_on):
                        run = contest(name, light.path(model), candidate, feeds, folder)
                        runs.setdefault(name, []).append(run)
            results[model][kind] = {name: middle(found) for name, found in runs.items()}
            for name, row in results[model][kind].items():
                print(_line(model, kind, name, row), flush=True)
    return results


HEADER = (
    f"{'model':18} {'candidate':9} {'contestant':24} {'call s':>8} {'process s':>9} {'cpu s':>7} {'peak MB':>8} "
    f"{'processes':>9} {'tensors':>8}"
)


def _line(model: str, kind: str, name: str, row: dict) -> str:
    return (
        f"{model:18} {kind:9} {name:24} {row['seconds']:8.2f} {row['process_seconds']:9.2f} {row['cpu_seconds']:7.2f} "
        f"{row['peak_bytes'] / MB:8.0f} {row['most_processes']:9d} {row.get('tensors', ''):>8}"
    )


def ratios(results: dict) -> list[dict]:
    """Per model and candidate: how many times better than Polygraphy, how much slower than running.

    Where Polygraphy ran on one of the two candidates only, its figures stand for both: it takes no shortcut.
    """
    table = []
    for model, kinds in results.items():
        measured = [row[POLYGRAPHY] for row in kinds.values() if POLYGRAPHY in row]
        for kind, row in kinds.items():
            peer = row.get(POLYGRAPHY) or (measured[0] if measured else None)
            for name in (PROPAGATED, LOCAL):
                if name not in row:
                    continue
                line = {"model": model, "candidate": kind, "contestant": name}
                if peer:
                    line["faster"] = peer["seconds"] / row[name]["seconds"]
                    line["faster_process"] = peer["process_seconds"] / row[name]["process_seconds"]
                    line["less_memory"] = peer["peak_bytes"] / row[name]["peak_bytes"]
                if RUNNING in row:
                    line["of_running"] = row[name]["seconds"] / row[RUNNING]["seconds"]
                table.append(line)
    return table


def verdicts(table: list[dict]) -> list[dict]:
    """Each target of the comparison with what was measured and whether it was met."""
    found = []

    def check(text: str, values: list[float], target: float, higher: bool, combine=None) -> None:
        if values:
            value = (combine or (min if higher else max))(values)
            met = value >= target if higher else value <= target
            found.append({"target": text, "wanted": target, "measured": value, "met": met})

    geomean = lambda values: math.exp(statistics.fmean(map(math.log, values)))  # noqa: E731
    for kind in ("same", "changed"):
        rows = [row for row in table if row["candidate"] == kind]
        plain = [row for row in rows if row["contestant"] == PROPAGATED]
        local = [row for row in rows if row["contestant"] == LOCAL]
        get = lambda lines, key: [line[key] for line in lines if key in line]  # noqa: E731
        check(
            f"{kind}: propagated, times faster, geometric mean", get(plain, "faster"), GEOMEAN, True, geomean
        )
        check(f"{kind}: propagated, times faster, each", get(plain, "faster"), EACH, True)
        check(f"{kind}: propagated, times less memory, each", get(plain, "less_memory"), MEMORY, True)
        check(
            f"{kind}: with local, times faster, geometric mean",
            get(local, "faster"),
            LOCAL_GEOMEAN,
            True,
            geomean,
        )
        check(
            f"{kind}: propagated, times the time of merely running", get(plain, "of_running"), SLOWER, False
        )
        check(
            f"{kind}: with local, times the time of merely running",
            get(local, "of_running"),
            LOCAL_SLOWER,
            False,
        )
    return found


def print_ratios(table: list[dict]) -> None:
    print("\nRatios (times faster by the call / by the whole process, times less memory than Polygraphy;")
    print("        time of the call against merely running both models)")
    for row in table:
        numbers = [row.get(key) for key in ("faster", "faster_process", "less_memory", "of_running")]
        cells = " ".join(f"{number:9.2f}" if number else f"{'-':>9}" for number in numbers)
        print(f"{row['model']:18} {row['candidate']:9} {row['contestant']:24} {cells}")
    print("\nTargets")
    for verdict in verdicts(table):
        mark = "met " if verdict["met"] else "MISSED"
        print(f"  {mark:6} {verdict['target']:58} {verdict['measured']:8.2f}  (target {verdict['wanted']})")


def machine() -> dict:
    """What the figures were measured on."""
    from importlib.metadata import version

    packages = {name: version(name) for name in ("onnxruntime", "polygraphy", "numpy", "onnx-ir")}
    return {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write all figures here too")
    parser.add_argument("--models", nargs="+", default=list(light.NAMES), choices=light.NAMES)
    default = [RUNNING, PROPAGATED, LOCAL, POLYGRAPHY]
    parser.add_argument("--contestants", nargs="+", default=default, choices=list(contestants.CONTESTANTS))
    parser.add_argument("--quick", action="store_true", help="without Polygraphy, which takes five minutes")
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each contestant but Polygraphy (median)"
    )
    parser.add_argument("--polygraphy-on", nargs="+", default=["changed"], choices=["same", "changed"])
    parser.add_argument("--skip-overheads", action="store_true")
    parser.add_argument("--skip-view", action="store_true", help="without the graph view, which needs a browser")
    options = parser.parse_args(arguments)
    if options.quick:
        options.contestants = [name for name in options.contestants if not name.startswith("Polygraphy")]
    return options


def browser_there() -> bool:
    """Whether a browser can be run; says so if not."""
    missing = [name for name in ("jupyterlab", "playwright") if importlib.util.find_spec(name) is None]
    missing += [] if any(map(shutil.which, view.ui_browser.PROGRAMS)) else ["chromium"]
    if missing:
        print(f"\nThe graph view is not measured: {', '.join(missing)} not installed")
    return not missing


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    found: dict = {"machine": machine()}
    print(", ".join(f"{key} {value}" for key, value in found["machine"].items()))
    with tempfile.TemporaryDirectory(prefix="workbench-bench-") as temporary:
        print("\n" + HEADER, flush=True)
        found["compare"] = compare_models(options, Path(temporary))
        found["ratios"] = ratios(found["compare"])
        found["verdicts"] = verdicts(found["ratios"])
        print_ratios(found["ratios"])
        if not options.skip_overheads:
            found["worker"] = overhead.worker()
            print("\n" + overhead.worker_text(found["worker"]), flush=True)
            found["load"] = overhead.big_load(Path(temporary), watched)
            print(overhead.load_text(found["load"]))
            found["edits"] = edits.run(Path(temporary))
            print("\n" + edits.text(found["edits"]), flush=True)
            found["precision"] = precision.run()
            print("\n" + precision.text(found["precision"]))
    if not options.skip_view and browser_there():
        print("\nThe graph view beside Netron, in a browser", flush=True)
        found["view"] = view.run([1000, 5000, 10000, 50000], [] if options.quick else [1000, 10000])
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
