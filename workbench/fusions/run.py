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
from .catalog import BY_NAME, RULES, named
from .edit import Done
from .report import Fused, FusionReport, Refused
from .rule import Miss, Rule, Site
from .savings import Savings

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
    run.check()
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
        self.given = self.model
        self.rejected: set[tuple[str, str]] = set()
        self.failed: list[Refused] = []
        self.steps: list[tuple[Rule, Model]] = []  # the model after each rule that found something
        self.savings: Savings | None = None

    def rule(self, rule: Rule) -> None:
        """Apply a rule wherever it applies."""
        before = self.model
        fused = self._apply(rule)
        if not fused:
            return
        self.steps.append((rule, self.model))
        if self.verifier is not None:
            self.check()
            fused = self._verify(rule, before, fused)
        self.report.fused += fused

    def check(self) -> None:
        """Let onnx's checker look at the model, and name the rule that made what it does not take."""
        if not self.steps or _sound(self.steps[-1][1]) or not _sound(self.given):
            return
        rule, model = next(item for item in self.steps if not _sound(item[1]))
        try:
            check_model(model._skeleton, f"what the rule {rule.name!r} made")
        except ModelError as error:
            raise EditError(
                f"{error}; this is a bug of the rule: leave it out with rules=, and tell its author"
            ) from error

    def _apply(self, rule: Rule) -> list[Fused]:
        rejected = {node for name, node in self.rejected if name == rule.name}
        if rule.together and rejected:  # it was taken back as a whole
            return []
        sites = [site for site in find_all(self.model, rule, self.functions) if _name(site) not in rejected]
        groups = [sites] if rule.together and sites else [[site] for site in disjoint(sites)]
        # all edits before the first is applied: they name what matches hold, which is true of this graph
        edits = [(group, rule.edit([] if rule.together else group)) for group in groups]
        if edits and self.savings is None:
            self.savings = Savings(self.given, self.shapes)
        found: list[Fused] = []
        for group, edit in edits:
            try:
                self.model = self.model.apply(edit)
            except EditError as error:
                self._refused(rule, group, error)
                continue
            found += [self._row(rule, done) for done in edit.done]  # type: ignore[attr-defined]
        return found

    def _row(self, rule: Rule, done: Done) -> Fused:
        assert self.savings is not None
        saved = self.savings.of(draft_of(self.model), done)
        return Fused(rule.name, done.anchor, done.before, done.after, done.outputs, *saved)

    def _refused(self, rule: Rule, sites: list[Site], error: EditError) -> None:
        """What a rule found and the checks of an edit refused."""
        self.rejected.update((rule.name, _name(site)) for site in sites)
        site = sites[0]
        miss = Miss(site.anchor, site.anchor, f"the edit was refused: {error}", 1, 1, tuple(site.nodes))
        self.failed.append(refused(rule, miss))

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
    found = (rule.site(draft, node, functions) for node in _nodes(draft, rule))
    return [item for item in found if item is not None]


def disjoint(sites: list[Site]) -> list[Site]:
    """Sites that share no node: the larger one where two overlap; in the order given."""
    taken: set[ir.Node] = set()
    kept: list[Site] = []
    for site in sorted(sites, key=lambda site: -len(site.nodes)):
        if not taken & set(site.nodes):
            taken.update(site.nodes)
            kept.append(site)
    order = {id(site): index for index, site in enumerate(sites)}
    return sorted(kept, key=lambda site: order[id(site)])


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
