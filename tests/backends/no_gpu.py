"""The cuda runtime without a GPU: its sessions run on the CPU, a plugin's body stands for its kernel, and memory of the
GPU is a buffer that the host may read by a copy alone.

As ONNX Runtime's CUDA provider does it, a session reads and makes shapes and axes (here: whatever is int64) on the
host. It copies what is bound elsewhere by itself, but on a stream that is not its own it does not wait for the copy:
what it reads then is what was there before. Here that is zeros.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort

from workbench.backends import cuda, process
from workbench.backends.cuda import Runtime, program
from workbench.backends.memory import dtype_of
from workbench.backends.onnxruntime import Runtime as OnnxRuntime

_HOST, _GPU = SimpleNamespace(name="Cpu"), SimpleNamespace(name="Cuda")


def seen(pointer: int, dtype: str, shape: Any) -> np.ndarray:
    """The memory at an address as an array."""
    array = np.empty(shape, dtype_of(dtype))
    raw = (ctypes.c_char * array.nbytes).from_address(pointer)
    return np.frombuffer(raw, array.dtype).reshape(array.shape)


class Buffer:
    """Memory of the GPU. Given back it may not be read; it is kept, so that no other gets its address."""

    freed: ClassVar[dict[int, np.ndarray]] = {}

    def __init__(self, nbytes: int):
        self.held = np.full(max(nbytes, 16), 0xEE, np.uint8)
        self.pointer = self.held.ctypes.data

    def __del__(self) -> None:
        self.freed[self.pointer] = self.held


class Device:
    """Memory and copies; a graph cannot be captured."""

    name, arch, driver_version, multiprocessors, stream = "no GPU", "sm_90", 0, 1, 0

    def allocate(self, nbytes: int) -> Buffer:
        return Buffer(nbytes)

    def upload(self, array: np.ndarray, pointer: int) -> None:
        array = np.ascontiguousarray(array)
        ctypes.memmove(pointer, array.ctypes.data, array.nbytes)

    def download(self, pointer: int, array: np.ndarray) -> None:
        ctypes.memmove(array.ctypes.data, pointer, array.nbytes)

    def captured(self, work: Any) -> Any:
        raise RuntimeError("no GPU, no graph")

    def sync(self, *_: Any) -> None:
        pass

    delay = flush = sync

    @contextmanager
    def timed(self, found: list[float]) -> Any:
        yield
        found.append(1.0)


class Binding:
    """What is bound, by name: (device, dtype, shape, pointer), or the device alone."""

    def __init__(self, session: Session):
        self.session, self.given, self.made = session, {}, dict[str, Any]()

    def bind_input(self, name: str, device: str, _: int, kind: Any, shape: list[int], pointer: int) -> None:
        self.given[name] = device, np.dtype(kind).name, shape, pointer

    def bind_output(self, name: str, device: str, _: int = 0, kind: Any = None, shape: Any = None, at: int = 0) -> None:
        self.made[name] = seen(at, np.dtype(kind).name, shape) if at else None

    def get_outputs(self) -> list[Any]:
        return [
            SimpleNamespace(data_ptr=lambda a=a: a.ctypes.data, shape=lambda a=a: list(a.shape), held=a)
            for a in self.made.values()
        ]


class Session:
    """A session on the CPU."""

    def __init__(self, model: bytes, options: Any):
        self.session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
        self.get_inputs, self.get_outputs = self.session.get_inputs, self.session.get_outputs
        nodes = onnx.load_from_string(model).graph.node
        self.data = nodes[0].input[0] if len(nodes) == 1 else None  # a node by itself reads its data on the GPU

    def get_input_memory_infos(self) -> list[Any]:
        return [_HOST if v.type == "tensor(int64)" and v.name != self.data else _GPU for v in self.get_inputs()]

    def get_output_memory_infos(self) -> list[Any]:
        return [_HOST if v.type == "tensor(int64)" else _GPU for v in self.get_outputs()]

    def io_binding(self) -> Binding:
        return Binding(self)

    def run_with_iobinding(self, binding: Binding, _: Any) -> None:
        feeds = {}
        for (name, (device, *what)), info in zip(binding.given.items(), self.get_input_memory_infos(), strict=True):
            if what[2] in Buffer.freed:
                raise RuntimeError(f"CUDA failure 1: invalid argument; input {name!r} was given back")
            there = seen(what[2], what[0], what[1])
            feeds[name] = np.zeros_like(there) if info is _HOST and device != "cpu" else there
        for (name, at), found in zip(
            binding.made.items(), self.session.run(list(binding.made), feeds), strict=True
        ):
            if at is None:
                binding.made[name] = found
            else:
                np.copyto(at, found)


class Program(program.Program):
    """Kernels are bodies."""

    def _kernel(self, step: Any, launch: Any, inputs: Any, outputs: Any) -> Any:
        model = step.plugin.model([tensor.spec for tensor in inputs], step.attributes)
        session = ort.InferenceSession(model.to_proto().SerializeToString())

        def run() -> None:
            given = [seen(t.pointer, t.dtype, t.shape) for t in inputs]
            made = session.run(step.plugin.outputs, dict(zip(step.plugin.inputs, given, strict=True)))
            for tensor, found in zip(outputs, made, strict=True):
                np.copyto(seen(tensor.pointer, tensor.dtype, tensor.shape), found)

        return run


class NoGpu(Runtime):
    """The runtime of a cuda worker."""

    version = "no GPU"

    def __init__(self) -> None:
        self.device: Any = Device()
        self.onnxruntime = OnnxRuntime()
        self.quiet = None

    def session(self, model: bytes, optimize: str, tf32: bool, path: str = "") -> Any:
        return Session(model, self.onnxruntime.options(optimize=optimize, graph=path))


START = process._START.replace("from workbench", "from backends import no_gpu; no_gpu.install(); from workbench")
"""`workbench.backends.process._START` for a cuda worker that is this one."""


def install() -> None:
    """Let the cuda runtime of this process be the one without a GPU."""
    cuda.Runtime, cuda.Program = NoGpu, Program  # type: ignore[misc]
