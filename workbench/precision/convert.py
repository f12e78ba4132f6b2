"""Converting a model to fp16 or bf16, and simulating that in float32: two kinds of edit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..edits.base import Edit, names
from ..edits.draft import Draft
from ..errors import EditError
from ..model import Model, load
from .plan import borrowed, check_type, make, roles_of, warn_of_opset
from .rewrite import Rewrite, opsets_have_cast
from .weights import Rounded


@dataclass(frozen=True)
class ConvertPrecision(Edit):
    """Compute in fp16 or bf16, by Casts in the graph; see ``workbench.precision.convert``.

    Args:
        to: ``"fp16"`` or ``"bf16"``.
        keep: names of the nodes that stay in float32, with what is in their bodies.
        keep_io: leave the types of the model's inputs and outputs.
    """

    method: ClassVar[str] = "convert_precision"
    simulated: ClassVar[bool] = False
    to: str
    keep: tuple[str, ...] = field(default=(), kw_only=True)
    keep_io: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", names(self.keep))

    def change(self, draft: Draft) -> None:
        low = check_type(self.to, "convert the model")
        missing = opsets_have_cast(draft.model, low)
        if missing:
            raise EditError(f"cannot convert the model to {self.to}: {missing}; use convert_opset first")
        roles = roles_of(draft, low)
        plan = make(draft, roles, self.keep, self.keep_io)
        if not roles.computing:
            raise EditError(
                f"cannot convert the model to {self.to}: no node computes in float32 and could in {low}; see "
                f"workbench.precision.nodes(model, {self.to!r}) for the reasons"
            )
        if not self.simulated:
            warn_of_opset(roles, self.to)
        rewrite = Rewrite(draft, plan, Rounded(low, simulated=self.simulated))
        rewrite.run()
        if rewrite.cut and not self.simulated:
            count, some = len(rewrite.cut), ", ".join(map(repr, rewrite.cut[:5]))
            warnings.warn(
                f"{count} weight{'s' * (count > 1)} beyond the range of {low}, cut off at its ends: {some}"
                f"{', ...' if count > 5 else ''}; workbench.precision.weights(model, {self.to!r}) lists them",
                stacklevel=2,
            )


@dataclass(frozen=True)
class SimulatePrecision(ConvertPrecision):
    """Round in float32 what fp16 or bf16 would round; see ``workbench.precision.simulate``."""

    method: ClassVar[str] = "simulate_precision"
    simulated: ClassVar[bool] = True


def convert(model: Any, to: str, *, keep: Iterable[str] = (), keep_io: bool = True) -> Model:
    """The model computed in fp16 or bf16, by Casts in its graph, as strongly typed runtimes (TensorRT 11) take it.

    Every tensor has one type; one Cast stands where it is read in the other. Weights are stored in the type in which
    they are read (in both where both are); numbers beyond the range are cut off at its ends, with a warning that names
    them. It stays float32 what an operator's definition takes in no other type (in the operator set of the model):
    scales of Resize, QuantizeLinear and DequantizeLinear before operator set 19, statistics of LayerNormalization,
    operators without a definition; the region of interest of Resize; and what enters and leaves the bodies of If,
    Loop and Scan, in which nodes are converted as anywhere else. What only moves values (Reshape, Relu, Concat, ...)
    has the type of what it moves. ``nodes(model, to)`` lists what is what, and why.

    Args:
        model: a Model, or what ``workbench.load`` takes.
        to: ``"fp16"`` or ``"bf16"``.
        keep: names of the nodes to keep in float32, with what is in their bodies.
        keep_io: leave the types of the model's inputs and outputs (with Casts behind and before them); False: they
            become ``to``, but for inputs that have a default.

    Returns:
        A new model; the change is one edit (``convert_precision``).

    Raises:
        EditError: an unknown type, or a model that cannot be converted.
        NotInModelError: ``keep`` names a node that is not there.
    """
    return _model(model).apply(ConvertPrecision(to, keep=names(keep), keep_io=keep_io))


def simulate(model: Any, to: str, *, keep: Iterable[str] = (), keep_io: bool = True) -> Model:
    """The model in float32 that gives what the converted one gives, up to the order of additions.

    Each tensor that ``convert`` would hold in the low type goes through it and back (two Casts), weights are rounded,
    and the arithmetic in between is float32, as where a device accumulates in fp32. Runs wherever ONNX runs. A tensor
    shows what its node computed, before it is rounded for those that read it, so that in a comparison the local error
    of a node is what it makes of rounded inputs and weights.

    How near that is, measured on an NVIDIA H100 with ONNX Runtime 1.31.1 (2026-11-28, data/precision): single operators
    (sums of up to 4,096 products among them) differ from their simulation by less than a fifth of the error that
    rounding makes. Whole models have the error that was simulated within 2.5 dB (a small classifier with few outputs:
    6 dB), in bf16 the very same values. Graph optimisations, which leave out or move roundings, change the error of
    fp16 by up to 5 dB from what is simulated. Overflow happened where it was simulated, and the sets that the search
    found held.

    Arguments, result and errors as for ``convert``; here inputs and outputs are float32 in any case.
    """
    return _model(model).apply(SimulatePrecision(to, keep=names(keep), keep_io=keep_io))


def nodes(model: Any, to: str) -> Any:
    """What each node does in a conversion: a DataFrame with index ``node``.

    Columns: ``op_type``, ``kind`` (``computes``: in either type; ``moves``: values as they are, it follows its
    neighbours; ``stays``: in float32; ``none``: no float32 to convert) and ``reason`` for what stays.
    """
    import pandas as pd

    low = check_type(to, "look at the nodes")
    with borrowed(_model(model)) as draft:
        found = roles_of(draft, low)
    rows = [(node.name, node.op_type, role.kind, role.reason) for node, role in found.nodes.items()]
    return pd.DataFrame(rows, columns=["node", "op_type", "kind", "reason"]).set_index("node")


def _model(model: Any) -> Model:
    return model if isinstance(model, Model) else load(model)
