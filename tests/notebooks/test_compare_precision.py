"""The notebook on precision: runs from top to bottom, and what it tells is so."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "05_compare_precision.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory, real_model) -> list[tuple[str, nbformat.NotebookNode]]:
    """(source, all outputs) of each code cell."""
    real_model("magika")  # skips where the model's package is missing
    source = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in source.cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
    assert max(len(cell.source.splitlines()) for cell in cells) <= 11
    folder = tmp_path_factory.mktemp("precision")
    notebook = NotebookClient(source, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    return [(cell.source, cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def shown(executed: list, start: str) -> str:
    """The text that the cell with a line that starts so has printed and shown."""
    outputs = next(outputs for code, outputs in executed if re.search(f"^{re.escape(start)}", code, re.M))
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_what_it_tells_is_so(executed):
    assert shown(executed, "told(model)").startswith("'python (100.0%)")
    assert "python" not in shown(executed, "told(half)")
    assert shown(executed, "told(result.simulated)").startswith("'python (100.0%)")
    comparison = shown(executed, "comparison = ")
    assert "LayerNorm_1/truediv_1" in comparison and "makes 100% of the output's squared error" in comparison
    found = shown(executed, "result = ")
    assert "Keeping 2 of the 57 computing nodes" in found
    assert "LayerNorm_1/Sum_1" in found and "LayerNorm_1/truediv_1" in found
    assert "m = m.convert_precision('fp16', keep=[" in shown(executed, "print(result.model.history")
    assert "Keeping 2 of the 57" in shown(executed, "def changed")
    assert "Nothing has to be kept in float32" in shown(executed, "print(wb.precision.search(model, \"bf16\"")
    assert shown(executed, "tight = ").count("True") >= 1


def test_every_figure_is_there(executed):
    kinds = [o.get("data", {}).get("application/vnd.plotly.v1+json") for _, outputs in executed for o in outputs]
    assert [len(figure["data"]) > 1 for figure in kinds if figure] == [True, True]
