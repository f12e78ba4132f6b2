"""What overlapping runs and shared blocks must not change."""

from __future__ import annotations

import numpy as np
import onnx
import pandas
import pytest
from compare import small

import workbench as wb


def tensor(values: list[float]) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array(values, np.float32))


@pytest.mark.parametrize(("count", "budget"), [(1, 128 << 20), (3, 128 << 20), (3, 1 << 20)])
@pytest.mark.parametrize("name", ["light_shufflenet", "ppocr_cls"])
def test_a_model_equals_itself_bit_for_bit(real_model, name, count, budget):
    """Runs of the next segment begin while this one is measured: no block that they read may be given back."""
    model = wb.load(real_model(name))
    shape = (1, 3, 224, 224) if name.startswith("light") else (1, 3, 48, 192)
    rng = np.random.default_rng(0)
    inputs = [{model.inputs[0].name: rng.random(shape, np.float32)} for _ in range(count)]
    for _ in range(3):
        result = wb.compare(model, model, inputs, memory_budget=budget, progress=False)
        wrong = [r["tensor"] for r in result.records if r["max_abs"] != 0 or r["local_max_abs"] != 0]
        assert wrong == []
        assert {r["status"] for r in result.records} == {"compared"}


def test_many_inputs_take_no_more_memory_than_the_budget(real_model):
    model = wb.load(real_model("ppocr_cls"))
    x = np.random.default_rng(0).random((12, 1, 3, 48, 192), np.float32)
    peaks = {}
    for budget in (4 << 20, 64 << 20):
        result = wb.compare(model, model, [{"x": a} for a in x], memory_budget=budget, progress=False)
        assert result.meta["inputs"] == 12
        peaks[budget] = (result.meta["inputs_at_once"], result.meta["peak_bytes"])
    assert peaks[4 << 20][0] < peaks[64 << 20][0]
    assert peaks[4 << 20][1] < 8 << 20 < peaks[64 << 20][1] < 64 << 20


def test_weights_that_are_computed_stay_while_runs_that_have_begun_read_them():
    """The next stage's weights are made while runs of this one go on; those of this one are not given back yet."""

    def make(factor: float) -> onnx.ModelProto:
        nodes, last = [], "x"
        for i in range(30):
            nodes.append(small.node("ConstantOfShape", ["size"], [f"w{i}"], f"w{i}", value=tensor([factor + i])))
            nodes.append(small.node("Mul", [last, f"w{i}"], [f"a{i}"], f"a{i}"))
            nodes.append(small.node("Sin", [f"a{i}"], [f"b{i}"], f"b{i}"))
            last = f"b{i}"
        return small.model(nodes, {"x": [256, 256]}, [last], {"size": np.array([256, 256], np.int64)})

    inputs = [{"x": np.random.default_rng(i).random((256, 256), np.float32)} for i in range(4)]
    results = [
        wb.compare(make(1.0), make(1.25), inputs, memory_budget=budget << 20, progress=False)
        for budget in (24, 512)
    ]
    assert results[0].meta["segments"] > results[1].meta["segments"]
    pandas.testing.assert_frame_equal(results[0].table, results[1].table, rtol=1e-9)
