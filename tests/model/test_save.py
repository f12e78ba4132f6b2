"""Saving: all or nothing, and no weight is written that is there already."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import real_models
from model import build
from model.seen import plain

import workbench as wb
from workbench.errors import ModelError
from workbench.model import save


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def run(source: str | onnx.ModelProto, folder: str = "/") -> np.ndarray:
    """Output for ones."""
    options = onnxruntime.SessionOptions()
    data = source if isinstance(source, str) else source.SerializeToString()
    if not isinstance(source, str):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones((1, 64), np.float32)})[0]


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    path = tmp_path / "in" / "m.onnx"
    path.write_bytes(build.mlp().SerializeToString())
    return path


@pytest.fixture
def external(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return build.save_external(build.mlp(), tmp_path / "in" / "m.onnx", threshold=0)


@pytest.mark.parametrize("name", real_models.ALL_MODELS)
@pytest.mark.parametrize("streamed", [save.STREAMED, 500])
def test_real_models_survive(real_model, tmp_path: Path, monkeypatch, name: str, streamed: int) -> None:
    monkeypatch.setattr(save, "STREAMED", streamed)
    m = wb.load(real_model(name))
    saved = m.save(tmp_path / "m.onnx")
    assert plain(onnx.load(saved)) == plain(m.to_proto()) or streamed == 500
    assert wb.load(saved).fingerprint == m.fingerprint
    assert files(tmp_path) == ["m.onnx"]


def test_forms(embedded: Path) -> None:
    m = wb.load(embedded)
    out = embedded.parent.parent / "out"
    inside = m.save(out / "inside.onnx")
    outside = m.save(out / "outside.onnx", external=True)
    assert files(out) == ["inside.onnx", "outside.onnx", "outside.onnx.data"]
    assert outside.stat().st_size < 1000 < (out / "outside.onnx.data").stat().st_size
    back = wb.load(outside).save(out / "back.onnx", external=False)
    assert {wb.load(path).fingerprint for path in (inside, outside, back)} == {m.fingerprint}
    assert np.array_equal(run(str(outside)), run(str(embedded))) and np.array_equal(
        run(str(back)), run(str(embedded))
    )
    onnx.checker.check_model(str(outside))


def test_beside_its_data_the_weights_stay(external: Path) -> None:
    m = wb.load(external)
    before = os.stat(external.parent / "model.data")
    saved = m.save(external.parent / "new.onnx")
    assert files(external.parent) == ["m.onnx", "model.data", "new.onnx"]
    assert saved.stat().st_size < 2000
    after = os.stat(external.parent / "model.data")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert wb.load(saved).fingerprint == m.fingerprint
    m.save(external)
    assert wb.load(external).fingerprint == m.fingerprint


def test_an_edit_writes_only_what_it_changed(external: Path) -> None:
    import onnx_ir as ir

    graph = wb.load(external).ir
    graph.graph.initializers["b1"].const_value = ir.tensor(np.ones(32, np.float32), name="b1")
    m = wb.Model(graph)
    saved = m.save(external.parent / "edited.onnx")
    proto = onnx.load(saved, load_external_data=False)
    assert {t.name: t.data_location for t in proto.graph.initializer} == {"w1": 1, "b1": 0, "w2": 1}
    assert files(external.parent) == ["edited.onnx", "m.onnx", "model.data"]
    assert np.array_equal(onnx.numpy_helper.to_array(onnx.load(saved).graph.initializer[1]), np.ones(32))


def test_elsewhere_the_model_is_complete(external: Path) -> None:
    m = wb.load(external)
    out = external.parent.parent / "out"
    saved = m.save(out / "m.onnx")
    assert files(out) == ["m.onnx", "m.onnx.data"]
    assert (out / "m.onnx.data").stat().st_size == (external.parent / "model.data").stat().st_size
    for path in external.parent.iterdir():
        path.unlink()
    assert wb.load(saved).fingerprint == wb.load(build.mlp()).fingerprint
    assert np.array_equal(run(str(saved)), run(build.mlp()))


def test_below_the_folder_data_is_referred_to(external: Path) -> None:
    saved = wb.load(external).save(external.parent.parent / "above.onnx")
    assert files(external.parent.parent) == ["above.onnx", "m.onnx", "model.data"]
    places = {
        e.value for t in onnx.load(saved, load_external_data=False).graph.initializer for e in t.external_data
    }
    assert "in/model.data" in places
    assert wb.load(saved).fingerprint == wb.load(external).fingerprint


def test_data_files_are_never_overwritten(external: Path) -> None:
    """The same weights again are found, not written; others get another file."""
    out = external.parent.parent / "out"
    m = wb.load(external)
    first = wb.load(m.save(out / "m.onnx"))
    stat = os.stat(out / "m.onnx.data")
    m.save(out / "m.onnx")
    assert files(out) == ["m.onnx", "m.onnx.data"] and os.stat(out / "m.onnx.data").st_ino == stat.st_ino
    other = build.mlp()
    other.graph.initializer[0].CopyFrom(build.array("w1", 32, 64, seed=9))
    wb.load(other).save(out / "m.onnx", external=True)
    assert files(out) == ["m.onnx", "m.onnx.1.data", "m.onnx.data"]
    assert first.fingerprint == m.fingerprint and first.to_proto() is not None
    assert wb.load(out / "m.onnx").fingerprint == wb.load(other).fingerprint


def test_only_the_weights_in_use_are_copied(tmp_path: Path) -> None:
    """A piece of a model does not drag the whole data file along; neighbours stay neighbours."""
    names = [f"w{i}" for i in range(10)]
    nodes = [onnx.helper.make_node("Sum", names, ["y"])]
    whole = build.model(
        nodes, [], [build.value("y", None)], [build.array(n, 5000, seed=i) for i, n in enumerate(names)]
    )
    path = build.save_external(whole, tmp_path / "whole.onnx")
    proto = onnx.load(path, load_external_data=False)
    del proto.graph.initializer[4:]
    del proto.graph.initializer[1]
    del proto.graph.node[0].input[4:]
    proto.graph.node[0].input.remove("w1")
    piece = wb.load(proto, base_dir=tmp_path)
    (tmp_path / "out").mkdir()
    saved = piece.save(tmp_path / "out" / "piece.onnx")
    assert (tmp_path / "out" / "piece.onnx.data").stat().st_size < 4 * 20_000
    assert wb.load(saved).fingerprint == piece.fingerprint


def test_too_large_for_one_file(embedded: Path, monkeypatch) -> None:
    monkeypatch.setattr(save, "INLINE_LIMIT", 5000)
    out = embedded.parent.parent / "out"
    m = wb.load(embedded)
    expected = (
        "the weights of m.onnx (0.0 GB) are in m.onnx.data, because an ONNX file holds at most 2 GB; keep"
    )
    with pytest.warns(UserWarning, match=re.escape(expected)):
        saved = m.save(out / "m.onnx")
    assert files(out) == ["m.onnx", "m.onnx.data"] and wb.load(saved).fingerprint == m.fingerprint
    monkeypatch.setattr(save, "PROTO_LIMIT", 5000)
    with pytest.raises(ModelError, match=r"it would have 0.0 GB, the limit is 2 GB; save with external=True"):
        m.save(out / "n.onnx", external=False)
    assert files(out) == ["m.onnx", "m.onnx.data"]


def test_a_proto_that_gets_too_large_refers_to_a_temporary_file(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(save, "INLINE_LIMIT", 5000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    m = wb.load(build.mlp())
    proto = m.to_proto()
    assert m.to_proto() is proto
    assert {t.name: t.data_location for t in proto.graph.initializer} == {"w1": 1, "b1": 0, "w2": 1}
    assert np.array_equal(run(proto), run(build.mlp()))
    assert files(tmp_path) == ["weights.data"]
    again = wb.load(proto, base_dir="/")
    assert again.fingerprint == m.fingerprint
    del m
    gc.collect()
    assert files(tmp_path) == []


def test_large_protos_are_not_kept(monkeypatch) -> None:
    m = wb.load(build.mlp())
    assert m.to_proto() is m.to_proto()
    monkeypatch.setattr("workbench.model.core.CACHED", 1000)
    m = wb.load(build.mlp())
    assert m.to_proto() is not m.to_proto() and m.to_proto() == m.to_proto()


def test_onto_itself(embedded: Path) -> None:
    m = wb.load(embedded)
    m.save(embedded)
    assert wb.load(embedded).fingerprint == m.fingerprint
    weight = m.ir.graph.initializers["w1"].const_value
    assert weight is not None and np.array_equal(
        weight.numpy(), onnx.numpy_helper.to_array(build.array("w1", 32, 64))
    )


def test_permissions_and_links_stay(embedded: Path) -> None:
    target = embedded.parent.parent / "out" / "real.onnx"
    link = target.with_name("link.onnx")
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to("real.onnx")
    assert wb.load(embedded).save(link) == target
    assert link.is_symlink() and target.stat().st_mode & 0o777 == 0o640
    assert wb.load(link).fingerprint == wb.load(embedded).fingerprint


def test_places_that_cannot_be_written(external: Path) -> None:
    m = wb.load(external)
    with pytest.raises(ModelError, match=r"cannot save to .*/in: it is a folder; add a file name"):
        m.save(external.parent)
    with pytest.raises(
        ModelError, match=r"cannot save to .*m.onnx: there is no folder .*/none; make it first"
    ):
        m.save(external.parent / "none" / "m.onnx")
    data = external.parent / "model.data"
    with pytest.raises(ModelError, match=r"model.data: it holds weights of this model; give another name"):
        m.save(data)
    assert wb.load(external).fingerprint == m.fingerprint


BIG = """
    import resource, signal, sys
    import workbench as wb
    from workbench.errors import ModelError
    m = wb.load(sys.argv[1])
"""


def in_process(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(BIG) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("form", [None, True])
@pytest.mark.parametrize("nameless", [True, False])
def test_a_full_disk_leaves_the_old_file(embedded: Path, form: bool | None, nameless: bool) -> None:
    out = embedded.parent.parent / "out"
    target = out / "m.onnx"
    target.write_bytes(b"the old file")
    code = f"""
        import os
        if not {nameless}:
            del os.O_TMPFILE
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        try:
            m.save(sys.argv[2], external={form})
        except ModelError as error:
            print(error)
    """
    done = in_process(code, embedded, target)
    assert done.stdout == f"cannot save to {target}: File too large; what was there before is unchanged\n", (
        done.stderr
    )
    assert target.read_bytes() == b"the old file" and files(out) == ["m.onnx"]


@pytest.mark.parametrize("form", [None, True])
def test_a_kill_leaves_the_old_file(embedded: Path, form: bool | None) -> None:
    """Killed at the worst moment, when everything but the last step is done, nothing is left behind."""
    out = embedded.parent.parent / "out"
    target = out / "m.onnx"
    target.write_bytes(b"the old file")
    code = f"""
        import os
        os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)
        m.save(sys.argv[2], external={form})
    """
    assert in_process(code, embedded, target).returncode == -signal.SIGKILL
    assert target.read_bytes() == b"the old file" and files(out) == ["m.onnx"]


def test_a_failure_in_the_middle_takes_the_data_file_away(embedded: Path, monkeypatch) -> None:
    out = embedded.parent.parent / "out"
    monkeypatch.setattr(save, "PROTO_LIMIT", 10)
    with pytest.raises(ModelError, match="the limit is 2 GB"):
        wb.load(embedded).save(out / "m.onnx", external=True)
    assert files(out) == []


def test_without_copy_file_range(external: Path, monkeypatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    saved = wb.load(external).save(external.parent.parent / "out" / "m.onnx")
    assert wb.load(saved).fingerprint == wb.load(external).fingerprint
