"""Random edits of a model: ``walk(model, count, seed)`` applies what is accepted and checks every step."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from edits.small import tail
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented  # noqa: A004

from workbench import edits
from workbench.edits.draft import Draft
from workbench.edits.history import version_of
from workbench.errors import EditError, NotInModelError
from workbench.model import Model, proto

FLOATS = ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Exp", "Sqrt", "Floor")


@dataclass
class Walk:
    """What a random walk came to."""

    model: Model
    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)


def draft_of(model: Model) -> Draft:
    version = version_of(model)
    version.graph()
    return version.line.draft


def content(model: Model) -> bytes:
    """The bytes of a model with its weights, without caches."""
    return proto.encode(proto.serialize(model.ir, lambda tensor, _: tensor))


def runs(model: Model) -> None:
    """onnx's checker passes, and ONNX Runtime loads the model."""
    written = content(model)
    onnx.checker.check_model(onnx.ModelProto.FromString(written))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    except NotImplemented:  # all of the graph was accepted, but there is no kernel, as for Relu of int64
        return


def walk(
    model: Model, count: int, seed: int, *, check_every: int = 1, check: Callable[[Model], None] = runs
) -> Walk:
    """Apply random edits; a refused one must leave the bytes as they were."""
    rng = random.Random(seed)
    found = Walk(model)
    for number in range(count):
        if len(draft_of(found.model).nodes) < 5:
            break
        edit = pick(rng, found.model)
        undone = isinstance(edit, SHRINKING) and rng.random() < 0.9  # else little is left to edit
        before = content(found.model) if number % 7 == 0 else None
        try:
            found.model = found.model.apply(edit)
        except (EditError, NotInModelError) as error:
            found.refused[edit.method] += 1
            found.reasons[edit.method] = str(error)
            if before is not None:
                assert content(found.model) == before, f"refused but changed: {edit}"
            continue
        found.accepted[edit.method] += 1
        if number % check_every == 0:
            try:
                check(found.model)
            except Exception as error:
                raise AssertionError(f"seed {seed}, edit {number}: {edit}") from error
        if undone or rng.random() < 0.1:
            found.model = found.model.history.undo()
            if not undone and rng.random() < 0.5:
                found.model = found.model.history.redo()
    return found


def pick(rng: random.Random, model: Model) -> edits.Edit:
    """One random edit, which the model may or may not take."""
    draft = draft_of(model)
    nodes, graphs = list(draft.nodes), list(draft.values)
    graph = rng.choice(graphs) if rng.random() < 0.3 else draft.model.graph
    keys = [draft.key(value) for name, value in draft.values[graph].items() if name]
    keys = keys or list(draft.values[draft.model.graph])
    node, tensor, other = rng.choice(nodes), rng.choice(keys), rng.choice(keys)
    weights = [key for key in keys if draft.value(key).const_value is not None]
    weight = rng.choice(weights) if weights else tensor
    inputs = [value.name or "" for value in draft.model.graph.inputs]
    outputs = [value.name or "" for value in draft.model.graph.outputs]
    number = rng.randrange(10**9)
    attribute = rng.choice([*draft.nodes[node].attributes, "axis", "alpha", "unknown"])
    choices: list[Callable[[], Any]] = [
        lambda: edits.RenameNode(node, f"node {number} ☃"),
        lambda: edits.RenameTensor(tensor, f"tensor/{number}"),
        lambda: edits.RenameInput(rng.choice(inputs), f"in{number}"),
        lambda: edits.RenameOutput(rng.choice(outputs), f"out{number}"),
        lambda: edits.DeleteNodes(node),
        lambda: edits.DeleteNodes(node, through=rng.randrange(2)),
        lambda: edits.DeleteNodes(node, how="cut") if rng.random() < 0.1 else edits.DeleteNodes(node),
        lambda: edits.ReplaceOp(node, rng.choice(FLOATS)),
        lambda: edits.SetAttribute(node, attribute, rng.choice([0, 1, 0.5, "text", (1, 2), (0.5,)])),
        lambda: edits.RemoveAttribute(node, attribute),
        lambda: edits.Reconnect(node, rng.randrange(3), tensor),
        lambda: edits.InsertNode(tensor, rng.choice(FLOATS)),
        lambda: edits.InsertNode(tensor, "Add", inputs=(None, other)),
        lambda: edits.InsertIdentity(tensor),
        lambda: edits.InsertIdentity(tensor, to=node),
        lambda: edits.InsertCast(tensor, rng.choice(["float32", "float64", "int64"])),
        lambda: edits.InsertQDQ(tensor, 0.05, dtype=rng.choice(["int8", "uint8"])),
        lambda: edits.ReplaceWeight(weight, _like(rng, draft, weight)),
        lambda: edits.SetWeightDtype(weight, "float16", cast=True),
        lambda: edits.AddInput(f"new{number}", "float32", ("n", 3)),
        lambda: edits.RemoveInput(rng.choice(inputs)),
        lambda: edits.AddOutput(tensor),
        lambda: edits.RemoveOutput(rng.choice(outputs)),
        lambda: edits.SetMetadata("key", "väl\n", node=node),
        lambda: edits.SetMetadata("key", str(number)),
        lambda: edits.SetScope((node,), f"scope/{number}"),
        lambda: edits.CleanUp(),
    ]
    if rng.random() < 0.06:
        choices = _large(rng, model, tensor, rng.choice(inputs))
    edit: edits.Edit = rng.choice(choices)()
    return edit


def _large(rng: random.Random, model: Model, tensor: str, name: str) -> list[Callable[[], Any]]:
    """Edits of much of a graph, or of all of it."""
    opset, other = model.ir.opset_imports.get("", 1), rng.choice(list(model.tensors.index))
    prefix, connect = rng.choice(["", "p/"]), {}
    outputs = [info.name for info in model.outputs]
    if rng.random() < 0.5:
        connect = {rng.choice(outputs): "y"}
    return [
        lambda: edits.FoldConstants(limit=4096),
        lambda: edits.SetInput(name, _dims(rng, model, name)),
        lambda: edits.SetInput(name, None, rng.choice(["float32", "float16", "int64"])),
        lambda: edits.Append(tail(opset), connect, prefix),
        lambda: edits.Prepend(tail(opset), {"z": name} if rng.random() < 0.5 else {}, prefix),
        lambda: edits.Merge(tail(opset), {}, prefix),
        lambda: edits.Extract(outputs=tensor),
        lambda: edits.Extract(tensor, other),
        lambda: edits.ConvertOpset(opset + 1),
        lambda: edits.Simplify() if len(model.ir.graph) < 300 else edits.CleanUp(),
        lambda: _surgery(rng, model),
    ]


def _dims(rng: random.Random, model: Model, name: str) -> tuple[int | str | None, ...]:
    shape = next((info.shape for info in model.inputs if info.name == name), ()) or ()
    return tuple(rng.choice([1, 2, "n", None]) if rng.random() < 0.3 else dim for dim in shape)


def _surgery(rng: random.Random, model: Model) -> edits.Edit:
    """The edit of a block of GraphSurgeon, taken from the model that it made."""
    if model.ir.functions:
        return edits.CleanUp()
    with model.surgeon() as graph:
        node = rng.choice(graph.nodes)
        node.name = f"{node.name}/by surgeon {rng.randrange(10**9)}"
    edit: edits.Edit = graph.model.history.edits[-1]
    graph.model.history.undo()
    return edit


SHRINKING = (edits.Extract, edits.CleanUp, edits.Simplify)


def _like(rng: random.Random, draft: Draft, key: str) -> np.ndarray:
    tensor = draft.value(key).const_value
    if tensor is None or tensor.size > 100_000:
        return np.zeros(1, np.float32)
    array = tensor.numpy()
    return array + array.dtype.type(1) if rng.random() < 0.8 else array.reshape(-1)[:1]
