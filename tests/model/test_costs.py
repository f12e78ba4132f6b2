"""MACs and bytes, against numbers worked out by hand and those that papers give."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from model import build
from onnx import helper as h
from onnx import numpy_helper

import workbench as wb
from workbench.model.costs import macs, moved_bytes

CASES: list[tuple[str, dict[str, Any], list, list, int | None]] = [
    # 2x4x5x6 outputs, each 3x3 window over 8 channels
    ("Conv", {}, [(2, 8, 7, 8), (4, 8, 3, 3)], [(2, 4, 5, 6)], 2 * 4 * 5 * 6 * 8 * 9),
    ("Conv", {"group": 8}, [(1, 8, 7, 8), (8, 1, 3, 3)], [(1, 8, 5, 6)], 8 * 5 * 6 * 9),
    ("FusedConv", {"activation": "Relu"}, [(1, 3, 8), (4, 3, 3), (4,), (1, 4, 6)], [(1, 4, 6)], 4 * 6 * 9),
    ("NhwcFusedConv", {}, [(1, 7, 8, 8), (4, 8, 3, 3)], [(1, 5, 6, 4)], 4 * 5 * 6 * 8 * 9),
    ("ConvInteger", {}, [(1, 3, 8), (4, 3, 3), (), ()], [(1, 4, 6)], 4 * 6 * 9),
    ("QLinearConv", {}, [(1, 3, 8), (), (), (4, 3, 3), (), (), (), ()], [(1, 4, 6)], 4 * 6 * 9),
    # each of 8x5x5 inputs spreads over 4 channels of 2x2
    ("ConvTranspose", {"strides": [2, 2]}, [(1, 8, 5, 5), (8, 4, 2, 2)], [(1, 4, 10, 10)], 8 * 25 * 16),
    ("Gemm", {}, [(3, 4), (4, 5), (5,)], [(3, 5)], 60),
    ("Gemm", {"transA": 1, "transB": 1}, [(4, 3), (5, 4)], [(3, 5)], 60),
    ("FusedGemm", {}, [(3, 4), (4, 5)], [(3, 5)], 60),
    ("QGemm", {}, [(3, 4), (), (), (4, 5), (), ()], [(3, 5)], 60),
    ("MatMul", {}, [(2, 1, 3, 4), (7, 4, 5)], [(2, 7, 3, 5)], 2 * 7 * 3 * 4 * 5),
    ("MatMul", {}, [(4,), (4, 5)], [(5,)], 20),
    ("MatMul", {}, [(4,), (4,)], [()], 4),
    ("FusedMatMul", {"transA": 1}, [(2, 4, 3), (2, 4, 5)], [(2, 3, 5)], 2 * 60),
    ("FusedMatMul", {"transA": 1, "transBatchA": 1}, [(4, 2, 3), (2, 4, 5)], [(2, 3, 5)], 2 * 60),
    ("MatMulInteger", {}, [(3, 4), (4, 5), (), ()], [(3, 5)], 60),
    ("QLinearMatMul", {}, [(3, 4), (), (), (4, 5), (), (), (), ()], [(3, 5)], 60),
    ("DynamicQuantizeMatMul", {}, [(3, 4), (4, 5), ()], [(3, 5)], 60),
    ("MatMulNBits", {"K": 64, "N": 32, "bits": 4}, [(2, 3, 64), (32, 2, 16), (64,)], [(2, 3, 32)], 6 * 64 * 32),
    # 5 steps x 2 in the batch, 4 gates of 6, from 3 inputs and 6 states; in one and in both directions
    ("LSTM", {"hidden_size": 6}, [(5, 2, 3), (1, 24, 3), (1, 24, 6)], [(5, 1, 2, 6)], 5 * 2 * 24 * 9),
    ("LSTM", {"direction": b"bidirectional"}, [(5, 2, 3), (2, 24, 3), (2, 24, 6)], [(5, 2, 2, 6)], 5 * 2 * 48 * 9),
    ("GRU", {}, [(5, 2, 3), (1, 18, 3), (1, 18, 6)], [(5, 1, 2, 6)], 5 * 2 * 18 * 9),
    ("RNN", {}, [(5, 2, 3), (1, 6, 3), (1, 6, 6)], [(5, 1, 2, 6)], 5 * 2 * 6 * 9),
    ("DynamicQuantizeLSTM", {}, [(5, 2, 3), (1, 3, 24), (1, 6, 24)], [(5, 1, 2, 6)], 5 * 2 * 24 * 9),
    # 2 in the batch, 3 heads of 8, 5 steps looking at 7; values of 4
    ("Attention", {}, [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)], [(2, 3, 5, 4)], 2 * 3 * 5 * 7 * 12),
    ("Attention", {}, [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4), None, (2, 3, 6, 8)], [], 2 * 3 * 5 * 13 * 12),
    ("Attention", {"q_num_heads": 4, "kv_num_heads": 2}, [(2, 5, 32), (2, 7, 16), (2, 7, 16)], [], 2 * 4 * 5 * 7 * 16),
    # com.microsoft: the projection to Q, K and V is part of it
    ("Attention", {"num_heads": 2}, [(2, 5, 16), (16, 48), (48,)], [(2, 5, 16)], 2 * 5 * (16 * 48 + 5 * 32)),
    ("QAttention", {"num_heads": 2}, [(2, 5, 16), (16, 48)], [(2, 5, 16)], 2 * 5 * (16 * 48 + 5 * 32)),
    ("MultiHeadAttention", {"num_heads": 2}, [(2, 5, 16), (2, 7, 16), (2, 7, 16)], [], 2 * 5 * 7 * 32),
    ("MultiHeadAttention", {"num_heads": 2}, [(2, 5, 2, 3, 8)], [], 2 * 5 * 5 * 32),
    (
        "GroupQueryAttention", {"num_heads": 4, "kv_num_heads": 2},
        [(1, 1, 32), (1, 1, 16), (1, 1, 16), (1, 2, 9, 8), (1, 2, 9, 8)], [(1, 1, 32), (1, 2, 10, 8), (1, 2, 10, 8)],
        10 * 2 * 32,
    ),
    ("Einsum", {"equation": b"bhid,bhjd->bhij"}, [(2, 3, 4, 5), (2, 3, 6, 5)], [(2, 3, 4, 6)], 2 * 3 * 4 * 6 * 5),
    ("Einsum", {"equation": "...ij,...jk"}, [(7, 2, 3), (7, 3, 4)], [(7, 2, 4)], 7 * 2 * 3 * 4),
    ("Einsum", {"equation": "ij->ji"}, [(2, 3)], [(3, 2)], 0),
    ("Einsum", {"equation": "ij,jk,kl->il"}, [(2, 3), (3, 4), (4, 5)], [(2, 5)], 2 * 3 * 4 + 2 * 4 * 5),
    ("Einsum", {"equation": "i,i"}, [(9,), (9,)], [()], 9),
    ("Add", {}, [(5,), (5,)], [(5,)], 0),
    ("LayerNormalization", {}, [(5,)], [(5,)], 0),
    ("Anything", {}, [None], [None], 0),
    # what is not known is not counted as nothing
    ("MatMul", {}, [("n", 4), (4, 5)], [("n", 5)], None),
    ("MatMul", {}, [None, (4, 5)], [None], None),
    ("Conv", {}, [(1, 3, 8)], [(1, 4, 6)], None),
    ("Einsum", {"equation": "ij,jk->ik"}, [(2, 3, 4), (3, 4)], [(2, 4)], None),
    ("MatMulNBits", {}, [(2, 64)], [(2, 32)], None),
]  # fmt: skip


@pytest.mark.parametrize(("op_type", "attributes", "inputs", "outputs", "expected"), CASES)
def test_macs(op_type: str, attributes: dict, inputs: list, outputs: list, expected: int | None) -> None:
    assert macs(op_type, attributes, inputs, outputs) == expected


@pytest.mark.parametrize(
    "equation",
    ["ij,jk->ik", "bij,bjk->bik", "i,j->ij", "...ab,...bc->...ac", "abc,cd,de->abe", "ij,ij", "ab,b->a"],
)
def test_einsum_counts_what_nested_loops_would(equation: str) -> None:
    """The count of two operands, taken from the definition: one product per combination of all their
    indices."""
    sizes = dict(zip("abcdeijk", (2, 3, 4, 5, 6, 2, 3, 4), strict=True))
    terms = equation.split("->")[0].split(",")
    shapes = [
        tuple([7] if "..." in term else []) + tuple(sizes[c] for c in term if c != ".") for term in terms
    ]
    operands = [np.ones(shape) for shape in shapes]
    result = np.einsum(equation, *operands)
    expected, left = 0, terms[0]
    for index, term in enumerate(terms[1:], 1):
        letters = sorted(set(left + term) - {"."})
        combinations = len(list(itertools.product(*(range(sizes[c]) for c in letters))))
        expected += combinations * (7 if "..." in left + term else 1)
        kept = "".join(terms[index + 1 :]) + (equation.split("->")[1] if "->" in equation else "")
        left = "".join(c for c in letters if c in kept)
    assert macs("Einsum", {"equation": equation}, shapes, [result.shape]) == expected


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("light_resnet50", 4.09),
        ("light_vgg19", 19.63),
        ("light_densenet121", 2.83),
        ("light_squeezenet", 0.349),
    ],
)
def test_published_totals(real_model, name: str, giga: float) -> None:
    """He et al. 2016 (3.8 G for ResNet-50 v1, 4.09 G with the stride in the 3x3), Simonyan 2015, Huang
    2017."""
    assert wb.load(real_model(name)).macs / 1e9 == pytest.approx(giga, rel=0.002)


def test_costs_of_bodies() -> None:
    """The dearer branch; as many turns as are known; calls as what they call."""
    assert wb.load(build.branches()).summary({"n": 3}).macs == 3 * 4 * 4
    looped = wb.load(build.loops())
    assert looped.nodes.macs["loop"] == 3 * 5 * 4 * 4 and looped.nodes.macs["MatMul_s2"] == 5 * 4 * 4
    assert looped.summary().once == ()
    called = wb.load(build.calls())
    assert called.macs == 2 * 2 * 4 * 4 and called.nodes.macs["Block_t"] == 2 * 4 * 4
    assert called.nodes.macs["MatMul_m"] == 2 * 4 * 4


def test_turns_that_are_not_known_count_once() -> None:
    proto = build.loops()
    proto.graph.initializer.pop(0)
    proto.graph.input.append(build.value("three", (), 7))
    summary = wb.load(proto).summary()
    assert summary.once == ("loop",)
    assert "Counted with one turn, because the number of turns is not known: loop." in str(summary)


@pytest.mark.parametrize("most", [2**31 - 1, 2**63 - 1])
def test_a_loop_that_only_its_condition_ends_counts_once(most: int) -> None:
    """Exporters write the largest integer where a while-loop has no limit."""
    proto = build.loops()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(most), proto.graph.initializer[0].name))
    model = wb.load(proto)
    assert model.summary().once == ("loop",) and model.nodes.macs["loop"] == 5 * 4 * 4


def test_moved_bytes() -> None:
    f = "float32"
    assert moved_bytes([(f, (2, 3)), ("int8", (5,))], [(f, (2, 3))]) == 24 + 5 + 24
    assert moved_bytes([("int4", (3,)), ("", ())], [("bfloat16", (4,))]) == 2 + 0 + 8
    assert moved_bytes([("string", (9,))], [("bool", (2,))]) == 2
    assert moved_bytes([(f, ("n", 3))], [(f, (1, 3))]) is None
    assert moved_bytes([(f, None)], [(f, (1, 3))]) is None
    # a lookup reads what it returns, not the whole table
    assert (
        moved_bytes([(f, (30522, 384)), ("int64", (7,))], [(f, (7, 384))], "Gather") == 2 * 7 * 384 * 4 + 56
    )
    assert moved_bytes([(f, (100,))], [("int64", (1,))], "Shape") == 8


def test_bytes_of_a_model() -> None:
    nodes = wb.load(build.mlp()).nodes
    assert nodes.bytes.to_dict() == {
        "Gemm_h": 4 * (64 + 32 * 64 + 32 + 32),
        "Relu_r": 4 * 64,
        "MatMul_y": 4 * (32 + 32 * 8 + 8),
    }
    assert wb.load(build.mlp()).summary({"batch": 3}).moved == 4 * (
        3 * (64 + 32 + 64 + 32 + 8) + 2048 + 32 + 256
    )


def test_names_of_operators_are_not_domains() -> None:
    """A custom operator called MatMul counts as what its name says only when its shapes fit."""
    node = h.make_node("MatMul", ["x"], ["y"], domain="my")
    proto = build.model([node], [build.value("x", [2, 4])], [build.value("y", None)], domains=[("my", 1)])
    assert wb.load(proto).summary().uncounted == ("MatMul_y",)
