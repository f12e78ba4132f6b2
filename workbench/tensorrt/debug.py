"""Comparing a model with an engine, tensor by tensor, without breaking the engine's fusions.

An engine built with ``debug_tensors=True`` hands out the tensors that it did not fuse away. The reference runs
beside it on ONNX Runtime, group by group: the tensors of one group are held, the engine runs, each of its tensors is
reduced to its difference from the reference while it is alive, and the group is dropped. So memory stays bounded, and
the engine runs once per group. Not run on hardware yet: tested against a stand-in that obeys the documented contract.

The *local* error of a tensor is judged the other way round than between two models, since an engine's layers cannot be
run alone: the model's own nodes are run on the engine's values, and the engine's next values are held against that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backends import Session, Worker
from ..backends.memory import dtype_of
from ..compare import Comparison
from ..compare.plan import unused_prefix
from ..compare.records import measured
from ..errors import CompareError
from ..inputs import feeds
from ..metrics import MEASURES, Measure
from ..model import load
from ..model.shapes import infer
from ..segments import Graph, Node
from .build import BuildResult, using
from .engine import Engine
from .run import fitting

NOT_THERE = "fused away: the engine does not hand it out"
INTERNAL = "only in the engine: no tensor of the model is known for it"

Arrays = dict[str, np.ndarray]


def compare(
    reference: Any,
    built: BuildResult,
    inputs: Any = None,
    *,
    shapes: Mapping[str, Any] | None = None,
    count: int = 1,
    seed: int = 0,
    tolerance: float | Mapping[str, float] = 1e-3,
    local: bool = True,
    memory_budget: int = 128 << 20,
    timeout: float = 600.0,
    progress: bool = True,
    worker: Worker | None = None,
) -> Comparison:
    """Compare a model with an engine; see `workbench.compare` for the arguments. `worker` is one of
    ``Worker("tensorrt")`` to use instead of a new one.

    ``meta["observer"]`` says what handing out tensors changed: ``ms`` and ``ms_marked`` of a run, ``max_abs`` of the
    outputs. Rows of tensors that the engine alone has stand at the end.

    Raises:
        CompareError: the engine hands out no tensor that the model has.
        InputError: the inputs fit no optimisation profile.
        BackendError: there is no GPU that the engine runs on, or a runtime failed.
    """
    start = time.perf_counter()
    model = load(reference)
    items = feeds(model, inputs, shapes=shapes, count=count, seed=seed)
    with Worker("onnxruntime", timeout=timeout) as ort, using(worker, built.library, timeout) as trt:
        session = trt.load(built.plan, name=f"{built.model.name} (engine)")
        work = _Comparing(Graph(model.to_proto()), built, ort, session, local, memory_budget)
        done = 0
        for feed in _with_bar(items, progress):
            work.item(feed)
            done += 1
        meta = {
            "reference": model.name, "candidate": f"{built.model.name} (engine)", "runtime": built.library,
            "version": built.version, "inputs": done, "groups": len(work.groups), "memory_budget": memory_budget,
            "observer": work.observer, "debug_tensors": bool(built.settings["debug"]), "as_run": True,
            "seconds": time.perf_counter() - start,
        }  # fmt: skip
    return Comparison(work.records(), work.graph.outputs, tolerance, meta)


def _with_bar(items: Any, show: bool) -> Any:
    if not show:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, desc="compare with the engine", unit="input", delay=1, leave=False)


class _Comparing:
    """The state of one comparison.

    Attributes:
        pairs: tensor of the model -> tensor of the engine.
        groups: nodes of the model in the order of execution, cut where the tensors to be held get too large.
        observer: what handing out tensors changed, for the first input.
    """

    def __init__(
        self, graph: Graph, built: BuildResult, ort: Worker, session: Session, local: bool, budget: int
    ):
        self.graph, self.built, self.ort, self.session = graph, built, ort, session
        self.local, self.limit = local, max(1, budget // 4)
        self.groups: list[list[Node]] = []
        self.pairs: dict[str, str] = {}
        self.internal: list[tuple[str, str, tuple[int, ...]]] = []
        self.observer: dict[str, Any] = {}
        self.measures: dict[tuple[str, str], Measure] = {}
        self.problems: dict[str, str] = {}
        self.seen: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.pieces: dict[tuple[int, bool, tuple[str, ...]], Session] = {}
        self.prefix = unused_prefix("engine", graph)

    def item(self, feed: Mapping[str, np.ndarray]) -> None:
        """One input through the engine and the reference."""
        profile = fitting(self.built, feed)[0]
        census = self.session.profile(feed, task="census", profile=profile)
        if not self.groups:
            self._prepare(feed, census)
        held: tuple[Arrays, Arrays] = (
            dict(feed),
            dict(feed),
        )  # the reference's values, and those of local runs
        from_engine: Arrays = {}
        for index, nodes in enumerate(self.groups):
            reference = self._run(index, nodes, held[0])
            held[0].update(reference)
            wanted = [n for node in nodes for n in node.outputs if n in self.pairs]
            given = {f"\0{name}": reference[name] for name in wanted}
            said = self.session.profile(
                {**feed, **given}, task="measure", profile=profile,
                references={self.pairs[name]: f"\0{name}" for name in wanted},
                wanted=[self.pairs[name] for name in wanted] if self.local else [],
            )  # fmt: skip
            self._keep(wanted, reference, said)
            if self.local:
                from_engine |= {
                    n: said["values"][self.pairs[n]] for n in wanted if self.pairs[n] in said["values"]
                }
                self._local(index, nodes, held[1], from_engine)
            for table in (*held, from_engine):
                for name in [n for n in table if self.last.get(n, -1) <= index]:
                    del table[name]

    def _prepare(self, feed: Mapping[str, np.ndarray], census: Mapping[str, Any]) -> None:
        """Join the engine's tensors to the model's and cut the model into groups."""
        self.observer = {name: census[name] for name in ("ms", "ms_marked", "max_abs")}
        self.observer["tensors"] = len(census["tensors"])
        known = infer(self.graph.proto, {name: tuple(array.shape) for name, array in feed.items()})
        sizes = {name: info.shape for name, info in known.items()}
        found = {
            name: (dtype, tuple(shape)) for name, dtype, shape in (*census["tensors"], *census["outputs"])
        }
        self.pairs, self.internal = join(Engine.from_build(self.built), self.graph, found, sizes)
        if not self.pairs:
            raise CompareError(
                f"the engine of {self.built.model.name!r} hands out no tensor that the model has, not even its "
                "outputs: is it the engine of another model?"
            )
        nbytes = {name: math.prod(found[other][1]) * 4 for name, other in self.pairs.items()}
        group: list[Node] = []
        held = 0
        for node in self.graph.schedule:
            size = sum(nbytes.get(name, 0) for name in node.outputs)
            if size and held and held + size > self.limit and not self.graph.sequences:
                self.groups.append(group)
                group, held = [], 0
            group.append(node)
            held += size
        self.groups.append(group)
        self.last = {n: i for i, nodes in enumerate(self.groups) for node in nodes for n in node.inputs}
        self.at = {n: i for i, nodes in enumerate(self.groups) for node in nodes for n in node.outputs}

    def _run(
        self, index: int, nodes: list[Node], held: Arrays, renamed: Mapping[str, np.ndarray] | None = None
    ) -> Arrays:
        """Run a group on ONNX Runtime: what is compared of it, and what later groups read.

        Args:
            renamed: tensors that its nodes read with these values instead.
        """
        values = renamed or {}
        names = {name: f"{self.prefix}{name}" for name in values}
        outputs = [
            n for node in nodes for n in node.outputs
            if (n in self.pairs or self.last.get(n, -1) > index) and n not in self.graph.sequences
        ]  # fmt: skip
        made = {n for node in nodes for n in node.outputs}
        flowing = {
            names.get(n, n): values[n] if n in values else held[n]
            for node in nodes for n in node.inputs
            if n in values or (n not in made and not self.graph.is_weight(n))
        }  # fmt: skip
        if not outputs:
            return {}
        key = index, renamed is not None, tuple(sorted(names))
        if key not in self.pieces:
            types = {name: array.dtype.name for name, array in flowing.items()}
            piece = self.graph.piece(nodes, outputs, types, names)
            self.pieces[key] = self.ort.load(
                piece.SerializeToString(), name=f"group {index}", optimize="none"
            )
        return self.pieces[key].run(flowing)

    def _keep(self, wanted: list[str], reference: Arrays, said: Mapping[str, Any]) -> None:
        for name in wanted:
            other = self.pairs[name]
            self.seen[name] = reference[name].dtype.name, reference[name].shape
            if other in said["problems"]:
                self.problems[name] = said["problems"][other]
            if other in said["measures"]:
                self.measures.setdefault((name, "candidate"), Measure()).merge(said["measures"][other])

    def _local(self, index: int, nodes: list[Node], held: Arrays, from_engine: Arrays) -> None:
        """Run the group on the engine's values, and hold the engine's next values against that."""
        read = {n for node in nodes for n in node.inputs if n in from_engine}
        values = {n: from_engine[n].astype(dtype_of(self.seen[n][0])) for n in read}
        made = self._run(index, nodes, held, values)
        held.update(made)
        for name, expected in made.items():
            value = from_engine.get(name)
            if value is not None and self.at[name] == index and value.shape == expected.shape:
                self.measures.setdefault((name, "local"), Measure()).add(expected, value)

    def records(self) -> list[dict[str, Any]]:
        """The rows of the table."""
        rows = []
        for node in self.graph.order:
            for name in node.outputs:
                dtype, shape = self.seen.get(name, ("", None))
                found = self.measures.get((name, "candidate"))
                status = self.problems.get(name, "" if found is not None else NOT_THERE)
                row = measured(name, dtype, shape, status, found)
                row |= {"node": node.name, "op_type": node.op_type, "constant": node.constant}
                rows.append(row | {"engine_tensor": self.pairs.get(name, "")} | self._added(name))
        for name, dtype, shape in self.internal:
            row = measured(name, dtype, shape, INTERNAL, None)
            rows.append(row | {"engine_tensor": name} | self._added(""))
        for order, row in enumerate(rows):
            row["order"] = order
        return rows

    def _added(self, name: str) -> dict[str, Any]:
        """The local columns of a row."""
        if not self.local:
            return {}
        found = self.measures.get((name, "local"))
        status = "" if found is not None or name not in self.seen else "was not computed"
        result: Mapping[str, Any] = found.result() if found is not None else dict.fromkeys(MEASURES, math.nan)
        return {"local_status": status} | {f"local_{key}": value for key, value in result.items()}


def join(
    engine: Engine,
    graph: Graph,
    found: Mapping[str, tuple[str, tuple[int, ...]]],
    sizes: Mapping[str, Any],
) -> tuple[dict[str, str], list[tuple[str, str, tuple[int, ...]]]]:
    """Tensors of a model -> those of an engine, and the engine's that cannot be joined.

    By name; else by the engine's layer that makes it, where that layer's ONNX nodes hand one tensor of that shape on to
    others. (TensorRT gives unfused tensors names of its own, those of the engine inspector.)

    Args:
        found: tensor of the engine -> (dtype, shape).
        sizes: tensor of the model -> shape, where it is known.
    """
    pairs = {name: name for name in found if name in graph.producer}
    makers = {
        tensor: set(nodes)
        for tensors, nodes in zip(engine.layers["outputs"], engine.layers["nodes"], strict=True)
        for tensor in tensors
    } if engine.fused else {}  # fmt: skip
    internal = []
    for name, (dtype, shape) in found.items():
        if name in pairs.values():
            continue
        nodes = makers.get(name, set())
        out = [
            tensor for node in graph.order if node.name in nodes for tensor in node.outputs
            if tensor not in pairs and sizes.get(tensor) == shape
            and (tensor in graph.outputs or any(u.name not in nodes for u in graph.consumers.get(tensor, ())))
        ]  # fmt: skip
        if len(out) == 1:
            pairs[out[0]] = name
        else:
            internal.append((name, dtype, shape))
    return pairs, internal
