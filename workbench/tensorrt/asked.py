"""What an ONNX model asks for in precision, against what an engine does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..model.proto import skeleton
from ..profile.graph import Graph, Op, Tensor
from ..profile.join import AFTER, BEFORE
from .layers import parse_dtype

if TYPE_CHECKING:
    import pandas as pd

    from .engine import Engine

_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"}
_QUANTISED = {"int8": "INT8", "uint8": "UINT8", "float8e4m3fn": "FP8", "float8e5m2": "FP8", "int4": "INT4"}
_THROUGH = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Expand"}


def asked(engine: Engine) -> pd.DataFrame:
    """One row per layer that holds a convolution or a matrix product; see `Engine.asked`."""
    import pandas as pd

    if engine.model is None:
        raise EngineError(
            f"cannot say what was asked for in engine {engine.model_name!r}: its ONNX model is not there; "
            "give Engine.load(..., model=) or engine.with_model(m)"
        )
    model = engine.model
    node_graph = Graph(skeleton(model.ir))
    dtypes = {name: info.dtype for name, info in model.walk()[0].tensors.items()}
    rows: list[dict[str, Any]] = []
    for layer, row in engine.layers.iterrows():
        if row["joined"] in (BEFORE, AFTER):
            continue
        ops = [
            op for name in row["nodes"] for op in node_graph.by_name.get(name, ()) if op.op_type in _PRODUCTS
        ]
        if not ops:
            continue
        wanted = [_wanted(op, node_graph, dtypes) for op in ops]
        said = " + ".join(dict.fromkeys(precision for precision, _ in wanted if precision))
        done = row["math"] or row["precision"]
        agrees = done in said.split(" + ") or (done == "TF32" and "FP32" in said)
        rows.append(
            {
                "layer": layer,
                "nodes": row["nodes"],
                "asked": said,
                "done": done,
                "agrees": agrees if said and done else None,
                "why": wanted[0][1],
                "ms": row["ms"],
            }
        )
    return pd.DataFrame(rows, columns=["layer", "nodes", "asked", "done", "agrees", "why", "ms"]).set_index(
        "layer"
    )


def _wanted(op: Op, graph: Graph, dtypes: dict[str, str]) -> tuple[str, str]:
    """(precision, why): that of the quantised tensors when data and weights are dequantised just before, else
    of data."""
    ports = op.inputs[:2]
    sources = [_dequantised(tensor, graph, dtypes) for tensor in ports]
    if len(sources) == 2 and all(sources):
        return sources[0] or "", "data and weights come from DequantizeLinear"
    for tensor in ports:
        held = graph.initializer(tensor)
        known = parse_dtype(dtypes.get(tensor[1], "")) if held is None else _held(held.data_type)
        if known:
            return known, "one of its inputs is quantised, the other not" if any(
                sources
            ) else "type of its inputs"
    return "", "the types of its inputs are not known"


def _held(data_type: int) -> str:
    from ..model.info import DTYPES

    return parse_dtype(DTYPES.get(data_type, ""))


def _dequantised(tensor: Tensor, graph: Graph, dtypes: dict[str, str]) -> str:
    """The quantised type that a tensor was dequantised from, past ops that only move data; '' if it was
    not."""
    op = graph.producer.get(tensor)
    while op is not None and op.op_type in _THROUGH and op.inputs:
        op = graph.producer.get(op.inputs[0])
    if op is None or op.op_type != "DequantizeLinear" or not op.inputs:
        return ""
    source = op.inputs[0]
    held = graph.initializer(source)
    if held is not None:
        return _held(held.data_type)
    return _QUANTISED.get(dtypes.get(source[1], ""), "INT8")
