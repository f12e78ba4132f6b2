"""The quickstart notebook: runs from top to bottom, and what it tells is so."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_quickstart.ipynb"


@pytest.fixture(scope="module")
def source() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(source, tmp_path_factory, real_model) -> list[tuple[str, nbformat.NotebookNode]]:
    """(source, all outputs) of each code cell; the notebook ran in an empty folder."""
    real_model("ppocr_rec")  # skips where the model's package is missing
    folder = tmp_path_factory.mktemp("quickstart")
    notebook = NotebookClient(
        source.copy(), timeout=240, resources={"metadata": {"path": str(folder)}}
    ).execute()
    assert [path.name for path in folder.iterdir()] == ["workbench-report.html"]
    return [(cell.source, cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def shown(executed: list, start: str) -> str:
    """The text that the cell with a line that starts so has printed and shown."""
    outputs = next(outputs for code, outputs in executed if re.search(f"^{re.escape(start)}", code, re.M))
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_it_is_committed_without_outputs(source):
    assert not [
        cell for cell in source.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ]


def test_cells_are_short(source):
    assert max(len(cell.source.splitlines()) for cell in source.cells if cell.cell_type == "code") <= 10


def test_both_models_read_the_text(executed):
    for cell in ("demo.read(model, image)", "demo.read(changed, image)"):
        assert "text='Which layer is to blame?'" in shown(executed, cell)


def test_the_comparison_finds_a_culprit(executed):
    assert "The models first part at" in shown(executed, "comparison = wb.compare")
    assert "compared" in shown(executed, "comparison.table")
    values = shown(executed, "culprit = ")
    assert re.search(r"^Conv\.\d+: output \(1, \d+, \d+, \d+\), largest error", values, re.M)
    low, high = map(float, re.search(r"weights \(\d+, 1, 3, 3\): .* from (\S+) to (\S+)", values).groups())
    assert high > 100 * low
    snr = [float(number) for number in re.findall(r"([\d.]+) dB", shown(executed, "candidates = "))]
    assert len(snr) == 3 and snr[1] > snr[0] + 1 and snr[2] > snr[0] + 1


def test_every_figure_is_there(executed):
    drawn = [
        code
        for code, outputs in executed
        for o in outputs
        if "application/vnd.plotly.v1+json" in o.get("data", {})
    ]
    assert [re.search(r"wb\.figures\.(\w+)", code)[1] for code in drawn] == [
        "error_by_depth", "blame", "time_by_layer", "treemap", "roofline", "before_after",
    ]  # fmt: skip
    for _, outputs in executed:
        for output in outputs:
            figure = output.get("data", {}).get("application/vnd.plotly.v1+json")
            assert figure is None or figure["data"]


def test_the_model_is_a_card_and_the_profiles_differ(executed):
    card = next(outputs for code, outputs in executed if code.endswith("\nmodel"))[0]["data"]
    assert "480 nodes" in card["text/plain"] and "wb-card" in card["text/html"]
    assert "Profile of PP-OCRv6_rec_small" in shown(executed, "before = wb.profile")
    assert "QLinear" in shown(executed, "wb.profile_diff")


def test_the_report_is_written(executed):
    assert re.fullmatch(r"workbench-report.html: [5-7]\.\d MB\n", shown(executed, "report = "))
