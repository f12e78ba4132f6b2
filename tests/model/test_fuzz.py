"""Damaged files end in Workbench's own errors: see fuzz.py. ``WORKBENCH_FUZZ=SECONDS`` makes it longer."""

from __future__ import annotations

import os
import time

from model import fuzz


def test_damaged_files() -> None:
    seconds = float(os.environ.get("WORKBENCH_FUZZ", "12"))
    first = 0 if seconds <= 60 else int(time.time()) * 1000  # a long run looks at new cases
    fuzzer = fuzz.Fuzzer()
    count = fuzzer.run(first, seconds)
    assert not fuzzer.failures, "\n".join(fuzzer.failures[:5])
    assert count > 50 and fuzzer.counts["refused"] > count / 4 and fuzzer.counts["worked"] > count / 20


def test_a_crash_and_a_hang_are_seen(monkeypatch) -> None:
    """The watch works: a process that ends, or says nothing, is a failure, and the next case runs again."""
    fuzzer = fuzz.Fuzzer()
    fuzzer._start()
    fuzzer._one("crash")
    with monkeypatch.context() as patch:
        patch.setattr(fuzz, "SECONDS_PER_CASE", 1)
        fuzzer._one("hang")
    fuzzer._one(5)
    fuzzer._stop()
    assert fuzzer.failures == ["case crash: the process ended with 7", "case hang: hangs"]
    assert sum(fuzzer.counts.values()) == 3
