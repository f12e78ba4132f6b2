"""The GPU bench without a GPU: its tables are those of the README, and what it could not measure is said."""

from __future__ import annotations

import argparse
import json

import pytest
from plugins.no_gpu import Worker

from tests.gpu import __main__ as bench
from tests.gpu import record


def given(**changed) -> argparse.Namespace:
    options = {"output": None, "parts": "kernels", "only": "FusedGelu", "runs": 3, "budget": 60.0, "tests": None}
    return argparse.Namespace(**options | changed)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench, "ELEMENTWISE", [(4, 8), (16, 8)])
    monkeypatch.setattr(bench, "measure_rates", lambda worker: bench.Rates(1e12, {"float32": 5e13}))


def test_the_readme_holds_what_is_recorded():
    assert record.README.read_text() == record.readme()
    recorded = json.loads((record.RECORDS / "h200.json").read_text())
    assert "| FusedGelu | CUDA | float32 | 95 to 98 % | 6.0 to 6.1 | 1.6 |" in record.kernels(recorded)
    assert "| plugins | 0.321 | not measured | 0.0006 |" in record.block(recorded)


def test_every_measurement_is_written_as_it_comes(tmp_path, capsys):
    path = tmp_path / "results" / "gpu.json"
    done = bench.Measuring(Worker(), given(output=path)).result
    assert json.loads(path.read_text()) == done and not done["left_out"]
    assert [(r["dtype"], r["shapes"], r["what"]) for r in done["bench"] if r["what"] != "optimised"] == [
        (dtype, f"{dtype}[{rows},8]", what)
        for dtype in ("float32", "float16") for rows in (4, 16) for what in ("kernel", "triton", "unfused")
    ]  # fmt: skip
    progress = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert len(progress) == 4 and "] FusedGelu float32 [4, 8]: done, " in progress[0]
    assert "| FusedGelu | Triton | float16 |" in record.told(done)


def test_a_block_is_timed_as_a_graph_and_without_one(monkeypatch):
    monkeypatch.setattr(bench, "BLOCK", {"batch": 1, "length": 8, "width": 16, "heads": 2, "dtype": "float32"})
    done = bench.Measuring(Worker(), given(parts="block")).result
    for way in ("plain, unoptimised", "plain", "plugins"):
        found = done["block"]["ways"][way]
        assert found["cuda_graph"] == "yes" and found["ms"] == found["ms_no_graph"] == 1.0 and found["error"] < 1e-6
    assert "| plugins | 1.000 | 1.000 | " in record.told(done)


def test_what_has_no_time_left_or_fails_is_said_and_the_rest_is_kept(tmp_path, capsys, monkeypatch):
    done = bench.Measuring(Worker(), given(budget=-1.0)).result
    assert done["bench"] == [] and len(done["left_out"]) == 4
    assert done["left_out"][0] == "FusedGelu float32 [4, 8] (no time after -1 s)"
    assert "Left out: FusedGelu float32 [4, 8] (no time after -1 s); " in record.told(done)
    monkeypatch.setattr(bench, "ELEMENTWISE", [(-4, 8), (16, 8)])
    done = bench.Measuring(Worker(), given()).result
    assert len(done["bench"]) == 8 and len(done["left_out"]) == 2


def test_counts_of_tests_are_recorded(tmp_path):
    path = tmp_path / "tests.xml"
    path.write_text(
        '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>'
        '<testcase name="c"><skipped/></testcase><testcase name="d"/></testsuite></testsuites>'
    )
    done = bench.Measuring(Worker(), given(only="none", tests=path)).result
    assert done["tests"] == {"passed": 2, "failed": 1, "skipped": 1}
    assert "Tests of this folder: 2 passed, 1 failed, 1 skipped." in record.told(done)
