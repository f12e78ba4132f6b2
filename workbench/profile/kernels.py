"""How fast a plugin's kernel is on a GPU, beside the same body on ONNX Runtime and the rates that this GPU reaches."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..backends import Worker
from ..backends.kernels import TRITON, kernels_of, options
from ..backends.memory import dtype_of
from ..plugins.declaration import Plugin
from ..plugins.launch import Spec

if TYPE_CHECKING:
    import pandas as pd

KERNEL, UNFUSED, OPTIMISED = "kernel", "unfused", "optimised"
_MATRIX = {"float32": 4096, "float16": 8192}
_COPY = 1 << 30
_WARM = 5


@dataclass(frozen=True)
class Rates:
    """What a GPU reached, measured in the same way as the kernels.

    Attributes:
        copy_bytes_per_s: bytes read plus bytes written by a copy of 1 GiB on the GPU.
        flops: of a square matrix product in that dtype on ONNX Runtime (float32 without TF32), a MAC being two.
    """

    copy_bytes_per_s: float
    flops: Mapping[str, float]


@dataclass(frozen=True)
class Timed:
    """One way to compute the plugin.

    Attributes:
        what: ``kernel`` (the CUDA one); ``triton``; ``unfused``: the body on ONNX Runtime, node by node;
            ``optimised``: the body as ONNX Runtime's optimiser makes it (it may know a fusion of its own).
        ms: GPU time of each run by events, the cache emptied before each.
    """

    what: str
    dtype: str
    inputs: tuple[Spec, ...]
    ms: tuple[float, ...]
    bytes: int
    flops: int

    @property
    def median(self) -> float:
        """ms."""
        return float(np.median(self.ms))


@dataclass(frozen=True)
class Bench:
    """What `Plugin.bench` measured.

    Attributes:
        copies: bytes -> bytes per second of a copy of as many.
        left_out: which kernel did not run, and why; '' where all did.
    """

    plugin: Plugin
    about: Mapping[str, Any]
    rates: Rates
    runs: tuple[Timed, ...]
    copies: Mapping[int, float]
    date: str
    left_out: str = ""

    @property
    def table(self) -> pd.DataFrame:
        """One row per dtype, shape and way; columns ``plugin``, ``dtype``, ``shapes``, ``what``, ``ms``
        (median), ``p95_ms``,
        ``bytes`` (each input read once, each output written once), ``gb_s``, ``share`` (of the bandwidth of a
        1 GiB copy),
        ``share_same`` (of a copy of as many bytes), ``intensity`` (FLOP per byte), ``gflops``, ``speedup`` (over the
        unfused body)."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """The table as plain data."""
        slow = {(run.dtype, run.inputs): run.median for run in self.runs if run.what == UNFUSED}
        found = []
        for run in self.runs:
            rate = run.bytes / run.median * 1000
            found.append(
                {
                    "plugin": self.plugin.name, "dtype": run.dtype, "shapes": ", ".join(map(str, run.inputs)),
                    "what": run.what, "ms": run.median, "p95_ms": float(np.percentile(run.ms, 95)),
                    "bytes": run.bytes, "gb_s": rate / 1e9, "share": rate / self.rates.copy_bytes_per_s,
                    "share_same": rate / self.copies[run.bytes] if run.bytes in self.copies else float("nan"),
                    "intensity": run.flops / run.bytes if run.bytes else float("nan"),
                    "gflops": run.flops / run.median / 1e6,
                    "speedup": slow.get((run.dtype, run.inputs), float("nan")) / run.median,
                }
            )  # fmt: skip
        return found

    def plot(self) -> Any:
        """A roofline (plotly): see `workbench.figures.kernel_roofline`."""
        return importlib.import_module("workbench.figures").kernel_roofline(self)

    def __str__(self) -> str:
        lines = [f"{self.plugin.name} on {self.about['name']} ({self.date}){self.left_out and f'; {self.left_out}'}"]
        for row in self.rows():
            lines.append(
                f"  {row['dtype']} {row['shapes']}: {row['what']} {row['ms']:.4f} ms, {row['gb_s']:.0f} GB/s, "
                f"{row['share']:.0%} of a copy's bandwidth ({row['share_same']:.0%} of one as large), "
                f"{row['speedup']:.1f} times the unfused"
            )
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table.style.set_caption(str(self).split("\n")[0]).to_html()


def bench(
    plugin: Plugin,
    shapes: Any = None,
    *,
    dtypes: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    kernels: Sequence[str] | None = None,
    runs: int = 50,
    rates: Rates | None = None,
    worker: Worker | None = None,
    seed: int = 0,
    timeout: float = 300.0,
) -> Bench:
    """Time a plugin's kernels on a GPU, beside its body on the same runtime.

    Args:
        shapes: of the inputs, or a list of such; None: the plugin's example.
        dtypes: None: all that the kernel is made for.
        attributes: of the plugin.
        kernels: ``cuda``, ``triton``; None: those that the plugin has (Triton's is left out, which the result says,
            where triton is not installed).
        runs: measured ones of each way.
        rates: of this GPU; None: measured.
        worker: a cuda worker to measure in, instead of a new one.
        seed: of the random inputs.
        timeout: seconds that one step may take.

    Raises:
        CompileError, PluginError: there is no kernel for it.
        BackendError: there is no GPU, CUDA (or triton, if it was asked for) is not installed, or the kernel failed.
    """
    plugin.check_kernel(())
    if worker is None:
        with Worker("cuda", timeout=timeout) as own:
            return bench(
                plugin, shapes, dtypes=dtypes, attributes=attributes, kernels=kernels, runs=runs, rates=rates,
                worker=own, seed=seed,
            )  # fmt: skip
    run, left_out = kernels_of(plugin, worker, kernels)
    rates = rates or measure_rates(worker)
    found: list[Timed] = []
    copies: dict[int, float] = {}
    for dtype in dtypes or plugin.dtypes:
        for given in shapes if isinstance(shapes, list) else [shapes]:
            specs = plugin.shapes(given, dtype)
            timed = _ways(worker, plugin, specs, dict(attributes or {}), run, runs, seed)
            found += timed
            moved = timed[0].bytes
            if moved and moved not in copies:
                copies[moved] = copy_rate(worker, moved // 2)
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Bench(plugin, worker.call("about"), rates, tuple(found), copies, date, left_out)


def _ways(
    worker: Worker,
    plugin: Plugin,
    specs: list[Spec],
    attributes: dict[str, Any],
    kernels: Sequence[str],
    runs: int,
    seed: int,
) -> list[Timed]:
    rng = np.random.default_rng(seed)
    some = rng.standard_normal(
        1 << 20, dtype=np.float32
    )  # repeated: the values do not matter, but zeros would
    feeds = {
        name: np.resize(some.astype(dtype_of(spec.dtype)), spec.shape)
        for name, spec in zip(plugin.inputs, specs, strict=True)
    }
    model = plugin.model(specs, attributes)
    body = model.inline_functions().to_proto()
    moved = sum(spec.nbytes for spec in plugin.specs(specs, attributes).values())
    flops = _operations(body)
    found = []
    ways = [(TRITON if k == TRITON else KERNEL, model.to_proto(), options(plugin, k)) for k in kernels]
    ways += [(UNFUSED, body, {"optimize": "none"}), (OPTIMISED, body, {"optimize": "all"})]
    for what, proto, given in ways:
        session = worker.load(proto.SerializeToString(), name=f"{plugin.name}, {what}", **given)
        ms = session.profile(feeds, runs=_WARM + runs, flush=True)["gpu_ms"][_WARM:]
        session.close()
        found.append(Timed(what, specs[0].dtype, tuple(specs), tuple(ms), moved, flops))
    return found


def _operations(proto: onnx.ModelProto) -> int:
    """Arithmetic of a body as written: one operation for each element that a node makes (a reduction: that it
    reads)."""
    known = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    sizes = {
        info.name: int(np.prod([dim.dim_value for dim in info.type.tensor_type.shape.dim], dtype=np.int64))
        for info in (*known.input, *known.value_info, *known.output)
    }
    skipped = ("Constant", "Cast", "CastLike", "Identity", "Reshape", "Transpose")
    return sum(
        max(sizes.get(name, 0) for name in (*node.input, *node.output) if name)
        for node in known.node
        if node.op_type not in skipped
    )


def measure_rates(worker: Worker) -> Rates:
    """What the GPU of a cuda worker reaches."""
    return Rates(copy_rate(worker, _COPY), {dtype: _matrix_rate(worker, dtype) for dtype in _MATRIX})


def copy_rate(worker: Worker, nbytes: int) -> float:
    """Bytes read plus written per second by a copy of `nbytes` on the GPU (median)."""
    return 2 * nbytes / float(np.median(worker.call("copy_ms", nbytes=nbytes))) * 1000


def _matrix_rate(worker: Worker, dtype: str) -> float:
    n = _MATRIX[dtype]
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    infos = [onnx.helper.make_tensor_value_info(name, kind, [n, n]) for name in "aby"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["y"])], "g", infos[:2], infos[2:]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal((n, n), dtype=np.float32).astype(dtype) for name in "ab"}
    session = worker.load(model.SerializeToString(), name="matrix product")
    ms = session.profile(feeds, runs=10)["gpu_ms"]
    session.close()
    return 2.0 * n**3 / float(np.median(ms)) * 1000
