"""The recorded engines of data/engines and the ONNX model with their names."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import workbench as wb

FOLDER = Path(__file__).resolve().parents[1] / "data" / "engines"


def path(variant: str) -> Path:
    return FOLDER / f"resnet18-a100-{variant}.graph.json"


@cache
def engine(variant: str, joined: bool = False) -> wb.tensorrt.Engine:
    return wb.tensorrt.load(path(variant), model=resnet18() if joined else None)


@cache
def resnet18() -> wb.Model:
    spec = importlib.util.spec_from_file_location("resnet18", FOLDER / "resnet18.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return wb.load(module.model())
