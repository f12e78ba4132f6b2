"""Engine files with random damage: whatever is in them, they are explored or refused, never a crash."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
import recorded_engines as recorded
import written_engines as written

import workbench as wb
from workbench.errors import EngineError

ODD = [
    None, 0, -1, 1.5, "x", "", [], {}, [None], [-1, 3], {"Count": None}, {"Type": None, "Count": "9"}, True,
    float("nan"), "N/A due to dynamic shapes", [1] * 9, {"Type": "Half", "Count": -5}, "[ONNX Layer: ", "PWN(PWN(",
    "{ForeignNode[...]}", "Reformatting CopyNode for Input Tensor 0 to ",
]  # fmt: skip


def damaged(data: Any, rng: random.Random) -> Any:
    """A copy in which one to four values are something else, or gone."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 4)):
        node = data
        while isinstance(node, dict | list) and node:
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            if rng.random() < 0.35 or not isinstance(node[key], dict | list):
                if rng.random() < 0.3 and isinstance(node, dict):
                    del node[key]
                else:
                    node[key] = copy.deepcopy(rng.choice(ODD))
                break
            node = node[key]
    return data


@pytest.mark.filterwarnings("ignore:engine .* is explored as far as")
@pytest.mark.parametrize("kind", ["recorded", "myelin", "profiles", "loop"])
def test_damaged_files_are_explored_or_refused(kind):
    whole = {
        "recorded": json.loads(recorded.path("qat-residual").read_text()), "myelin": written.myelin(),
        "profiles": written.two_profiles(), "loop": written.loop(),
    }[kind]  # fmt: skip
    explored = 0
    for seed in range(12):
        rng = random.Random(seed)
        layers, times = damaged(whole, rng), damaged(written.MYELIN_TIMES, rng)
        try:
            engine = wb.tensorrt.load(
                layers, times, gpu="T4", model=written.attention() if seed % 2 else None
            )
        except EngineError:
            continue
        explored += 1
        assert repr(engine) and len(engine.layers) and engine.missing is not None
        again = wb.tensorrt.Engine.from_json(engine.to_json())
        assert list(again.layers.index) == list(engine.layers.index)
        assert set(engine.diff(engine)["status"]) <= {"same", "no time"}
        for figure in (wb.figures.precision_sunburst, wb.figures.product_sizes, wb.figures.findings):
            assert figure(engine).layout.title.text
        assert len(engine.graph.nodes) == len(engine._layers)
        engine.lint()
    assert explored > 3
