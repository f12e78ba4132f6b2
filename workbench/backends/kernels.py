"""Compiling plugins' kernels, in a worker process and without a GPU; cubins are kept by content.

The cache is ``$XDG_CACHE_HOME/workbench/kernels`` (or ``~/.cache/workbench/kernels``): one file per source, dtype,
architecture and version of NVRTC.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackendNotInstalled, CompileError, PluginError
from ..plugins import source as sources
from ..plugins.declaration import Plugin
from ..plugins.launch import Spec
from ..plugins.occupancy import Occupancy, occupancy
from ..plugins.source import ARCHS, Resources
from .process import Worker

if TYPE_CHECKING:
    import pandas as pd

Compiler = Callable[..., dict[str, Any]]
"""`workbench.backends.nvrtc.Runtime.compile`, here or in a worker."""
CUDA, TRITON = "cuda", "triton"
"""The kernels that a declaration may carry."""
TIMEOUT_S = 60.0
"""Seconds that one kernel may take to compile: templates can recurse without an end."""


@dataclass(frozen=True)
class Compiled:
    """One kernel, for one architecture and dtype.

    Attributes:
        cubin: machine code.
        cached: whether it was there already.
    """

    arch: str
    dtype: str
    cubin: bytes
    resources: Resources
    cached: bool


@dataclass(frozen=True)
class CompileReport:
    """What became of a plugin's kernel, for each dtype and architecture.

    Attributes:
        kernels: one per row of the table.
        threads: of a block, for the shapes of the report.
    """

    plugin: Plugin
    kernels: tuple[Compiled, ...]
    occupancies: tuple[Occupancy, ...]
    threads: Mapping[str, int]
    version: str

    @property
    def table(self) -> pd.DataFrame:
        """Index (``dtype``, ``arch``); columns ``registers`` (of a thread), ``spill_stores``, ``spill_loads``,
        ``stack``
        (bytes of a thread), ``shared`` (static, bytes of a block), ``threads`` (of a block), ``occupancy`` (0 to 1),
        ``blocks`` (at a time on a multiprocessor), ``limit`` (what limits them), ``bytes`` (of machine code)."""
        import pandas as pd

        rows = [
            {
                "dtype": kernel.dtype, "arch": kernel.arch, **vars(kernel.resources),
                "threads": self.threads[kernel.dtype], "occupancy": held.share, "blocks": held.blocks,
                "limit": held.limit, "bytes": len(kernel.cubin),
            }
            for kernel, held in zip(self.kernels, self.occupancies, strict=True)
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index(["dtype", "arch"])

    def __str__(self) -> str:
        spills = sum(k.resources.spill_stores + k.resources.spill_loads for k in self.kernels)
        least = min((held.share for held in self.occupancies), default=0.0)
        return (
            f"{self.plugin.signature}: kernel {self.plugin.kernel} compiled {len(self.kernels)} times "
            f"(NVRTC {self.version}), "
            f"{f'{spills} bytes of spills' if spills else 'no spills'}, "
            f"occupancy {least:.0%}{' or more' if least < 1 else ''}\n{self.table.to_string()}"
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return (
            self.table.style.format({"occupancy": "{:.0%}"}).set_caption(str(self).split("\n")[0]).to_html()
        )


def compile_plugin(
    plugin: Plugin,
    *,
    dtypes: str | Sequence[str] | None = None,
    archs: str | Sequence[str] = ARCHS,
    shapes: Any = None,
    attributes: Mapping[str, Any] | None = None,
) -> CompileReport:
    """Compile a plugin's kernel; no GPU is needed.

    Args:
        dtypes: of the first input (the others follow); None: all that the kernel is made for.
        archs: ``sm_80`` (A100), ``sm_86``, ``sm_89``, ``sm_90`` (H100, H200), ``sm_120`` or others that NVRTC knows.
        shapes: of the inputs, for the block size that occupancy is computed with; None: the plugin's example.
        attributes: of the plugin, as a launch rule may use them.

    Raises:
        CompileError: the source does not compile; with the lines of the cell or file that it was written in.
        PluginError: the plugin has no kernel, or not for these dtypes.
        BackendError: NVRTC is not installed, gave no answer in time, or died.
    """
    kernels, held, threads = [], [], {}
    dtypes = [dtypes] if isinstance(dtypes, str) else dtypes
    archs = [archs] if isinstance(archs, str) else archs
    with Worker("nvrtc", timeout=TIMEOUT_S) as worker:
        for dtype in dtypes or plugin.dtypes:
            inputs = plugin.shapes(shapes, dtype)
            launch = plugin.launch(inputs, attributes)
            threads[dtype] = launch.threads
            for arch in archs:
                done = compiled(
                    plugin, inputs, attributes, arch, lambda **given: worker.call("compile", **given), worker.version
                )
                kernels.append(done)
                held.append(
                    occupancy(
                        arch, launch.threads, done.resources.registers, done.resources.shared + launch.shared
                    )
                )
        return CompileReport(plugin, tuple(kernels), tuple(held), threads, worker.version)


def compiled(
    plugin: Plugin,
    inputs: Sequence[Spec],
    attributes: Mapping[str, Any] | None,
    arch: str,
    compiler: Compiler,
    version: str,
) -> Compiled:
    """The kernel for a call with inputs of these dtypes: from the cache, or from the compiler.

    Raises:
        CompileError: see `compile_plugin`.
    """
    plugin.check_kernel(inputs)
    text = sources.complete(plugin, inputs, attributes)
    dtype = inputs[0].dtype if inputs else plugin.dtypes[0]
    path = folder() / "kernels" / sources.key(text, arch, version)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or written halfway
        noted = json.loads(path.with_suffix(".json").read_text())
        return Compiled(arch, dtype, path.with_suffix(".cubin").read_bytes(), Resources(**noted), True)
    done = compiler(
        source=text, title=plugin.name, arch=arch, options=list(sources.OPTIONS),
        headers={sources.HEADER: sources.header()}, cache=str(folder()),
    )  # fmt: skip
    if found := sources.not_found(plugin, done["log"]) if done["cubin"] else sources.errors(plugin, done["log"]):
        raise CompileError(sources.message(plugin, dtype, arch, found), found)
    used = sources.resources(done["log"], plugin.kernel)
    with contextlib.suppress(OSError):  # the cache saves time only: a read-only home is no reason to fail
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix, data in ((".cubin", done["cubin"]), (".json", json.dumps(vars(used)).encode())):
            part = path.with_suffix(f"{suffix}.{os.getpid()}")
            part.write_bytes(data)
            part.replace(path.with_suffix(suffix))
    return Compiled(arch, dtype, done["cubin"], used, False)


def folder() -> Path:
    """Workbench's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "workbench"


def kernels_of(
    plugin: Plugin, worker: Worker, asked: Sequence[str] | None = None
) -> tuple[list[str], str]:
    """Which of a plugin's kernels a cuda worker is to run, and what to say of those that it cannot.

    Raises:
        PluginError: the plugin has not those that were asked for.
        BackendNotInstalled: Triton's was asked for, and cannot run there.
    """
    has = [CUDA, *([TRITON] if plugin.triton else [])]
    if wrong := [kernel for kernel in asked or () if kernel not in has]:
        raise PluginError(
            f"plugin {plugin.name!r} has no kernel {wrong[0]!r}; got kernels={list(asked or ())}, expected some of "
            f"{has}; declare one with cuda= or triton="
        )
    run = list(asked or has)
    if TRITON not in run or not (why := worker.call("no_triton")):
        return run, ""
    if asked:
        raise BackendNotInstalled(f"the Triton kernel of plugin {plugin.name!r} cannot run: {why}", backend="cuda")
    return [CUDA], f"its Triton kernel was not run: {why}"


def options(plugin: Plugin, kernel: str) -> dict[str, Any]:
    """What `Worker.load` takes, for that kernel of a plugin to run."""
    return {"triton": {plugin.name: plugin.triton}} if kernel == TRITON else {}
