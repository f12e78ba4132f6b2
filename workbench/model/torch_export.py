"""From a PyTorch module to a model: ``torch.onnx.export(dynamo=True)``; torch and onnxscript are needed only
here."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from typing import Any

import onnx_ir as ir

from ..errors import ModelError


def export(module: Any, example: Any) -> ir.Model:
    """Export a module.

    The weights of the result are those of the module: they take no further memory, and changing the module in
    place changes them.

    Args:
        module: a ``torch.nn.Module`` (put into ``eval()`` mode first, if it is to be used so).
        example: its inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.

    Raises:
        ModelError: torch or onnxscript is not installed, or the export failed, with its reason.
    """
    for package in ("torch", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ModelError(
                f"cannot load the module {type(module).__name__}: exporting it needs {package}, which is not "
                'installed; run `pip install "trt-workbench[torch]"`'
            )
    import torch

    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"cannot load a pair of {type(module).__name__} and {type(example).__name__}; "
            "expected (torch.nn.Module, example inputs)"
        )
    args, kwargs = _arguments(example)
    try:
        with _quiet():
            program = torch.onnx.export(module, args, kwargs=kwargs, dynamo=True, verbose=False)
    except Exception as error:  # the exporter raises many kinds
        raise ModelError(
            f"cannot export {type(module).__name__} from PyTorch: {_reason(error)}; check that the module "
            "runs on the example inputs and that torch.onnx supports its operators"
        ) from error
    return program.model


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example, dict):
        return (), example
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter prints its progress and warns about its own dependencies."""
    logger = logging.getLogger("torch")
    level = logger.level
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.') if lines else 'no message'}"
