"""What is known of the type of each tensor of a graph that is edited, and what an edit changes about that.

All types are inferred once, when the model is read (``model/inferred.py``). From then on the touched nodes are inferred
again, and what follows them until nothing changes any more: a look-up per node, but for nodes and inputs that onnx was
not asked about before (``model/nodewise.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from ..model.facts import Fact, of_tensor, of_type
from ..model.inferred import Inferred, read
from ..model.proto import skeleton
from .infer import text
from .sweep import Sweep
from .tensortypes import declared, stated

if TYPE_CHECKING:
    from .draft import Draft


class Types:
    """Types of the values of a Draft; what is set here follows undo and redo.

    Args:
        draft: the graph, as it is before the first step.
        found: what was inferred for it when it was read; None: that is done before the first edit that needs types.
    """

    def __init__(self, draft: Draft, found: Inferred | None):
        self.draft, self._found = draft, found
        self.start()

    def start(self) -> None:
        """Begin to note what an edit changes."""
        self.before: dict[ir.Value, Fact] = {}

    # -- what is known ----------------------------------------------------------------------------------------

    def know(self) -> Inferred:
        """Infer the whole model, if that was not done yet. To be called before the first step that changes a type."""
        if self._found is None:
            self._found = read(self.draft.model, skeleton(self.draft.model).graph)
        return self._found

    def knows(self, value: ir.Value) -> bool:
        """Whether it was inferred, or learnt."""
        return self._found is not None and value in self._found.facts

    def fact(self, value: ir.Value) -> Fact:
        """What is known of a tensor."""
        found = self._found.facts.get(value) if self._found is not None else None
        if found is not None:
            return found
        return of_tensor(value.const_value) if value.const_value is not None else of_type(declared(value))

    def of(self, value: ir.Value) -> onnx.TypeProto | None:
        """The type of a tensor as far as it is known."""
        return self.fact(value).kind

    def text(self, value: ir.Value) -> str:
        """``float32[1, n]`` for messages."""
        return text(self.of(value))

    # -- steps ------------------------------------------------------------------------------------------------

    def learn(self, news: Mapping[ir.Value, Fact]) -> None:
        """Note what is known of values, and state nothing in the graph."""
        self._learn(news, {value: self.fact(value) for value in news})

    def _learn(self, news: Mapping[ir.Value, Fact], olds: Mapping[ir.Value, Fact]) -> None:
        facts = self.know().facts
        self.before = {**olds, **self.before}
        self.draft.do(lambda: facts.update(news), lambda: facts.update(olds))

    def declare(self, value: ir.Value, kind: onnx.TypeProto | None) -> None:
        """Set the type of a value; where the graph states it, it is stated anew."""
        self.declare_all([(value, kind)])

    def declare_all(self, changes: Iterable[tuple[ir.Value, onnx.TypeProto | None]]) -> None:
        """``declare`` for many (value, type), in one step."""
        self.settled({v: self.of_port(v, of_type(kind, self.fact(v).data)) for v, kind in changes})

    def of_port(self, value: ir.Value, fact: Fact) -> Fact:
        """What is to be known of a value: an input or output of a graph keeps the rank that is stated of it."""
        if not (value.is_graph_output() or value.is_graph_input()):
            return fact
        if fact.kind is None:
            return self.fact(value)
        of_it, shape = fact.stated
        if shape is not None or value.shape is None:
            return fact
        return of_type(ir.to_proto(ir.Value(name="", type=of_it, shape=value.shape)).type, fact.data)

    def settled(self, news: Mapping[ir.Value, Fact], olds: Mapping[ir.Value, Fact] | None = None) -> None:
        """Note what is known of values now, and was; where the graph states it, it is stated anew."""
        olds = {value: self.fact(value) for value in news} if olds is None else olds
        self._learn(news, olds)
        changed = {value: old.kind for value, old in olds.items() if old.kind is not news[value].kind}
        self.draft.retyped = changed | self.draft.retyped
        self._state(
            [
                (value, *fact.stated)
                for value, fact in news.items()
                if value.type is not None or value.shape is not None or value.is_graph_output()
            ]
        )

    def state_like(self, value: ir.Value, other: ir.Value) -> None:
        """State of a value in the graph what is stated of another, which it takes the place of."""
        self.learn({value: of_type(self.of(other), self.fact(value).data)})
        self._state([(value, other.type, other.shape)])

    def state(self, value: ir.Value, kind: onnx.TypeProto | None) -> None:
        """Write the type of a value into the graph (as value_info); None removes it."""
        self._state([(value, *stated(kind))])

    def _state(self, news: list[tuple[ir.Value, Any, Any]]) -> None:
        olds = [(value, value.type, value.shape) for value, _, _ in news]

        def step(items: list[tuple[ir.Value, Any, Any]]) -> None:
            for value, kind, shape in items:
                value.type, value.shape = kind, shape

        if news:
            self.draft.do(lambda: step(news), lambda: step(olds))

    def settle(self) -> None:
        """Infer what the noted steps touched, and what follows; EditError when a node there does not fit any more."""
        if self.draft.touched or self.before:
            sweep = Sweep(self.draft, self.know())
            sweep.run()
            self.settled({value: sweep.facts[value] for value in sweep.olds}, sweep.olds)
            made = [
                v
                for v in self.draft.model.graph.outputs
                if v.shape is None and v.producer() in self.draft.touched
            ]
            news = [(value, *self.fact(value).stated) for value in made]
            self._state(
                [item for item in news if item[2] is not None]
            )  # the checker wants the rank of outputs
