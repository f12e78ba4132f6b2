"""Two profiles side by side."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import workbench as wb
from workbench.errors import ProfileError
from workbench.profile import Peaks, Profile


def layer(name: str, ms: float, nodes: list[str], joined: str = "exact", noise: float = 0.02) -> dict:
    return {
        "layer": name, "op_type": name.split("_")[0], "nodes": nodes, "joined": joined, "origins": nodes,
        "scope": "", "parent": "", "calls": 1, "inner_calls": 0, "ms": ms, "p95_ms": ms, "noise": noise,
        "macs": 0, "bytes": 8, "int8": False, "shapes": "",
    }  # fmt: skip


def profile_of(layers: list[dict], peaks: Peaks, noise: float | None = 0.05) -> Profile:
    meta = {"runtime": "r", "version": "1", "threads": 0, "optimize": "all", "runs": 2, "recorded_ms": 2.0}
    return Profile(
        {
            "model": "m",
            "meta": meta,
            "latency": [[1.0], [3.0]],
            "recorded": [[2.0], [2.0]],
            "noise": noise,
            "layers": layers,
            "not_executed": [],
            "peaks": vars(peaks),
        }
    )


def test_fused_and_separate_layers_meet(peaks: Peaks) -> None:
    a = profile_of(
        [
            layer("Conv_1", 4.0, ["c1"]),
            layer("Relu_1", 2.0, ["r1"]),
            layer("Conv_2", 3.0, ["c2"]),
            layer("Pool", 1.0, ["p"]),
            layer("Slow", 1.0, ["s"]),
            layer("Foo", 0.5, [], joined="no idea"),
            layer("Old", 0.25, ["o"]),
        ],
        peaks,
    )
    b = profile_of(
        [
            layer("ReorderInput", 0.5, ["c1", "r1"], joined="inserted before"),
            layer("FusedConv_1", 3.5, ["c1", "r1"]),
            layer("Conv_2", 3.1, ["c2"]),
            layer("Pool", 1.02, ["p"]),
            layer("Slow", 1.5, ["s"]),
            layer("Foo", 0.5, [], joined="no idea"),
            layer("New", 0.75, ["n"]),
        ],
        peaks,
    )
    d = wb.profile_diff(a, b)
    assert d["status"].to_dict() == {
        "FusedConv_1": "faster", "New": "appeared", "Slow": "slower", "Old": "disappeared", "Conv_2": "same",
        "Pool": "same", "Foo": "same",
    }  # fmt: skip
    assert list(d.index)[:3] == ["FusedConv_1", "New", "Slow"]
    fused = d.loc["FusedConv_1"]
    assert (fused.ms_a, fused.ms_b, fused.delta_ms) == (6.0, 4.0, -2.0)
    assert fused.ratio == pytest.approx(2 / 3)
    assert fused.layers_a == ("Conv_1", "Relu_1")
    assert fused.layers_b == ("ReorderInput", "FusedConv_1")
    assert fused.nodes == ("c1", "r1")
    assert math.isnan(d.loc["New"].ms_a) and math.isnan(d.loc["Old"].ms_b) and math.isnan(d.loc["New"].ratio)
    assert d["ms_a"].sum() == pytest.approx(a.sum_ms)
    assert d["ms_b"].sum() == pytest.approx(b.sum_ms)
    assert d["delta_ms"].sum() == pytest.approx(b.sum_ms - a.sum_ms)
    assert d.attrs["latency_ms"] == (2.0, 2.0)


def test_a_change_within_the_noise_is_none(peaks: Peaks) -> None:
    def status(ms: float, noise: float | None, of_layer: float) -> str:
        sides = [profile_of([layer("x", t, ["x"], noise=of_layer)], peaks, noise) for t in (10.0, ms)]
        return wb.profile_diff(*sides)["status"].iloc[0]

    assert status(10.5, 0.05, 0.0) == "same"  # 5 % of both: 1.0 ms
    assert status(11.2, 0.05, 0.0) == "slower"
    assert status(8.8, 0.05, 0.0) == "faster"
    assert status(11.2, 0.05, 0.2) == "same"  # the layer's own noise is larger
    assert status(99.0, None, 0.0) == "same"  # not known: nothing can be said


def test_a_node_that_two_layers_share_does_not_merge_them(peaks: Peaks) -> None:
    layers = [
        layer("a", 1.0, ["identity", "a"]),
        layer("b", 2.0, ["identity", "b"]),
        layer("dq", 0.5, ["dq"]),
        layer("dq/duplicated", 0.5, ["dq"]),
    ]
    d = wb.profile_diff(profile_of(layers, peaks), profile_of(layers, peaks))
    assert sorted(d["layers_a"]) == [("a",), ("b",), ("dq", "dq/duplicated")]
    assert (d["layers_a"] == d["layers_b"]).all()
    assert (d["status"] == "same").all()


@pytest.mark.parametrize("name", ["ppocr_rec", "silero_vad", "minilm_int8", "residual_block"])
def test_a_model_before_and_after_the_optimiser(profiled: Callable[..., Profile], name: str) -> None:
    a, b = profiled(name, optimize="none"), profiled(name)
    d = wb.profile_diff(a, b)
    assert d["ms_a"].sum() == pytest.approx(a.sum_ms)
    assert d["ms_b"].sum() == pytest.approx(b.sum_ms)
    assert sorted(x for row in d["layers_a"] for x in row) == sorted(a.table.index)
    assert sorted(x for row in d["layers_b"] for x in row) == sorted(b.table.index)
    assert "appeared" not in set(d["status"])  # the optimiser makes nothing that was not there
    assert d["layers_a"].map(len).max() > 1 or name == "silero_vad"
    same = wb.profile_diff(b, b)
    assert set(same["status"]) == {"same"}
    assert (same["layers_a"] == same["layers_b"]).all()


def test_an_edited_model_is_aligned_by_the_origins_of_its_nodes(peaks: Peaks) -> None:
    import json

    import onnx
    from onnx import parser

    text = '<ir_version: 8, opset_import: ["": 17]> g (float[64,64] x) => (float[64,64] y) { %s }'
    before = parser.parse_model(text % "[mul] a = MatMul(x, x) [bias] b = Add(a, x) [act] y = Relu(b)")
    after = parser.parse_model(text % "[gemm] b = Gemm(x, x, x) [act_new] y = Relu(b)")
    for node, origins in zip(after.graph.node, (["mul", "bias"], ["act"]), strict=True):
        node.metadata_props.append(
            onnx.StringStringEntryProto(key="workbench.origins", value=json.dumps(origins))
        )
    a, b = (
        wb.profile(m, optimize="none", runs=2, warmup=0, peaks=peaks, progress=False) for m in (before, after)
    )
    assert b.table.loc["gemm", "nodes"] == ("gemm",)
    assert b.table.loc["gemm", "origins"] == ("mul", "bias")
    d = wb.profile_diff(a, b)
    assert d.loc["gemm", "layers_a"] == ("mul", "bias")
    assert d.loc["act_new", "layers_a"] == ("act",)
    np.testing.assert_allclose([d["ms_a"].sum(), d["ms_b"].sum()], [a.sum_ms, b.sum_ms])


def test_only_profiles_are_compared(peaks: Peaks) -> None:
    with pytest.raises(
        ProfileError, match="profile_diff: got str, expected two profiles made by workbench.profile"
    ):
        wb.profile_diff("a", profile_of([], peaks))


def test_profiles_of_models_with_other_nodes_are_said_to_be(peaks: Peaks) -> None:
    a = profile_of([layer("Conv_a", 1.0, ["one"]), layer("Add_a", 0.5, ["two"])], peaks)
    b = profile_of([layer("Conv_b", 1.0, ["uno"]), layer("Add_b", 0.5, ["two"])], peaks)
    said = r"profile_diff: 67% of the time is in layers .* models with other nodes, or with other names for them$"
    with pytest.warns(UserWarning, match=said):
        changes = wb.profile_diff(a, b)
    assert sorted(changes["status"]) == ["appeared", "disappeared", "same"]
    for each in (a, b):
        each.meta["runtime"] = "tensorrt_rtx"
    with pytest.warns(UserWarning, match=r"workbench\.tensorrt\.diff\(a, b\) aligns such engines by what"):
        wb.profile_diff(a, b)
