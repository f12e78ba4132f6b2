"""Declaring a plugin: the parts are checked against one another before anything is compiled."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx

from ..errors import PluginError
from . import body as bodies
from .declaration import KERNEL_DTYPES, Place, Plugin, numbers
from .launch import Rule

_BOUNDS = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
_KERNEL = re.compile(rf"(?:__global__\s+{_BOUNDS}void|void\s+__global__)\s+{_BOUNDS}(\w+)")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)


def plugin(
    name: str,
    *,
    body: Any,
    cuda: str = "",
    kernel: str = "",
    args: Mapping[str, str | int] | None = None,
    grid: str | int | Sequence[str | int] | None = None,
    block: str | int | Sequence[str | int] = 256,
    shared: str | int = 0,
    requires: str | Sequence[str] = (),
    dtypes: str | Sequence[str] = ("float32", "float16"),
    example: Mapping[str, Sequence[int]] | None = None,
    reference: Callable[..., Any] | None = None,
    triton: str = "",
    place: Place | None = None,
) -> Plugin:
    """Declare a custom operator.

    Args:
        name: of the operator, in domain ``workbench``; one that no ONNX operator has.
        body: what it computes, in ONNX: text of ONNX's function syntax, an onnxscript function, a FunctionProto, or
            ``(model, node names)`` (whose constants keep their type: name it in `dtypes`). Its inputs, outputs
            and attributes are those of the plugin.
        cuda: CUDA C++ source of a kernel ``__global__ void f(const T_x* x, ..., T_y* y, ..., arguments)``: pointers to
            the inputs, then to the outputs, then `args`. ``T_<name>`` is the type of that tensor, ``T`` that of the
            first input; a file ``workbench.cuh`` with 16-byte packs, 16-bit floats and row reductions is included.
        kernel: name of the kernel; by default the only ``__global__`` function.
        args: name -> expression (see `workbench.plugins.launch`) of what follows the pointers: an int arrives as
            ``long long``, a float as ``float``; by default ``{"n": "size(<first output>)"}``.
        grid, block, shared: one to three expressions; by default a grid with a thread for each element of the
            first output.
        requires: conditions (expressions) that the kernel relies on, for example ``size(bias) == cols(x)``: a body may
            broadcast where a kernel does not. A call that does not meet one is refused.
        dtypes: of the first input, for which the kernel is made.
        example: input -> shape, used by reports, `Plugin.check` and `Plugin.bench` when none is given.
        reference: numpy function of (inputs..., attributes as keywords) in float64 that gives the outputs.
        triton: Python source that defines ``launch(inputs, outputs, **attributes)`` on torch tensors: the same
            in Triton, checked and timed beside the CUDA kernel by `Plugin.check` and `Plugin.bench`, and run
            instead of it by the cuda backend's option ``triton={plugin.name: plugin.triton}``. It does not travel in
            a model: a file that brings Python to be executed is not to be trusted.
        place: where `cuda` stands, for error messages; by default it is looked for in the caller's cell or file.

    Raises:
        PluginError: the parts do not fit together, with the part.
    """
    check_name(name)
    made = bodies.function(name, body)
    found = _kernel(name, cuda, kernel)
    size = f"size({made.output[0]})"
    rule = Rule(
        _arguments(name, {"n": size} if args is None else args),
        _texts(name, "grid", f"ceil_div({size}, block_x)" if grid is None else grid),
        _texts(name, "block", block),
        _texts(name, "shared", shared)[0],
        _texts(name, "requires", requires),
    )
    rule.check(name, frozenset([*made.input, *made.output]), numbers(made))
    dtypes = (dtypes,) if isinstance(dtypes, str) else tuple(dtypes)
    wrong = [dtype for dtype in dtypes if dtype not in KERNEL_DTYPES]
    if wrong or not dtypes:
        raise PluginError(
            f"plugin {name!r}: got the dtypes {list(dtypes)}, expected some of {', '.join(KERNEL_DTYPES)}"
        )
    _check_triton(name, triton)
    if not isinstance(example or {}, Mapping):
        raise PluginError(f"plugin {name!r}: got example={example!r}, expected {{input: shape}}")
    for port, shape in (example or {}).items():
        if port not in made.input or isinstance(shape, int | str):
            raise PluginError(
                f"plugin {name!r}: got {port!r}: {shape!r} in example=, expected a shape for each of "
                f"{', '.join(map(repr, made.input))}"
            )
    return Plugin(
        name, made.SerializeToString(deterministic=True), cuda, found, rule, dtypes,
        tuple((key, tuple(shape)) for key, shape in (example or {}).items()),
        place or _place(cuda), reference, triton,
    )  # fmt: skip


def _kernel(name: str, cuda: str, kernel: str) -> str:
    """The name of the ``__global__`` function; '' without a source."""
    if not isinstance(cuda, str):
        raise PluginError(f"plugin {name!r}: got {type(cuda).__name__} in cuda=, expected the text of the source")
    if not cuda:
        return kernel
    kernels = _KERNEL.findall(_COMMENT.sub(" ", cuda))
    if kernel not in kernels and (kernel or len(kernels) != 1):
        listed = ", ".join(map(repr, kernels)) or "none"
        path = "; it takes the text of a file, not its path" if "\n" not in cuda and not kernels else ""
        raise PluginError(
            f"plugin {name!r}: the source has the __global__ functions {listed}; expected "
            f"{repr(kernel) if kernel else 'exactly one, or its name in kernel='}{path}"
        )
    return kernel or kernels[0]


def _arguments(name: str, args: Mapping[str, str | int]) -> tuple[tuple[str, str], ...]:
    if not isinstance(args, Mapping):
        raise PluginError(f"plugin {name!r}: got args={args!r}, expected {{name: expression}}")
    for argument in args:
        if not isinstance(argument, str) or not re.fullmatch(r"[A-Za-z_]\w*", argument):
            raise PluginError(f"plugin {name!r}: got {argument!r} in args=, expected a name of letters, digits and _")
    return tuple((argument, _texts(name, f"args[{argument!r}]", text)[0]) for argument, text in args.items())


def _check_triton(name: str, source: str) -> None:
    """Refuse a Triton source that is no Python, or that defines no ``launch``."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise PluginError(f"plugin {name!r}: line {error.lineno} of triton= is no Python ({error.msg})") from None
    if source and "launch" not in [getattr(node, "name", "") for node in tree.body]:
        raise PluginError(f"plugin {name!r}: triton= defines no launch(inputs, outputs, **attributes)")


def check_name(name: str) -> None:
    """Refuse a name that is none, or that an ONNX operator has in any domain: TensorRT's parser ignores domains."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise PluginError(f"a plugin cannot be named {name!r}; expected letters, digits and _")
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.name.lower() == name.lower():
            raise PluginError(
                f"a plugin cannot be named {name!r}: domain {schema.domain or 'ai.onnx'!r} has the operator "
                f"{schema.name}, and runtimes that ignore domains would take it for that; choose another, for example "
                f"'Fused{schema.name}'"
            )


def _texts(name: str, what: str, value: str | int | Sequence[str | int]) -> tuple[str, ...]:
    """Expressions, one or several, as text."""
    given = (value,) if isinstance(value, str | int) else value
    if not isinstance(given, Sequence) or not all(isinstance(item, str | int) for item in given):
        raise PluginError(f"plugin {name!r}: got {what}={value!r}, expected an expression (text or an int), or several")
    return tuple(map(str, given))


def _place(cuda: str) -> Place:
    """Where the source stands in the cell or file that called `plugin`."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    if frame is None or not cuda.strip():
        return Place()
    file = frame.f_code.co_filename
    text = "".join(linecache.getlines(file, frame.f_globals))
    at = text.find(cuda)
    if at < 0:
        return Place()
    line = text.count("\n", 0, at) + 1
    return Place("the cell" if "ipykernel" in file or file.startswith("<ipython") else file, line)
