"""The demo: finds its model, draws, reads, changes the model, and reports what that did."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys

import numpy as np
import pytest

import workbench as wb
from workbench import demo
from workbench.cli import main
from workbench.errors import ModelError, WorkbenchError


@pytest.fixture(scope="module")
def model(real_model) -> wb.Model:
    return wb.load(real_model("ppocr_rec"))


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return demo.array(demo.picture())


@pytest.fixture(scope="module")
def changed(model) -> wb.Model:
    return demo.int8(model)


# --- what it needs


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = "the package rapidocr is not installed; pip install --no-deps rapidocr==3.10.0"
    with pytest.raises(ModelError, match=re.escape(f"cannot find the demo's model: {message}")):
        demo.find()


def test_the_command_says_it_on_stderr(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["demo"]) == 2
    assert "workbench demo: cannot find the demo's model" in capsys.readouterr().err


def test_another_version_of_the_package_is_refused(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_loader("rapidocr", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(
        ModelError, match="the installed rapidocr has no PP-OCRv6_rec_small.onnx; pip install"
    ):
        demo.find()


def test_the_package_is_found_without_being_imported(model):
    assert demo.find().name == "PP-OCRv6_rec_small.onnx" and "rapidocr" not in sys.modules


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(WorkbenchError, match="Pillow is not installed; pip install pillow"):
        demo.picture()


# --- picture and reading


def test_a_picture_becomes_what_the_model_takes():
    image = demo.picture("abc")
    taken = demo.array(image)
    assert image.height == 48 and taken.shape == (1, 3, 48, image.width) and taken.dtype == np.float32
    assert taken.min() == -1 and taken.max() == 1 and taken.flags.c_contiguous
    assert demo.array(image.resize((2 * image.width, 96))).shape == taken.shape


def test_channels_are_blue_green_red():
    from PIL import Image

    taken = demo.array(Image.new("RGB", (4, 48), (255, 0, 127)))
    np.testing.assert_allclose(taken[0, :, 0, 0], [127 / 127.5 - 1, -1, 1], atol=1e-6)


@pytest.mark.parametrize("line", ["Which layer is to blame?", "0.5 + 0.25 = 0.75", "aabb  cc"])
def test_the_model_reads_what_was_drawn(model, line):
    read = demo.read(model, demo.array(demo.picture(line)))
    assert " ".join(read.text.split()) == " ".join(line.split()) and 0.8 < read.confidence <= 1


def test_another_model_cannot_be_read_with(real_model):
    other = wb.load(real_model("ppocr_cls"))
    message = "cls_mobile' has no list of characters .metadata 'character'.; expected a PP-OCR model"
    with pytest.raises(ModelError, match=message):
        demo.characters(other)


# --- the change


def test_int8_still_reads_and_keeps_names(model, changed, data):
    assert demo.read(changed, data).text == demo.TEXT
    assert changed.name == "PP-OCRv6_rec_small_int8" and changed.bytes < 0.4 * model.bytes
    before, after = ({n.name for n in m.to_proto().graph.node} for m in (model, changed))
    assert before <= after
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(changed.nodes["op_type"])


def test_int8_leaves_the_given_model_and_the_logging_alone(model, changed):
    assert model.to_proto().SerializeToString() == wb.load(demo.find()).to_proto().SerializeToString()
    assert logging.root.manager.disable == 0


def test_kept_nodes_stay_in_float(model, changed):
    kept = demo.int8(model, keep=["Conv.19"])
    took, takes = (m.ir.graph.node("Conv.19").inputs[1].producer() for m in (changed, kept))
    assert took.op_type == "DequantizeLinear" and takes is None


# --- all of it


def test_the_whole_demo(model, tmp_path, capsys):
    path = tmp_path / "demo.html"
    assert main(["demo", "--output", str(path), "--runs", "2"]) == 0
    out, err = capsys.readouterr()
    said = " ".join(out.split())
    assert f"The report, with all figures: {path}" in out and "Traceback" not in err
    assert said.count("'Which layer is to blame?'") == 2
    assert "The models differ: error" in said and "beyond tolerance 0.05" in said
    assert re.search(r"Of the outputs' squared error, taken alone: Conv\.\d+ \(Conv\) \d\d%", said)
    assert re.search(r"A run takes [\d.]+ ms instead of [\d.]+ ms", said)
    gained = re.search(
        r"With only (Conv\.\d+) left in float, the output's SNR rises from ([\d.]+) to ([\d.]+) dB", said
    )
    assert float(gained[3]) > float(gained[2]) + 1
    html = path.read_text()
    assert "Is the text still read?" in html and "data:image/png;base64," in html
    assert html.count("<td>Which layer is to blame?") == 2
    assert path.stat().st_size < 6_200_000
