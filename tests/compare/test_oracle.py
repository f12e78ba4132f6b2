"""`wb.compare` gives what the plain oracle gives: every tensor, every measure, on real models."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import real_models
from compare import cases, oracle
from compare.test_measures import assert_same

import workbench as wb

CANDIDATES = ("rounded", "simplified", "basic", "half")
HEAVY = (
    "style_predict",
    "style_transform",
    "minilm_int8",
    "magika",
    "residual_block",
)  # one input, fewer candidates
LIGHT = ("light_shufflenet", "light_squeezenet")
PAIRS = [(name, kind) for name in cases.INPUTS if not name.startswith("light_") for kind in CANDIDATES]
PAIRS = [pair for pair in PAIRS if pair[0] not in HEAVY or pair[1] in ("rounded", "half")]
NO_HALF = ("magika", "style_predict", "style_transform", "style_multi")  # the converter makes invalid models
PAIRS = [pair for pair in PAIRS if pair not in [(name, "half") for name in NO_HALF]]
PAIRS += [(name, "scaled") for name in LIGHT]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_every_tensor_of_a_real_model(name: str, kind: str):
    model = onnx.load(real_models.find(name))
    candidate = cases.CANDIDATES[kind](model)
    feeds = cases.feeds(name, 1 if name in (*HEAVY, *LIGHT, "ppocr_det") else 2)
    check(model, candidate, feeds, same=assert_alike if kind == "half" else assert_same)


def assert_alike(got: dict[str, float], expected: dict[str, float], *, what: str = "") -> None:
    """Of the same size: ONNX Runtime computes float16 in float32 on a CPU and rounds at the borders of what
    it runs at once.
    """
    largest = max(abs(expected["ref_min"]), abs(expected["ref_max"]))
    for name in ("nan", "inf", "ref_nan", "ref_inf"):
        assert got[name] == expected[name], f"{what} {name}"
    for name in ("ref_min", "ref_max", "cand_min", "cand_max"):
        assert got[name] == pytest.approx(expected[name], abs=2e-2 * largest, nan_ok=True), f"{what} {name}"
    assert got["cosine"] == pytest.approx(expected["cosine"], abs=1e-3), f"{what} cosine"
    near = abs(got["snr_db"] - expected["snr_db"]) < 6 if np.isfinite(got["snr_db"]) else False
    assert near or min(got["snr_db"], expected["snr_db"]) > 60, f"{what} {got} {expected}"


def check(
    model: onnx.ModelProto, candidate: onnx.ModelProto, feeds: list[cases.Feed], same=assert_same, **options
) -> wb.Comparison:
    """Compare, and hold every value of the table against the oracle."""
    comparison = wb.compare(model, candidate, feeds, threads=1, progress=False, **options)
    reference = oracle.every_tensor(model, feeds)
    values = oracle.every_tensor(candidate, feeds)
    propagated = {
        name: m
        for name, m in oracle.propagated(reference, values).items()
        if computed(name, model, candidate)
    }
    local = oracle.local(candidate, reference, values)
    rows = {record["tensor"]: record for record in comparison.records}
    assert comparison.meta["inputs"] == len(feeds)
    got = {name for name, row in rows.items() if row["status"] == "compared"}
    assert got == set(propagated)
    for name, expected in propagated.items():
        row = rows[name]
        same(row, expected, what=f"{name} ({row['op_type']})")
        assert row["shape"] == reference[0][name].shape
        if name in local:
            same({k: row[f"local_{k}"] for k in local[name]}, local[name], what=f"local {name}")
        else:
            assert math.isnan(row["local_max_abs"]) and row["local_status"], name
    return comparison


def computed(name: str, *models: onnx.ModelProto) -> bool:
    """Whether nodes other than Constant make the tensor in all of the models."""
    return all(
        any(name in node.output and node.op_type != "Constant" for node in model.graph.node)
        for model in models
    )
