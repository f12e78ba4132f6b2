"""Run any command and watch it from outside: wall time, and the peak memory of its whole process tree.

    python -m tests.bench.watch [--json FILE] [--interval SECONDS] -- COMMAND …

Memory is the sum of PSS (proportional set size, /proc/PID/smaps_rollup) over the command and all its
descendants: a page that several processes share is counted once in total. It is sampled every 20 ms while the
tree is near its largest resident size (which costs little to ask for); the peak is the largest sum that was seen.
Descendants that lose their parent stay in the tree (they are adopted): a process that the command leaves
behind is found, reported and ended. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 1.0  # what still runs this long after the command has ended was left behind


@dataclass
class Watched:
    """What was seen of one command. Sizes in bytes, times in seconds."""

    returncode: int
    seconds: float
    cpu_seconds: float  # of all processes of the tree together
    peak_bytes: int
    peak_resident_bytes: int  # shared pages counted in each process that has them
    samples: int
    sampling_share: float  # of one core, spent on looking
    most_processes: int
    left_behind: list[str] = field(default_factory=list)
    left_in_shm: list[str] = field(default_factory=list)


def parents() -> dict[int, int]:
    """pid -> parent pid, of every process that is not a zombie."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found[int(entry)] = int(parent)
    return found


def descendants(root: int) -> list[int]:
    """Every process below `root` in the process tree, `root` itself left out."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def pss(pid: int) -> int:
    """Proportional set size of a process, in bytes; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def resident(pid: int) -> int:
    """Resident set size of a process, in bytes; 0 when it is gone."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


def _shm() -> set[str]:
    with contextlib.suppress(OSError):
        return set(os.listdir("/dev/shm"))
    return set()


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "?"


def watch(command: list[str], *, interval: float = 0.02, timeout: float | None = None, **popen) -> Watched:
    """Run `command` to its end and say what it took. Call it from a process that has no other children.

    Args:
        command: the argument list.
        interval: seconds between two samples.
        timeout: after so many seconds the whole tree is killed and `returncode` is -9.
        popen: passed to `subprocess.Popen` (cwd, env, stdout, …).
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    shm, started = _shm(), time.perf_counter()
    peak = samples = most = highest = 0
    spent, rest, ended = 0.0, 0.0, None
    process = subprocess.Popen(command, **popen)
    while ended is None:
        begun = time.perf_counter()
        tree = descendants(os.getpid())
        most, together = max(most, len(tree)), sum(map(resident, tree))
        highest = max(highest, together)
        if (
            begun >= rest and together >= 0.9 * highest
        ):  # resident size is quick to ask for: PSS only near its peak
            peak, samples = max(peak, sum(map(pss, tree))), samples + 1
            rest = 2 * time.perf_counter() - begun  # as long as the look took
        spent += time.perf_counter() - begun
        if timeout and begun - started > timeout:
            for pid in tree:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(interval - (time.perf_counter() - begun), 0.001))
            ended = time.perf_counter()
    left = _end_what_is_left()
    seconds = ended - started
    gone = sorted(_shm() - shm)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    share = spent / seconds
    return Watched(process.returncode, seconds, cpu, peak, highest, samples, share, most, left, gone)


def _end_what_is_left() -> list[str]:
    until = time.perf_counter() + GRACE_SECONDS
    while descendants(os.getpid()) and time.perf_counter() < until:
        time.sleep(0.02)
    left = {pid: _name(pid) for pid in descendants(os.getpid())}
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return list(left.values())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.watch", description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures here instead of to stderr")
    parser.add_argument("--interval", type=float, default=0.02, metavar="SECONDS")
    parser.add_argument("--timeout", type=float, metavar="SECONDS")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    seen = watch(command, interval=options.interval, timeout=options.timeout)
    text = json.dumps(asdict(seen))
    if options.json:
        Path(options.json).write_text(text)
    else:
        print(text, file=sys.stderr)
    return seen.returncode if 0 <= seen.returncode < 256 else 1


if __name__ == "__main__":
    sys.exit(main())
