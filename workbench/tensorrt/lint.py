"""What in an engine costs time and could be avoided: layer by layer, with where it comes from and what to
do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .work import CONV, DEQUANTIZE, GEMM, NOTHING, QUANTIZE, REFORMAT

if TYPE_CHECKING:
    import pandas as pd

    from .engine import Engine
    from .layers import Layer, Tensor

COLUMNS = ("layer", "lint", "ms", "share", "problem", "origin", "advice", "nodes")
_FLOATS = ("FP32", "FP16", "BF16")
_ALIGNED = {"INT8": 16, "FP8": 16, "FP16": 8, "BF16": 8, "TF32": 4}


@dataclass(frozen=True)
class Found:
    """One finding: what is wrong, where it comes from, what to do."""

    lint: str
    layer: str
    problem: str
    origin: str
    advice: str


class Seen:
    """The engine as the lints look at it: its layers, who makes and who reads each tensor."""

    def __init__(self, engine: Engine):
        self.layers: list[Layer] = engine._layers
        self.rows: dict[str, Any] = engine.layers.to_dict("index")
        self.fused = engine.fused
        self.makers: dict[str, list[Layer]] = {}
        self.readers: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for tensor in layer.outputs:
                self.makers.setdefault(tensor.name, []).append(layer)
            for tensor in layer.inputs:
                self.readers.setdefault(tensor.name, []).append(layer)

    def of(self, *kinds: str) -> Iterator[Layer]:
        """Layers of these kinds."""
        return (layer for layer in self.layers if self.rows[layer.name]["op_type"] in kinds)

    def maker(self, tensor: Tensor) -> str:
        """Who writes a tensor, for a sentence; copies that cost nothing are looked through."""
        makers = self.makers.get(tensor.name, [])
        while makers and self.rows[makers[0].name]["op_type"] == NOTHING and makers[0].inputs:
            tensor = makers[0].inputs[0]
            makers = self.makers.get(tensor.name, [])
        return repr(makers[0].bare) if makers else f"the network's input {tensor.name!r}"

    def reader(self, tensor: Tensor) -> str:
        """Who reads a tensor, for a sentence."""
        readers = self.readers.get(tensor.name, [])
        while readers and self.rows[readers[0].name]["op_type"] == NOTHING and readers[0].outputs:
            tensor = readers[0].outputs[0]
            readers = self.readers.get(tensor.name, [])
        if not readers:
            return f"the network's output {tensor.name!r}"
        return repr(readers[0].bare) + (f" and {len(readers) - 1} more" if readers[1:] else "")


def lint(engine: Engine) -> pd.DataFrame:
    """Findings, most time first.

    Returns:
        One row per finding, index ``layer``; columns ``lint`` (``reformat``, ``quantize alone``,
        ``slice converts``, ``float output``, ``channels not aligned``, ``no tensor cores``,
        ``wide precision``), ``ms`` and ``share`` (of the
        layer: an upper bound of what there is to gain), ``problem``, ``origin``, ``advice``, ``nodes``. Empty
        when nothing was found, or when the layers do not tell enough (`Engine.missing`).
    """
    import pandas as pd

    seen = Seen(engine)
    rows = []
    for check in LINTS:
        for found in check(seen):
            row = seen.rows[found.layer]
            rows.append({**vars(found), "ms": row["ms"], "share": row["share"], "nodes": row["nodes"]})
    rows.sort(key=lambda row: -(0.0 if math.isnan(row["ms"]) else row["ms"]))
    return pd.DataFrame(rows, columns=list(COLUMNS)).set_index("layer")


def reformats(seen: Seen) -> Iterator[Found]:
    """Copies into another type or layout: which layer needs what."""
    for layer in seen.of(REFORMAT):
        if not layer.inputs or not layer.outputs:
            continue
        before, after = layer.inputs[0], layer.outputs[0]
        origin = f"{seen.maker(before)} gives {before.format}, {seen.reader(after)} takes {after.format}"
        if before.dtype != after.dtype:
            problem = f"converts {before.dtype or '?'} to {after.dtype or '?'}"
            advice = "let the layers on both sides work in one precision"
            if "network's input" in origin:
                advice = f"feed {after.dtype} data, in this layout if you can (trtexec --inputIOFormats)"
            elif "network's output" in origin:
                advice = f"take {before.dtype} data (trtexec --outputIOFormats)"
        else:
            problem = f"copies {before.layout or '?'} to {after.layout or '?'}"
            advice = "no layout has a fast tactic on both sides: a change of channels or precision helps"
        yield Found("reformat", layer.name, problem, origin, advice)


def quantize_alone(seen: Seen) -> Iterator[Found]:
    """Quantize and Dequantize that were not fused into a layer beside them."""
    if not seen.fused:
        return
    scales = [
        layer
        for layer in seen.layers
        if seen.rows[layer.name]["op_type"] == "Scale"
        and layer.inputs
        and layer.outputs
        and (layer.inputs[0].dtype in ("INT8", "FP8")) != (layer.outputs[0].dtype in ("INT8", "FP8"))
    ]
    for layer in [*seen.of(QUANTIZE, DEQUANTIZE), *scales]:
        before, after = layer.inputs[0], layer.outputs[0]
        maker = seen.maker(before)
        origin = f"{maker} gives {before.format}, {seen.reader(after)} takes {after.format}"
        if maker.startswith("the network's input"):
            advice = f"needed once for this input, unless you feed {after.dtype} data"
        elif after.dtype in ("INT8", "FP8"):
            advice = f"quantise for all readers of {before.name!r} (a residual too): then {maker} writes {after.dtype}"
        else:
            advice = f"quantise the other inputs of {seen.reader(after)} too: then it reads {before.dtype}"
        yield Found(
            "quantize alone",
            layer.name,
            f"converts {before.dtype} to {after.dtype} in a layer of its own",
            origin,
            advice,
        )


def slices(seen: Seen) -> Iterator[Found]:
    """Slices that convert types."""
    for layer in seen.of("Slice"):
        if layer.inputs and layer.outputs and layer.inputs[0].dtype != layer.outputs[0].dtype:
            before, after = layer.inputs[0], layer.outputs[0]
            origin = f"{seen.maker(before)} gives {before.format}, {seen.reader(after)} takes {after.format}"
            yield Found(
                "slice converts",
                layer.name,
                f"converts {before.dtype} to {after.dtype} while slicing",
                origin,
                "quantise, or cast, before the slice",
            )


def float_outputs(seen: Seen) -> Iterator[Found]:
    """Quantised products that write floats."""
    for layer in seen.of(CONV, GEMM):
        row = seen.rows[layer.name]
        if row["precision"] in ("INT8", "FP8") and layer.outputs and layer.outputs[0].dtype in _FLOATS:
            out = layer.outputs[0]
            wide = [t.name for t in layer.inputs[1:] if t.dtype in _FLOATS]
            origin = f"{seen.reader(out)} takes {out.format}" + (
                f"; it adds {wide[0]!r} in {layer.inputs[1].dtype}" if wide else ""
            )
            yield Found(
                "float output",
                layer.name,
                f"computes in {row['precision']}, writes {out.dtype}: more bytes than needed",
                origin,
                "quantise its output (and the other branch of the sum)" if wide else "quantise its output",
            )


def alignment(seen: Seen) -> Iterator[Found]:
    """Channels that are no multiple of what tensor cores take at once."""
    for layer in seen.of(CONV):
        row = seen.rows[layer.name]
        step = _ALIGNED.get(row["math"])
        shapes = [t.shape for t in (*layer.inputs[:1], *layer.outputs[:1])]
        if (
            step is None
            or len(shapes) < 2
            or (row["groups"] or 1) > 1
            or not all(s and len(s) > 2 and s[1] > 0 for s in shapes)
        ):
            continue
        odd = [(what, s[1]) for what, s in zip(("input", "output"), shapes, strict=True) if s and s[1] % step]
        if odd:
            said = " and ".join(f"{count} {what} channels" for what, count in odd)
            waste = math.prod(-(-count // step) * step / count for _, count in odd)
            yield Found(
                "channels not aligned",
                layer.name,
                f"{said}, no multiple of {step} ({row['math']}): padded × {waste:.3g}",
                "the model",
                "more channels cost nothing up to the next multiple; first layers seldom can be changed",
            )


def tensor_cores(seen: Seen) -> Iterator[Found]:
    """Products in a narrow precision whose tactic does not name tensor cores."""
    for layer in seen.of(CONV, GEMM):
        row = seen.rows[layer.name]
        if row["tensor_core"] is not False:
            continue
        shape = layer.inputs[0].shape if layer.inputs else None
        origin = f"tactic {layer.tactic[:120]!r}"
        if shape and len(shape) > 1 and 0 < shape[1] < 16:
            origin += f", {shape[1]} input channels"
        if row["precision"] == "FP32":
            problem = "computed in FP32 without tensor cores"
            advice = "allow TF32 (BuilderFlag.TF32), or FP16 for this layer"
        else:
            problem, advice = (
                f"{row['precision']}, but its tactic names no tensor cores",
                "align its channels",
            )
        yield Found("no tensor cores", layer.name, problem, origin, advice)


def wide_precision(seen: Seen) -> Iterator[Found]:
    """Products left in a wider precision than most of the engine's work."""
    width = {"FP32": 32, "FP16": 16, "BF16": 16, "INT8": 8, "FP8": 8}
    totals: dict[str, float] = {}
    for row in seen.rows.values():
        if row["precision"] in width and row["macs"] and not math.isnan(row["macs"]):
            totals[row["precision"]] = totals.get(row["precision"], 0.0) + row["macs"]
    if not totals:
        return
    usual = max(totals, key=totals.__getitem__)
    for layer in seen.of(CONV, GEMM):
        precision = seen.rows[layer.name]["precision"]
        if width.get(precision, 0) > width[usual]:
            yield Found(
                "wide precision",
                layer.name,
                f"computed in {precision}; most of the engine in {usual}",
                "the model, or a rule of the builder",
                f"give it {usual} inputs and weights, if accuracy allows",
            )


LINTS: tuple[Callable[[Seen], Iterator[Found]], ...] = (
    reformats,
    quantize_alone,
    slices,
    float_outputs,
    alignment,
    tensor_cores,
    wide_precision,
)
"""Every check, in the order in which their findings are made."""
