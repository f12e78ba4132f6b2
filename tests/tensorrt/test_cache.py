"""The cache of engines: bounded, what was used least recently goes first, safe with two builders at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_engines import mlp

from workbench.cli import main
from workbench.errors import InputError
from workbench.tensorrt import build, cache

LABEL = {"model": "m", "library": "tensorrt_rtx", "version": "1.7", "where": "8.6"}


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(cache.VARIABLE, raising=False)


def put(name: str, nbytes: int = 1000, used: int | None = None, most: str | int | None = None) -> cache.Entry:
    entry = cache.Entry(name)
    with entry.locked():
        entry.write({}, b"p" * nbytes, LABEL | {"model": name}, most)
    if used is not None:
        os.utime(entry.path, (used, used))
    return entry


def names() -> list[str]:
    return sorted(path.stem for path in cache.folder().glob("*.engine"))


def test_what_was_used_least_recently_makes_room():
    for number, name in enumerate("abcd"):
        put(name, used=1000 + number)
    with cache.Entry("a").locked():
        assert cache.Entry("a").read() == ({}, b"p" * 1000)  # used now
    put("e", most=cache.Entry("a").path.stat().st_size * 4)
    assert names() == ["a", "c", "d", "e"]
    put("f", most=cache.Entry("a").path.stat().st_size * 2)
    assert names() == ["e", "f"]
    assert not (cache.folder() / "c.lock").exists()


def test_the_limit_is_never_exceeded():
    most = 5000
    for number in range(20):
        put(f"e{number}", nbytes=300 + 97 * number, used=1000 + number, most=most)
        assert sum(path.stat().st_size for path in cache.folder().glob("*.engine")) <= most
    assert names() == ["e18", "e19"]


def test_an_engine_larger_than_the_limit_is_not_kept_and_removes_nothing():
    put("a")
    entry = cache.Entry("large")
    with entry.locked():
        assert not entry.write({}, b"p" * 5000, LABEL, 4000)
    assert names() == ["a"]


def test_the_limit_comes_from_the_argument_the_environment_or_the_default(monkeypatch):
    assert cache.limit() == 10 * 10**9
    monkeypatch.setenv(cache.VARIABLE, "1.5GiB")
    assert cache.limit() == 3 << 29
    assert cache.limit("64MB") == 64_000_000 and cache.limit(7) == 7
    monkeypatch.setenv(cache.VARIABLE, "plenty")
    with pytest.raises(InputError, match="WORKBENCH_ENGINE_CACHE: got 'plenty', expected a size as in 64MB"):
        cache.limit()
    with pytest.raises(InputError, match="cache_limit: got -1, expected a size"):
        build(mlp(), cache_limit=-1)


def test_the_table_says_what_is_there_and_clear_removes_it():
    assert cache.table().empty and cache.clear() == 0
    put("a", used=1000)
    put("b", used=2000)
    (cache.folder() / "c.engine").write_bytes(b"of another format")
    os.utime(cache.folder() / "c.engine", (500, 500))
    found = cache.table()
    assert list(found.model) == ["b", "a", "?"]
    assert list(found["bytes"])[-1] == len(b"of another format")
    assert found.attrs["bytes"] == found["bytes"].sum() and found.attrs["folder"] == str(cache.folder())
    assert str(found.used.iloc[1]) == "1970-01-01 00:16:40+00:00"
    assert cache.clear(keep=int(found["bytes"].iloc[0])) == found["bytes"].iloc[1:].sum()
    assert names() == ["b"]
    (cache.folder() / "failed.lock").touch()
    assert cache.clear() == found["bytes"].iloc[0]
    assert [path.name for path in cache.folder().iterdir()] == ["lock"]


def test_what_another_builds_or_reads_stays():
    entry = put("a", used=1)
    put("b", used=2)
    with entry.locked():
        assert cache.clear() > 0
        assert names() == ["a"]
        assert entry.read() is not None
    assert cache.clear() > 0 and names() == []


def test_who_waits_for_a_lock_that_is_removed_takes_the_new_one():
    entry, order = put("a"), []

    def work(name):
        with entry.locked():
            order.append(f"{name} in")
            time.sleep(0.05)
            entry.path.with_suffix(".lock").unlink()  # as clearing does, which holds the lock
            order.append(f"{name} out")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert [said.split()[1] for said in order] == ["in", "out"] * 4
    assert all(order[i][0] == order[i + 1][0] for i in range(0, 8, 2))


def test_builders_and_clearing_at_once_keep_whole_entries():
    """Processes that write, read and clear the same few entries: what is read is whole, and nothing fails."""
    code = """
import random, sys
from workbench.tensorrt import cache
draw = random.Random(int(sys.argv[1]))
for _ in range(150):
    name = draw.choice("abcd")
    entry = cache.Entry(name)
    with entry.locked():
        found = entry.read()
        if found is None:
            entry.write({"name": name}, name.encode() * draw.randrange(1, 3000), {"model": name}, 6000)
        else:
            assert found[0] == {"name": name} and set(found[1]) == {ord(name)}
    if draw.random() < 0.1:
        cache.clear(draw.choice((0, 3000)))
    cache.table()
print("fine")
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in running] == ["fine\n"] * 3
    assert sum(path.stat().st_size for path in cache.folder().glob("*.engine")) <= 6000


# --- with the real library


def test_builds_keep_within_the_limit(rtx):
    options = {"worker": rtx, "progress": False, "compute_capabilities": ["8.6"]}
    first = build(mlp(1), **options)
    (row,) = cache.table().itertuples()
    assert (row.model, row.library, row.where) == ("small", "tensorrt_rtx", "8.6")
    assert row.bytes > len(first.plan)
    build(mlp(2), cache_limit=row.bytes + 1000, **options)
    assert len(names()) == 1
    assert build(mlp(2), **options).cached
    assert not build(mlp(1), **options).cached


def test_what_cannot_be_kept_is_not_lost(rtx, monkeypatch):
    options = {"worker": rtx, "progress": False, "compute_capabilities": ["8.6"]}
    with pytest.warns(
        UserWarning, match=r"'small' is not kept in the cache .*larger than the limit of 1 kB; give"
    ):
        assert build(mlp(3), cache_limit="1kB", **options).plan

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, "writing", full)
    with pytest.warns(UserWarning, match=r"'small' is not kept in the cache .*No space left on device"):
        assert build(mlp(3), **options).plan
    assert names() == []


def test_from_the_shell(capsys, tmp_path):
    put("a", used=1000)
    put("b", used=2000)
    assert main(["tensorrt", "cache"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("2 engines, 2.") and " of at most 10 GB, in " in first
    assert "1970-01-01 00:33  " in lines[0] and lines[0].endswith("  b (tensorrt_rtx 1.7, 8.6)")
    assert main(["tensorrt", "cache", "--keep", "1500", "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in data["engines"]] == ["b"] and data["freed"] > 1000
    assert main(["tensorrt", "cache", "--clear"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(" kB freed") and said[1].startswith("0 engines, 0 B of at most")
    with pytest.raises(SystemExit):
        main(["tensorrt", "cache", "--keep", "much"])
    assert "got 'much', expected a size as in 64MB or 1GiB" in capsys.readouterr().err
