"""The notebook on viewing and editing: runs from top to bottom, and what it tells is so."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "02_view_and_edit.ipynb"


@pytest.fixture(scope="module")
def source() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def said(source, tmp_path_factory, real_model) -> dict[str, str]:
    """First line of each code cell -> the text of its outputs."""
    real_model("ppocr_rec")  # skips where the model's package is missing
    resources = {"metadata": {"path": str(tmp_path_factory.mktemp("view"))}}
    notebook = NotebookClient(source.copy(), timeout=240, resources=resources).execute()
    return {
        cell.source.splitlines()[0]: "\n".join(
            output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def test_it_is_committed_without_outputs_and_in_short_cells(source):
    cells = [cell for cell in source.cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
    assert max(len(cell.source.splitlines()) for cell in cells) <= 10


def test_every_cell_tells_what_the_text_says(said):
    told = [text.strip() for text in said.values()]
    assert re.fullmatch(r"<GraphView of '.+': \d+ nodes>", told[0])
    assert re.fullmatch(r"\['.+'\]", told[1])
    assert told[2] == "(True, 2, 1)"
    assert told[3].startswith("node 'stem' (Conv) would not fit its inputs")
    assert [line.split(" ")[:2] for line in told[4].splitlines()] == [
        ["0", "None"], ["1", "0"], ["2", "1"], ["3", "1"]]  # fmt: skip
    assert "m = m.rename_node(" in told[5] and told[5].endswith("True")
    assert "renamed" in told[6] and "changed metadata" in told[6]
    assert "macs" in told[7]
