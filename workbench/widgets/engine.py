"""The graph of an engine beside that of its ONNX model: what is selected in one is selected in the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import WorkbenchError
from .graph import GraphView

if TYPE_CHECKING:
    from ..tensorrt import Engine


def view(engine: Engine, beside: GraphView | None = None, **options: Any) -> GraphView:
    """A GraphView of the engine's layers, coloured by time (by operator where there are no times).

    Args:
        engine: the engine.
        beside: a view of the ONNX model: selecting layers selects their nodes in it, and the other way round.
        options: those of ``GraphView``.
    """
    times = engine.table["ms"].rename("time, ms")
    options.setdefault("overlay", times if len(times) else "op")
    made = GraphView(engine.graph, **options)
    if beside is not None:
        link(engine, made, beside)
    return made


def link(engine: Engine, layers: GraphView, nodes: GraphView) -> None:
    """Tie the selections of a view of the engine and of a view of its ONNX model.

    Raises:
        WorkbenchError: the view of the model has none of the nodes of the engine's layers.
    """
    there = set(nodes.model.nodes.index)
    shown = engine.layers.loc[engine.layers.index.isin(layers.model.nodes.index), "nodes"]
    to_nodes = {str(name): [node for node in found if node in there] for name, found in shown.items()}
    to_layers: dict[str, list[str]] = {}
    for name, found in to_nodes.items():
        for node in found:
            to_layers.setdefault(node, []).append(name)
    if not to_layers:
        raise WorkbenchError(
            f"cannot tie the views of engine {engine.model_name!r} and model {nodes.model.name!r}: no layer stands "
            "for a node of that model; give the model that the engine was built from"
        )

    following = False

    def follow(source: GraphView, target: GraphView, through: dict[str, list[str]]) -> None:
        def selected(change: Any) -> None:
            nonlocal following
            if following:  # this selection is the answer to one in the other view
                return
            following = True
            try:
                target.selection = list(
                    dict.fromkeys(o for name in change.new for o in through.get(name, ()))
                )
            finally:
                following = False

        source.observe(selected, "selection")

    follow(layers, nodes, to_nodes)
    follow(nodes, layers, to_layers)
