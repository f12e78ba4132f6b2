"""Inputs for broken graphs: generated or refused with the project's own error, never a crash."""

from __future__ import annotations

import random
from collections.abc import Iterator

import onnx
import pytest
from real_models import find

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.inputs import feeds

HUGE = 1 << 60


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == attribute.GRAPH:
                yield from graphs(attribute.g)


def drop(items, rng: random.Random) -> None:
    if items:
        del items[rng.randrange(len(items))]


def break_node(node: onnx.NodeProto, graph: onnx.GraphProto, rng: random.Random) -> None:
    """One of the ways in which a node can be wrong."""
    other = rng.choice(graph.node)
    attribute = rng.choice([*node.attribute, onnx.AttributeProto()])
    way = rng.randrange(6)
    if way < 3:
        drop((node.input, node.output, node.attribute)[way], rng)
    elif way == 3:
        node.op_type = other.op_type
    elif way == 4 and node.input and other.output:
        node.input[rng.randrange(len(node.input))] = other.output[0]
    elif attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice([-5, 0, HUGE])
    else:
        attribute.i = rng.choice([-5, 0, 99, HUGE])


def broken(proto: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for _ in range(rng.randint(1, 3)):
        graph = rng.choice([g for g in graphs(changed.graph) if g.node])
        break_node(rng.choice(graph.node), graph, rng)
        shaped = rng.choice([*graph.initializer, onnx.TensorProto()]).dims
        if shaped and rng.random() < 0.3:
            shaped[rng.randrange(len(shaped))] = rng.choice([0, 1, 7, 1 << 40])
        kind = rng.choice(changed.graph.input).type.tensor_type
        if rng.random() < 0.3:
            kind.elem_type = rng.choice([1, 6, 7, 8, 9, 10, 16, 22])
    return changed


@pytest.mark.parametrize("name", ["silero_vad", "silero_vad_ifless", "magika", "mtcnn_pnet", "loop"])
def test_broken_graphs_give_inputs_or_an_error_of_ours(name):
    proto = onnx.load(find(name))
    rng = random.Random(name)
    made = 0
    for _ in range(40):
        try:
            made += bool(list(feeds(wb.load(broken(proto, rng)))))
        except WorkbenchError as error:
            assert len(str(error)) > 20
    assert made > 0
