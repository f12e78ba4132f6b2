"""The layers of an engine as a graph of the same kind as an ONNX model, so that the same view and the same
JSON show it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from ..model import Model
from ..model.costs import NodeCost
from .layers import Layer, Tensor
from .work import attribute_text

if TYPE_CHECKING:
    import pandas as pd

DOMAIN = "tensorrt"
_TYPES = {
    "FP64": "DOUBLE", "FP32": "FLOAT", "FP16": "FLOAT16", "BF16": "BFLOAT16", "FP8": "FLOAT8E4M3FN",
    "FP4": "FLOAT4E2M1", **{name: name for name in ("INT64", "INT32", "INT16", "INT8", "UINT8", "INT4", "BOOL")},
}  # fmt: skip


def as_model(layers: Sequence[Layer], table: pd.DataFrame, bindings: Sequence[str], name: str) -> Model:
    """A model with one node per layer, named as the layer, of the domain ``tensorrt``: to look at, not to
    run.

    A tensor that several layers write (parts of a concatenation, the turns of a loop) is one value per
    writer, and its readers read all of them: so a loop is a cycle in this graph.
    """
    values: dict[str, list[ir.Value]] = {}
    made = {t.name for layer in layers for t in layer.outputs}
    inputs = []
    for layer in layers:
        for tensor in layer.inputs:
            if tensor.name and tensor.name not in made and tensor.name not in values:
                value = _value(tensor, tensor.name)
                values[tensor.name] = [value]
                inputs.append(value)
    outputs: dict[str, list[ir.Value]] = {}
    for layer in layers:
        outputs[layer.name] = own = []
        for tensor in layer.outputs:
            written = values.setdefault(tensor.name, [])
            own.append(_value(tensor, f"{tensor.name} ({len(written) + 1})" if written else tensor.name))
            written.append(own[-1])
    nodes = []
    for layer in layers:
        read = [value for t in layer.inputs for value in values.get(t.name, ())]
        notes = _notes(layer, table)
        kind = re.sub(r"\W", "_", str(table.at[layer.name, "op_type"])) or "Layer"
        attributes = [ir.AttrString(key, text) for key, text in notes.items()]
        nodes.append(ir.Node(DOMAIN, kind, read, attributes, outputs=outputs[layer.name], name=layer.name))
    used = {t.name for layer in layers for t in layer.inputs}
    ends = [v for tensor in made if tensor in bindings or tensor not in used for v in values[tensor]]
    graph = ir.Graph(inputs, ends, nodes=nodes, opset_imports={DOMAIN: 1, "": 20}, name=name)
    model = Model(ir.Model(graph, ir_version=10), name=name)  # not `load`, which refuses a cycle
    costs = model.walk()[
        0
    ].nodes  # kept by the model: what is known of layers, in place of what ONNX knows of them
    for layer_name, row in table.loc[[layer.name for layer in layers]].iterrows():
        counts = [None if math.isnan(row[column]) else int(row[column]) for column in ("macs", "bytes")]
        costs[str(layer_name)] = NodeCost(*counts)
    return model


def _value(tensor: Tensor, name: str) -> ir.Value:
    dtype = getattr(ir.DataType, _TYPES.get(tensor.dtype, "UNDEFINED"))
    shape = None if tensor.shape is None else ir.Shape([dim if dim >= 0 else None for dim in tensor.shape])
    return ir.Value(name=name, shape=shape, type=ir.TensorType(dtype))


def _notes(layer: Layer, table: pd.DataFrame) -> dict[str, str]:
    """What the inspector shows of a layer."""
    row = table.loc[layer.name]
    told = {
        "time": "" if math.isnan(row["ms"]) else f"{row['ms']:.4g} ms ({row['share']:.1%})",
        "precision": row["math"],
        "formats": f"{row['formats_in']} -> {row['formats_out']}" if layer.inputs or layer.outputs else "",
        "nodes": ", ".join(row["nodes"]) or row["joined"],
        "LayerType": layer.type,
        "TacticName": layer.tactic,
        "MACs": "" if not row["macs"] or math.isnan(row["macs"]) else f"{row['macs']:.4g}",
        **attribute_text(layer.attributes),
    }
    return {re.sub(r"\W", "_", key): str(text) for key, text in told.items() if text not in ("", None)}
