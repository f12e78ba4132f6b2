"""What each command does. A function takes the parsed arguments, prints to stdout and returns the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..compare import compare as compare_models
from ..errors import WorkbenchError
from ..figures.style import printable
from ..model import load
from ..profile import profile as profile_model
from ..report import words
from . import options
from .engines import tensorrt as tensorrt
from .text import colour, table, width, wrap

if TYPE_CHECKING:
    import pandas as pd

    from ..compare import Comparison
    from ..model import Model
    from ..profile import Profile
    from ..tensorrt import Engine


# column -> title
_TENSORS = {
    "tensor": "tensor",
    "node": "node",
    "op_type": "operator",
    "error": "error",
    "max_abs": "max abs",
    "cosine": "cosine",
    "snr_db": "SNR dB",
    "local_max_abs": "local max",
    "local_snr_db": "local SNR",
}
_SPARE = ("cosine", "max abs", "local max", "operator")
_LAYERS = {
    "layer": "layer",
    "op_type": "operator",
    "ms": "ms",
    "share": "%",
    "bound": "bound by",
    "gain_ms": "could gain",
    "nodes": "nodes",
}
_OPERATORS = {"op_type": "operator", "layers": "layers", "ms": "ms", "share": "%", "gain_ms": "could gain"}


def show(given: argparse.Namespace) -> int:
    """``workbench show M``"""
    model = load(given.model)
    summary = model.summary(options.shapes(given.shapes, model.inputs))
    if given.json:
        tables = {"nodes": _records(model.nodes), "tensors": _records(model.tensors)}
        data = {"fingerprint": model.fingerprint, **dataclasses.asdict(summary), "graph": tables}
        _write_json(given.json, json.dumps(data, indent=1))
    if given.json != "-":
        print("\n".join(map(printable, str(summary).splitlines())))
        for wanted, frame in ((given.nodes, model.nodes), (given.tensors, model.tensors)):
            if wanted:
                frame = frame.reset_index()
                print("\n" + table(list(frame.columns), _rows(frame.head(given.top or len(frame))), width()))
    return 0


def compare(given: argparse.Namespace) -> int:
    """``workbench compare A B``"""
    comparison = _compare(given, load(given.model), load(given.candidate))
    if given.json:
        _write_json(given.json, comparison.to_json())
    if given.json != "-":
        _print_comparison(comparison, given.top)
    return 0 if comparison.ok else 1


def profile(given: argparse.Namespace) -> int:
    """``workbench profile M``"""
    found = _profile(given, load(given.model))
    if given.json:
        _write_json(given.json, found.to_json())
    if given.json != "-":
        _print_profile(found, given.top)
    return 0


def engine(given: argparse.Namespace) -> int:
    """``workbench engine LAYERS``"""
    from ..tensorrt import diff
    from ..tensorrt import load as load_engine

    model = load(given.model) if given.model else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is missing is printed
        found = load_engine(given.layers, given.profile, model=model, gpu=given.gpu)
        before = load_engine(given.before, model=model, gpu=given.gpu) if given.before else None
    changes = diff(before, found) if before is not None else None
    if given.json:
        tables = {
            "layers": found.layers.drop(columns="attributes"),
            "nodes": found.nodes,
            "findings": found.lint(),
        }
        tables |= {} if changes is None else {"changes": changes}
        data = {"name": found.model_name, "missing": found.missing}
        _write_json(
            given.json, json.dumps(data | {key: _records(frame) for key, frame in tables.items()}, indent=1)
        )
    if given.json != "-":
        _print_engine(found, changes, given.top)
    return 0


def precision(given: argparse.Namespace) -> int:
    """``workbench precision M --to fp16 -o out.onnx``"""
    from ..precision import search

    model = load(given.model)
    found = search(
        model,
        given.to,
        inputs=given.inputs,
        shapes=options.shapes(given.shapes, model.inputs),
        count=given.count,
        seed=given.seed,
        tolerance=options.tolerance(given.tolerance),
        keep=given.keep,
        max_runs=given.max_runs,
        state=given.state,
        progress=sys.stderr.isatty(),
    )
    if given.output:
        found.model.save(given.output)
    if given.json:
        _write_json(given.json, found.to_json())
    if given.json != "-":
        print(wrap(found.explain()))
        print("\n".join(f"  {printable(name)}" for name in found.keep))
        if given.output:
            print(f"The converted model: {given.output}")
    return 0 if found.found else 1


def fuse(given: argparse.Namespace) -> int:
    """``workbench fuse M -o OUT``"""
    from ..fusions import fuse as fuse_model
    from ..inputs import feeds

    model = load(given.model)
    shapes = options.shapes(given.shapes, model.inputs)
    verify = list(feeds(model, given.inputs, shapes=shapes, seed=given.seed)) if given.verify else None
    fused = fuse_model(
        model,
        given.rules.split(",") if given.rules else None,
        verify=verify,
        tolerance=given.tolerance,
        functions=given.functions,
        shapes=shapes,
        progress=sys.stderr.isatty(),
    )
    found = fused.report
    path = fused.save(given.output) if given.output else None
    if given.json:
        _write_json(given.json, json.dumps(found.json() | {"output": path and str(path)}, indent=1))
    if given.json != "-":
        print("\n".join(map(printable, str(found).splitlines())))
        if path:
            print(f"The fused model: {path}")
    return 0


def report(given: argparse.Namespace) -> int:
    """``workbench report A B -o out.html``"""
    from ..report import write

    model = load(given.model)
    candidate = load(given.candidate) if given.candidate else None
    comparison = _compare(given, model, candidate) if candidate else None
    before = _profile(given, model)
    after = _profile(given, candidate) if candidate else None
    path = write(
        given.output,
        comparison=comparison,
        before=before,
        after=after,
        model=model,
        candidate=candidate,
        title=given.title,
    )
    if given.json:
        parts = {"comparison": comparison, "before": before, "after": after}
        data = {name: json.loads(part.to_json()) for name, part in parts.items() if part is not None}
        _write_json(given.json, json.dumps({"report": str(path), **data}, indent=1))
    if given.json != "-":
        if comparison:
            _say_verdict(comparison)
        print(wrap(words.speed(before, after) if after else f"{words.latency(before)} {words.where(before)}"))
        print(f"The report: {path}")
    return 0 if comparison is None or comparison.ok else 1


def demo(given: argparse.Namespace) -> int:
    """``workbench demo``"""
    from ..demo import run

    def say(line: str) -> None:
        print(line if line.startswith("The report") else wrap(line), flush=True)

    run(given.output, runs=given.runs, threads=given.threads, progress=sys.stderr.isatty(), say=say)
    return 0


def lab(given: argparse.Namespace) -> NoReturn:
    """``workbench lab``"""
    if importlib.util.find_spec("jupyterlab") is None:
        raise WorkbenchError("cannot start JupyterLab: it is not installed; pip install 'trt-workbench[lab]'")
    notebooks = Path(__file__).parents[2] / "notebooks"
    folder = notebooks if notebooks.is_dir() else Path.cwd()
    os.execv(
        sys.executable, [sys.executable, "-m", "jupyterlab", str(folder), *given.rest]
    )  # it handles Ctrl-C itself


def _compare(given: argparse.Namespace, model: Model, candidate: Model) -> Comparison:
    return compare_models(
        model,
        candidate,
        given.inputs,
        shapes=options.shapes(given.shapes, model.inputs),
        count=given.count,
        seed=given.seed,
        tolerance=options.tolerance(given.tolerance),
        local=given.local,
        memory_budget=given.memory_budget,
        as_run=given.as_run,
        optimize=given.optimize,
        threads=given.threads,
        progress=sys.stderr.isatty(),
    )


def _profile(given: argparse.Namespace, model: Model) -> Profile:
    return profile_model(
        model,
        inputs=given.inputs,
        shapes=options.shapes(given.shapes, model.inputs),
        seed=given.seed,
        runs=given.runs,
        threads=given.threads,
        optimize=given.optimize,
        progress=sys.stderr.isatty(),
    )


def _say_verdict(comparison: Comparison) -> None:
    print(colour(wrap(words.verdict(comparison)), "green" if comparison.ok else "red"))


def _print_comparison(comparison: Comparison, top: int) -> None:
    _say_verdict(comparison)
    print(wrap(comparison.explain()))
    if seen := words.observer(comparison):
        print(wrap(seen))
    reasons = words.not_compared(comparison)
    if reasons:
        print(wrap("Not compared: " + "; ".join(f"{n} {reason}" for reason, n in reasons[:4]) + "."))
    worst = [r for r in comparison.records if r["status"] == words.COMPARED and r["error"] > 0]
    worst = sorted(worst, key=lambda r: -r["error"])[:top]
    if worst:
        names = {key: title for key, title in _TENSORS.items() if key in worst[0]}
        rows = [
            [float(r[k]) if k not in ("tensor", "node", "op_type") else r[k] for k in names] for r in worst
        ]
        print(f"\nworst tensors\n{table(list(names.values()), rows, width(), _SPARE)}")


def _print_profile(found: Profile, top: int) -> None:
    meta = found.meta
    threads = f"{meta['threads']} threads" if meta["threads"] != 1 else "1 thread"
    threads = threads if meta["threads"] else "its own choice of threads"
    noise = "unknown noise" if found.noise != found.noise else f"noise {found.noise:.0%}"
    how = f"{meta['runtime']} {meta['version']}, optimize={meta['optimize']}, {threads}"
    latency = (
        f"latency {found.latency_ms:.4g} ms (p95 {found.latency_p95_ms:.4g}), {noise}, {meta['runs']} runs"
    )
    layers = f"{len(found.table)} layers take {found.sum_ms:.4g} ms, {found.mapped:.1%} of it joined to nodes"
    print(wrap(f"{found.model_name} on {how}: {latency}; {layers}."))
    if found.table.empty:
        return
    print(wrap(words.where(found)))
    _print_table(
        "layers",
        found.table.sort_values("ms", ascending=False).head(top),
        _LAYERS,
        ("could gain", "bound by"),
    )
    _print_table("operators", found.by_op().head(top), _OPERATORS)


def _print_engine(found: Engine, changes: pd.DataFrame | None, top: int) -> None:
    for line in found._lines():
        print(wrap(line))
    timed = len(found.table) > 0
    listed = found.table.sort_values("ms", ascending=False) if timed else found.layers
    names = {
        "layer": "layer",
        "op_type": "operator",
        "math": "precision",
        "ms": "ms",
        "share": "%",
        "bound": "bound by",
    }
    _print_table("layers", listed.head(top), {**names, "nodes": "nodes"}, ("bound by", "layer"))
    if timed:
        _print_table(
            "operators", found.by_op().head(top), {k: v for k, v in _OPERATORS.items() if k != "gain_ms"}
        )
    findings = found.lint().head(top)
    if len(findings):
        _print_table(
            "findings", findings, {"lint": "finding", "ms": "ms", "problem": "problem", "layer": "layer"}
        )
    if changes is not None:
        moved = {"status": "", "ms_a": "before", "ms_b": "after", "changed": "what changed", "layer": "layer"}
        _print_table("changes", changes.head(top), moved)


def _print_table(title: str, frame: pd.DataFrame, columns: dict[str, str], spare: Sequence[str] = ()) -> None:
    frame = frame.reset_index()
    if "share" in columns:
        frame = frame.assign(share=100 * frame["share"])
    frame = frame[list(columns)]
    print(f"\n{title}\n{table(list(columns.values()), _rows(frame), width(), spare)}")


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    return [list(row) for row in frame.itertuples(index=False)]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain data, as JSON has it."""
    return json.loads(frame.reset_index().to_json(orient="records"))


def _write_json(target: str, text: str) -> None:
    if target == "-":
        print(text)
        return
    from ..model.atomic import writing

    try:
        with writing(Path(target).absolute()) as file:
            file.write(text.encode() + b"\n")
    except OSError as error:
        raise WorkbenchError(f"cannot write {target}: {error.strerror or error}") from error
