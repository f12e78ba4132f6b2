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
    firsts = (next((value.name for value in node.outputs if value.name), "") for node in every)
    given = [(node.name or "", node.op_type, first) for node, first in zip(every, firsts, strict=True)]
    for node, name in zip(every, unique(given), strict=True):
        if node.name != name:
            node.name = name


def unique(given: list[tuple[str, str, str]]) -> list[str]:
    """The names by the rule of `name_nodes`, for (name, operator, first output) of every node."""
    taken = {name for name, _, _ in given if name}
    seen: set[str] = set()
    last: dict[str, int] = {}

    def free(name: str) -> str:
        candidate = name
        while candidate in taken:
            last[name] = last.get(name, 0) + 1
            candidate = f"{name}_{last[name]}"
        taken.add(candidate)
        return candidate

    found = []
    for name, op_type, first in given:
        if not name:
            name = free(f"{op_type}_{first}" if first else op_type)
        elif name in seen:
            name = free(name)
        seen.add(name)
        found.append(name)
    return found
