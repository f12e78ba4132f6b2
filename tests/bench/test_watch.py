"""The watcher sees what a command takes, shared pages once, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.contestants import load_feeds, save_feeds

ROOT = Path(__file__).resolve().parents[2]
MB = 1e6


def watched(tmp_path: Path, code: str) -> dict:
    seen = tmp_path / "seen.json"
    command = [
        sys.executable,
        "-m",
        "tests.bench.watch",
        "--json",
        str(seen),
        "--",
        sys.executable,
        "-c",
        code,
    ]
    subprocess.run(command, cwd=ROOT, check=False, timeout=60)
    return json.loads(seen.read_text())


def test_time_and_peak_memory_of_a_command(tmp_path: Path):
    held = watched(tmp_path, "import time; a = b'x' * 50_000_000; time.sleep(0.3); a = None; time.sleep(0.2)")
    bare = watched(tmp_path, "import time; time.sleep(0.1)")
    assert held["returncode"] == bare["returncode"] == 0
    assert held["peak_bytes"] - bare["peak_bytes"] == pytest.approx(50 * MB, rel=0.1)
    assert 0.5 < held["seconds"] < 5
    assert held["most_processes"] == 1


FORKED = """
import os, time
a = bytearray(b"x" * 40_000_000)
children = []
for _ in range(3):
    pid = os.fork()
    if not pid:
        time.sleep(0.4)
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
"""


def test_what_processes_share_counts_once(tmp_path: Path):
    seen = watched(tmp_path, FORKED)
    assert seen["most_processes"] == 4
    assert 40 * MB < seen["peak_bytes"] < 90 * MB
    assert seen["peak_resident_bytes"] > 150 * MB


def test_what_a_command_leaves_behind_is_found_and_ended(tmp_path: Path):
    left = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(71)'])"
    seen = watched(tmp_path, left)
    assert len(seen["left_behind"]) == 1
    assert seen["left_behind"][0].endswith("-c import time; time.sleep(71)")


def test_the_status_of_the_command_is_kept(tmp_path: Path):
    assert watched(tmp_path, "raise SystemExit(3)")["returncode"] == 3


def test_feeds_survive_the_way_to_the_contestants(tmp_path: Path):
    import numpy as np

    feeds = [{"a/b": np.arange(3) + i, "c": np.float32(i)} for i in range(11)]
    save_feeds(str(tmp_path / "feeds.npz"), feeds)
    again = load_feeds(str(tmp_path / "feeds.npz"))
    assert [list(feed) for feed in again] == [["a/b", "c"]] * 11
    assert all(np.array_equal(a["a/b"], b["a/b"]) for a, b in zip(feeds, again, strict=True))
