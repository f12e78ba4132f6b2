"""GraphView without a browser: traits, messages, details, files, the built bundle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
from ipywidgets.widgets.widget import _instances
from onnx import TensorProto
from onnx import helper as h
from onnx import numpy_helper as nh
from seen_view import Seen

import workbench as wb
from workbench import view as columns
from workbench.widgets import details, graph, shown

ROOT = Path(__file__).resolve().parents[2]
WIDGETS = ROOT / "extensions" / "widgets"


@pytest.fixture
def model():
    return wb.load(graphs.transformer(60))


@pytest.fixture
def view(model):
    made = Seen(model)
    yield made
    made.close()


def test_a_model_has_a_view(model):
    made = model.view(overlay="macs", hide=True, height=300)
    assert isinstance(made, wb.GraphView)
    assert made.height == "300px" and made._color == "macs" and made._hide == ["identity", "shape"]
    assert columns.unpack(made._data).header["nodes"] == model.nodes.index.tolist()
    made.close()


def test_selection_is_checked(view):
    view.selection = ["/mask/Mul"]
    with pytest.raises(wb.errors.NotInModelError, match="it has no node 'nope'; Model.nodes lists them"):
        view.selection = ["nope"]
    assert view.selection == ["/mask/Mul"]


def test_another_model_takes_the_place_of_the_first(view):
    view.overlay({"/mask/Mul": 1.0}).selection = ["/mask/Mul", "/output"]
    other = wb.load(graphs.transformer(60, "plain"))
    view.model = other
    assert columns.unpack(view._data).header["nodes"] == other.nodes.index.tolist()
    assert view.selection == ["/output"]
    assert (view._color, view._values) == ("op", b"")


def test_a_wrong_overlay_is_refused(view):
    with pytest.raises(
        wb.errors.NotInModelError, match="cannot colour by 'colour'; expected one of op, dtype"
    ):
        view.overlay("colour")
    with pytest.raises(
        wb.errors.NotInModelError, match="cannot hide 'all'; expected some of identity, shape"
    ):
        view.hide(["all"])


def test_a_view_that_cannot_be_made_leaves_no_widget_behind(model):
    def views() -> int:
        return sum(isinstance(item, wb.GraphView) for item in _instances.values())

    before = views()
    with pytest.raises(wb.errors.NotInModelError, match="^cannot colour by 'nonsense'; expected one of op, "):
        wb.GraphView(model, overlay="nonsense")
    assert views() == before
    made = wb.GraphView(model)
    assert views() == before + 1
    made.close()
    assert views() == before


def test_large_columns_come_in_parts(model, monkeypatch):
    monkeypatch.setattr(Seen, "part", 5000)
    view = Seen(model)
    parts = [view._data]
    for part in range(1, view._parts):
        content, buffers = view.ask("part", part=part)
        assert content == {"rpc": "1", "result": None}
        parts.append(buffers[0])
    assert len(parts) > 2
    assert columns.unpack(b"".join(parts)).header["name"] == model.name
    view.close()


def test_shapes_follow_the_first_picture(monkeypatch):
    monkeypatch.setattr(shown, "AT_ONCE", 10)
    view = Seen(graphs.transformer(60))
    first = columns.unpack(view._data)
    assert "node.macs" not in first.arrays
    assert view.ask("hello", id="a")[0] == {"rpc": "1", "result": 0}
    assert view.ask("shapes")[0]["result"] is None
    content, buffers = view.sent.pop()
    assert content == {"patch": [0, 1]}
    later = columns.patched(first, columns.unpack(buffers[0]))
    assert np.nansum(later.arrays["node.macs"]) == view.model.macs
    view.close()


def test_a_node_comes_with_its_documentation(view):
    content, _ = view.ask("node", node="/layers.0/attn/Softmax")
    found = content["result"]
    assert "Softmax" in found["doc"] and found["since"] == 13
    (axis,) = found["attributes"]
    assert axis["value"] == "-1" and axis["given"] and "dimension" in axis["doc"]


def test_errors_are_answers(view):
    assert view.ask("node", node="x")[0]["error"].endswith("has no node 'x'; Model.nodes lists them")
    assert "is not a weight that has numbers" in view.ask("weight", tensor=10**6)[0]["error"]
    assert view.ask("dance")[0]["error"] == (
        "the view cannot answer 'dance'; expected one of node, tensor, model, operators, edit, undo, redo, goto, "
        "history, python, upload, columns, part, settle, weight, shapes"
    )


def test_a_cancelled_call_is_not_answered(view, monkeypatch):
    def slow(*_):
        view._receive(view, {"cancel": "1"}, [])
        return {}

    monkeypatch.setattr(details, "weight", slow)
    view._receive(view, {"rpc": "1", "method": "weight", "params": {"tensor": 0}}, [])
    view._threads.shutdown(wait=True)
    assert view.sent == [] and view._running == {}


def weights(array, **kwargs):
    node = h.make_node("Identity", ["w"], ["y"])
    info = h.make_tensor_value_info("y", nh.from_array(array).data_type, None)
    proto = h.make_model(h.make_graph([node], "g", [], [info], [nh.from_array(array, "w")]), ir_version=9)
    return details.weight(columns.columns(wb.load(proto)), 0, **kwargs)


def test_statistics_of_a_weight():
    array = np.array([[0, 1, -3, np.nan], [np.inf, 2, 0, 4]], np.float32)
    found = weights(array)
    finite = array[np.isfinite(array)]
    assert (found["min"], found["max"], found["zeros"], found["nan"], found["inf"]) == (-3, 4, 2, 1, 1)
    assert found["mean"] == pytest.approx(finite.mean()) and found["std"] == pytest.approx(finite.std())
    assert found["counts"] == np.histogram(finite, details.BINS, (-3, 4))[0].tolist()
    assert not found["sampled"]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5, 5, 5)])
def test_weights_of_odd_shapes(shape):
    found = weights(np.full(shape, 7, np.int64))
    assert found["count"] == np.prod(shape, dtype=int) and sum(found["counts"]) == found["count"]


def test_a_huge_weight_is_sampled_and_can_be_cancelled(monkeypatch):
    monkeypatch.setattr(details, "SAMPLE", 1000)
    monkeypatch.setattr(details, "BLOCK", 128)
    found = weights(np.arange(10_000, dtype=np.float32))
    assert found["sampled"] and sum(found["counts"]) == 1000 and found["count"] == 10_000
    assert found["mean"] == pytest.approx(4995)
    assert weights(np.arange(10, dtype=np.float32), cancelled=lambda: True) is None


def test_strings_are_shown_as_text():
    assert weights(np.array(["<b>", "ü"], dtype=object))["values"] == "<b>\nü"


# --- files


def test_the_page_needs_no_network(view, tmp_path):
    page = view.to_html(tmp_path / "graph.html").read_text("utf-8")
    assert not re.search(r"""(?:src|href)=["']?https?:""", page)
    assert "default-src 'none'" in page
    assert page.count("</script>") == 4  # nothing in it ends an element early


def test_a_name_cannot_break_out_of_the_files(tmp_path):
    name = '</script><img src=x onerror="alert(1)">\x00\x0b&'.replace("\x00", "")
    node = h.make_node("Relu", ["x"], ["y"], name=name)
    info = [h.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    view = Seen(h.make_model(h.make_graph([node], name, info[:1], info[1:]), ir_version=9))
    view.selection = [name]
    page = view.to_html(tmp_path / "g.html").read_text("utf-8")
    assert "<img" not in page.replace("`<img", "") and page.count("</script>") == 4
    root = ET.fromstring(view.to_svg(tmp_path / "g.svg").read_text("utf-8"))
    assert not root.findall(".//{http://www.w3.org/2000/svg}img")
    view.close()


@pytest.mark.parametrize("nodes", [1, 60, 3000])
def test_a_saved_notebook_keeps_a_picture(nodes):
    view = Seen(graphs.transformer(nodes))
    bundle = view._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    root = ET.fromstring(data["image/svg+xml"])
    boxes = root.findall("{http://www.w3.org/2000/svg}rect[@class='b']")
    assert 0 < len(boxes) <= 160
    places = [(float(b.get("x")), float(b.get("y"))) for b in boxes]
    assert all(abs(x - u) >= 132 for i, (x, y) in enumerate(places) for u, v in places[:i] if v == y)
    assert "application/vnd.jupyter.widget-view+json" in data
    view.close()


def test_a_model_without_nodes_has_a_picture():
    info = h.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    view = Seen(h.make_model(h.make_graph([], "g", [info], [info]), ir_version=9))
    ET.fromstring(view._svg())
    view.close()


# --- the bundle


def test_the_bundle_is_small():
    assert graph.BUNDLE.stat().st_size < 100_000


def front_end(*command):
    """Runs a tool of extensions/widgets, whose packages must be there where WORKBENCH_REQUIRE_NODE is set."""
    if not (WIDGETS / "node_modules" / ".bin").is_dir() or not shutil.which("node"):
        message = "no node, or no packages for it: `make widgets` installs them"
        if os.environ.get("WORKBENCH_REQUIRE_NODE") == "1":
            pytest.fail(f"{message} (WORKBENCH_REQUIRE_NODE=1 asks for them)", pytrace=False)
        pytest.skip(message)
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=WIDGETS, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_bundle_is_what_its_sources_build(tmp_path):
    front_end("node", "build.mjs", str(tmp_path))
    assert (tmp_path / "graph.js").read_bytes() == graph.BUNDLE.read_bytes(), "run `make widgets`"


@pytest.mark.parametrize("command", [["tsc", "--noEmit"], ["vitest", "run"]])
def test_types_and_tests_of_the_front_end(command):
    front_end(str(WIDGETS / "node_modules" / ".bin" / command[0]), *command[1:])


def test_generated_graphs_load():
    assert onnx.checker.check_model(graphs.transformer(1)) is None
