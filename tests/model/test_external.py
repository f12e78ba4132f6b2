"""External data: only from the model's folder, and only when all of it is there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from model import build

import workbench as wb
from workbench.errors import ModelError
from workbench.model import wire


def location(path: Path, text: str, **entries: str) -> Path:
    """Rewrite where the first weight of a saved model lies."""
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = text
        elif entry.key in entries:
            entry.value = entries[entry.key]
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return build.save_external(build.mlp(), folder / "m.onnx")


def test_loads_and_runs(saved: Path) -> None:
    import onnxruntime

    m = wb.load(saved)
    proto = m.to_proto()
    assert {e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"} == {
        str(saved.parent / "model.data")[1:]
    }
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/")
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    x = np.ones((2, 64), np.float32)
    plain = onnxruntime.InferenceSession(build.mlp().SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"x": x})[0], plain.run(None, {"x": x})[0])


def test_a_proto_with_external_data_needs_a_folder(saved: Path) -> None:
    proto = onnx.load(saved, load_external_data=False)
    with pytest.raises(
        ModelError, match=r"tensor 'w1' float32\[32, 64\]: it lies in the file 'model.data', but a"
    ):
        wb.load(proto)
    m = wb.load(proto, base_dir=saved.parent)
    assert m.fingerprint == wb.load(saved).fingerprint
    assert wb.load(m.to_proto(), base_dir="/").fingerprint == m.fingerprint
    with pytest.raises(ModelError, match="base_dir= the folder of its data"):
        wb.load(m.to_proto())


@pytest.mark.parametrize(
    "text", ["../model.data", "/etc/hostname", "a/../../model.data", "C:\\x\\model.data"]
)
def test_locations_outside_are_refused(saved: Path, text: str) -> None:
    shutil.copy(saved.parent / "model.data", saved.parent.parent / "model.data")
    expected = (
        f"external data of tensor 'w1': the location {text!r} is outside the model's folder and was refused; expected "
        f"a file in the model's folder {saved.parent}"
    )
    with pytest.raises(ModelError, match=re.escape(expected)):
        wb.load(location(saved, text))


@pytest.mark.parametrize("text", ["", "\x00embedded"])
def test_locations_that_are_no_names_are_refused(saved: Path, text: str) -> None:
    with pytest.raises(
        ModelError, match=f"the location {re.escape(repr(text))} is no file name; export the model"
    ):
        wb.load(location(saved, text))


def test_the_loader_s_own_mark_gets_at_nothing_outside_the_file(saved: Path) -> None:
    for offset in ("99999999", str(1 << 70)):
        with pytest.raises(ModelError, match="are not in the file, which has"):
            wb.load(location(saved, wire.SELF, offset=offset))


def test_a_link_out_of_the_folder_is_refused(saved: Path) -> None:
    secret = saved.parent.parent / "secret"
    shutil.move(saved.parent / "model.data", secret)
    (saved.parent / "model.data").symlink_to(secret)
    with pytest.raises(ModelError, match=f"'model.data' is a link that leads to {secret} and was refused"):
        wb.load(saved)


def test_a_link_inside_the_folder_is_fine(saved: Path) -> None:
    shutil.move(saved.parent / "model.data", saved.parent / "real.data")
    (saved.parent / "model.data").symlink_to("real.data")
    assert wb.load(saved).bytes == 4 * (32 * 64 + 32 + 32 * 8)


def test_a_cache_of_links_is_fine(saved: Path) -> None:
    """As huggingface_hub lays files out: names that link into one folder of blobs."""
    blobs, snapshot = saved.parent.parent / "blobs", saved.parent.parent / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, name in enumerate(("m.onnx", "model.data")):
        shutil.move(saved.parent / name, blobs / str(number))
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    m = wb.load(snapshot / "m.onnx")
    assert m.name == "m" and m.fingerprint == wb.load(build.mlp()).fingerprint


def test_missing_data_names_what_is_there(saved: Path) -> None:
    (saved.parent / "model.data").rename(saved.parent / "model_2.data")
    with pytest.raises(
        ModelError, match=r"tensor 'w1': there is no file .*model.data; in .* there is model_2.data"
    ):
        wb.load(saved)


def test_data_in_a_folder_that_is_not_there(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*weights/w.bin \(nor a folder .*weights\)"):
        wb.load(location(saved, "weights/w.bin"))


def test_short_data(saved: Path) -> None:
    os.truncate(saved.parent / "model.data", 5000)
    with pytest.raises(
        ModelError, match=r"'w1' float32\[32, 64\]: its bytes 0 to 8192 are not in .*which has 5000"
    ):
        wb.load(saved)


def no_regular_file(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [(no_regular_file, "is no regular file"), (a_folder, "is a folder; expected a file")],
)
def test_data_that_is_no_file(saved: Path, change: Callable[[Path], None], message: str) -> None:
    change(saved.parent / "model.data")
    with pytest.raises(ModelError, match=f"external data of tensor 'w1': .*model.data {message}"):
        wb.load(saved)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": "-4"}, "the offset of its external data is '-4', not a number"),
        ({"length": "12x"}, "the length of its external data is '12x', not a number"),
        (
            {"length": "100"},
            "external data 'model.data' holds 100 bytes of it, its shape needs 8192; it is damaged",
        ),
        ({"offset": str(1 << 62)}, "are not in"),
    ],
)
def test_odd_places_in_the_file(saved: Path, entries: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        wb.load(location(saved, "model.data", **entries))


def test_no_length_means_what_the_shape_needs(saved: Path) -> None:
    proto = onnx.load(saved, load_external_data=False)
    for tensor in proto.graph.initializer:
        kept = [e for e in tensor.external_data if e.key != "length"]
        del tensor.external_data[:]
        tensor.external_data.extend(kept)
    saved.write_bytes(proto.SerializeToString())
    assert wb.load(saved).fingerprint == wb.load(build.mlp()).fingerprint


def test_data_of_a_body(tmp_path: Path) -> None:
    """External initializers inside of bodies are mapped, referred to and run as well."""
    import onnxruntime

    proto = build.branches()
    body = next(a.g for a in proto.graph.node[0].attribute if a.name == "then_branch")
    (tmp_path / "w.data").write_bytes(body.initializer[0].raw_data)
    body.initializer[0].ClearField("raw_data")
    body.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    body.initializer[0].external_data.add(key="location", value="w.data")
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    m = wb.load(path)
    assert m.fingerprint == wb.load(build.branches()).fingerprint
    made = m.to_proto()
    inner = next(a.g for a in made.graph.node[0].attribute if a.name == "then_branch").initializer[0]
    assert inner.external_data[0].value == str(tmp_path / "w.data")[1:]
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", "/")
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    feeds = {"flag": np.array(True), "x": np.eye(4, dtype=np.float32)}
    assert np.array_equal(session.run(None, feeds)[0], onnx.numpy_helper.to_array(build.array("wt", 4, 4)))
