"""The command ``workbench``: thin over the Python API.

Exit status: 0 fine, or equal within tolerance; 1 different; 2 could not run (message on stderr; the traceback only
with ``--debug``); 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import WorkbenchError
from . import engines, options

__all__ = ["main"]

OK, DIFFERENT, FAILED, INTERRUPTED = 0, 1, 2, 130
_ISSUE = "this is a bug in Workbench; run again with --debug for where it happened"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with the given arguments (None: of the process) and return its exit status."""
    known = parser()
    given, rest = known.parse_known_args(arguments)
    if rest and given.command != "lab":
        known.error(f"unrecognized arguments: {' '.join(rest)}")
    given.rest = rest
    from . import commands

    try:
        _check_folders(getattr(given, "output", None), getattr(given, "json", None))
        with _warnings(given.command):
            status = getattr(commands, given.command)(given)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output (head, less) has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if given.debug:
            traceback.print_exc()
        expected = isinstance(error, WorkbenchError | OSError)
        message = str(error) if expected else f"{type(error).__name__}: {error} ({_ISSUE})"
        print(f"workbench {given.command}: {message}", file=sys.stderr)
        return FAILED


@contextmanager
def _warnings(command: str) -> Iterator[None]:
    """Each warning as a line on stderr, once, and without the place in our code that it comes from."""
    told = set()

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            print(f"workbench {command}: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


def _check_folders(*files: str | None) -> None:
    """Before the work, not after it."""
    for file in files:
        if file not in (None, "-") and not Path(file).absolute().parent.is_dir():
            raise WorkbenchError(f"cannot write {file}: there is no folder {Path(file).parent}")


def parser() -> argparse.ArgumentParser:
    """Of the whole command."""
    top = argparse.ArgumentParser(
        prog="workbench",
        description="See what a change to a neural network did to accuracy and to speed, layer by layer.",
        epilog="Exit status: 0 fine or equal within tolerance, 1 different, 2 could not run.",
    )
    top.add_argument("--version", action="version", version=f"workbench {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    always = argparse.ArgumentParser(add_help=False)
    always.add_argument("--debug", action="store_true", help="show the traceback of an error")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--json", metavar="FILE", help="also write everything as JSON; '-': to stdout, in place of text"
    )

    def command(name: str, what: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=what, description=what[:1].upper() + what[1:] + ".", parents=[always, *parents]
        )

    show = command("show", "show what a model is: operators, weights, inputs, costs, findings", data)
    show.add_argument("model", metavar="M", help="an ONNX file")
    _shapes(show)
    _top(show, "rows of --nodes and --tensors", None)
    show.add_argument("--nodes", action="store_true", help="list the nodes, too")
    show.add_argument("--tensors", action="store_true", help="list the tensors, too")

    compare = command("compare", "compare every tensor of two models; exit status 1 if they differ", data)
    compare.add_argument("model", metavar="A", help="the reference, an ONNX file")
    compare.add_argument("candidate", metavar="B", help="the changed model")
    _inputs(compare, several=True)
    _comparing(compare)
    _runtime(compare)
    _top(compare, "worst tensors to list", 10)

    profile = command("profile", "measure where a model spends its time, layer by layer", data)
    profile.add_argument("model", metavar="M", help="an ONNX file")
    _inputs(profile)
    _profiling(profile)
    _runtime(profile)
    _top(profile, "layers to list", 15)

    engine = command("engine", "show a TensorRT engine from the JSON that trtexec exported", data)
    engine.add_argument("layers", metavar="LAYERS", help="of trtexec --exportLayerInfo, or a plan")
    engine.add_argument("--profile", metavar="FILE", help="layer times, of trtexec --exportProfile")
    engine.add_argument("--model", metavar="M", help="the ONNX model, to join layers to its nodes")
    engine.add_argument(
        "--gpu", metavar="NAME", help="for peaks: 'A100 80GB PCIe' ... (default: from the metadata)"
    )
    engine.add_argument(
        "--before", metavar="LAYERS", help="another engine: list what changed from it to this one"
    )
    _top(engine, "layers, findings and changes to list", 12)

    fuse = command("fuse", "fuse chains of nodes, and say what was left alone and why", data)
    fuse.add_argument("model", metavar="M", help="an ONNX file")
    fuse.add_argument("-o", "--output", metavar="FILE", help="write the fused model there")
    fuse.add_argument("--rules", metavar="NAME,NAME", help="only these, in this order (default: all)")
    fuse.add_argument("--no-functions", dest="functions", action="store_false",
                      help="leave alone what ONNX has no operator for at the model's operator set")  # fmt: skip
    fuse.add_argument(
        "--verify", action="store_true", help="take back what adds more error than the tolerance"
    )
    fuse.add_argument("--tolerance", type=float, default=1e-4, help="of --verify (default: %(default)s)")
    _inputs(fuse)

    report = command(
        "report", "compare and profile two models (or profile one) and write one HTML file", data
    )
    report.add_argument("model", metavar="A", help="the model, an ONNX file")
    report.add_argument("candidate", metavar="B", nargs="?", help="the changed model")
    report.add_argument(
        "-o", "--output", default="workbench-report.html", metavar="FILE", help="default: %(default)s"
    )
    report.add_argument("--title", help="of the report")
    _inputs(report, several=True)
    _comparing(report)
    _profiling(report)
    _runtime(report)

    precision = command("precision", "find what has to stay in float32 for fp16 or bf16, and convert", data)
    precision.add_argument("model", metavar="M", help="an ONNX file in float32")
    precision.add_argument("--to", choices=("fp16", "bf16"), default="fp16", help="default: %(default)s")
    precision.add_argument("-o", "--output", metavar="FILE", help="write the converted model here")
    precision.add_argument("--keep", metavar="NODE", nargs="+", default=[], help="nodes to keep in any case")
    precision.add_argument(
        "--max-runs", type=options.positive, help="full runs (default: 2 log2(nodes) + 20)"
    )
    precision.add_argument("--state", metavar="FILE", help="keep results here, and go on from them")
    _inputs(precision, several=True)
    _tolerance(precision)

    demo = command("demo", "the main job on a real model: compare, profile, one HTML report")
    demo.add_argument(
        "-o", "--output", default="workbench-report.html", metavar="FILE", help="default: %(default)s"
    )
    demo.add_argument(
        "--runs", type=options.positive, default=20, help="measured runs (default: %(default)s)"
    )
    demo.add_argument(
        "--threads", type=options.positive, default=1, help="of the runtime (default: %(default)s)"
    )

    engines.add(command("tensorrt", "check a model for TensorRT, or build an engine of it"), always, data)
    command("lab", "open JupyterLab on the notebooks; further options are JupyterLab's own")
    return top


def _shapes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--shapes",
        metavar="NAME=SIZES",
        type=options.shape,
        action="append",
        help="size of a symbolic dim (batch=2) or shape of an input (x=1,3,48,320); can be given several times",
    )


def _inputs(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    command.add_argument(
        "--inputs",
        metavar="PATH",
        help=".npz, .npy, Polygraphy's .json, or a folder of these (default: generated)",
    )
    _shapes(command)
    if several:
        command.add_argument(
            "--count", type=options.positive, default=1, help="inputs to generate (default: %(default)s)"
        )
    command.add_argument("--seed", type=int, default=0, help="of generated inputs (default: %(default)s)")


def _tolerance(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tolerance",
        metavar="LIMIT",
        type=options.limit,
        action="append",
        help="error that counts as equal (default: 0.001), or a limit of one measure (max_abs=0.01, snr_db=40)",
    )


def _comparing(command: argparse.ArgumentParser) -> None:
    _tolerance(command)
    command.add_argument(
        "--no-local", dest="local", action="store_false", help="leave out what each node itself adds"
    )
    command.add_argument(
        "--memory-budget",
        metavar="SIZE",
        type=options.size,
        default=128 << 20,
        help="for tensors (default: 128MiB)",
    )
    command.add_argument(
        "--as-run", action="store_true", help="compare with the graph that the runtime really executes"
    )


def _profiling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--runs", type=options.positive, default=20, help="measured runs (default: %(default)s)"
    )


def _runtime(command: argparse.ArgumentParser) -> None:
    command.add_argument("--threads", type=options.positive, help="of the runtime (default: its choice)")
    command.add_argument(
        "--optimize",
        choices=("none", "basic", "extended", "all"),
        default="all",
        help="how far the runtime may optimise what is profiled, or compared with --as-run (default: all)",
    )


def _top(command: argparse.ArgumentParser, what: str, default: int | None) -> None:
    said = "all" if default is None else "%(default)s"
    command.add_argument(
        "--top", metavar="N", type=options.positive, default=default, help=f"{what} (default: {said})"
    )
