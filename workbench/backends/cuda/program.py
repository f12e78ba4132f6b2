"""A model on the GPU: pieces on ONNX Runtime's CUDA provider and plugins' kernels, in order on one stream.

Tensors go from piece to kernel to piece as device pointers (I/O binding); nothing is copied to the host in between but
what the runtime itself reads there (a shape that another piece makes from a tensor's values). For shapes that were seen
before, every buffer and launch is known: such a plan is replayed, as a CUDA graph where the pieces allow that.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx

from ...plugins.launch import Launch, Spec
from ...plugins.steps import Call, Piece, Steps
from ..memory import dtype_of
from ..onnxruntime import _CODES, _dtype
from .device import Buffer, Device

GUARD = 1 << 16
"""Bytes before and behind a tensor that are watched when a kernel is checked."""


@dataclass
class Tensor:
    """A tensor on the GPU (`device` ``cuda``) or on the host (``cpu``). `owner` keeps its memory."""

    pointer: int
    dtype: str
    shape: tuple[int, ...]
    owner: Any
    device: str = "cuda"

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * dtype_of(self.dtype).itemsize

    @property
    def spec(self) -> Spec:
        """dtype and shape."""
        return Spec(self.dtype, self.shape)


@dataclass
class Plan:
    """What is done for feeds of one set of shapes: every launch with its pointers."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    work: list[Callable[[], Any]]
    held: Any
    graph: Callable[[], Any] | None = None
    no_graph: str = ""

    def run(self) -> None:
        """Put it in line."""
        if self.graph is not None:
            self.graph()
            return
        for step in self.work:
            step()


@dataclass
class Program:
    """A loaded model.

    Attributes:
        sessions: of the pieces, by the number of their step.
        compile: (plugin, inputs, attributes) -> kernel.
        triton: plugin -> source of the Triton kernel that runs instead of its CUDA kernel.
    """

    device: Device
    steps: Steps
    sessions: dict[int, Any]
    compile: Callable[..., Any]
    quiet: Any
    triton: Mapping[str, str] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    plans: dict[tuple, Plan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, proto in self.steps.weights.items():
            self.weights[name] = self.place(np.asarray(onnx.numpy_helper.to_array(proto, "/")))

    def place(self, array: np.ndarray) -> Tensor:
        """An array on the GPU."""
        if array.dtype.kind in "OSU":
            raise TypeError("got a tensor of strings, which CUDA has not; run this model on onnxruntime")
        made = self.empty(Spec(array.dtype.name, array.shape))
        self.device.upload(array, made.pointer)
        return made

    def empty(self, spec: Spec, device: str = "cuda") -> Tensor:
        """A tensor with anything in it."""
        if device == "cpu":
            array = np.empty(spec.shape, dtype_of(spec.dtype))
            return Tensor(array.ctypes.data, spec.dtype, spec.shape, array, device)
        nbytes = math.prod(spec.shape) * dtype_of(spec.dtype).itemsize
        buffer = self.device.allocate(nbytes)
        return Tensor(buffer.pointer, spec.dtype, spec.shape, buffer)

    def moved(self, tensor: Tensor, device: str, copies: list[Callable[[], Any]]) -> Tensor:
        """The tensor on that device; if that is another one, `copies` gets what copies it there and waits."""
        if tensor.device == device:
            return tensor
        made = self.empty(tensor.spec, device)
        if device == "cpu":
            copies.append(partial(self.fetch, tensor, made.owner))
        else:
            copies.append(lambda: self.device.upload(self.fetch(tensor), made.pointer))
        return made

    # -- running --------------------------------------------------------------------------------------------------

    def once(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Run for feeds of any shapes. Returns every tensor that flowed between the steps."""
        values = dict(self.weights) | {name: self.place(array) for name, array in feeds.items()}
        for number, step in enumerate(self.steps.steps):
            if isinstance(step, Piece):
                values |= self._piece(number, values)()
            else:
                values |= self.made(step, values)
                self.launcher(step, values)()
        return values

    def runner(
        self,
        session: Any,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[str],
        into: Mapping[str, Tensor] | None = None,
    ) -> Callable[[], dict[str, Tensor]]:
        """What runs a session on these inputs and returns its outputs, or puts them `into` these tensors.

        Each input is bound where the session reads it. ONNX Runtime would copy it there, but does not wait for a copy
        on a stream that is not its own, and the host would read what was in that place before. Without `into` this is
        done once, here; with it before each run.
        """
        copies: list[Callable[[], Any]] = []
        binding = session.io_binding()
        reads = _devices(session.get_inputs(), session.get_input_memory_infos())
        makes = _devices(session.get_outputs(), session.get_output_memory_infos())
        types = {output.name: _dtype(output.type) for output in session.get_outputs()}
        bound = {name: self.moved(tensor, reads[name], copies) for name, tensor in inputs.items()}
        for name, t in bound.items():
            binding.bind_input(name, t.device, 0, _kind(t), list(t.shape), t.pointer)
        for name in outputs:
            if into is None:
                binding.bind_output(name, makes[name], 0)
            else:
                t = into[name]
                binding.bind_output(name, t.device, 0, _kind(t), list(t.shape), t.pointer)

        if into is None:
            for copy in copies:
                copy()
            copies.clear()

        def run(bound: dict[str, Tensor] = bound) -> dict[str, Tensor]:  # a binding does not keep its inputs
            for copy in copies:
                copy()
            session.run_with_iobinding(binding, self.quiet)
            if into is not None:
                return {}
            return {
                name: Tensor(value.data_ptr(), types[name], tuple(value.shape()), value, makes[name])
                for name, value in zip(outputs, binding.get_outputs(), strict=True)
            }

        return run

    def _piece(self, number: int, values: Mapping[str, Tensor], into: Any = None) -> Callable[[], dict[str, Tensor]]:
        """What runs a piece; its errors say which one it was."""
        step = self.steps.steps[number]
        assert isinstance(step, Piece)
        inputs = {name: values[name] for name in step.inputs}
        run = self.runner(self.sessions[number], inputs, step.outputs, into)

        def named() -> dict[str, Tensor]:
            try:
                return run()
            except Exception as error:
                first, last = step.nodes[0], step.nodes[-1]
                raise RuntimeError(f"piece {number} (nodes {first!r} to {last!r}): {error}") from None

        return named

    def made(self, step: Call, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """New outputs of a call."""
        specs = step.plugin.specs([values[name].spec for name in step.inputs], step.attributes)
        return {
            name: self.empty(specs[own]) for name, own in zip(step.outputs, step.plugin.outputs, strict=True)
        }

    def launcher(self, step: Call, values: Mapping[str, Tensor]) -> Callable[[], None]:
        """What puts a kernel in line, on these inputs and outputs."""
        plugin = step.plugin
        copies: list[Callable[[], Any]] = []
        inputs = [self.moved(values[name], "cuda", copies) for name in step.inputs]
        outputs = [values[name] for name in step.outputs]
        specs = [tensor.spec for tensor in inputs]
        launch = plugin.launch(specs, step.attributes)  # refuses what the kernels are not made for
        if plugin.name in self.triton:
            from .triton import launcher

            given = plugin.given(step.attributes)
            put = launcher(plugin.name, self.triton[plugin.name], inputs, outputs, given, self.device.stream)
        else:
            put = self._kernel(step, launch, inputs, outputs)

        def run() -> None:
            for copy in copies:
                copy()
            put()

        return run

    def _kernel(self, step: Call, launch: Launch, inputs: list[Tensor], outputs: list[Tensor]) -> Callable[[], None]:
        """What puts a CUDA kernel in line."""
        plugin = step.plugin
        compiled = self.compile(plugin, [tensor.spec for tensor in inputs], step.attributes)
        function = self.device.function(compiled.cubin, plugin.kernel, launch.shared)
        pointers = [tensor.pointer for tensor in (*inputs, *outputs)]

        def put() -> None:
            try:
                self.device.launch(function, launch, pointers)
            except RuntimeError as error:
                raise RuntimeError(f"kernel {plugin.kernel} of node {step.node!r}: {error}") from None

        return put

    def plan(self, feeds: Mapping[str, np.ndarray], *, graph: bool = True) -> Plan:
        """The plan for feeds of these shapes, with these feeds in place.

        Its pieces write into buffers of known shapes; a piece whose shapes depend on values fails when it is
        replayed with
        others.
        """
        key = tuple((name, array.dtype.name, array.shape) for name, array in feeds.items())
        if key in self.plans:
            found = self.plans[key]
            for name, array in feeds.items():
                self.device.upload(array, found.inputs[name].pointer)
            return found
        values = self.once(feeds)
        self.device.sync()
        work: list[Callable[[], Any]] = []
        for number, step in enumerate(self.steps.steps):
            if isinstance(step, Call):
                work.append(self.launcher(step, values))
                continue
            into = {name: self.empty(values[name].spec, values[name].device) for name in step.outputs}
            work.append(self._piece(number, values, into))
            values |= into
        made = Plan(
            {name: values[name] for name in feeds},
            {name: values[name] for name in self.steps.outputs},
            work,
            values,
        )
        for _ in range(2):
            made.run()  # the pieces take their memory before a graph is made
        self.device.sync()
        if graph:
            self._capture(made)
        self.plans[key] = made
        return made

    def _capture(self, made: Plan) -> None:
        try:
            made.graph = self.device.captured(lambda: [step() for step in made.work])
            made.run()
            self.device.sync()
        except Exception as error:  # reported with every profile: a piece may do what a graph cannot hold
            made.graph, made.no_graph = None, str(error)

    def fetch(self, tensor: Tensor, target: np.ndarray | None = None) -> np.ndarray:
        """A tensor as an array, in `target` if given, after all that is in line."""
        array = np.empty(tensor.shape, dtype_of(tensor.dtype)) if target is None else target
        if tensor.device == "cpu":
            self.device.sync()
            ctypes.memmove(array.ctypes.data, tensor.pointer, tensor.nbytes)
        else:
            self.device.download(tensor.pointer, array)
        return array


def _devices(values: Any, memory: Any) -> dict[str, str]:
    """Name -> where a session has it."""
    return {v.name: "cpu" if m.name in ("Cpu", "CudaPinned") else "cuda" for v, m in zip(values, memory, strict=True)}


def _kind(tensor: Tensor) -> Any:
    """The type of a tensor's elements, as a binding takes it."""
    return _CODES.get(tensor.dtype, dtype_of(tensor.dtype).type)


class Guarded:
    """A buffer between two watched zones of bytes."""

    def __init__(self, device: Device, nbytes: int, byte: int):
        self.device, self.nbytes, self.byte = device, nbytes, byte
        self.tail = -nbytes % 16  # behind the last element, up to what a 16-byte access may touch
        self.buffer = Buffer(device, nbytes + 2 * GUARD + 256)
        self.pointer = self.buffer.pointer + GUARD
        device.fill(self.buffer.pointer, byte, nbytes + 2 * GUARD + 256)

    def touched(self) -> str:
        """Where bytes outside were written, '' for nowhere."""
        around = np.empty(self.nbytes + 2 * GUARD + 256, np.uint8)
        self.device.download(self.buffer.pointer, around)
        before = np.flatnonzero(around[:GUARD] != self.byte)
        behind = np.flatnonzero(around[GUARD + self.nbytes :] != self.byte)
        if before.size:
            return f"{GUARD - int(before[0])} bytes before its first element"
        return f"{int(behind[0]) + 1} bytes behind its last element" if behind.size else ""
