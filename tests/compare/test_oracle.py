"""`wb.compare` gives what the plain oracle gives: every tensor, every measure, propagated and local, on real models."""

from __future__ import annotations

import math

import onnx
import pytest
import real_models
from compare import cases, oracle
from compare.test_measures import assert_same

import workbench as wb

# What the candidate is not made for: (model, candidate) -> reason
IMPOSSIBLE = {
    ("magika", "half"): "the converter makes an invalid model of it",
}
MODELS = tuple(name for name in cases.INPUTS if not name.startswith("light_"))
LIGHT = ("light_resnet50", "light_shufflenet", "light_squeezenet")
PAIRS = [(name, kind) for name in MODELS for kind in ("rounded", "simplified", "basic", "half")]
PAIRS += [(name, "scaled") for name in LIGHT]


@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair not in IMPOSSIBLE])
def test_every_tensor_of_a_real_model(name: str, kind: str):
    model = onnx.load(real_models.find(name))
    candidate = cases.CANDIDATES[kind](model)
    check(model, candidate, cases.feeds(name, 2))


def check(model: onnx.ModelProto, candidate: onnx.ModelProto, feeds: list[cases.Feed], **options) -> wb.Comparison:
    """Compare, and hold every value of the table against the oracle."""
    comparison = wb.compare(model, candidate, feeds, progress=False, **options)
    reference = oracle.every_tensor(model, feeds)
    values = oracle.every_tensor(candidate, feeds)
    propagated = {name: m for name, m in oracle.propagated(reference, values).items() if computed(name, model, candidate)}
    local = oracle.local(candidate, reference, values)
    rows = {record["tensor"]: record for record in comparison.records}
    assert comparison.meta["inputs"] == len(feeds)
    got = {name for name, row in rows.items() if row["status"] == "compared"}
    assert got == set(propagated)
    for name, expected in propagated.items():
        row = rows[name]
        assert_same(row, expected, what=f"{name} ({row['op_type']})")
        assert row["shape"] == reference[0][name].shape
        if name in local:
            assert_same({k: row[f"local_{k}"] for k in local[name]}, local[name], what=f"local {name}")
        else:
            assert math.isnan(row["local_max_abs"]) and row["local_status"], name
    return comparison


def computed(name: str, *models: onnx.ModelProto) -> bool:
    """Whether nodes other than Constant make the tensor in all of the models."""
    return all(
        any(name in node.output and node.op_type != "Constant" for node in model.graph.node) for model in models
    )
