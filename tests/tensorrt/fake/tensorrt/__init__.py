"""A stand-in for TensorRT on a GPU that holds users of its Python API to the documented contract.

There is no device: its memory is memory of this process, its "engine" is an ONNX model that ONNX Runtime runs. But
- work is only enqueued: it is done when the stream is synchronised, not before (copies and outputs too);
- a debug tensor's buffer holds garbage until then, lives as long as the callback, and is garbage after it;
- calls that come before what they need (addresses, shapes, allocators, profiles) fail as documented;
- what is passed where a device (or host) address belongs must be one.

A plan is b"FAKE" and a pickled dict: ``onnx`` (what it computes), ``profiles`` (list of input -> (min, opt, max)), and
maybe ``handed_out`` (tensor of the model -> name in the engine), ``dtypes`` (tensor -> DataType's name, for those that
the engine holds in another type), ``threaded`` (debug tensors come from another thread), ``on_host`` (names that are
handed out in host memory), ``layers`` (names), ``silent`` (report_to_profiler fails).
"""

from __future__ import annotations

import ctypes
import enum
import pickle
import threading
from typing import Any

import numpy as np

__version__ = "10.13.2"


class DataType(enum.Enum):
    FLOAT, HALF, BF16, FP8, FP4, E8M0, INT64, INT32, INT8, UINT8, INT4, BOOL = range(12)


float32, float16, bfloat16, fp8, fp4 = (
    DataType.FLOAT,
    DataType.HALF,
    DataType.BF16,
    DataType.FP8,
    DataType.FP4,
)
int64, int32, int8, uint8, int4, bool = (  # noqa: A001 - the library has these names
    DataType.INT64, DataType.INT32, DataType.INT8, DataType.UINT8, DataType.INT4, DataType.BOOL,
)  # fmt: skip
_OF_NUMPY = {"float32": float32, "float16": float16, "bfloat16": bfloat16, "int64": int64, "int32": int32,
             "int8": int8, "uint8": uint8, "bool": bool, "float8_e4m3fn": fp8, "int4": int4}  # fmt: skip
Dims = tuple
TensorIOMode = enum.Enum("TensorIOMode", "INPUT OUTPUT")
TensorLocation = enum.Enum("TensorLocation", "DEVICE HOST")
TensorFormat = enum.Enum("TensorFormat", "LINEAR HWC CHW16")


class ILogger:
    Severity = enum.Enum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE")

    def __init__(self) -> None:
        self.ready = True


class Logger(ILogger):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = ILogger.Severity


class Builder:
    pass


class IProfiler:
    def __init__(self) -> None:
        self.ready = True


class IDebugListener:
    def __init__(self) -> None:
        self.ready = True


class IOutputAllocator:
    def __init__(self) -> None:
        self.ready = True


# --- CUDA


class _Device:
    """Memory, streams and events."""

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.streams: dict[int, list] = {}
        self.events: dict[int, float | None] = {}
        self.clock = 0.0
        self.next = 1 << 40

    def allocate(self, size: int) -> int:
        buffer = ctypes.create_string_buffer(b"\xff" * max(1, size), max(1, size))
        pointer = ctypes.addressof(buffer)
        self.memory[pointer] = buffer
        return pointer

    def free(self, pointer: int) -> None:
        buffer = self.memory.pop(pointer)
        ctypes.memset(buffer, 0xFF, len(buffer))

    def inside(self, pointer: int, size: int) -> None:
        for start, buffer in self.memory.items():
            if start <= pointer and pointer + size <= start + len(buffer):
                return
        raise AssertionError(f"{pointer:#x} + {size} is no device memory (it was freed, or never was)")

    def outside(self, pointer: int) -> None:
        for start, buffer in self.memory.items():
            assert not start <= pointer < start + len(buffer), "a device address where a host address belongs"

    def synchronize(self, stream: int) -> None:
        queue = self.streams[stream]
        while queue:
            queue.pop(0)()


device = _Device()


class _Runtime:
    """What Polygraphy calls of libcudart, by ctypes."""

    def _number(self, pointer: Any) -> int:
        return int(pointer.value or 0)

    def _new(self, table: dict, value: Any) -> int:
        device.next += 1
        table[device.next] = value
        return device.next

    def cudaMalloc(self, out: Any, size: Any) -> int:
        out._obj.value = device.allocate(size.value)
        return 0

    def cudaFree(self, pointer: Any) -> int:
        if self._number(pointer):
            device.free(self._number(pointer))
        return 0

    def cudaStreamCreate(self, out: Any) -> int:
        out._obj.value = self._new(device.streams, [])
        return 0

    def cudaStreamSynchronize(self, stream: Any) -> int:
        device.synchronize(self._number(stream))
        return 0

    def cudaStreamDestroy(self, stream: Any) -> int:
        del device.streams[self._number(stream)]
        return 0

    def cudaMemcpyAsync(self, to: Any, source: Any, size: Any, kind: Any, stream: Any) -> int:
        target, start, count = self._number(to), self._number(source), size.value
        if kind.value == 1:  # host to device: pageable memory is read before the call returns
            device.outside(start)
            device.inside(target, count)
            data = ctypes.string_at(start, count)
            device.streams[self._number(stream)].append(lambda: ctypes.memmove(target, data, count))
        else:
            assert kind.value == 2, f"unexpected kind of copy {kind.value}"
            device.outside(target)
            device.inside(start, count)
            device.streams[self._number(stream)].append(lambda: ctypes.memmove(target, start, count))
        return 0

    def cudaEventCreate(self, out: Any) -> int:
        out._obj.value = self._new(device.events, None)
        return 0

    def cudaEventRecord(self, event: Any, stream: Any) -> int:
        number = self._number(event)

        def record() -> None:
            device.events[number] = device.clock

        device.streams[self._number(stream)].append(record)
        return 0

    def cudaEventSynchronize(self, event: Any) -> int:
        for stream in device.streams:
            device.synchronize(stream)
        assert device.events[self._number(event)] is not None
        return 0

    def cudaEventElapsedTime(self, out: Any, start: Any, end: Any) -> int:
        first, last = device.events[self._number(start)], device.events[self._number(end)]
        if first is None or last is None:
            return 600  # cudaErrorNotReady
        out._obj.value = last - first
        return 0

    def cudaEventDestroy(self, event: Any) -> int:
        del device.events[self._number(event)]
        return 0


def _take_the_place_of_cuda() -> None:
    from polygraphy.cuda import cuda

    cuda.G_CUDA = object.__new__(cuda.Cuda)
    cuda.G_CUDA.handle = _Runtime()


_take_the_place_of_cuda()


# --- engine and context


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        assert logger.ready, "the base class of the logger was not initialised"
        self.logger = logger

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None:
        if not data.startswith(b"FAKE"):
            self.logger.log(ILogger.Severity.ERROR, "deserializeCudaEngine: magic number does not match")
            return None
        return ICudaEngine(pickle.loads(data[4:]))


def _packed(array: np.ndarray) -> bytes:
    if array.dtype.name != "int4":
        return np.ascontiguousarray(array).tobytes()
    flat = [int(v) & 15 for v in array.reshape(-1)]
    flat += [0] * (len(flat) % 2)
    return b"".join(
        (low | high << 4).to_bytes(1, "little") for low, high in zip(flat[::2], flat[1::2], strict=True)
    )


class ICudaEngine:
    def __init__(self, about: dict) -> None:
        import ml_dtypes
        import onnx
        import onnxruntime

        self.about = about
        self.handed_out: dict[str, str] = about.get("handed_out", {})
        self.kinds = {
            name: np.dtype({"BF16": ml_dtypes.bfloat16, "FP8": ml_dtypes.float8_e4m3fn, "INT4": ml_dtypes.int4,
                            "HALF": np.float16}[kind])
            for name, kind in about.get("dtypes", {}).items()
        }  # fmt: skip
        model = onnx.load_from_string(about["onnx"])
        self.real_outputs = [value.name for value in model.graph.output]
        for name in self.handed_out:
            if name not in self.real_outputs:
                model.graph.output.add(name=name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers)
        self.inputs = {v.name: v for v in self.session.get_inputs()}
        self.names = [*self.inputs, *self.real_outputs]
        self.num_io_tensors = len(self.names)
        self.num_optimization_profiles = len(about["profiles"])

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        if name in self.kinds:
            return _OF_NUMPY[self.kinds[name].name]
        found = next(v for v in (*self.session.get_inputs(), *self.session.get_outputs()) if v.name == name)
        return {"tensor(float)": float32, "tensor(int64)": int64, "tensor(float16)": float16}[found.type]

    def get_tensor_shape(self, name: str) -> tuple:
        found = next(v for v in (*self.session.get_inputs(), *self.session.get_outputs()) if v.name == name)
        return tuple(dim if isinstance(dim, int) else -1 for dim in found.shape)

    def get_tensor_format(self, name: str, profile: int = 0) -> TensorFormat:
        return TensorFormat.LINEAR

    def is_shape_inference_io(self, name: str) -> Any:
        return False

    def get_aliased_input_tensor(self, name: str) -> None:
        return None

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self.active_optimization_profile = 0
        self.enqueue_emits_profile = True
        self.unfused_tensors_debug_state = False
        self.profiler: IProfiler | None = None
        self._unreported = False
        self._listener: IDebugListener | None = None
        self._shapes: dict[str, tuple] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, IOutputAllocator] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> Any:
        if stream not in device.streams or not 0 <= index < self.engine.num_optimization_profiles:
            return False
        self.active_optimization_profile = index
        self._shapes.clear()  # as documented: shapes have to be set again
        return True

    def set_all_tensors_debug_state(self, flag: Any) -> Any:
        return True  # no tensor was marked by mark_debug

    def set_debug_listener(self, listener: IDebugListener) -> Any:
        assert listener.ready, "the base class of the listener was not initialised"
        self._listener = listener
        return True

    def get_tensor_shape(self, name: str) -> tuple:
        return self._shapes.get(name, self.engine.get_tensor_shape(name))

    def set_input_shape(self, name: str, shape: tuple) -> Any:
        low, _, high = self.engine.about["profiles"][self.active_optimization_profile][name]
        fine = all(a <= size <= c for a, size, c in zip(low, shape, high, strict=True))
        if fine:
            self._shapes[name] = tuple(shape)
        return fine

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_tensor_address(self, name: str, pointer: int) -> Any:
        device.inside(pointer, 1)
        self._addresses[name] = pointer
        return True

    def set_output_allocator(self, name: str, allocator: IOutputAllocator) -> Any:
        assert allocator.ready, "the base class of the allocator was not initialised"
        self._allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> Any:
        engine = self.engine
        ready = all(name in self._addresses for name in engine.inputs)
        ready = ready and all(name in self._allocators for name in engine.real_outputs)
        static = [n for n in engine.inputs if -1 not in engine.get_tensor_shape(n)]
        ready = ready and all(n in self._shapes or n in static for n in engine.inputs)
        if stream not in device.streams or not ready:
            return False
        device.synchronize(stream)  # to have the inputs; what follows is enqueued again
        values = self._compute()
        for name, value in values.items():
            if name in engine.handed_out and self.unfused_tensors_debug_state and self._listener is not None:
                self._hand_out(engine.handed_out[name], value, stream)
        for name in engine.real_outputs:
            data = _packed(values[name])
            pointer = self._allocators[name].reallocate_output_async(name, 0, len(data), 256, stream)
            self._allocators[name].notify_shape(name, values[name].shape)
            device.inside(pointer, len(data))
            device.streams[stream].append(
                lambda pointer=pointer, data=data: ctypes.memmove(pointer, data, len(data))
            )
        self._pass_time(stream)
        return True

    def _compute(self) -> dict[str, np.ndarray]:
        feeds = {}
        for name, value in self.engine.inputs.items():
            kind = np.dtype(
                {"tensor(float)": "f4", "tensor(int64)": "i8", "tensor(float16)": "f2"}[value.type]
            )
            shape = self.get_tensor_shape(name)
            count = int(np.prod(shape))
            device.inside(self._addresses[name], count * kind.itemsize)
            data = ctypes.string_at(self._addresses[name], count * kind.itemsize)
            feeds[name] = np.frombuffer(data, kind).reshape(shape)
        names = [v.name for v in self.engine.session.get_outputs()]
        values = dict(zip(names, self.engine.session.run(names, feeds), strict=True))
        tensor, factor = self.engine.about.get("broken", ("", 1))
        return {
            name: (v * np.float32(factor if name == tensor else 1)).astype(
                self.engine.kinds.get(name, v.dtype)
            )
            for name, v in values.items()
        }

    def _hand_out(self, name: str, value: np.ndarray, stream: int) -> None:
        data = _packed(value)
        on_host = name in self.engine.about.get("on_host", ())
        pointer = device.allocate(len(data))
        buffer = device.memory[pointer]
        device.streams[stream].append(lambda: ctypes.memmove(pointer, data, len(data)))
        if on_host:
            del device.memory[pointer]  # an address of the host's, then
        place = TensorLocation.HOST if on_host else TensorLocation.DEVICE
        kind = _OF_NUMPY[value.dtype.name]
        arguments = (pointer, place, kind, value.shape, name, stream)
        answers: list = []
        if self.engine.about.get("threaded"):
            thread = threading.Thread(
                target=lambda: answers.append(self._listener.process_debug_tensor(*arguments))  # type: ignore
            )
            thread.start()
            thread.join()
        else:
            answers.append(self._listener.process_debug_tensor(*arguments))  # type: ignore[union-attr]
        assert len(answers) == 1, "an exception left the callback: it would end the process"
        assert answers[0] in (True, False), "process_debug_tensor returns whether it worked"
        device.synchronize(stream)
        ctypes.memset(buffer, 0xFF, len(buffer))
        if not on_host:
            device.free(pointer)

    def _pass_time(self, stream: int) -> None:
        layers = self.engine.about.get("layers", ["everything"])

        def tick() -> None:
            device.clock += 0.5 * len(layers) * (1.5 if self.profiler is not None else 1.0)

        device.streams[stream].append(tick)
        if self.profiler is not None:
            assert self.profiler.ready, "the base class of the profiler was not initialised"
            self._unreported = True
            if self.enqueue_emits_profile:
                self.report_to_profiler()

    def report_to_profiler(self) -> Any:
        if self.profiler is None or not self._unreported or self.engine.about.get("silent"):
            return False
        self._unreported = False
        for index, name in enumerate(self.engine.about.get("layers", ["everything"])):
            self.profiler.report_layer_time(name, 0.5 + 0.25 * index)
        return True
