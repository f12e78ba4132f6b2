"""The notebook on TensorRT engines: runs from top to bottom, and what it tells is so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "06_tensorrt.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> list[tuple[str, nbformat.NotebookNode]]:
    """(source, all outputs) of each code cell."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed; pip install trt-workbench[tensorrt-rtx]")
    source = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in source.cells if cell.cell_type == "code"]
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]
    assert max(len(cell.source.splitlines()) for cell in cells) <= 10
    folder = tmp_path_factory.mktemp("tensorrt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        notebook = NotebookClient(
            source, timeout=240, resources={"metadata": {"path": str(folder)}}
        ).execute()
    return [(cell.source, cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def shown(executed: list, start: str) -> str:
    """The text that the cell with a line that starts so has printed and shown."""
    outputs = next(outputs for code, outputs in executed if re.search(f"^{re.escape(start)}", code, re.M))
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_what_it_tells_is_so(executed):
    built = shown(executed, "built = ")
    assert re.search(r"\d+ MB in [\d.]+ s, \d+ log messages", built)
    assert "built without a GPU: these are the network's layers as parsed" in built
    assert "its body reads the number of the iteration" in shown(executed, "refused = ")
    assert "m = m.bound_loop('while_loop')" in shown(executed, "fixed = ")
    assert "32 layers, 2.124 ms together, 100.0% of it joined to nodes" in shown(executed, "names = ")
    assert "0.245902" in shown(executed, "columns = ")  # a quarter
    nodes = shown(executed, "fp32.nodes")
    assert "MACs and bytes" in nodes and "no work left" in nodes
    assert "['Conv_5', 'Add_6', 'Relu_7']" in shown(executed, "layers = ")
    assert "faster" in shown(executed, "changes = wb.tensorrt.diff(fp32")
    assert shown(executed, "changes = wb.tensorrt.diff(fp16").startswith("structure {")
    assert shown(executed, "findings = ").startswith("0.279 of 1.096 ms are copies")
    gained = shown(executed, "gained = ")
    assert gained.count("slower") == 2 and "0.069632" in gained
    assert "('FP32', 'FP16'): 21" in shown(executed, "asked = ")
    poor = shown(executed, "text = ")
    assert "is cut off or damaged" in poor and "no times were given" in poor


def test_every_figure_and_view_is_there(executed):
    found = [(code, output["data"]) for code, outputs in executed for output in outputs if "data" in output]
    drawn = [code for code, data in found if "application/vnd.plotly.v1+json" in data]
    assert [re.search(r"wb\.figures\.(\w+)", code)[1] for code in drawn] == [
        "roofline", "product_sizes", "engine_times", "engine_times", "engine_changes", "engine_changes", "findings",
        "precision_sunburst", "asked_precision",
    ]  # fmt: skip
    assert all(
        data["application/vnd.plotly.v1+json"]["data"]
        for _, data in found
        if "application/vnd.plotly.v1+json" in data
    )
    views = [
        data
        for _, data in found
        if "application/vnd.jupyter.widget-view+json" in data and "View" in data["text/plain"]
    ]
    pictures = [data["image/svg+xml"] for _, data in found if "image/svg+xml" in data]
    assert len(views) == len(pictures) == 2
