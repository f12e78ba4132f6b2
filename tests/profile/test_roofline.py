"""Peaks of the machine and the distance of a layer to them."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

import pytest
import real_models

import workbench as wb
from workbench.backends import Worker
from workbench.profile import Peaks, roofline


def layer(
    ms: float, macs: int | None, moved: int | None, *, int8: bool = False, calls: int = 1, inner: int = 0
) -> dict:
    return {"ms": ms, "macs": macs, "bytes": moved, "int8": int8, "calls": calls, "inner_calls": inner}


@pytest.mark.parametrize(
    ("given", "bound", "gain_ms", "intensity", "above"),
    [
        (layer(5.0, 10**8, 10**6), "compute", 3.0, 200.0, False),  # 0.2 GFLOP at 100 GFLOP/s: 2 ms
        (layer(5.0, 10**8, 10**6, int8=True), "compute", 4.5, 200.0, False),  # four times the rate
        (layer(5.0, 10**6, 2 * 10**7), "memory", 3.0, 0.1, False),  # 20 MB at 10 GB/s: 2 ms
        (layer(1.5, 10**6, 2 * 10**7), "memory", 0.0, 0.1, True),
        (layer(0.010, 0, 400), "overhead", 0.009, 0.0, False),
        (layer(0.010, 0, 400, calls=4), "overhead", 0.006, 0.0, False),
        (layer(0.010, 0, 400, inner=8), "overhead", 0.001, 0.0, False),  # a loop that calls eight layers
        (layer(0.0005, 0, 400), "overhead", 0.0, 0.0, False),
    ],
)
def test_roofline_of_a_layer(
    peaks: Peaks, given: dict, bound: str, gain_ms: float, intensity: float, above: bool
) -> None:
    found = peaks.judge(given)
    assert found["bound"] == bound
    assert found["gain_ms"] == pytest.approx(gain_ms)
    assert found["intensity"] == pytest.approx(intensity)
    assert found["above_peak"] is above


def test_small_layers_are_measured_against_the_caches() -> None:
    peaks = Peaks(1e11, 4e11, 1e10, 0.001, caches=((10**5, 8e10), (10**6, 2e10), (10**7, 3e10)))
    assert [peaks.bandwidth(n) for n in (1, 10**5, 10**5 + 1, 10**7, 10**8)] == [8e10, 8e10, 3e10, 3e10, 1e10]
    assert peaks.judge(layer(1.0, 0, 10**5))["gain_ms"] == pytest.approx(1.0 - 0.00125)
    twice = peaks.judge(layer(1.0, 0, 2 * 10**5, calls=2))
    assert twice["gain_ms"] == pytest.approx(1.0 - 0.0025)


@pytest.mark.parametrize("given", [layer(1.0, None, 100), layer(1.0, 100, None)])
def test_unknown_work_is_not_judged(peaks: Peaks, given: dict) -> None:
    found = peaks.judge(given)
    assert found["bound"] is None
    assert math.isnan(found["gain_ms"]) and math.isnan(found["intensity"])
    assert found["above_peak"] is False


def test_peaks_are_measured_once_and_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(roofline, "_ROUNDS", 1)
    monkeypatch.setattr(roofline, "_SECONDS", 0.02)
    with Worker("onnxruntime") as worker:
        measured = Peaks.measure(worker=worker, threads=1)
        (file,) = (tmp_path / "workbench").iterdir()
        assert 1e9 < measured.flops < 1e15
        assert measured.flops < measured.int8_ops * 4 < 1e16
        assert 1e8 < measured.bytes_per_s < 1e13
        assert 0 < measured.overhead_ms < 1
        assert measured.threads == 1
        assert measured.runtime == f"onnxruntime {worker.version}"
        assert measured.machine.endswith("cores")
        assert len(measured.caches) == 4
        assert Peaks(**json.loads(file.read_text())) == measured

        changed = {**json.loads(file.read_text()), "flops": 123.0}
        file.write_text(json.dumps(changed))
        assert Peaks.measure(worker=worker, threads=1).flops == 123.0
        assert Peaks.measure(worker=worker, threads=1, refresh=True).flops > 1e9
        assert json.loads(file.read_text())["overhead_ms"] <= measured.overhead_ms
        file.write_text(json.dumps({**changed, "date": "yesterday"}))
        assert Peaks.measure(worker=worker, threads=1).flops > 1e9
        file.write_text('{"of another version": 1}')
        assert Peaks.measure(worker=worker, threads=1).flops > 1e9
        assert json.loads(file.read_text())["flops"] > 1e9


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "workbench").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(roofline, "_measure", lambda worker, threads: (1e9, 2e9, 3e9, 0.001, ()))
    assert Peaks.measure().bytes_per_s == 3e9


def test_old_peaks_that_many_layers_exceed_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = iter([(1e6, 1e6, 1e6, 0.001, ()), (1e12, 1e12, 1e11, 0.002, ())])
    monkeypatch.setattr(roofline, "_measure", lambda worker, threads: next(measured))
    take = functools.partial(wb.profile, real_models.find("residual_block"), runs=1, warmup=1, progress=False)
    first = take()
    assert first.peaks.flops == 1e6 and first.table["above_peak"].sum() > 3
    assert take().peaks == first.peaks  # measured a moment ago
    (file,) = (tmp_path / "workbench").iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "date": "2020-01-01T00:00:00Z"}))
    again = take()
    assert (again.peaks.flops, again.peaks.overhead_ms) == (1e12, 0.001)  # the better of both
    assert not again.table["above_peak"].any()
