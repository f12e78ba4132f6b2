"""Launch rules: what an expression may say, what it gives, what is refused."""

from __future__ import annotations

import pytest

from workbench.errors import PluginError
from workbench.plugins.launch import Rule, Spec, evaluate, parse

X, M = Spec("float16", (4, 6, 10)), Spec("float32", (1,))
TENSORS, NUMBERS = frozenset({"x", "m"}), frozenset({"epsilon", "n"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("size(x)", 240), ("rows(x)", 24), ("cols(x)", 10), ("rank(x)", 3), ("dim(x, 1)", 6), ("dim(x, -1)", 10),
        ("dim(x, -9)", 1), ("itemsize(x)", 2), ("width(x)", 8), ("width(m)", 4), ("ceil_div(size(x), 7)", 35),
        ("round_up(cols(x), 32)", 32), ("min(size(x), 5) + max(1, 2) * 3", 11), ("7 // 2 - 7 % 2", 2), ("-n", -3),
        ("n / 2", 1.5), ("32 if cols(x) <= 10 else 64", 32), ("32 if cols(x) < 10 else 64", 64), ("epsilon", 0.5),
    ],
)  # fmt: skip
def test_expressions(text, value):
    tree = parse(text, "P, grid", TENSORS, NUMBERS)
    assert evaluate(tree, {"x": X, "m": M}, {"epsilon": 0.5, "n": 3}) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("size(y)", r"P, grid: size\(\) got y, expected one of m, x"),
        ("size(1 + 1)", r"size\(\) got 1 \+ 1, expected one of m, x"),
        ("foo(x)", r"got the function foo\(\); expected numbers, attributes and the functions size, rank"),
        ("gamma", "got the name 'gamma', expected one of epsilon, n"),
        ("__import__('os')", r"got the function __import__\(\)"),
        ("x.shape", "got 'x.shape'"),
        ("2 ** 9", r"got '2 \*\* 9'"),
        ("'text'", "got \"'text'\""),
        ("[1 for _ in x]", "got '.1 for _ in x.'"),
        ("(", "is no expression"),
    ],
)
def test_what_is_no_expression_is_refused(text, says):
    with pytest.raises(PluginError, match=says):
        parse(text, "P, grid", TENSORS, NUMBERS)


def test_a_launch_uses_arguments_and_the_block():
    rule = Rule(
        (("n", "size(x)"), ("e", "epsilon")),
        ("ceil_div(n, block_x)", "block_y"),
        ("n // 5", "2"),
        "block_x * 4",
    )
    made = rule.launch("P", {"x": X}, {"epsilon": 0.5, "mode": "text"})
    assert made.grid == (5, 2, 1) and made.block == (48, 2, 1) and made.shared == 192
    assert made.values == (240, 0.5) and made.threads == 96


def test_an_impossible_launch_is_refused():
    with pytest.raises(
        PluginError, match=r"gives grid \(1, 1, 1\) and block \(2048, 1, 1\) for x float16\[4,6,10\]; exp"
    ):
        Rule((), ("1",), ("2048",)).launch("P", {"x": X}, {})
    with pytest.raises(
        PluginError, match=r"P: 'ceil_div\(1, rank\(x\)\)' cannot be computed for x float32\[\]"
    ):
        Rule((), ("ceil_div(1, rank(x))",), ("1",)).launch("P", {"x": Spec("float32", ())}, {})
    with pytest.raises(PluginError, match="block: got 4 expressions, expected 1 to 3"):
        Rule((), ("1",), ("1", "1", "1", "1")).check("P", TENSORS, NUMBERS)


@pytest.mark.parametrize("rule, says", [
    ({"shared": "-4"}, "FusedX: the rule gives -4 bytes of shared memory for x float32[4]; expected 0 to 232448"),
    ({"shared": "1024 * 1024"}, "FusedX: the rule gives 1048576 bytes of shared memory for x float32[4]; expected"),
    ({"args": (("n", "size(x) * 9223372036854775807"),)}, "FusedX, argument 'n': 36893488147419103228 for x float32"),
    ({"block": ("1", "1", "128")}, "FusedX: the rule gives grid (1, 1, 1) and block (1, 1, 128) for x"),
])  # fmt: skip
def test_what_no_gpu_can_launch_is_refused(rule, says):
    made = Rule(**{"args": (), "grid": ("1",), "block": ("1",)} | rule)
    made.check("FusedX", frozenset("x"), frozenset())
    with pytest.raises(PluginError) as caught:
        made.launch("FusedX", {"x": Spec("float32", (4,))}, {})
    assert str(caught.value).startswith(says)


def test_an_expression_that_would_exhaust_the_parser_is_refused():
    with pytest.raises(PluginError) as caught:
        Rule((), ("1" + "+1" * 5000,), ("1",)).check("FusedX", frozenset("x"), frozenset())
    assert str(caught.value) == "FusedX, grid: got an expression of 10001 characters, expected at most 500"
