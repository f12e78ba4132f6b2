"""A plugin's kernel against its body in float64, on a GPU: many shapes, values that break things, watched memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Worker
from ..backends.kernels import TRITON, kernels_of, options
from ..backends.memory import dtype_of
from ..errors import BackendCrashed, BackendFailed, BackendTimeout
from ..plugins.declaration import Plugin
from ..plugins.launch import Spec

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
"""|kernel - body| <= tolerance * (1 + |body|), by dtype of the output; other dtypes must be equal.
Of a 16-bit type that is 4 units in the last place: a kernel may round in between as the operators that it
replaces do."""
_START_S = 120.0  # seconds until a worker has loaded CUDA's libraries
_TRITON_S = 30.0  # seconds that Triton may need beside, to compile
_LARGE = 1 << 21  # elements: above, the first dim of the example is cut
_LAST = (1, 7, 129, 264, 1000, 4096, 50257)


@dataclass(frozen=True)
class Case:
    """One input set: what it is for, dtype, shapes, what came out.

    Attributes:
        verdict: ``equal within tolerance``, or what is wrong.
        kernel: ``cuda`` or ``triton``.
        error: largest |kernel - body| / (1 + |body|) over the finite elements of all outputs.
    """

    what: str
    dtype: str
    shapes: str
    verdict: str
    error: float = float("nan")
    kernel: str = "cuda"

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict == "equal within tolerance"


@dataclass(frozen=True)
class KernelCheck:
    """What `Plugin.check` found. ``bool(check)`` is whether every case is fine.

    Attributes:
        left_out: which kernel did not run, and why; '' where all did.
    """

    plugin: Plugin
    device: str
    cases: tuple[Case, ...] = field(repr=False)
    left_out: str = ""

    @property
    def ok(self) -> bool:
        """Whether every case is fine."""
        return all(case.ok for case in self.cases)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def table(self) -> pd.DataFrame:
        """One row per case; columns ``what``, ``dtype``, ``shapes``, ``verdict``, ``error``, ``kernel``."""
        import pandas as pd

        return pd.DataFrame([vars(case) for case in self.cases])

    def __str__(self) -> str:
        wrong = [case for case in self.cases if not case.ok]
        fine = f"{len(self.cases) - len(wrong)} of {len(self.cases)} cases are fine"
        head = f"{self.plugin.name} on {self.device}: {fine}{self.left_out and f'; {self.left_out}'}"
        return "\n".join([head, *(f"  {c.kernel}, {c.what}, {c.dtype} {c.shapes}: {c.verdict}" for c in wrong)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table.style.set_caption(str(self).split("\n")[0]).to_html()


def check(
    plugin: Plugin,
    shapes: Any = None,
    *,
    dtypes: Sequence[str] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    attributes: Mapping[str, Any] | None = None,
    kernels: Sequence[str] | None = None,
    seed: int = 0,
    timeout: float = 20.0,
) -> KernelCheck:
    """Run a plugin's kernels on a GPU beside its body (or numpy reference) in float64.

    Every tensor lies between watched bytes, the outputs are poisoned, and every case runs twice with other
    poison: writing
    out of bounds, changing an input and leaving elements unwritten are found. A kernel that crashes or never ends costs
    the worker process, which is replaced; the other cases of that kernel and dtype are then left out.

    Args:
        shapes: of the inputs, for one case with random values; None: many (odd and zero sizes, rows longer than a block
            holds, NaN and Inf, the example).
        dtypes: of all inputs; None: all that the kernel is made for.
        inputs: arrays by input name: one case with these, in their dtypes.
        attributes: of the plugin.
        kernels: ``cuda``, ``triton``; None: those that the plugin has (Triton's is left out, which the result says,
            where triton is not installed).
        seed: of the random values.
        timeout: seconds that one case may take (Triton's 30 more, to compile).

    Raises:
        CompileError: the kernel does not compile.
        PluginError: it has none, or it does not take these inputs.
        BackendError: there is no GPU, or CUDA (or triton, if it was asked for) is not installed.
    """
    plugin.check_kernel(())
    cases: list[Case] = []
    lab = _Lab(plugin, dict(attributes or {}), timeout)
    try:
        device = lab.worker.call("about")["name"]
        run, left_out = kernels_of(plugin, lab.worker, kernels)
        for kernel in run:
            for dtype, group in _groups(plugin, shapes, dtypes, inputs, seed):
                lab.lost = ""
                cases += [lab.case(what, dtype, arrays, kernel) for what, arrays in group]
    finally:
        lab.close()
    return KernelCheck(plugin, device, tuple(cases), left_out)


def _groups(
    plugin: Plugin, shapes: Any, dtypes: Sequence[str] | None, inputs: Mapping[str, np.ndarray] | None, seed: int
) -> Iterator[tuple[str, Iterable[tuple[str, dict[str, np.ndarray]]]]]:
    """(dtype, its cases)."""
    if inputs is not None:
        arrays = {name: np.asarray(inputs[name]) for name in plugin.inputs}
        yield next(iter(arrays.values())).dtype.name, [("given", arrays)]
        return
    for dtype in dtypes or plugin.dtypes:
        yield dtype, _arrays(plugin, shapes, dtype, seed)


def _arrays(
    plugin: Plugin, shapes: Any, dtype: str, seed: int
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(what for, input arrays) of each case."""
    rng = np.random.default_rng(seed)

    def random(specs: Sequence[Spec], special: bool = False) -> dict[str, np.ndarray]:
        made = {}
        for name, spec in zip(plugin.inputs, specs, strict=True):
            kind = dtype_of(spec.dtype)
            values = (
                rng.standard_normal(spec.shape) * 2
                if kind.kind not in "iub"
                else rng.integers(0, 8, spec.shape)
            )
            if special and values.size and name == plugin.inputs[0] and kind.kind not in "iub":
                flat = values.reshape(-1)
                flat[rng.integers(0, flat.size, 6)] = [np.nan, np.inf, -np.inf] * 2
            made[name] = np.asarray(values).astype(kind)
        return made

    if shapes is not None:
        yield "given shapes", random(plugin.shapes(shapes, dtype))
        return
    first = plugin.shapes(None, dtype)[0].shape
    lead = tuple(3 if i % 2 else 5 for i in range(len(first) - 1))
    for last in _LAST if first else ():
        yield f"last dim {last}", random(plugin.shapes((*lead, last), dtype))
    if len(first) > 1:
        yield "no rows", random(plugin.shapes((0, *lead[1:], 64), dtype))
    yield "NaN and Inf", random(plugin.shapes((*lead, 264) if first else (), dtype), special=True)
    whole = plugin.shapes(None, dtype)
    fewer = max(1, whole[0].size // _LARGE)
    yield (
        "large",
        random(
            whole
            if fewer == 1 or len(first) < 2
            else plugin.shapes((-(-first[0] // fewer), *first[1:]), dtype)
        ),
    )


class _Lab:
    """A worker that is replaced when a kernel has ended it."""

    def __init__(self, plugin: Plugin, attributes: dict[str, Any], timeout: float):
        self.plugin, self.attributes, self.timeout = plugin, attributes, timeout
        self.worker = self._started()
        self.lost = ""

    def _started(self) -> Worker:
        worker = Worker("cuda", timeout=_START_S)
        worker.version  # noqa: B018 - its start does not count
        return worker

    def close(self) -> None:
        self.worker.close()

    def case(self, what: str, dtype: str, arrays: dict[str, np.ndarray], kernel: str) -> Case:
        """One case with one kernel."""
        specs = [Spec(array.dtype.name, array.shape) for array in arrays.values()]
        error, verdict = float("nan"), f"not run: {self.lost}"
        if not self.lost:
            error, verdict = self._judged(what, specs, arrays, kernel)
        return Case(what, dtype, ", ".join(map(str, specs)), verdict, error, kernel)

    def _judged(
        self, what: str, specs: list[Spec], arrays: dict[str, np.ndarray], kernel: str
    ) -> tuple[float, str]:
        """(error, verdict)."""
        plugin = self.plugin
        model = plugin.model(specs, self.attributes).to_proto().SerializeToString()
        self.worker.timeout = self.timeout + (_TRITON_S if kernel == TRITON else 0)
        try:
            session = self.worker.load(model, name=plugin.name, guard=True, **options(plugin, kernel))
            results = session.run(arrays)
            session.close()
        except (BackendCrashed, BackendTimeout) as error:
            return self._replaced(what, str(error))
        except BackendFailed as error:
            if "does not compile" in str(error):  # again, for the user's lines
                plugin.compile(dtypes=[specs[0].dtype], archs=[self.worker.call("about")["arch"]])
            if "CUDA_ERROR" in str(error):
                return self._replaced(what, str(error))
            return float("nan"), str(error).split(": ", 1)[-1]
        return _judge(results, reference(plugin, arrays, self.attributes))

    def _replaced(self, what: str, why: str) -> tuple[float, str]:
        self.worker.close()
        self.worker = self._started()
        self.lost = f"the kernel ended its worker at {what!r}"
        return float("nan"), f"{why} (the worker was replaced)"


def reference(
    plugin: Plugin, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The outputs in float64: of the numpy reference if the plugin has one, else of its body in onnx's evaluator."""
    wide = {n: a.astype(np.float64) if a.dtype.kind not in "iub" else a for n, a in arrays.items()}
    with np.errstate(all="ignore"):
        if plugin.reference is not None:
            made = plugin.reference(*wide.values(), **plugin.given(attributes))
            made = made if isinstance(made, tuple) else (made,)
        else:
            from onnx.reference import ReferenceEvaluator

            specs = [Spec(array.dtype.name, array.shape) for array in wide.values()]
            made = ReferenceEvaluator(plugin.model(specs, attributes).to_proto()).run(None, wide)
    return dict(zip(plugin.outputs, map(np.asarray, made), strict=True))


def _judge(results: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """(largest relative error, verdict)."""
    worst = 0.0
    for (name, got), want in zip(results.items(), wanted.values(), strict=True):
        if got.shape != want.shape:
            return worst, f"output {name!r} has shape {got.shape}, the body gives {want.shape}"
        tolerance = TOLERANCE.get(got.dtype.name, 0.0)
        with np.errstate(all="ignore"):
            want = want.astype(got.dtype).astype(np.float64)  # what lies beyond the type's range is Inf there
            mine = got.astype(np.float64)
            odd = ~np.isfinite(want)
            for what, test in (("NaN", np.isnan), ("Inf", np.isposinf), ("-Inf", np.isneginf)):
                if (test(mine) != test(want)).any():
                    at = tuple(map(int, np.argwhere(test(mine) != test(want))[0]))
                    return (
                        worst,
                        f"output {name!r} at {at}: got {mine[at]}, the body gives {want[at]} ({what})",
                    )
            error = np.abs(mine - want)[~odd] / (1 + np.abs(want)[~odd])
        if error.size:
            worst = max(worst, float(error.max()))
            if worst > tolerance:
                flat = np.zeros(want.shape)
                flat[~odd] = error
                at = tuple(map(int, np.unravel_index(int(np.nanargmax(flat)), flat.shape)))
                return worst, (
                    f"output {name!r} at {at}: got {mine[at]:.6g}, the body gives {want[at]:.6g}; relative error "
                    f"{worst:.2g}, expected at most {tolerance:g}"
                )
    return worst, "equal within tolerance"
