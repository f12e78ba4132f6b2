"""What overlapping runs and shared blocks must not change."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb


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
