"""Profiles of real models, with numbers."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import real_models
from onnx import parser

import workbench as wb
from workbench.backends import Worker
from workbench.errors import BackendFailed, ModelError, ProfileError
from workbench.profile import Peaks, Profile

LIGHT = ("light_resnet50", "light_shufflenet", "light_inception_v2", "light_densenet121")


def model(body: str, inputs: str = "float[2,3] x", opsets: str = '"": 17') -> object:
    return parser.parse_model(
        f"<ir_version: 8, opset_import: [{opsets}]> g ({inputs}) => (float[?,?] y) {{ {body} }}"
    )


@pytest.mark.parametrize("name", [*real_models.REAL_MODELS, *LIGHT])
def test_the_time_of_real_models_is_joined_to_their_nodes(
    profiled: Callable[..., Profile], name: str
) -> None:
    profile = profiled(name)
    table = profile.table
    nodes = {name for names in table["nodes"] for name in names}
    assert profile.mapped >= 0.95
    assert profile.mapped + profile.unmapped["share"].sum() == pytest.approx(1.0)
    assert nodes.isdisjoint(profile.not_executed.index)
    every = {node.name for node in wb.load(real_models.find(name)).ir.graph.all_nodes()}
    assert nodes | set(profile.not_executed.index) == every
    assert table.index.is_unique
    assert table["share"].sum() == pytest.approx(1.0)
    assert profile.sum_ms == pytest.approx(table["ms"].sum())
    assert (table["p95_ms"] >= table["ms"]).all()
    assert set(table["joined"]) <= {"exact", "shared", "inserted before", "inserted after"}
    assert table["bytes"].notna().mean() > 0.95
    assert table["macs"].notna().all()
    for sums in (profile.by_op(), profile.by_scope(), profile.by_scope(9)):
        assert sums["ms"].sum() == pytest.approx(profile.sum_ms)
        assert sums["layers"].sum() == len(table)


def test_what_is_fused_is_told(profiled: Callable[..., Profile]) -> None:
    table = profiled("ppocr_rec").table
    assert len(table) < 300 < len(profiled("ppocr_rec", optimize="none").table)
    gelu = table[table["op_type"] == "Gelu"]
    assert len(gelu) == 13
    types = wb.load(real_models.find("ppocr_rec")).nodes["op_type"]
    for names in gelu["nodes"]:
        assert sorted(t for t in types[list(names)] if t != "Identity") == ["Add", "Div", "Erf", "Mul", "Mul"]
    convs = table[table["op_type"] == "Conv"]
    assert len(convs) == 57
    assert all("Conv" in set(types[list(names)]) for names in convs["nodes"])
    assert sum(types[name] == "Conv" for names in convs["nodes"] for name in names) == 57


@pytest.mark.parametrize(
    ("name", "macs"),
    [("light_resnet50", 4_089_184_256), ("residual_block", None), ("ppocr_rec", None), ("minilm_int8", None)],
)
def test_macs_are_those_of_the_model(profiled: Callable[..., Profile], name: str, macs: int | None) -> None:
    fused, plain = profiled(name).table["macs"].sum(), profiled(name, optimize="none").table["macs"].sum()
    assert macs is None or plain == macs
    assert fused == pytest.approx(plain, rel=0.02)  # blocked layouts pad the channels


def test_a_known_layer(peaks: Peaks) -> None:
    product = model("[product] t = MatMul(x, x) [sum] y = Add(t, x)", "float[256,256] x")
    profile = wb.profile(
        product, optimize="none", runs=6, warmup=2, threads=1, seed=7, peaks=peaks, progress=False
    )
    table = profile.table
    assert list(table.index) == ["product", "sum"]
    assert table["macs"].to_dict() == {"product": 256**3, "sum": 0}
    assert table["bytes"].to_dict() == {"product": 3 * 256 * 256 * 4, "sum": 3 * 256 * 256 * 4}
    assert table["intensity"].to_dict() == pytest.approx({"product": 2 * 256 / 12, "sum": 0})
    assert table["bound"].to_dict() == {"product": "compute", "sum": "memory"}
    assert table.loc["product", "shapes"] == "float32[256,256], float32[256,256] -> float32[256,256]"
    assert table.loc["product", "gain_ms"] == max(0, table.loc["product", "ms"] - 2000 * 256**3 / 1e11)
    assert profile.meta["runs"] == 6 and profile.meta["warmup"] == 2
    assert (profile.meta["threads"], profile.meta["optimize"], profile.meta["seed"]) == (1, "none", 7)
    assert profile.meta["inputs"] == {"x": "float32[256,256]"}
    assert set(profile.meta) >= {"runtime", "version", "provider", "machine", "clock", "date", "recorded_ms"}
    assert 0 < profile.latency_ms <= profile.latency_p95_ms


def test_a_loop_s_body_counts_as_often_as_it_runs(peaks: Peaks) -> None:
    body = "b (int64 i, bool d, float[64,64] v) => (bool d, float[64,64] w) { [inner] w = MatMul(v, v) }"
    text = f"[loop] y = Loop (n, c, x) <body = {body}>"
    loop = model(text, "int64 n, bool c, float[64,64] x")
    feed = {"n": np.int64(5), "c": np.bool_(True), "x": np.zeros((64, 64), np.float32)}
    table = wb.profile(loop, inputs=feed, runs=3, peaks=peaks, progress=False).table
    assert table.loc["inner", "calls"] == 5
    assert table.loc["inner", "macs"] == 5 * 64**3
    assert table.loc["inner", "parent"] == "loop"
    assert table.loc["inner", "nodes"] == ("inner",)
    assert table.loc["loop", "nodes"] == ("loop",)


def test_nodes_that_the_runtime_leaves_unnamed_are_joined_too(peaks: Peaks) -> None:
    """ONNX Runtime expands GroupNormalization into nodes without a name, and casts for float16."""
    group = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18]>
        g (float[1,4,8,8] x, float[2] s, float[2] b) => (float[1,4,8,8] y) {
            [first] a = Abs(x)
            [group] y = GroupNormalization <num_groups = 2> (a, s, b)
        }"""
    )
    profile = wb.profile(group, runs=2, peaks=peaks, progress=False)
    assert len(profile.table) > 20 and profile.mapped == 1.0
    assert set(profile.table["nodes"]) == {("first",), ("group",)}
    half = model("[product] t = MatMul(x, x) [act] y = Relu(t)", "float16[4,4] x")
    half.graph.output[0].type.tensor_type.elem_type = 10
    profile = wb.profile(half, runs=2, peaks=peaks, progress=False)
    assert profile.mapped == 1.0
    assert {"Cast", "MatMul"} <= set(profile.table["op_type"])
    assert {name for names in profile.table["nodes"] for name in names} == {"product", "act"}


@pytest.mark.parametrize("dtype", ["bfloat16", "string", "int64"])
def test_any_dtype_can_be_fed_and_made(peaks: Peaks, dtype: str) -> None:
    text = f"g ({dtype}[2,3] x) => ({dtype}[2,3] y) {{ [n] y = Identity(x) }}"
    through = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    profile = wb.profile(through, runs=2, warmup=0, peaks=peaks, progress=False)
    assert profile.table["nodes"].to_dict() == {"n": ("n",)}
    assert profile.meta["inputs"]["x"].endswith("[2,3]")


def test_a_large_model_is_not_held_twice(monkeypatch: pytest.MonkeyPatch, peaks: Peaks) -> None:
    monkeypatch.setattr(importlib.import_module("workbench.profile.record"), "_TOGETHER", 0)
    profile = wb.profile(real_models.find("residual_block"), runs=2, warmup=1, peaks=peaks, progress=False)
    assert profile.mapped == 1.0 and len(profile.table) == 7


def test_weights_in_files_stay_there(tmp_path: Path, peaks: Peaks) -> None:
    proto = onnx.load(real_models.find("residual_block"))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    profile = wb.profile(tmp_path / "m.onnx", runs=2, warmup=1, peaks=peaks, progress=False)
    assert profile.mapped == 1.0 and len(profile.table) == 7


def test_without_the_optimised_graph_only_names_are_joined(
    monkeypatch: pytest.MonkeyPatch, peaks: Peaks
) -> None:
    load = Worker.load

    def full_disk(worker: Worker, proto: bytes, **options: object) -> object:
        if options.get("graph"):
            raise BackendFailed("no space left on device")
        return load(worker, proto, **options)

    monkeypatch.setattr(Worker, "load", full_disk)
    take = functools.partial(
        wb.profile, real_models.find("residual_block"), runs=2, warmup=1, peaks=peaks, progress=False
    )
    assert take(optimize="none").mapped == 1.0
    fused = take()
    assert fused.mapped == pytest.approx(0.0)
    assert set(fused.unmapped["reason"]) == {
        "the runtime could not write its optimised graph: no space left on device"
    }
    assert fused.table["macs"].isna().all() and fused.table["bound"].isna().all()
    assert fused.to_json() and repr(fused) and len(fused.by_op())


def test_layers_inside_branches_are_counted_once(profiled: Callable[..., Profile]) -> None:
    profile = profiled("silero_vad")
    table = profile.table
    assert table["parent"].str.count("/If").max() >= 1
    assert (table["parent"] != "").sum() > 40
    assert profile.sum_ms <= 1.1 * profile.meta["recorded_ms"]
    reasons = profile.not_executed["reason"].value_counts()
    assert reasons["constant: computed when the model was loaded"] == 437
    assert reasons[reasons.index.str.contains("branch not taken")].sum() == 176
    assert profile.not_executed["reason"].str.startswith("in a body of 'If_0").sum() > 100


def test_scopes_come_from_names_and_metadata(profiled: Callable[..., Profile]) -> None:
    by_scope = profiled("style_predict").by_scope(2)
    assert {"MobilenetV2/Conv", "MobilenetV2/expanded_conv_12"} <= set(by_scope.index)
    assert by_scope["ms"].is_monotonic_decreasing
    with pytest.raises(ProfileError, match="by_scope: got depth=0, expected 1 or more"):
        profiled("style_predict").by_scope(0)

    from workbench.profile.layers import _scope

    assert _scope("n", {"pkg.torch.onnx.name_scopes": "['', 'layer1', 'layer1.0', 'conv2d']"}) == (
        "layer1",
        "0",
    )
    assert _scope("n", {"namespace": ": Net/layer1: Layer/layer1.0: Block/conv: op"}) == ("layer1", "0")
    assert _scope("encoder/0/Conv", {}) == ("encoder", "0")
    assert _scope("Conv_0", {}) == ()


def test_repeated_profiles_agree_within_their_noise(profiled: Callable[..., Profile], peaks: Peaks) -> None:
    path = real_models.find("light_shufflenet")
    a, b = (wb.profile(path, runs=15, threads=1, peaks=peaks, progress=False) for _ in range(2))
    for one in (a, b):
        assert 0 < one.noise < 5
    apart = abs(a.latency_ms - b.latency_ms) / min(a.latency_ms, b.latency_ms)
    assert apart <= a.noise + b.noise + 0.15
    d = wb.profile_diff(a, b)
    assert set(d["status"]) <= {"same", "faster", "slower"}
    assert d.loc[d["status"] == "same", "ms_a"].sum() >= 0.7 * a.sum_ms


def test_one_run_has_no_noise(profiled: Callable[..., Profile]) -> None:
    profile = profiled("residual_block", runs=1)
    assert np.isnan(profile.noise) and profile.table["noise"].isna().all()
    assert "noise unknown, 1 runs" in repr(profile)
    assert set(wb.profile_diff(profile, profile)["status"]) == {"same"}


def test_a_profile_survives_as_json(profiled: Callable[..., Profile], tmp_path: Path) -> None:
    profile = profiled("silero_vad_half")
    text = profile.to_json(tmp_path / "profile.json")
    for source in (text, tmp_path / "profile.json", str(tmp_path / "profile.json")):
        again = Profile.from_json(source)
        pd.testing.assert_frame_equal(again.table, profile.table)
        assert again.to_json() == text
        assert (again.latency_ms, again.noise, again.meta) == (
            profile.latency_ms,
            profile.noise,
            profile.meta,
        )
    for bad, reason in (
        ("[1]", r"cannot read a profile from .*bad.json: got format 'list', expected 'workbench.profile/1'"),
        ("{", "cannot read a profile from .*bad.json: Expecting property name"),
        (json.dumps({"format": "workbench.profile/1"}), "it lacks or has too much: 'model'"),
    ):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(ProfileError, match=reason):
            Profile.from_json(tmp_path / "bad.json")
    with pytest.raises(ProfileError, match="cannot read a profile from .*none.json: .*No such file"):
        Profile.from_json(tmp_path / "none.json")


def test_it_shows_itself(profiled: Callable[..., Profile]) -> None:
    profile = profiled("ppocr_rec")
    text, page = repr(profile), profile._repr_html_()
    assert text.startswith(
        f"Profile of PP-OCRv6_rec_small on onnxruntime {profile.meta['version']}, optimize=all,"
    )
    assert "195 layers, " in text and "100.0% of it joined to nodes" in text
    assert "in layers that the runtime inserted to move data" in text
    assert len(text.splitlines()) <= 15
    assert page.startswith("<b>Profile of PP-OCRv6_rec_small") and "<table" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 0}, "cannot profile 'g': got runs=0, expected a whole number of at least 1"),
        ({"runs": 2.5}, "cannot profile 'g': got runs=2.5, expected a whole number of at least 1"),
        ({"warmup": -1}, "cannot profile 'g': got warmup=-1, expected a whole number of at least 0"),
        ({"threads": 0}, "cannot profile 'g': got threads=0, expected a whole number of at least 1"),
        ({"backend": "foo"}, "cannot profile 'g': got backend='foo', expected one of onnxruntime, cuda"),
        ({"optimize": 2}, "cannot profile 'g': got optimize=2, expected one of none, basic, extended, all"),
        ({"inputs": iter(())}, "cannot profile 'g': inputs holds no item, expected at least one"),
    ],
)
def test_arguments_that_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(ProfileError) as raised:
        wb.profile(model("y = Abs(x)"), progress=False, **options)
    assert str(raised.value) == message


def test_a_model_that_does_not_load_or_run_names_the_node() -> None:
    with pytest.raises(
        BackendFailed, match=r"com.microsoft:Bar\(-1\) is not a registered function/op \(node 'odd'\)"
    ) as error:
        wb.profile(model("[odd] y = com.microsoft.Bar(x)", opsets='"": 17, "com.microsoft": 1'), progress=False)
    assert (error.value.backend, error.value.model, error.value.phase) == ("onnxruntime", "g", "load")
    shapes = model("[odd] y = MatMul(x, z)", "float[N,3] x, float[M,3] z")
    with pytest.raises(BackendFailed, match="could not profile 'g'.*MatMul node. Name:'odd'") as error:
        wb.profile(shapes, shapes={"N": 2, "M": 5}, progress=False)
    assert error.value.phase == "profile"
    with pytest.raises(ModelError):
        wb.profile(b"no model", progress=False)


def test_an_interrupt_ends_the_worker(monkeypatch: pytest.MonkeyPatch, peaks: Peaks) -> None:
    import psutil

    def children() -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)}

    before = children()

    class Interrupting:
        def __enter__(self) -> Interrupting:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, runs: int) -> None:
            if runs:
                raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["workbench.profile"], "_bar", lambda *_: Interrupting())
    with pytest.raises(KeyboardInterrupt):
        wb.profile(model("y = Abs(x)"), peaks=peaks)
    assert children() <= before
