"""CUDA: ONNX Runtime's CUDA provider with plugins' kernels between its pieces. What runs inside the worker process.

float32 stays float32: matrix products and convolutions do not round to TF32 unless the option `tf32` of `Worker.load`
is True. Its other options: `optimize` as for ONNX Runtime, `graph` (default True) replays a plan as a CUDA graph where
it can, `guard` runs one kernel with its surroundings watched, `triton` (plugin -> source, as `Plugin.triton` has it)
names the plugins whose Triton kernel runs instead of their CUDA kernel. Options of the CPU runtime (threads, prepack,
arena) do not matter here. Beside numpy this process imports onnx and Workbench's own cutting, because the model is cut
here.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ...plugins.steps import Call, Piece, cut
from ..kernels import compiled
from ..nvrtc import Runtime as Compiler
from ..onnxruntime import Runtime as OnnxRuntime
from .device import HELPERS, Device
from .layers import measure
from .program import Guarded, Program, Tensor

_FATAL = 4  # severity in ONNX Runtime's log
_DELAY_NS = {"kernel": 30_000, "piece": 400_000}  # until the work behind is in line


class Runtime:
    """The first GPU for the worker."""

    def __init__(self, pool: int | None = None) -> None:
        self.device = Device()
        self.compiler = Compiler()
        self.onnxruntime = OnnxRuntime()
        library = self.onnxruntime.library
        if hasattr(library, "preload_dlls"):
            library.preload_dlls()  # CUDA's libraries from their wheels
        self.version = f"{library.__version__}, {self.device.name}, driver {self.device.driver_version}"
        self.quiet = library.RunOptions()
        self.quiet.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.device.helpers(self.compiler.compile(HELPERS, "helpers", self.device.arch, [], {}, "")["cubin"])

    # -- loading --------------------------------------------------------------------------------------------------

    def load(
        self,
        model: bytes,
        optimize: str = "all",
        tf32: bool = False,
        graph: bool = True,
        guard: bool = False,
        triton: dict[str, str] | None = None,
        **_: Any,
    ) -> Loaded:
        """Cut the model and load its pieces."""
        steps = cut(onnx.ModelProto.FromString(model))
        if triton:
            self._check_triton(triton, {step.plugin.name for step in steps.steps if isinstance(step, Call)})
        sessions = {
            number: self.session(step.model.SerializeToString(), optimize, tf32)
            for number, step in enumerate(steps.steps)
            if isinstance(step, Piece)
        }
        program = Program(self.device, steps, sessions, self._compile, self.quiet, triton or {})
        return Loaded(program, onnx.ModelProto.FromString(model), optimize, tf32, graph, guard)

    def _check_triton(self, triton: dict[str, str], called: set[str]) -> None:
        if unknown := [name for name in triton if name not in called]:
            raise RuntimeError(
                f"Triton kernels were given for {', '.join(map(repr, unknown))}; the kernels of this model are of "
                f"{', '.join(map(repr, sorted(called))) or 'no plugin'}"
            )
        if why := self.no_triton():
            raise RuntimeError(f"Triton kernels cannot run here: {why}")

    def _compile(self, plugin: Any, inputs: Any, attributes: Any) -> Any:
        return compiled(plugin, inputs, attributes, self.device.arch, self.compiler.compile, self.compiler.version)

    def session(self, model: bytes, optimize: str, tf32: bool, path: str = "") -> Any:
        """A session on the CUDA provider, on our stream; `path` takes the optimised graph."""
        o = self.onnxruntime.options(optimize=optimize, graph=path)
        o.log_severity_level = _FATAL  # what fails is raised, in the same words
        provider = {
            "device_id": "0", "user_compute_stream": str(self.device.stream), "use_tf32": str(int(tf32)),
            "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested",
        }  # fmt: skip
        made = self.onnxruntime.library.InferenceSession(
            model, o, [("CUDAExecutionProvider", provider), "CPUExecutionProvider"]
        )
        if made.get_providers()[0] != "CUDAExecutionProvider":
            raise RuntimeError(
                f"ONNX Runtime has no CUDA provider here: got {made.get_providers()}, expected onnxruntime-gpu and the "
                "CUDA and cuDNN libraries that it names; install them"
            )
        # cuDNN's plans that do not fit are logged as errors, and then the next one is taken
        self.onnxruntime.library.set_default_logger_severity(_FATAL)
        return made

    def describe(self, loaded: Loaded) -> dict:
        """Names, dtypes and shapes of inputs and outputs, and which nodes run as kernels."""
        steps = loaded.program.steps

        def listed(infos: Any, names: Any) -> list[tuple]:
            known = {info.name: info for info in infos}
            return [_described(known[name]) for name in names]

        graph = loaded.proto.graph
        return {
            "inputs": listed(graph.input, steps.inputs),
            "outputs": listed(graph.output, steps.outputs),
            "device": self.device.name,
            "arch": self.device.arch,
            "kernels": [step.node for step in steps.steps if isinstance(step, Call)],
            "pieces": [list(step.nodes) for step in steps.steps if isinstance(step, Piece)],
            "without_kernel": steps.without_kernel,
        }

    # -- running --------------------------------------------------------------------------------------------------

    def run(
        self,
        loaded: Loaded,
        feeds: dict[str, np.ndarray],
        outputs: list[str] | None,
        place: Callable[[str, tuple[int, ...]], np.ndarray],
        expected: dict[str, tuple[int, ...]] | None = None,
    ) -> dict[str, np.ndarray]:
        """One run; the outputs are copied to where `place` says."""
        if loaded.guard:
            return self._guarded(loaded, feeds)
        values = loaded.program.once(feeds)
        self._sync(loaded)
        found = {}
        for name in outputs or loaded.program.steps.outputs:
            tensor = values[name]
            small = not tensor.nbytes
            target = None if small else place(tensor.dtype, tensor.shape)
            found[name] = loaded.program.fetch(tensor, target)
        return found

    def _sync(self, loaded: Loaded) -> None:
        try:
            self.device.sync()
        except RuntimeError as error:
            kernels = [s.plugin.kernel for s in loaded.program.steps.steps if isinstance(s, Call)]
            raise RuntimeError(
                f"{error} (kernels that ran: {', '.join(kernels) or 'none of plugins'}); the GPU's context is lost and "
                "this worker with it; check the plugins' kernels with plugin.check()"
            ) from None

    def _guarded(self, loaded: Loaded, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a model of one kernel twice, with watched zones around every tensor and other bytes in the outputs each
        time: what is written outside, or not written at all, is found."""
        program = loaded.program
        (step,) = program.steps.steps
        assert isinstance(step, Call)
        found: list[dict[str, np.ndarray]] = []
        for byte in (0xFF, 0x5A):
            watched: dict[str, Guarded] = {}
            values: dict[str, Tensor] = {}
            for name, array in feeds.items():
                watched[name] = Guarded(self.device, array.nbytes, 0xFF)
                self.device.upload(array, watched[name].pointer)
                values[name] = Tensor(watched[name].pointer, array.dtype.name, array.shape, watched[name])
            for name, tensor in program.made(step, values).items():
                watched[name] = Guarded(self.device, tensor.nbytes, byte)
                values[name] = Tensor(watched[name].pointer, tensor.dtype, tensor.shape, watched[name])
            program.launcher(step, values)()
            self._sync(loaded)
            for name, guard in watched.items():
                if place := guard.touched():
                    raise RuntimeError(
                        f"the kernel wrote out of bounds: {place}, tensor {name!r}; check its indices"
                    )
            for name, array in feeds.items():
                after = program.fetch(values[name])
                if after.tobytes() != np.ascontiguousarray(array).tobytes():
                    raise RuntimeError(f"the kernel changed its input {name!r}; write to the outputs alone")
            found.append({name: program.fetch(values[name]) for name in step.outputs})
        for name, one in found[0].items():
            self._all_written(name, one, found[1][name])
        return found[0]

    @staticmethod
    def _all_written(name: str, one: np.ndarray, two: np.ndarray) -> None:
        if not one.size:
            return
        raw = [np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(one.size, -1) for a in (one, two)]
        left = (raw[0] == 0xFF).all(1) & (raw[1] == 0x5A).all(1)
        if left.any():
            at = int(np.flatnonzero(left)[0])
            raise RuntimeError(
                f"the kernel left {int(left.sum())} of {one.size} elements of output {name!r} unwritten, the first at "
                f"{at}; check the grid and the bounds"
            )

    # -- time -----------------------------------------------------------------------------------------------------

    def profile(
        self,
        loaded: Loaded,
        feeds: dict[str, np.ndarray],
        runs: int = 0,
        finish: bool = False,
        flush: bool = False,
        layers: bool = False,
    ) -> dict:
        """Run and time with the feeds on the GPU: ``ms`` of each run from the first launch to the end of the
        last, by the
        host's clock; ``gpu_ms`` by events. `flush`: empty the cache before each run. ``graph``: '' or why it
        was none. With `layers`: see
        `workbench.backends.cuda.layers`."""
        if layers:
            return measure(self, loaded, feeds, runs)
        if not runs:
            return {"ms": [], "gpu_ms": [], "graph": "", "events": ""}
        plan = loaded.program.plan(feeds, graph=loaded.graph)
        only = all(isinstance(step, Call) for step in loaded.program.steps.steps)
        delay = _DELAY_NS["kernel" if only or plan.graph else "piece"]
        ms: list[float] = []
        gpu_ms: list[float] = []
        for _ in range(runs):
            self.device.sync()
            start = time.perf_counter()
            plan.run()
            self.device.sync()
            ms.append((time.perf_counter() - start) * 1000)
            if flush:
                self.device.flush()
            self.device.delay(delay)
            with self.device.timed(gpu_ms):
                plan.run()
        self._sync(loaded)
        return {
            "ms": ms,
            "gpu_ms": gpu_ms,
            "graph": plan.no_graph if loaded.graph else "not asked for",
            "events": "",
        }

    def copy_ms(self, nbytes: int, runs: int = 20) -> list[float]:
        """ms of copying `nbytes` from one place of the GPU's memory to another, the cache emptied before each."""
        a, b = self.device.allocate(nbytes), self.device.allocate(nbytes)
        self.device.fill(a.pointer, 1, nbytes)
        found: list[float] = []
        for _ in range(runs + 3):
            self.device.flush()
            self.device.delay(_DELAY_NS["kernel"])
            with self.device.timed(found):
                self.device.copy(a.pointer, b.pointer, nbytes)
        return found[3:]

    def no_triton(self) -> str:
        """Why Triton kernels cannot run here; '' where they can."""
        from .triton import missing

        return missing()

    def about(self) -> dict[str, Any]:
        """The GPU: ``name``, ``arch``, ``multiprocessors``, ``driver``."""
        device = self.device
        return {
            "name": device.name, "arch": device.arch, "multiprocessors": device.multiprocessors,
            "driver": device.driver_version, "onnxruntime": self.onnxruntime.library.__version__,
            "nvrtc": self.compiler.version,
        }  # fmt: skip

    def optimised(self, loaded: Loaded, piece: Piece) -> onnx.ModelProto:
        """The graph of a piece as ONNX Runtime executes it, weights included."""
        with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
            path = os.path.join(folder, "piece.onnx")
            self.session(piece.model.SerializeToString(), loaded.optimize, loaded.tf32, path)
            return onnx.load(path)


class Loaded:
    """A model in the worker, with the options that it was loaded with."""

    def __init__(
        self, program: Program, proto: onnx.ModelProto, optimize: str, tf32: bool, graph: bool, guard: bool
    ):
        self.program, self.proto, self.optimize, self.tf32 = program, proto, optimize, tf32
        self.graph, self.guard = graph, guard


def _described(info: onnx.ValueInfoProto) -> tuple[str, str, tuple]:
    from ...model.info import from_type

    dtype, shape = from_type(info.type)
    return info.name, dtype, tuple(shape or ())
