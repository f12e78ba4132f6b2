"""Pictures of a view: what is seen of a saved notebook without a kernel, and what is in view, as SVG."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import graphs
import pytest
import ui_browser

import workbench as wb

PICTURE = "img[alt='The graph, as a picture']"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A notebook that was executed without a browser, as a file."""
    client = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    folder = tmp_path_factory.mktemp("saved")
    paths = [str(ui_browser.ROOT), str(ui_browser.ROOT / "tests")]
    code = f"import sys; sys.path[:0] = {paths!r}\nimport graphs, workbench as wb\n"
    code += "wb.load(graphs.transformer(100)).view()"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    nbformat.write(notebook, folder / "saved.ipynb")
    return folder / "saved.ipynb"


def test_exported_html_shows_a_picture_offline(chromium, executed):
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_filename(str(executed))
    target = executed.with_suffix(".html")
    target.write_text(html, "utf-8")
    context = chromium.new_context(offline=True)  # the page asks a CDN for more, in vain
    page = context.new_page()
    page.goto(target.as_uri(), wait_until="domcontentloaded")
    picture = page.locator(PICTURE)
    picture.wait_for(timeout=20_000)
    assert picture.evaluate("(img) => img.naturalWidth") > 200
    context.close()


def test_what_is_in_view_is_written_and_a_saved_notebook_has_a_picture(page, executed, tmp_path):
    notebook = json.loads(executed.read_text())
    notebook["metadata"].pop("widgets", None)  # saved without the state of its widgets, as Lab does it
    (tmp_path / "saved.ipynb").write_text(json.dumps(notebook))
    ui_browser.write_notebook(
        tmp_path / "view.ipynb",
        "import graphs, workbench as wb\nview = wb.load(graphs.transformer(200)).view()\nview",
        "print(view.to_svg('view.svg').name)",
    )
    with ui_browser.lab(tmp_path) as address:
        ui_browser.open_notebook(page, address, "view.ipynb")
        ui_browser.run_cell(page, 0)
        page.wait_for_selector(".wbg[data-state=ready]", timeout=60_000)
        # the picture that stands for it hides itself
        assert page.locator(f".jp-OutputArea {PICTURE}").is_hidden()
        page.evaluate(
            """() => {
              const v = document.querySelector('.wbg').view, n = v.data.head.nodes.indexOf('/layers.1/attn/Softmax');
              v.go([n]);
            }"""
        )
        page.wait_for_timeout(2500)
        ui_browser.run_cell(page, 1)
        page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.content.widgets[1].outputArea.node.innerText.includes('svg')"
        )
        shown = page.evaluate("document.querySelector('.wbg').view.renderer.drawn")
        other = page.context.new_page()  # which does not ask whether to leave the unsaved notebook
        other.goto(f"{address}/lab/workspaces/another/tree/saved.ipynb")
        other.locator(f".jp-OutputArea {PICTURE}:visible").wait_for(timeout=60_000)
    root = ET.fromstring((tmp_path / "view.svg").read_text("utf-8"))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "Softmax" in texts and len(list(root.iter(f"{SVG}path"))) > shown


def test_before_anything_is_shown_an_overview_is_written(tmp_path):
    view = wb.load(graphs.transformer(60)).view()
    root = ET.fromstring(Path(view.to_svg(tmp_path / "v.svg")).read_text("utf-8"))
    assert root.findall(f"{SVG}rect[@class='b']")
    view._receive(view, {"visible": "<svg>what is in view</svg>"}, [])
    assert view.to_svg(tmp_path / "v.svg").read_text("utf-8") == "<svg>what is in view</svg>"
    view.overlay({"/mask/Mul": 1.0})  # the browser has not drawn this yet
    assert "<svg>what" not in view.to_svg(tmp_path / "v.svg").read_text("utf-8")
    view.close()
