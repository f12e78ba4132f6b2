"""A plugin's Triton kernel, beside its CUDA one: run and timed on torch tensors. Imported only when it is asked for."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def run(
    source: str,
    inputs: list[np.ndarray],
    outputs: list[tuple[str, tuple[int, ...]]],
    attributes: dict[str, Any],
) -> dict[str, Any]:
    """Run the ``launch`` of a source.

    Returns:
        ``outputs`` (arrays) and ``ms`` (median GPU time).
    """
    import torch
    from triton.testing import do_bench  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        path = Path(folder) / "kernel.py"  # Triton reads the source of its functions from a file
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("workbench_triton_kernel", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        given = [torch.from_numpy(np.ascontiguousarray(array)).cuda() for array in inputs]
        made = [torch.empty(shape, dtype=getattr(torch, dtype), device="cuda") for dtype, shape in outputs]
        module.launch(given, made, **attributes)
        torch.cuda.synchronize()
        ms = do_bench(lambda: module.launch(given, made, **attributes), return_mode="median")
    return {"outputs": [tensor.cpu().numpy() for tensor in made], "ms": float(ms)}
