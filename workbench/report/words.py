"""What a comparison and profiles say, in sentences that a person would write, for the shell and the report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ..compare import Comparison
    from ..profile import Profile

COMPARED = "compared"


def verdict(comparison: Comparison) -> str:
    """Are they the same? One sentence."""
    compared = [r for r in comparison.records if r["status"] == COMPARED]
    outputs = [r for r in comparison.records if r["tensor"] in comparison.outputs]
    limit = tolerance(comparison.tolerance)
    if comparison.ok:
        if compared and all(r["max_abs"] == 0 for r in compared):
            return f"The models are the same: {_count(len(compared), 'compared tensor')} bit for bit equal."
        worst = max((r["error"] for r in outputs), default=0.0)
        return f"The models are the same within {limit}: the largest error at an output is {worst:.2g}."
    wrong = [r for r in outputs if not _alone(comparison, r).ok]
    values = [r for r in wrong if r["status"] == COMPARED]
    if values:
        worst = max(values, key=lambda r: r["error"])
        finite = math.isfinite(worst["error"])
        how = f"error {worst['error']:.2g}" if finite else "NaN or Inf where the other has a number"
        return f"The models differ: {how} at the output {worst['tensor']!r}, beyond {limit}."
    for record in wrong:
        if _alone(comparison, record).first_divergence() is not None:
            return f"The models differ at the output {record['tensor']!r}: {record['status']}."
    why = (
        f"the output {wrong[0]['tensor']!r} was not ({wrong[0]['status']})"
        if wrong
        else "they have no outputs"
    )
    return f"It is not known whether the models are the same, for not every output was compared: {why}."


def _alone(comparison: Comparison, record: dict[str, Any]) -> Comparison:
    """The comparison of one tensor as if it were the only output."""
    return type(comparison)([record], (record["tensor"],), comparison.tolerance)


def tolerance(limits: Any) -> str:
    """`tolerance 0.001`, or the limits by measure."""
    if isinstance(limits, (int, float)):
        return f"tolerance {limits:g}"
    return "the tolerance " + ", ".join(f"{name} {value:g}" for name, value in limits.items())


def culprit(blame: pd.DataFrame) -> str:
    """Which layer is to blame? One sentence about the table of `Comparison.blame`."""
    rows = blame[blame["share"] >= 0.01].sort_values("share", ascending=False)
    if rows.empty:
        return "No single node causes 1 % or more of the outputs' squared error: it adds up from many small ones."
    parts = [f"{name} ({row.op_type}) {_percent(row.share)}" for name, row in rows.head(3).iterrows()]
    rest = "; the rest adds up from other nodes" if rows["share"].sum() < 0.9 else ""
    return f"Of the outputs' squared error, taken alone: {', '.join(parts)}{rest}."


def latency(profile: Profile) -> str:
    """How long does a run take? One sentence."""
    noise = "" if math.isnan(profile.noise) else f" (noise {_percent(profile.noise)})"
    return f"A run takes {profile.latency_ms:.4g} ms{noise}."


def where(profile: Profile) -> str:
    """Where does the time go? One or two sentences."""
    table, ops = profile.table, profile.by_op()
    if table.empty:
        return "The runtime reported no layers."
    top = table["ms"].idxmax()
    row = table.loc[top]
    nodes = f", which runs {_some(row['nodes'])}" if len(row["nodes"]) and top not in row["nodes"] else ""
    text = (
        f"{ops.index[0]} takes {ops['share'].iloc[0]:.0%} of the layers' time; the most expensive layer is {top} "
        f"with {row['ms']:.3g} ms ({row['share']:.0%}){nodes}."
    )
    gain = table["gain_ms"].max()
    if gain > 0.05 * profile.sum_ms:
        best = table["gain_ms"].idxmax()
        text += f" Most could be won at {best}: up to {gain:.3g} ms, if it reached the roofline."
    return text


def speed(before: Profile, after: Profile) -> str:
    """What did the change buy? One sentence about the latency, honest about noise."""
    a, b = before.latency_ms, after.latency_ms
    text = f"A run takes {b:.4g} ms instead of {a:.4g} ms"
    if math.isnan(before.noise) or math.isnan(after.noise):
        return f"{text}; the noise is not known from a single run."
    noise = max(before.noise, after.noise)
    if abs(b - a) <= noise * min(a, b):
        return f"{text}, which is within the noise of the measurement ({_percent(noise)})."
    factor = f"{a / b:.2g} times as fast" if b < a else f"{b / a:.2g} times as slow"
    return f"{text}: {factor} (noise {_percent(noise)})."


def changes(diff: pd.DataFrame) -> str:
    """Where the change in time comes from: one or two sentences about the table of `profile_diff`."""
    known = diff[diff["status"] != "same"]
    if known.empty:
        return "No layer's time changed by more than the noise."
    text = []
    for down, verb in ((True, "Time went down"), (False, "Time went up")):
        rows = known[(known["delta_ms"] < 0) == down]
        if len(rows):
            worst = rows["delta_ms"].abs().idxmax()
            row = rows.loc[worst]
            text.append(
                f"{verb} by {abs(rows['delta_ms'].sum()):.3g} ms in {_count(len(rows), 'layer', verb=False)} "
                f"(most in {worst}, {row['op_type']}: {row['delta_ms']:+.3g} ms)"
            )
    return ". ".join(text) + "."


def observer(comparison: Comparison) -> str:
    """Which build was compared, and what looking at every tensor would change; '' unless it was the fused graph."""
    effect = comparison.meta.get("observer")
    if not effect:
        return ""
    build = f"optimize={effect['optimize']}, {effect['nodes']} nodes"
    times = f"{effect['ms_marked']:.3g} instead of {effect['ms']:.3g} ms"
    differ = f"different by up to {effect['max_abs']:.2g}" if effect["max_abs"] else "the same"
    return (
        f"The candidate is the graph that the runtime executes ({build}). With every tensor marked as an output it "
        f"would be another one: {effect['nodes_marked']} nodes, {times}, outputs {differ}."
    )


def not_compared(comparison: Comparison) -> list[tuple[str, int]]:
    """Reasons why tensors were not compared, with how many, most frequent first."""
    counts: dict[str, int] = {}
    for record in comparison.records:
        if record["status"] != COMPARED:
            reason = record["status"]
            reason = "inside the body of an If, Loop or Scan" if reason.startswith("inside ") else reason
            counts[reason] = counts.get(reason, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])


def _count(number: int, noun: str, *, verb: bool = True) -> str:
    text = f"{number:,} {noun}{'' if number == 1 else 's'}"
    return text if not verb else f"{text} {'is' if number == 1 else 'are'}"


def _percent(share: float) -> str:
    return f"{min(share, 9.99):.0%}" if share >= 0.1 else f"{share:.1%}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
