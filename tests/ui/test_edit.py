"""Editing in a real JupyterLab, with real clicks and keys: what the view does is what Python has."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import ui_browser

READY = ".wbg[data-state=ready]"
VIEW = "document.querySelector('.jp-OutputArea .wbg').view"
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
SOFTMAX, SUB = "/layers.0/attn/Softmax", "/layers.0/attn/norm/Sub"
CELLS = (
    "import graphs, onnx, workbench as wb\nonnx.save(graphs.transformer(60), 'm.onnx')\nm = wb.load('m.onnx')\n"
    "view = m.view(height=520)\nview",
    "other = m.view(height=420)\nother",
    "print(view.model.history.to_python())",
    "m2 = view.model.rename_node('/layers.0/attn/norm/Sqrt', 'from Python')\nprint(view.model is m2)",
    "view.overlay({n: float(i) for i, n in enumerate(view.model.nodes.index)});",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    """One JupyterLab and one page for all tests here: (page, folder); an error in the page fails the last of them."""
    folder = tmp_path_factory.mktemp("edit")
    ui_browser.write_notebook(folder / "edit.ipynb", *CELLS)
    with ui_browser.lab(folder) as address:
        context = chromium.new_context(viewport={"width": 1500, "height": 1150})
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
        ui_browser.open_notebook(page, address, "edit.ipynb")
        yield page, folder
        context.close()
        assert not errors, errors


@pytest.fixture
def page(lab):
    """The page with a fresh view of the unedited model."""
    found, _ = lab
    found.evaluate("() => document.querySelectorAll('.wbg').forEach((w) => (w.view.old = true))")
    ui_browser.run_cell(found, 0)
    until(found, "v && !v.old && v.root.dataset.state === 'ready'")
    return found


def nodes(page) -> list[str]:
    return page.evaluate(f"{VIEW}.data.head.nodes")


def until(page, condition: str, *arguments):
    """Wait until an expression over the view `v` (and `a`) holds."""
    page.wait_for_function(
        f"(a) => {{ const v = {VIEW.replace(').view', ')?.view')}; return {condition}; }}",
        arg=list(arguments),
        timeout=30_000,
    )


def place(page, name: str) -> list[float]:
    """Where a node is on the screen, once the picture stands still."""
    until(page, "!v.motion.target")
    return page.evaluate(
        f"""(name) => {{
          const v = {VIEW}, i = v.scene.itemOf[v.data.head.nodes.indexOf(name)];
          const [x, y] = v.renderer.toScreen(v.scene.x[i], v.scene.y[i] + v.scene.h[i] / 2);
          const box = v.canvas.getBoundingClientRect();
          return [x + box.left, y + box.top];
        }}""",
        name,
    )


def picture(page, name: str) -> int:
    """Bytes of a picture of the view; WORKBENCH_PICTURES names the folder that it is kept in."""
    kept = os.environ.get("WORKBENCH_PICTURES")
    shot = page.locator(".wbg").first.screenshot(path=Path(kept) / name if kept else None)
    return len(shot)


def find(page, name: str) -> None:
    """Search for a node, which selects it and brings it into view."""
    box = page.get_by_role("searchbox", name="Search the graph").first
    box.fill(name)
    box.press("Enter")
    until(page, "v.selection.length === 1 && v.data.name(v.selection[0]) === a[0]", name)


def told(page, cell: int) -> str:
    """What a cell prints when it is run now."""
    page.evaluate(
        "(i) => window.jupyterapp.shell.currentWidget.content.widgets[i].outputArea.model.clear()", cell
    )
    ui_browser.run_cell(page, cell)
    page.wait_for_function(
        "(i) => window.jupyterapp.shell.currentWidget.content.widgets[i].outputArea.node.innerText.trim()",
        arg=cell,
    )
    return ui_browser.output_of(page, cell)


def test_select_edit_delete_undo_redo_and_copy(page, lab):
    find(page, SOFTMAX)
    page.mouse.click(*place(page, SOFTMAX))
    panel = page.get_by_role("complementary", name="Inspector").first
    axis = panel.get_by_role("textbox", name="axis")
    axis.fill("first")
    axis.press("Enter")
    wrong = panel.get_by_role("alert").filter(has_text="expected an int")
    wrong.wait_for()
    assert wrong.text_content() == (
        f"node {SOFTMAX!r} (Softmax), attribute 'axis': got 'first', expected an int; correct it"
    )
    assert axis.get_attribute("aria-invalid") == "true"
    assert picture(page, "edit.png") > 20_000
    axis.press("Escape")
    assert axis.input_value() == "-1" and wrong.count() == 0
    axis.fill("7")  # an int, but one that onnx's shape inference refuses
    axis.press("Enter")
    panel.get_by_role("alert").filter(has_text=re.compile("axis|Axis")).first.wait_for()
    axis.fill("3")
    axis.press("Enter")
    until(page, "v.data.attributes(v.selection[0]) === 'axis=3'")
    assert page.evaluate("document.activeElement.dataset.key") == "attribute axis"  # the focus stays

    before = len(nodes(page))
    above = "/layers.0/attn/MatMul"
    at = place(page, above)
    page.locator("canvas.graph").first.focus()
    page.keyboard.press("Delete")
    until(page, "v.data.nodes === a[0]", before - 1)
    assert SOFTMAX not in nodes(page)
    assert place(page, above) == pytest.approx(at, abs=2)  # what did not change stays where it was
    page.keyboard.press("Control+z")
    until(page, "v.data.nodes === a[0]", before)
    page.keyboard.press("Control+Shift+z")
    until(page, "v.data.nodes === a[0]", before - 1)

    page.get_by_role("button", name="History").first.click()
    pane = page.get_by_role("complementary", name="History").first
    pane.get_by_role("button", name="Copy as Python").click()
    page.get_by_text("Copied as Python.").first.wait_for()
    script = page.evaluate("navigator.clipboard.readText()")
    assert script == told(page, 2).strip() + "\n"
    folder = lab[1]
    here = Path.cwd()
    try:
        os.chdir(folder)
        names: dict = {}
        exec(script, names)
    finally:
        os.chdir(here)
    assert SOFTMAX not in names["m"].nodes.index and len(names["m"].history) == 2

    # back to an earlier version, and on along another branch
    pane.get_by_role("button", name="as it was loaded").click()
    until(page, "v.data.nodes === a[0]", before)
    find(page, SUB)
    page.locator("canvas.graph").first.focus()
    page.keyboard.press("F2")
    page.keyboard.type('<img src=x onerror="alert(1)">')
    page.keyboard.press("Enter")
    until(page, "v.data.head.nodes.includes(a[0])", '<img src=x onerror="alert(1)">')
    until(page, "v.selection.map((n) => v.data.name(n)).join() === a[0]", '<img src=x onerror="alert(1)">')
    pane.get_by_role("button", name="rename_node").wait_for()
    assert pane.locator("svg").count() == 4 and page.locator(".wbg img").count() == 0
    page.keyboard.press("y")
    assert pane.is_hidden()


def test_menus_insert_probe_and_extract(page):
    find(page, SOFTMAX)
    count = len(nodes(page))
    page.mouse.click(*place(page, SOFTMAX), button="right")
    menu = page.get_by_role("menu")
    menu.get_by_role("menuitem", name="Insert QuantizeLinear").click()
    form = page.get_by_role("dialog", name="Insert QuantizeLinear and DequantizeLinear")
    form.get_by_label("Scale").fill("-1")
    page.keyboard.press("Enter")
    form.get_by_text("expected it above 0").wait_for()
    form.get_by_label("Scale").fill("0.02")
    page.keyboard.press("Enter")
    until(page, "v.data.nodes === a[0]", count + 2)
    page.locator("canvas.graph").first.focus()
    page.keyboard.press("o")  # the selected node's output as a probe
    until(page, "v.data.head.graphs[0].outputs.length === 2")
    page.keyboard.press("m")
    page.keyboard.press("End")
    assert page.get_by_role("menuitem", name="Convert the opset").evaluate(
        "(e) => e === document.activeElement"
    )
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.get_by_role("dialog", name="Extract the selection").get_by_role("button", name="Extract").click()
    until(page, "v.data.nodes === 1")
    script = told(page, 2)
    assert ".insert_qdq(" in script and ".add_output(" in script and ".extract(" in script
    page.locator("canvas.graph").first.focus()
    for _ in range(3):
        page.keyboard.press("Control+z")
    until(page, "v.data.nodes === a[0]", count)


def test_a_refusal_without_a_field_is_told_and_offers_the_other_way(page):
    find(page, "/layers.0/attn/MatMul")  # two inputs, neither of the shape of its output
    page.locator("canvas.graph").first.focus()
    page.keyboard.press("Delete")
    note = page.locator(".wbg-note").first
    note.get_by_text("cannot bypass node '/layers.0/attn/MatMul' (MatMul)").wait_for()
    note.get_by_role("button", name="Cut it out instead").click()
    until(page, "!v.data.head.nodes.includes('/layers.0/attn/MatMul')")
    assert "m.delete(['/layers.0/attn/MatMul'], 'cut')" in told(page, 2)


def test_inputs_tensors_and_weights(page, lab):
    page.evaluate(f"{VIEW}.inspect({VIEW}.data.head.tensors.indexOf('x'))")
    panel = page.get_by_role("complementary", name="Inspector").first
    shape = panel.get_by_role("textbox", name="Shape")
    shape.wait_for()
    shape.fill("4 × 8 × 16")
    shape.press("Enter")
    until(page, "v.data.shapeOf(v.data.head.tensors.indexOf('x')) === '4×8×16'")
    until(page, "v.data.shapeOf(v.data.head.tensors.indexOf('/layers.0/attn/Softmax_out')) === '4×2×8×8'")
    name = panel.get_by_role("textbox", name="Name", exact=True)
    name.fill("tokens")
    name.press("Enter")
    until(page, "v.data.head.tensors.includes('tokens')")
    find(page, "/layers.0/attn/q/MatMul")
    array = np.full((16, 16), 0.5, np.float32)
    np.save(lab[1] / "w.npy", array)
    (lab[1] / "no.npy").write_text("no array")
    weights = panel.locator("details", has_text="16×16").first
    weights.locator("summary").click()
    weights.locator("input[type=file]").set_input_files(lab[1] / "no.npy")
    weights.get_by_text("the file is no .npy; save it with numpy.save").wait_for()
    weights.locator("input[type=file]").set_input_files(lab[1] / "w.npy")
    until(page, "v.data.head.stamp >= 3")
    assert "replace_weight" in told(page, 2)


def test_two_views_and_python_stay_in_step(page):
    ui_browser.run_cell(page, 1)
    page.wait_for_function(f"() => document.querySelectorAll('{READY}').length === 2", timeout=30_000)
    assert "True" in told(page, 3)  # an edit in Python
    both = "[...document.querySelectorAll('.jp-OutputArea .wbg')].map((w) => w.view)"
    page.wait_for_function(f"() => {both}.every((v) => v.data.head.nodes.includes('from Python'))")
    page.evaluate(
        f"() => {{ const [, w] = {both}; w.select([w.data.head.nodes.indexOf('{SOFTMAX}')]); w.canvas.focus(); }}"
    )
    page.keyboard.press("Delete")
    page.wait_for_function(f"() => {both}.every((v) => !v.data.head.nodes.includes('{SOFTMAX}'))")
    ui_browser.run_cell(page, 4)  # an overlay, on one of them
    until(page, "v.state.overlay === 'values'")
    page.locator("canvas.graph").first.focus()
    page.keyboard.press("Control+z")
    until(page, "v.data.head.nodes.includes(a[0]) && v.state.values.numbers.length === v.data.nodes", SOFTMAX)
    assert page.evaluate(
        f"Number.isNaN({VIEW}.state.values.numbers[{VIEW}.data.head.nodes.indexOf('{SOFTMAX}')])"
    )
    # keys in the view are not JupyterLab's: "a" would insert a cell
    cells = "window.jupyterapp.shell.currentWidget.content.widgets.length"
    count = page.evaluate(cells)
    for key in ("a", "b", "d", "d", "z"):
        page.keyboard.press(key)
    assert page.evaluate(cells) == count


def test_names_are_text_and_the_theme_is_followed(page):
    long = "n" * 10_000
    for name in (long, "שלום עולם", "🦊 <b>bold</b>"):
        page.evaluate(
            f"(to) => {VIEW}.edits.act({{edit: 'rename_node', node: {VIEW}.data.head.nodes[4], name: to}})",
            name,
        )
        until(page, "v.data.head.nodes[4] === a[0]", name)
    page.evaluate(f"() => {VIEW}.select([4])")
    name = page.get_by_role("complementary", name="Inspector").first.get_by_role(
        "textbox", name="Name", exact=True
    )
    assert name.input_value() == "🦊 <b>bold</b>"
    page.get_by_role("button", name="History").first.click()
    page.get_by_role("complementary", name="History").first.get_by_text("🦊").first.wait_for()
    assert page.locator(".wbg-history b, .wbg-panel b").filter(has_text="bold").count() == 0
    wide = page.evaluate(
        "document.querySelector('.wbg-history').scrollWidth <= document.querySelector('.wbg-history').clientWidth"
    )
    assert wide  # 10,000 characters do not push anything aside
    for theme, dark in (("JupyterLab Dark", True), ("JupyterLab Light", False)):
        page.evaluate(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})")
        until(page, "v.theme.dark === a[0]", dark)
        page.wait_for_function(f"() => document.body.dataset.jpThemeName === '{theme}'")
        assert picture(page, f"theme-{'dark' if dark else 'light'}.png") > 20_000
    back = page.evaluate("getComputedStyle(document.querySelector('.wbg-history')).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", back)[:3])) > 600


def test_a_busy_kernel_is_waited_for(page):
    page.evaluate(f"() => void {KERNEL}.requestExecute({{code: 'import time; time.sleep(5)'}})")
    page.evaluate(f"() => {VIEW}.edits.act({{edit: 'rename_node', node: '{SUB}', name: 'waited'}})")
    page.get_by_text("The kernel is busy; waiting for it").first.wait_for(timeout=6_000)
    until(page, "v.data.head.nodes.includes('waited')")
    page.wait_for_function("() => document.querySelector('.wbg-banner').hidden")


def test_a_restarted_kernel_is_told_of_and_running_the_cell_recovers(page):
    page.evaluate(f"() => void {KERNEL}.restart()")
    banner = page.locator(".wbg-banner").first
    banner.get_by_text("The kernel of this view is gone").wait_for(timeout=8_000)
    page.get_by_role("searchbox", name="Search the graph").first.fill("Sqrt")  # looking goes on
    until(page, "v.search.results.length === 4")
    page.evaluate(f"() => {{ {VIEW}.select([4]); {VIEW}.old = true; }}")
    page.locator("canvas.graph").first.focus()
    page.keyboard.press("Delete")
    page.locator(".wbg-note").first.get_by_text("run its cell again").wait_for()
    page.wait_for_function(ui_browser.CONNECTED, timeout=60_000)
    ui_browser.run_cell(page, 0)
    until(page, "v && !v.old && v.root.dataset.state === 'ready'")
    assert page.locator(".wbg-banner").first.is_hidden()
    find(page, SOFTMAX)
    page.locator("canvas.graph").first.focus()
    page.keyboard.press("Delete")
    until(page, "!v.data.head.nodes.includes(a[0])", SOFTMAX)
