"""The command: what it prints, what it writes, its exit status, and that errors are one line on stderr."""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import workbench
from workbench.cli import commands, main, options, text
from workbench.compare import Comparison
from workbench.profile import Profile

REAL = Path(__file__).parent.parent / "data" / "onnx" / "residual_block.onnx"


def save(path: Path, bias: float, name: str = "add") -> Path:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Add", ["r", "b"], ["s"], name=name),
        helper.make_node("MatMul", ["s", "v"], ["y"], name="product"),
    ]
    weights = [np.full(8, bias, np.float32), np.eye(8, dtype=np.float32)]
    held = [numpy_helper.from_array(a, n) for a, n in zip(weights, "bv", strict=True)]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 8]) for n in "xy"]
    graph = helper.make_graph(nodes, "small", ports[:1], ports[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def ranged(path: Path) -> Path:
    """With a Range, which has no float16 before operator set 27."""
    nodes = [
        helper.make_node("Range", ["zero", "four", "one"], ["r"], "range"),
        helper.make_node("Add", ["x", "r"], ["s"], "add"),
        helper.make_node("Mul", ["s", "s"], ["y"], "mul"),
    ]
    held = [
        numpy_helper.from_array(np.array(a, np.float32), n) for a, n in ((0, "zero"), (4, "four"), (1, "one"))
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "ranged", ports[:1], ports[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models")
    save(path / "a.onnx", 0.5)
    save(path / "b.onnx", 0.75)
    np.savez(path / "x.npz", x=np.ones((2, 8), np.float32))
    return path


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run the command in the folder of the models: (exit status, stdout, stderr)."""
    monkeypatch.chdir(folder)

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call


# --- compare


def test_equal_models_exit_with_0(run):
    status, out, err = run("compare", "a.onnx", "a.onnx")
    assert (status, err) == (0, "")
    assert out.startswith("The models are the same: 3 compared tensors are bit for bit equal.\n")


def test_different_models_exit_with_1_and_name_the_node(run):
    status, out, err = run("compare", "a.onnx", "b.onnx", "--inputs", "x.npz")
    assert (status, err) == (1, "")
    assert "The models differ: error 0.17 at the output 'y', beyond tolerance 0.001." in out
    assert "first part at 's', made by Add node 'add'" in " ".join(out.split())
    table = out[out.index("worst tensors") :].splitlines()
    heads = ("tensor", "node", "operator", "error", "max abs", "cosine", "SNR dB", "local max", "local SNR")
    assert table[1].split() == " ".join(heads).split()
    assert table[2].split()[:5] == ["s", "add", "Add", "0.167", "0.25"]
    assert "\033" not in out


@pytest.mark.parametrize(
    ("given", "status"),
    [(["1"], 0), (["max_abs=0.3"], 0), (["max_abs=0.3", "snr_db=60"], 1), (["0.1"], 1)],
)
def test_tolerance_decides(run, given, status):
    limits = [part for limit in given for part in ("--tolerance", limit)]
    assert run("compare", "a.onnx", "b.onnx", "--inputs", "x.npz", *limits)[0] == status


def test_options_reach_the_comparison(run, tmp_path):
    path = tmp_path / "c.json"
    given = [
        "--shapes",
        "batch=3",
        "--count",
        2,
        "--no-local",
        "--memory-budget",
        "64MB",
        "--threads",
        1,
        "--top",
        1,
    ]
    status, out, _ = run("compare", "a.onnx", "b.onnx", *given, "--json", path)
    found = Comparison.from_json(path.read_text())
    assert status == 1 and found.meta["inputs"] == 2 and found.meta["memory_budget"] == 64_000_000
    assert found.meta["threads"] == 1 and found.table.loc["y", "shape"] == (3, 8)
    assert "local_max_abs" not in found.table and "local" not in out
    assert len(out[out.index("worst tensors") :].splitlines()) == 3


def test_as_run_compares_with_the_runtimes_graph(run):
    status, out, _ = run("compare", REAL, REAL, "--as-run", "--json", "-")
    assert status == 0 and json.loads(out)["meta"]["observer"]["optimize"] == "all"


def test_json_on_stdout_is_all_there_is(run):
    status, out, err = run("compare", "a.onnx", "b.onnx", "--json", "-")
    data = json.loads(out)
    assert (status, err, data["ok"]) == (1, "", False)
    assert [record["tensor"] for record in data["records"]] == ["r", "s", "y"]


# --- show, profile, report


def test_show_prints_the_card_and_lists(run):
    status, out, err = run("show", "a.onnx", "--shapes", "batch=2", "--nodes", "--tensors", "--top", 2)
    assert (status, err) == (0, "")
    assert out.startswith("a\n3 nodes · 72 parameters") and "x: float32[batch, 8]" in out
    nodes = out[out.index("node ") :].splitlines()
    assert (
        nodes[1].split()[:2] == ["relu", "Relu"] and nodes[2].split()[:2] == ["add", "Add"] and nodes[3] == ""
    )


def test_show_as_json(run):
    status, out, _ = run("show", "a.onnx", "--json", "-")
    data = json.loads(out)
    assert status == 0 and data["parameters"] == 72 and len(data["fingerprint"]) == 64
    assert [node["node"] for node in data["graph"]["nodes"]] == ["relu", "add", "product"]
    assert {tensor["tensor"] for tensor in data["graph"]["tensors"]} == {"x", "r", "b", "s", "v", "y"}


def test_profile_prints_layers_and_operators(run, tmp_path):
    path = tmp_path / "p.json"
    status, out, err = run(
        "profile", REAL, "--runs", 2, "--threads", 1, "--optimize", "basic", "--json", path
    )
    found = Profile.from_json(path)
    assert (status, err) == (0, "")
    assert out.startswith(
        "residual_block on onnxruntime"
    ) and "optimize=basic, 1 thread: latency" in " ".join(out.split())
    assert found.meta["runs"] == 2 and found.meta["optimize"] == "basic"
    layers = out[out.index("\nlayers") + 1 : out.index("\noperators")].splitlines()
    assert len(layers) == 2 + min(15, len(found.table))
    assert layers[1].split() == ["layer", "operator", "ms", "%", "bound", "by", "could", "gain", "nodes"]


def test_engine_prints_layers_findings_and_changes(run, tmp_path):
    folder, path = REAL.parents[1] / "engines", tmp_path / "e.json"
    fp16, fp32 = (folder / f"resnet18-a100-{variant}.graph.json" for variant in ("fp16", "fp32"))
    status, out, err = run("engine", fp16, "--before", fp32, "--top", 3, "--json", path)
    assert (status, err) == (0, "")
    said = " ".join(out.split())
    assert said.startswith(
        "Engine resnet18-a100-fp16 (tensorrt) on A100 80GB PCIe 36 layers, 1.017 ms together"
    )
    for title in ("\nlayers\n", "\noperators\n", "\nfindings\n", "\nchanges\n"):
        assert title in out
    data = json.loads(path.read_text())
    assert len(data["layers"]) == 36 and data["missing"] == []
    assert data["changes"][0]["changed"][0] == "precision FP32 -> FP16"
    assert data["findings"][0]["lint"] == "channels not aligned"


def test_what_is_missing_in_an_engine_is_printed(run, tmp_path):
    path = tmp_path / "layers.json"
    path.write_text('{"Layers": ["Conv_0 + Relu_1"]}')
    status, out, err = run("engine", path)
    assert (status, err) == (0, "") and "missing: no times were given" in out and "Conv_0, Relu_1" in out
    path.write_text("{}")
    status, out, err = run("engine", path)
    assert status == 2 and err.startswith("workbench engine: cannot read layers from ")


def test_report_of_two_models(run, tmp_path):
    path, data = tmp_path / "r.html", tmp_path / "r.json"
    given = [
        "--inputs",
        "x.npz",
        "--runs",
        2,
        "--threads",
        1,
        "-o",
        path,
        "--title",
        "Two <models>",
        "--json",
        data,
    ]
    status, out, err = run("report", "a.onnx", "b.onnx", *given)
    assert (status, err) == (1, "") and f"The report: {path}" in out
    html = path.read_text()
    assert "<title>Two &lt;models&gt;</title>" in html and "What did the change buy?" in html
    assert set(json.loads(data.read_text())) == {"report", "comparison", "before", "after"}


def test_report_of_one_model(run, tmp_path):
    status, out, _ = run("report", "a.onnx", "--runs", 2, "--output", tmp_path / "r.html")
    assert (
        status == 0
        and out.startswith("A run takes")
        and "Where does the time go?" in (tmp_path / "r.html").read_text()
    )


# --- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "a.onnx", "missing.onnx"], "missing.onnx"),
        (["show", "x.npz"], "x.npz"),
        (["profile", "a.onnx", "--shapes", "depth=2"], "depth"),
        (["compare", "a.onnx", "b.onnx", "--inputs", "none.npz"], "no such file or folder: none.npz"),
        (
            ["compare", "a.onnx", "b.onnx", "--tolerance", "max_apps=1"],
            "no measure 'max_apps' for a tolerance",
        ),
        (
            ["compare", "a.onnx", "b.onnx", "--json", "no/c.json"],
            "cannot write no/c.json: there is no folder no",
        ),
        (
            ["report", "a.onnx", "--runs", "1", "-o", "no/r.html"],
            "cannot write no/r.html: there is no folder no",
        ),
    ],
)
def test_errors_are_one_line_on_stderr(run, arguments, message):
    status, out, err = run(*arguments)
    assert status == 2 and out == ""
    assert err.startswith(f"workbench {arguments[0]}: ") and message in err
    assert "Traceback" not in err and err.count("\n") == 1


def test_debug_shows_the_traceback(run):
    status, _, err = run("show", "missing.onnx", "--debug")
    assert status == 2 and "Traceback" in err and "ModelError" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["compare", "a.onnx"], "the following arguments are required: B"),
        (["tune", "a.onnx"], "invalid choice: 'tune'"),
        (["compare", "a.onnx", "b.onnx", "--count", "0"], "got '0', expected a whole number of at least 1"),
        (
            ["compare", "a.onnx", "b.onnx", "--memory-budget", "much"],
            "got 'much', expected a size as in 64MB or 1GiB",
        ),
        (
            ["compare", "a.onnx", "b.onnx", "--shapes", "x"],
            "got 'x', expected NAME=SIZE or NAME=SIZE,SIZE,...",
        ),
        (
            ["compare", "a.onnx", "b.onnx", "--tolerance", "low"],
            "got 'low', expected a number, or MEASURE=NUMBER",
        ),
        (["profile", "a.onnx", "--optimize", "most"], "invalid choice: 'most'"),
    ],
)
def test_a_wrong_command_line_exits_with_2(run, arguments, message):
    status, out, err = run(*arguments)
    assert status == 2 and out == "" and message in err and "Traceback" not in err


def test_a_bug_is_said_to_be_one(run, monkeypatch):
    monkeypatch.setattr(commands, "load", lambda path: 1 / 0)
    status, _, err = run("show", "a.onnx")
    assert status == 2
    assert err == (
        "workbench show: ZeroDivisionError: division by zero "
        "(this is a bug in Workbench; run again with --debug for where it happened)\n"
    )


def test_an_interrupted_command_exits_with_130(run, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "load", interrupted)
    assert run("show", "a.onnx") == (130, "", "workbench: interrupted\n")


# --- as a program


def test_version_and_help(run):
    assert run("--version") == (0, f"workbench {workbench.__version__}\n", "")
    status, out, _ = run("--help")
    assert status == 0
    for command in ("show", "compare", "profile", "report", "demo", "lab"):
        assert command in out and run(command, "--help")[0] == 0


def test_python_m_workbench_and_a_reader_that_goes_away(folder):
    command = f"{sys.executable} -m workbench show {folder / 'a.onnx'} --tensors | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\n", "")


def test_a_terminal_gets_colour_and_tables_that_fit(folder, tmp_path):
    long = save(tmp_path / "long.onnx", 0.75, name="a_very_long_name_of_a_node/" * 5)
    command = [sys.executable, "-m", "workbench", "compare", long, folder / "a.onnx"]
    shown = in_a_terminal(command, {"COLUMNS": "72", "TERM": "xterm"})
    assert "\033[1;31mThe models differ" in shown
    table = shown[shown.index("worst tensors") :].splitlines()
    assert "a_very_" in table[2] and "…" in table[2] and max(map(len, table)) <= 72
    assert "\033" not in in_a_terminal(command, {"COLUMNS": "72", "TERM": "xterm", "NO_COLOR": "1"})


def in_a_terminal(command: list, environment: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | environment
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment):
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    return b"".join(parts).decode().replace("\r\n", "\n")


def test_lab_without_jupyterlab_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: None)
    status, _, err = run("lab")
    assert (status, err) == (
        2,
        "workbench lab: cannot start JupyterLab: it is not installed; pip install 'trt-workbench[lab]'\n",
    )


def test_lab_opens_the_notebooks_and_passes_options_on(run, monkeypatch):
    started = []
    monkeypatch.setattr(commands.os, "execv", lambda program, command: started.append(command) or sys.exit(7))
    assert run("lab", "--no-browser", "--port=9999")[0] == 7
    assert started[0][1:3] == ["-m", "jupyterlab"] and started[0][4:] == ["--no-browser", "--port=9999"]
    assert Path(started[0][3]).name == "notebooks"


# --- values


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("batch=2", ("batch", 2)),
        ("x=1,3,48,320", ("x", (1, 3, 48, 320))),
        ("x=1x3", ("x", (1, 3))),
        ("a=b=2", ("a=b", 2)),
    ],
)
def test_shapes(given, value):
    assert options.shape(given) == value


def test_one_number_for_an_input_is_its_shape():
    class Input:
        name = "x"

    assert options.shapes([("x", 5), ("batch", 2)], [Input]) == {"x": (5,), "batch": 2}
    assert options.shapes(None, [Input]) is None


@pytest.mark.parametrize(
    ("given", "value"),
    [("64MB", 64_000_000), ("1.5 GiB", 3 << 29), ("1k", 1000), ("512", 512), ("2gi", 2 << 30)],
)
def test_sizes(given, value):
    assert options.size(given) == value


@pytest.mark.parametrize("given", ["", "MB", "-1", "1TB5", "1 i"])
def test_what_is_no_size(given):
    with pytest.raises(argparse.ArgumentTypeError):
        options.size(given)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (None, 1e-3),
        ([("", 0.1)], 0.1),
        ([("snr_db", 40.0)], {"snr_db": 40.0}),
        ([("", 0.1), ("nan", 0.0)], {"error": 0.1, "nan": 0.0}),
    ],
)
def test_tolerances(given, value):
    assert options.tolerance(given) == value


def test_tables_shorten_the_widest_names_in_the_middle():
    rows = [["n" * 50, "x", 1.0], ["m", "y" * 30, float("nan")]]
    shown = text.table(["name", "other", "ms"], rows, 40).splitlines()
    assert [len(line) <= 40 for line in shown] == [True] * 3
    assert shown[1].split() == ["nnnnnnnn…nnnnnnnn", "x", "1"] and shown[2].endswith(" -")
    assert "n" * 50 in text.table(["name", "other", "ms"], rows)


def test_a_narrow_table_leaves_out_what_can_be_spared():
    titles, row = ["name", "a", "b"], [["n" * 30, 1, 22222222]]
    assert text.table(titles, row, 34, spare=["b"]).splitlines() == [
        "name" + " " * 28 + "a",
        "n" * 30 + "  1",
    ]
    assert text.table(titles, row, 50, spare=["b"]) == text.table(titles, row)


def test_names_cannot_steer_the_terminal():
    assert text.value("a\033[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"
    assert text.wrap("a\033[2J b") == "a\\x1b[2J b"


def test_precision_finds_converts_and_writes(run, tmp_path):
    model = REAL.parent / "needs_constraints.onnx"
    status, out, _ = run(
        "precision", model, "--tolerance", 0.01, "-o", tmp_path / "half.onnx", "--json", tmp_path / "p.json"
    )
    assert status == 0
    assert out.splitlines()[-3:] == ["  Add", "  Sub", f"The converted model: {tmp_path / 'half.onnx'}"]
    found = json.loads((tmp_path / "p.json").read_text())
    assert (found["keep"], found["complete"], found["found"]) == (["Add", "Sub"], True, True)
    assert found["trials"][0]["error"] > 0.01 >= found["error"]
    inside = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "half.onnx")).graph.value_info
    types = {value.name: value.type.tensor_type.elem_type for value in inside}
    assert (types["add_out_1"], types["matmul_out_0"]) == (TensorProto.FLOAT, TensorProto.FLOAT16)
    status, out, _ = run("precision", model, "--tolerance", 0.01, "--max-runs", 2)
    assert status == 1 and "No smaller set than all 4 nodes was found" in out.replace("\n", " ")
    status, _, err = run("precision", model, "--keep", "Addd")
    assert status == 2 and "there is no node 'Addd' in the model; did you mean 'Add'" in err


# --- fuse


def test_fuse_writes_the_model_and_says_what_was_left_alone(run, folder):
    status, out, err = run("fuse", REAL, "-o", "fused.onnx", "--verify", "--json", "fused.json")
    assert (status, err) == (0, "")
    assert "residual_block: 15 nodes before, 10 after\n  conv_batchnorm    5 times, 10 nodes to 5" in out
    written = json.loads((folder / "fused.json").read_text())
    assert written["counts"] == {"conv_batchnorm": 5} and written["output"] == str(folder / "fused.onnx")
    assert all(row["error"] < 1e-4 and row["status"] == "fused" for row in written["fused"])
    assert len(workbench.load(folder / "fused.onnx").nodes) == 10


def test_fuse_with_an_unknown_rule(run):
    assert run("fuse", "a.onnx", "--rules", "gelu,magic")[0::2] == (
        2,
        "workbench fuse: there is no fusion 'magic'; expected one of "
        + ", ".join(rule.name for rule in workbench.fusions.RULES)
        + "\n",
    )


def test_a_warning_is_a_line_and_is_said_once(run, tmp_path):
    status, out, err = run("precision", ranged(tmp_path / "ranged.onnx"), "--tolerance", "1")
    assert status == 0 and "in fp16" in out
    (line,) = err.splitlines()
    assert line.startswith(
        "workbench precision: 1 node stays in float32, for which the model's operator set has no fp16"
    )
