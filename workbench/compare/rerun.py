"""Values again: only what a tensor depends on is run, in a fresh worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..backends import Worker
from ..backends.memory import dtype_of
from ..errors import BackendFailed, CompareError
from ..metrics import Measure
from ..model import Model
from ..segments import Graph
from .plan import Plan, unused_prefix
from .result import SHAPES_DIFFER, Comparison, Pair
from .tracks import fitting

Values = dict[str, np.ndarray]


class Workers(NamedTuple):
    """Where the reference and the candidate run: the same worker when it is one runtime."""

    reference: Worker
    candidate: Worker


@dataclass
class Rerun:
    """The two models of a comparison, to be run in parts.

    Attributes:
        names: input of the reference -> input of the candidate.
        feeds: the inputs of the comparison; iterable again and again.
        start: options of the worker, as for the comparison: other thread counts round differently.
    """

    reference: Model
    candidate: Model
    plan: Plan
    names: Mapping[str, str]
    feeds: Any
    options: dict[str, Any]
    timeout: float
    start: dict[str, Any]
    candidate_backend: str = "onnxruntime"

    @contextmanager
    def worker(self) -> Iterator[Workers]:
        with ExitStack() as stack:
            first = stack.enter_context(Worker("onnxruntime", timeout=self.timeout, **self.start))
            other = first
            if self.candidate_backend != first.backend:
                other = stack.enter_context(Worker(self.candidate_backend, timeout=self.timeout))
            yield Workers(first, other)

    def feed(self, item: int) -> Values:
        """Input number `item`, for the reference."""
        for i, feed in enumerate(self.feeds):
            if i == item:
                return {name: np.asarray(a) for name, a in feed.items()}
        raise CompareError(f"the comparison has no input number {item}; it has {i + 1}, counted from 0")

    def run(self, worker: Worker, graph: Graph, title: str, known: Values, outputs: Sequence[str]) -> Values:
        """The tensors `outputs` from the tensors `known` (name -> value)."""
        wanted = [name for name in dict.fromkeys(outputs) if name not in known]
        result = {name: known[name] for name in outputs if name in known}
        if not wanted:
            return result
        nodes = graph.needed(wanted, known)
        made = {name for node in nodes for name in node.outputs}
        read = {name for node in nodes for name in node.inputs}
        given = {name: value for name, value in known.items() if name in read}
        # a given tensor may be one of several that a needed node makes: the node's own is then read by another name
        prefix = unused_prefix("given", graph)
        renamed = {name: prefix + name for name in given if name in made}
        types = {renamed.get(name, name): value.dtype.name for name, value in given.items()}
        proto = graph.piece(nodes, wanted, types, renamed)
        session = worker.load(proto.SerializeToString(), name=title, **self.options)
        try:
            result |= session.run({renamed.get(name, name): value for name, value in given.items()})
        finally:
            session.close()
        return result

    def on_reference(self, workers: Workers, known: Values, outputs: Sequence[str]) -> Values:
        return self.run(workers.reference, self.plan.reference, self.reference.name, known, outputs)

    def on_candidate(self, workers: Workers, known: Values, outputs: Sequence[str]) -> Values:
        return self.run(workers.candidate, self.plan.candidate, self.candidate.name, known, outputs)

    def for_candidate(self, feed: Values) -> Values:
        return fitting(self.plan.candidate, feed, self.names)

    def local(self, worker: Workers, feed: Values, tensors: Sequence[str]) -> Values:
        """What the candidate's nodes make of the reference's values; reference tensor -> value."""
        plan = self.plan
        layers = {name: self._layer(plan.pairs[name]) for name in tensors}
        wanted = dict.fromkeys(plan.back[t] for reads in layers.values() for t in reads)
        values = self.on_reference(worker, feed, list(wanted))
        dtypes = self._dtypes(worker, feed, [t for reads in layers.values() for t in reads])
        result = {}
        for name, reads in layers.items():
            known = {t: values[plan.back[t]].astype(dtype_of(dtypes[t])) for t in reads}
            other = plan.pairs[name]
            result[name] = self.on_candidate(worker, {**self.for_candidate(feed), **known}, [other])[other]
        return result

    def _layer(self, tensor: str) -> list[str]:
        """The nearest tensors upstream of a candidate's tensor that the reference has too."""
        plan = self.plan
        found: dict[str, None] = {}
        seen: set[str] = set()
        stack = [plan.candidate.producer[tensor]]
        while stack:
            for name in stack.pop().inputs:
                if name in plan.back:
                    found[name] = None
                elif name in plan.candidate.producer and name not in seen:
                    seen.add(name)
                    stack.append(plan.candidate.producer[name])
        return list(found)

    def judged(self, tensor: str) -> int:
        """How many of the candidate's nodes the local run of a reference tensor consists of, constants left out."""
        other = self.plan.pairs[tensor]
        nodes = self.plan.candidate.needed([other], self._layer(other))
        return sum(not node.constant for node in nodes)

    def _dtypes(self, worker: Workers, feed: Values, tensors: Sequence[str]) -> dict[str, str]:
        values = self.on_candidate(worker, self.for_candidate(feed), tensors)
        return {name: value.dtype.name for name, value in values.items()}

    def pair(self, tensor: str, item: int) -> Pair:
        """Both values of a reference tensor (and the local one) for one input."""
        plan = self.plan
        if tensor not in plan.pairs:
            raise CompareError(f"tensor {tensor!r} is not in both models; see the column status of the table")
        feed = self.feed(item)
        with self.worker() as worker:
            first = self.on_reference(worker, feed, [tensor])[tensor]
            other = plan.pairs[tensor]
            second = self.on_candidate(worker, self.for_candidate(feed), [other])[other]
            try:
                local = self.local(worker, feed, [tensor])[tensor]
            except BackendFailed:  # the shapes of the two models differ: there is no local value
                local = None
        return Pair(first, second, local)

    def to_polygraphy(self, tensors: list[str]) -> Any:
        """Both models' values of tensors of the reference, for all inputs, as a Polygraphy RunResults."""
        from polygraphy.comparator import IterationResult, RunResults

        plan = self.plan
        missing = [name for name in tensors if name not in plan.pairs and name not in plan.reference.inputs]
        if missing:
            raise CompareError(
                f"tensor {missing[0]!r} is not in both models; see the column status of the table"
            )
        first: list[Any] = []
        second: list[Any] = []
        with self.worker() as worker:
            for feed in self.feeds:
                a = self.on_reference(worker, feed, tensors)
                others = [plan.pairs.get(name, self.names.get(name, name)) for name in tensors]
                b = self.on_candidate(worker, self.for_candidate(feed), others)
                first.append(IterationResult(a, runner_name="reference"))
                renamed = {name: b[other] for name, other in zip(tensors, others, strict=True)}
                second.append(IterationResult(renamed, runner_name="candidate"))
        return RunResults([("reference", first), ("candidate", second)])


def from_polygraphy(results: Any, tolerance: float | Mapping[str, float]) -> Comparison:
    """See `Comparison.from_polygraphy`."""
    from polygraphy.comparator import RunResults

    from .records import measured

    if not isinstance(results, RunResults):
        path, results = results, None
        try:
            results = RunResults.load(str(path))
        except Exception as error:
            raise CompareError(f"{path} is not a file of `polygraphy run --save-outputs`: {error}") from error
    if len(results) < 2:
        raise CompareError(
            f"a comparison takes the results of two runners; got {[name for name, _ in results]}"
        )
    (first, ours), (second, theirs) = list(results)[:2]
    if len(ours) != len(theirs):
        raise CompareError(
            f"runner {first!r} has {len(ours)} iterations, {second!r} has {len(theirs)}; run both alike"
        )
    names = dict.fromkeys(name for item in ours for name in item)
    rows = []
    for name in names:
        measure, status, dtype, shape = Measure(), "", "", None
        for a, b in zip(ours, theirs, strict=True):
            if name not in b:
                status = f"only in {first}"
                break
            x, y = np.asarray(a[name]), np.asarray(b[name])
            dtype, shape = x.dtype.name, x.shape
            if x.shape != y.shape:
                status = f"{SHAPES_DIFFER}: {list(x.shape)} and {list(y.shape)}"
                break
            measure.add(x, y)
        rows.append(measured(name, dtype, shape, status, measure))
    for name in dict.fromkeys(name for item in theirs for name in item):
        if name not in names:
            rows.append(measured(name, "", None, f"only in {second}", None))
    for order, row in enumerate(rows):
        row["order"] = row["depth"] = order
    meta = {"reference": first, "candidate": second, "runtime": "polygraphy", "inputs": len(ours)}
    return Comparison(rows, tuple(names), tolerance, meta)
