"""Every kind of edit, in one tuple: the methods of ``Model``, and what scripts and JSON may name."""

from __future__ import annotations

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

BY_METHOD: dict[str, type[Edit]] = {kind.method: kind for kind in KINDS}
