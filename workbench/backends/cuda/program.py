"""A model on the GPU: pieces on ONNX Runtime's CUDA provider and plugins' kernels, in order on one stream.

Tensors go from piece to kernel to piece as device pointers (I/O binding); nothing is copied to the host in between. For
shapes that were seen before, every buffer and launch is known: such a plan is replayed, as a CUDA graph where
the pieces
allow that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx

from ...plugins.launch import Spec
from ...plugins.steps import Call, Piece, Steps
from ..memory import dtype_of
from ..onnxruntime import _CODES, _dtype
from .device import Buffer, Device

GUARD = 1 << 16
"""Bytes before and behind a tensor that are watched when a kernel is checked."""


@dataclass
class Tensor:
    """A tensor on the GPU. `owner` keeps its memory."""

    pointer: int
    dtype: str
    shape: tuple[int, ...]
    owner: Any

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
    held: list[Any]
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
        compile: (plugin, inputs) -> kernel.
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

    def empty(self, spec: Spec) -> Tensor:
        """A tensor with anything in it."""
        nbytes = math.prod(spec.shape) * dtype_of(spec.dtype).itemsize
        buffer = self.device.allocate(nbytes)
        return Tensor(buffer.pointer, spec.dtype, spec.shape, buffer)

    # -- running --------------------------------------------------------------------------------------------------

    def once(self, feeds: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Run for feeds of any shapes. Returns every tensor that flowed between the steps."""
        values = dict(self.weights) | {name: self.place(array) for name, array in feeds.items()}
        for number, step in enumerate(self.steps.steps):
            if isinstance(step, Piece):
                self._piece(number, step, values)
            else:
                values |= self.made(step, values)
                self.launcher(step, values)()
        return values

    def _piece(self, number: int, step: Piece, values: dict[str, Tensor]) -> None:
        binding = self.bind(self.sessions[number], {name: values[name] for name in step.inputs})
        for name in step.outputs:
            binding.bind_output(name, "cuda", 0)
        self.sessions[number].run_with_iobinding(binding, self.quiet)
        types = {o.name: _dtype(o.type) for o in self.sessions[number].get_outputs()}
        for name, value in zip(step.outputs, binding.get_outputs(), strict=True):
            values[name] = Tensor(value.data_ptr(), types[name], tuple(value.shape()), value)

    def bind(self, session: Any, inputs: Mapping[str, Tensor]) -> Any:
        """A binding with the inputs in place."""
        binding = session.io_binding()
        for name, tensor in inputs.items():
            kind = _CODES.get(tensor.dtype, dtype_of(tensor.dtype).type)
            binding.bind_input(name, "cuda", 0, kind, list(tensor.shape), tensor.pointer)
        return binding

    def made(self, step: Call, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """New outputs of a call."""
        specs = step.plugin.specs([values[name].spec for name in step.inputs], step.attributes)
        return {
            name: self.empty(specs[own]) for name, own in zip(step.outputs, step.plugin.outputs, strict=True)
        }

    def launcher(self, step: Call, values: Mapping[str, Tensor]) -> Callable[[], None]:
        """What puts a kernel in line, on these inputs and outputs."""
        plugin = step.plugin
        inputs = [values[name] for name in step.inputs]
        outputs = [values[name] for name in step.outputs]
        specs = [tensor.spec for tensor in inputs]
        launch = plugin.launch(specs, step.attributes)  # refuses what the kernels are not made for
        if plugin.name in self.triton:
            from .triton import launcher

            given = plugin.given(step.attributes)
            return launcher(plugin.name, self.triton[plugin.name], inputs, outputs, given, self.device.stream)
        function = self.device.function(self.compile(plugin, specs).cubin, plugin.kernel, launch.shared)
        pointers = [tensor.pointer for tensor in (*inputs, *outputs)]

        def run() -> None:
            try:
                self.device.launch(function, launch, pointers)
            except RuntimeError as error:
                raise RuntimeError(f"kernel {plugin.kernel} of node {step.node!r}: {error}") from None

        return run

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
        held: list[Any] = [values]
        for number, step in enumerate(self.steps.steps):
            if isinstance(step, Call):
                work.append(self.launcher(step, values))
                continue
            session = self.sessions[number]
            binding = self.bind(session, {name: values[name] for name in step.inputs})
            for name in step.outputs:
                fixed = self.empty(values[name].spec)
                kind = _CODES.get(fixed.dtype, dtype_of(fixed.dtype).type)
                binding.bind_output(name, "cuda", 0, kind, list(fixed.shape), fixed.pointer)
                values[name] = fixed
            held.append(binding)
            work.append(partial(session.run_with_iobinding, binding, self.quiet))
        made = Plan(
            {name: values[name] for name in feeds},
            {name: values[name] for name in self.steps.outputs},
            work,
            held,
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
        """A tensor as an array, in `target` if given."""
        array = np.empty(tensor.shape, dtype_of(tensor.dtype)) if target is None else target
        self.device.download(tensor.pointer, array)
        return array


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
