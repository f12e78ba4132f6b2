"""One GPU through CUDA's driver API: memory, kernels, time. The sole importer of ``cuda.bindings.driver``.

Everything is in order on one stream. An error of a kernel (an address that is not its own) leaves the context unusable
for good: what raises it says so, and the process has to be replaced.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...plugins.launch import Launch

HELPERS = """
extern "C" __global__ void spin(long long nanoseconds)
{
    long long start, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
    do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now)); while (now - start < nanoseconds);
}

extern "C" __global__ void sweep(const uint4* from, unsigned* to, long long packs)
{
    unsigned found = 0;
    for (long long i = blockIdx.x * 1024ll + threadIdx.x; i < packs; i += gridDim.x * 1024ll) found |= from[i].x;
    if (found == 1) *to = found;
}
"""
"""``spin`` keeps the GPU busy while the work behind it is put in line, so that events measure the work and not the wait
for it. ``sweep`` reads memory to push other data out of the cache; written memory would be brought home by what is
measured."""
FLUSH = 256 << 20
"""Bytes that are read to push tensors out of the cache: several times the largest level-2 cache."""


class Device:
    """The first GPU.

    Attributes:
        name: for example ``NVIDIA H200``.
        arch: for example ``sm_90``.
        stream: handle of the stream, as an int.
    """

    def __init__(self) -> None:
        from cuda.bindings import driver

        self.driver = driver
        try:
            self.did(driver.cuInit(0))
        except RuntimeError as error:
            raise RuntimeError(
                f"there is no NVIDIA GPU with a driver here ({error}); run this on a machine with one"
            ) from None
        self._device = self.did(driver.cuDeviceGet(0))
        self._context = self.did(driver.cuDevicePrimaryCtxRetain(self._device))
        self.did(driver.cuCtxSetCurrent(self._context))
        self._stream = self.did(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        self.stream = int(self._stream)
        self.name = self.did(driver.cuDeviceGetName(256, self._device)).split(b"\0")[0].decode()
        kinds = driver.CUdevice_attribute
        major, minor, self.multiprocessors = (
            self.did(driver.cuDeviceGetAttribute(kind, self._device))
            for kind in (
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                kinds.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )
        )
        self.arch = f"sm_{major}{minor}"
        self.driver_version = self.did(driver.cuDriverGetVersion())
        self._functions: dict[bytes, Any] = {}
        self._scratch: Buffer | None = None

    def did(self, answer: tuple) -> Any:
        """What a call of the driver returned behind its status; RuntimeError when that is no success."""
        status, *values = answer
        if status != self.driver.CUresult.CUDA_SUCCESS:
            name = self.driver.cuGetErrorName(status)[1].decode()
            reason = self.driver.cuGetErrorString(status)[1].decode()
            raise RuntimeError(f"{name}: {reason}")
        return values[0] if len(values) == 1 else tuple(values)

    # -- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> Buffer:
        """New memory, with what was in it before."""
        return Buffer(self, nbytes)

    def upload(self, array: np.ndarray, pointer: int) -> None:
        """Copy an array to the GPU."""
        array = np.ascontiguousarray(array)
        if array.nbytes:
            self.did(self.driver.cuMemcpyHtoDAsync(pointer, array.ctypes.data, array.nbytes, self._stream))
            self.sync()  # the array may be gone after this

    def download(self, pointer: int, array: np.ndarray) -> None:
        """Copy from the GPU into a contiguous array, after all that is in line."""
        if array.nbytes:
            self.did(self.driver.cuMemcpyDtoHAsync(array.ctypes.data, pointer, array.nbytes, self._stream))
        self.sync()

    def fill(self, pointer: int, byte: int, nbytes: int) -> None:
        """Set bytes."""
        if nbytes:
            self.did(self.driver.cuMemsetD8Async(pointer, byte, nbytes, self._stream))

    def copy(self, source: int, target: int, nbytes: int) -> None:
        """Copy on the GPU."""
        self.did(self.driver.cuMemcpyDtoDAsync(target, source, nbytes, self._stream))

    def helpers(self, cubin: bytes) -> None:
        """Load `HELPERS`, compiled."""
        self._spin, self._sweep = self.function(cubin, "spin"), self.function(cubin, "sweep")

    def delay(self, nanoseconds: int) -> None:
        """Keep the GPU busy."""
        self.launch(self._spin, Launch((1, 1, 1), (1, 1, 1), 0, (nanoseconds,)), [])

    def flush(self) -> None:
        """Push what is in the cache out of it."""
        if self._scratch is None:
            self._scratch = self.allocate(FLUSH)
            self.fill(self._scratch.pointer, 0, FLUSH)
        grid = Launch((2 * self.multiprocessors, 1, 1), (1024, 1, 1), 0, (FLUSH // 16,))
        self.launch(self._sweep, grid, [self._scratch.pointer, self._scratch.pointer])

    # -- kernels --------------------------------------------------------------------------------------------------

    def function(self, cubin: bytes, kernel: str, shared: int = 0) -> Any:
        """A kernel from its machine code."""
        key = cubin + kernel.encode()
        if key not in self._functions:
            module = self.did(self.driver.cuModuleLoadData(cubin))
            self._functions[key] = self.did(self.driver.cuModuleGetFunction(module, kernel.encode()))
        found = self._functions[key]
        if shared > 48 << 10:
            kind = self.driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            self.did(self.driver.cuFuncSetAttribute(found, kind, shared))
        return found

    def launch(
        self, function: Any, launch: Launch, pointers: Sequence[int], stream: int | None = None
    ) -> None:
        """Put a kernel in line, on another stream if one is given; a grid with a 0 in it is nothing to do."""
        if not all(launch.grid):
            return
        types = [ctypes.c_void_p] * len(pointers)
        types += [ctypes.c_float if isinstance(v, float) else ctypes.c_longlong for v in launch.values]  # type: ignore[misc]
        self.did(
            self.driver.cuLaunchKernel(
                function, *launch.grid, *launch.block, launch.shared, self._stream if stream is None else stream,
                ((*pointers, *launch.values), tuple(types)), 0,
            )
        )  # fmt: skip

    def sync(self) -> None:
        """Wait for all that is in line; RuntimeError for what went wrong with it."""
        self.did(self.driver.cuStreamSynchronize(self._stream))

    # -- graphs and time ------------------------------------------------------------------------------------------

    def captured(self, work: Callable[[], Any]) -> Callable[[], None]:
        """The launches of `work` as a CUDA graph: what is returned puts all of them in line at once.

        Raises:
            RuntimeError: `work` does what a graph cannot hold.
        """
        driver = self.driver
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        collecting = gc.isenabled()
        gc.disable()  # a buffer freed by the collector in between would become part of the graph
        try:
            self.did(driver.cuStreamBeginCapture(self._stream, mode))
            try:
                work()
            except BaseException:
                driver.cuStreamEndCapture(self._stream)
                raise
            graph = self.did(driver.cuStreamEndCapture(self._stream))
        finally:
            if collecting:
                gc.enable()
        made = self.did(driver.cuGraphInstantiate(graph, 0))
        self.did(driver.cuGraphDestroy(graph))
        return _Graph(self, made)

    @contextmanager
    def timed(self, found: list[float]) -> Iterator[None]:
        """Append the ms of GPU time between the work put in line before this block and behind it."""
        driver, events = self.driver, []
        for _ in range(2):
            events.append(self.did(driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DEFAULT)))
        try:
            self.did(driver.cuEventRecord(events[0], self._stream))
            yield
            self.did(driver.cuEventRecord(events[1], self._stream))
            self.sync()
            found.append(float(self.did(driver.cuEventElapsedTime(events[0], events[1]))))
        finally:
            for event in events:
                driver.cuEventDestroy(event)


class _Graph:
    """A CUDA graph; calling it puts it in line."""

    def __init__(self, device: Device, held: Any):
        self._device, self._held = device, held

    def __call__(self) -> None:
        self._device.did(self._device.driver.cuGraphLaunch(self._held, self._device._stream))

    def __del__(self) -> None:
        self._device.driver.cuGraphExecDestroy(self._held)


class Buffer:
    """Memory on the GPU, given back when nobody holds it (after the work that is in line by then)."""

    def __init__(self, device: Device, nbytes: int):
        self._device, self.nbytes = device, max(256, nbytes)
        self._held = device.did(device.driver.cuMemAllocAsync(self.nbytes, device._stream))
        self.pointer = int(self._held)

    def __del__(self) -> None:
        if hasattr(self, "_held"):
            self._device.driver.cuMemFreeAsync(self._held, self._device._stream)
