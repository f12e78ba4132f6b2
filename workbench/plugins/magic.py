"""The cell magic ``%%cuda_plugin``: a kernel in a notebook cell, compiled when the cell runs.

    %load_ext workbench

    %%cuda_plugin FusedScale --body body --args "n=size(x)" --grid "ceil_div(size(x), 256)" --block 256
    extern "C" __global__ void scale(const T* x, T* y, long long n) { ... }

``--body`` is a variable of the notebook (ONNX text, an onnxscript function, a FunctionProto, or (model, node
names)). The
plugin is then in the variable ``--out`` (by default its name), and the report of the compiler is shown. Errors name the
line of the cell.
"""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from ..errors import PluginError
from .declaration import Place, Plugin
from .declare import plugin


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise PluginError(f"%%cuda_plugin: {message}; {self.format_usage().strip()}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="%%cuda_plugin", add_help=False)
    parser.add_argument("name")
    parser.add_argument("--body", required=True, help="variable that holds the body")
    parser.add_argument("--out", default="", help="variable for the plugin")
    parser.add_argument(
        "--args", action="append", default=[], help="name=expression; again for each argument"
    )
    parser.add_argument("--grid", action="append", help="expression; again for y and z")
    parser.add_argument("--block", action="append", help="expression; again for y and z")
    parser.add_argument("--shared", default="0")
    parser.add_argument("--kernel", default="")
    parser.add_argument("--dtypes", default="float32,float16")
    parser.add_argument("--example", default="", help="variable that holds {input: shape}")
    parser.add_argument("--archs", default="", help="for example sm_80,sm_90")
    return parser


def declare(line: str, cell: str, variables: dict[str, Any]) -> tuple[str, Plugin, Any]:
    """What the magic does: (variable, plugin, report of the compiler).

    Args:
        line: the rest of the line with ``%%cuda_plugin``.
        cell: the lines below, the CUDA source.
        variables: of the notebook.

    Raises:
        PluginError, CompileError: see `plugin` and `Plugin.compile`; lines are those of the cell, the magic
            being line 1.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise PluginError(f"%%cuda_plugin: {line!r} cannot be read: {error}") from None
    given = _parser().parse_args(words)
    if given.out and not given.out.isidentifier():
        raise PluginError(f"%%cuda_plugin {given.name}: got --out {given.out!r}, expected the name of a variable")
    for name in filter(None, (given.body, given.example)):
        if name not in variables:
            raise PluginError(
                f"%%cuda_plugin {given.name}: there is no variable {name!r}; define it in a cell before"
            )
    pairs = [item.split("=", 1) for item in given.args]
    if any(len(pair) != 2 for pair in pairs):
        raise PluginError(
            f"%%cuda_plugin {given.name}: got --args {given.args}, expected name=expression in each"
        )
    made = plugin(
        given.name,
        body=variables[given.body],
        cuda=cell,
        kernel=given.kernel,
        args={name.strip(): text for name, text in pairs} or None,
        grid=given.grid,
        block=given.block or 256,
        shared=given.shared,
        dtypes=given.dtypes.split(","),
        example=variables[given.example] if given.example else None,
        place=Place("the cell", 2),
    )
    options = {"archs": given.archs.split(",")} if given.archs else {}
    return given.out or given.name, made, made.compile(**options)


def load_ipython_extension(ipython: Any) -> None:
    """For ``%load_ext workbench``."""

    def cuda_plugin(line: str, cell: str) -> Any:
        variable, made, report = declare(line, cell, ipython.user_ns)
        ipython.push({variable: made})
        return report

    ipython.register_magic_function(cuda_plugin, "cell")
