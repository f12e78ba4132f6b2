"""The candidate on a runtime of its own: two workers give what one gives, and what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from workbench.backends import Worker
from workbench.compare import _stream
from workbench.compare.rerun import Workers
from workbench.errors import CompareError
from workbench.inputs import feeds


def test_two_workers_give_what_one_gives(real_model):
    first = wb.load(real_model("bert_tiny_script"))
    (weight,) = [
        n.inputs[1].name for n in first.ir.graph if n.op_type == "MatMul" and n.inputs[1].const_value
    ][:1]
    value = first.ir.graph.initializers[weight].const_value.numpy()
    second = first.replace_weight(weight, value * 1.01)
    one = wb.compare(first, second, count=2, progress=False)
    items = feeds(first, None, count=2, seed=0)
    with Worker(pool=1) as mine, Worker(pool=1) as theirs:
        two = _stream(Workers(mine, theirs), first, second, items, 1e-3, True, 128 << 20, None, False)
        assert two.meta["candidate_runtime"] == "onnxruntime"
    numbers = ["max_abs", "mean_abs", "cosine", "local_max_abs", "nan"]
    pd.testing.assert_frame_equal(one.table[["status", "node"]], two.table[["status", "node"]])
    pd.testing.assert_frame_equal(one.table[numbers], two.table[numbers], rtol=1e-3, atol=1e-6)
    assert (two.table["max_abs"] > 0).any()
    name = two.table["max_abs"].idxmax()
    assert np.allclose(two[name].candidate, one[name].candidate, atol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(CompareError, match="cannot compare on .gpu.; expected candidate_backend to be"):
        wb.compare("a.onnx", "a.onnx", candidate_backend="gpu")
    with pytest.raises(CompareError, match="cannot compare as it is run on 'cuda'"):
        wb.compare("a.onnx", "a.onnx", candidate_backend="cuda", as_run=True)
