"""What is said of engines: findings, differences, their graph beside the model's, figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import recorded_engines as recorded
import written_engines as written

import workbench as wb
from workbench import figures, view
from workbench.errors import EngineError, WorkbenchError

pytestmark = pytest.mark.filterwarnings("ignore:engine .* is explored as far as")


@pytest.fixture(scope="module")
def attention() -> wb.tensorrt.Engine:
    return wb.tensorrt.load(written.myelin(), written.MYELIN_TIMES, model=written.attention())


# --- findings


def test_reformats_say_where_they_come_from():
    found = recorded.engine("fp16").lint()
    copy = found.loc["Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1"]
    assert (copy["lint"], copy["problem"]) == ("reformat", "converts FP32 to FP16")
    assert (
        copy["origin"]
        == "the network's input 'input.1' gives FP32 linear, 'Conv_0 + Relu_1' takes FP16 NHWC4"
    )
    assert copy["advice"] == "feed FP16 data, in this layout if you can (trtexec --inputIOFormats)"
    assert copy["ms"] == 0.080896 and copy["nodes"] == ("Conv_0", "Relu_1")
    last = found.loc["Reformatting CopyNode for Output Tensor 0 to reshape_after_Gemm_48"]
    assert last["origin"] == "'Gemm_48' gives FP16 linear, the network's output '191' takes FP32 linear"
    assert last["advice"] == "take FP16 data (trtexec --outputIOFormats)"
    layout = recorded.engine("fp32").lint().loc["Reformatting CopyNode for Output Tensor 0 to MaxPool_2"]
    assert layout["problem"] == "copies linear to NHWC"


def test_a_slow_first_layer_is_found():
    found = recorded.engine("fp32").lint().iloc[0]
    assert (found.name, found["lint"]) == ("Conv_0 + Relu_1", "no tensor cores")
    assert found["problem"] == "computed in FP32 without tensor cores"
    assert found["origin"].endswith("relu_xregs_large_nn_v1', 3 input channels")


def test_quantising_alone_and_what_quantised_residuals_gain():
    before, after = (recorded.engine(v).lint() for v in ("qat", "qat-residual"))
    alone = before[before["lint"] == "quantize alone"]
    assert len(alone) == 10 and alone["ms"].sum() == pytest.approx(0.232448)
    assert alone.loc["QuantizeLinear_2", "advice"] == "needed once for this input, unless you feed INT8 data"
    assert "quantise for all readers of 'inputs' (a residual too)" in alone.loc["QuantizeLinear_15", "advice"]
    assert (after["lint"] == "quantize alone").sum() == 3
    wide = after[after["lint"] == "float output"].iloc[0]
    assert (
        wide.name.startswith("layer4.1.conv2.weight") and "it adds 'onnx::Add_454' in FP32" in wide["origin"]
    )


def test_channels_that_are_not_aligned():
    found = recorded.engine("qat").lint()
    odd = found[found["lint"] == "channels not aligned"]
    assert list(odd["problem"]) == [
        "3 input channels, no multiple of 16 (INT8): padded × 5.33",
        "1000 output channels, no multiple of 16 (INT8): padded × 1.01",
    ]


def test_slices_and_scales_that_convert_and_products_left_wide():
    conv = {"Kernel": [1, 1], "OutMaps": 64, "Groups": 1, "ParameterType": "Convolution"}
    x = written.tensor("x", 1, 64, 8, 8, dtype="Int8")
    half = [written.tensor(name, 1, 64, 8, 8) for name in "abc"]
    engine = wb.tensorrt.load(
        {"Layers": [
            written.layer("slice", "Slice", [x], [half[0]]),
            written.layer("scale", "Scale", [half[0]], [written.tensor("q", 1, 64, 8, 8, dtype="Int8")]),
            written.layer("narrow", "CaskConvolution", [half[0]], [half[1]], Weights={"Type": "Half", "Count": 36864},
                          TacticName="sm80_xmma_fprop", **conv),
            written.layer("wide", "CaskConvolution", [half[1]], [half[2]], Weights={"Type": "Float", "Count": 4096},
                          TacticName="sm80_tf32", **conv),
        ]}
    )  # fmt: skip
    found = engine.lint()
    assert found["lint"].to_dict() == {
        "scale": "quantize alone",
        "slice": "slice converts",
        "wide": "wide precision",
    }
    assert found.loc["wide", "problem"] == "computed in FP32; most of the engine in FP16"
    assert engine.layers.loc["narrow", "macs"] == 64 * 4096 * 9


def test_nothing_to_find():
    assert wb.tensorrt.load(written.loop()).lint().empty


# --- differences


def test_engines_of_one_model_are_aligned_by_nodes():
    changes = wb.tensorrt.diff(recorded.engine("fp32"), recorded.engine("fp16"))
    assert changes.attrs["align"] == "origin" and set(changes["aligned"]) == {"origin"}
    row = changes.iloc[0]
    assert row.name == "Conv_0 + Relu_1" and row["status"] == "faster"
    assert row["ms_b"] == pytest.approx(0.111616 + 0.080896)  # with the copy that works for it
    assert row["changed"] == (
        "precision FP32 -> FP16", "reads FP32 linear -> FP16 NHWC4", "writes FP32 linear -> FP16 NHWC8", "tactic",
        "copies 0 -> 1",
    )  # fmt: skip
    assert row["nodes_a"] == row["nodes_b"] == ("Conv_0", "Relu_1")
    assert changes["ms_a"].sum() == pytest.approx(2.123776) and changes["ms_b"].sum() == pytest.approx(
        1.016832
    )
    assert (changes["status"] == "faster").sum() == 21


def test_engines_of_other_models_are_aligned_by_what_they_compute():
    fp16, qat, residual = (recorded.engine(v) for v in ("fp16", "qat", "qat-residual"))
    changes = wb.tensorrt.diff(fp16, qat)
    assert changes.attrs["align"] == "structure"
    convolutions = changes[changes["op_type"] == "Convolution"]
    assert len(convolutions) == 21
    assert convolutions["aligned"].str.startswith("structure").all()
    assert (convolutions["precision_b"] == "INT8").all()
    first = convolutions.loc["conv1.weight + QuantizeLinear_7 + Conv_9"]
    assert first["nodes_a"] == ("Conv_0", "Relu_1") and first["aligned"] == "structure"
    three = [row for _, row in convolutions.iterrows() if row["aligned"] == "structure: 4 alike, by depth"]
    assert {row["nodes_a"][0] for row in three} == {"Conv_3", "Conv_5", "Conv_8", "Conv_10"}
    assert (changes["status"] == "appeared").sum() == 10
    for a, b in ((fp16, qat), (qat, residual)):
        table = wb.tensorrt.diff(a, b)
        assert table["ms_a"].sum() == pytest.approx(a.sum_ms) and table["ms_b"].sum() == pytest.approx(
            b.sum_ms
        )
    table = wb.tensorrt.diff(qat, residual)
    slower = table[table["status"] == "slower"].iloc[0]
    assert slower.name.startswith("layer4.1.conv2") and slower["ratio"] == pytest.approx(2.2667, abs=1e-3)
    fused = table.iloc[0]
    assert "layers 2 -> 1" in fused["changed"] and fused["ratio"] == pytest.approx(0.0727 / 0.3338, abs=1e-3)
    assert fused["layers_b"][0].endswith("Conv_9 + MaxPool_12")


def test_the_same_engine_differs_in_nothing():
    changes = recorded.engine("qat").diff(recorded.engine("qat"))
    assert set(changes["status"]) == {"same"} and set(changes["changed"]) == {()}
    assert changes.attrs["align"] == "origin"


def test_the_order_of_layers_does_not_matter():
    data = json.loads(recorded.path("fp16").read_text())
    data["Layers"] = data["Layers"][::-1]
    times = recorded.path("fp16").with_name("resnet18-a100-fp16.profile.json")
    mixed = wb.tensorrt.load(data, times)
    assert set(wb.tensorrt.diff(recorded.engine("fp16"), mixed)["status"]) == {"same"}


def test_a_fusion_that_comes_apart(attention):
    split = written.myelin()
    mha = split["Layers"].pop(3)
    q, k, x = mha["Inputs"]
    p = written.tensor("p", 1, 128, 128)
    split["Layers"][3:3] = [
        written.layer("softmax_myl0_3", "kgen", [q, k], [p], written.onnx_layers(*written.MHA[:3])),
        written.layer(
            "/attn/MatMul_1_myl0_9", "gemm", [p, x], mha["Outputs"], written.onnx_layers(written.MHA[3])
        ),
    ]
    times = [entry for entry in written.MYELIN_TIMES if entry.get("name") != mha["Name"]]
    other = wb.tensorrt.load(
        split, [*times, *written.trtexec([("softmax_myl0_3", 0.1), ("/attn/MatMul_1_myl0_9", 0.06)])[1:]],
        model=written.attention(),
    )  # fmt: skip
    row = wb.tensorrt.diff(attention, other).iloc[0]
    assert (row["ms_a"], row["ms_b"], row["status"]) == (0.08, pytest.approx(0.16), "slower")
    assert (
        row["layers_b"] == ("softmax_myl0_3", "/attn/MatMul_1_myl0_9") and "layers 1 -> 2" in row["changed"]
    )


def test_without_times_only_what_changed_is_said():
    a, b = (wb.tensorrt.load(json.loads(recorded.path(v).read_text())) for v in ("fp32", "fp16"))
    changes = wb.tensorrt.diff(a, b)
    assert (
        set(changes["status"]) == {"no time"}
        and "precision TF32 -> FP16" in changes.loc["Conv_15", "changed"]
    )


def test_what_cannot_be_compared():
    with pytest.raises(EngineError, match="got str, expected two of workbench.tensorrt.Engine"):
        wb.tensorrt.diff(recorded.engine("fp32"), "fp16")
    with pytest.raises(
        EngineError, match="cannot align engines by 'luck'; expected auto, origin or structure"
    ):
        wb.tensorrt.diff(recorded.engine("fp32"), recorded.engine("fp16"), align="luck")


# --- the graph


def test_the_graph_is_that_of_the_layers():
    engine = recorded.engine("fp16")
    graph = engine.graph
    assert list(graph.nodes.index) == list(engine.layers.index)
    conv = graph.nodes.loc["Conv_15"]
    assert (conv["op_type"], conv["domain"], conv["outputs"]) == (
        "Convolution",
        "tensorrt",
        ("onnx::Add_210",),
    )
    assert [info.name for info in graph.inputs] == ["input.1"] and [info.name for info in graph.outputs] == [
        "191"
    ]
    columns = view.columns(graph)
    assert "float16" in columns.header["dtypes"] and ["Convolution", "tensorrt"] in columns.header["ops"]
    assert columns.arrays["node.macs"].sum() == engine.layers["macs"].sum()


def test_selecting_layers_selects_their_nodes_and_back():
    engine, model = recorded.engine("fp16", joined=True), recorded.resnet18()
    nodes = model.view()
    layers = engine.view(beside=nodes)
    layers.selection = ["Conv_5 + Add_6 + Relu_7", "MaxPool_2"]
    assert nodes.selection == ["Conv_5", "Add_6", "Relu_7", "MaxPool_2"]
    assert layers.selection == ["Conv_5 + Add_6 + Relu_7", "MaxPool_2"]
    nodes.selection = ["Relu_1"]
    assert layers.selection == [
        "Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1",
        "Conv_0 + Relu_1",
    ]
    assert nodes.selection == ["Relu_1"]
    layers.selection = []
    assert nodes.selection == []


def test_the_view_shows_times_where_there_are_any(attention, tmp_path):
    shown = attention.view()
    assert shown._overlay["title"] == "time, ms"
    assert np.frombuffer(shown._values, "<f8").tolist() == [0.01, 0.04, 0.05, 0.08, 0.02]
    page = shown.to_html(tmp_path / "engine.html")
    assert (
        "_gemm_mha_v2_myl0_3" in shown.to_svg(tmp_path / "engine.svg").read_text()
        or page.stat().st_size > 10_000
    )
    assert wb.tensorrt.load(written.loop()).view()._color == "op"


def test_views_that_have_nothing_in_common(attention):
    with pytest.raises(WorkbenchError, match="no layer stands for a node of that model; give the model"):
        attention.view(beside=recorded.resnet18().view())


# --- figures


ENGINE_FIGURES = (
    "precision_sunburst", "time_by_precision", "footprint", "product_sizes", "timeline", "findings", "roofline",
    "time_by_layer", "treemap",
)  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ENGINE_FIGURES)
def test_every_figure_draws_every_engine(name, theme, attention):
    for engine in (recorded.engine("qat"), attention, wb.tensorrt.load(written.loop())):
        figure = getattr(figures, name)(engine, theme=theme)
        figure.to_json()
        assert len(figure.data) or figure.layout.annotations[0].text
    assert len(getattr(figures, name)(recorded.engine("qat"), theme=theme).data)


def test_the_sunburst_adds_up():
    trace = figures.precision_sunburst(recorded.engine("qat")).data[0]
    inner = {
        id_: value
        for id_, parent, value in zip(trace.ids, trace.parents, trace.values, strict=True)
        if not parent
    }
    assert inner == pytest.approx({"FP32": 0.132096, "FP16": 0.02048, "INT8": 0.943104})


def test_the_roofline_has_a_roof_for_each_precision():
    texts = [note.text for note in figures.roofline(recorded.engine("fp32")).layout.annotations]
    assert texts == ["FP32 peak 19.5 TFLOP/s", "TF32 peak 156 TFLOP/s", "memory 1.94 TB/s"] or set(texts) == {
        "FP32 peak 19.5 TFLOP/s", "TF32 peak 156 TFLOP/s", "memory 1.94 TB/s",
    }  # fmt: skip
    unknown = wb.tensorrt.load(written.myelin(), written.MYELIN_TIMES)
    assert "give gpu= a name" in figures.roofline(unknown).layout.annotations[0].text


def test_what_is_not_known_is_not_drawn():
    said = figures.time_by_layer(recorded.engine("fp16")).data[0].hovertext[0]
    assert "time: 0.1116 ms, 11.0%" in said and "nan" not in said


def test_the_timeline_waits_for_inputs(attention):
    bars = {
        base: x
        for trace in figures.timeline(attention).data
        for base, x in zip(trace.base, trace.x, strict=True)
    }
    # stream 1 waits for the weight that stream 0 turns; attention waits for stream 1
    assert sorted(bars) == pytest.approx([0.0, 0.01, 0.06, 0.14]) and bars[0.0] == 0.01


def test_engines_side_by_side():
    four = [recorded.engine(v) for v in ("fp32", "fp16", "qat", "qat-residual")]
    for by in ("op_type", "precision"):
        figure = figures.engine_times(four, by)
        bars = [trace for trace in figure.data if trace.type == "bar"]
        sums = np.sum([trace.x for trace in bars], axis=0)
        assert sums == pytest.approx([engine.sum_ms for engine in four])
        runs = next(trace for trace in figure.data if trace.type == "scatter")
        assert list(runs.x) == [engine.latency_ms for engine in four]
    with pytest.raises(EngineError, match="cannot draw engines by 'luck'; use op_type or precision"):
        figures.engine_times(four, "luck")


def test_changes_are_drawn_with_what_changed():
    figure = figures.engine_changes(recorded.engine("fp32"), recorded.engine("fp16"))
    assert "2.124 → 1.017 ms in layers, aligned by origin" in figure.layout.title.text
    assert figure.layout.yaxis.ticktext[0] == "Conv_0 + Relu_1<br><i>FP32 -&gt; FP16, copies 0 -&gt; 1</i>"
    assert [trace.name for trace in figure.data] == ["faster"]


def test_names_are_data_never_markup():
    evil = "<b>Conv</b> & co"
    engine = wb.tensorrt.load(
        {"Layers": [written.layer(evil, "kgen", [written.X], [written.Y])]},
        [{"name": evil, "averageMs": 1.0}],
    )
    for name in ENGINE_FIGURES:
        assert "<b>Conv" not in getattr(figures, name)(engine).to_json().replace("\\u003c", "<")


def test_asked_and_done_as_bands():
    figure = figures.asked_precision(recorded.engine("fp16", joined=True))
    (bands,) = figure.data
    assert list(bands.node.label) == ["asked: FP32 · 100%", "done: FP16 · 100%"]
    asked = recorded.engine("fp16", joined=True).asked()
    assert list(bands.link.value) == [pytest.approx(asked["ms"].sum())]
    assert "21 of 21 layers compute in another precision than the model asks for" in figure.layout.title.text
    assert "Conv_0 + Relu_1, FP32 → FP16" in figure.layout.title.text
    assert "asked for FP32, done in FP16" in bands.link.customdata[0]
    agreed = figures.asked_precision(recorded.engine("fp32", joined=True), theme="dark")
    assert "0 of 21 layers" in agreed.layout.title.text
    assert all(colour.endswith(",0.3)") for colour in agreed.data[0].link.color)
    with pytest.raises(EngineError, match="its ONNX model is not there"):
        figures.asked_precision(recorded.engine("fp16"))


def test_products_in_one_place_are_named_once():
    (points,) = figures.product_sizes(recorded.engine("fp16")).data
    named = [text for text in points.text if text]
    assert named == ["Conv_0", "Conv_10 +3", "Conv_43 +2"]
    places = [(m, k) for m, k, text in zip(points.x, points.y, points.text, strict=True) if text]
    assert len(set(places)) == 3


def test_long_notes_are_wrapped_and_make_the_figure_higher():
    drawn = figures.style.Style("light")
    short, long = (drawn.figure("t", note=note, height=300) for note in ("a b", "word " * 40))
    assert short.layout.height == 300 and long.layout.height == 340
    assert long.layout.title.text.count("<br>") == 3
