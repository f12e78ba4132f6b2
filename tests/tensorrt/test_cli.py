"""``workbench tensorrt``: check and build from the shell."""

from __future__ import annotations

import json

import pytest
import real_models
from small_engines import mlp

import workbench as wb
from workbench.cli import main
from workbench.cli.engines import ranges


@pytest.fixture(autouse=True)
def library():
    pytest.importorskip("tensorrt_rtx")


def test_check_says_what_is_refused_and_writes_the_fixed_model(tmp_path, capsys):
    source, fixed = real_models.find("silero_vad_16k_op15"), tmp_path / "fixed.onnx"
    assert (
        main(["tensorrt", "check", str(source), "--fix", str(fixed), "--json", str(tmp_path / "c.json")]) == 1
    )
    said = capsys.readouterr().out
    assert "2 errors" in said
    assert "fix: m = m.take_branch('/model/decoder/If', 'then_branch')" in said
    data = json.loads((tmp_path / "c.json").read_text())
    assert not data["ok"]
    assert {row["rule"] for row in data["findings"]} == {"branches", "no_cast"}
    assert not [node for node in wb.load(fixed).ir.graph if node.op_type == "If"]


def test_build_writes_a_plan(tmp_path, capsys):
    source = mlp().save(tmp_path / "m.onnx")
    command = ["tensorrt", "build", str(source), "--shapes", "batch=1:4:32", "--compute-capability", "8.6"]
    assert main([*command, "--log", "fc1", "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["bytes"] == (tmp_path / "m.plan").stat().st_size > 1000
    assert main([*command, "--log", "fc1"]) == 0
    said = capsys.readouterr().out
    assert "profile 0: x 1…4…32×8" in said
    assert "built from the cache" in said
    assert "VERBOSE: " in said
    assert main([*command[:3], "--shapes", "bach=1"]) == 2
    assert "no such dim or input" in capsys.readouterr().err


def test_ranges():
    assert ranges("batch=1:8:32") == ("batch", (1, 8, 32))
    assert ranges("x=1:8:32,3,224") == ("x", ((1, 8, 32), 3, 224))
    assert ranges("batch=4") == ("batch", 4)
    with pytest.raises(Exception, match="expected NAME=SIZES with sizes N or MIN:OPT:MAX"):
        ranges("batch=1:8")
