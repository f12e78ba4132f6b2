"""What the documentation says of fp16 on a GPU is what was measured (data/precision)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "data" / "precision" / "h200_onnxruntime.json"
ROWS = json.loads(FILE.read_text())["rows"]
BROKEN = {("magika", 0), ("needs_constraints", 0)}  # they overflow


def snr(row: dict, kind: str) -> float:
    """Of the first output, in dB; equal values have 200."""
    found = next(iter(row[kind].values()))["snr_db"]
    return 200.0 if found is None else found


@pytest.mark.parametrize("row", [r for r in ROWS if r["model"].startswith("op_")], ids=lambda r: r["model"] + r["to"])
def test_single_operators_differ_by_less_than_a_fifth_of_the_error(row):
    assert snr(row, "real from simulated") - snr(row, "simulated from fp32") > 14
    assert abs(snr(row, "real from fp32") - snr(row, "simulated from fp32")) < 0.1
    assert snr(row, "fp32 cuda from cpu") > 120


@pytest.mark.parametrize(
    "row", [r for r in ROWS if not r["model"].startswith("op_")], ids=lambda r: f"{r['model']}-{r['to']}-{r['kept']}"
)
def test_whole_models_have_the_error_that_was_simulated(row):
    mine, real, optimised = (snr(row, f"{kind} from fp32{note}") for kind, note in
                             (("simulated", ""), ("real", ""), ("real", ", optimised")))  # fmt: skip
    if (row["model"], row["kept"]) in BROKEN:
        assert max(mine, real, optimised) <= 0.0
        return
    limit = 6 if row["model"] == "ppocr_cls" else 2.5
    assert abs(mine - real) < limit and abs(mine - optimised) < 5
    if row["to"] == "bf16":
        assert snr(row, "real from simulated") == 200


def test_sets_that_were_found_hold_on_the_gpu():
    kept = [r for r in ROWS if r["kept"]]
    assert {r["model"] for r in kept} == {"magika", "needs_constraints"}
    for row in kept:
        for note in ("", ", optimised"):
            (output,) = row[f"real from fp32{note}"].values()
            assert output["max_abs"] <= 0.01 * max(1.0, output["largest"])
