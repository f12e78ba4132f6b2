"""What fusing did: matched where, what it saves, refused where and why."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Fused:
    """One application of a rule.

    Attributes:
        rule: its name.
        node: the last node of what was there.
        before, after: names of the nodes that were there and of those that are there now.
        outputs: the tensors that the new nodes make.
        macs_saved: multiply-accumulates; None where a shape is not known.
        bytes_saved: bytes that no longer pass through memory when the new node runs as one kernel.
        error: that it adds itself to what it makes, where it was verified; as in ``Comparison.table``. Of what is exact
            (a removal) it is that which reaches the outputs of the model, of all fusions together.
        status: ``fused``, or ``taken back`` because the error, or that of an output, was beyond the tolerance.
    """

    rule: str
    node: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    macs_saved: int | None = None
    bytes_saved: int | None = None
    error: float | None = None
    status: str = "fused"


@dataclass(frozen=True)
class Refused:
    """A place that looks like a pattern and was left alone.

    Attributes:
        rule: the name of the rule.
        node: the node that broke it; `op_type` is its operator.
        reason: what is wrong with it.
        matched, of: nodes of the pattern that were found; equal where a check refused the whole.
        anchor: the node at which the pattern would have ended.
        nodes: the nodes that were found.
    """

    rule: str
    node: str
    op_type: str
    reason: str
    matched: int
    of: int
    anchor: str
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        found = "all nodes found" if self.matched >= self.of else f"{self.matched} of {self.of} nodes found"
        return f"{self.rule} at {self.anchor!r}: node {self.node!r} ({self.op_type}): {self.reason} ({found})"


@dataclass
class FusionReport:
    """The report of `Model.fuse`; shows itself as text and in a notebook.

    Attributes:
        model: name of the model.
        fused: what was applied, and what was taken back.
        refusals: near misses in the fused model.
        nodes_before, nodes_after: of the model, bodies and functions included; a call of what a fusion made is one.
        tolerance: what errors were held against, None without verification.
    """

    model: str
    fused: list[Fused] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)
    nodes_before: int = 0
    nodes_after: int = 0
    tolerance: float | Mapping[str, float] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Rule -> how often it was applied."""
        return dict(Counter(item.rule for item in self.fused if item.status == "fused"))

    @property
    def table(self) -> pd.DataFrame:
        """One row per application, with the fields of `Fused`, `nodes_before` and `nodes_after`."""
        import pandas as pd

        rows = [
            asdict(item) | {"nodes_before": len(item.before), "nodes_after": len(item.after)}
            for item in self.fused
        ]
        frame = pd.DataFrame(rows, columns=[*Fused.__dataclass_fields__, "nodes_before", "nodes_after"])
        return frame.astype({"macs_saved": "Int64", "bytes_saved": "Int64"})

    @property
    def refused(self) -> pd.DataFrame:
        """One row per near miss, with the fields of `Refused`."""
        import pandas as pd

        return pd.DataFrame(
            [asdict(item) for item in self.refusals], columns=list(Refused.__dataclass_fields__)
        )

    def json(self) -> dict[str, Any]:
        """All of it as plain data."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return found | {"counts": self.counts}

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.nodes_before} nodes before, {self.nodes_after} after"]
        lines += [f"  {row['rule']:<18}{_cells(row)}" for row in self._sums()]
        taken = [item for item in self.fused if item.status != "fused"]
        lines += [
            f"  taken back: {item.rule} at {item.node!r}: error {item.error:.2g}, {self._limit()}"
            for item in taken
        ]
        if self.refusals:
            lines.append(f"refused: {len(self.refusals)}")
            lines += [f"  {item}" for item in self._few()]
            if len(self.refusals) > len(self._few()):
                lines.append(f"  and {len(self.refusals) - len(self._few())} more, in .refused")
        return "\n".join(lines)

    __repr__ = __str__

    def _limit(self) -> str:
        if isinstance(self.tolerance, Mapping):
            return "limits " + ", ".join(f"{name} {limit:g}" for name, limit in self.tolerance.items())
        return f"tolerance {self.tolerance:.2g}"

    def _few(self) -> list[Refused]:
        """At most two of each rule."""
        seen: Counter[str] = Counter()
        few = []
        for item in self.refusals:
            seen[item.rule] += 1
            if seen[item.rule] <= 2:
                few.append(item)
        return few

    def _sums(self) -> list[dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for item in self.fused:
            if item.status != "fused":
                continue
            empty = {
                "rule": item.rule,
                "times": 0,
                "before": 0,
                "after": 0,
                "macs": 0,
                "bytes": 0,
                "error": None,
            }
            row = rows.setdefault(item.rule, empty)
            row["times"] += 1
            row["before"] += len(item.before)
            row["after"] += len(item.after)
            row["macs"] += item.macs_saved or 0
            row["bytes"] += item.bytes_saved or 0
            if item.error is not None:
                row["error"] = max(row["error"] or 0.0, item.error)
        return list(rows.values())

    def _repr_html_(self) -> str:
        heads: tuple[str, ...] = ("rule", "times", "nodes before", "nodes after", "MACs saved", "bytes saved")
        keys = ("rule", "times", "before", "after", "macs", "bytes")
        rows = [[row[key] for key in keys] for row in self._sums()]
        if self.tolerance is not None:
            heads = (*heads, "largest error")
            rows = [[*cells, f"{row['error']:.2g}"] for cells, row in zip(rows, self._sums(), strict=True)]
        refused = [
            [item.rule, item.node, item.op_type, item.reason, f"{item.matched} of {item.of}"]
            for item in self.refusals
        ]
        title = (
            f"<b>{html.escape(self.model)}</b>: {self.nodes_before} nodes before, {self.nodes_after} after"
        )
        taken = "".join(
            f"<div>taken back: {html.escape(item.rule)} at {html.escape(item.node)}, error {item.error:.2g}</div>"
            for item in self.fused
            if item.status != "fused"
        )
        more = (
            f"<details><summary>{len(refused)} refused</summary>"
            + _table(("rule", "node", "operator", "reason", "nodes found"), refused)
            + "</details>"
        )
        return f"<div>{title}</div>{_table(heads, rows)}{taken}{more if refused else ''}"


def _cells(row: dict[str, Any]) -> str:
    saved = f", {row['macs']:,} MACs" if row["macs"] else ""
    saved += f", {row['bytes']:,} bytes" if row["bytes"] > 0 else ""
    error = f", error at most {row['error']:.2g}" if row["error"] is not None else ""
    times = "1 time" if row["times"] == 1 else f"{row['times']} times"
    return f"{times}, {row['before']} nodes to {row['after']}{' saves' + saved[1:] if saved else ''}{error}"


def _table(heads: tuple[str, ...], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{html.escape(item)}</th>" for item in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td>{html.escape(f'{cell:,}' if isinstance(cell, int) else str(cell))}</td>" for cell in row
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
