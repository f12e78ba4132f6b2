"""Stable names for nodes: every node of a model has one, no two have the same."""

from __future__ import annotations

import onnx_ir as ir

from .scopes import nodes


def name_nodes(model: ir.Model) -> None:
    """Give unnamed nodes the name ``<op_type>_<first output>``, and make names unique with ``_1``, ``_2`` ...

    The first node with a name keeps it. The result depends on nothing but the model, so the same file always
    gets the same names, and a model that was named once stays as it is.
    """
    every = list(nodes(model))
    taken = {node.name for node in every if node.name}
    seen: set[str] = set()
    last: dict[str, int] = {}

    def free(name: str) -> str:
        candidate = name
        while candidate in taken:
            last[name] = last.get(name, 0) + 1
            candidate = f"{name}_{last[name]}"
        taken.add(candidate)
        return candidate

    for node in every:
        if not node.name:
            first = next((value.name for value in node.outputs if value.name), "")
            node.name = free(f"{node.op_type}_{first}" if first else node.op_type)
        elif node.name in seen:
            node.name = free(node.name)
        seen.add(node.name)
