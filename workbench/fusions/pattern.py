"""Patterns: what a piece of a graph has to look like, written as a Python function.

    def silu(op, x):
        return op.Mul(x, op.Sigmoid(x))

The call style is that of onnxscript's rewriter, so its pattern functions can be used as they are. The parameters after
``op`` are tensors, a tensor used twice must be the same twice, numbers are constants. Besides attributes an operator
takes ``_domain``, ``_name`` (to find its node in a match), ``_optional`` (it may be missing: then its first input
stands for it), ``_outputs`` (how many, or their names; then a tuple is returned) and ``_or`` (further operator types).
An attribute is compared with the node's, or with the operator's default; a function of one argument tests it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..errors import EditError

COMMUTATIVE = frozenset(("Add", "Mul", "And", "Or", "Xor", "Max", "Min", "Sum", "Equal"))
ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div"))


@dataclass(eq=False)
class Variable:
    """Any tensor; with ``constant`` a weight."""

    name: str
    constant: bool = False


@dataclass(eq=False)
class Number:
    """A constant of one element with this value, to 1e-5 (0.1 % in 16 bits): exporters round."""

    value: float


@dataclass(eq=False)
class Operation:
    """A node, and its first output as a tensor; ``test`` may refuse an ``onnx_ir.Node``."""

    op_types: tuple[str, ...]
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = ""
    name: str = ""
    optional: bool = False
    outputs: int = 1
    test: Callable[[Any], bool] | None = None

    @cached_property
    def order(self) -> tuple[list[int], list[int]]:
        """Which inputs to match before all else that waits, and which after it.

        Operations come first: what they find decides the order of the others. Numbers come last: a chain with one wrong
        constant is a near miss, and is to be found as one.
        """
        places = range(len(self.inputs))
        made = [i for i in places if isinstance(self.inputs[i], Operation | Output)]
        numbers = [i for i in places if isinstance(self.inputs[i], Number)]
        return made, [i for i in places if i not in made and i not in numbers] + numbers

    def __str__(self) -> str:
        return " or ".join(self.op_types)


@dataclass(eq=False)
class Output:
    """Another output of a node."""

    operation: Operation
    index: int


Term = Variable | Number | Operation | Output


class Pattern:
    """A pattern with its variables.

    Args:
        function: as above.
        constants: names of variables that must be weights.

    Attributes:
        roots: the terms that it returns; the first is where matching starts.
        operations: all of its operations, inputs first.
        required: how many of them are not optional.
        open: names of operations whose outputs are read by others too where the pattern was taken from.
    """

    def __init__(self, function: Callable[..., Any], constants: Iterable[str] = ()):
        wanted = set(constants)
        names = list(inspect.signature(function).parameters)[1:]
        variables = {name: Variable(name, name in wanted) for name in names}
        made = function(Operators(), *variables.values())
        self._take(function.__name__, variables, tuple(made) if isinstance(made, tuple | list) else (made,))

    @classmethod
    def of(cls, name: str, variables: dict[str, Variable], roots: Iterable[Any]) -> Pattern:
        """A pattern from its terms."""
        made = object.__new__(cls)
        made._take(name, variables, tuple(roots))
        return made

    def _take(self, name: str, variables: dict[str, Variable], roots: tuple[Any, ...]) -> None:
        self.name, self.variables, self.roots = name, variables, roots
        self.open: frozenset[str] = frozenset()
        made: Any = roots[0] if len(roots) == 1 else roots
        if not self.roots or not all(isinstance(root, Operation) for root in self.roots):
            raise EditError(
                f"pattern {self.name!r} returned {made!r}; expected the output of an operator, op.Add(...)"
            )
        self.operations: list[Operation] = []
        for root in self.roots:
            self._collect(root)
        self.required = sum(not item.optional for item in self.operations)

    @cached_property
    def before_last(self) -> tuple[tuple[str, ...], ...]:
        """Operator types of the operations that the last one reads in any case."""
        made = [item.operation if isinstance(item, Output) else item for item in self.roots[0].inputs]
        return tuple(item.op_types for item in made if isinstance(item, Operation) and not item.optional)

    @cached_property
    def telling(self) -> frozenset[str]:
        """The operator types of it that are no sum, difference, product or quotient; none where it has only such."""
        return frozenset(op_type for item in self.operations for op_type in item.op_types) - ARITHMETIC

    def may_be_near(self, kinds: Collection[str]) -> bool:
        """Whether a graph that has such operators may have a near miss of it."""
        return not self.telling or not self.telling.isdisjoint(kinds)

    def may_be_among(self, kinds: Collection[str]) -> bool:
        """Whether there are nodes for all of its operations in a graph that has such operators."""
        needed = (item.op_types for item in self.operations if not item.optional)
        return all(any(op_type in kinds for op_type in op_types) for op_types in needed)

    def may_end_at(self, node: Any) -> bool:
        """Whether an ``onnx_ir.Node`` may be the last one of a match, by its operator and what makes its inputs."""
        if node.op_type not in self.roots[0].op_types:
            return False
        makers = [value.producer() for value in node.inputs if value is not None]
        kinds = {maker.op_type for maker in makers if maker is not None}
        return all(not kinds.isdisjoint(item) for item in self.before_last)

    def _collect(self, term: Any) -> None:
        if isinstance(term, Output):
            term = term.operation
        if isinstance(term, Operation) and term not in self.operations:
            for inner in term.inputs:
                self._collect(inner)
            self.operations.append(term)


class Operators:
    """``op``: every attribute of it makes an operation."""

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        def make(
            *inputs: Any,
            _domain: str = "",
            _name: str = "",
            _optional: bool = False,
            _or: Iterable[str] = (),
            _outputs: Any = 1,
            **attributes: Any,
        ) -> Any:
            for key in [key for key in attributes if key.startswith("_")]:
                del attributes[key]  # _allow_other_attributes and the like: what is not named is not compared
            count = _outputs if isinstance(_outputs, int) else len(_outputs)
            name = _name or (_outputs[0] if not isinstance(_outputs, int) and count == 1 else "")
            types = (op_type, *_or)
            made = Operation(
                types, tuple(map(term, inputs)), attributes, _domain, name or "", _optional, count
            )
            return made if count == 1 else (made, *(Output(made, i) for i in range(1, count)))

        return make


def term(value: Any) -> Any:
    """An input of an operation: a term, a number, or None for one that is left out."""
    if value is None or isinstance(value, Variable | Number | Operation | Output):
        return value
    if isinstance(value, bool | int | float):
        return Number(float(value))
    raise EditError(f"a pattern got the input {value!r}; expected a tensor of the pattern, a number or None")
