"""Random edits on real models: valid after each, undone to the same bytes, replayed to the same bytes."""

from __future__ import annotations

import graphs
import pytest
from edits.random_edits import content, walk
from edits.small import proto

import workbench as wb

# (model, edits, seed, how many edits per check by onnx's checker and ONNX Runtime)
WALKS = [
    ("silero_vad", 100, 1, 4),
    ("silero_vad", 60, 3, 4),
    ("silero_vad_16k_op15", 100, 0, 4),
    ("ppocr_cls", 100, 1, 5),
    ("mtcnn_onet", 200, 0, 2),
    ("loop", 300, 1, 1),
    ("residual_block", 200, 1, 1),
]


@pytest.mark.parametrize("name, count, seed, every", WALKS, ids=[f"{w[0]}-{w[2]}" for w in WALKS])
def test_random_edits_of_a_real_model(name, count, seed, every, real_model, tmp_path):
    path = real_model(name)
    check(wb.load(path), path, count, seed, every, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_random_edits_of_bodies_and_functions(seed, tmp_path):
    check(wb.load(proto()), proto(), 80, seed, 1, tmp_path)


@pytest.mark.parametrize("kind", ["masked", "moe", "plain"])
def test_random_edits_of_a_transformer(kind, tmp_path):
    source = graphs.transformer(200, kind, shared=True)
    check(wb.load(source), source, 150, 0, 4, tmp_path)


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
