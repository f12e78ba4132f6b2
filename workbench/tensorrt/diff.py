"""Two engines side by side: layers aligned by the ONNX nodes behind them, and what changed in each."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..profile.diff import groups, noise_of
from ..profile.join import AFTER, BEFORE
from .layers import Layer
from .work import COPIES, NOTHING

if TYPE_CHECKING:
    import pandas as pd

    from .engine import Engine

COLUMNS = (
    "layer", "op_type", "status", "ms_a", "ms_b", "delta_ms", "ratio", "changed", "precision_a", "precision_b",
    "tactic_a", "tactic_b", "layers_a", "layers_b", "nodes_a", "nodes_b", "aligned",
)  # fmt: skip
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")
Row = dict[str, Any]


def diff(a: Engine, b: Engine, *, align: str = "auto") -> pd.DataFrame:
    """What changed from engine `a` to engine `b`.

    Layers are aligned by the ONNX nodes that they stand for; layers that share nodes form one row, copies are
    in the row of the layer that they work for, and what is alone is alone. Engines of different ONNX models
    (a quantised one has other nodes and other names) are aligned by what their layers compute: the same kind,
    with the same sizes; several of these in the order of their depth in the network, if both engines have as
    many. A layer that has no partner goes with the layer before it if the other engine has it fused there.

    Args:
        align: ``origin`` (nodes), ``structure`` (what is computed), or ``auto``: by nodes if most of the work
            agrees.

    Returns:
        One row per group, index ``layer``, largest change first. ``status``: ``faster``, ``slower``, ``same``
        (within the noise; where the files do not tell it, within 3 % and a tick of the clock for each layer),
        ``appeared``, ``disappeared``, ``no time``. ``changed``: texts such as ``precision FP32 -> FP16``,
        ``writes FP32 NHWC -> FP16 NHWC8``, ``tactic``, ``fused: + Add``, ``copies 0 -> 2``. ``aligned``:
        ``origin``, ``structure``, ``name`` or ``''`` for what is alone. ``attrs``: ``align``, ``sum_ms`` and
        ``latency_ms`` of both.

    Raises:
        EngineError: one of them is not an Engine, or `align` is none of these.
    """
    import pandas as pd

    from .engine import Engine

    for given in (a, b):
        if not isinstance(given, Engine):
            raise EngineError(
                f"cannot compare engines: got {type(given).__name__}, expected two of workbench.tensorrt.Engine"
            )
    if align not in ("auto", "origin", "structure"):
        raise EngineError(f"cannot align engines by {align!r}; expected auto, origin or structure")
    sides = (_rows(a), _rows(b))
    if align == "auto":
        align = "origin" if _agree(*sides) >= 0.5 else "structure"
    matched = _by_structure(sides) if align == "structure" else {}
    rows = [_row(group, sides, (a, b), matched, align) for group in groups(sides)]
    rows.sort(key=lambda row: -(abs(row["delta_ms"]) if not math.isnan(row["delta_ms"]) else 0.0))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).set_index("layer")
    frame.attrs = {"align": align, "sum_ms": (a.sum_ms, b.sum_ms), "latency_ms": (a.latency_ms, b.latency_ms)}
    return frame


def _rows(engine: Engine) -> list[Row]:
    by_name = {layer.name: layer for layer in engine._layers}
    depth: dict[str, int] = {}
    rows = engine.layers.reset_index().to_dict("records")
    for row in rows:
        row["op_types"] = [str(engine._records.op_types.get(name) or _op_type(name)) for name in row["nodes"]]
        layer = by_name.get(row["layer"])
        fused = str(layer.attribute("Activation") or "NONE").title() if layer else "None"
        if (
            fused != "None" and fused not in row["op_types"]
        ):  # an activation that the layer's name does not tell
            row["op_types"].append(fused)
        row["signature"] = _signature(row, layer)
        row["depth"] = max((depth.get(name, 0) for name in row["inputs"]), default=0) + 1
        depth |= dict.fromkeys(row["outputs"], row["depth"])
    hosts = {node for row in rows if row["joined"] not in (BEFORE, AFTER) for node in row["nodes"]}
    for row in rows:
        if row["joined"] in (BEFORE, AFTER) and not hosts.intersection(row["nodes"]):
            row["joined"], row["origins"] = "a copy whose layer is not there", ()  # aligned by its name
    return rows


def _op_type(node: str) -> str:
    """What exporters put into the names of nodes: ``Conv_12``, ``/layer1/conv1/Conv``."""
    last = node.rsplit("/", 1)[-1]
    return re.sub(r"[_.]\d+$", "", last)


def _signature(row: Row, layer: Layer | None) -> tuple:
    """What a layer computes, whatever it is called and in which precision."""
    if row["macs"] and not math.isnan(row["m"]):
        return ("product", *(row[size] for size in ("m", "n", "k", "groups")))
    shape = layer.outputs[0].shape if layer and layer.outputs else None
    return (row["op_type"], shape)


def _agree(a: Sequence[Row], b: Sequence[Row]) -> float:
    """Part of the products in `a` whose nodes are in a layer of `b` that computes the same."""
    there: dict[str, list[tuple]] = defaultdict(list)
    for row in b:
        for node in row["origins"]:
            there[node].append(row["signature"])
    products = [row for row in a if row["signature"][0] == "product"] or [row for row in a if row["origins"]]
    same = sum(any(row["signature"] in there[node] for node in row["origins"]) for row in products)
    return same / len(products) if products else 1.0


def _by_structure(sides: tuple[list[Row], list[Row]]) -> dict[str, int]:
    """Give layers that compute the same the same origins; returns token -> how many of its kind there are."""
    alike: tuple[dict, dict] = (defaultdict(list), defaultdict(list))
    for side, rows in enumerate(sides):
        for row in rows:
            if row["joined"] not in (BEFORE, AFTER):
                alike[side][row["signature"]].append(row)
    matched: dict[str, int] = {}
    tokens: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for signature in alike[0]:
        pair = [sorted(kind[signature], key=lambda row: row["depth"]) for kind in alike if signature in kind]
        if len(pair) == 2 and len(pair[0]) == len(pair[1]):
            for number, both in enumerate(zip(*pair, strict=True)):
                token = f"{signature} {number}"
                matched[token] = len(pair[0])
                for row in both:
                    row["token"] = token
    _absorbed(sides)
    for side, rows in enumerate(sides):
        copies = [row for row in rows if row["joined"] in (BEFORE, AFTER)]
        for index, row in enumerate(rows):
            if row["joined"] not in (BEFORE, AFTER):
                token = row.setdefault("token", f"alone {side} {index}")
                tokens[side].update(dict.fromkeys(row["nodes"], token))
                row["origins"] = (token,)
        for row in copies:
            row["origins"] = tuple(dict.fromkeys(tokens[side][n] for n in row["nodes"] if n in tokens[side]))
    return matched


def _absorbed(sides: tuple[list[Row], list[Row]]) -> None:
    """A layer without a partner goes with the one before it, if that one's partner has taken in its operators."""
    partners = [{row["token"]: row for row in rows if "token" in row} for rows in sides]
    for side, rows in enumerate(sides):
        makers = {tensor: row for row in rows for tensor in row["outputs"]}
        for row in rows:
            maker = makers.get(row["inputs"][0]) if row["inputs"] else None
            partner = partners[1 - side].get(maker["token"]) if maker and "token" in maker else None
            if "token" in row or not partner or not maker or not row["op_types"]:
                continue
            taken: Counter[str] = Counter(partner["op_types"]) - Counter(maker["op_types"])
            if row["op_types"][0] not in _QUANTISING and not Counter(row["op_types"]) - taken:
                row["token"] = maker["token"]


def _row(
    group: Sequence[tuple[int, int]],
    sides: tuple[list[Row], list[Row]],
    engines: tuple[Engine, Engine],
    matched: Mapping[str, int],
    align: str,
) -> Row:
    parts = [[sides[s][i] for s_, i in group if s_ == s] for s in (0, 1)]
    ms = [sum(row["ms"] for row in part) if part else math.nan for part in parts]
    own = [[row for row in part if row["joined"] not in (BEFORE, AFTER)] or part for part in parts]
    mains = [max(rows, key=_weight) if rows else None for rows in own]
    main = mains[1] or mains[0]
    assert main is not None
    aligned = ""
    if parts[0] and parts[1]:
        aligned = "origin" if main["nodes"] else "name"
        if align == "structure":
            alike = matched.get(str(main.get("token")), 1)
            aligned = "structure" if alike == 1 else f"structure: {alike} alike, by depth"
    values: dict[str, Any] = {}
    for side, (part, chief) in enumerate(zip(parts, mains, strict=True)):
        at = "ab"[side]
        values[f"ms_{at}"] = ms[side]
        values[f"precision_{at}"] = chief["math"] if chief else ""
        values[f"tactic_{at}"] = chief["tactic"] if chief else ""
        values[f"layers_{at}"] = tuple(row["layer"] for row in part)
        values[f"nodes_{at}"] = tuple(dict.fromkeys(n for row in part for n in row["nodes"]))
    both = not math.isnan(ms[0]) and not math.isnan(ms[1])
    delta = (
        ms[1] - ms[0]
        if both
        else (-ms[0] if parts[0] and not parts[1] else ms[1] if not parts[0] else math.nan)
    )
    return {
        "layer": main["layer"],
        "op_type": main["op_type"],
        "status": _status(parts, engines, delta),
        "delta_ms": delta,
        "ratio": ms[1] / ms[0] if both and ms[0] else math.nan,
        "changed": _changed(parts, mains) if parts[0] and parts[1] else (),
        "aligned": aligned,
        **values,
    }


def _weight(row: Row) -> tuple[float, float]:
    return (0.0 if math.isnan(row["macs"]) else row["macs"], 0.0 if math.isnan(row["ms"]) else row["ms"])


def _status(parts: Sequence[list[Row]], engines: Sequence[Engine], delta: float) -> str:
    if not parts[0] or not parts[1]:
        return "disappeared" if parts[0] else "appeared"
    if math.isnan(delta):
        return "no time"
    if not abs(delta) > noise_of(parts, engines)[0]:
        return "same"
    return "faster" if delta < 0 else "slower"


def _changed(parts: Sequence[list[Row]], mains: Sequence[Row | None]) -> tuple[str, ...]:
    one, two = mains
    assert one is not None and two is not None
    said = []
    if one["math"] != two["math"]:
        said.append(f"precision {one['math'] or '?'} -> {two['math'] or '?'}")
    for verb, column in (("reads", "formats_in"), ("writes", "formats_out")):
        if one[column] != two[column]:
            said.append(f"{verb} {one[column]} -> {two[column]}")
    if one["tactic"] != two["tactic"]:
        said.append("tactic")
    fused = [
        Counter(op for row in part if row["joined"] not in (BEFORE, AFTER) for op in row["op_types"])
        for part in parts
    ]
    hosts = [
        sum(row["joined"] not in (BEFORE, AFTER) and row["op_type"] not in COPIES for row in part)
        for part in parts
    ]
    for sign, more in (("+", fused[1] - fused[0]), ("-", fused[0] - fused[1])):
        more = Counter({op: n for op, n in more.items() if op not in _QUANTISING})
        if more:
            said.append(f"fused: {sign} {', '.join(sorted(more.elements()))}")
    if hosts[0] != hosts[1]:
        said.append(f"layers {hosts[0]} -> {hosts[1]}")
    copies = [sum(row["op_type"] in COPIES and row["op_type"] != NOTHING for row in part) for part in parts]
    if copies[0] != copies[1]:
        said.append(f"copies {copies[0]} -> {copies[1]}")
    return tuple(said)
