"""GraphView in a real JupyterLab: a notebook's cell draws it, both sides talk, the dark theme reaches it."""

from __future__ import annotations

import pytest
import ui_browser

READY = ".wbg[data-state=ready]"
VIEW = "document.querySelector('.jp-OutputArea .wbg').view"
CELLS = (
    "import graphs, workbench as wb\nm = wb.load(graphs.transformer(1500))\nview = m.view()\nview",
    "view.selection = ['/layers.0/attn/Softmax']",
    "print(view.selection)",
    "view.overlay({n: i for i, n in enumerate(m.nodes.index)});",
    "view.model = wb.load(graphs.transformer(60, 'plain'))\nview.selection",
    "view",
)


@pytest.fixture(scope="module", params=["JupyterLab Light", "JupyterLab Dark"])
def lab(request, tmp_path_factory, chromium):
    folder = tmp_path_factory.mktemp("lab")
    ui_browser.write_notebook(folder / "graph.ipynb", *CELLS)
    with ui_browser.lab(folder, request.param) as address:
        yield address, request.param.endswith("Dark")


def test_a_view_in_a_notebook(page, lab):
    address, dark = lab
    ui_browser.open_notebook(page, address, "graph.ipynb")
    ui_browser.run_cell(page, 0)
    page.wait_for_selector(READY, timeout=60_000)
    assert page.evaluate(f"{VIEW}.theme.dark") is dark
    assert page.evaluate(f"{VIEW}.data.nodes") >= 1500
    # shapes come by themselves, after the first picture
    page.wait_for_function(f"() => !!{VIEW}.data.macs", timeout=60_000)

    # Python selects; the panel asks Python for the documentation
    ui_browser.run_cell(page, 1)
    panel = page.locator(".wbg-panel").first
    panel.get_by_role("heading", name="Softmax").wait_for(timeout=20_000)
    panel.get_by_text("axis", exact=False).first.wait_for(timeout=20_000)
    page.wait_for_function(
        "() => document.querySelector('.wbg-panel').textContent.includes('normalized exponential')"
    )

    # the mouse selects; Python knows
    page.get_by_role("searchbox", name="Search the graph").first.fill("/layers.1/attn/q/MatMul")
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => {VIEW}.selection.length === 1")
    weights = page.locator(".wbg-panel details", has_text="16×16").first
    weights.locator("summary").click()
    weights.get_by_text("Mean ± std").wait_for(timeout=20_000)
    ui_browser.run_cell(page, 2)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.content.widgets[2].outputArea.node.innerText.includes('attn')"
    )
    assert "['/layers.1/attn/q/MatMul']" in ui_browser.output_of(page, 2)

    # an overlay and another model from Python show at once, in every view
    ui_browser.run_cell(page, 3)
    page.wait_for_function(f"() => {VIEW}.state.overlay === 'values'")
    ui_browser.run_cell(page, 5)
    page.wait_for_function(f"() => document.querySelectorAll('{READY}').length === 2", timeout=30_000)
    ui_browser.run_cell(page, 4)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.wbg')].every((w) => w.view.data.nodes < 200)", timeout=30_000
    )
