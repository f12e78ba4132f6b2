"""What the graph view asks the kernel for: a node's attributes with their documentation, a weight's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ..edits.words import choices
from ..errors import NotInModelError
from ..model import Model
from ..model.nodewise import held
from ..model.scopes import scopes
from ..view import WEIGHT, Columns, attribute_text, module_path

SAMPLE = 20_000_000
"""Elements of a weight up to which statistics are of all of it; beyond, of as many, evenly spread."""
BLOCK = 1 << 21
BINS = 48
EDITABLE = 4096
"""Elements of an attribute up to which it can be edited as text."""


def node(model: Model, name: str) -> dict[str, Any]:
    """Documentation, attributes (those at their default included), module and metadata of a node.

    Raises:
        NotInModelError: there is no such node.
    """
    graph, found = find(model, name)
    schema = schema_of(model, graph, found)
    stated = schema.attributes if schema else {}
    rows = [_row(attribute, schema) for attribute in found.attributes.values()]
    rows += [
        {
            "name": name,
            "value": _default(declared),
            "text": _default(declared, "") if declared.type.name in _PLAIN else None,
            "choices": choices(schema, name) if declared.type.name == "STRING" else (),
            "type": declared.type.name.lower(),
            "doc": declared.description.strip(),
            "given": False,
            "required": declared.required,
        }
        for name, declared in stated.items()
        if name not in found.attributes
    ]
    notes = {key: value for key, value in found.metadata_props.items() if not key.startswith("workbench.")}
    return {
        "doc": (schema.doc or "").strip() if schema else "",
        "since": schema.since_version if schema else None,
        "attributes": rows,
        "inputs": _ports(schema.inputs) if schema else [],
        "outputs": _ports(schema.outputs) if schema else [],
        "open": schema is None,
        "module": "/".join(module_path(found)),
        "metadata": notes,
    }


_PLAIN = ("INT", "FLOAT", "STRING", "INTS", "FLOATS", "STRINGS")


def _row(attribute: ir.Attr, schema: onnx.defs.OpSchema | None) -> dict[str, Any]:
    declared = schema.attributes.get(attribute.name) if schema else None
    return {
        "name": attribute.name,
        "value": _value(attribute),
        "text": attribute_as_text(attribute),
        "choices": choices(schema, attribute.name) if attribute.type == ir.AttributeType.STRING else (),
        "type": str(attribute.type.name).lower(),
        "doc": declared.description.strip() if declared else "",
        "given": True,
        "required": bool(declared and declared.required),
    }


def _ports(stated: Iterable[onnx.defs.OpSchema.FormalParameter]) -> list[dict[str, str]]:
    return [{"name": port.name, "doc": port.description.strip()} for port in stated]


def tensor(model: Model, made: Columns, number: int) -> dict[str, Any]:
    """What can be changed of a tensor: its key, whether it is an input or output of the model, its metadata.

    Raises:
        NotInModelError: there is no such tensor.
    """
    if not 0 <= number < len(made.values):
        raise NotInModelError(f"there is no tensor {number} in {made.header['name']!r}")
    value = made.values[number]
    graph = model.ir.graph
    main = value.graph is graph
    notes = {key: text for key, text in value.metadata_props.items() if not key.startswith("workbench.")}
    return {
        "key": made.key(number),
        "input": main and value.is_graph_input() and value.name not in graph.initializers,
        "output": main and value.is_graph_output(),
        "main": main,
        "metadata": notes,
    }


def overall(model: Model) -> dict[str, Any]:
    """What can be changed of the model as a whole."""
    graph = model.ir
    return {
        "opsets": dict(graph.opset_imports),
        "producer": " ".join(filter(None, (graph.producer_name, graph.producer_version))),
        "metadata": {
            key: text for key, text in graph.metadata_props.items() if not key.startswith("workbench.")
        },
    }


def operators(model: Model) -> list[str]:
    """Operators that the model can use: of its opset, and its own functions (``domain::name``)."""
    version = model.ir.opset_imports.get("", 0)
    known = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == "" and schema.since_version <= version and not schema.deprecated
    }
    return sorted(known) + [f"{item.domain}::{item.name}" for item in model.ir.functions.values()]


def find(model: Model, name: str) -> tuple[ir.Graph | ir.Function, ir.Node]:
    """(graph, node) of a name; NotInModelError when there is none."""
    for _, graph in scopes(model.ir):
        for found in graph:
            if found.name == name:
                return graph, found
    raise NotInModelError(f"model {model.name!r} has no node {name[:200]!r}; Model.nodes lists them")


def schema_of(model: Model, graph: ir.Graph | ir.Function, found: ir.Node) -> onnx.defs.OpSchema | None:
    """The schema that holds for a node; None for a custom operator."""
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


def _default(declared: onnx.defs.OpSchema.Attribute, none: str = "none") -> str:
    if declared.required:
        return none and "missing, but required"
    default = declared.default_value
    return (attribute_as_text(ir.serde.deserialize_attribute(default)) or none) if default.type else none


def attribute_as_text(attribute: ir.Attr) -> str | None:
    """An attribute as it can be typed again; None for one that is too large or no plain value."""
    if attribute.is_ref() or attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return None
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        if value.size > 256 or value.numpy().dtype.kind not in "biuf":
            return None
        return str(value.numpy().tolist())
    if attribute.type == ir.AttributeType.STRING:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if attribute.type == ir.AttributeType.FLOAT:
        return _float(value)
    if isinstance(value, list | tuple):
        if len(value) > EDITABLE:
            return None
        if attribute.type == ir.AttributeType.FLOATS:
            return "[" + ", ".join(map(_float, value)) + "]"
        return str([item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value])
    return str(value) if isinstance(value, int) else None


def _float(value: float) -> str:
    """The shortest text that reads back as the same float32."""
    return str(np.float32(value))


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
