"""The notebook on fusions: runs from top to bottom, and what it tells is so."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "03_fuse.ipynb"


@pytest.fixture(scope="module")
def source() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(source, tmp_path_factory, real_model) -> list[tuple[str, str]]:
    """(source, text of all outputs) of each code cell."""
    real_model("ppocr_rec")  # skips where the model's package is missing
    resources = {"metadata": {"path": str(tmp_path_factory.mktemp("fuse"))}}
    notebook = NotebookClient(source.copy(), timeout=240, resources=resources).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(cell.source, "\n".join(map(text, cell.outputs))) for cell in cells]


def text(output: nbformat.NotebookNode) -> str:
    data = output.get("data", {})
    return "figure" if "application/vnd.plotly.v1+json" in data else output.get("text") or data.get("text/plain", "")


def shown(executed: list[tuple[str, str]], start: str) -> str:
    return next(said for code, said in executed if re.search(f"^{re.escape(start)}", code, re.M))


def test_it_is_committed_without_outputs_and_in_short_cells(source):
    cells = [cell for cell in source.cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
    assert max(len(cell.source.splitlines()) for cell in cells) <= 10


def test_the_costly_chain_is_found_and_fused(executed):
    report = shown(executed, "fused = model.fuse")
    assert re.search(r"504 nodes before, 195 after", report)
    assert re.search(r"gelu +13 times, 65 nodes to 13 saves [\d,]{10,} bytes", report)
    costs = dict(re.findall(r"^(\w+) +([\d.]+)$", shown(executed, "chains = "), re.M))
    assert float(costs["gelu"]) > 3 * float(costs["layer_norm"]) > 0
    assert "GELU: 0.5 x (1 + erf(x / sqrt(2)))" in shown(executed, 'print(wb.fusions.named("gelu")')


def test_what_was_left_alone_has_its_reason(executed):
    assert "matmul_add" in shown(executed, "fused.report.refused")
    answers = shown(executed, "gate = ").splitlines()
    assert "is read where" in answers[0] and "no BatchNormalization that ends this" in answers[1]


def test_it_is_the_same(executed):
    said = shown(executed, "comparison = wb.compare")
    error = float(re.search(r"the largest error is ([\d.e+-]+)", said)[1])
    assert "Every tensor is within tolerance" in said and error < 1e-4
    assert "text='Fewer, larger kernels'" in shown(executed, "demo.read(fused, image)")
    strict = shown(executed, "strict = ")
    assert re.search(r"taken back +\d", strict) and re.search(r"identity +fused +135", strict)


def test_the_gain_is_measured(executed):
    layers = [int(number) for number in re.findall(r"ms in (\d+) layers", shown(executed, "ours = "))]
    assert layers == [480, 194]
    assert re.search(r"Mul.\d+_Gelu +Gelu", shown(executed, "ours = "))
    assert shown(executed, "wb.figures.before_after") == "figure"


def test_each_fusion_is_an_edit_that_replays(executed):
    said = shown(executed, "print(len(fused.history.edits)")
    assert "fuse_at(" in said and said.rstrip().endswith("True")


def test_the_siblings_of_a_selected_chain_are_found(executed):
    assert shown(executed, "chain = ").count("'HardSigmoid'") == 5
    said = shown(executed, "gated = fused.fuse")
    assert "ChannelGate       5 times, 25 nodes to 5" in said and "bit for bit equal" in said
