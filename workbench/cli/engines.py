"""``workbench tensorrt check|build M`` and ``cache``: thin over `workbench.tensorrt`, imported when it is used."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options

if TYPE_CHECKING:
    from ..tensorrt.build import BuildResult

_RANGE = r"\d+(?::\d+:\d+)?"


def add(
    parser: argparse.ArgumentParser, always: argparse.ArgumentParser, data: argparse.ArgumentParser
) -> None:
    """The arguments of the command."""
    what = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("model", metavar="M", help="an ONNX file")
    known.add_argument("--backend", choices=("tensorrt", "tensorrt_rtx"), help="default: what is installed")
    parents = [always, data, known]
    checking = what.add_parser(
        "check", help="what TensorRT refuses or is slow with; exit status 1 if it refuses", parents=parents
    )
    checking.add_argument(
        "--fix", metavar="FILE", dest="output", help="write the model with all fixes applied"
    )
    building = what.add_parser(
        "build", help="build an engine (TensorRT-RTX needs no GPU for it)", parents=parents
    )
    building.add_argument(
        "-o", "--output", metavar="FILE", help="the plan (default: M with the ending .plan)"
    )
    building.add_argument(
        "--shapes", metavar="NAME=SIZES", type=ranges, action="append",
        help="a dim or an input with MIN:OPT:MAX, as batch=1:8:32 or x=1:8:32,3,224,224; can be given several times",
    )  # fmt: skip
    building.add_argument(
        "--compute-capability",
        metavar="X.Y",
        action="append",
        help="TensorRT-RTX: a GPU to build for, as 8.9",
    )
    building.add_argument(
        "--log", metavar="PATTERN", help="show the messages of the log that a regular expression finds"
    )

    cached = what.add_parser("cache", help="list the engines that were built before", parents=[always, data])
    cached.add_argument("--clear", dest="keep", action="store_const", const=0, help="remove all of them")
    cached.add_argument(
        "--keep",
        metavar="SIZE",
        type=options.size,
        help="remove what was used least recently until 2GB are left",
    )


def ranges(text: str) -> tuple[str, Any]:
    """``batch=1:8:32`` or ``x=1:8:32,3,224,224``."""
    name, equals, sizes = text.rpartition("=")
    dims = sizes.split(",")
    if not equals or not name or not all(re.fullmatch(_RANGE, dim) for dim in dims):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected NAME=SIZES with sizes N or MIN:OPT:MAX, as in batch=1:8:32 or x=1:8:32,3,224,224"
        )
    made = [tuple(map(int, dim.split(":"))) for dim in dims]
    values: list[Any] = [dim[0] if len(dim) == 1 else dim for dim in made]
    return name, values[0] if len(values) == 1 else tuple(values)


def tensorrt(given: argparse.Namespace) -> int:
    """``workbench tensorrt check|build M`` or ``cache``"""
    return {"check": _check, "build": _build, "cache": _cache}[given.what](given)


def _check(given: argparse.Namespace) -> int:
    from ..tensorrt.check import check

    found = check(given.model, backend=given.backend)
    data = {name: getattr(found, name) for name in ("ok", "library", "version", "unchecked")}
    _say(given.json, data | {"findings": found.table.to_dict("records")}, repr(found))
    if given.output:
        path = found.fix().save(given.output)
        print(f"with all fixes: {path}", file=sys.stderr if given.json == "-" else sys.stdout)
    return 0 if found.ok else 1


def _build(given: argparse.Namespace) -> int:
    from ..model import load
    from ..tensorrt.build import build

    model = load(given.model)
    ranks = {info.name for info in model.inputs}
    shapes = {n: (v,) if n in ranks and isinstance(v, int) else v for n, v in given.shapes or ()} or None
    made = build(
        model, shapes=shapes, backend=given.backend, compute_capabilities=given.compute_capability,
        progress=sys.stderr.isatty(),
    )  # fmt: skip
    path = made.save(given.output or Path(given.model).with_suffix(".plan"))
    text = [repr(made), *_searched(made, given.log), f"written to {path}"]
    about: dict[str, Any] = {
        name: getattr(made, name) for name in ("library", "version", "seconds", "peak_bytes", "cached")
    }
    about |= {"bytes": len(made.plan), "plan": str(path)}
    _say(given.json, about, "\n".join(text))
    return 0


def _cache(given: argparse.Namespace) -> int:
    from ..model.card import size
    from ..tensorrt import cache

    freed = None if given.keep is None else cache.clear(given.keep)
    found = cache.table()
    said = [] if freed is None else [f"{size(freed)} freed"]
    about = {**found.attrs, "freed": freed or 0, "engines": found.reset_index().to_dict("records")}
    _say(given.json, about, "\n".join([*said, cache.describe(found)]))
    return 0


def _searched(made: BuildResult, pattern: str | None) -> list[str]:
    if not pattern:
        return []
    rows = made.log.search(pattern).itertuples()
    return [f"  {row.seconds:8.3f} s {row.severity}: {row.message}" for row in rows]


def _say(file: str | None, data: dict[str, Any], text: str) -> None:
    """Text to stdout, and JSON to a file; with ``-`` JSON takes the place of the text."""
    from ..figures.style import printable

    if file == "-":
        print(json.dumps(data, indent=1, default=str))
        return
    if file:
        Path(file).write_text(json.dumps(data, indent=1, default=str))
    print("\n".join(map(printable, text.splitlines())))
