"""Random edits on real models: valid after each, undone to the same bytes, replayed to the same bytes."""

from __future__ import annotations

import graphs
import pytest
from edits.random_edits import content, walk
from edits.small import proto
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import workbench as wb

SEEDS = st.integers(0, 2**32 - 1)


def drawn(examples: int) -> settings:
    """The same walks in every run. Not shrunk: a walk is a chain, and the failure names the edit that broke it."""
    fixtures = [HealthCheck.function_scoped_fixture]
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[*fixtures, HealthCheck.too_slow],
    )


# (model, walks, edits, how many edits per check by onnx's checker and ONNX Runtime, which take most of the time)
WALKS = [
    ("silero_vad", 1, 100, 5),
    ("silero_vad_16k_op15", 1, 100, 5),
    ("ppocr_cls", 1, 100, 5),
    ("mtcnn_onet", 1, 200, 2),
    ("minilm_int8", 1, 40, 10),
    ("loop", 1, 300, 1),
    ("residual_block", 2, 200, 1),
]


@pytest.mark.parametrize("name, walks, count, every", WALKS, ids=[walk[0] for walk in WALKS])
def test_random_edits_of_a_real_model(name, walks, count, every, real_model, tmp_path):
    path = real_model(name)

    @drawn(walks)
    @given(SEEDS)
    def run(seed: int) -> None:
        check(wb.load(path), path, count, seed, every, tmp_path)

    run()


@drawn(6)
@given(SEEDS)
def test_random_edits_of_bodies_and_functions(tmp_path, seed):
    check(wb.load(proto()), proto(), 80, seed, 1, tmp_path)


@pytest.mark.parametrize("kind", ["masked", "moe", "plain"])
def test_random_edits_of_a_transformer(kind, tmp_path):
    source = graphs.transformer(200, kind, shared=True)

    @drawn(1)
    @given(SEEDS)
    def run(seed: int) -> None:
        check(wb.load(source), source, 150, seed, 4, tmp_path)

    run()


def check(model, source, count, seed, every, tmp_path):
    original = content(model)
    found = walk(model, count, seed, check_every=every)
    final = content(found.model)
    assert sum(found.accepted.values()) > 5

    states, undone = [], found.model
    while undone.history.edits:
        states.append(content(undone) if len(states) < 5 else None)
        undone = undone.history.undo()
    assert undone is model and content(model) == original
    assert content(found.model) == final

    found.model.history.to_python(tmp_path / "edits.py")
    found.model.history.to_json(tmp_path / "edits.json")
    assert content(wb.replay(tmp_path / "edits.py", source)) == final
    replayed = wb.replay(tmp_path / "edits.json", source)
    for state in states:
        if state is not None:
            assert content(replayed) == state
        replayed = replayed.history.undo() if replayed.history.edits else replayed
