"""Every kind of edit: the methods of ``Model``, and what scripts and JSON may name.

The kinds of this package stand in ``KINDS``. A kind that lives in a package to the right of this one (fusions,
plugins) stands in ``LATER`` by name alone, so that this package imports nothing from there.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from .base import Edit
from .combine import Append, Merge, Prepend
from .insert import InsertCast, InsertIdentity, InsertNode, InsertQDQ
from .nodes import DeleteNodes, Reconnect, RemoveAttribute, ReplaceOp, SetAttribute
from .notes import SetMetadata, SetScope
from .ports import AddInput, AddOutput, RemoveInput, RemoveOutput, SetInput
from .rename import RenameInput, RenameNode, RenameOutput, RenameTensor
from .tidy import CleanUp, Extract, FoldConstants
from .weights import ReplaceWeight, SetWeightDtype
from .whole import ConvertOpset, Simplify, Surgery

KINDS: tuple[type[Edit], ...] = (
    RenameNode, RenameTensor, RenameInput, RenameOutput,
    DeleteNodes, ReplaceOp, SetAttribute, RemoveAttribute, Reconnect,
    InsertNode, InsertIdentity, InsertCast, InsertQDQ,
    ReplaceWeight, SetWeightDtype,
    SetInput, AddInput, RemoveInput, AddOutput, RemoveOutput,
    Extract, Append, Prepend, Merge,
    FoldConstants, CleanUp, Simplify, ConvertOpset, Surgery,
    SetMetadata, SetScope,
)  # fmt: skip

LATER: dict[str, tuple[str, str]] = {
    "replace": ("workbench.plugins.replace", "Replace"),
    "inline_functions": ("workbench.plugins.inline", "InlineFunctions"),
    "bound_loop": ("workbench.tensorrt.fixes", "BoundLoop"),
    "bypass_pair": ("workbench.tensorrt.fixes", "BypassPair"),
    "cast_to_dequantize": ("workbench.tensorrt.fixes", "CastToDequantize"),
    "cast_to_quantize": ("workbench.tensorrt.fixes", "CastToQuantize"),
    "compress_to_gather": ("workbench.tensorrt.fixes", "CompressToGather"),
    "convert_precision": ("workbench.precision", "ConvertPrecision"),
    "dequantize_first": ("workbench.tensorrt.fixes", "DequantizeFirst"),
    "double_to_float": ("workbench.tensorrt.fixes", "DoubleToFloat"),
    "expand_operator": ("workbench.tensorrt.fixes", "ExpandOperator"),
    "fake_quantize": ("workbench.tensorrt.fixes", "FakeQuantize"),
    "fold_node": ("workbench.tensorrt.fixes", "FoldNode"),
    "fuse_at": ("workbench.fusions.edit", "FuseAt"),
    "quantize_weight": ("workbench.tensorrt.fixes", "QuantizeWeight"),
    "replace_nodes": ("workbench.fusions.nodes", "ReplaceNodes"),
    "simulate_precision": ("workbench.precision", "SimulatePrecision"),
    "take_branch": ("workbench.tensorrt.fixes", "TakeBranch"),
    "transpose_outside": ("workbench.tensorrt.fixes", "TransposeOutside"),
}
"""Method of ``Model`` -> (module, class) of a kind of edit that is imported when it is first used.

To add one: write the ``Edit`` in its package, with ``method = "<name>"``, and one row here, ``"<name>":
("workbench.<package>", "<Class>")``. It is then a method of ``Model``, and scripts and JSON that name it replay.
"""

LATER_METHODS: dict[str, tuple[str, str]] = {
    "fuse": ("workbench.fusions", "fuse"),
    "why_not": ("workbench.fusions", "why_not"),
}
"""Method of ``Model`` -> (module, function) of what is no edit itself but makes some; it gets the model first."""


def late(table: Mapping[str, tuple[str, str]], name: str) -> Any:
    """What a row of one of these tables names."""
    module, attribute = table[name]
    return getattr(importlib.import_module(module), attribute)


class _ByMethod(Mapping[str, type[Edit]]):
    def __getitem__(self, method: str) -> type[Edit]:
        found: type[Edit] = _HERE[method] if method in _HERE else late(LATER, method)
        return found

    def __contains__(self, method: object) -> bool:
        return method in _HERE or method in LATER

    def __iter__(self) -> Iterator[str]:
        return iter((*_HERE, *LATER))

    def __len__(self) -> int:
        return len(_HERE) + len(LATER)


_HERE = {kind.method: kind for kind in KINDS}
BY_METHOD: Mapping[str, type[Edit]] = _ByMethod()
"""Method -> kind of edit; asking for one of ``LATER`` imports it."""
