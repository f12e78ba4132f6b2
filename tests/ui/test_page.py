"""The self-contained page in a real browser: draws, searches, selects, colours; keyboard, themes, odd names."""

from __future__ import annotations

import graphs
import pytest
from onnx import TensorProto
from onnx import helper as h

import workbench as wb
from workbench.widgets import GraphView

READY = ".wbg[data-state=ready]"


def show(page, tmp_path, model, **options):
    view = GraphView(model, **options)
    target = view.to_html(tmp_path / "graph.html")
    view.close()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(target.as_uri())
    page.wait_for_selector(READY, timeout=30_000)
    return requests


def state(page, expression):
    """What an expression says of the view `v`."""
    return page.evaluate(f"() => {{ const v = document.querySelector('.wbg').view; return {expression}; }}")


def settle(page):
    page.wait_for_function("() => !document.querySelector('.wbg').view.motion.target")


def place(page, node):
    """Where a node is on the screen."""
    settle(page)
    return page.evaluate(
        """(name) => {
          const v = document.querySelector('.wbg').view, n = v.data.head.nodes.indexOf(name), i = v.scene.itemOf[n];
          const [x, y] = v.renderer.toScreen(v.scene.x[i], v.scene.y[i] + v.scene.h[i] / 2);
          const box = v.canvas.getBoundingClientRect();
          return [x + box.left, y + box.top];
        }""",
        node,
    )


def names(page):
    return state(page, "v.selection.map((n) => v.data.name(n))")


def ink(page):
    """Number of different colours on the canvas."""
    return page.evaluate(
        """() => {
          const c = document.querySelector('canvas.graph');
          const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
          const seen = new Set();
          for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
          return seen.size;
        }"""
    )


@pytest.fixture
def small(page, tmp_path):
    show(page, tmp_path, graphs.transformer(60))
    return page


def test_it_draws_and_asks_the_network_for_nothing(page, tmp_path):
    requests = show(page, tmp_path, graphs.transformer(12_500))
    assert ink(page) > 20
    assert [url for url in requests if not url.startswith(("file:", "blob:", "data:"))] == []
    assert page.locator(".wbg-title").text_content() == "transformer"


def test_where_webassembly_is_forbidden_it_says_so(page, tmp_path):
    view = GraphView(graphs.transformer(60))
    target = view.to_html(tmp_path / "graph.html")
    view.close()
    text = target.read_text("utf-8")
    assert " 'wasm-unsafe-eval'" in text
    target.write_text(text.replace(" 'wasm-unsafe-eval'", "", 1), "utf-8")
    page.goto(target.as_uri())
    page.wait_for_selector(".wbg[data-state=failed]", timeout=30_000)
    told = page.locator(".wbg-over").inner_text()
    assert told.startswith("The graph cannot be shown: ")
    assert "WebAssembly" in told and "Content Security Policy" in told


def test_search_steps_through_results(small):
    box = small.get_by_role("searchbox")
    box.fill("softmax")
    assert small.locator(".wbg-count").text_content() == "2 found"
    box.press("Enter")
    assert small.locator(".wbg-count").text_content() == "1 / 2"
    box.press("Enter")
    assert names(small) == ["/layers.1/attn/Softmax"]
    box.press("Enter")
    assert names(small) == ["/layers.0/attn/Softmax"]
    assert small.locator(".wbg-panel h3").text_content() == "Softmax"
    for query, found in [("perm=[0,2,3,1]", 2), ("8x16", 1), ("int64", 1), ("layers.0 matmul", 1)]:
        box.fill(query)
        assert state(small, "v.search.results.length") >= found, query
    box.fill("nothing like this")
    assert small.locator(".wbg-count").text_content() == "none"
    box.press("Escape")
    assert state(small, "v.search.results.length") == 0


def test_a_click_selects_a_node_and_the_panel_leads_on(small):
    small.mouse.click(*place(small, "/layers.0/attn/norm/Sub"))
    assert names(small) == ["/layers.0/attn/norm/Sub"]
    panel = small.locator(".wbg-panel")
    assert "batch×8×16" in panel.text_content() or "1×8×16" in panel.text_content()
    panel.get_by_role("button", name="from ReduceMean").click()
    assert names(small) == ["/layers.0/attn/norm/ReduceMean"]
    small.keyboard.press("Escape")


def test_ctrl_click_rectangle_ancestors_path(small):
    small.mouse.click(*place(small, "/layers.0/attn/norm/Sub"))
    settle(small)
    small.keyboard.down("Control")
    small.mouse.click(*place(small, "/layers.0/attn/norm/Div"))
    small.keyboard.up("Control")
    assert len(names(small)) == 2
    small.keyboard.press("p")
    ops = [name.split("/")[-1] for name in names(small)]
    assert set(ops) == {"Sub", "Mul", "ReduceMean_1", "Add", "Sqrt", "Div"}
    small.keyboard.press("a")
    assert "/layers.0/attn/norm/ReduceMean" in names(small)
    small.keyboard.press("Escape")
    small.wait_for_function("() => document.querySelector('.wbg-panel').hidden")
    small.wait_for_timeout(100)  # the picture moves into the room of the panel
    x, y = place(small, "/layers.0/attn/norm/Mul")
    small.keyboard.down("Shift")
    small.mouse.move(x - 60, y - 30)
    small.mouse.down()
    small.mouse.move(x + 60, y + 30, steps=4)
    small.mouse.up()
    small.keyboard.up("Shift")
    assert "/layers.0/attn/norm/Mul" in names(small)


def test_the_keyboard_alone_is_enough(small):
    small.keyboard.press("Tab")
    small.locator("canvas.graph").focus()
    small.keyboard.press("/")
    small.keyboard.type("sqrt")
    small.keyboard.press("Enter")
    first = names(small)[0]
    small.locator("canvas.graph").focus()
    small.keyboard.press("ArrowDown")
    assert names(small) == [first.replace("Sqrt", "Div")]
    small.keyboard.press("ArrowUp")
    assert names(small) == [first]
    before = state(small, "v.motion.goal.k")
    small.keyboard.press("-")
    assert state(small, "v.motion.goal.k") < before
    small.keyboard.press("0")
    settle(small)
    small.keyboard.press("?")
    assert small.get_by_role("dialog").is_visible()
    small.keyboard.press("Escape")
    assert small.get_by_role("dialog").count() == 0
    options = small.locator("[role=listbox] [role=option]")
    assert options.count() > 10 and small.locator("[role=option][aria-selected=true]").count() == 1


def test_the_wheel_zooms_to_the_pointer(small):
    x, y = place(small, "/layers.0/attn/norm/Sub")
    small.mouse.move(x, y)
    before = state(small, "v.renderer.camera.k")
    for _ in range(3):
        small.mouse.wheel(0, -120)
    small.wait_for_function(f"() => document.querySelector('.wbg').view.renderer.camera.k > {before * 1.2}")
    assert place(small, "/layers.0/attn/norm/Sub") == pytest.approx([x, y], abs=2)


def test_modules_collapse_and_expand(small):
    small.get_by_role("button", name="Collapse").click()
    small.wait_for_function("() => document.querySelector('.wbg').view.scene.members.size === 3")
    settle(small)
    small.mouse.dblclick(*place(small, "/layers.0/attn/norm/Sub"))
    small.wait_for_function("() => !document.querySelector('.wbg').view.folds.collapsed.has('0:2')")
    small.get_by_role("button", name="Expand").click()
    small.wait_for_function("() => document.querySelector('.wbg').view.scene.members.size === 0")


def test_a_tall_graph_goes_on_in_columns(page, tmp_path):
    show(page, tmp_path, graphs.transformer(600, "plain"))
    page.keyboard.press("Tab")
    scale = "v.motion.whole().k"
    wrapped = state(page, scale)
    assert state(page, "Math.max(...v.scene.column)") >= 4
    button = page.get_by_role("button", name="Columns")
    button.click()
    page.wait_for_function("() => Math.max(...document.querySelector('.wbg').view.scene.column) === 0")
    assert button.get_attribute("aria-pressed") == "false"
    assert wrapped > 4 * state(page, scale)
    button.click()
    page.wait_for_function("() => Math.max(...document.querySelector('.wbg').view.scene.column) >= 4")
    assert state(page, scale) == pytest.approx(wrapped)
    # all of it in view: the first and the last node can be clicked
    for node in ("/layers.0/attn/norm/ReduceMean", "/output"):
        page.mouse.click(*place(page, node))
        assert names(page) == [node]
        page.keyboard.press("Escape")  # which closes the panel, that would cover the last one
        page.wait_for_function("() => document.querySelector('.wbg-panel').hidden")
        page.keyboard.press("0")


def test_the_first_sight_is_where_reading_starts(page, tmp_path, real_model):
    show(page, tmp_path, wb.load(real_model("light_inception_v2")))  # rows of constants at the top, wider than the view
    at = state(page, "v.renderer.toScreen(v.scene.x[0], v.scene.y[0])")
    assert state(page, "v.data.tensor(v.scene.ref[0])") == "data_0"
    assert at[0] == pytest.approx(state(page, "v.renderer.width / 2")) and 20 < at[1] < 100


def test_from_afar_the_picture_of_all_keeps_up_with_the_colours(page, tmp_path):
    show(page, tmp_path, graphs.transformer(5_000))

    def drawn(overlay: str) -> str:
        page.get_by_label("Colour by").select_option(overlay)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        return page.evaluate("() => document.querySelector('canvas.graph').toDataURL()")

    page.get_by_role("button", name="Fit").click()
    settle(page)
    by_operator = drawn("op")
    assert state(page, "v.renderer.far && !!v.renderer.afar.picture && v.renderer.drawn === v.scene.kind.length")
    assert drawn("dtype") != by_operator
    assert drawn("op") == by_operator
    page.evaluate("() => document.querySelector('.wbg').view.renderer.marked[2000] = 1")
    assert drawn("op") != by_operator  # the mark of what is selected


def test_noise_can_be_hidden_and_comes_back(page, tmp_path, real_model):
    show(page, tmp_path, wb.load(real_model("ppocr_det")))
    before = state(page, "v.scene.kind.length")
    button = page.get_by_role("button", name="Hide noise")
    button.click()
    page.wait_for_function(f"() => document.querySelector('.wbg').view.scene.kind.length < {before}")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    page.wait_for_function(f"() => document.querySelector('.wbg').view.scene.kind.length === {before}")


def test_bodies_open_in_place(page, tmp_path, real_model):
    show(page, tmp_path, wb.load(real_model("silero_vad")))
    before = state(page, "v.scene.kind.length")
    page.mouse.dblclick(*place(page, state(page, "v.data.head.nodes[1]")))
    page.wait_for_function(f"() => document.querySelector('.wbg').view.scene.kind.length > {before}")
    inside = page.evaluate(
        """() => {
          const s = document.querySelector('.wbg').view.scene, box = s.itemOf[1];
          const out = [...s.kind.keys()].filter((i) => s.level[i] < s.level[box]
            && (Math.abs(s.x[i] - s.x[box]) > s.w[box] / 2 || s.y[i] < s.y[box]
              || s.y[i] + s.h[i] > s.y[box] + s.h[box]));
          return [s.kind.length, out.length];
        }"""
    )
    assert inside[0] > before and inside[1] == 0
    page.get_by_role("searchbox").fill("LSTM")  # three bodies deep
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.wbg').view.selection.length === 1")


def test_overlay_legend_and_worst(page, tmp_path):
    model = wb.load(graphs.transformer(60))
    show(page, tmp_path, model, overlay={name: float(i) for i, name in enumerate(model.nodes.index)})
    legend = page.locator(".wbg-legend")
    assert "value" in legend.text_content() and str(len(model.nodes) - 1) in legend.text_content()
    page.get_by_role("button", name="Worst").click()
    assert names(page) == ["/output"]
    before = ink(page)
    page.get_by_label("Colour by").select_option("macs")
    assert "MACs" in legend.text_content()
    assert before > 20 < ink(page)


def test_no_macs_are_told_from_few(page, tmp_path):
    show(page, tmp_path, graphs.transformer(60), overlay="macs")
    none = state(page, "[...v.data.macs].filter((n) => !(n > 0)).length")
    assert none > 40 and f"none ({none})" in page.locator(".wbg-legend").text_content()


@pytest.mark.parametrize("width", [700, 1070, 1600])
def test_the_toolbar_is_one_row(page, tmp_path, width):
    page.set_viewport_size({"width": width, "height": 700})
    show(page, tmp_path, graphs.transformer(60), overlay="macs")
    page.get_by_role("searchbox").fill("Softmax")  # and the steps come
    page.get_by_role("button", name="Next result").wait_for()
    assert page.get_by_role("searchbox").bounding_box()["width"] > 60
    middles, ends = page.evaluate(
        """() => {
          const parts = [...document.querySelectorAll('.wbg-bar :is(button, select, input)')];
          const boxes = parts.filter((e) => e.offsetWidth).map((e) => e.getBoundingClientRect());
          return [boxes.map((b) => b.top + b.height / 2), boxes.map((b) => b.right)];
        }"""
    )
    assert len(middles) > 8 and max(middles) - min(middles) <= 1 and max(ends) <= width


def test_the_card_goes_when_the_picture_moves_away(page, tmp_path):
    show(page, tmp_path, graphs.transformer(60))
    page.mouse.move(*place(page, "/mask/Mul"))
    page.locator(".wbg-card").wait_for()
    page.locator("canvas.graph").press("+")
    page.locator(".wbg-card").wait_for(state="hidden")


def test_an_overlay_of_words_has_a_key_and_steps(page, tmp_path):
    words = {"/layers.0/attn/Softmax": "second", "/mask/Mul": "first"}
    show(page, tmp_path, graphs.transformer(60), overlay=words)
    legend = page.locator(".wbg-legend")
    assert "second (1)" in legend.text_content() and "first (1)" in legend.text_content()
    button = page.get_by_role("button", name="Next", exact=True)
    for node in ("/mask/Mul", "/layers.0/attn/Softmax", "/mask/Mul"):  # from top to bottom, and again
        button.click()
        page.wait_for_function(f"() => document.querySelector('.wbg-panel').textContent.includes({node!r})")
        assert names(page) == [node]
        assert f"Overlay{words[node]}" in page.locator(".wbg-panel").text_content()


def test_colour_by_origin(page, tmp_path):
    model = wb.load(graphs.transformer(60)).set_metadata(
        "workbench.fusion", "softmax", node="/layers.0/attn/Softmax"
    )
    show(page, tmp_path, model)
    page.get_by_label("Colour by").select_option("origin")
    assert "fused: softmax" in page.locator(".wbg-legend").text_content()
    page.get_by_role("button", name="Next", exact=True).click()
    assert names(page) == ["/layers.0/attn/Softmax"]


def test_differences_in_one_picture(page, tmp_path):
    model = wb.load(graphs.transformer(60))
    other = model.delete("/mask/Mul").rename_node("/output", "last")
    view = wb.diff(model, other).view()
    view.to_html(tmp_path / "diff.html")
    view.close()
    page.goto((tmp_path / "diff.html").as_uri())
    page.wait_for_selector(READY)
    legend = page.locator(".wbg-legend").text_content()
    assert "− removed (1)" in legend and "→ renamed or moved (1)" in legend
    button = page.get_by_role("button", name="Next", exact=True)
    button.click()
    page.locator(".wbg-panel", has_text="removed").wait_for()
    assert names(page) == ["/mask/Mul"]
    # the edges of the removed node are marked as removed, the one in their place as new
    changes = state(page, "[...new Set(v.scene.pieceChange)].sort()")
    assert changes == [0, 1, 2]
    seen = []
    while "last" not in seen and len(seen) < 9:
        button.click()
        seen.append(page.locator(".wbg-panel .name").text_content())
    assert "node renamed: /output → last" in page.locator(".wbg-panel").text_content()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_themes(chromium, tmp_path, scheme, dark):
    context = chromium.new_context(color_scheme=scheme, device_scale_factor=2)
    page = context.new_page()
    show(page, tmp_path, graphs.transformer(60))
    assert state(page, "v.theme.dark") is dark
    assert state(page, "v.canvas.width === 2 * Math.round(v.renderer.width)")  # crisp
    first = page.evaluate(
        "() => [...document.querySelector('canvas.graph').getContext('2d').getImageData(5, 5, 1, 1).data]"
    )
    assert (sum(first[:3]) < 200) is dark
    context.close()


def test_names_are_data(page, tmp_path):
    odd = [
        '<img src=x onerror="alert(1)">',
        "שלום עולם",
        "🦊🐻",
        "a" * 10_000,
        "</script><script>alert(2)</script>",
    ]
    nodes, last = [], "x"
    for index, name in enumerate(odd):
        nodes.append(h.make_node("Relu", [last], [f"t{index}{name}"], name=name))
        last = nodes[-1].output[0]
    info = [h.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", last)]
    show(page, tmp_path, h.make_model(h.make_graph(nodes, odd[0], info[:1], info[1:]), ir_version=9))
    for name in odd:
        page.mouse.move(*place(page, name))
        page.mouse.click(*place(page, name))
        assert names(page) == [name]
        assert page.locator(".wbg-panel .name").text_content() == name
    assert page.locator(".wbg img").count() == 0
    assert page.locator(".wbg-title").text_content() == odd[0]
