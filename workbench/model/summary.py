"""What a model is, at a glance: the data behind the summary card, and the card as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from . import assume, card, content
from .content import Weights
from .costs import UNKNOWN
from .info import TensorInfo
from .operators import has_body, is_defined, qualified
from .proto import for_checker
from .scopes import initializers, nodes, scopes, within
from .walk import Walk

if TYPE_CHECKING:
    from .core import Model

LISTED = 10


@dataclass(frozen=True)
class Heavy:
    """A node and the MACs of one run of it."""

    node: str
    op_type: str
    macs: int


@dataclass(frozen=True)
class Summary:
    """What a model is. ``str()`` of it is the card as text; a notebook shows it as HTML.

    Attributes:
        name, path: of the model; path is None when it does not come from a file.
        producer: the tool that made it, with its version.
        ir_version: of ONNX.
        opsets: domain (``ai.onnx`` for the default) -> version.
        inputs, outputs: as in ``Model``.
        nodes: how many, those in bodies and functions included.
        inside: how many of these are in bodies and functions.
        operators: (operator, how many), most frequent first; operators of other domains as ``domain::name``.
        weights: the constants by dtype, most bytes first, wherever the model holds them.
        parameters, bytes: their elements and bytes in total.
        macs, moved: multiply-accumulates and bytes moved by one run, in total over the nodes that can be
        counted.
        uncounted: names of nodes whose cost is not known, because a shape is not.
        once: names of loops whose number of turns is not known; they were counted with one turn.
        assumed: dim -> size that was assumed for it to count costs; ``summary(shapes=...)`` sets them.
        heaviest: the nodes with the most MACs, those in bodies and functions included.
        largest: the largest tensors that nodes make.
        findings: what is odd about the model: what onnx's checker says, and more; empty when all is well.
    """

    name: str
    path: str | None
    producer: str
    ir_version: int
    opsets: dict[str, int]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: int
    inside: int
    operators: tuple[tuple[str, int], ...]
    weights: tuple[Weights, ...]
    parameters: int
    bytes: int
    macs: int
    moved: int
    uncounted: tuple[str, ...]
    once: tuple[str, ...]
    assumed: dict[str, int]
    heaviest: tuple[Heavy, ...]
    largest: tuple[TensorInfo, ...]
    findings: tuple[str, ...]

    def __str__(self) -> str:
        return card.text(self)

    def _repr_html_(self) -> str:
        return card.html(self)


def summarize(model: Model, shapes: assume.Given) -> Summary:
    """The summary of a model; see ``Model.summary``."""
    walk, assumed = model.walk(shapes)
    main = {node.name or "": walk.nodes.get(node.name or "", UNKNOWN) for node in model.ir.graph}
    leaves = [node for node in nodes(model.ir) if not _holds_nodes(node, model.ir)]
    macs = [(node, walk.nodes.get(node.name or "", UNKNOWN).macs) for node in leaves]
    heaviest = [Heavy(node.name or "", node.op_type, count) for node, count in macs if count]
    weights = content.by_dtype(model.ir)
    activations = [info for info in _activations(model.ir, walk) if info.bytes]
    ir_model = model.ir
    return Summary(
        name=model.name,
        path=str(model.path) if model.path else None,
        producer=" ".join(filter(None, (ir_model.producer_name, ir_model.producer_version))),
        ir_version=ir_model.ir_version,
        opsets={domain or "ai.onnx": version for domain, version in ir_model.opset_imports.items()},
        inputs=model.inputs,
        outputs=model.outputs,
        nodes=(count := sum(1 for _ in nodes(ir_model))),
        inside=count - len(ir_model.graph),
        operators=tuple(Counter(map(qualified, nodes(ir_model))).most_common()),
        weights=weights,
        parameters=sum(row.parameters for row in weights),
        bytes=sum(row.bytes for row in weights),
        macs=sum(cost.macs or 0 for cost in main.values()),
        moved=sum(cost.bytes or 0 for cost in main.values()),
        uncounted=tuple(name for name, cost in main.items() if cost.macs is None),
        once=tuple(dict.fromkeys(walk.once)),
        assumed=assumed,
        heaviest=tuple(sorted(heaviest, key=lambda item: -item.macs)[:LISTED]),
        largest=tuple(sorted(activations, key=lambda info: -(info.bytes or 0))[:LISTED]),
        findings=tuple(findings(ir_model)),
    )


def _activations(model: ir.Model, walk: Walk) -> Iterator[TensorInfo]:
    """What nodes make, those in bodies and functions included."""
    for scope, graph in scopes(model):
        for node in graph:
            if node.op_type != "Constant":
                for value in node.outputs:
                    info = walk.tensors.get(within(scope, value.name or ""))
                    if info is not None:
                        yield info


def _holds_nodes(node: ir.Node, model: ir.Model) -> bool:
    """Whether the costs of a node are those of nodes inside it."""
    bodies = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    if node.op_identifier() in model.functions:
        return True
    return any(attribute.type in bodies for attribute in node.attributes.values())


def findings(model: ir.Model) -> list[str]:
    """What is odd about a model that can be loaded."""
    found = []
    try:
        onnx.checker.check_model(for_checker(model))
    except Exception as error:  # whatever the checker says is a finding
        said = str(error).strip() or type(error).__name__
        found.append(f"onnx's checker: {said.splitlines()[0]}")
    used = {node.domain for node in nodes(model)}
    unused = sorted(domain for domain in model.opset_imports if domain and domain not in used)
    if unused:
        found.append(f"opset domains that no node uses: {', '.join(unused)}")
    unknown = Counter(
        (qualified(node), "" if has_body(node, model) else " without a body")
        for node in nodes(model)
        if not is_defined(node, model)
    )
    if unknown:
        found.append(
            "operators that onnx does not define, so that their outputs have only the declared shapes: "
            + ", ".join(f"{name} ({count}){body}" for (name, body), count in unknown.most_common())
        )
    idle = [value for value in initializers(model) if not value.uses() and not value.is_graph_output()]
    if idle:
        size = card.size(sum(value.const_value.nbytes for value in idle if value.const_value is not None))
        found.append(f"weights that nothing reads: {len(idle)} ({size}), among them {idle[0].name!r}")
    return found
