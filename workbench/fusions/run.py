"""`Model.fuse` and `Model.why_not`: the rules one after the other, verified where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ..edits.changes import draft_of
from ..edits.draft import Draft
from ..edits.history import version_of
from ..errors import EditError, ModelError
from ..model import Model
from ..model.check import check_model
from ..model.collection import paused
from .catalog import BY_NAME, RULES, named
from .edit import fusible
from .onnxscript import rules_of
from .report import Fused, FusionReport, Refused
from .rule import Miss, Rule, Site
from .savings import Savings
from .types import forget

if TYPE_CHECKING:
    from .verify import Verifier

ROUNDS = 4
"""Times that all rules run, each on what the ones before have left, until none finds anything."""


def fuse(
    model: Model,
    rules: Any = None,
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
        rules: names (``wb.fusions.RULES``), rules of your own (``wb.fusions.rule``), rules and sets of rules of
            onnxscript's rewriter, or None for all of the catalog, in its order.
        verify: inputs, as ``wb.compare`` takes them, or True for generated ones. Each fusion is run beside the model as
            it was, on the values that are there, and taken back alone if it adds more error than the tolerance; so is
            the first one after which an output exceeds it.
        tolerance: for the error that a fusion itself adds, and for what reaches the outputs; as in ``wb.compare``.
        functions: False leaves alone what would need a function.
        shapes: values for symbolic dims, as ``wb.compare`` takes them: for generated inputs, and to count what is
            saved.
        progress: show a progress bar when it takes longer than two seconds.

    Returns:
        The fused model. Its ``report`` is a `FusionReport`; ``history.undo()`` takes the last fusion back.

    Raises:
        EditError: there is no rule of that name.
        ModelError, InputError, BackendError: verification cannot run.
    """
    chosen = resolve(rules)
    report = FusionReport(model.name, nodes_before=_count(model))
    run = _Run(model, report, chosen, functions, shapes)
    with paused(), _bar(progress, len(chosen)) as tick:
        if verify is None or verify is False:
            run.all(tick)
        else:
            from .verify import Verifier

            report.tolerance = tolerance
            with Verifier(model, None if verify is True else verify, tolerance, shapes) as verifier:
                run.verified(verifier, tick)
    report.fused = run.fused + run.back
    report.refusals = [*run.failed, *refusals(run.model, chosen, functions)]
    made = run.model if run.model is not model else model.at(version_of(model))
    report.nodes_after = _count(made)
    made.__dict__["report"] = report
    return made


def _count(model: Model) -> int:
    return sum(map(len, fusible(draft_of(model))))


def resolve(rules: Any) -> tuple[Rule, ...]:
    """Rules by name, or as they are."""
    if rules is None:
        return RULES
    several = isinstance(rules, Iterable) and not isinstance(rules, str) and rules_of(rules) is None
    given = list(rules) if several else [rules]
    return tuple(rule for item in given for rule in _resolved(item))


def _resolved(item: Any) -> list[Rule]:
    if isinstance(item, Rule):
        return [item]
    if isinstance(item, str):
        return [named(item)]
    found = rules_of(item)
    if found is None:
        raise EditError(
            f"got {type(item).__name__} as a rule; expected a name (wb.fusions.RULES), a rule (wb.fusions.rule), or "
            "one of onnxscript's rewriter"
        )
    return found


@dataclass
class _Run:
    given: Model
    report: FusionReport
    rules: tuple[Rule, ...]
    functions: bool
    shapes: Any = None

    def __post_init__(self) -> None:
        self.rejected: set[tuple[str, str]] = set()
        self.failed: list[Refused] = []
        self.back: list[Fused] = []
        self.verifier: Any = None
        self._start()

    def _start(self) -> None:
        self.model = self.given
        self.fused: list[Fused] = []
        self.numbers: list[int | None] = []  # of the fusions, for the verifier
        self.edits: list[tuple[Rule, Model, int]] = []  # the model after each, and how many are fused then
        self.savings: Savings | None = None

    def all(self, tick: Callable[[str], None]) -> None:
        """Apply all rules wherever they apply, until none finds anything."""
        nothing: dict[Rule, Model] = {}  # rule -> the model in which it found nothing
        for _ in range(ROUNDS):
            before = self.model
            for rule in self.rules:
                tick(rule.name)
                if nothing.get(rule) is not self.model:
                    given = self.model
                    self._rule(rule)
                    if self.model is given:
                        nothing[rule] = given
            if self.model is before:
                break
        self._check()

    def verified(self, verifier: Verifier, tick: Callable[[str], None]) -> None:
        """Apply all rules, take back what exceeds the tolerance, and apply them again without that, until all fits.

        A fusion that exceeds it by what it adds itself is taken back; where only an output of the model exceeds it, the
        fusion with which it first does.
        """
        self.verifier = verifier
        while True:
            self._start()
            verifier.start()
            self.all(tick)
            if not self.edits:
                return
            self.fused, beyond, fits = verifier.judge(self.model, self.fused, self.numbers)
            if not beyond and fits:
                return
            ends = [0, *(count for _, _, count in self.edits)]
            spans = [range(*pair) for pair in pairwise(ends)]
            if beyond:
                bad = [index for index, span in enumerate(spans) if not beyond.isdisjoint(span)]
            else:
                bad = [self._first(verifier)]
            for index in bad:
                rule = self.edits[index][0]
                for place in spans[index]:
                    self.rejected.add((rule.name, self.fused[place].node))
                    self.back.append(replace(self.fused[place], status="taken back"))

    def _first(self, verifier: Verifier) -> int:
        """The first edit after which an output exceeds the tolerance."""
        low, high = 0, len(self.edits) - 1
        while low < high:
            middle = (low + high) // 2
            if verifier.fits(self.edits[middle][1]):
                low = middle + 1
            else:
                high = middle
        return low

    def _check(self) -> None:
        """Let onnx's checker look at the model, and name the rule that made what it does not take."""
        if not self.edits or _sound(self.model) or not _sound(self.given):
            return
        rule, model = next((rule, model) for rule, model, _ in self.edits if not _sound(model))
        try:
            check_model(model._skeleton, f"what the rule {rule.name!r} made")
        except ModelError as error:
            raise EditError(
                f"{error}; this is a bug of the rule: leave it out with rules=, and tell its author"
            ) from error

    def _rule(self, rule: Rule) -> None:
        """Apply a rule wherever it applies."""
        rejected = {node for name, node in self.rejected if name == rule.name}
        if rule.together and rejected:  # it was taken back as a whole
            return
        sites = [site for site in find_all(self.model, rule, self.functions) if _name(site) not in rejected]
        groups = [sites] if rule.together and sites else [[site] for site in disjoint(sites)]
        # all edits before the first is applied: they name what matches hold, which is true of this graph
        edits = [(group, rule.edit([] if rule.together else group)) for group in groups]
        for group, edit in edits:
            self._edit(rule, group, edit)

    def _edit(self, rule: Rule, sites: list[Site], edit: Any) -> None:
        if self.savings is None:
            self.savings = Savings(self.given, self.shapes)
        judged = self.verifier is not None and not rule.exact
        before = self.verifier.before(sites) if judged else {}
        try:
            self.model = self.model.apply(edit)
        except EditError as error:
            self._refused(rule, sites, error)
            return
        draft = draft_of(self.model)
        for done in edit.done:
            saved = self.savings.of(draft, done)
            self.fused.append(Fused(rule.name, done.anchor, done.before, done.after, done.outputs, *saved))
            self.numbers.append(self.verifier.after(draft, done, before) if judged else None)
        self.edits.append((rule, self.model, len(self.fused)))

    def _refused(self, rule: Rule, sites: list[Site], error: EditError) -> None:
        """What a rule found and the checks of an edit refused."""
        self.rejected.update((rule.name, _name(site)) for site in sites)
        site = sites[0]
        miss = Miss(site.anchor, site.anchor, f"the edit was refused: {error}", 1, 1, tuple(site.nodes))
        self.failed.append(refused(rule, miss))


def _sound(model: Model) -> bool:
    """Whether onnx's checker takes a model."""
    try:
        check_model(model._skeleton, model.name)
    except ModelError:
        return False
    return True


def _name(site: Site) -> str:
    return site.anchor.name or ""


def _nodes(draft: Draft, rule: Rule) -> Iterator[ir.Node]:
    kinds = rule.anchors()
    for graph in fusible(draft):
        yield from (node for node in list(graph) if not kinds or node.op_type in kinds)


def find_all(model: Model, rule: Rule, functions: bool = True) -> list[Site]:
    """Every place of a model where a rule applies; places may overlap."""
    draft = draft_of(model)
    forget(draft)
    return list(rule.sites(draft, _nodes(draft, rule), functions))


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
    """The near misses of rules in a model, one per rule and anchor; what ends inside a nearer one is a part of that."""
    draft = draft_of(model)
    forget(draft)
    for rule in rules:
        misses = list(rule.misses(draft, _nodes(draft, rule), functions))
        around: dict[ir.Node, int] = {}  # node -> how much was found of the largest that holds it
        for miss in misses:
            around.update((node, max(miss.matched, around.get(node, 0))) for node in miss.nodes)
        for miss in misses:
            if miss.complete or miss.matched >= around.get(miss.anchor, 0):
                yield refused(rule, miss)


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


def why_not(model: Model, rule: Any, node: str) -> Refused:
    """Why a rule was not applied to a node: the closest partial match that it is a part of, and what broke it.

    Args:
        rule: its name, or a rule of your own.
        node: the name of any node, not only of the last of a pattern.

    Returns:
        A `Refused`, which prints as a sentence; where the rule does apply, its reason says so.

    Raises:
        EditError: there is no such rule. NotInModelError: there is no such node.
    """
    (found,) = resolve(rule)
    draft = draft_of(model)
    forget(draft)
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

        with tqdm(desc="fusing", disable=not progress, delay=2, unit=" rules") as bar:

            def tick(name: str) -> None:
                bar.set_postfix_str(name, refresh=False)
                bar.update()

            yield tick

    return show()


__all__ = ["BY_NAME", "find_all", "fuse", "refusals", "why_not"]
