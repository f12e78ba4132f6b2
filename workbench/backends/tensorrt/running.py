"""Running an engine through Polygraphy's TrtRunner: outputs, times, and its tensors while they are alive.

Written to the documented contract and tested against a stand-in for the library; not run on a GPU yet.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...metrics import Measure
from ..memory import dtype_of
from .gpu import devices

if TYPE_CHECKING:
    import tensorrt as trt

_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8_e4m3fn", "FP4": "float4_e2m1fn",
    "E8M0": "float8_e8m0fnu", "INT64": "int64", "INT32": "int32", "INT8": "int8", "UINT8": "uint8", "INT4": "int4",
    "BOOL": "bool",
}  # fmt: skip
_PACKED = frozenset(("int4", "float4_e2m1fn"))
"""Two elements to a byte, the first in the lower half."""

Take = Callable[[str, str, tuple[int, ...], Callable[[], np.ndarray]], None]
"""(tensor, dtype, shape, a function that reads its values: to be called before returning)."""


def nbytes(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor as TensorRT lays it out, row by row."""
    count = int(np.prod(shape, dtype=np.int64))
    return -(-count // 2) if dtype in _PACKED else count * dtype_of(dtype).itemsize


def unpacked(data: np.ndarray, dtype: str, shape: Sequence[int]) -> np.ndarray:
    """An array of its own from a tensor's bytes."""
    if dtype not in _PACKED:
        return data.view(dtype_of(dtype)).reshape(shape).copy()
    halves = np.stack([data & 15, data >> 4], axis=-1).reshape(-1)
    count = int(np.prod(shape, dtype=np.int64))
    halves = halves[:count]
    if dtype == "int4":
        return (
            np.where(halves > 7, halves.astype(np.int8) - 16, halves).astype(dtype_of(dtype)).reshape(shape)
        )
    return halves.astype(np.uint8).view(dtype_of(dtype)).reshape(shape)


def packed(array: np.ndarray) -> np.ndarray:
    """A tensor's bytes from an array."""
    array = np.ascontiguousarray(array)
    if array.dtype.name not in _PACKED:
        return array.reshape(-1).view(np.uint8)
    halves = array.reshape(-1).view(np.uint8) & 15
    halves = np.append(halves, np.zeros(halves.size % 2, np.uint8)).reshape(-1, 2)
    return halves[:, 0] | (halves[:, 1] << 4)


def _refused(version: str) -> str:
    """Why an engine was not loaded (TensorRT returns None), as far as this machine tells, and what to do."""
    found = ", ".join(f"{gpu['name']} (compute capability {gpu['capability']})" for gpu in devices())
    return (
        "TensorRT cannot load the engine: it needs the kind of GPU and the version that it was built for; here "
        + (f"are {found} and version {version}" if found else "is no GPU that NVIDIA's driver can reach")
        + ". Build and run it on a machine with such a GPU; the times of layers that trtexec exported there "
        "(--exportLayerInfo, --exportProfile) are read anywhere, with workbench.tensorrt.load(layers_json, times_json)"
    )


class Engine:
    """A deserialised engine and its runner.

    Args:
        plan: the serialised engine.
    """

    def __init__(self, plan: bytes):
        import tensorrt as trt
        from polygraphy.backend.trt import TrtRunner, util

        engine = trt.Runtime(util.get_trt_logger()).deserialize_cuda_engine(plan)
        if engine is None:
            raise RuntimeError(_refused(trt.__version__))
        self.engine: trt.ICudaEngine = engine
        self.listener = listener()
        self.runner = TrtRunner(engine, debug_listener=self.listener)
        self.runner.activate()
        self.watch(False)
        self._profile = 0
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.dtypes = {name: _DTYPES[engine.get_tensor_dtype(name).name] for name in names}
        mode = trt.TensorIOMode.INPUT
        self.inputs = [name for name in names if engine.get_tensor_mode(name) == mode]
        self.outputs = [name for name in names if name not in self.inputs]

    def __del__(self) -> None:
        if hasattr(self, "_profile"):
            self.runner.deactivate()

    def describe(self) -> dict[str, Any]:
        """Inputs and outputs: (name, dtype, shape), -1 for a dynamic dim."""
        shapes = {name: tuple(self.engine.get_tensor_shape(name)) for name in self.dtypes}
        return {
            kind: [(name, self.dtypes[name], shapes[name]) for name in names]
            for kind, names in (("inputs", self.inputs), ("outputs", self.outputs))
        } | {"profiles": self.engine.num_optimization_profiles}

    def watch(self, on: bool) -> None:
        """Whether debug tensors are handed out: those that were marked, and those that are not fused away."""
        context = self.runner.context
        context.set_all_tensors_debug_state(on)
        if hasattr(context, "unfused_tensors_debug_state"):
            context.unfused_tensors_debug_state = on

    def run(self, feeds: Mapping[str, np.ndarray], profile: int = 0) -> dict[str, np.ndarray]:
        """One run; the outputs."""
        from polygraphy.common import FormattedArray

        if profile != self._profile:
            self.runner.set_profile(profile)
            self._profile = profile
        given = {n: FormattedArray(packed(feeds[n]), shape=feeds[n].shape) for n in self.inputs}
        made = self.runner.infer(given, check_inputs=False, return_raw_buffers=True)
        self.listener.raise_error()
        return {name: self._output(name, made[name]) for name in self.outputs}

    def _output(self, name: str, raw: Any) -> np.ndarray:
        dtype, shape = self.dtypes[name], tuple(raw.shape)
        return unpacked(np.asarray(raw.array)[: nbytes(dtype, shape)], dtype, shape)

    # -- what `Session.profile` asks for --------------------------------------------------------------------

    def work(self, feeds: Mapping[str, np.ndarray], task: str, **options: Any) -> dict[str, Any]:
        """``task``: `times`, `census` or `measure`."""
        result: dict[str, Any] = getattr(self, task)(feeds, **options)
        return result

    def times(
        self, feeds: Mapping[str, np.ndarray], profile: int = 0, runs: int = 20, warmup: int = 5
    ) -> dict[str, Any]:
        """ms of whole runs by CUDA events, without and then with layers timed, and of the layers of each run.

        Layers are timed in runs of their own: the profiler waits between them, so that they add up to more than a run.
        """
        self.run(feeds, profile)  # sets shapes, addresses and allocators; the runs below reuse them
        context, stream = self.runner.context, self.runner.stream
        for _ in range(warmup):
            self._enqueue()
        stream.synchronize()
        plain = [_elapsed(self._enqueue, stream) for _ in range(runs)]
        timed, profiler = [], layer_profiler()
        context.profiler, context.enqueue_emits_profile = profiler, False
        try:
            for _ in range(runs):
                timed.append(_elapsed(self._enqueue, stream))
                profiler.begin()
                if not context.report_to_profiler():
                    raise RuntimeError("TensorRT gave no layer times: report_to_profiler() failed")
        finally:  # else the next runs would be slowed by it, too
            context.profiler, context.enqueue_emits_profile = None, True
        return {"ms": plain, "recorded_ms": timed, "layers": profiler.runs}

    def _enqueue(self) -> None:
        if not self.runner.context.execute_async_v3(self.runner.stream.ptr):
            raise RuntimeError("TensorRT could not run the engine: execute_async_v3() failed")

    def census(self, feeds: Mapping[str, np.ndarray], profile: int = 0) -> dict[str, Any]:
        """Which tensors are handed out, in order, as (name, dtype, shape), without reading them; and what handing them
        out changes: outputs, ms."""
        off, plain = self._timed(feeds, profile, None)
        found: list[tuple[str, str, tuple[int, ...]]] = []
        on, watched = self._timed(
            feeds, profile, lambda name, dtype, shape, read: found.append((name, dtype, shape))
        )
        difference = Measure()
        for name in self.outputs:
            difference.add(off[name], on[name])
        outputs = [(name, array.dtype.name, array.shape) for name, array in on.items()]
        return {
            "tensors": found, "outputs": outputs, "ms": plain, "ms_marked": watched,
            "max_abs": difference.result()["max_abs"],
        }  # fmt: skip

    def _timed(
        self, feeds: Mapping[str, np.ndarray], profile: int, take: Take | None
    ) -> tuple[dict[str, np.ndarray], float]:
        """Outputs of a first run, in which tensors are taken, and the ms of the best of three more."""
        self.watch(take is not None)
        try:
            with self.listener.taking(take):
                results = self.run(feeds, profile)
            times = []
            for _ in range(3):
                start = time.perf_counter()
                self.run(feeds, profile)
                times.append((time.perf_counter() - start) * 1000)
        finally:
            self.watch(False)
        return results, min(times)

    def measure(
        self,
        feeds: Mapping[str, np.ndarray],
        references: Mapping[str, str],
        wanted: Sequence[str] = (),
        profile: int = 0,
    ) -> dict[str, Any]:
        """Reduce tensors to their difference from references while they are alive.

        Args:
            references: tensor of the engine -> the name in `feeds` under which its reference is.
            wanted: tensors whose values are handed back.
        """
        measures: dict[str, Measure] = {}
        problems: dict[str, str] = {}
        values: dict[str, np.ndarray] = {}

        def take(name: str, dtype: str, shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> None:
            if name not in references and name not in wanted:
                return
            array = read()
            if name in wanted:
                values[name] = array
            if name in references:
                reference = feeds[references[name]]
                if reference.shape == array.shape:
                    measures.setdefault(name, Measure()).add(reference, array)
                else:
                    problems[name] = f"shapes differ: {list(reference.shape)} and {list(array.shape)}"

        self.watch(True)
        try:
            with self.listener.taking(take):
                outputs = self.run(feeds, profile)
        finally:
            self.watch(False)
        for name, array in outputs.items():
            if name not in measures and name not in problems:
                take(name, array.dtype.name, array.shape, lambda array=array: array)  # type: ignore[misc]
        return {"measures": measures, "problems": problems, "values": values}


def listener() -> Any:
    """A debug listener that hands each tensor to a function while it is alive.

    The library calls it from C++, maybe from a thread of its own: calls are taken one at a time, and an exception is
    kept for `raise_error`, since it cannot pass through the library.
    """
    import tensorrt as trt
    from polygraphy import cuda

    class Listener(trt.IDebugListener):
        def __init__(self) -> None:
            trt.IDebugListener.__init__(self)
            self._take: Take | None = None
            self._error: BaseException | None = None
            self._lock = threading.Lock()

        def taking(self, take: Take | None) -> Any:
            return _Taking(self, take)

        def raise_error(self) -> None:
            error, self._error = self._error, None
            if error is not None:
                raise error

        # the stubs say that it returns nothing, the documentation that it returns whether it worked
        def process_debug_tensor(
            self, addr: Any, location: Any, type: trt.DataType, shape: trt.Dims, name: str, stream: int
        ) -> bool:
            with self._lock:
                if self._take is None or self._error is not None:
                    return self._error is None
                try:
                    dtype, dims = _DTYPES[type.name], tuple(shape)
                    on_host = location == trt.TensorLocation.HOST
                    self._take(name, dtype, dims, lambda: _read(addr, on_host, dtype, dims, stream))
                except BaseException as error:
                    self._error = error
                    return False
            return True

    def _read(addr: Any, on_host: bool, dtype: str, shape: tuple[int, ...], stream: int) -> np.ndarray:
        buffer = np.empty(nbytes(dtype, shape), np.uint8)
        if buffer.size:
            runtime = cuda.wrapper()
            # the values are complete only when what was enqueued before is done
            runtime.stream_synchronize(stream)
            if on_host:
                ctypes.memmove(buffer.ctypes.data, address(addr), buffer.size)
            else:
                kind = cuda.MemcpyKind.DeviceToHost
                runtime.memcpy(buffer.ctypes.data, address(addr), buffer.size, kind, stream)
                runtime.stream_synchronize(stream)
        return unpacked(buffer, dtype, shape)

    return Listener()


class _Taking:
    """For a block, the function that a listener hands tensors to."""

    def __init__(self, owner: Any, take: Take | None):
        self.owner, self.take = owner, take

    def __enter__(self) -> None:
        self.owner._take = self.take

    def __exit__(self, *exc: object) -> None:
        self.owner._take = None


def address(pointer: Any) -> int:
    """An address as a number: the bindings give one, or a capsule."""
    if isinstance(pointer, int):
        return pointer
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get(pointer, name(pointer)) or 0)


def layer_profiler() -> Any:
    """An IProfiler that keeps (layer, ms) of each run."""
    import tensorrt as trt

    class Layers(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.runs: list[list[tuple[str, float]]] = []

        def begin(self) -> None:
            self.runs.append([])

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.runs[-1].append((layer_name, float(ms)))

    return Layers()


def _elapsed(work: Callable[[], None], stream: Any) -> float:
    """ms between two CUDA events around what `work` enqueues on a stream."""
    from polygraphy import cuda

    runtime = cuda.wrapper()
    events = (ctypes.c_void_p(), ctypes.c_void_p())
    for event in events:
        runtime.check(runtime.handle.cudaEventCreate(ctypes.byref(event)))
    try:
        runtime.check(runtime.handle.cudaEventRecord(events[0], ctypes.c_void_p(stream.ptr)))
        work()
        runtime.check(runtime.handle.cudaEventRecord(events[1], ctypes.c_void_p(stream.ptr)))
        runtime.check(runtime.handle.cudaEventSynchronize(events[1]))
        ms = ctypes.c_float()
        runtime.check(runtime.handle.cudaEventElapsedTime(ctypes.byref(ms), *events))
        return ms.value
    finally:
        for event in events:
            runtime.handle.cudaEventDestroy(event)
