"""A comparison in words, and which nodes the outputs' error comes from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import Measure
from .result import COMPARED, SHAPES_DIFFER, Comparison

if TYPE_CHECKING:
    import pandas as pd


def suspects(comparison: Comparison, n: int) -> list[dict[str, Any]]:
    """The records of the `n` nodes that add most error themselves, one per node, worst first."""
    worst: dict[str, dict[str, Any]] = {}
    for record in comparison.records:
        snr = record.get("local_snr_db", math.nan)
        if record["status"] != COMPARED or math.isnan(snr) or record["local_max_abs"] == 0.0:
            continue
        if record["node"] not in worst or snr < worst[record["node"]]["local_snr_db"]:
            worst[record["node"]] = record
    return sorted(worst.values(), key=lambda r: (math.isfinite(r["local_max_abs"]), r["local_snr_db"]))[:n]


def blame(comparison: Comparison, n: int) -> pd.DataFrame:
    """See `Comparison.blame`."""
    import pandas as pd

    rows = []
    found = suspects(comparison, n)
    rerun = comparison._rerun()
    plan = rerun.plan
    outputs = [name for name in plan.reference.outputs if name in plan.pairs]
    if found and outputs:
        feed = rerun.feed(0)
        with rerun.worker() as worker:
            right = rerun.on_reference(worker, feed, outputs)
            others = [plan.pairs[name] for name in outputs]
            wrong = rerun.on_candidate(worker, rerun.for_candidate(feed), others)
            total = _distance(right, {name: wrong[plan.pairs[name]] for name in outputs})
            locals_ = rerun.local(worker, feed, [record["tensor"] for record in found])
            for record in found:
                name = record["tensor"]
                known = {**feed, name: _like(locals_[name], rerun.on_reference(worker, feed, [name])[name])}
                effect = _distance(right, rerun.on_reference(worker, known, outputs))
                rows.append((record, effect, _share(effect, total)))
    rows.sort(key=lambda row: -row[2] if not math.isnan(row[2]) else 0.0)
    kept = ["node", "op_type", "tensor", "local_snr_db", "local_max_abs"]
    columns = [*kept, "output_error", "share", "judged"]
    values = [(*(r[k] for k in kept), effect, share, rerun.judged(r["tensor"])) for r, effect, share in rows]
    return pd.DataFrame(values, columns=columns).set_index("node")


def _like(value: np.ndarray, original: np.ndarray) -> np.ndarray:
    return value.astype(original.dtype) if value.dtype != original.dtype else value


def _distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Euclidean length of the difference over all outputs, each scaled by the reference's largest magnitude."""
    total = 0.0
    for name, value in a.items():
        measure = Measure()
        if value.shape != b[name].shape:
            return math.inf
        measure.add(value, b[name])
        found = measure.result()
        largest = max(abs(found["ref_min"]), abs(found["ref_max"]))
        total += (measure.noise / (largest if largest and math.isfinite(largest) else 1.0)) ** 2
    return math.sqrt(total)


def _share(effect: float, total: float) -> float:
    if total == 0.0:
        return 0.0
    if math.isinf(total):
        return 1.0 if math.isinf(effect) else 0.0
    return (effect / total) ** 2


def explain(comparison: Comparison) -> str:
    """See `Comparison.explain`."""
    compared = [r for r in comparison.records if r["status"] == COMPARED]
    computed = [r for r in comparison.records if not r["status"].startswith("inside ")]
    if not compared:
        return (
            "Nothing could be compared: "
            + "; ".join(sorted({r["status"] for r in comparison.records})[:3])
            + "."
        )
    text = [_coverage(comparison, len(compared), len(computed))]
    if all(r["max_abs"] == 0.0 for r in compared) and not any(
        r["status"].startswith(SHAPES_DIFFER) for r in computed
    ):
        return f"{text[0]} All of them are bit for bit equal."
    first = comparison.first_divergence()
    if first is None:
        worst = max(compared, key=lambda r: r["error"])
        text.append(
            f"Every tensor is within {_tolerance(comparison)}; the largest error is {worst['error']:.2g}"
            f" at {worst['tensor']!r} ({_node(worst)})."
        )
    else:
        text.append(_start(first.to_dict() | {"tensor": first.name}))
        beyond = sum(comparison._beyond(r) for r in compared)
        text.append(f"{beyond} of the {len(compared)} tensors are beyond {_tolerance(comparison)}.")
    text += _outputs(comparison)
    if comparison.rerun is not None and (first is None or first.status == COMPARED):
        text += _causes(comparison)
    return " ".join(text)


def _coverage(comparison: Comparison, compared: int, total: int) -> str:
    inputs = comparison.meta.get("inputs", 1)
    over = f"over {inputs} input{'s' if inputs != 1 else ''}"
    missing = total - compared
    rest = f"; {missing} could not be (column status)" if missing else ""
    return f"{compared} of {total} tensors were compared {over}{rest}."


def _node(record: dict[str, Any]) -> str:
    return (
        f"{record['op_type']} node {record['node']!r}"
        if record["node"]
        else record["op_type"] or "a runner's output"
    )


def _tolerance(comparison: Comparison) -> str:
    limits = comparison.tolerance
    return f"tolerance {limits:g}" if isinstance(limits, (int, float)) else f"the tolerance {dict(limits)}"


def _start(record: dict[str, Any]) -> str:
    text = f"The models first part at {record['tensor']!r}, made by {_node(record)}: "
    if record["status"] != COMPARED:
        return f"{text}{record['status']}."
    text += f"error {record['error']:.2g}"
    text += f", SNR {record['snr_db']:.0f} dB" if math.isfinite(record["snr_db"]) else ""
    bad = _not_numbers(record)
    text += f"; the candidate has {bad} there" if bad else ""
    local = record.get("local_snr_db", math.nan)
    if math.isnan(local):
        return text + "."
    if local <= record["snr_db"] + 6:
        return text + ". The node adds this itself: on the reference's values it gives the same error."
    return text + ". The error comes from before it: on the reference's values the node is right."


def _not_numbers(record: dict[str, Any]) -> str:
    """What the candidate has of NaN and Inf that the reference has not, in words."""
    names = {"nan": "NaN", "inf": "Inf"}
    return " and ".join(f"{record[k]} {name}" for k, name in names.items() if record[k] > record[f"ref_{k}"])


def _outputs(comparison: Comparison) -> list[str]:
    rows = [r for r in comparison.records if r["tensor"] in comparison.outputs and r["status"] == COMPARED]
    wrong = [r for r in rows if comparison._beyond(r)]
    if not rows:
        return []
    if not wrong:
        largest = max(r["error"] for r in rows)
        return [f"At the output{'s' if len(rows) > 1 else ''} the error is within tolerance ({largest:.2g})."]
    worst = max(wrong, key=lambda r: r["error"])
    if _not_numbers(worst):
        return [f"It reaches the output {worst['tensor']!r} as {_not_numbers(worst)}."]
    return [
        f"It reaches the output {worst['tensor']!r} as an error of {worst['error']:.2g} (cosine {worst['cosine']:.4f})."
    ]


def _causes(comparison: Comparison) -> list[str]:
    table = comparison.blame(3)
    table = table[table.share >= 0.01]
    if table.empty:
        return ["No single node causes 1 % or more of the output's error."]
    parts = []
    for name, row in table.iterrows():
        more = f" (with the {row.judged - 1} before it that the reference lacks)" if row.judged > 1 else ""
        parts.append(f"{row.op_type} node {name!r}{more} makes {min(row.share, 9.99):.0%}")
    return [f"Taken alone, {', '.join(parts)} of the output's squared error."]
