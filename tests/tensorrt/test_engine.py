"""Engines from files: recorded on an A100 with TensorRT 8; the formats of TensorRT 9 to 11 written by
hand."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext

import pytest
import recorded_engines as recorded
import written_engines as written
from small_engines import mlp

import workbench as wb
from workbench.errors import BackendNotInstalled, EngineError, ProfileError
from workbench.tensorrt import Engine, mapping, times
from workbench.tensorrt.layers import Tensor, parse_format

pytestmark = pytest.mark.filterwarnings("ignore:engine .* is explored as far as")
VARIANTS = ("fp32", "fp16", "qat", "qat-residual")


# --- the recorded engines


@pytest.mark.parametrize(
    ("variant", "count", "ms", "latency"),
    [("fp32", 32, 2.123776, 1.99072), ("fp16", 36, 1.016832, 0.862183), ("qat", 37, 1.09568, 0.882568),
     ("qat-residual", 26, 0.731136, 0.545776)],
)  # fmt: skip
def test_recorded_engines_are_read_whole(variant, count, ms, latency):
    engine = recorded.engine(variant)
    assert len(engine.layers) == len(engine.table) == count
    assert engine.sum_ms == pytest.approx(ms)
    assert engine.latency_ms == latency
    assert engine.gpu.name == "A100 80GB PCIe"
    assert engine.missing == [] and len(engine.untimed) == 0
    raw = json.loads(recorded.path(variant).read_text())["Layers"]
    assert list(engine.layers.index) == [layer["Name"] for layer in raw]
    assert set(engine.layers["timed"]) == {"exact"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_at_least_95_percent_of_recorded_time_is_joined(variant):
    engine = recorded.engine(variant)
    assert engine.mapped == 1.0 and len(engine.unmapped) == 0


def test_every_layer_knows_its_nodes():
    fp32 = recorded.engine("fp32", joined=True)
    nodes = fp32.layers["nodes"]
    assert nodes["Conv_5 + Add_6 + Relu_7"] == ("Conv_5", "Add_6", "Relu_7")
    copy = fp32.layers.loc["Reformatting CopyNode for Output Tensor 0 to MaxPool_2"]
    assert (copy["nodes"], copy["joined"]) == (("MaxPool_2",), "inserted after")
    qat = recorded.engine("qat").layers
    fused = qat.loc["layer1.0.conv2.weight + QuantizeLinear_32 + Conv_34 + Add_36 + Relu_37"]
    assert fused["nodes"] == ("QuantizeLinear_32", "Conv_34", "Add_36", "Relu_37")
    assert fused["constants"] == ("layer1.0.conv2.weight",)
    last = qat.loc["copied_squeeze_after_(Unnamed Layer* 307) [ElementWise]"]
    assert (last["nodes"][-1], last["joined"], last["mapped_by"]) == (
        "Gemm_257",
        "inserted after",
        "neighbour",
    )


def test_nodes_know_their_layers_and_their_part_of_the_time():
    engine = recorded.engine("fp32", joined=True)
    nodes = engine.nodes
    assert nodes["ms"].sum() == pytest.approx(engine.sum_ms)
    assert list(nodes.index[:3]) == ["Conv_0", "Relu_1", "MaxPool_2"]
    conv, add, relu = (nodes.loc[name] for name in ("Conv_5", "Add_6", "Relu_7"))
    assert conv["layers"] == add["layers"] == ("Conv_5 + Add_6 + Relu_7",)
    assert conv["estimate"] and conv["split"] == "MACs and bytes"
    # the residual that Add brings in is a quarter of what moves; what Relu reads never reaches memory
    assert (conv["ms"], add["ms"], relu["ms"]) == pytest.approx((0.096805, 0.027099, 0.0), abs=1e-5)
    assert not nodes.loc["MaxPool_2", "estimate"]
    assert nodes.loc["Flatten_47", "reason"] == "no work left: the tensor is read as it lies in memory"
    assert math.isnan(nodes.loc["Flatten_47", "ms"])
    assert list(engine.not_executed.index) == ["Flatten_47"]
    alone = recorded.engine("fp32").nodes.loc["Relu_7"]
    assert alone["split"] == "equal parts" and alone["ms"] == pytest.approx(0.123904 / 3)


def test_sizes_precision_and_efficiency_of_a_convolution():
    row = recorded.engine("fp16").layers.loc["Conv_3 + Relu_4"]
    assert (row["op_type"], row["layer_type"], row["precision"]) == ("Convolution", "CaskConvolution", "FP16")
    assert (row["m"], row["n"], row["k"], row["groups"]) == (32 * 56 * 56, 64, 64 * 9, 1)
    assert row["macs"] == 32 * 56 * 56 * 64 * 64 * 9
    activation = 32 * 64 * 56 * 56 * 2
    assert (row["bytes_in"], row["bytes_out"]) == (activation, activation)
    assert row["weight_bytes"] == 36864 * 2 + 64 * 2
    assert row["intensity"] == pytest.approx(2 * row["macs"] / row["bytes"])
    assert row["compute_eff"] == pytest.approx(2 * row["macs"] / 312e12 / (row["ms"] / 1e3))
    assert row["memory_eff"] == pytest.approx(row["bytes"] / 1935e9 / (row["ms"] / 1e3))
    assert row["bound"] == "compute" and 0 < row["compute_eff"] < 1 and row["tensor_core"]
    assert (row["formats_in"], row["formats_out"]) == ("FP16 NHWC8", "FP16 NHWC8")


def test_macs_agree_with_the_onnx_model():
    model = recorded.resnet18()
    for variant in (
        "fp32",
        "fp16",
        "qat",
        "qat-residual",
    ):  # the last has a convolution with a pooling in one layer
        assert recorded.engine(variant).layers["macs"].sum() == model.macs


def test_tf32_is_told_from_fp32():
    math_ = recorded.engine("fp32").layers["math"]
    assert math_["Conv_0 + Relu_1"] == "FP32" and math_["Conv_3 + Relu_4"] == "TF32"


def test_quantize_layers_are_named_as_such():
    sums = recorded.engine("qat").by_op()
    assert sums.loc["Quantize", "layers"] == 10 and sums.loc["Quantize", "ms"] == pytest.approx(0.232448)
    assert recorded.engine("qat-residual").by_op()["layers"]["Dequantize"] == 1
    assert recorded.engine("qat").by_precision().loc["INT8", "layers"] == 32


def test_what_was_asked_for_and_what_is_done():
    asked = recorded.engine("fp16", joined=True).asked()
    assert len(asked) == 21 and set(asked["asked"]) == {"FP32"} and set(asked["done"]) == {"FP16"}
    assert not asked["agrees"].any()
    fp32 = recorded.engine("fp32", joined=True).asked()
    assert fp32["agrees"].all() and set(fp32["done"]) == {"FP32", "TF32"}
    with pytest.raises(EngineError, match="its ONNX model is not there; give Engine.load"):
        recorded.engine("fp32").asked()


def test_tensors():
    tensors = recorded.engine("fp32").tensors
    assert tensors.loc["input.1", "kind"] == "input" and tensors.loc["191", "kind"] == "output"
    row = tensors.loc["input.8"]
    assert (row["dtype"], row["layout"], row["shape"]) == ("FP32", "NHWC", (32, 64, 56, 56))
    assert row["consumers"] == ("Conv_3 + Relu_4", "Conv_5 + Add_6 + Relu_7")


def test_an_engine_serves_where_a_profile_does():
    a, b = recorded.engine("fp32", joined=True), recorded.engine("fp16", joined=True)
    assert isinstance(a, wb.Profile)
    changes = wb.profile_diff(a, b)
    assert changes.loc["Conv_3 + Relu_4", "ratio"] == pytest.approx(0.053248 / 0.108544)
    assert changes.attrs["latency_ms"] == (1.99072, 0.862183)
    overlay = wb.GraphView(recorded.resnet18(), overlay=b)
    assert overlay._overlay["unit"] == "ms"
    text = repr(a)
    assert (
        "32 layers, 2.124 ms together, 100.0% of it joined to nodes" in text
        and "a run takes 1.991 ms" in text
    )
    assert "Conv_0, Relu_1" in a._repr_html_()


def test_it_can_be_written_and_read(tmp_path):
    engine = recorded.engine("qat-residual")
    engine.to_json(tmp_path / "engine.json")
    again = Engine.from_json(tmp_path / "engine.json")
    assert again.layers.equals(engine.layers) and again.latency_ms == engine.latency_ms
    assert again.tensors.equals(engine.tensors) and repr(again) == repr(engine)
    with pytest.raises(EngineError, match="got format None, expected 'workbench.engine/1'"):
        Engine.from_json('{"Layers": []}')
    with pytest.raises(EngineError, match="it lacks or has too much: 'times'"):
        Engine.from_json('{"format": "workbench.engine/1"}')


# --- formats


@pytest.mark.parametrize(
    ("written_", "format_"),
    [("Row major linear FP32", ("FP32", "linear")),
     ("Channel major FP16 format where channel % 8 == 0", ("FP16", "NHWC8")),
     ("Thirty-two wide channel vectorized row major Int8 format", ("INT8", "CHW32")), ("Half", ("FP16", "")),
     ("Channel major BFloat16 format where channel % 4 == 0 with 3 spatial dimensions", ("BF16", "NDHWC4")),
     ("Row major linear FP8 format", ("FP8", "linear")), ("FP4E2M1", ("", "")), ("E2M1", ("FP4", "")),
     ("N/A due to dynamic shapes", ("", "")), ("UInt8", ("UINT8", "")), ("Float", ("FP32", ""))],
)  # fmt: skip
def test_formats(written_, format_):
    assert parse_format(written_) == format_


def test_bytes_count_what_the_layout_pads():
    assert Tensor("t", (1, 3, 4, 4), "FP16", "NHWC8").nbytes == 8 * 16 * 2
    assert Tensor("t", (1, 3, 4, 4), "INT8", "CHW32").nbytes == 32 * 16
    assert Tensor("t", (1, 3, 4, 4), "INT4", "linear").nbytes == 24
    assert Tensor("t", (-1, 3), "FP16", "linear").nbytes is None and Tensor("t", (2,), "").nbytes is None


@pytest.mark.parametrize("separator", ["\x1e", "\x1f", ""])
def test_metadata_with_every_separator(separator):
    text = written.onnx_layers("/a[0]/Conv", "b + c", separator=separator)
    assert mapping.in_metadata(text) == ["/a[0]/Conv", "b + c"]
    assert mapping.in_metadata(f"kernel 1 {text}") == ["/a[0]/Conv", "b + c"]


def test_names_of_fused_layers():
    assert mapping.parts("Conv_1 + Add_2 || Conv_3") == ["Conv_1", "Add_2", "Conv_3"]
    assert mapping.parts("PWN(PWN(Sigmoid_1), Mul_2)") == ["Sigmoid_1", "Mul_2"]
    assert mapping.parts("Conv_1\x1eRelu_2") == ["Conv_1", "Relu_2"]


@pytest.mark.parametrize("separator", ["\x1e", "\x1f", ""])
def test_myelin_layers_of_tensorrt_10(separator):
    engine = wb.tensorrt.load(written.myelin(separator), written.MYELIN_TIMES, model=written.attention())
    nodes = engine.layers["nodes"]
    mha = nodes["_gemm_mha_v2_myl0_3"]
    assert mha == ("/attn/Transpose", "/attn/MatMul", "/attn/Softmax", "/attn/MatMul_1")
    assert nodes["/attn/q/MatMul_myl0_1"] == ("/attn/q/MatMul",)
    # without metadata, joined by its tensors: the weight that it turns
    assert nodes["__myl_Tran_myl0_0"] == ("/attn/wk/Transpose",)
    assert engine.layers.loc["__myl_Tran_myl0_0", "mapped_by"] == "tensors"
    assert engine.mapped == 1.0
    # MACs that the layer does not tell come from its nodes
    assert engine.layers.loc["_gemm_mha_v2_myl0_3", "macs"] == 2 * 128 * 128 * 64
    assert engine.layers.loc["/attn/k/MatMul_myl0_2", ["m", "n", "k"]].tolist() == [128, 64, 64]
    assert list(engine.layers["stream"]) == [0, 0, 1, 0, 0]
    split = engine.nodes.loc[list(mha), "ms"]
    assert split.sum() == pytest.approx(0.08) and split["/attn/MatMul"] > 0


def test_myelin_layers_without_the_model_say_what_is_not_known():
    engine = wb.tensorrt.load(written.myelin(), written.MYELIN_TIMES)
    assert engine.mapped == pytest.approx(0.95)
    assert engine.unmapped["reason"].to_dict() == {
        "__myl_Tran_myl0_0": "a kernel of Myelin without metadata; its name holds no node"
    }
    assert math.isnan(engine.layers.loc["_gemm_mha_v2_myl0_3", "macs"])


def test_foreign_nodes_are_ranges():
    foreign = [
        written.layer(
            "{ForeignNode[/attn/q/MatMul.../attn/MatMul_1]}",
            "Myelin",
            [written.X],
            [written.tensor("unknown", 1)],
        )
    ]
    alone = wb.tensorrt.load({"Layers": foreign}).layers.iloc[0]
    assert (alone["nodes"], alone["joined"]) == (("/attn/q/MatMul", "/attn/MatMul_1"), "ends of a range")
    joined = wb.tensorrt.load({"Layers": foreign}, model=written.attention()).layers.iloc[0]
    assert joined["nodes"] == ("/attn/q/MatMul", "/attn/MatMul", "/attn/Softmax", "/attn/MatMul_1")
    assert joined["joined"] == "exact"
    gone = written.layer(
        "{ForeignNode[(Unnamed Layer* 3) [Constant]...(Unnamed Layer* 9) [Shuffle]]}", "Myelin", [], []
    )
    lost = wb.tensorrt.load({"Layers": [gone]}).layers.iloc[0]
    assert lost["joined"] == "a range of layers whose ends are no nodes"


def test_names_in_metadata_that_the_model_lacks():
    layers = [written.layer("k", "kgen", [], [], written.onnx_layers("/other/Conv"))]
    row = wb.tensorrt.load({"Layers": layers}, model=written.attention()).layers.iloc[0]
    assert row["joined"] == "its metadata names '/other/Conv', which the model does not have"


def test_constants_are_told_from_lost_nodes():
    layers = [entry for entry in written.myelin()["Layers"] if entry["Name"] != "__myl_Tran_myl0_0"]
    missing = wb.tensorrt.load({"Layers": layers}, model=written.attention()).not_executed
    assert missing["reason"].to_dict() == {
        "/attn/wk/Transpose": "constant: computed when the engine was built"
    }


# --- times


def _named(*names: str) -> dict:
    return {"Layers": [written.layer(name, "kgen", [], []) for name in names]}


def test_times_are_joined_by_name_never_by_position():
    engine = wb.tensorrt.load(_named("a", "b", "c"), written.trtexec([("c", 3.0), ("a", 1.0), ("b", 2.0)]))
    assert engine.layers["ms"].to_dict() == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_renamed_layers_are_found():
    engine = wb.tensorrt.load(_named("a\x1eb", "c  +  d"), written.trtexec([("a + b", 1.0), ("c + d", 2.0)]))
    assert list(engine.layers["ms"]) == [1.0, 2.0] and set(engine.layers["timed"]) == {"renamed"}


def test_duplicate_names():
    both = wb.tensorrt.load(_named("a", "b", "a"), written.trtexec([("a", 1.0), ("b", 2.0), ("a", 3.0)]))
    assert both.layers["ms"].to_dict() == {"a": 1.0, "b": 2.0, "a #2": 3.0}
    assert both.layers["timed"].to_dict() == {"a": "in order", "b": "exact", "a #2": "in order"}
    assert "1 of 3 layers have the name of another one: numbered #2, #3 ..." in both.missing
    fewer = wb.tensorrt.load(_named("a", "b", "a"), written.trtexec([("a", 1.0), ("b", 2.0)]))
    assert fewer.untimed["reason"].to_dict() == dict.fromkeys(
        ["a", "a #2"], "2 layers of this name, 1 times: cannot tell which is whose"
    )
    assert fewer.sum_ms == 3.0  # the time is there, under a row of its own
    assert fewer.layers.loc["a'", ["ms", "op_type"]].tolist() == [1.0, "unknown"]


def test_layers_without_times_and_times_without_layers():
    with pytest.warns(
        UserWarning, match=r"2 of 3 layers have no time .* 1 times \(4 ms\) belong to no layer"
    ):
        engine = wb.tensorrt.load(_named("a", "b", "c"), written.trtexec([("a", 1.0), ("lost", 4.0)]))
    assert list(engine.untimed.index) == ["b", "c"]
    assert engine.untimed["reason"]["b"] == "the profile has no layer of this name"
    assert engine.sum_ms == 5.0 and engine.layers.loc["a", "share"] == pytest.approx(0.2)


def test_statistics_of_older_profiles():
    old = [{"count": 4}, {"name": "a", "timeMs": 8.0}, {"name": "b"}]
    read = times.read(old)
    assert read.entries == [times.Time("a", 2.0)] and read.statistic == "total / count"
    assert read.missing == ["the profile has no time for 'b'"]
    assert times.read({"a": 0.5}).entries == [times.Time("a", 0.5)]  # what an IProfiler collects


# --- files that are damaged, poor or strange


def test_no_times():
    with pytest.warns(UserWarning, match="no times were given"):
        engine = wb.tensorrt.load(written.myelin(), model=written.attention())
    assert len(engine.table) == 0 and len(engine.layers) == 5
    assert math.isnan(engine.mapped) and math.isnan(engine.latency_ms)
    assert "5 layers, 5 joined to nodes; no times" in repr(engine)
    assert set(engine.untimed["reason"]) == {"no times were given"}
    assert len(engine.nodes) == 8 and engine.by_op().empty


def test_truncated_files(tmp_path):
    whole = recorded.path("fp32").read_text()
    cut = whole[: whole.index('"Name": "Conv_24 + Relu_25"') + 400]
    (tmp_path / "cut.graph.json").write_text(cut)
    times_text = recorded.path("fp32").with_name("resnet18-a100-fp32.profile.json").read_text()
    with pytest.warns(
        UserWarning, match=r"cut\.graph\.json is cut off or damaged \(.*\): 14 entries before that were read"
    ):
        engine = wb.tensorrt.load(tmp_path / "cut.graph.json", times_text[:3000])
    assert len(engine.layers[engine.layers["op_type"] != "unknown"]) == 14
    assert any("the text of the layer times is cut off or damaged" in what for what in engine.missing)
    # times whose layers are lost still say what they are for
    lost = engine.layers[engine.layers["op_type"] == "unknown"]
    assert lost.loc["Conv_24 + Relu_25", "nodes"] == ("Conv_24", "Relu_25")


def test_names_alone():
    with pytest.warns(
        UserWarning, match="the layers are names alone: .*build with --profilingVerbosity=detailed"
    ):
        engine = wb.tensorrt.load({"Layers": ["Conv_0 + Relu_1", "MaxPool_2"], "Bindings": ["x"]})
    assert engine.layers["nodes"].tolist() == [("Conv_0", "Relu_1"), ("MaxPool_2",)]
    assert set(engine.layers["op_type"]) == {"unknown"}


def test_a_list_of_layers_as_the_inspector_gives_them_one_by_one():
    each = [json.dumps(entry) for entry in written.myelin()["Layers"]]
    assert len(wb.tensorrt.load(each).layers) == 5
    assert len(wb.tensorrt.load(written.myelin()["Layers"]).layers) == 5


def test_tensorrt_11_splits_format_and_type():
    x = {
        "Name": "x",
        "Dimensions": [1, 3, 4, 4],
        "Datatype": "Half",
        "Format": "Channel major where channel % 8 == 0",
    }
    engine = wb.tensorrt.load([{"Name": "a", "LayerType": "gemm", "Inputs": [x], "Outputs": [x]}])
    assert engine.tensors.loc["x", ["dtype", "layout", "bytes"]].tolist() == ["FP16", "NHWC8", 8 * 16 * 2]


def test_an_unknown_version():
    strange = {"Version": 12, "Layers": [
        {"Name": "a", "Kind": "new", "Inputs": [{"Name": "x", "Shape": [1], "DataType": "FP6"}], "Outputs": ["y"]},
        {"NoName": 1},
    ]}  # fmt: skip
    with pytest.warns(UserWarning) as caught:
        engine = wb.tensorrt.load(strange)
    said = str(caught[0].message)
    for what in ("1 entries are no layers", "1 of 1 layers do not say their type", "1 tensors do not say their shape",
                 "data types that are not known: '(nothing)', 'FP6'"):  # fmt: skip
        assert what in said
    assert engine.layers.loc["a", "attributes"] == {"Kind": "new"}
    assert engine.tensors.loc["x", "shape"] == (1,)


def test_dynamic_shapes():
    layers = [written.layer("gemm", "gemm", [written.tensor("x", -1, 64)], [written.tensor("y", -1, 8)])]
    with pytest.warns(
        UserWarning,
        match="1 of 1 layers have dims that only a run decides: their bytes and MACs are not known",
    ):
        row = wb.tensorrt.load({"Layers": layers}).layers.iloc[0]
    assert math.isnan(row["macs"]) and math.isnan(row["bytes"])


def test_several_optimisation_profiles():
    times_ = written.trtexec([("fc1 [profile 1]", 3.0), ("act [profile 1]", 1.0)])
    with pytest.warns(
        UserWarning,
        match="the engine has 2 optimisation profiles, one copy of the layers for each; this is 1",
    ):
        engine = wb.tensorrt.load(written.two_profiles(), times_, shape_profile=1)
    assert engine.shape_profiles == (0, 1)
    assert engine.layers["ms"].to_dict() == {"fc1 [profile 1]": 3.0, "act [profile 1]": 1.0}
    assert engine.layers["nodes"].tolist() == [("fc1",), ("act",)]
    assert engine.layers["macs"].iloc[0] == 8 * 64 * 64
    assert list(wb.tensorrt.load(written.two_profiles()).layers.index) == ["fc1", "act"]
    with pytest.raises(
        EngineError, match="optimisation profile 2: its layers are of 0, 1; give shape_profile="
    ):
        wb.tensorrt.load(written.two_profiles(), shape_profile=2)


def test_a_loop_is_explored_and_drawn():
    engine = wb.tensorrt.load(written.loop(), written.profile(init=0.1, body=0.4, step=0.2, out=0.1))
    assert engine.tensors.loc["s", "producers"] == ("init", "step")
    assert engine.mapped == 1.0
    view = engine.view()
    names = view.model.nodes["inputs"]
    assert names["body"] == ("s", "s (2)")  # reads what init and what step wrote: a cycle
    assert view.selection == []


@pytest.mark.parametrize(
    ("given", "message"),
    [("{}", "got an object with nothing, expected 'Layers'; export with trtexec --exportLayerInfo"),
     ("[]", "it lists 0, none of them with a name"), ("[1, 2]", "it lists 2, none of them with a name"),
     ("not there.json", "cannot read the layer information from not there.json: No such file or directory"),
     ('[{"count": 1}, {"name": "a", "timeMs": 1}]', "these are times of layers; give them as profile="),
     ("{ nonsense", "got text that is not JSON"), (5, "got int, expected an object with 'Layers', or a list")],
)  # fmt: skip
def test_what_is_no_engine(given, message):
    with pytest.raises(EngineError, match="cannot read") as caught:
        wb.tensorrt.load(given)
    assert message.replace("profile=", "times_json=") in str(caught.value) or message in str(caught.value)


def test_what_are_no_times():
    with pytest.raises(EngineError, match="these are layers; give them as the first argument"):
        wb.tensorrt.load(written.loop(), written.loop())
    with pytest.raises(EngineError, match="got list without a layer and its time"):
        wb.tensorrt.load(written.loop(), "[]")


# --- GPUs


@pytest.mark.parametrize(
    ("name", "found"),
    [("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"), ("A100-SXM4-80GB", "A100 80GB SXM"), ("NVIDIA L4", "L4"),
     ("NVIDIA A100-SXM4-40GB", "A100 40GB"), ("Tesla T4", "T4"), ("NVIDIA GeForce RTX 4090", "RTX 4090"),
     ("NVIDIA H100 80GB HBM3", "H100 SXM"), ("h200", "H200"), ("NVIDIA H200 141GB HBM3e", "H200")],
)  # fmt: skip
def test_gpus_are_found_by_their_names(name, found):
    assert wb.tensorrt.gpu(name).name == found


@pytest.mark.parametrize(
    ("name", "why"),
    [("A100", "it could be A100 40GB or A100 80GB PCIe or A100 80GB SXM"), ("Voodoo 2", "it is not in the table"),
     ("NVIDIA GeForce RTX 4090 Laptop GPU", "it is not in the table"), ("NVIDIA H100 NVL", "it is not in the table")],
)  # fmt: skip
def test_gpus_that_are_not_known(name, why):
    with pytest.raises(EngineError, match="no peak figures for the GPU") as caught:
        wb.tensorrt.gpu(name)
    assert why in str(caught.value) and "wb.tensorrt.Gpu(name, tops, gb_per_s)" in str(caught.value)


def test_every_gpu_has_a_source_with_its_figures_and_finds_itself():
    for gpu in wb.tensorrt.GPUS:
        assert gpu.source.startswith("https://") and gpu.title.startswith("NVIDIA ") and gpu.read
        assert wb.tensorrt.gpu(gpu.name) is gpu
        said = gpu.says.split(" (")[0].split(", ")
        halves = [f"{precision} {2 * tops:g}*" for precision, tops in gpu.tops.items()]
        assert all(
            text in said or half in said
            for text, half in zip((f"{p} {tops:g}" for p, tops in gpu.tops.items()), halves, strict=True)
        )
        assert gpu.says.endswith(f"; {gpu.gb_per_s:g} GB/s")


def test_rates_with_sparsity_are_halved():
    h100, rtx = wb.tensorrt.gpu("H100 SXM"), wb.tensorrt.gpu("RTX 4090")
    assert "FP16 1979*" in h100.says and h100.rate("FP16") == 989.5e12
    assert rtx.rate("FP8") == 330.3e12 and rtx.rate("INT8") == 660.6e12
    assert (wb.tensorrt.gpu("L4").rate("TF32"), wb.tensorrt.gpu("L4").rate("FP8")) == (60e12, 242.5e12)


def test_peaks_can_be_given():
    mine = wb.tensorrt.Gpu("mine", {"FP16": 100.0}, 1000.0)
    engine = wb.tensorrt.load(recorded.path("fp16"), gpu=mine)
    row = engine.layers.loc["Conv_3 + Relu_4"]
    assert row["compute_eff"] == pytest.approx(2 * row["macs"] / 100e12 / (row["ms"] / 1e3))
    assert engine.gpu is mine
    unknown = wb.tensorrt.load(
        recorded.path("fp16"), metadata=[{"device_information": {"Selected Device": "GPU X"}}]
    )
    assert unknown.gpu is None and any(
        "no peak figures for the GPU 'GPU X'" in what for what in unknown.missing
    )
    assert math.isnan(unknown.layers["compute_eff"].max()) and set(unknown.layers["bound"]) == {None}


# --- what profile_diff says to engines without noise


def test_profile_diff_says_what_gained_and_that_the_noise_is_assumed():
    before, after = recorded.engine("fp32"), recorded.engine("fp16")
    found = wb.profile_diff(before, after)
    assert (
        found.status.value_counts().to_dict()
        == wb.tensorrt.diff(before, after).status.value_counts().to_dict()
    )
    first = found.loc["Conv_0 + Relu_1"]
    assert (first["status"], first["noise"]) == ("faster", "assumed: 3 %")
    assert first["noise_ms"] == pytest.approx(0.03 * first["ms_a"])
    assert set(found.noise) == {"assumed: 3 %"}
    assert set(wb.profile_diff(before, before).status) == {"same"}
    texts = str(wb.figures.before_after(before, after, 30).to_json())
    assert "within 3 %, noise not known" in texts and "within the noise" not in texts


def test_runs_that_are_told_one_by_one_tell_their_noise():
    runs = [{"latencyMs": ms} for ms in (1.0, 1.02, 1.04, 1.0, 1.1, 1.0, 1.02, 1.0, 1.04, 9.0)]
    made = [wb.tensorrt.load(recorded.path(name), metadata=[runs]) for name in ("fp32", "fp16")]
    assert made[0].latency_ms == pytest.approx(1.02) and made[0].latency_p95_ms > 5
    assert 0.0 < made[0].noise < 0.1
    found = wb.profile_diff(*made)
    assert set(found.noise) == {"measured"}
    assert found.loc["Conv_0 + Relu_1", "status"] == "faster"


def test_engines_tell_no_noise():
    with pytest.raises(ProfileError, match="expected two profiles"):
        wb.profile_diff(recorded.engine("fp32"), 1)


# --- plans, and engines that were built here


def test_a_plan_needs_the_library_and_its_gpu(rtx, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.tensorrt.plan.using", lambda worker, backend, timeout: nullcontext(rtx))
    built = wb.tensorrt.build(mlp(), worker=rtx, progress=False, compute_capabilities=["8.6"])
    built.save(tmp_path / "model.plan")
    with pytest.raises(
        EngineError, match=r"cannot look into the plan of 'model': tensorrt_rtx [\d.]+ does not deseriali"
    ) as caught:
        wb.tensorrt.load(tmp_path / "model.plan")
    assert "--exportLayerInfo=layers.json --exportProfile=times.json; then load these" in str(caught.value)
    with pytest.raises(EngineError, match="cannot read the plan from nowhere.plan: No such file"):
        wb.tensorrt.load("nowhere.plan")


def test_a_plan_without_the_library(monkeypatch):
    def gone(*args):
        raise BackendNotInstalled("tensorrt is not installed")

    monkeypatch.setattr("workbench.tensorrt.plan.using", gone)
    with pytest.raises(BackendNotInstalled):
        wb.tensorrt.load(b"plan")


def test_a_build_without_a_gpu_shows_the_network_and_says_so(rtx):
    engine = wb.tensorrt.build(mlp(), worker=rtx, progress=False, compute_capabilities=["8.6"])
    assert not engine.fused and engine.meta["runtime"] == "tensorrt_rtx"
    assert engine.missing == [
        "built without a GPU: these are the network's layers as parsed, before they are fused", "no times were given",
    ]  # fmt: skip
    work = engine.layers[engine.layers["op_type"] != "Constant"]
    assert len(work) and work["nodes"].map(bool).all()
    assert set(engine.model.nodes.index) == {node for nodes in work["nodes"] for node in nodes}
    assert len(engine.plan) > 1000 and engine.seconds > 0 and len(engine.log)
    assert "joined to nodes; no times" in repr(engine)
    engine.view(beside=engine.model.view()).selection = [work.index[0]]
    assert engine.graph.nodes.loc[work.index[0], "outputs"]


def test_an_engine_from_files_has_no_plan():
    with pytest.raises(AttributeError, match="has no 'plan': it was read from files, not built here"):
        _ = recorded.engine("fp32").plan
    with pytest.raises(AttributeError, match="'Engine' object has no attribute 'nothing'"):
        _ = recorded.engine("fp32").nothing


@pytest.mark.parametrize(
    ("written", "kind"),
    [("SHUFFLE", "Shuffle"), ("Shuffle", "Shuffle"), ("SOFTMAX", "SoftMax"), ("Softmax", "SoftMax"), ("TOPK", "TopK"),
     ("GRID_SAMPLE", "GridSample"), ("NMS", "NMS"), ("PointWise", "PointWise"), ("kgen", "Myelin"),
     ("MATRIX_MULTIPLY", "Gemm"), ("PARAMETRIC_RELU", "ParametricReLU"), ("CudnnRNN", "CudnnRNN")],
)  # fmt: skip
def test_a_kind_of_layer_has_one_name(written, kind):
    engine = wb.tensorrt.load([{"Name": "one", "LayerType": written}])
    assert engine.layers.loc["one", ["op_type", "layer_type"]].tolist() == [kind, written]
