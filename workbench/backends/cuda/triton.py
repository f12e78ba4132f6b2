"""Plugins' Triton kernels: on the runtime's own stream, on torch tensors that are views of its memory, so that they are
checked, timed and captured as CUDA kernels are. torch and triton are imported when the first one is asked for.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def missing() -> str:
    """Why Triton kernels cannot run in this process; '' where they can."""
    try:
        import torch
        import triton  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        return f"{error.name or error} cannot be imported ({error}); install triton and a build of torch for CUDA"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU; install a build of torch for CUDA"
    return ""


def launcher(
    plugin: str, source: str, inputs: Sequence[Any], outputs: Sequence[Any], attributes: Mapping[str, Any], stream: int
) -> Callable[[], None]:
    """What puts one launch in line.

    Args:
        plugin: its name, for messages.
        source: Python that defines ``launch(inputs, outputs, **attributes)``.
        inputs, outputs: tensors as `workbench.backends.cuda.program.Tensor`.
        stream: handle.
    """
    import torch

    with _naming(plugin):
        launch = _launch(source)
    given, made = ([_view(tensor) for tensor in tensors] for tensors in (inputs, outputs))
    ours = torch.cuda.ExternalStream(stream)
    empty = not any(tensor.nbytes for tensor in outputs)

    def run() -> None:
        if not empty:
            with _naming(plugin), torch.cuda.stream(ours):
                launch(given, made, **attributes)

    return run


@contextmanager
def _naming(plugin: str) -> Iterator[None]:
    """Errors of the plugin's Python name it."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"Triton kernel of plugin {plugin!r}: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=64)
def _launch(source: str) -> Callable[..., Any]:
    """The ``launch`` that a source defines."""
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        path = Path(folder) / "kernel.py"  # Triton reads the source of its functions from a file
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("workbench_triton_kernel", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    found: Callable[..., Any] = module.launch
    return found


def _view(tensor: Any) -> Any:
    """A torch tensor over the same memory, which it keeps: as bytes first, because that interface has no bfloat16."""
    import torch

    dtype = getattr(torch, tensor.dtype)
    if not tensor.nbytes:
        return torch.empty(tensor.shape, dtype=dtype, device="cuda")
    described = {"shape": (tensor.nbytes,), "typestr": "|u1", "data": (tensor.pointer, False), "version": 3}
    held = SimpleNamespace(__cuda_array_interface__=described, owner=tensor.owner)
    return torch.as_tensor(held, device="cuda").view(dtype).reshape(tensor.shape)
