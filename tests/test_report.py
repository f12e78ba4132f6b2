"""The report: one file that opens offline, says what a person would say, and shows names as text whatever they hold."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import workbench as wb
from workbench.compare import Comparison
from workbench.errors import WorkbenchError
from workbench.report import page, tables, words

EVIL = "<img src=x onerror=\"document.title='owned'\">"
OTHER = "</script><script>document.title='owned'</script>\u202e"


def model(weight: float, name: str = "small") -> wb.Model:
    """Relu, Add and MatMul; the names of its nodes and tensors are attacks."""
    nodes = [
        helper.make_node("Relu", ["x"], [EVIL], name=EVIL),
        helper.make_node("Add", [EVIL, "w"], [OTHER], name=OTHER),
        helper.make_node("MatMul", [OTHER, "v"], ["y"], name="last & least"),
    ]
    weights = [
        numpy_helper.from_array(np.full(8, weight, np.float32), "w"),
        numpy_helper.from_array(np.eye(8, dtype=np.float32), "v"),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, 8]) for n in "xy"]
    graph = helper.make_graph(nodes, name, ports[:1], ports[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    return wb.load(helper.make_model(graph, opset_imports=opset, ir_version=8))


@pytest.fixture(scope="module")
def pair() -> tuple[wb.Model, wb.Model]:
    return model(1.0, "before <b>"), model(1.5, "after")


@pytest.fixture(scope="module")
def comparison(pair) -> Comparison:
    return wb.compare(*pair, np.ones((4, 8), np.float32), progress=False)


@pytest.fixture(scope="module")
def profiles(pair) -> list[wb.Profile]:
    return [wb.profile(m, runs=3, warmup=1, threads=1, progress=False) for m in pair]


@pytest.fixture(scope="module")
def written(pair, comparison, profiles, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "all.html"
    return wb.report.write(
        path, comparison=comparison, before=profiles[0], after=profiles[1], model=pair[0], candidate=pair[1],
        extra=[("More <i>", "<p id=mine>of my own</p>")],
    )  # fmt: skip


class Read(HTMLParser):
    """The elements and the visible text of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self._hidden = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]


# --- the page


def test_the_report_answers_in_order(written, comparison):
    found = Read(written.read_text())
    text = found.text
    assert "The models differ: error 0.25 at the output 'y', beyond tolerance 0.001." in text
    assert re.findall("<h2>(.*?)</h2>", written.read_text()) == [
        "More &lt;i&gt;",
        "Are they the same, and where do they part?",
        "Which layer is to blame?",
        "Where does the time go?",
        "What did the change buy?",
        "Every tensor",
        "The models",
        "How it was measured",
    ]
    assert " ".join(comparison.explain().replace("\u202e", "\\u202e").split()) in text
    assert re.search(r"A run takes [\d.]+ ms instead of [\d.]+ ms", text)
    for said in ("onnxruntime", "over 1 input", "threads", "noise", "machine", "date"):
        assert said in text


def test_names_are_text_and_nothing_else(written):
    html = written.read_text()
    found = Read(html)
    assert "img" not in [tag for tag, _ in found.elements]
    assert EVIL in found.text and "before <b>" in found.text and "last & least" in found.text
    assert "</script><script>document.title='owned'</script>\\u202e" in found.text
    assert not [attrs for _, attrs in found.elements for name in attrs if name.startswith("on")]
    assert "\u202e" not in html
    assert found.all("p")[-1] is not None and {"id": "mine"} in found.all("p")


def test_it_is_one_file_that_asks_nobody(written):
    html = written.read_text()
    found = Read(html)
    assert (
        not found.all("link") and not found.all("iframe") and not any("src" in a for a in found.all("script"))
    )
    assert all(attrs["href"].startswith("#") for attrs in found.all("a"))
    policy = found.all("meta")[1]["content"]
    assert (
        "default-src 'none'" in policy and "connect" not in policy and "'unsafe-inline'; script-src" in policy
    )
    assert html.count("plotly.js v") == 1
    assert written.stat().st_size < 6_000_000


def test_links_lead_to_sections_and_ids_are_unique(written):
    found = Read(written.read_text())
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in found.all("a")} <= set(ids)


def test_tables_have_captions_heads_and_every_tensor(written, comparison):
    html = written.read_text()
    assert len(re.findall("<caption>", html)) == len(re.findall("<table class", html))
    everything = re.search(r"<caption>All tensors.*?</table>", html, re.S)[0]
    assert everything.count("<tr><td") == len(comparison.records) == 3
    assert everything.count("<th scope=col") == len(re.findall("<td", everything)) // 3


def test_both_themes_are_stored_as_one_and_a_difference(written):
    stored = json.loads(re.search(r"id=figures>(.*?)</script>", written.read_text(), re.S)[1])
    assert len(stored) == 10  # error, blame, worst, 2 x (time, treemap, roofline), before and after
    for item in stored:
        figure = json.loads(json.dumps(item["figure"]))
        assert figure["layout"]["font"]["color"] == "#1f2328"
        for path, light, dark in item["dark"]:
            at = figure
            for key in path[:-1]:
                at = at[key]
            assert at[path[-1]] == light
            at[path[-1]] = dark
        assert figure["layout"]["font"]["color"] == "#e6edf3"


def test_differences_lead_from_one_to_the_other():
    light = {"a": [1, {"b": 2}], "c": "same", "d": [1, 2]}
    dark = {"a": [1, {"b": 3}], "c": "same", "d": [1]}
    assert list(page._differences(light, dark)) == [(("a", 1, "b"), 2, 3), (("d",), [1, 2], [1])]


def test_any_part_alone_makes_a_report(tmp_path, pair, comparison, profiles):
    for given in (
        {"comparison": comparison},
        {"before": profiles[0]},
        {"after": profiles[1]},
        {"model": pair[0]},
    ):
        text = Read(wb.report.write(tmp_path / "part.html", **given).read_text()).text
        assert len(text) > 300


def test_equal_models_and_comparisons_from_files(tmp_path, pair, comparison):
    same = wb.compare(pair[0], pair[0], progress=False)
    text = Read(wb.report.write(tmp_path / "same.html", comparison=same).read_text()).text
    assert "The models are the same: 3 compared tensors are bit for bit equal." in text
    loaded = Comparison.from_json(comparison.to_json())
    text = Read(wb.report.write(tmp_path / "loaded.html", comparison=loaded).read_text()).text
    assert "The models differ" in text and "Most to blame" not in text


# --- the file


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(WorkbenchError, match="give a comparison, a profile .before, after. or a model"):
        wb.report.write(tmp_path / "none.html")


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path, comparison, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(WorkbenchError, match=rf"cannot write the report {path}: No space left on device"):
        wb.report.write(path, comparison=comparison)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path, comparison):
    with pytest.raises(
        WorkbenchError, match="cannot write the report .*/no/r.html: No such file or directory"
    ):
        wb.report.write(tmp_path / "no" / "r.html", comparison=comparison)


# --- in a browser


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_browser_draws_the_figures_and_runs_no_name(written, tmp_path):
    command = [shutil.which("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [
        f"--user-data-dir={tmp_path}",
        "--window-size=1200,20000",
        "--virtual-time-budget=20000",
        "--dump-dom",
    ]
    for _ in range(3):  # on a busy machine the browser may write the page before all is drawn
        dom = subprocess.run([*command, written.as_uri()], capture_output=True, text=True, timeout=120).stdout
        found = Read(dom[: dom.index("<script")])
        drawn = [attrs for attrs in found.all("div") if "js-plotly-plot" in attrs.get("class", "")]
        if len(drawn) == 7:
            break
    assert len(drawn) == 7  # three more are folded away
    assert "<title>owned" not in dom and "img" not in [tag for tag, _ in found.elements]
    assert re.search(r'<html[^>]* data-theme="(light|dark)"', dom)
    assert EVIL in found.text


# --- words


def judged(error: float, tolerance: float = 1e-3, **given) -> Comparison:
    record = {
        "tensor": "y",
        "node": "n",
        "op_type": "Add",
        "status": "compared",
        "error": error,
        "max_abs": error,
    }
    record |= {"nan": 0, "inf": 0, "ref_nan": 0, "ref_inf": 0, "cosine": 1.0, "snr_db": 20.0} | given
    return Comparison([record], ("y",), tolerance, {})


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (judged(0.0), "The models are the same: 1 compared tensor is bit for bit equal."),
        (judged(1e-4), "The models are the same within tolerance 0.001: the largest error at an output is 0.0001."),
        (judged(0.5), "The models differ: error 0.5 at the output 'y', beyond tolerance 0.001."),
        (judged(0.5, {"snr_db": 40.0}),
         "The models differ: error 0.5 at the output 'y', beyond the tolerance snr_db 40."),
        (judged(float("inf")),
         "The models differ: NaN or Inf where the other has a number at the output 'y', beyond tolerance 0.001."),
        (judged(float("nan"), status="only in the reference"),
         "It is not known whether the models are the same, for not every output was compared: "
         "the output 'y' was not (only in the reference)."),
        (judged(float("nan"), status="shapes differ: (1,) and (2,)"),
         "The models differ at the output 'y': shapes differ: (1,) and (2,)."),
        (Comparison([], (), 1e-3, {}), "It is not known whether the models are the same, "
         "for not every output was compared: they have no outputs."),
    ],
)  # fmt: skip
def test_verdicts(comparison, sentence):
    assert words.verdict(comparison) == sentence


class Timed:
    def __init__(self, ms: float, noise: float):
        self.latency_ms, self.noise = ms, noise


@pytest.mark.parametrize(
    ("before", "after", "end"),
    [
        (Timed(20, 0.02), Timed(10, 0.05), "A run takes 10 ms instead of 20 ms: 2 times as fast (noise 5.0%)."),
        (Timed(10, 0.02), Timed(15, 0.02), "A run takes 15 ms instead of 10 ms: 1.5 times as slow (noise 2.0%)."),
        (Timed(10, 0.02), Timed(9, 0.2),
         "A run takes 9 ms instead of 10 ms, which is within the noise of the measurement (20%)."),
        (Timed(10, float("nan")), Timed(9, 0.2),
         "A run takes 9 ms instead of 10 ms; the noise is not known from a single run."),
    ],
)  # fmt: skip
def test_speed_is_honest_about_noise(before, after, end):
    assert words.speed(before, after) == end


def test_the_observer_effect_is_stated():
    found = judged(0.0)
    assert words.observer(found) == ""
    found.meta["observer"] = {
        "optimize": "all",
        "nodes": 5,
        "nodes_marked": 9,
        "ms": 1.0,
        "ms_marked": 2.5,
        "max_abs": 1e-7,
    }
    assert words.observer(found) == (
        "The candidate is the graph that the runtime executes (optimize=all, 5 nodes). With every tensor marked as an "
        "output it would be another one: 9 nodes, 2.5 instead of 1 ms, outputs different by up to 1e-07."
    )


def test_reasons_are_counted():
    rows = [{"status": s} for s in ("compared", "only in the reference", "inside then_branch of If node 'a'",
                                    "inside else_branch of If node 'b'")]  # fmt: skip
    found = words.not_compared(Comparison(rows, (), 1e-3, {}))
    assert found == [("inside the body of an If, Loop or Scan", 2), ("only in the reference", 1)]


# --- tables


def test_values_in_tables():
    values = (0.00123456, 12345.678, 1.5e9, float("inf"), float("nan"), None, 7, 1234567, "a", (1, 2))
    said = ["0.00123", "12,346", "1.5e+09", "∞", "", "", "7", "1,234,567", "a", "1, 2"]
    assert [tables.shown(value) for value in values] == said


def test_long_tables_say_what_they_leave_out():
    html = tables.table("Many", [("a", "")], [[i] for i in range(tables.ROWS + 5)])
    assert "The first 4,000 of 4,005 rows." in html and html.count("<tr>") == tables.ROWS + 1
