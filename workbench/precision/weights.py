"""Weights in a narrower type: rounding them, and what that does to those that it cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..edits.weights import data
from ..model import Model, load
from ..model.scopes import scopes, within
from .operators import TINY, is_weight, largest
from .plan import check_type

if TYPE_CHECKING:
    import pandas as pd


class Rounded:
    """Weights rounded to a dtype, each once.

    Args:
        low: ``float16`` or ``bfloat16``.
        simulated: give them as float32 (of values that the dtype holds).
    """

    def __init__(self, low: str, *, simulated: bool):
        self.low, self.simulated = low, simulated
        self.made: dict[int, tuple[ir.TensorProtocol, ir.Tensor, bool]] = {}

    def of(self, tensor: ir.TensorProtocol) -> tuple[ir.Tensor, bool]:
        """(the rounded weight, whether numbers beyond the range were cut off at its ends)."""
        if id(tensor) not in self.made:
            array, cut = saturated(tensor.numpy(), self.low)
            dtype = ir.DataType.FLOAT16 if self.low == "float16" else ir.DataType.BFLOAT16
            if self.simulated:
                array, dtype = array.astype(np.float32), ir.DataType.FLOAT
            self.made[id(tensor)] = (tensor, ir.Tensor(array, dtype), cut)
        _, found, cut = self.made[id(tensor)]
        return found, cut


def saturated(array: np.ndarray, low: str) -> tuple[np.ndarray, bool]:
    """An array in a dtype, to the nearest (ties to even); finite numbers beyond the range become its ends, because an
    infinity in a weight makes NaN of every 0 that it meets. The second: whether there were any."""
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, low) if low == "bfloat16" else low)
    with np.errstate(all="ignore"):
        made = array.astype(dtype)
        beyond = ~np.isfinite(made) & np.isfinite(array)
        if beyond.any():
            made = np.where(beyond, np.sign(array) * np.float32(largest(low)), array).astype(dtype)
    return made, bool(beyond.any())


def weights(model: Any, to: str) -> pd.DataFrame:
    """What a type does to the float32 weights of a model.

    Args:
        model: a Model, or what ``workbench.load`` takes.
        to: ``"fp16"`` or ``"bf16"``.

    Returns:
        One row per weight, those in bodies included, worst first; index ``tensor``. Columns: ``elements``, ``min``,
        ``max`` (of the finite numbers), ``over`` (numbers beyond the range, which a conversion cuts off at its ends),
        ``under`` (numbers that become 0), ``subnormal`` (that become subnormal: with fewer digits), ``lost_share``
        (share of the elements in these three), ``max_rel`` (largest relative error of the others), ``readers``
        (names of nodes).

    Raises:
        EditError: an unknown type.
    """
    import pandas as pd

    low = check_type(to, "look at the weights")
    rows: dict[str, dict[str, Any]] = {}
    for scope, graph in scopes((model if isinstance(model, Model) else load(model)).ir):
        held = list(getattr(graph, "initializers", {}).values())
        held += [value for node in graph if node.op_type == "Constant" for value in node.outputs]
        for value in held:
            if is_weight(value) and data(value).dtype == ir.DataType.FLOAT:
                readers = tuple(dict.fromkeys(user.name for user, _ in value.uses()))
                rows[within(scope, value.name or "")] = {**_row(data(value).numpy(), low), "readers": readers}
    columns = ["elements", "min", "max", "over", "under", "subnormal", "lost_share", "max_rel", "readers"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("tensor")
    return frame.sort_values(["over", "lost_share", "max_rel"], ascending=False, kind="stable")


def _row(array: np.ndarray, low: str) -> dict[str, Any]:
    made, _ = saturated(array, low)
    known = array[np.isfinite(array)].astype(np.float64)
    after = made[np.isfinite(array)].astype(np.float64)
    size = np.abs(known)
    over, under = size > largest(low), (size > 0) & (after == 0)
    subnormal = (after != 0) & (np.abs(after) < TINY[low])
    fine = (size > 0) & ~(over | under | subnormal)
    relative = np.abs(after[fine] - known[fine]) / size[fine]
    return {
        "elements": array.size,
        "min": float(known.min(initial=np.inf)) if known.size else np.nan,
        "max": float(known.max(initial=-np.inf)) if known.size else np.nan,
        "over": int(over.sum()),
        "under": int(under.sum()),
        "subnormal": int(subnormal.sum()),
        "lost_share": float((over | under | subnormal).sum() / max(1, array.size)),
        "max_rel": float(relative.max(initial=0.0)),
    }
