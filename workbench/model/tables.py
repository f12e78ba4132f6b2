"""A model's nodes and tensors as pandas tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from .info import TensorInfo
from .scopes import scopes, within
from .walk import Walk

if TYPE_CHECKING:
    import pandas as pd

    from .core import Model


def nodes(model: Model, walk: Walk) -> pd.DataFrame:
    """One row per node, in the order of the graphs; see ``Model.nodes``."""
    import pandas as pd

    rows = []
    for scope, graph in scopes(model.ir):
        for node in graph:
            cost = walk.nodes.get(node.name or "")
            rows.append(
                {
                    "node": node.name,
                    "op_type": node.op_type,
                    "domain": node.domain,
                    "inputs": tuple(value.name if value is not None else "" for value in node.inputs),
                    "outputs": tuple(value.name for value in node.outputs),
                    "scope": scope,
                    "macs": _int64(cost.macs if cost else None),
                    "bytes": _int64(cost.bytes if cost else None),
                }
            )
    columns = ["node", "op_type", "domain", "inputs", "outputs", "scope", "macs", "bytes"]
    table = pd.DataFrame(rows, columns=columns).astype({"macs": "Int64", "bytes": "Int64"})
    return table.set_index("node")


def tensors(model: Model, walk: Walk) -> pd.DataFrame:
    """One row per tensor; see ``Model.tensors``."""
    import pandas as pd

    rows: dict[str, dict[str, Any]] = {}
    for scope, graph in scopes(model.ir):
        for value, kind in _values(graph):
            key = within(scope, value.name or "")
            info = walk.tensors.get(key, TensorInfo(value.name or "", "", None))
            producer = value.producer()
            rows[key] = {
                "tensor": key,
                "dtype": info.dtype,
                "shape": info.shape,
                "bytes": _int64(info.bytes),
                "kind": kind,
                "producer": producer.name if producer is not None else "",
                "consumers": tuple(dict.fromkeys(user.name for user, _ in value.uses())),
                "scope": scope,
            }
    columns = ["tensor", "dtype", "shape", "bytes", "kind", "producer", "consumers", "scope"]
    return pd.DataFrame(list(rows.values()), columns=columns).astype({"bytes": "Int64"}).set_index("tensor")


def _int64(count: int | None) -> int | None:
    """A count for a column of 64 bits; what does not fit is as good as not known."""
    return count if count is not None and count < 1 << 63 else None


def _values(graph: ir.Graph | ir.Function) -> list[tuple[ir.Value, str]]:
    """(value, kind) of the tensors of one graph."""
    held = graph.initializers if isinstance(graph, ir.Graph) else {}
    found = [(value, "input") for value in graph.inputs if value.name not in held]
    found += [(value, "initializer") for value in held.values()]
    for node in graph:
        kind = "constant" if node.op_type == "Constant" and node.domain == "" else "activation"
        found += [(value, kind) for value in node.outputs if value.name]
    return found
