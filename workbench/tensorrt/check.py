"""`check`: what TensorRT will refuse or be slow with, before any build."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..backends import Worker
from ..edits.base import Edit
from ..errors import EditError, NotInModelError
from ..model import Model, load
from .build import short, using
from .fixes import ExpandOperator
from .rules import ON_REQUEST, SEEN_BY_PARSER, SEEN_WITH_RTX, Finding, findings

if TYPE_CHECKING:
    import pandas as pd

_ADVICE = (
    "no operators are known that mean the same and that TensorRT takes: put others in its place (replace_nodes), load "
    "a plugin of its name, or leave this part to another runtime"
)
_EXPANDED = "the edit puts there what ONNX's standard defines it by: the same up to rounding"
_ROUNDS = 60  # times that the parser is asked again, without what it refused the time before


@dataclass(frozen=True, eq=False)
class Check:
    """What `workbench.tensorrt.check` found.

    Attributes:
        model: what was checked, for which inputs and shapes.
        findings: errors first.
        refused: node of the main graph -> why the parser refused it.
        unchecked: why some nodes could not be judged by the parser, or ``""``.
        library, version: of TensorRT.
    """

    model: Model
    findings: tuple[Finding, ...]
    refused: Mapping[str, str]
    library: str
    version: str
    unchecked: str = ""
    inputs: Any = field(default=None, repr=False)
    shapes: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing was found that keeps an engine from being built."""
        return not any(finding.severity == "error" for finding in self.findings)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per finding: ``severity``, ``rule``, ``node``, ``op_type``, ``reason``, ``fix`` (as a line of Python,
        ``""`` where there is none), ``advice`` (why there is none, or what it changes, and what to do)."""
        import pandas as pd

        columns = ["severity", "rule", "node", "op_type", "reason", "advice"]
        rows = [
            {name: getattr(f, name) for name in columns} | {"fix": str(f.edit or "")} for f in self.findings
        ]
        return pd.DataFrame(rows, columns=[*columns[:-1], "fix", "advice"])

    @cached_property
    def nodes(self) -> pd.DataFrame:
        """Every node of the main graph, index ``node``: ``op_type``, ``supported`` by the parser, ``reason``."""
        import pandas as pd

        rows = [
            {"node": n.name, "op_type": n.op_type, "supported": n.name not in self.refused,
             "reason": self.refused.get(n.name or "", "")}
            for n in self.model.ir.graph
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["node", "op_type", "supported", "reason"]).set_index("node")

    def fix(self, rules: Sequence[str] | None = None) -> Model:
        """The model with every finding's edit applied, until none is left that has one. It computes what it did; where
        a branch of an If was taken (rule ``branches``), for inputs like those that the finding names.

        Args:
            rules: only findings of these rules; None: of all but those whose edit asks for other data or changes
                numbers (``int64_input``, ``float64``, ``layout``, ``half_quantized``).

        Raises:
            NotInModelError: a rule that found nothing.
        """
        known = {finding.rule for finding in self.findings}
        for rule in rules or ():
            if rule not in known:
                raise NotInModelError(
                    f"no finding of rule {rule!r}; there are {', '.join(sorted(known)) or 'none'}"
                )
        wanted = known - ON_REQUEST if rules is None else set(rules)
        model = self.model
        todo = [finding for finding in self.findings if finding.rule in wanted and finding.edit is not None]
        for _ in range(_ROUNDS):
            before = model
            for finding in todo:
                model = _applied(model, finding)
            if model is before:
                break
            todo = [
                f
                for f in findings(model, self.inputs, self.shapes)
                if f.rule in wanted and f.edit is not None
            ]
        return model

    def __repr__(self) -> str:
        counts = {s: sum(f.severity == s for f in self.findings) for s in ("error", "warning", "cost")}
        said = ", ".join(
            f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count
        )
        lines = [
            f"<Check of {self.model.name!r} with {self.library} {self.version}: {said or 'nothing found'}>"
        ]
        for finding in self.findings[:20]:
            fix = f"; fix: {finding.edit}" if finding.edit is not None else f"; {finding.advice}"
            lines.append(f"  {finding.severity}: {finding.op_type} {finding.node!r}: {finding.reason}{fix}")
        if len(self.findings) > 20:
            lines.append(f"  and {len(self.findings) - 20} more: see .table")
        return "\n".join([*lines, *([f"  {self.unchecked}"] if self.unchecked else [])])


def _judged(finding: Finding, library: str) -> Finding:
    """What the builder of one library was seen to refuse is a warning for another."""
    if finding.rule not in SEEN_WITH_RTX or library == "tensorrt_rtx":
        return finding
    return replace(finding, severity="warning", reason=f"{finding.reason} (seen with TensorRT-RTX 1.7)")


def _offered(model: Model, finding: Finding) -> Finding:
    """With its edit only where that applies."""
    try:
        if finding.edit is not None:
            finding.fix(model)
    except (EditError, NotInModelError):
        return replace(finding, edit=None)
    return finding


def _applied(model: Model, finding: Finding) -> Model:
    """With the fix; as it was where another fix has removed what this one is for."""
    try:
        return finding.fix(model)
    except (EditError, NotInModelError):
        return model


def check(
    model: Any,
    *,
    inputs: Any = None,
    shapes: Mapping[str, Any] | None = None,
    backend: str | None = None,
    timeout: float = 600.0,
    worker: Worker | None = None,
) -> Check:
    """What TensorRT will refuse, compute differently or be slow with, node by node, before any build.

    TensorRT's own parser is asked (``supports_model_v2``); where it refuses a node, it is asked again without that one,
    so that every refused node is found. To that come the rules of `workbench.tensorrt.rules`: what only the builder
    refuses, what is costly, and for many findings an edit: `Check.fix`.

    Args:
        model: a Model, or anything that `workbench.load` takes.
        inputs, shapes: for which conditions in the model are judged; see `workbench.inputs.feeds`.
        backend: ``tensorrt`` or ``tensorrt_rtx``; None: the first that is installed.
        timeout: seconds that the parser may take each time.
        worker: use this worker (of ``Worker("tensorrt")``) instead of a new one.

    Raises:
        BackendError: the library is not installed, crashed or timed out.
    """
    model = model if isinstance(model, Model) else load(model)
    known = findings(model, inputs, shapes)
    with using(worker, backend, timeout) as worker:
        about = worker.call("about", phase="start")
        asked = _Asked(model, worker, known)
        asked.run()
    found = [f for f in known if f.rule not in SEEN_BY_PARSER or f.rule in asked.confirmed]
    named = {finding.node for finding in found if finding.severity == "error"}
    found += [
        Finding("parser", "error", node, op_type, reason, edit, _EXPANDED if edit else _ADVICE)
        for node, op_type, reason in asked.others
        for edit in [asked.expanded.get(node)]
        if node not in named
    ]
    found = [f if f in asked.applied else _offered(model, f) for f in found]
    found = [_judged(finding, about["library"]) for finding in found]
    order = ("error", "warning", "cost")
    refused = asked.refused | {f.node: f.reason for f in found if f.rule in asked.confirmed}
    return Check(
        model, tuple(sorted(found, key=lambda f: order.index(f.severity))), refused,
        about["library"], about["version"], asked.unchecked, inputs, shapes,
    )  # fmt: skip


class _Asked:
    """The parser's answers about a model, and about it without what was refused."""

    def __init__(self, model: Model, worker: Worker, known: Sequence[Finding]):
        self.model, self.worker = model, worker
        self.applied: set[Finding] = set()
        self.pending = {f.node: f for f in known if f.rule in SEEN_BY_PARSER}
        self.confirmed: set[str] = set()
        self.refused: dict[str, str] = {}
        self.others: list[tuple[str, str, str]] = []
        # node -> the edit that expands it, None where what it stands for is refused, too
        self.expanded: dict[str, Edit | None] = {}
        self.unchecked = ""
        self.main = {node.name or "": node.op_type for node in model.ir.graph}

    def run(self) -> None:
        """Ask until the parser has nothing against what is left."""
        scratch, main = self.model, self.main
        for _ in range(_ROUNDS):
            data = scratch.to_proto().SerializeToString()
            said = self.worker.call("support", phase="parse", label=self.model.name, model=data)
            if said["supported"]:
                return
            gone = []
            for error in said["errors"]:
                node = self._name(scratch, error)
                finding = self.pending.get(node) or self._of_input(error)
                if finding is not None:
                    self.confirmed.add(finding.rule)
                elif node in self.expanded:
                    self.expanded[node] = None
                    gone.append(error["node"])
                else:
                    self.others.append((node, main.get(node, error["op_type"]), said_of(error, node)))
                    gone.append(node)
                if node:
                    self.refused[node] = said_of(error, node)
            after = self._without(scratch, gone)
            if after is None:
                return
            scratch = after
        self.unchecked = f"the parser was asked {_ROUNDS} times; there may be more that it refuses"

    def _name(self, scratch: Model, error: Mapping[str, Any]) -> str:
        """The node of the main graph that an error is about: it may be about one in a body."""
        if error["node"] in self.main:
            return str(error["node"])
        from ..edits.origins import of_node
        from ..model.scopes import nested

        for node in scratch.ir.graph:
            if node.name == error["node"]:
                return next((name for name in of_node(node) if name in self.expanded), node.name or "")
            if any(inner.name == error["node"] for inner in nested(node)):
                return node.name or ""
        return str(error["node"])

    def _of_input(self, error: Mapping[str, Any]) -> Finding | None:
        """Errors about inputs name no node."""
        inputs = (f for f in self.pending.values() if f.rule == "input_type")
        return next(inputs, None) if not error["node"] else None

    def _without(self, scratch: Model, gone: Sequence[str]) -> Model | None:
        """The model to ask about next: what rules can fix is fixed, what they cannot is cut out."""
        before = scratch
        for finding in [f for f in self.pending.values() if f.rule in self.confirmed]:
            after = _applied(scratch, finding)
            if after is not scratch:
                self.applied.add(finding)
            scratch = after
            del self.pending[finding.node]
        for node in dict.fromkeys(gone):
            try:
                if node in self.main and node not in self.expanded:
                    edit = ExpandOperator(node)
                    with contextlib.suppress(EditError):
                        scratch = scratch.apply(edit)
                        self.expanded[node] = edit
                        continue
                scratch = scratch.delete(node, how="cut")
            except (EditError, NotInModelError) as error:
                self.unchecked = f"what follows node {node!r} was not shown to the parser: {error}"
                return None
        if scratch is before:
            self.unchecked = "the parser refused the model again after what it named was taken out"
            return None
        return scratch


def said_of(error: Mapping[str, Any], node: str) -> str:
    """A reason in words, where the parser gives a condition of its own code."""
    text, op_type = short(error["reason"]), error["op_type"]
    if "Plugin not found" in text:
        text = f"{op_type} is no operator that TensorRT knows, and no plugin of that name is loaded"
    elif "plugin creator" in text and "not found" in text:
        text = f"TensorRT does {op_type} by a plugin of its own, which this version does not have"
    elif text in ("false", ""):
        text = f"TensorRT has no {op_type}"
    inside = error["node"] and error["node"] != node
    return f"in its body, node {error['node']!r} ({op_type}): {text}" if inside else text
