"""Launch rules: grid, block, shared memory and arguments of a kernel as expressions of shapes and attributes.

An expression is text, because it travels inside of a model file; it is read by a small evaluator and never executed
as Python. It knows numbers, the attributes, ``+ - * / // %``, comparisons, ``a if c else b``, and these functions of a
tensor of the plugin, ``t``:

``size(t)`` elements, ``rank(t)``, ``dim(t, i)`` (from the end when negative; 1 where there is no such dim),
``cols(t)`` the last dim, ``rows(t)`` all dims but the last multiplied, ``itemsize(t)`` bytes, ``width(t)``
elements in 16
bytes; and of numbers ``min``, ``max``, ``ceil_div(a, b)``, ``round_up(a, multiple)``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import PluginError
from ..model.info import DTYPES

Number = int | float
_LONGEST = 500  # characters of an expression: one from a file may be made to exhaust the parser's stack
_SHARED = 227 << 10  # bytes of shared memory that a block can have at most on any GPU (compute capability 9.0)
_ITEMSIZE = {"bool": 1, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}
assert set(_ITEMSIZE) <= set(DTYPES.values())


class Spec(NamedTuple):
    """dtype name and shape of one tensor of a call."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return _ITEMSIZE[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize


@dataclass(frozen=True)
class Launch:
    """One launch: what the rule gives for one call.

    Attributes:
        grid, block: threads in x, y, z.
        shared: bytes of dynamic shared memory.
        values: the arguments behind the pointers, in order: an int is passed as ``long long``, a float as ``float``.
    """

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    values: tuple[Number, ...]

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return math.prod(self.block)


_TENSOR: dict[str, Callable[..., int]] = {
    "size": lambda t: t.size,
    "rank": lambda t: len(t.shape),
    "dim": lambda t, i: t.shape[i] if -len(t.shape) <= i < len(t.shape) else 1,
    "cols": lambda t: t.shape[-1] if t.shape else 1,
    "rows": lambda t: math.prod(t.shape[:-1]),
    "itemsize": lambda t: t.itemsize,
    "width": lambda t: 16 // t.itemsize,
}
_NUMBER: dict[str, Callable[..., Number]] = {
    "min": min,
    "max": max,
    "ceil_div": lambda a, b: -(-a // b),
    "round_up": lambda a, b: -(-a // b) * b,
}
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


def parse(text: str, what: str, tensors: frozenset[str], numbers: frozenset[str]) -> ast.expr:
    """The tree of an expression.

    Args:
        what: for messages, for example ``FusedGelu, grid``.
        tensors, numbers: names that it may use.

    Raises:
        PluginError: it is no expression of the kind above, with the part that is not.
    """
    if len(text) > _LONGEST:
        raise PluginError(f"{what}: got an expression of {len(text)} characters, expected at most {_LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise PluginError(f"{what}: {text!r} is no expression ({error.msg}); {_KNOWN}") from None
    _check(tree, what, tensors, numbers)
    return tree


_KNOWN = f"expected numbers, attributes and the functions {', '.join((*_TENSOR, *_NUMBER))}"


def _check(tree: ast.AST, what: str, tensors: frozenset[str], numbers: frozenset[str]) -> None:
    children: list[ast.AST] = []
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.keywords:
        name = tree.func.id
        children = list(tree.args)
        if name in _TENSOR:
            first = tree.args[0] if tree.args else None
            if not isinstance(first, ast.Name) or first.id not in tensors:
                got = ast.unparse(first) if first is not None else "nothing"
                raise PluginError(f"{what}: {name}() got {got}, expected one of {', '.join(sorted(tensors))}")
            children = children[1:]
        elif name not in _NUMBER:
            raise PluginError(f"{what}: got the function {name}(); {_KNOWN}")
    elif isinstance(tree, ast.Name):
        if tree.id not in numbers:
            known = ", ".join(sorted(numbers)) or "none"
            raise PluginError(f"{what}: got the name {tree.id!r}, expected one of {known}; {_KNOWN}")
    elif isinstance(tree, ast.BinOp) and type(tree.op) in _BINARY:
        children = [tree.left, tree.right]
    elif isinstance(tree, ast.Compare) and len(tree.ops) == 1 and type(tree.ops[0]) in _BINARY:
        children = [tree.left, *tree.comparators]
    elif isinstance(tree, ast.IfExp):
        children = [tree.test, tree.body, tree.orelse]
    elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        children = [tree.operand]
    elif not (isinstance(tree, ast.Constant) and type(tree.value) in (int, float)):
        raise PluginError(f"{what}: got {ast.unparse(tree)!r}; {_KNOWN}")
    for child in children:
        _check(child, what, tensors, numbers)


def evaluate(tree: ast.expr, specs: Mapping[str, Spec], numbers: Mapping[str, Number]) -> Any:
    """The value of a parsed expression."""
    match tree:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return numbers[name]
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](evaluate(left, specs, numbers), evaluate(right, specs, numbers))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _BINARY[type(op)](evaluate(left, specs, numbers), evaluate(right, specs, numbers))
        case ast.IfExp(test=test, body=body, orelse=other):
            return evaluate(body if evaluate(test, specs, numbers) else other, specs, numbers)
        case ast.UnaryOp(operand=operand):
            return -evaluate(operand, specs, numbers)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            if name in _TENSOR:
                given = [specs[arguments[0].id]]  # type: ignore[attr-defined]
                return _TENSOR[name](*given, *(evaluate(a, specs, numbers) for a in arguments[1:]))
            return _NUMBER[name](*(evaluate(a, specs, numbers) for a in arguments))
    raise AssertionError(ast.dump(tree))


@dataclass(frozen=True)
class Rule:
    """How a kernel is launched.

    Attributes:
        args: (name, expression) of each argument behind the pointers of the inputs and outputs.
        grid, block: up to three expressions; they may use the names of `args`, and `grid` also ``block_x``,
            ``block_y``.
        shared: bytes of dynamic shared memory.
        requires: what must not be 0 (false), because the kernel relies on it: a body may broadcast where it does not.
    """

    args: tuple[tuple[str, str], ...]
    grid: tuple[str, ...]
    block: tuple[str, ...]
    shared: str = "0"
    requires: tuple[str, ...] = ()

    def check(self, plugin: str, tensors: frozenset[str], attributes: frozenset[str]) -> None:
        """Refuse expressions that cannot be evaluated; PluginError."""
        for name, text in self.args:
            parse(text, f"{plugin}, argument {name!r}", tensors, attributes)
        for text in self.requires:
            parse(text, f"{plugin}, requires", tensors, attributes)
        known = attributes | {name for name, _ in self.args}
        for what, texts, names in (
            ("block", self.block, known),
            ("shared", (self.shared,), known | {"block_x", "block_y"}),
            ("grid", self.grid, known | {"block_x", "block_y"}),
        ):
            if not 1 <= len(texts) <= 3:
                raise PluginError(f"{plugin}, {what}: got {len(texts)} expressions, expected 1 to 3")
            for text in texts:
                parse(text, f"{plugin}, {what}", tensors, names)

    def launch(self, plugin: str, specs: Mapping[str, Spec], attributes: Mapping[str, Any]) -> Launch:
        """The launch for tensors of these dtypes and shapes.

        Raises:
            PluginError: it gives no possible launch.
        """
        numbers = {name: value for name, value in attributes.items() if isinstance(value, int | float)}

        def value(text: str) -> Any:
            tree = parse(text, plugin, frozenset(specs), frozenset(numbers))
            try:
                return evaluate(tree, specs, numbers)
            except ArithmeticError as error:
                raise PluginError(
                    f"{plugin}: {text!r} cannot be computed for {_shown(specs)}: {error}; change the rule"
                ) from None

        for text in self.requires:
            if not value(text):
                raise PluginError(
                    f"the kernel of plugin {plugin!r} requires {text}; got {_shown(specs)}; give it such tensors, or "
                    "leave these nodes as they are"
                )
        found = [(name, value(text)) for name, text in self.args]
        numbers |= {name: number for name, number in found}
        block = [max(1, int(value(text))) for text in self.block] + [1, 1]
        numbers |= {"block_x": block[0], "block_y": block[1]}
        shared = int(value(self.shared))
        grid = [int(value(text)) for text in self.grid] + [1, 1]
        made = Launch(
            (grid[0], grid[1], grid[2]), (block[0], block[1], block[2]), shared,
            tuple(int(v) if isinstance(v, bool) else v for _, v in found),
        )  # fmt: skip
        if made.threads > 1024 or min(grid) < 0 or grid[0] >= 1 << 31 or max(grid[1:3]) > 65535 or block[2] > 64:
            raise PluginError(
                f"{plugin}: the rule gives grid {made.grid} and block {made.block} for {_shown(specs)}; expected at "
                "most 1024 threads in a block (64 in z) and a grid of at most 2147483647 x 65535 x 65535; change "
                "the rule"
            )
        if not 0 <= shared <= _SHARED:
            raise PluginError(
                f"{plugin}: the rule gives {shared} bytes of shared memory for {_shown(specs)}; expected 0 to "
                f"{_SHARED}; change the rule"
            )
        for name, number in found:
            if not isinstance(number, float) and not -(1 << 63) <= number < 1 << 63:
                raise PluginError(
                    f"{plugin}, argument {name!r}: {number} for {_shown(specs)} is beyond a long long; change the rule"
                )
        return made


def _shown(specs: Mapping[str, Spec]) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in specs.items())
