"""The plugin notebook: runs from top to bottom without a GPU, and what it tells is so."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "04_plugin.ipynb"
pytest.importorskip("cuda.bindings.nvrtc")


@pytest.fixture(scope="module")
def cells() -> list[nbformat.NotebookNode]:
    """The code cells, executed in the folder of the notebooks."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not [c for c in notebook.cells if c.cell_type == "code" and (c.outputs or c.execution_count)]
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    return [cell for cell in client.execute().cells if cell.cell_type == "code"]


def shown(cells: list, part: str, number: int = 0) -> str:
    """What a cell that has this text in it printed, showed or raised."""
    cell = [cell for cell in cells if part in cell.source][number]
    texts = [
        output.get("text") or output.get("evalue") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    ]
    return "\n".join(texts)


def test_the_chain_is_a_gelu(cells):
    found = shown(cells, "chain = [node.name")
    assert [word for word in ("Div", "Erf", "Add", "Mul") if word in found] == ["Div", "Erf", "Add", "Mul"]


def test_the_first_kernel_fails_with_the_line_of_its_cell_and_the_second_compiles(cells):
    assert 'line 5 of the cell: identifier "j" is undefined' in shown(cells, "x[j]")
    good = shown(cells, "float(x[i])")
    assert "kernel my_gelu compiled 5 times" in good and "no spills" in good and "sm_120" in good


def test_the_changed_model_gives_the_same(cells):
    found = shown(cells, "changed = ")
    assert "m.replace([" in found and "True" in found and "compared" in found


def test_without_a_gpu_it_says_so(cells):
    found = shown(cells, "mine.check()")
    assert (
        "there is no NVIDIA GPU" in found or "cases are fine" in found or "cuda cannot be imported" in found
    )


def test_the_recorded_table_names_its_gpus_and_holds_the_targets(cells):
    found = shown(cells, "records = ")
    assert "FusedSkipLayerNorm" in found
    paths = sorted((NOTEBOOK.parents[1] / "data" / "gpu").glob("*.json"))
    assert [path.stem for path in paths] == ["h100", "h200"]
    for path in paths:
        recorded = json.loads(path.read_text())
        assert f"{recorded['gpu']['name']} {recorded['date']} copy {recorded['copy_gb_s']:.0f} GB/s" in found
        kernels = [row for row in recorded["bench"] if row["what"] == "kernel"]
        assert len(kernels) == 36 and min(row["share"] for row in kernels) >= 0.85
        assert min(row["speedup"] for row in kernels) >= 2
        ways = recorded["block"]["ways"]
        assert ways["plugins"]["ms"] < ways["plain"]["ms"] and ways["plugins"]["error"] < 1e-3
    figure = next(cell for cell in cells if "kernel_roofline" in cell.source).outputs[0]
    assert "application/vnd.plotly.v1+json" in figure["data"]
