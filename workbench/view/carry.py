"""What was inferred for a model, taken over to an edited one: only what the edit touched is counted again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from ..model import assume, costs
from ..model.info import from_type
from .build import Builder, declared, shape_text

if TYPE_CHECKING:
    from .columns import Columns

Shape = tuple[int | str | None, ...] | None


def carry(earlier: Columns, made: Columns, nodes: set[ir.Node], types: Mapping[ir.Value, Any]) -> None:
    """Fill in dtypes, shapes, MACs and bytes.

    Args:
        earlier: columns with all of them.
        made: columns of the edited model as its file declares them; filled in here. ``header["rough"]`` becomes True
            when some of it can only be known by inferring the whole model again.
        nodes: whose attributes or inputs have changed.
        types: value -> type, of the values whose type has changed.
    """
    old, new = earlier.builder, made.builder
    assert old is not None and new is not None
    at_node, at = new.before(old)
    for name in ("tensor.dtype", "tensor.shape"):
        made.arrays[name] = _taken(earlier.arrays[name], at, made.arrays[name].copy())
    _, assumed = assume.input_shapes(new.model.inputs, {})
    rough = assumed != assume.input_shapes(old.model.inputs, {})[1]
    for value, kind in types.items():
        number = new.numbers.get(value)
        if number is not None and kind is not None:
            dtype, shape = from_type(kind)
            if not (value.is_graph_input() or value.is_graph_output()):
                shape = shape and tuple(
                    assumed.get(dim, dim) if isinstance(dim, str) else dim for dim in shape
                )
                rough = rough or shape is None or not all(isinstance(dim, int) for dim in shape)
            made.arrays["tensor.dtype"][number] = new.dtypes(dtype)
            made.arrays["tensor.shape"][number] = new.dims(shape_text(shape))
    _ports(earlier, made, new, assumed)
    made.header |= {"shapes": list(new.dims.rows), "dtypes": list(new.dtypes.rows)}
    at = at_node
    for name in ("node.macs", "node.bytes"):
        made.arrays[name] = _taken(earlier.arrays[name], at, np.full(len(at), np.nan))
    changed = set(nodes)
    for value in types:
        changed.update(value.consumers())
        if (maker := value.producer()) is not None:
            changed.add(maker)
    where = np.flatnonzero((at < 0) | np.fromiter(map(changed.__contains__, new.nodes), bool, len(at)))
    made.header["rough"] = _count(made, new, where, assumed) or rough


def _ports(earlier: Columns, made: Columns, new: Builder, assumed: Mapping[str, int]) -> None:
    """Inputs and outputs are as the model declares them; what no longer is one, as it was inferred."""
    old = earlier.builder
    assert old is not None
    both = [
        {graph.values[t] for side in ("inputs", "outputs") for t in graph.graphs[0][side]}
        for graph in (old, new)
    ]
    for value in both[0] ^ both[1]:
        number = new.numbers.get(value)
        if number is None or value.const_value is not None:
            continue
        _, shape = declared(value)
        if value not in both[1]:
            shape = _dims(new.dims.rows[made.arrays["tensor.shape"][number]], assumed)
        if shape is not None:
            made.arrays["tensor.shape"][number] = new.dims(shape_text(shape))


def _taken(old: np.ndarray, at: np.ndarray, new: np.ndarray) -> np.ndarray:
    new[at >= 0] = old[at[at >= 0]]
    return new


def _count(made: Columns, new: Builder, where: np.ndarray, assumed: Mapping[str, int]) -> bool:
    """Costs of some nodes; whether there are nodes among them that cannot be counted alone."""
    rough = False
    head, arrays = made.header, made.arrays
    functions = {(key[0], key[1]) for key in new.model.ir.functions}

    def known(tensor: int) -> tuple[str, Shape]:
        if tensor < 0:
            return "", ()
        shape = _dims(head["shapes"][arrays["tensor.shape"][tensor]], assumed)
        return head["dtypes"][arrays["tensor.dtype"][tensor]], shape

    for index in where.tolist():
        node = new.nodes[index]
        given = {name: item for name, item in node.attributes.items() if not item.is_ref()}
        held = any(item.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for item in given.values())
        if held or arrays["node.graph"][index] or (node.domain, node.op_type) in functions:
            rough = True  # a body counts as often as it runs
            continue
        ins, outs = (
            [known(t) for t in arrays[side][slice(*arrays[f"{side}.start"][index : index + 2])]]
            for side in ("node.in", "node.out")
        )
        values = {name: item.value for name, item in given.items()} if node.op_type in costs.COUNTED else {}
        macs = costs.macs(node.op_type, values, [shape for _, shape in ins], [shape for _, shape in outs])
        moved = costs.moved_bytes(ins, outs, node.op_type)
        arrays["node.macs"][index] = np.nan if macs is None else macs
        arrays["node.bytes"][index] = np.nan if moved is None else moved
    return rough


def _dims(text: str, assumed: Mapping[str, int]) -> Shape:
    if text in ("", "scalar"):
        return () if text else None
    return tuple(int(dim) if dim.isdigit() else assumed.get(dim, dim) for dim in text.split("×"))
