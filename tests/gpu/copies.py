"""Which copies between the GPU and the host a model with plugins makes, as the driver reports them to torch's profiler.

    python -m tests.gpu.copies          # JSON

A process of its own, because the profiler sees all of a process: the runtime of the worker is used here directly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from workbench.backends.cuda import Runtime
from workbench.plugins.steps import Piece

from .block import feeds, transformer_block, with_plugins


def seen(work: Callable[[], Any]) -> dict[str, Any]:
    """Copies by direction and names of kernels while `work` runs."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as traced:
        work()
        torch.cuda.synchronize()
    names = [event.name for event in traced.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    found: dict[str, Any] = {way: sum(f"Memcpy {way}" in name for name in names) for way in ("HtoD", "DtoH", "DtoD")}
    return found | {"kernels": sorted({name for name in names if not name.startswith("Mem")})}


def main() -> None:
    plain = transformer_block(2, 64, 128, 4, "float16")
    given = feeds(plain)
    model = with_plugins(plain).to_proto().SerializeToString()
    runtime = Runtime()
    loaded = runtime.load(model)
    program, driver = loaded.program, runtime.device.driver
    values = program.once(given)
    runtime.device.sync()
    kind = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    memory = {
        name: int(runtime.device.did(driver.cuPointerGetAttribute(kind, tensor.pointer)))
        for name, tensor in values.items()
    }
    pieces = [step for step in program.steps.steps if isinstance(step, Piece)]
    executed = [node.op_type for piece in pieces for node in runtime.optimised(loaded, piece).graph.node]
    steps = runtime.load(model, graph=False).program.plan(given, graph=False)
    replayed = program.plan(given)
    found = {
        "device memory": int(driver.CUmemorytype.CU_MEMORYTYPE_DEVICE),
        "memory": memory,
        "between steps": sorted({name for step in program.steps.steps for name in step.inputs} & set(memory)),
        "pieces": len(pieces),
        "executed": executed,
        "whole run": seen(lambda: runtime.run(loaded, given, None, lambda dtype, shape: np.empty(shape, dtype))),
        "steps": seen(steps.run),
        "graph": seen(replayed.run) | {"why none": replayed.no_graph},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
