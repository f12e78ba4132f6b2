"""What the graph view asks the kernel for: a node's attributes with their documentation, a weight's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import NotInModelError
from ..model import Model
from ..model.scopes import scopes
from ..view import WEIGHT, Columns, attribute_text, held

SAMPLE = 20_000_000
"""Elements of a weight up to which statistics are of all of it; beyond, of as many, evenly spread."""
BLOCK = 1 << 21
BINS = 48


def node(model: Model, name: str) -> dict[str, Any]:
    """Documentation and attributes of a node, those at their default included.

    Raises:
        NotInModelError: there is no such node.
    """
    for _, graph in scopes(model.ir):
        for found in graph:
            if found.name == name:
                return _describe(model, graph, found)
    raise NotInModelError(f"model {model.name!r} has no node {name[:200]!r}; Model.nodes lists them")


def _describe(model: Model, graph: ir.Graph | ir.Function, found: ir.Node) -> dict[str, Any]:
    schema = _schema(model, graph, found)
    stated = schema.attributes if schema else {}
    rows = [
        {
            "name": attribute.name,
            "value": _value(attribute),
            "type": str(attribute.type.name).lower(),
            "doc": stated[attribute.name].description.strip() if attribute.name in stated else "",
            "given": True,
        }
        for attribute in found.attributes.values()
    ]
    rows += [
        {
            "name": name,
            "value": _default(declared),
            "type": declared.type.name.lower(),
            "doc": declared.description.strip(),
            "given": False,
        }
        for name, declared in stated.items()
        if name not in found.attributes
    ]
    return {
        "doc": (schema.doc or "").strip() if schema else "",
        "since": schema.since_version if schema else None,
        "attributes": rows,
        "inputs": [port.name for port in schema.inputs] if schema else [],
        "outputs": [port.name for port in schema.outputs] if schema else [],
    }


def _schema(model: Model, graph: ir.Graph | ir.Function, found: ir.Node) -> onnx.defs.OpSchema | None:
    opsets = {**model.ir.opset_imports, **getattr(graph, "opset_imports", {})}
    domain = "" if found.domain == "ai.onnx" else found.domain
    try:
        return onnx.defs.get_schema(found.op_type, found.version or opsets.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return None


def _value(attribute: ir.Attr) -> str:
    if not attribute.is_ref() and attribute.type == ir.AttributeType.GRAPH:
        return f"graph of {len(attribute.value)} nodes"
    if not attribute.is_ref() and attribute.type == ir.AttributeType.GRAPHS:
        return f"{len(attribute.value)} graphs"
    return attribute_text(attribute, 400)


def _default(declared: onnx.defs.OpSchema.Attribute) -> str:
    if declared.required:
        return "missing, but required"
    default = declared.default_value
    return str(onnx.helper.get_attribute_value(default)) if default.type else "none"


def weight(
    made: Columns, tensor: int, cancelled: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """Statistics, histogram and first values of a weight, read block by block.

    Args:
        made: columns of the model.
        tensor: number of the tensor in them.
        cancelled: asked before each block; when true the result is None.

    Raises:
        NotInModelError: the tensor is not a weight, or a weight without numbers.
    """
    known = 0 <= tensor < len(made.values) and made.arrays["tensor.kind"][tensor] == WEIGHT
    tensor_ = held(made.values[tensor]) if known else None
    if tensor_ is None:
        raise NotInModelError(f"tensor {tensor} of {made.header['name']!r} is not a weight that has numbers")
    array = tensor_.numpy()
    if array.dtype.kind in "OSU":
        return _words(array)
    flat = array.reshape(-1)
    step = max(1, -(-flat.size // SAMPLE))
    blocks = range(0, flat.size, BLOCK * step)
    count = zeros = nan = inf = 0
    total = squares = 0.0
    least, most = np.inf, -np.inf
    for start in blocks:
        if cancelled():
            return None
        block = _finite(flat[start : start + BLOCK * step : step])
        nan, inf = nan + block[1], inf + block[2]
        numbers = block[0]
        if numbers.size:
            count, zeros = count + numbers.size, zeros + int((numbers == 0).sum())
            total, squares = total + float(numbers.sum()), squares + float(np.square(numbers).sum())
            least, most = min(least, float(numbers.min())), max(most, float(numbers.max()))
    mean = total / count if count else 0.0
    low, high = (
        (least, most) if count and most > least else (least - 0.5, least + 0.5) if count else (0.0, 1.0)
    )
    counts = np.zeros(BINS, np.int64)
    for start in blocks:
        if cancelled():
            return None
        counts += np.histogram(_finite(flat[start : start + BLOCK * step : step])[0], BINS, (low, high))[0]
    return {
        "count": int(flat.size),
        "min": least if count else 0.0,
        "max": most if count else 0.0,
        "mean": mean,
        "std": float(np.sqrt(max(0.0, squares / count - mean * mean))) if count else 0.0,
        "zeros": zeros,
        "nan": nan,
        "inf": inf,
        "counts": counts.tolist(),
        "edges": [low, high],
        "values": _first(array),
        "sampled": step > 1,
    }


def _finite(block: np.ndarray) -> tuple[np.ndarray, int, int]:
    """(finite numbers as float64, how many NaN, how many infinite)."""
    numbers = np.abs(block) if block.dtype.kind == "c" else block
    numbers = numbers.astype(np.float64)
    finite = np.isfinite(numbers)
    nan = int(np.isnan(numbers).sum())
    return numbers[finite], nan, int(numbers.size - finite.sum()) - nan


def _first(array: np.ndarray) -> str:
    part = array[tuple(slice(0, 4) for _ in array.shape[:-1])][..., :8] if array.ndim else array
    if part.dtype.kind not in "biufc":
        part = part.astype(np.float32)
    while part.ndim > 2:
        part = part[0]
    text = np.array2string(part, precision=4, suppress_small=True, max_line_width=60)
    if part.size == array.size:
        return text
    shown, all_ = ("×".join(map(str, shape)) for shape in (part.shape, array.shape))
    return f"{text}\nfirst {shown} of {all_}"


def _words(array: np.ndarray) -> dict[str, Any]:
    first = [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in array.flat[:20]
    ]
    numbers = dict.fromkeys(("min", "max", "mean", "std"), 0.0) | dict.fromkeys(("zeros", "nan", "inf"), 0)
    return {"count": int(array.size), **numbers, "counts": [0] * BINS, "edges": [0.0, 1.0],
            "values": "\n".join(word[:200] for word in first), "sampled": False}  # fmt: skip
