"""The exported transformers in data/onnx: they run, in several sizes, and hold what their names say."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import real_models

PIECES = {
    "script": {"bert": "Erf", "gpt2": "Tanh", "llama": "Sigmoid"},
    "dynamo": {"bert": "LayerNormalization", "gpt2": "LayerNormalization", "llama": "Reciprocal"},
}


@pytest.mark.parametrize("name", real_models.TRANSFORMERS)
def test_it_runs_and_has_its_pieces(name):
    path = real_models.find(name)
    assert path.stat().st_size < 300_000
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    kind, _, way = name.split("_")
    assert PIECES[way][kind] in {node.op_type for node in proto.graph.node}
    session = onnxruntime.InferenceSession(path)
    for shape in ((1, 3), (3, 10)):
        ids = np.random.default_rng(0).integers(0, 99, shape)
        feeds = {item.name: ids if item.name == "input_ids" else ids * 0 + 1 for item in session.get_inputs()}
        (output,) = session.run(None, feeds)
        assert output.shape == (*shape, 32 if kind == "bert" else 99)
        assert np.isfinite(output).all() and np.ptp(output) > 1
