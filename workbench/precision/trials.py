"""Full runs of simulated models: each measured once, counted, and kept in a file so that a search can go on later."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import Worker
from ..compare import Comparison
from ..compare.records import measured
from ..errors import CompareError
from ..metrics import Measure
from ..model import Model, load
from ..model import proto as protos
from ..model.save import large, spill
from ..model.scopes import tensors
from ..model.weights import FileTensor
from .plan import Plan, Roles, borrowed, make, roles_of
from .rewrite import Rewrite
from .weights import Rounded

SPILLED = 16 << 20
"""Bytes of weights from which on runs read them from a file."""
Outputs = list[dict[str, np.ndarray]]
Metric = Callable[[Outputs, Outputs], float]


@dataclass(frozen=True)
class Trial:
    """One full run.

    Attributes:
        keep: what was kept in float32.
        error: of the outputs (see `Comparison.table`), the worst over outputs and inputs; or what the metric gave.
        ok: whether that is within tolerance.
    """

    keep: frozenset[str]
    error: float
    ok: bool


class Trials:
    """A model, its simulation with any nodes kept, and what came of running that.

    Args:
        model: in float32.
        low: the dtype.
        feeds: the inputs; run one after the other.
        tolerance, metric: see ``search``.
        state: a file to keep results in, and to go on from.
    """

    def __init__(
        self,
        model: Model,
        low: str,
        feeds: Sequence[Mapping[str, np.ndarray]],
        *,
        keep_io: bool = True,
        tolerance: float | Mapping[str, float] = 1e-3,
        metric: Metric | None = None,
        state: str | os.PathLike[str] | None = None,
        timeout: float = 600.0,
        threads: int | None = None,
    ):
        self.model, self.low, self.keep_io = model, low, keep_io
        self.feeds = [{name: np.asarray(array) for name, array in feed.items()} for feed in feeds]
        self.tolerance, self.metric = tolerance, metric
        self.timeout = timeout
        # as a comparison: all cores at once lose more by waiting for one another than they win on small models
        self.threads = threads or max(1, (os.cpu_count() or 1) // 2)
        self.done: dict[frozenset[str], Trial] = {}
        self.runs = 0
        self.rounded = Rounded(low, simulated=True)
        self._roles: Roles | None = None
        self._reference: Outputs | None = None
        self._worker: Worker | None = None
        self._folder: tempfile.TemporaryDirectory | None = None
        self._spilled: dict[int, tuple[str, int]] | None = None
        self.state = Path(state) if state is not None else None
        self.kept: dict[str, Any] = self._read_state()

    # -- the graph --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _draft(self) -> Any:
        """See ``borrowed``; roles are found on the first call."""
        with borrowed(self.model) as draft:
            if self._roles is None:
                self._roles = roles_of(draft, self.low)
            yield draft

    @property
    def roles(self) -> Roles:
        """What each node can do."""
        with self._draft():
            assert self._roles is not None
            return self._roles

    def plan(self, keep: Iterable[str]) -> Plan:
        """Which tensor has which type."""
        with self._draft() as draft:
            return make(draft, self._roles, tuple(keep), self.keep_io)  # type: ignore[arg-type]

    def simulated(self, keep: Iterable[str]) -> bytes:
        """The simulated model, encoded; large weights are in a file that lives as long as this object."""
        with self._draft() as draft:
            plan = make(draft, self._roles, tuple(keep), self.keep_io)  # type: ignore[arg-type]
            Rewrite(draft, plan, self.rounded).run()
            if self._spilled is None:
                self._spill()
            return protos.encode(protos.runnable(draft.model, self._spilled or {}))

    def _spill(self) -> None:
        """Put weights, rounded and not, into a file, so that a run need not carry them."""
        rounded = [tensor for before, after, _ in self.rounded.made.values() for tensor in (before, after)]
        held = {
            id(tensor): tensor
            for tensor in (*tensors(self.model.ir), *rounded)
            if large(tensor) and not (isinstance(tensor, FileTensor) and not tensor.file.embedded)
        }
        self._spilled = {}
        if sum(tensor.nbytes for tensor in held.values()) < SPILLED:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-precision-")
        path = Path(self._folder.name) / "weights.data"
        self._spilled = {key: (protos.location(path), at) for key, at in spill(held.values(), path).items()}

    # -- running ----------------------------------------------------------------------------------------------

    def trial(self, keep: Iterable[str]) -> Trial:
        """Run with these nodes kept, unless that was done before."""
        wanted = frozenset(keep)
        if wanted not in self.done:
            entry = self._known(wanted)
            if entry is None:
                reference = self.reference()
                entry = self._judge(reference, self._run(self.simulated(sorted(wanted)), self.model.name))
                self.count(1)
                self.kept["trials"].append({"keep": sorted(wanted), **entry})
                self.write_state()
            self.done[wanted] = Trial(wanted, entry["error"], self._ok(entry))
        return self.done[wanted]

    def cost(self, keep: frozenset[str]) -> int:
        """The full runs that a trial takes: none where it was made before."""
        if keep in self.done or self._known(keep) is not None:
            return 0
        return 1 if self._reference is not None else 2

    def count(self, runs: int) -> None:
        """Add to the number of full runs."""
        self.runs += runs
        self.kept["runs"] = self.kept.get("runs", 0) + runs

    def reference(self) -> Outputs:
        """The outputs of the model in float32."""
        if self._reference is None:
            self._reference = self._run(self.model.to_proto().SerializeToString(), self.model.name)
            self.count(1)
        return self._reference

    def _run(self, model: bytes, name: str) -> Outputs:
        if self._worker is None:
            self._worker = Worker("onnxruntime", timeout=self.timeout)
        session = self._worker.load(model, name=name, optimize="none", threads=self.threads)
        try:
            return [session.run(feed) for feed in self.feeds]
        finally:
            session.close()

    def _judge(self, reference: Outputs, outputs: Outputs) -> dict[str, Any]:
        if self.metric is not None:
            made = self.metric(reference, outputs)
            try:
                return {"error": float(made), "metric": True}
            except (TypeError, ValueError):
                raise CompareError(
                    f"cannot search by the metric: it gave {made!r}, expected a number that may be at most the "
                    "tolerance"
                ) from None
        rows = []
        for name in reference[0]:
            measure = Measure()
            for a, b in zip(reference, outputs, strict=True):
                if a[name].shape != b[name].shape:
                    raise CompareError(
                        f"output {name!r} has shape {list(b[name].shape)} when computed in {self.low}, expected "
                        f"{list(a[name].shape)}: values decide its shape; judge it by a metric="
                    )
                measure.add(a[name], b[name])
            first = reference[0][name]
            rows.append(measured(name, first.dtype.name, list(first.shape), "", measure))
        return {"error": max((row["error"] for row in rows), default=0.0), "rows": rows}

    def _ok(self, entry: Mapping[str, Any]) -> bool:
        if self.metric is not None:
            limit = self.tolerance
            if isinstance(limit, Mapping):
                raise CompareError(
                    f"got tolerance={dict(limit)} beside a metric; expected one number, its limit"
                )
            return bool(entry["error"] <= limit)
        rows = entry["rows"]
        return Comparison(rows, tuple(row["tensor"] for row in rows), self.tolerance).ok

    # -- going on later ---------------------------------------------------------------------------------------

    def _key(self) -> str:
        hasher = hashlib.sha256(f"{self.model.fingerprint} {self.low} {self.keep_io} ".encode())
        hasher.update(getattr(self.metric, "__qualname__", repr(type(self.metric))).encode())
        for feed in self.feeds:
            for name, array in sorted(feed.items()):
                hasher.update(f"{name} {array.dtype} {array.shape}".encode())
                hasher.update(
                    np.ascontiguousarray(array).tobytes()
                    if array.dtype.kind not in "OSU"
                    else b"".join(str(item).encode() for item in array.reshape(-1))
                )
        return hasher.hexdigest()

    def _read_state(self) -> dict[str, Any]:
        fresh: dict[str, Any] = {"workbench": 1, "trials": [], "edges": []}
        if self.state is None:
            return fresh
        fresh["key"] = self._key()
        if not self.state.exists():
            return fresh
        try:
            found: dict[str, Any] = json.loads(self.state.read_text())
            known = found["key"]
        except (ValueError, KeyError, TypeError) as error:
            raise CompareError(
                f"cannot go on with the search in {self.state}: it is not the state of a search ({error}); give "
                "another file, or remove it"
            ) from error
        if known != fresh["key"]:
            raise CompareError(
                f"cannot go on with the search in {self.state}: it is of another model, type, metric or other inputs; "
                "give another file, or remove it"
            )
        return found

    def write_state(self) -> None:
        """Write what is known to the state file, if there is one."""
        if self.state is not None:
            part = self.state.with_name(f"{self.state.name}.{os.getpid()}")
            part.write_text(json.dumps(self.kept))
            part.replace(self.state)

    def _known(self, keep: frozenset[str]) -> dict[str, Any] | None:
        wanted = sorted(keep)
        return next((entry for entry in self.kept["trials"] if entry["keep"] == wanted), None)

    def close(self) -> None:
        """End the worker and remove the weights' file."""
        if self._worker is not None:
            self._worker.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._worker = self._folder = None
        self._spilled = None

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def as_model(encoded: bytes) -> Model:
    """A Model of what ``Trials.simulated`` gave."""
    return load(encoded, base_dir="/")
