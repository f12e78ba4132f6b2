"""Between the pieces of a model and its plugins' kernels nothing is copied to the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu
KERNELS = ("fused_layer_norm", "fused_masked_softmax", "fused_skip_layer_norm", "fused_bias")


@pytest.fixture(scope="module")
def found() -> dict:
    pytest.importorskip("torch")
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(root)]))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.copies"],
        cwd=root, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_whole_run_copies_its_inputs_and_its_output_alone(found):
    """Which shows, too, that copies are seen."""
    assert (found["whole run"]["HtoD"], found["whole run"]["DtoH"]) == (2, 1)


@pytest.mark.parametrize("way", ["steps", "graph"])
def test_between_pieces_and_kernels_nothing_is_copied_to_or_from_the_host(found, way):
    assert found["pieces"] >= 4 and (found[way]["HtoD"], found[way]["DtoH"]) == (0, 0)
    for kernel in KERNELS:  # the pieces and kernels did run meanwhile
        assert any(kernel in name for name in found[way]["kernels"]), found[way]["kernels"]
    assert len(found[way]["kernels"]) > len(KERNELS)


def test_the_graph_was_made(found):
    assert found["graph"]["why none"] == ""


def test_no_piece_has_a_node_that_copies(found):
    assert found["executed"] and not [op for op in found["executed"] if op.startswith("Memcpy")]


def test_every_tensor_between_steps_is_memory_of_the_gpu(found):
    kinds = {name: found["memory"][name] for name in found["between steps"]}
    assert len(kinds) > 8 and set(kinds.values()) == {found["device memory"]}
