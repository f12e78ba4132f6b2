"""Fusions: chains of nodes become one, each an edit in the history, and what is left alone is told with its reason.

    f = m.fuse()                              # all rules of the catalog
    f.report                                  # matched where, saved what, refused where and why
    m.why_not("gelu", "Mul_12")               # the closest match that a node is a part of, and what broke it
    m.fuse(verify="samples.npz")              # what adds too much error is taken back

One file is one rule; its docstring has the algebra, when it applies and when it refuses (``named("gelu").docs``).
"""

from __future__ import annotations

from .catalog import RULES, named
from .hand import find, pattern_of, rule
from .match import Match, Refusal
from .pattern import Pattern
from .report import FusionReport
from .rule import Rule
from .run import fuse, why_not

__all__ = [
    "RULES",
    "FusionReport",
    "Match",
    "Pattern",
    "Refusal",
    "Rule",
    "find",
    "fuse",
    "named",
    "pattern_of",
    "rule",
    "why_not",
]
