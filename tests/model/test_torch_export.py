"""From a PyTorch module to a model."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

import workbench as wb
from workbench.errors import ModelError


def test_needs_torch(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    expected = 'cannot load the module object: exporting it needs torch, which is not installed; run `pip install "trt'
    with pytest.raises(ModelError, match=expected):
        wb.load((object(), 1))


torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")


class Net(torch.nn.Module):
    """Conv, mean over the picture, Linear, plus an offset."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
        y = self.linear(torch.relu(self.conv(x)).mean((2, 3)))
        return y if offset is None else y + offset


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def run(m: wb.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        m.to_proto().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)[0]


def test_a_module(net: Net, tmp_path, capsys) -> None:
    x = torch.rand(2, 3, 16, 16)
    m = wb.load((net, x))
    assert capsys.readouterr().out == ""
    assert m.name == "Net" and m.parameters >= 3 * 8 * 9 + 8 + 8 * 4 + 4
    assert m.macs == 2 * (8 * 14 * 14 * 27 + 8 * 4)
    expected = net(x).detach().numpy()
    assert np.abs(run(m, {m.inputs[0].name: x.numpy()}) - expected).max() < 1e-6
    saved = wb.load(m.save(tmp_path / "net.onnx"))
    assert saved.fingerprint == m.fingerprint


def test_several_arguments(net: Net) -> None:
    x, offset = torch.rand(1, 3, 8, 8), torch.ones(1, 4)
    for example in ((x, offset), {"x": x, "offset": offset}):
        m = wb.load((net, example))
        got = run(m, {"x": x.numpy(), "offset": offset.numpy()})
        assert np.abs(got - net(x, offset).detach().numpy()).max() < 1e-6


def test_weights_stay_those_of_the_module(net: Net) -> None:
    m = wb.load((net, torch.rand(1, 3, 8, 8)))
    held = m.ir.graph.initializers["conv.weight"].const_value
    assert held is not None and np.shares_memory(held.numpy(), net.conv.weight.detach().numpy())


def test_a_module_that_does_not_run(net: Net, capfd) -> None:
    expected = (
        "cannot export Net from PyTorch: RuntimeError: Given groups=1, weight of size .*; check that the"
    )
    with pytest.raises(ModelError, match=expected):
        wb.load((net, torch.rand(1, 5, 8, 8)))


def test_other_pairs() -> None:
    with pytest.raises(
        ModelError, match=r"cannot load a pair of str and int; expected \(torch.nn.Module, example inputs\)"
    ):
        wb.load(("model.onnx", 3))


def test_workbench_alone_does_not_import_torch() -> None:
    import subprocess

    code = "import sys, workbench.model; print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
