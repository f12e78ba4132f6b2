"""Planted faults are found: where the models part, which node is to blame, and for how much of the error."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import real_models
from compare import cases, oracle
from compare.faults import (
    Fault,
    attribute,
    one_element,
    one_nan,
    operator,
    plant,
    scaled,
    swapped_inputs,
    transposed,
    weight_of,
)

import workbench as wb

Test = Callable[[onnx.ModelProto, onnx.NodeProto], bool]


def middle(model: onnx.ModelProto, op_type: str, test: Test = lambda model, node: True) -> onnx.NodeProto:
    """The middle one of the nodes of that type that pass the test."""
    found = [node for node in model.graph.node if node.op_type == op_type and test(model, node)]
    assert found, f"no {op_type} node passes"
    return found[len(found) // 2]


def has_weight(position: int = 1, *, rank: int | None = None, square: bool = False) -> Test:
    def test(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
        try:
            shape = weight_of(model, node, position).shape
        except (AssertionError, IndexError):
            return False
        return (rank is None or len(shape) == rank) and (not square or shape[0] == shape[1])

    return test


def kernel(size: int) -> Test:
    return lambda model, node: weight_of(model, node, 1).shape[-1] == size


def same_kernel(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    return attributes(node).get("pads") == [1, 1, 1, 1]


def attributes(node: onnx.NodeProto) -> dict:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


CASES: dict[str, tuple[str, str, Test, Fault]] = {
    "rec: one element of a weight": ("ppocr_rec", "Conv", has_weight(), one_element()),
    "rec: a scaled bias": ("ppocr_rec", "Add", has_weight(rank=4), scaled(1)),
    "rec: a wrong epsilon": ("ppocr_rec", "BatchNormalization", has_weight(), attribute("epsilon", 0.5)),
    "rec: a transposed weight": ("ppocr_rec", "MatMul", has_weight(rank=2, square=True), transposed()),
    "rec: shifted pads": ("ppocr_rec", "Conv", same_kernel, attribute("pads", [0, 0, 2, 2])),
    "rec: a wrong alpha": ("ppocr_rec", "HardSigmoid", lambda m, n: True, attribute("alpha", 0.3)),
    "rec: a wrong axis": (
        "ppocr_rec",
        "Softmax",
        lambda m, n: attributes(n)["axis"] != 1,
        attribute("axis", 1),
    ),
    "rec: NaN": ("ppocr_rec", "Conv", has_weight(), one_nan()),
    "cls: one element of a weight": ("ppocr_cls", "Conv", has_weight(), one_element()),
    "cls: a scaled bias": ("ppocr_cls", "BatchNormalization", has_weight(2), scaled(2)),
    "cls: a wrong epsilon": ("ppocr_cls", "BatchNormalization", has_weight(), attribute("epsilon", 0.01)),
    "cls: NaN": ("ppocr_cls", "BatchNormalization", has_weight(2), one_nan(2)),
    "minilm: a scaled bias": ("minilm_int8", "Add", has_weight(rank=1), scaled(1)),
    "minilm: a wrong epsilon": ("minilm_int8", "LayerNormalization", has_weight(), attribute("epsilon", 0.1)),
    "minilm: one element of a scale": ("minilm_int8", "LayerNormalization", has_weight(), one_element()),
    "rec: swapped operands": ("ppocr_rec", "Sub", lambda m, n: True, swapped_inputs),
    "style: another operator": ("style_multi", "Relu", lambda m, n: True, operator("Sigmoid")),
    "style: a transposed weight": ("style_multi", "Conv", has_weight(square=True), transposed()),
    "light: one element of a weight": ("random_squeezenet", "Conv", has_weight(), one_element(factor=30.0)),
    "light: a scaled bias": ("random_squeezenet", "Conv", has_weight(2), scaled(2)),
    "light: a wrong epsilon": (
        "random_shufflenet",
        "BatchNormalization",
        has_weight(),
        attribute("epsilon", 0.01),
    ),
    "light: a scaled weight": ("random_shufflenet", "Gemm", has_weight(), scaled(1)),
    "torch: one element of a weight": ("transformer", "MatMul", has_weight(), one_element()),
    "torch: a transposed weight": ("transformer", "Gemm", has_weight(square=True), transposed()),
    "torch: a scaled bias": ("transformer", "LayerNormalization", has_weight(2), scaled(2)),
    "torch: a wrong epsilon": ("transformer", "LayerNormalization", has_weight(), attribute("epsilon", 1.0)),
    "torch: NaN": ("transformer", "MatMul", has_weight(), one_nan()),
}


@pytest.fixture(scope="module")
def models() -> Callable[[str], tuple[onnx.ModelProto, list[cases.Feed]]]:
    """A model and two inputs for it, by name; made once."""
    made: dict[str, tuple[onnx.ModelProto, list[cases.Feed]]] = {}

    def get(name: str) -> tuple[onnx.ModelProto, list[cases.Feed]]:
        if name not in made:
            if name == "transformer":
                made[name] = transformer()
            elif name.startswith("random_"):
                light = name.replace("random", "light")
                made[name] = cases.randomized(onnx.load(real_models.find(light))), cases.feeds(light, 1)
            else:
                made[name] = onnx.load(real_models.find(name)), cases.feeds(name, 2)
        return made[name]

    return get


def transformer() -> tuple[onnx.ModelProto, list[cases.Feed]]:
    """Two encoder layers with trained-looking random weights, exported by torch."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    module = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    program = torch.onnx.export(module, (torch.zeros(2, 7, 32),), dynamo=True, verbose=False)
    model = program.model_proto
    random = np.random.default_rng(0)
    name = model.graph.input[0].name
    return model, [{name: random.normal(0, 1, (2, 7, 32)).astype(np.float32)} for _ in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_one_fault_is_found(case: str, models):
    name, op_type, test, fault = CASES[case]
    model, feeds = models(name)
    node = middle(model, op_type, test)
    faulty = plant(model, (node.output[0], fault))
    comparison = wb.compare(model, faulty, feeds, progress=False)

    first = comparison.first_divergence(0)
    assert (first.name, first.op_type) == (node.output[0], node.op_type)
    assert first.node == (node.name or f"{node.op_type}_{node.output[0]}")
    assert first.local_max_abs == first.max_abs > 0  # all that it reads is right
    assert guilty(comparison) == {first.node}

    blamed = comparison.blame()
    assert list(blamed.index) == [first.node]
    assert blamed.share.iloc[0] == pytest.approx(1, abs=1e-3)
    text = comparison.explain()
    assert f"{first.op_type} node {first.node!r} makes 100% of the output's squared error." in text, text
    if comparison.first_divergence() is not None and comparison.first_divergence().name == first.name:
        assert f"first part at {first.name!r}, made by {first.op_type} node {first.node!r}" in text, text


def guilty(comparison: wb.Comparison) -> set[str]:
    """The nodes that add any error themselves: there is no rounding between a model and its faulty copy."""
    rows = comparison.table[comparison.table.status == "compared"]
    assert rows.local_max_abs.notna().all()
    return set(rows.node[rows.local_max_abs > 0])


@pytest.mark.parametrize("name", ["ppocr_rec", "ppocr_cls", "minilm_int8", "transformer"])
def test_two_faults_are_both_found_with_their_shares(name: str, models):
    model, feeds = models(name)
    adds = [
        n for n in model.graph.node if n.op_type in ("Add", "BatchNormalization") and has_weight(1)(model, n)
    ]
    early, late = adds[len(adds) // 3], adds[-2]
    planted = [(early.output[0], scaled(1, 1.5)), (late.output[0], scaled(1, 1.2))]
    comparison = wb.compare(model, plant(model, *planted), feeds, progress=False)
    assert comparison.first_divergence(0).name == early.output[0]
    assert guilty(comparison) == {early.name, late.name}

    blamed = comparison.blame()
    output = model.graph.output[0].name
    right = oracle.every_tensor(model, feeds[:1])[0][output]

    def error(*faults: tuple[str, Fault]) -> float:
        wrong = oracle.every_tensor(plant(model, *faults), feeds[:1])[0][output]
        return float(((wrong.astype(np.float64) - right) ** 2).sum())

    total = error(*planted)
    expected = {node.name: error(each) / total for node, each in zip((early, late), planted, strict=True)}
    assert dict(blamed.share) == pytest.approx(expected, rel=1e-3)
    assert list(blamed.share) == sorted(blamed.share, reverse=True)
    found = re.findall(r"node '([^']*)' makes \d+%", comparison.explain())
    assert found == [node for node in blamed.index if blamed.share[node] >= 0.01]


def test_a_fault_that_changes_shapes_is_found(models):
    model, feeds = models("ppocr_cls")
    node = middle(model, "Conv", same_kernel)
    faulty = plant(model, (node.output[0], attribute("pads", [2, 2, 2, 2])))
    comparison = wb.compare(model, faulty, feeds, progress=False)
    row = comparison.table.loc[node.output[0]]
    assert re.fullmatch(r"shapes differ: \[1, \d+, \d+, \d+\] and \[1, \d+, \d+, \d+\]", row.status)
    first = comparison.first_divergence()
    assert (first.name, first.node) == (node.output[0], node.name)
    text = f"first part at {node.output[0]!r}, made by Conv node {node.name!r}: {row.status}."
    assert text in comparison.explain()
    assert f"first divergence {node.output[0]!r} (node {node.name!r}, {row.status})" in str(comparison)


def test_a_weight_that_constant_nodes_decode(models):
    """A MatMul reads an int8 weight through Cast and Mul: the fault is there, not in the MatMul."""
    model, feeds = models("minilm_int8")
    held = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in held]
    node = casts[len(casts) // 2]
    comparison = wb.compare(model, plant(model, (node.output[0], one_element(0, 0.0))), feeds, progress=False)
    first = comparison.first_divergence(0)
    assert (first.name, first.node) == (node.output[0], node.name)
    assert guilty(comparison) == {node.name}
    assert comparison.blame().share.to_dict() == {node.name: pytest.approx(1, abs=1e-3)}


def test_nan_is_counted_where_it_starts_and_where_it_goes(models):
    model, feeds = models("transformer")
    node = middle(model, "MatMul", has_weight())
    comparison = wb.compare(model, plant(model, (node.output[0], one_nan())), feeds, progress=False)
    first = comparison.first_divergence()
    size = weight_of(model, node, 1).shape[1]
    values = comparison[first.name]
    assert first.nan == 2 * np.isnan(values.candidate).sum() == 2 * values.candidate.size // size
    assert first.ref_nan == 0
    assert first.max_abs == np.inf
    output = comparison.table.loc[model.graph.output[0].name]
    assert output.nan == 2 * 2 * 7 * 32 and output.local_nan == 0
    assert f"the candidate has {first.nan} NaN there" in comparison.explain()
    assert f"It reaches the output {output.name!r} as {output.nan} NaN." in comparison.explain()
    assert not comparison.ok


def test_nothing_is_found_where_nothing_is_wrong(models):
    model, feeds = models("transformer")
    comparison = wb.compare(model, model, feeds, progress=False)
    assert comparison.ok
    assert comparison.first_divergence(0) is None
    assert guilty(comparison) == set()
    assert comparison.blame().empty
    assert comparison.explain().endswith("All of them are bit for bit equal.")
