"""ONNX Runtime on the CPU: what runs inside the worker process. The sole importer of onnxruntime.

Options of `Worker.load`: `optimize` is ``none``, ``basic``, ``extended`` or ``all`` (ONNX Runtime's graph optimisation
levels), `threads` the intra-op thread count (None: ONNX Runtime's choice), `prepack` False skips repacking weights
(right when a model is run only a few times), `arena` the memory arena, `graph` a path to write the optimised graph to
(its weights go to that path + ``.weights``), `events` a path prefix: profiling is on, its file begins with it.
"""

from __future__ import annotations

import ctypes
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .memory import dtype_of, name_of

LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_TYPES = {"float": "float32", "double": "float64", "string": "object", "float8e4m3fn": "float8_e4m3fn"}
_TYPES |= {
    "float8e5m2": "float8_e5m2",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2fnuz": "float8_e5m2fnuz",
}
_CODES = {
    "bfloat16": 16,
    "float8_e4m3fn": 17,
    "float8_e4m3fnuz": 18,
    "float8_e5m2": 19,
    "float8_e5m2fnuz": 20,
}


@dataclass
class Loaded:
    """A session with the shapes that its outputs had for feeds of given shapes."""

    session: Any
    outputs: dict[str, str]
    shapes: dict[tuple, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    varying: bool = False


class Runtime:
    """ONNX Runtime for the worker."""

    def __init__(self, pool: int | None = None) -> None:
        import onnxruntime

        self.library = onnxruntime
        self.version = onnxruntime.__version__
        self.pooled = pool is not None
        if self.pooled:
            onnxruntime.set_global_thread_pool_sizes(pool, 1)
        onnxruntime.set_default_logger_severity(3)

    def options(
        self,
        optimize: str = "all",
        threads: int | None = None,
        prepack: bool = True,
        arena: bool = True,
        graph: str = "",
        events: str = "",
    ) -> Any:
        """SessionOptions of ONNX Runtime."""
        o = self.library.SessionOptions()
        o.graph_optimization_level = getattr(self.library.GraphOptimizationLevel, LEVELS[optimize])
        o.log_severity_level = 3
        o.use_per_session_threads = not self.pooled
        o.intra_op_num_threads = threads or 0
        o.enable_cpu_mem_arena = o.enable_mem_pattern = arena
        o.add_session_config_entry("session.model_external_initializers_file_folder_path", "/")
        if not prepack:
            o.add_session_config_entry("session.disable_prepacking", "1")
        if graph:
            o.optimized_model_filepath = graph
            weights = os.path.basename(graph) + ".weights"
            o.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
        if events:
            o.enable_profiling, o.profile_file_prefix = True, events
        return o

    def load(self, model: bytes, **options: Any) -> Loaded:
        """A session of the serialised model."""
        session = self._session(model, self.options(**options))
        return Loaded(session, {o.name: _dtype(o.type) for o in session.get_outputs()})

    def _session(self, model: bytes, options: Any) -> Any:
        try:
            return self.library.InferenceSession(model, options, ["CPUExecutionProvider"])
        except self.library.capi.onnxruntime_pybind11_state.NotImplemented as error:
            raise RuntimeError(
                f"{error}, for the types that it has here; few operators take bfloat16 on a CPU: in place of one that "
                "was converted to it, workbench.precision.simulate(model, 'bf16', keep=...) runs in float32"
            ) from error

    def describe(self, loaded: Loaded) -> dict:
        """Names, dtypes and shapes of inputs and outputs."""
        return {
            kind: [(v.name, _dtype(v.type), tuple(v.shape or ())) for v in values]
            for kind, values in (
                ("inputs", loaded.session.get_inputs()),
                ("outputs", loaded.session.get_outputs()),
            )
        }

    def optimized(self, model: bytes, **options: Any) -> bytes:
        """The graph that ONNX Runtime executes after its optimisations, as a serialised model (weights included)."""
        with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
            o = self.options(**options)
            o.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
            self._session(model, o)
            with open(o.optimized_model_filepath, "rb") as file:
                return file.read()

    def run(
        self,
        loaded: Loaded,
        feeds: dict[str, np.ndarray],
        outputs: list[str] | None,
        place: Callable[[str, tuple[int, ...]], np.ndarray],
        expected: dict[str, tuple[int, ...]] | None = None,
    ) -> dict[str, np.ndarray]:
        """One run. Outputs of `expected` shape, or known from a run with equal feed shapes, go where `place` says.

        ONNX Runtime refuses a place of the wrong shape (NonZero and others: shapes that depend on values): the session
        is then run without places, now and later.
        """
        names = list(loaded.outputs) if outputs is None else outputs
        key = tuple((name, array.shape) for name, array in feeds.items())
        known = loaded.shapes.get(key) or (expected if expected and not loaded.varying else {})
        if not known and not _beyond_numpy(loaded, feeds):
            results = dict(zip(names, loaded.session.run(names, feeds), strict=True))
        else:
            try:
                results = self._bound(loaded, feeds, names, known, place)
            except Exception:
                if not known:
                    raise
                loaded.shapes, loaded.varying = {}, True
                return self.run(loaded, feeds, names, place)
        if key not in loaded.shapes and not loaded.varying:
            arrays = ((n, a) for n, a in results.items() if isinstance(a, np.ndarray))
            loaded.shapes[key] = {n: a.shape for n, a in arrays if a.size and a.dtype.kind != "O"}
        return results

    def profile(
        self, loaded: Loaded, feeds: dict[str, np.ndarray], runs: int = 0, finish: bool = False
    ) -> dict:
        """Run and time: ``ms`` of each run; with `finish`, end profiling and give the path of the ``events`` file."""
        names = list(loaded.outputs)
        bound = _beyond_numpy(loaded, feeds)
        binding, _, kept = self._bind(loaded, feeds, names, {}, _nowhere) if bound else (None, None, None)
        ms = []
        for _ in range(runs):
            start = time.perf_counter()
            if bound:
                loaded.session.run_with_iobinding(binding)
            else:
                loaded.session.run(names, feeds)
            ms.append((time.perf_counter() - start) * 1000)
        del kept
        return {"ms": ms, "events": loaded.session.end_profiling() if finish else ""}

    def _bound(self, loaded: Loaded, feeds: dict, names: list[str], known: dict, place: Callable) -> dict:
        binding, results, _keep = self._bind(loaded, feeds, names, known, place)
        loaded.session.run_with_iobinding(binding)
        if len(results) < len(names):
            for name, value in zip(names, binding.get_outputs(), strict=True):
                if name not in results:
                    results[name] = _array(value, loaded.outputs[name])
        return {name: results[name] for name in names}

    def _bind(self, loaded: Loaded, feeds: dict, names: list[str], known: dict, place: Callable) -> tuple:
        """(binding, output arrays with a place, arrays to be kept alive)."""
        binding = loaded.session.io_binding()
        keep = []
        for name, array in feeds.items():
            if array.dtype.kind == "O":
                binding.bind_cpu_input(name, array)
                continue
            array = np.asarray(array, order="C")  # ascontiguousarray would make a scalar one-dimensional
            keep.append(array)
            code = _CODES.get(name_of(array.dtype), array.dtype.type)
            binding.bind_input(name, "cpu", 0, code, list(array.shape), array.ctypes.data)
        results: dict[str, Any] = {}
        for name in names:
            if name in known and loaded.outputs[name] != "object":
                dtype = loaded.outputs[name]
                results[name] = target = place(dtype, known[name])
                code = _CODES.get(dtype, dtype_of(dtype).type)
                binding.bind_output(name, "cpu", 0, code, list(target.shape), target.ctypes.data)
            else:
                binding.bind_output(name, "cpu")
        return binding, results, keep


def _beyond_numpy(loaded: Loaded, feeds: dict[str, np.ndarray]) -> bool:
    """Whether a feed or an output has a dtype that ONNX Runtime does not pass as a numpy array."""
    return any(
        d in _CODES for d in (*(name_of(array.dtype) for array in feeds.values()), *loaded.outputs.values())
    )


def _array(value: Any, dtype: str) -> np.ndarray:
    """A copy of an OrtValue's data, also in dtypes that numpy itself lacks."""
    if dtype not in _CODES:
        return value.numpy()
    kind, shape = dtype_of(dtype), tuple(value.shape())
    nbytes = math.prod(shape) * kind.itemsize
    data = ctypes.string_at(value.data_ptr(), nbytes) if nbytes else b""
    return np.frombuffer(bytearray(data), kind).reshape(shape)


def _nowhere(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    raise AssertionError("outputs of unknown shape are not placed")


def _dtype(text: str) -> str:
    """ONNX Runtime's ``tensor(float)`` as a numpy name."""
    inner = text.removeprefix("tensor(").removesuffix(")")
    return _TYPES.get(inner, inner)
