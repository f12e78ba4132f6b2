"""`Model.fuse` and `Model.why_not`: the rules one after the other, verified where that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from ..edits.draft import Draft
from ..edits.history import version_of
from ..errors import EditError, ModelError
from ..model import Model
from ..model.check import check_model
from ..model.costs import UNKNOWN
from .catalog import BY_NAME, RULES, named
from .edit import Done
from .report import Fused, FusionReport, Refused
from .rule import Miss, Rule, Site

ROUNDS = 4
"""Times that all rules run, each on what the ones before have left, until none finds anything."""


def fuse(
    model: Model,
    rules: Iterable[str | Rule] | str | None = None,
    verify: Any = None,
    tolerance: float | Mapping[str, float] = 1e-4,
    *,
    functions: bool = True,
    shapes: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Model:
    """Fuse what the rules find, one edit in the history each, and say what was left alone and why.

    A fused node is ONNX's operator where the model's operator set has it, else a function of the model (domain
    ``workbench``) whose body is what was there, so the file runs everywhere; the operator set is never raised
    (``convert_opset`` does that, and gives more rules an operator of ONNX).

    Args:
        rules: names (``wb.fusions.RULES``), rules of your own (``wb.fusions.rule``), or None for all of the catalog,
            in its order.
        verify: inputs, as ``wb.compare`` takes them, or True for generated ones: after each rule the model is
            compared with what it was, and what adds more error than the tolerance is taken back.
        tolerance: for the error that a fusion itself adds, and for what reaches the outputs; as in ``wb.compare``.
        functions: False leaves alone what would need a function.
        shapes: values for symbolic dims, as ``wb.compare`` takes them: for generated inputs, and to count what is
            saved.
        progress: show a progress bar when it takes longer than two seconds.

    Returns:
        The fused model. Its ``report`` is a `FusionReport`; ``history.undo()`` takes the last fusion back.

    Raises:
        EditError: there is no rule of that name.
        InputError, BackendError: verification cannot run.
    """
    chosen = resolve(rules)
    run = _Run(model, FusionReport(model.name, nodes_before=len(model.ir.graph)), functions, shapes)
    if verify is not None and verify is not False:
        from .verify import Verifier

        run.verifier = Verifier(None if verify is True else verify, tolerance, shapes)
        run.report.tolerance = tolerance if isinstance(tolerance, float | int) else None
    nothing: dict[Rule, Model] = {}  # rule -> the model in which it found nothing
    with _bar(progress, len(chosen)) as tick:
        for _ in range(ROUNDS):
            before = run.model
            for rule in chosen:
                tick(rule.name)
                if nothing.get(rule) is not run.model:
                    given = run.model
                    run.rule(rule)
                    if run.model is given:
                        nothing[rule] = given
            if run.model is before:
                break
    run.report.refusals = [*run.failed, *refusals(run.model, chosen, functions)]
    made = run.model if run.model is not model else model.at(version_of(model))
    run.report.nodes_after = len(made.ir.graph)
    made.__dict__["report"] = run.report
    return made


def resolve(rules: Iterable[str | Rule] | str | None) -> tuple[Rule, ...]:
    """Rules by name, or as they are."""
    if rules is None:
        return RULES
    given = [rules] if isinstance(rules, str | Rule) else list(rules)
    return tuple(item if isinstance(item, Rule) else named(item) for item in given)


@dataclass
class _Run:
    model: Model
    report: FusionReport
    functions: bool
    shapes: Any = None
    verifier: Any = None

    def __post_init__(self) -> None:
        self.rejected: set[tuple[str, str]] = set()
        self.failed: list[Refused] = []
        self.sound = _sound(self.model)

    def rule(self, rule: Rule) -> None:
        """Apply a rule wherever it applies."""
        before = self.model
        done = self._apply(rule)
        if not done:
            return
        if self.sound and not _sound(self.model):
            self._broken(rule)
        rows = [Fused(rule.name, item.anchor, item.before, item.after, item.outputs) for item in done]
        fused = [_costed(before, self.model, row, self.shapes) for row in rows]
        if self.verifier is not None:
            fused = self._verify(rule, before, fused)
        self.report.fused += fused

    def _apply(self, rule: Rule) -> list[Done]:
        rejected = {node for name, node in self.rejected if name == rule.name}
        if rule.together and rejected:  # it was taken back as a whole
            return []
        sites = [site for site in find_all(self.model, rule, self.functions) if _name(site) not in rejected]
        groups = [sites] if rule.together and sites else [[site] for site in disjoint(sites)]
        # all edits before the first is applied: they name what matches hold, which is true of this graph
        edits = [(group, rule.edit([] if rule.together else group)) for group in groups]
        done: list[Done] = []
        for group, edit in edits:
            try:
                self.model = self.model.apply(edit)
            except EditError as error:
                self._refused(rule, group, error)
                continue
            done += edit.done  # type: ignore[attr-defined]
        return done

    def _refused(self, rule: Rule, sites: list[Site], error: EditError) -> None:
        """What a rule found and the checks of an edit refused."""
        self.rejected.update((rule.name, _name(site)) for site in sites)
        site = sites[0]
        miss = Miss(site.anchor, site.anchor, f"the edit was refused: {error}", 1, 1, tuple(site.nodes))
        self.failed.append(refused(rule, miss))

    def _broken(self, rule: Rule) -> None:
        try:
            check_model(self.model._skeleton, f"what the rule {rule.name!r} made")
        except ModelError as error:
            raise EditError(
                f"{error}; this is a bug of the rule: leave it out with rules=, and tell its author"
            ) from error

    def _verify(self, rule: Rule, before: Model, fused: list[Fused]) -> list[Fused]:
        """Take back what exceeds the tolerance: sites by their own error; where only an output of the model exceeds
        it, the worse half of the sites, until none does."""
        back: list[Fused] = []
        while True:
            errors, beyond, reaches = self.verifier.judge(before, self.model, fused)
            fused = [replace(item, error=errors.get(item.node)) for item in fused]
            if not beyond and not reaches:
                return fused + back
            worst = sorted(fused, key=lambda item: item.error or 0.0, reverse=True)
            bad = beyond or {item.node for item in worst[: (len(worst) + 1) // 2]}
            if rule.together:
                bad = {item.node for item in fused}
            self.rejected.update((rule.name, node) for node in bad)
            back += [replace(item, status="taken back") for item in fused if item.node in bad]
            fused = [item for item in fused if item.node not in bad]
            self.model = before
            for item in fused:
                site = next(s for s in find_all(self.model, rule, self.functions) if _name(s) == item.node)
                self.model = self.model.apply(rule.edit([site]))
            if not fused:
                return back


def _sound(model: Model) -> bool:
    """Whether onnx's checker takes a model."""
    try:
        check_model(model._skeleton, model.name)
    except ModelError:
        return False
    return True


def _name(site: Site) -> str:
    return site.anchor.name or ""


def draft_of(model: Model) -> Draft:
    """The graph of a model with its index and types, at the version of the model."""
    version = version_of(model)
    version.graph()
    draft = version.line.draft
    draft.types.know()
    return draft


def _nodes(draft: Draft, rule: Rule) -> Iterator[ir.Node]:
    kinds = rule.anchors()
    for graph in list(draft.values):
        if not draft.is_function(graph):
            yield from (node for node in list(graph) if not kinds or node.op_type in kinds)


def find_all(model: Model, rule: Rule, functions: bool = True) -> list[Site]:
    """Every place of a model where a rule applies; places may overlap."""
    draft = draft_of(model)
    found = [rule.find(draft, node, functions) for node in _nodes(draft, rule)]
    return [item for item in found if isinstance(item, Site)]


def disjoint(sites: list[Site]) -> list[Site]:
    """Sites that share no node: the larger one where two overlap; in the order given."""
    taken: set[ir.Node] = set()
    kept: list[Site] = []
    for site in sorted(sites, key=lambda site: -len(site.nodes)):
        if not taken & set(site.nodes):
            taken.update(site.nodes)
            kept.append(site)
    return [site for site in sites if site in kept]


def refusals(model: Model, rules: Iterable[Rule], functions: bool = True) -> Iterator[Refused]:
    """The near misses of rules in a model, one per rule and anchor."""
    draft = draft_of(model)
    for rule in rules:
        for node in _nodes(draft, rule):
            found = rule.find(draft, node, functions)
            if isinstance(found, Miss) and found.near:
                yield refused(rule, found)


def refused(rule: Rule, miss: Miss) -> Refused:
    """A miss as data."""
    return Refused(
        rule.name,
        miss.node.name or "",
        miss.node.op_type,
        miss.reason,
        miss.matched,
        miss.of,
        miss.anchor.name or "",
        tuple(node.name or "" for node in miss.nodes),
    )


def why_not(model: Model, rule: str | Rule, node: str) -> Refused:
    """Why a rule was not applied to a node: the closest partial match that it is a part of, and what broke it.

    Args:
        rule: its name, or a rule of your own.
        node: the name of any node, not only of the last of a pattern.

    Returns:
        A `Refused`, which prints as a sentence; where the rule does apply, its reason says so.

    Raises:
        EditError: there is no such rule. NotInModelError: there is no such node.
    """
    found = named(rule) if isinstance(rule, str) else rule
    draft = draft_of(model)
    item = draft.node(node)
    answer = found.closest(draft, item)
    if answer is None:
        answer = Miss(item, item, f"{found.name} is not about such a node", 0, 1)
    if isinstance(answer, Site):
        count = len(answer.nodes)
        names = tuple(inner.name or "" for inner in answer.nodes)
        return Refused(
            found.name,
            node,
            item.op_type,
            "nothing: it applies here, m.fuse does it",
            count,
            count,
            _name(answer),
            names,
        )
    return refused(found, answer)


def _costed(before: Model, after: Model, item: Fused, shapes: Any) -> Fused:
    """With the MACs and bytes that it saves, from the costs of both models."""
    (one, _), (two, _) = before.walk(shapes), after.walk(shapes)
    old = [one.nodes.get(name, UNKNOWN) for name in item.before]
    new = [two.nodes.get(name, UNKNOWN) for name in item.after]
    macs = _minus([cost.macs for cost in old], [cost.macs for cost in new])
    moved = _minus([cost.bytes for cost in old], [_moved(after, two, name) for name in item.after])
    return replace(item, macs_saved=macs, bytes_saved=moved)


def _minus(old: list[int | None], new: list[int | None]) -> int | None:
    if None in old or None in new:
        return None
    return sum(item or 0 for item in old) - sum(item or 0 for item in new)


def _moved(model: Model, walk: Any, name: str) -> int | None:
    """Bytes of a node; of a call only what it reads and makes, as one kernel would."""
    cost = walk.nodes.get(name, UNKNOWN)
    node = draft_of(model).nodes.get(name)
    if node is None or (node.domain, node.op_type, node.overload) not in model.ir.functions:
        return int(cost.bytes) if cost.bytes is not None else None
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    infos = [walk.tensors.get(draft_of(model).key(value)) for value in values]
    sizes = [info.bytes if info is not None else None for info in infos]
    return None if None in sizes else sum(size or 0 for size in sizes)


def _bar(progress: bool, rules: int) -> Any:
    import contextlib

    @contextlib.contextmanager
    def show() -> Iterator[Any]:
        from tqdm.auto import tqdm

        with tqdm(desc="fusing", disable=not progress, delay=2, unit="rule") as bar:

            def tick(name: str) -> None:
                bar.set_postfix_str(name, refresh=False)
                bar.update()

            yield tick

    return show()


__all__ = ["BY_NAME", "find_all", "fuse", "refusals", "why_not"]
