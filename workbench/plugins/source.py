"""What is given to NVRTC for a kernel: the user's source with its types in front and a check of its signature behind;
and what the compiler says about it, read back in lines of the user's source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .declaration import Plugin
from .launch import Launch, Spec

HEADER = "workbench.cuh"
ARCHS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_120")
"""Compute capabilities that kernels are compiled for: A100, RTX 30, RTX 40 / L4, H100 / H200, RTX 50."""
OPTIONS = ("--std=c++17", "--ptxas-options=-v", "-default-device", "-lineinfo")
_TYPES = {
    "float32": "float", "float64": "double", "float16": "wb::half", "bfloat16": "wb::bfloat16", "bool": "bool",
    "int8": "signed char", "uint8": "unsigned char", "int32": "int", "uint32": "unsigned int",
    "int64": "long long", "uint64": "unsigned long long",
}  # fmt: skip
_USER = "wb_user_source"
_MESSAGE = re.compile(rf"^{_USER}\((\d+)\): (?:catastrophic )?error: (.*)$", re.M)
_OTHER = re.compile(r"^.*?\b(?:error|fatal)\b\s*:?\s*(.*)$", re.M)
_ENTRY = re.compile(r"Compiling entry function '([^']+)'")


@lru_cache(maxsize=1)
def header() -> str:
    """The text of ``workbench.cuh``."""
    return (Path(__file__).parent / HEADER).read_text()


def complete(plugin: Plugin, inputs: Sequence[Spec], attributes: Mapping[str, Any] | None = None) -> str:
    """The whole source for inputs of these dtypes (the rest only matters for types of outputs and arguments).

    Behind the user's source stands an assertion that the kernel takes what it will be given: a pointer too few, or an
    ``int`` where a ``long long`` arrives, would be read from memory as something else.
    """
    specs = plugin.specs(inputs, attributes)
    launch = plugin.launch(inputs, attributes)
    names = (*plugin.inputs, *plugin.outputs)
    types = [f"typedef {_TYPES[specs[name].dtype]} T_{_identifier(name)};" for name in names]
    first = _identifier(names[0])
    wanted = parameters(plugin, specs, launch)
    assertion = (
        "\nnamespace wb { template <class A, class B> struct Same { enum { yes = 0 }; }; "
        "template <class A> struct Same<A, A> { enum { yes = 1 }; }; }\n"
        f'#line 1 "{_USER}_end"\n'
        f"static_assert(wb::Same<decltype({plugin.kernel}), void({', '.join(kind for kind, _ in wanted)})>::yes, "
        f'"kernel {plugin.kernel} must take ({", ".join(f"{kind} {name}" for kind, name in wanted)})");\n'
    )
    front = "\n".join([f'#include "{HEADER}"', *types, f"typedef T_{first} T;"])
    return f'{front}\n#line 1 "{_USER}"\n{plugin.cuda}{assertion}'


def parameters(plugin: Plugin, specs: dict[str, Spec], launch: Launch) -> list[tuple[str, str]]:
    """(C++ type, name) of each parameter that the kernel must have."""
    found = [(f"const {_TYPES[specs[name].dtype]}*", name) for name in plugin.inputs]
    found += [(f"{_TYPES[specs[name].dtype]}*", name) for name in plugin.outputs]
    values = zip(plugin.rule.args, launch.values, strict=True)
    return found + [("float" if isinstance(v, float) else "long long", name) for (name, _), v in values]


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def key(source: str, arch: str, version: str) -> str:
    """sha256 (hex) under which a compiled kernel is kept."""
    return hashlib.sha256("\0".join((source, header(), arch, version, *OPTIONS)).encode()).hexdigest()


@dataclass(frozen=True)
class Resources:
    """What a kernel takes of a multiprocessor, as ptxas reports it.

    Attributes:
        registers: of a thread.
        spill_stores, spill_loads, stack: bytes of local memory of a thread.
        shared: bytes of static shared memory of a block.
    """

    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    shared: int


def resources(log: str, kernel: str) -> Resources:
    """Read the report of ptxas for one kernel."""
    parts = _ENTRY.split(log)
    text = next((text for name, text in zip(parts[1::2], parts[2::2], strict=True) if name == kernel), log)

    def number(pattern: str) -> int:
        found = re.search(pattern, text)
        return int(found[1]) if found else 0

    return Resources(
        number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes spill loads"),
        number(r"(\d+) bytes stack frame"), number(r"(\d+) bytes smem"),
    )  # fmt: skip


def errors(plugin: Plugin, log: str) -> list[tuple[int, str]]:
    """(line where the user wrote it, what the compiler says) of each error in its log."""
    last = len(plugin.cuda.splitlines())
    found = []
    for line, text in _MESSAGE.findall(log):
        behind = " (at the end of the source: is a bracket left open?)" if int(line) > last else ""
        found.append((min(int(line), last) + plugin.place.line - 1, text.strip() + behind))
    asserted = re.search(r'static assertion failed with "(.*?)"', log)
    if asserted and not found:
        found = [(_kernel_line(plugin), asserted[1])]
    return found or [(plugin.place.line, (_OTHER.search(log) or ["", log.strip()])[1] or log.strip())]


def not_found(plugin: Plugin, log: str) -> list[tuple[int, str]]:
    """The error, as `errors` gives it, of a kernel whose name is not in what was compiled: C++ has mangled it."""
    if plugin.kernel in (made := _ENTRY.findall(log)) or not made:
        return []
    return [(_kernel_line(plugin), f'kernel {plugin.kernel} has no C linkage; write extern "C" in front of __global__')]


def _kernel_line(plugin: Plugin) -> int:
    lines = enumerate(plugin.cuda.splitlines(), plugin.place.line)
    return next((n for n, text in lines if re.search(rf"\b{plugin.kernel}\b", text)), plugin.place.line)


def message(plugin: Plugin, dtype: str, arch: str, found: list[tuple[int, str]]) -> str:
    """The text of a CompileError: each error with its line and that line's text."""
    lines = plugin.cuda.splitlines()
    shown = []
    for line, text in found[:5]:
        at = line - plugin.place.line
        code = f"\n    {line:>4} | {lines[at]}" if 0 <= at < len(lines) else ""
        shown.append(f"  line {line} of {plugin.place.file}: {text}{code}")
    more = f"\n  and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"the kernel of plugin {plugin.name!r} does not compile for {arch} with T = {_TYPES[dtype]}; expected CUDA C++ "
        "as NVRTC takes it; mend:\n" + "\n".join(shown) + more
    )
