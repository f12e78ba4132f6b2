"""Figures: what is drawn where, honest about zeros, infinities and what is missing; names are data, never
markup."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from small_engines import model

import workbench as wb
from workbench import figures, tensorrt
from workbench.compare import Comparison
from workbench.errors import CompareError, WorkbenchError
from workbench.figures import style
from workbench.metrics import MEASURES
from workbench.precision import SearchResult
from workbench.precision.result import Run
from workbench.precision.trials import Trial
from workbench.profile import Profile

EVIL = "<img src=x onerror=alert(1)>&amp;"


def record(tensor: str, error: float = 0.0, local: float | None = 0.0, **given: Any) -> dict[str, Any]:
    """A row of a comparison: reference within ±1, so that `error` is max_abs."""
    row = {
        "tensor": tensor,
        "node": f"node of {tensor}",
        "op_type": "Conv",
        "dtype": "float32",
        "shape": (1, 4),
    }
    row |= {"status": "compared", **dict.fromkeys(MEASURES, 0.0), "error": error, "max_abs": error}
    row |= {"ref_min": -1.0, "ref_max": 1.0, "cosine": 1.0, "snr_db": math.inf, "depth": 1}
    if local is not None:
        row |= {"local_status": "", **{f"local_{m}": 0.0 for m in MEASURES}, "local_max_abs": local}
    return row | given


def comparison(*records: dict[str, Any], tolerance: Any = 1e-3) -> Comparison:
    rows = [{"order": i, **r} for i, r in enumerate(records)]
    return Comparison(rows, (records[-1]["tensor"],) if records else (), tolerance, {})


def layer(name: str, op_type: str = "Conv", ms: float = 1.0, **given: Any) -> dict[str, Any]:
    row = {
        "layer": name,
        "op_type": op_type,
        "nodes": [f"n_{name}"],
        "joined": "exact",
        "origins": [f"n_{name}"],
    }
    row |= {
        "scope": "",
        "parent": "",
        "calls": 1,
        "inner_calls": 0,
        "ms": ms,
        "p95_ms": ms * 1.1,
        "noise": 0.01,
    }
    return row | {"macs": 10**6, "bytes": 10**5, "int8": False, "shapes": ""} | given


def profile(*layers: dict[str, Any], name: str = "m") -> Profile:
    meta = {
        "runtime": "onnxruntime",
        "version": "1",
        "threads": 1,
        "optimize": "all",
        "runs": 2,
        "recorded_ms": 1.0,
    }
    peaks = {"flops": 1e11, "int8_ops": 4e11, "bytes_per_s": 1e10, "overhead_ms": 1e-3}
    return Profile(
        {"model": name, "meta": meta, "latency": [[10.0, 10.0]], "recorded": [[11.0]], "noise": 0.01, "layers": layers,
         "not_executed": [], "peaks": peaks}
    )  # fmt: skip


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def words_in(figure: Any) -> str:
    return json.dumps(figure.to_plotly_json(), default=lambda a: a.tolist(), ensure_ascii=False)


# --- error along the network


def test_error_has_one_marker_per_tensor_local_beside_propagated():
    figure = figures.error_by_depth(
        comparison(
            record("a", 1e-5, 1e-6, depth=1),
            record("b", 1e-2, 1e-4, depth=2),
            record("c", 2e-2, 0.0, depth=3),
        )
    )
    found = traces(figure)
    propagated, local = found["propagated: what arrives here"], found["local: what the node itself adds"]
    assert (list(propagated.x), list(propagated.y)) == ([1, 2, 3], [1e-5, 1e-2, 2e-2])
    assert (list(local.x), list(local.y)) == ([1, 2], [1e-6, 1e-4])
    assert figure.layout.yaxis.type == "log"
    assert propagated.marker.symbol != local.marker.symbol
    for part in (
        "<b>b</b>",
        "node: node of b",
        "operator: Conv",
        "max abs: 0.01",
        "local error: 0.0001",
        "float32[1, 4]",
    ):
        assert part in propagated.hovertext[1]


def test_local_error_is_on_the_scale_of_the_error():
    row = record("a", 0.5, local=50.0, max_abs=500.0, ref_min=-1000.0, ref_max=20.0)
    assert list(traces(figures.error_by_depth(comparison(row)))["local: what the node itself adds"].y) == [
        0.05
    ]


def test_zeros_lie_on_the_floor_with_a_symbol_of_their_own():
    figure = figures.error_by_depth(comparison(record("a"), record("b", 1e-4, 0.0, depth=2)))
    zeros = traces(figure)["propagated: exactly 0 (1)"]
    floor = 10.0 ** figure.layout.yaxis.range[0]
    assert list(zeros.x) == [1] and floor < zeros.y[0] < 1e-4
    assert zeros.marker.symbol == "line-ns-open"
    assert "local: exactly 0 (2)" in traces(figure)


def test_what_is_not_finite_lies_on_the_ceiling():
    figure = figures.error_by_depth(
        comparison(record("a", 0.5), record("b", math.inf, math.inf, nan=3, depth=2))
    )
    broken = traces(figure)["propagated: NaN or Inf"]
    assert list(broken.x) == [2] and 0.5 < broken.y[0] <= 10.0 ** figure.layout.yaxis.range[1]
    assert (
        broken.marker.symbol == "x" and "NaN: 3" in broken.hovertext[0] and "error: ∞" in broken.hovertext[0]
    )


def test_tolerance_is_a_line_and_the_first_divergence_is_named():
    figure = figures.error_by_depth(
        comparison(record("a", 1e-5), record("b", 0.1, depth=2), record("c", 0.2, depth=3))
    )
    assert [shape.y0 for shape in figure.layout.shapes] == [1e-3]
    said = [annotation.text for annotation in figure.layout.annotations]
    assert said == ["tolerance 0.001", "first divergence: <b>b</b>"]
    assert figure.layout.annotations[1].x == 2


def test_a_divergence_without_a_value_is_named_too():
    odd = record("b", math.nan, math.nan, status="shapes differ: [1] and [2]", depth=2)
    figure = figures.error_by_depth(comparison(record("a"), odd))
    assert figure.layout.annotations[-1].text == "first divergence: <b>b</b><br>shapes differ: [1] and [2]"
    assert "1 of 2 tensors compared" in figure.layout.title.text


@pytest.mark.parametrize(
    ("tolerance", "by", "lines"),
    [
        ({"snr_db": 40}, "error", []),
        ({"max_abs": 0.5}, "max_abs", [0.5]),
        (0.2, "max_abs", []),
        (0.0, "error", []),
    ],
)
def test_tolerance_is_drawn_only_on_its_own_axis(tolerance, by, lines):
    figure = figures.error_by_depth(comparison(record("a", 0.1), tolerance=tolerance), by=by)
    assert [shape.y0 for shape in figure.layout.shapes] == lines


def test_without_local_error_there_is_none_to_draw():
    figure = figures.error_by_depth(comparison(record("a", 0.1, None), record("b", 0.2, None, depth=2)))
    assert list(traces(figure)) == ["propagated: what arrives here"]


def test_results_of_polygraphy_have_no_depth_and_are_drawn_in_their_order():
    rows = [record(name, 0.1, None) for name in "ab"]
    for row in rows:
        del row["depth"]
    assert list(figures.error_by_depth(comparison(*rows)).data[0].x) == [0, 1]


def test_thousands_of_tensors_are_drawn_with_webgl_and_short_hovers():
    rows = [record(f"t{i}", 1e-3 * (i + 1), 1e-6, depth=i) for i in range(5000)]
    figure = figures.error_by_depth(comparison(*rows))
    assert {trace.type for trace in figure.data} == {"scattergl"}
    assert sum(len(trace.x) for trace in figure.data) == 10_000
    assert len(words_in(figure)) < 2_000_000


def test_an_unknown_measure_is_refused():
    message = "cannot draw tensors by 'snr_db'; use one of error, max_abs, mean_abs, max_rel, mean_rel"
    for draw in (figures.error_by_depth, figures.worst_tensors):
        with pytest.raises(CompareError, match=message):
            draw(comparison(record("a")), by="snr_db")


# --- worst tensors, blame


def test_worst_tensors_are_the_n_largest_in_order():
    rows = [
        record(f"t{i}", error, 0.0 if i else 1e-3) for i, error in enumerate((0.3, 0.0, 0.5, math.inf, 0.1))
    ]
    figure = figures.worst_tensors(comparison(*rows), 3)
    found = traces(figure)
    ceiling = 10.0 ** figure.layout.xaxis.range[1]
    assert list(found["propagated: what arrives here"].x) == [ceiling, 0.5, 0.3]
    assert list(found["propagated: what arrives here"].text) == ["NaN or Inf", "", ""]
    assert list(found["local: what the node itself adds"].x) == [None, None, 1e-3]
    assert [tick.partition("<br>")[0] for tick in figure.layout.yaxis.ticktext] == ["t3", "t2", "t0"]
    assert list(found["tolerance 0.001"].x) == [1e-3, 1e-3]


def test_equal_models_have_no_worst_tensor():
    figure = figures.worst_tensors(comparison(record("a"), record("b")))
    assert "All compared tensors are equal, bit for bit" in figure.layout.annotations[0].text


def blamed(**shares: float) -> pd.DataFrame:
    rows = [{"node": node, "op_type": "Conv", "tensor": f"t_{node}", "local_snr_db": 20.0, "local_max_abs": 0.1,
             "output_error": 1.0, "share": share} for node, share in shares.items()]  # fmt: skip
    return pd.DataFrame(rows, columns=["node", "op_type", "tensor", "local_snr_db", "local_max_abs", "output_error",
                                       "share"]).set_index("node")  # fmt: skip


def test_blame_draws_shares_largest_first():
    figure = figures.blame(blamed(a=0.1, b=0.6, c=1e-6))
    assert list(figure.data[0].x) == [0.6, 0.1] and list(figure.data[0].text) == ["60.0%", "10.0%"]
    assert "share of the output's squared error: 60.00%" in figure.data[0].hovertext[0]


def test_blame_says_why_there_is_nothing_to_draw():
    assert "No single node causes" in figures.blame(blamed()).layout.annotations[0].text
    assert "read from a file" in figures.blame(comparison(record("a", 0.1))).layout.annotations[0].text


# --- profiles


def test_time_per_layer_is_in_order_and_coloured_by_operator():
    figure = figures.time_by_layer(profile(layer("a", ms=1.0), layer("b", "Relu", 0.25), layer("c", ms=2.0)))
    found = traces(figure)
    assert (list(found["Conv"].x), list(found["Conv"].y)) == ([0, 2], [1.0, 2.0])
    assert (list(found["Relu"].x), list(found["Relu"].y)) == ([1], [0.25])
    assert found["Conv"].marker.color != found["Relu"].marker.color
    for part in ("<b>c</b>", "operator: Conv", "2 ms (p95 2.2), 61.5%", "bound by:", "n_c"):
        assert part in found["Conv"].hovertext[1]


def test_thousands_of_layers_share_bars_and_lose_no_time():
    layers = [layer(f"l{i}", ms=1.0 if i % 10 == 0 else 0.001) for i in range(3000)]
    found = profile(*layers)
    figure = figures.time_by_layer(found)
    assert sum(len(trace.x) for trace in figure.data) <= 601
    assert sum(sum(trace.y) for trace in figure.data) == pytest.approx(found.sum_ms)
    assert "<b>9 layers</b>" in traces(figure)["other"].hovertext[0]


def test_treemap_adds_up():
    layers = [
        layer(f"l{i}", "Conv" if i % 2 else "Relu", ms)
        for i, ms in enumerate((5.0, 3.0, 0.001, 0.002, 0.001, 0.5))
    ]
    found = profile(*layers)
    tree = figures.treemap(found).data[0]
    values = dict(zip(tree.ids, tree.values, strict=True))
    for op_type, ms in found.by_op()["ms"].items():
        inside = [v for v, parent in zip(tree.values, tree.parents, strict=True) if parent == f"op {op_type}"]
        assert values[f"op {op_type}"] == pytest.approx(ms) == pytest.approx(sum(inside))
    assert "2 small layers" in tree.labels


def test_roofline_places_layers_by_their_speed():
    found = profile(layer("a", ms=2.0, macs=4 * 10**6, bytes=10**6), layer("b", "Relu", ms=2.0, macs=0))
    figure = figures.roofline(found)
    assert (figure.data[-1].x[0], figure.data[-1].y[0]) == (pytest.approx(8.0), pytest.approx(4.0))
    roof = figure.data[0]
    assert list(roof.y[-2:]) == [100.0, 100.0] and roof.x[1] == pytest.approx(10.0)
    assert "the other 50.0% of the time is in layers without MACs" in figure.layout.title.text
    assert [a.text for a in figure.layout.annotations] == ["float32 peak 100 GFLOP/s", "memory 10 GB/s"]


def test_roofline_has_the_peak_of_int8_where_int8_is_used():
    figure = figures.roofline(profile(layer("a", "QLinearConv", int8=True)))
    assert "int8 peak 400 GOP/s" in [a.text for a in figure.layout.annotations]


def test_before_and_after_by_operator_and_by_change():
    before = profile(layer("a", ms=2.0), layer("b", "Relu", 1.0), layer("c", "Add", 0.5), name="old")
    after = profile(
        layer("a", "FusedConv", 1.0, origins=["n_a"]), layer("b", "Relu", 1.001), layer("d", "Mul", 0.2)
    )
    figure = figures.before_after(before, after)
    found = traces(figure)
    operators = list(figure.layout.yaxis.ticktext)
    assert dict(zip(operators, found["before: old"].x, strict=True))["Conv"] == 2.0
    assert dict(zip(operators, found["after: m"].x, strict=True))["FusedConv"] == 1.0
    assert list(found["faster"].x) == [-1.0]
    assert list(found["appeared"].x) == [0.2] and list(found["disappeared"].x) == [-0.5]
    assert list(found["within the noise"].x) == [pytest.approx(0.001)]
    assert "latency of a whole run 10 → 10 ms" in figure.layout.title.text
    assert "change: -1 ms (× 0.5)" in found["faster"].hovertext[0]


def searched(*names: str) -> SearchResult:
    """A search that ran with nothing and with these nodes kept."""
    tried = [
        Run(Trial(frozenset(), math.inf, False), 0, 1.0),
        Run(Trial(frozenset(names), 1e-4, True), 1, 2.0),
    ]
    nodes = [(name, "Conv") for name in names]
    return SearchResult(
        original=None, to="fp16", keep=names, tolerance=1e-3, runs=5, ended="", found=True, keep_io=True, nodes=nodes,
        tried=tried if names else [], edges={},
    )  # fmt: skip


def test_precision_front_shows_every_run_the_front_and_the_choice():
    found = traces(figures.precision_front(searched("a")))
    assert list(found["Pareto front"].x) == [2.0] and list(found["within tolerance"].y) == [1e-4]
    assert list(found["beyond"].x) == [1.0] and "error: ∞" in found["beyond"].text[0]
    assert list(found["found"].x) == [2.0]


def engine(name: str, ms: float = 1.0) -> tensorrt.Engine:
    """One quantised convolution that writes floats, and a layer of a type of that name; with ms=0 one that
    tells nothing."""
    x, y, z = (
        {"Name": n, "Dimensions": [1, 32, 8, 8], "Format/Datatype": t}
        for n, t in (("x", "Int8"), ("y", "Half"), ("z", "Half"))
    )
    conv = {"OutMaps": 32, "Weights": {"Type": "Int8", "Count": 1024}, "Inputs": [x], "Outputs": [y]}
    layers = [
        {"Name": name, "LayerType": "CaskConvolution", **conv},
        {"Name": "b", "LayerType": name, "Inputs": [y], "Outputs": [z]},
    ]
    if not ms:
        layers = [{"Name": name, "LayerType": "kgen"}]
    read = tensorrt.layers.read(layers)
    return tensorrt.Engine(read, tensorrt.times.read({name: ms, "b": ms / 2}), name=name)


def asked(name: str, ms: float = 1.0) -> tensorrt.Engine:
    """An engine with its model, a convolution of that name in float32."""
    info = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.zeros((32, 32, 1, 1), "f4"), "w")
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name)
    graph = helper.make_graph([conv], "g", [info("x", 1, (1, 32, 8, 8))], [info("y", 1, None)], [weight])
    net = wb.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    return engine(name, ms).with_model(net)


def no_product() -> wb.Model:
    return model([helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": (4,)}, ["y"])


def benched(*names: str) -> dict[str, Any]:
    """What a GPU bench recorded of plugins of these names."""
    row = {
        "what": "plugin",
        "dtype": "float32",
        "shapes": "1×8",
        "intensity": 2.0,
        "gflops": 10.0,
        "ms": 1.0,
        "gb_s": 5.0,
    }
    rows = [{"plugin": name, "share": 0.5, "speedup": 2.0, **row} for name in names]
    return {
        "bench": rows,
        "gpu": {"name": names[0] if names else ""},
        "copy_gb_s": 100.0,
        "flops": {"float32": 1e12},
    }


# --- all of them

DRAWN = {
    "error_by_depth": lambda name, **o: figures.error_by_depth(
        comparison(record(name, 0.1, 0.1, node=name)), **o
    ),
    "worst_tensors": lambda name, **o: figures.worst_tensors(
        comparison(record(name, 0.1, 0.1, node=name)), **o
    ),
    "blame": lambda name, **o: figures.blame(blamed(**{name: 0.5}), **o),
    "time_by_layer": lambda name, **o: figures.time_by_layer(profile(layer(name, name, nodes=[name])), **o),
    "treemap": lambda name, **o: figures.treemap(profile(layer(name, name, nodes=[name])), **o),
    "roofline": lambda name, **o: figures.roofline(profile(layer(name, name, nodes=[name])), **o),
    "before_after": lambda name, **o: figures.before_after(
        profile(layer(name, name), name=name), profile(layer(name, name, 2.0), name=name), **o
    ),
}
ENGINE = {
    "precision_sunburst": figures.precision_sunburst, "time_by_precision": figures.time_by_precision,
    "footprint": figures.footprint, "product_sizes": figures.product_sizes, "timeline": figures.timeline,
    "findings": figures.findings,
}  # fmt: skip
DRAWN |= {kind: lambda name, _f=f, **o: _f(engine(name), **o) for kind, f in ENGINE.items()}
DRAWN["asked_precision"] = lambda name, **o: figures.asked_precision(asked(name), **o)
DRAWN["kernel_roofline"] = lambda name, **o: figures.kernel_roofline(benched(name), **o)
DRAWN["engine_times"] = lambda name, **o: figures.engine_times([engine(name)], **o)
DRAWN["engine_changes"] = lambda name, **o: figures.engine_changes(engine(name), engine(name, 2.0), **o)
DRAWN["precision_front"] = lambda name, **o: figures.precision_front(searched(name), **o)
EMPTY = {
    "error_by_depth": lambda: figures.error_by_depth(comparison()),
    "worst_tensors": lambda: figures.worst_tensors(comparison()),
    "blame": lambda: figures.blame(blamed()),
    "time_by_layer": lambda: figures.time_by_layer(profile()),
    "treemap": lambda: figures.treemap(profile()),
    "roofline": lambda: figures.roofline(profile()),
    "before_after": lambda: figures.before_after(profile(), profile()),
    "precision_front": lambda: figures.precision_front(searched()),
    **{kind: lambda _f=f: _f(engine("a", 0.0)) for kind, f in ENGINE.items()},
    "asked_precision": lambda: figures.asked_precision(engine("a").with_model(no_product())),
    "kernel_roofline": lambda: figures.kernel_roofline(benched()),
    "engine_times": lambda: figures.engine_times([]),
    "engine_changes": lambda: figures.engine_changes(engine("a", 0.0), engine("a", 0.0)),
}


def test_every_figure_is_tested():
    assert set(DRAWN) == set(EMPTY) == set(figures.__all__)


@pytest.mark.parametrize("kind", sorted(DRAWN))
@pytest.mark.parametrize("name", [EVIL, "x" * 300, "a\nb\x1b[31m\u202e", "%{y}", "7"])
def test_names_are_shown_literally_and_long_ones_shortened(kind, name):
    shown = words_in(DRAWN[kind](name))
    assert "<img" not in shown and "\u202e" not in shown and "\\u001b" not in shown
    if name == EVIL:
        assert "&lt;img src=x" in shown and "&amp;amp;" in shown
    if len(name) > 200:
        assert "…" in shown
        assert all(f"{'x' * n}y" not in shown for n in (73, 301))  # broken into lines in the hover
    figure = DRAWN[kind](name)
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert all(len(tick.replace("&lt;", "<")) < 90 for tick in axis.ticktext or ())


@pytest.mark.parametrize("kind", sorted(EMPTY))
def test_a_figure_of_nothing_says_so(kind):
    figure = EMPTY[kind]()
    assert not figure.data and len(figure.layout.annotations[0].text) > 20


@pytest.mark.parametrize("kind", sorted(DRAWN))
def test_both_themes_have_the_same_data_each_on_its_page(kind):
    light, dark = (DRAWN[kind]("a", theme=theme).to_plotly_json() for theme in ("light", "dark"))
    for figure, page in ((light, "#ffffff"), (dark, "#0d1117")):  # a light one in a dark notebook is read all the same
        assert (figure["layout"]["paper_bgcolor"], figure["layout"]["plot_bgcolor"]) == (page, "rgba(0,0,0,0)")
    assert light["layout"]["font"]["color"] != dark["layout"]["font"]["color"]
    for one, other in zip(light["data"], dark["data"], strict=True):
        assert one.keys() == other.keys()
        for axis in ("x", "y", "values"):
            np.testing.assert_array_equal(one.get(axis), other.get(axis))


def test_a_theme_that_is_not_there_is_refused():
    with pytest.raises(WorkbenchError, match="got theme='sepia', expected 'light' or 'dark'"):
        figures.treemap(profile(layer("a")), theme="sepia")


@given(st.text(), st.integers(min_value=3, max_value=60))
def test_shortening_keeps_both_ends(name, length):
    shown = style.short(name, length)
    assert len(shown) <= length
    if len(name) <= length:
        assert shown == name
    else:
        head, tail = shown.split("…", 1) if "…" not in name else (shown[:1], shown[-1:])
        assert name.startswith(head) and name.endswith(tail)


@given(st.text(max_size=300))
def test_text_is_never_markup(name):
    shown = style.text(name)
    assert "<" not in shown and ">" not in shown and shown.isprintable()
    assert "".join(style.wrapped(name)).replace("&lt;", "<").replace("&gt;", ">").replace(
        "&amp;", "&"
    ) == style.printable(name)


def test_writing_on_a_colour_can_be_read():
    assert style.ink_on("#0072B2") == "#ffffff" and style.ink_on("#E69F00") == "#101418"
