"""A model that nobody has edited gives a runtime what it was read from: the same as what its graph encodes to."""

from __future__ import annotations

import pytest
from model.seen import plain
from real_models import ALL_MODELS

from workbench.model import load, proto
from workbench.model.core import opened


@pytest.mark.parametrize("name", ALL_MODELS)
def test_what_a_runtime_gets_is_what_the_graph_encodes_to(real_model, name):
    path = real_model(name)
    unread = opened(path)
    ports = unread.inputs, unread.outputs
    made = unread.to_proto()
    eager = load(path)
    eager._source = None
    assert plain(made) == plain(proto.runnable(eager.ir, {}))
    assert ports == (eager.inputs, eager.outputs)
    assert unread.name == eager.name
