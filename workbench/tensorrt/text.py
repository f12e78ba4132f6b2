"""An engine in a few lines, as it shows itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..profile.join import AFTER, BEFORE
from .work import CONSTANT

if TYPE_CHECKING:
    import pandas as pd

    from .engine import Engine


def lines(engine: Engine) -> list[str]:
    """What it is, how much of it is joined to nodes, how long it takes, what is missing."""
    meta, layers, timed = engine.meta, engine.layers, engine.table
    where = engine.gpu.name if engine.gpu else meta.get("gpu")
    version = " ".join(str(meta[key]) for key in ("runtime", "version") if meta.get(key))
    said = [f"Engine {engine.model_name} ({version})" + (f" on {where}" if where else "")]
    if len(timed):
        moves = float(timed.loc[timed["joined"].isin((BEFORE, AFTER)), "share"].sum())
        said.append(
            f"{len(layers)} layers, {engine.sum_ms:.4g} ms together, {engine.mapped:.1%} of it joined to nodes"
            + (f", {moves:.1%} in layers that TensorRT inserted to move data" if moves else "")
        )
    else:
        work = layers[layers["op_type"] != CONSTANT]
        constants = f" and {len(layers) - len(work)} constants" if len(work) < len(layers) else ""
        joined = int(work["nodes"].map(bool).sum())
        said.append(f"{len(work)} layers{constants}, {joined} joined to nodes; no times")
    if not math.isnan(engine.latency_ms):
        said.append(f"a run takes {engine.latency_ms:.4g} ms (layers timed one by one add up to more)")
    profiles = engine.built.profiles if engine.built else ()
    said += [f"profile {index}: {profile}" for index, profile in enumerate(profiles)]
    return [*said, *(f"missing: {what}" for what in engine.missing)]


def top(engine: Engine, n: int) -> pd.DataFrame:
    """The layers that take most time; without times the first ones."""
    timed = len(engine.table) > 0
    rows = engine.table.sort_values("ms", ascending=False).head(n) if timed else engine.layers.head(n)
    nodes = rows["nodes"].map(
        lambda names: ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")
    )
    shown = rows.assign(
        ms=rows["ms"].map("{:.4f}".format),
        share=rows["share"].map("{:.1%}".format),
        nodes=nodes.map(lambda names: names if len(names) <= 60 else names[:57] + "..."),
    )
    return shown[
        ["ms", "share", "op_type", "math", "bound", "nodes"] if timed else ["op_type", "math", "nodes"]
    ]
