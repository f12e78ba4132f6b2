"""The layers of an engine as data, read from the JSON that TensorRT's inspector writes.

Format: ``IEngineInspector``
(https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/advanced.html, "Engine Inspector"): as
a whole, as ``trtexec --exportLayerInfo`` writes it and TREx kept it, or layer by layer. TensorRT 8 to 11.
What a version leaves out or calls otherwise is counted in ``Read.missing``, not invented.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import EngineError

BITS = {
    "FP64": 64, "FP32": 32, "FP16": 16, "BF16": 16, "FP8": 8, "FP4": 4, "INT64": 64, "INT32": 32, "INT16": 16,
    "INT8": 8, "UINT8": 8, "INT4": 4, "BOOL": 8, "E8M0": 8,
}  # fmt: skip
_DTYPE = re.compile(
    r"\b(bfloat16|bf16|float32|fp32|float16|fp16|half|float8\w*|fp8|e4m3\w*|e5m2\w*|float4\w*|fp4|e2m1\w*|e8m0|float|"
    r"double|fp64|u?int(?:4|8|16|32|64)|bool)\b",
    re.I,
)
_SAME = {
    "BFLOAT16": "BF16", "FLOAT32": "FP32", "FLOAT": "FP32", "FLOAT16": "FP16", "HALF": "FP16", "DOUBLE": "FP64",
}  # fmt: skip
_WIDE = {"Two": 2, "Four": 4, "Eight": 8, "Sixteen": 16, "Thirty-two": 32, "Sixty-four": 64}
_PROFILE = re.compile(r"\s*\[profile\s+(\d+)\]")


@dataclass(frozen=True)
class Tensor:
    """A tensor as one layer reads or writes it.

    Attributes:
        dtype: ``FP32``, ``FP16``, ``INT8`` ...; ``''`` when it is not said.
        layout: ``linear``, ``NHWC``, ``NHWC8`` (channels last, padded to a multiple of 8), ``CHW32`` (32
            channels side by side), with a D where there are three spatial dims; ``''`` when it is not said.
        shape: None when it is not said; -1 for a dim that the shapes of a run decide.
        written: the format as TensorRT wrote it.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str = ""
    layout: str = ""
    written: str = ""
    location: str = ""

    @property
    def format(self) -> str:
        """dtype and layout: ``FP16 NHWC8``."""
        return f"{self.dtype} {self.layout}".strip()

    @property
    def nbytes(self) -> int | None:
        """Bytes in memory, channels padded as the layout asks for; None when that is not known."""
        if self.shape is None or self.dtype not in BITS or any(dim < 0 for dim in self.shape):
            return None
        dims = list(self.shape)
        wide = re.search(r"\d+$", self.layout)
        if wide and len(dims) >= 3:
            axis = 1 if len(dims) > 3 else 0
            dims[axis] = -(-dims[axis] // int(wide[0])) * int(wide[0])
        return -(-math.prod(dims) * BITS[self.dtype] // 8)


@dataclass(frozen=True)
class Layer:
    """One layer of an engine, or of a network before it is built.

    Attributes:
        name: unique among the layers of an engine (a second one of the same name gets `` #2``).
        written: the name as it stands in the file.
        type: ``LayerType``: the implementation (``CaskConvolution``, ``kgen`` ...), ``''`` when not said.
        profile: the optimisation profile that this copy of the network is for.
        stream: of the GPU, None when not said.
    """

    name: str
    written: str = ""
    type: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    metadata: str = ""
    tactic: str = ""
    stream: int | None = None
    profile: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bare(self) -> str:
        """The name without ``[profile N]``."""
        return _PROFILE.sub("", self.written).strip()

    def attribute(self, name: str) -> Any:
        """An attribute; layers that are a convolution with a pooling prefix those of the first with
        ``Conv``."""
        return self.attributes.get(name, self.attributes.get(f"Conv{name}"))


@dataclass
class Read:
    """What was read: the layers of all optimisation profiles, the names of inputs and outputs, what was
    missing."""

    layers: list[Layer]
    bindings: tuple[str, ...] = ()
    missing: list[str] = field(default_factory=list)


def read_json(source: Any, what: str, salvage: Callable[[str], Any]) -> tuple[Any, str, list[str]]:
    """JSON of a path, a text or data that is already there.

    Returns:
        (the data, a name of the source for messages, what is missing).

    Raises:
        EngineError: it cannot be read, or is not JSON, nor the beginning of it.
    """
    if not isinstance(source, str | os.PathLike):
        return source, f"the given {what}", []
    given = str(source)
    if given.lstrip()[:1] in ("{", "["):
        text, name = given, f"the text of the {what}"
    else:
        name = given
        try:
            text = Path(given).read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise EngineError(f"cannot read the {what} from {given}: {error.strerror or error}") from error
    try:
        return json.loads(text, strict=False), name, []  # names may hold control characters as they are
    except ValueError as error:
        data = salvage(text)
        if not data:
            raise EngineError(
                f"cannot read the {what} from {name}: got text that is not JSON ({error}), expected what trtexec "
                "writes; export it again"
            ) from error
        return (
            data,
            name,
            [f"{name} is cut off or damaged ({error}): {len(data)} entries before that were read"],
        )


def salvage(text: str, key: str = "") -> list[Any]:
    """The complete elements of a JSON list (that of `key`, or the first) in text that ends too early."""
    start = text.find(f'"{key}"') if key else 0
    start = text.find("[", max(start, 0))
    found: list[Any] = []
    decoder = json.JSONDecoder(strict=False)
    while start >= 0:
        at = start + 1
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            element, end = decoder.raw_decode(text, at)
        except ValueError:
            return found
        found.append(element)
        start = end - 1
    return found


def read(source: Any) -> Read:
    """Layers from the inspector's JSON.

    Args:
        source: a path, JSON text, or the data itself: ``{"Layers": [...], "Bindings": [...]}``, or a list of
            layers, of JSON texts with one layer each, or of names.

    Raises:
        EngineError: there are no layers in it.
    """
    data, name, missing = read_json(source, "layer information", lambda text: salvage(text, "Layers"))
    if isinstance(data, Mapping) and not isinstance(data.get("Layers"), list):
        if "Name" not in data:
            got = ", ".join(map(repr, list(data)[:6])) or "nothing"
            raise EngineError(
                f"cannot read layers from {name}: got an object with {got}, expected 'Layers'; "
                "export with trtexec --exportLayerInfo and --profilingVerbosity=detailed"
            )
        data = [data]
    raw = data["Layers"] if isinstance(data, Mapping) else data
    if not isinstance(raw, list | tuple):
        raise EngineError(
            f"cannot read layers from {name}: got {type(raw).__name__}, expected an object with 'Layers', or a list"
        )
    listed = data.get("Bindings") if isinstance(data, Mapping) else None
    bindings = tuple(map(str, listed)) if isinstance(listed, list) else ()
    if raw and all(isinstance(entry, Mapping) and ("timeMs" in entry or "count" in entry) for entry in raw):
        raise EngineError(
            f"cannot read layers from {name}: these are times of layers; give them as times_json="
        )
    layers = [layer for entry in raw if (layer := _layer(entry)) is not None]
    if not layers:
        raise EngineError(f"cannot read layers from {name}: it lists {len(raw)}, none of them with a name")
    if len(layers) < len(raw):
        missing.append(f"{len(raw) - len(layers)} entries are no layers (they have no name)")
    result = Read(_unique(layers), bindings, missing)
    result.missing += _absent(result.layers)
    return result


def _layer(entry: Any) -> Layer | None:
    if isinstance(entry, str):
        if not entry.lstrip().startswith("{"):
            return _named(entry, {}) if entry.strip() else None
        try:
            entry = json.loads(entry, strict=False)
        except ValueError:
            return None
    if not isinstance(entry, Mapping) or not str(entry.get("Name") or "").strip():
        return None
    return _named(str(entry["Name"]), entry)


_TAKEN = ("Name", "LayerType", "Inputs", "Outputs", "Metadata", "TacticName", "StreamId")


def _named(name: str, entry: Mapping[str, Any]) -> Layer:
    numbered = _PROFILE.search(name)
    stream = entry.get("StreamId")
    return Layer(
        name=name.strip(),
        written=name.strip(),
        type=str(entry.get("LayerType") or ""),
        inputs=_tensors(entry.get("Inputs")),
        outputs=_tensors(entry.get("Outputs")),
        metadata=str(entry.get("Metadata") or ""),
        tactic=str(entry.get("TacticName") or ""),
        stream=stream if isinstance(stream, int) else None,
        profile=int(numbered[1]) if numbered else 0,
        attributes={key: value for key, value in entry.items() if key not in _TAKEN},
    )


def _tensors(listed: Any) -> tuple[Tensor, ...]:
    if not isinstance(listed, Iterable) or isinstance(listed, str | Mapping):
        return ()
    return tuple(_tensor(entry) for entry in listed if isinstance(entry, str | Mapping))


def _tensor(entry: Any) -> Tensor:
    if isinstance(entry, str):
        return Tensor(_PROFILE.sub("", entry).strip(), None)
    written = str(entry.get("Format/Datatype") or "")
    if not written:
        written = " ".join(str(entry[key]) for key in ("Format", "Datatype", "DataType") if entry.get(key))
    dims = entry.get("Dimensions", entry.get("Shape"))
    known = isinstance(dims, list) and all(isinstance(dim, int) for dim in dims)
    dtype, layout = parse_format(written)
    name = _PROFILE.sub("", str(entry.get("Name") or "")).strip()
    location = str(entry.get("Location") or "")
    return Tensor(name, tuple(dims) if known else None, dtype, layout, written, location)


def parse_dtype(written: str) -> str:
    """``FP16`` for ``Half``, ``FP16``, ``Row major linear FP16 format`` ...; ``''`` when none is named."""
    found = _DTYPE.search(written)
    if not found:
        return ""
    name = found[1].upper()
    if name.startswith(("FLOAT8", "E4M3", "E5M2")):
        return "FP8"
    if name.startswith(("FLOAT4", "E2M1")):
        return "FP4"
    return _SAME.get(name, name)


def parse_format(written: str) -> tuple[str, str]:
    """(dtype, layout) of what TensorRT writes, for example
    ``Channel major FP16 format where channel % 8 == 0``."""
    dtype, layout = parse_dtype(written), ""
    deep = "D" if "3 spatial dimensions" in written else ""
    if wide := re.search(r"([\w-]+) wide channel vectorized", written):
        layout = f"C{deep}HW{_WIDE.get(wide[1], '')}"
    elif "Channel major" in written:
        padded = re.search(r"channel (?:%|==) (\d+)", written)
        layout = f"N{deep}HWC{padded[1] if padded else ''}"
    elif "Row major" in written:
        layout = "linear"
    return dtype, layout


def _unique(layers: list[Layer]) -> list[Layer]:
    """The same layers, each with a name of its own."""
    seen: dict[str, int] = {}
    result = []
    for layer in layers:
        seen[layer.name] = count = seen.get(layer.name, 0) + 1
        name = layer.name if count == 1 else f"{layer.name} #{count}"
        while count > 1 and name in seen:
            name += "'"
        seen.setdefault(name, 1)
        result.append(layer if name == layer.name else Layer(**{**vars(layer), "name": name}))
    return result


def _absent(layers: list[Layer]) -> list[str]:
    """What this engine's layers do not tell."""

    def some(count: int, what: str) -> list[str]:
        return [f"{count} of {len(layers)} layers {what}"] if count else []

    bare = sum(not layer.inputs and not layer.outputs for layer in layers)
    untyped = sum(not layer.type for layer in layers)
    duplicates = sum(bool(re.search(r" #\d+'*$", layer.name)) for layer in layers)
    again = some(duplicates, "have the name of another one: numbered #2, #3 ...")
    if bare == untyped == len(layers):
        return [
            "the layers are names alone: no tensors, formats, tactics or sizes (build with "
            "--profilingVerbosity=detailed)",
            *again,
        ]
    tensors = [tensor for layer in layers for tensor in (*layer.inputs, *layer.outputs)]
    dynamic = sum(
        any(t.shape is not None and -1 in t.shape for t in (*layer.inputs, *layer.outputs))
        for layer in layers
    )
    unsized = len({t.name for t in tensors if t.shape is None})
    odd = sorted({t.written or "(nothing)" for t in tensors if not t.dtype})
    return [
        *some(untyped, "do not say their type"),
        *some(bare, "do not list tensors"),
        *some(dynamic, "have dims that only a run decides: their bytes and MACs are not known"),
        *([f"{unsized} tensors do not say their shape"] if unsized else []),
        *([f"data types that are not known: {', '.join(map(repr, odd[:4]))}"] if odd else []),
        *again,
    ]


def of_network(network: Iterable[Mapping[str, Any]]) -> list[Layer]:
    """Layers of a network as it was parsed: dicts with ``name``, ``type``, ``inputs``, ``outputs``,
    ``metadata``."""
    found = []
    for entry in network:
        tensors = [[_parsed(tensor) for tensor in entry.get(ports) or ()] for ports in ("inputs", "outputs")]
        metadata = str(entry.get("metadata") or "")
        name, kind = str(entry["name"]), str(entry.get("type") or "")
        found.append(Layer(name, name, kind, tuple(tensors[0]), tuple(tensors[1]), metadata))
    return _unique(found)


def _parsed(tensor: Any) -> Tensor:
    if isinstance(tensor, str):
        return Tensor(tensor, None)
    shape, dtype = tensor.get("shape"), str(tensor.get("dtype") or "")
    known = shape is not None and all(isinstance(dim, int) for dim in shape)
    return Tensor(
        str(tensor.get("name") or ""), tuple(shape) if known else None, parse_dtype(dtype), "", dtype
    )
