"""The smallest set of nodes to keep in float32.

1. One comparison with everything rounded gives each edge's share of the outputs' noise (``noise``), and at once all
   nodes that overflow. Where something overflows, what is after it tells nothing: a second comparison, with those
   nodes kept, does.
2. The ranking by that is measured: full runs with its first k nodes kept, k from where the estimate says that the
   tolerance is met, doubling while it is not, then bisecting. Where it turns out far off, the noise that is left is
   compared and ranked again, with what was kept so far.
3. What has no part in it is dropped: each node (or group, where there are many) is run without.

The number of runs is bounded; each comparison counts as three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..compare import compare
from ..errors import CompareError, EditError
from ..inputs import feeds as make_feeds
from ..model import Model, load
from ..segments import Graph
from .noise import HUGE, Edge, Ledger, rank
from .plan import check_type, warn_of_opset
from .result import Run, SearchResult
from .rewrite import opsets_have_cast
from .speed import Speed, estimate_ms
from .trials import Metric, Trial, Trials, as_model

COMPARED = 3
"""Runs that a comparison stands for: the model, its simulation, and each node on the model's values."""
FAR_OFF = 2.5
"""Times the estimate from which on a measured error is not explained by it."""


class _Ended(Exception):
    """No run is left, or the caller does not want to go on."""


@dataclass
class Search:
    """One search under way.

    Attributes:
        units: nodes that may be kept; one with bodies stands for what is in them.
        fixed: what is kept in any case.
        edges: what rounds, by what must be kept to remove it; shares are relative to one another.
    """

    trials: Trials
    ledger: Ledger
    units: list[str]
    fixed: frozenset[str]
    budget: int
    tick: Callable[[str], None]
    cancel: Callable[[], bool]
    edges: dict[frozenset[str], float] = field(default_factory=dict)
    best: frozenset[str] | None = None
    ended: str = ""

    def __post_init__(self) -> None:
        self.inner = self.ledger.inner()

    def run(self) -> None:
        """Search until each node of the set has been tried without, or nothing is left to run with."""
        try:
            if self.measure(frozenset()).ok:
                return
            prefix = self.grow()
            self.prune(prefix)
        except _Ended as end:
            self.ended = str(end)

    def measure(self, keep: Iterable[str]) -> Trial:
        """A full run."""
        wanted = self.fixed | frozenset(keep)
        self._may(self.trials.cost(wanted))
        trial = self.trials.trial(wanted)
        found = trial.keep - self.fixed
        if trial.ok and (self.best is None or self._size(found) < self._size(self.best)):
            self.best = found
        count = len(found)
        self.tick(f"{count} kept: error {trial.error:.3g}{' fits' if trial.ok else ''}")
        return trial

    def _size(self, keep: Iterable[str]) -> int:
        """How many nodes compute in float32 when these are kept."""
        return sum(len(self.inner.get(name, (name,))) for name in keep)

    def _may(self, runs: int) -> None:
        if self.cancel():
            raise _Ended("cancelled")
        if self.trials.runs + runs > self.budget:
            raise _Ended(f"the {self.budget} runs were used up")

    def look(self, keep: frozenset[str]) -> None:
        """Compare with these nodes kept, and enter what is found into the ledger of edges."""
        kept = self.fixed | keep
        wanted = sorted(kept)
        entry = next((e for e in self.trials.kept["edges"] if e["keep"] == wanted), None)
        if entry is None:
            self._may(COMPARED)
            self.tick(f"comparing with {len(keep)} kept")
            comparison = compare(
                self.trials.model,
                as_model(self.trials.simulated(wanted)),
                self.trials.feeds,
                threads=self.trials.threads,
                timeout=self.trials.timeout,
                progress=False,
            )
            self.trials.count(COMPARED)
            found = self.ledger.edges(comparison.records, kept)
            entry = {"keep": wanted, "edges": [[sorted(edge.nodes), edge.share] for edge in found]}
            self.trials.kept["edges"].append(entry)
            self.trials.write_state()
        error = self.trials.trial(kept).error
        scale = error * error if math.isfinite(error) and error > 0 else 1.0
        for nodes, share in entry["edges"]:
            self.edges[frozenset(nodes)] = share if share >= HUGE else share * scale

    def grow(self) -> list[str]:
        """A list of nodes that is enough when kept."""
        base: frozenset[str] = frozenset()
        self.look(base)
        for _ in range(3):
            broken = {n for nodes, share in self.edges.items() if share >= HUGE for n in nodes} - base
            if not broken:
                break
            base |= broken
            if self.measure(base).ok:
                return self.ordered(base)
            self.look(base)
        while True:
            order = rank((Edge(nodes, share) for nodes, share in self.edges.items()), self.units, base)
            names = [name for name, _ in order]
            if not names:
                raise self._no_set()
            now = self.trials.trial(self.fixed | base).error
            guess = self._guess(order, now)
            trial = self.measure(base | set(names[:guess]))
            far_off = self._far_off(trial.error, now * math.sqrt(order[guess - 1][1]))
            if trial.ok or not far_off or not self._may_look():
                return self._bisect(base, names, 0, guess, trial.ok)
            base |= set(names[:guess])
            self.look(base)

    def _no_set(self) -> CompareError:
        error = self.trials.trial(self.fixed | frozenset(self.units)).error
        return CompareError(
            f"the search found no set: with every node in float32 the error is still {error:.3g}, beyond the tolerance "
            f"{self.trials.tolerance}; the metric may not be one of these outputs, or may vary from call to call; with "
            "keep_io=False, rounding the inputs may be enough"
        )

    def _may_look(self) -> bool:
        """Whether there are runs for another comparison, and to bisect and prune after it."""
        return self.trials.runs + 2 * COMPARED + math.log2(len(self.units) + 1) < self.budget

    def _guess(self, order: list[tuple[str, float]], now: float) -> int:
        """How many nodes of a ranking should be enough, if errors go with the square root of the noise energy."""
        limit = self.trials.tolerance
        wanted = limit if not isinstance(limit, Mapping) else now / 2
        for count, (_, left) in enumerate(order, 1):
            if now * math.sqrt(left) <= wanted:
                return count
        return len(order)

    def _far_off(self, error: float, expected: float) -> bool:
        """Whether keeping nodes left much more error than the estimate says: then other noise was hidden behind it."""
        limit = self.trials.tolerance
        return not error <= FAR_OFF * max(expected, 0.0 if isinstance(limit, Mapping) else limit)

    def _bisect(self, base: frozenset[str], names: list[str], low: int, probe: int, ok: bool) -> list[str]:
        """The fewest nodes of a ranking that are enough together with ``base``."""
        high = probe if ok else None
        low = low if ok else probe
        while high is None:
            probe = min(len(names), max(low + 1, 2 * low))
            if self.measure(base | set(names[:probe])).ok:
                high = probe
            elif probe == len(names):
                raise self._no_set()
            else:
                low = probe
        while high - low > 1:
            middle = (low + high) // 2
            if self.measure(base | set(names[:middle])).ok:
                high = middle
            else:
                low = middle
        return [*self.ordered(base), *names[:high]]

    def prune(self, kept: list[str]) -> None:
        """Drop what is not needed: first what has no edge to itself, then groups, then one by one; then in bodies."""
        now = self._useful(frozenset(kept))
        if len(now) < len(kept) and not self.measure(now).ok:
            now = frozenset(kept)
        now = self._shrink(frozenset(), now)
        for name in self.ordered(now):
            inner = self.inner.get(name)
            if inner:
                now -= {name}
                now |= self._shrink(now, frozenset(inner))

    def _shrink(self, rest: frozenset[str], now: frozenset[str]) -> frozenset[str]:
        """A part of ``now`` that is enough together with ``rest``, each node of which was tried without."""
        left = self.budget - self.trials.runs
        size = max(1, -(-2 * len(now) // max(1, left)))
        while now:
            order = sorted(now, key=lambda name: (self._loss(name, now), name))
            for start in range(0, len(order), size):
                group = frozenset(order[start : start + size]) & now
                if not group:
                    continue
                less = self._useful(now - group)
                if self.measure(rest | less).ok:
                    now = less
            if size == 1:
                break
            size = max(1, size // 2)
        return now

    def _useful(self, keep: frozenset[str]) -> frozenset[str]:
        """Without nodes that remove no rounding, because what they read and make is rounded by others."""
        whole = keep | self.fixed
        active = {name for nodes in self.edges if nodes <= whole for name in nodes}
        known = {
            name for nodes in self.edges for name in nodes
        } - self.inner.keys()  # of bodies little is known
        return frozenset(name for name in keep if name in active or name not in known)

    def _loss(self, name: str, keep: frozenset[str]) -> float:
        """The noise that comes back when a node is dropped."""
        whole = keep | self.fixed
        return sum(share for nodes, share in self.edges.items() if name in nodes and nodes <= whole)

    def ordered(self, keep: Iterable[str]) -> list[str]:
        """Nodes in the order of the graph; those in bodies follow the node that holds them."""
        names = [n for unit in self.units for n in (unit, *self.inner.get(unit, ()))]
        place = {name: index for index, name in enumerate(names)}
        return sorted(keep, key=lambda name: (place.get(name, -1), name))


def search(
    model: Any,
    to: str,
    *,
    inputs: Any = None,
    shapes: Mapping[str, Any] | None = None,
    count: int = 1,
    seed: int = 0,
    tolerance: float | Mapping[str, float] = 1e-3,
    metric: Metric | None = None,
    keep: Iterable[str] = (),
    keep_io: bool = True,
    max_runs: int | None = None,
    speed: Speed | None = None,
    state: Any = None,
    cancel: Callable[[], bool] | None = None,
    timeout: float = 600.0,
    threads: int | None = None,
    progress: bool = True,
) -> SearchResult:
    """Find the smallest set of nodes to keep in float32, so that what the model gives is within tolerance.

    Runs on the CPU, with fp16 or bf16 simulated (``simulate``). The nodes need not be neighbours.

    Args:
        model: a Model, or what ``workbench.load`` takes.
        to: ``"fp16"`` or ``"bf16"``.
        inputs, shapes, count, seed: as for ``workbench.compare``.
        tolerance: what every output must be within, as for ``workbench.compare``; the limit of ``metric``, if given.
        metric: a function of two lists, the outputs in float32 and in the low type (one dict, name -> array, per
            input), to a number that may be at most ``tolerance``: an accuracy lost, for example.
        keep: nodes that are kept in any case.
        keep_io: as for ``convert``.
        max_runs: full runs (of all inputs), a comparison counted as three; None: 2 log2(n) + 20 for n nodes.
        speed: of the device, for estimated times; None: an A100.
        state: a file: results are written there after each run, and a search that was interrupted goes on from it.
        cancel: asked before each run; True ends the search with what it has found by then.
        timeout: seconds that one step of the runtime may take.
        threads: of the runtime.
        progress: show a progress bar.

    Raises:
        EditError: the model cannot be converted.
        CompareError: no set is enough (a metric that varies), or the state is of another search.
        BackendError: the runtime failed.
    """
    low = check_type(to, "search")
    model = model if isinstance(model, Model) else load(model)
    _check(model, to, low, tolerance, max_runs)
    items = list(make_feeds(model, inputs, shapes=shapes, count=count, seed=seed))
    with Trials(
        model, low, items, keep_io=keep_io, tolerance=tolerance, metric=metric, state=state, timeout=timeout,
        threads=threads,
    ) as trials:  # fmt: skip
        plan = trials.plan(keep)
        warn_of_opset(plan.roles, to)
        kinds = {node.name or "": role.kind for node, role in plan.roles.nodes.items()}
        ledger = Ledger(Graph(model.to_proto()), kinds, low)
        units = [name for name in ledger.units() if name not in set(keep)]
        budget = max_runs or 2 * math.ceil(math.log2(max(2, len(units)))) + 20
        with _bar(progress, budget, trials) as tick:
            found = Search(trials, ledger, units, frozenset(keep), budget, tick, cancel or (lambda: False))
            found.run()
        return _result(found, to, speed or Speed())


def _check(
    model: Model, to: str, low: str, tolerance: float | Mapping[str, float], max_runs: int | None
) -> None:
    """Before the first run what would be seen after the last one."""
    if why := opsets_have_cast(model.ir, low):
        raise EditError(
            f"cannot search: the model cannot be converted to {to}: {why}; use convert_opset first"
        )
    if max_runs is not None and max_runs < 1:
        raise CompareError(f"cannot search: got max_runs={max_runs}, expected 1 or more, or None")
    if not isinstance(tolerance, Mapping) and not tolerance >= 0:
        raise CompareError(f"cannot search: got tolerance={tolerance}, expected a number of 0 or more")


def _result(found: Search, to: str, speed: Speed) -> SearchResult:
    """The result of a search, with estimated times."""
    trials = found.trials
    walk, _ = trials.model.walk({name: array.shape for name, array in trials.feeds[0].items()})
    tried = []
    for trial in trials.done.values():
        plan = trials.plan(sorted(trial.keep))
        tried.append(Run(trial, len(trials.roles.computing) - len(plan.low), estimate_ms(plan, walk, speed)))
    kept = found.best if found.best is not None else frozenset(found.units)
    nodes = [(n.name or "", n.op_type) for n, role in trials.roles.nodes.items() if role.kind == "computes"]
    return SearchResult(
        original=trials.model,
        to=to,
        keep=tuple(found.ordered(kept | found.fixed)),
        tolerance=trials.tolerance,
        runs=trials.runs,
        ended=found.ended,
        found=found.best is not None,
        keep_io=trials.keep_io,
        nodes=nodes,
        tried=tried,
        edges=found.edges,
    )


class _bar:
    """A progress bar over runs, with what the last one gave."""

    def __init__(self, show: bool, budget: int, trials: Trials):
        self.trials, self.bar = trials, None
        if show:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=budget, desc="precision", unit="run", delay=1, leave=False)

    def __enter__(self) -> Callable[[str], None]:
        return self._tick

    def _tick(self, text: str) -> None:
        if self.bar is not None:
            self.bar.update(self.trials.runs - self.bar.n)
            self.bar.set_postfix_str(text)

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()
