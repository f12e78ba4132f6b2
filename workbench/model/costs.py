"""What operators cost: multiply-accumulates (MACs) and bytes moved, from shapes alone.

One MAC is one multiplication with its addition. Counted is what the definition of the operator needs (ONNX
operator reference, https://onnx.ai/onnx/operators/, and ONNX Runtime's ContribOperators.md for
``com.microsoft``), independent of the algorithm that a runtime picks (Winograd, FFT). Biases, activations,
normalisations, pooling and element-wise operators count 0 MACs, as usual in the literature, so ResNet-50 has
4.09 G.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .info import BITS, nbytes

Dims = Sequence[int]
Shapes = Sequence["tuple[int | str | None, ...] | None"]


@dataclass(frozen=True)
class NodeCost:
    """What one run of a node costs: MACs and bytes moved; None where a shape is not known."""

    macs: int | None
    bytes: int | None

    def __add__(self, other: NodeCost) -> NodeCost:
        return NodeCost(_sum([self.macs, other.macs]), _sum([self.bytes, other.bytes]))

    def times(self, count: int) -> NodeCost:
        """The cost of several runs."""
        return NodeCost(_sum([self.macs], count), _sum([self.bytes], count))

    @staticmethod
    def most(costs: Iterable[NodeCost]) -> NodeCost:
        """The highest of several costs, None where one is not known."""
        known = list(costs)
        if not known or any(cost.macs is None or cost.bytes is None for cost in known):
            return UNKNOWN
        return NodeCost(max(cost.macs or 0 for cost in known), max(cost.bytes or 0 for cost in known))


UNKNOWN = NodeCost(None, None)


def _sum(counts: Iterable[int | None], times: int = 1) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known) * times


def macs(
    op_type: str, attributes: Mapping[str, Any], input_shapes: Shapes, output_shapes: Shapes
) -> int | None:
    """MACs of one run of a node.

    Args:
        op_type: of ONNX, or of ONNX Runtime's fused operators (``FusedConv``, ``QLinearMatMul``,
            ``MatMulNBits``, its blocked and NHWC convolutions ...).
        attributes: name -> value (int, list, str or bytes).
        input_shapes: one per input in the operator's order; None (or ``()``) for one that is left out.
        output_shapes: one per output.

    Returns:
        0 for operators that are not made of products; None when a shape that counts is not known.
    """
    formula = _FORMULAS.get(op_type)
    if formula is None:
        return 0
    try:
        count = formula(attributes, _Shapes(input_shapes), _Shapes(output_shapes))
        return count if isinstance(count, int) and count >= 0 else None
    except (TypeError, IndexError, ValueError, KeyError, ZeroDivisionError):
        return None  # a shape that counts is missing, symbolic or does not fit the operator


def moved_bytes(
    inputs: Sequence[tuple[str, Any]], outputs: Sequence[tuple[str, Any]], op_type: str = ""
) -> int | None:
    """Bytes that a node reads and writes when each input and output passes through memory once.

    Args:
        inputs: (dtype, shape) of each input; left-out ones are ``("", ())``.
        outputs: (dtype, shape) of each output.
        op_type: when it is an operator that reads only part of its data (Gather and the like) or none
            (Shape), that is accounted for.

    Returns:
        None when a shape is not known. Strings count 0.
    """
    sizes = [[_bytes(*tensor) for tensor in group] for group in (inputs, outputs)]
    if op_type in ("Shape", "Size", "Constant"):
        sizes[0] = []
    elif op_type in _LOOKUPS and sizes[0] and sizes[1]:
        sizes[0][0] = sizes[1][0] if sizes[1][0] is not None else None
    return _sum([*sizes[0], *sizes[1]])


_LOOKUPS = {
    "Gather",
    "GatherElements",
    "GatherND",
    "Slice",
    "Split",
    "EmbedLayerNormalization",
    "GatherBlockQuantized",
}


def _bytes(dtype: str, shape: Any) -> int | None:
    if not dtype and shape == ():
        return 0
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return nbytes(dtype, shape) if dtype in BITS else 0 if dtype == "string" else None


class _Shapes:
    """Shapes by position; using one that is not known raises TypeError."""

    def __init__(self, shapes: Shapes):
        self._shapes = shapes

    def __getitem__(self, index: int) -> tuple[int, ...]:
        shape = self._shapes[index]
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            raise TypeError("unknown shape")
        return shape  # type: ignore[return-value]

    def get(self, index: int) -> tuple[int, ...]:
        """() for one that is left out."""
        return self[index] if index < len(self._shapes) and self._shapes[index] is not None else ()

    def __len__(self) -> int:
        return len(self._shapes)


Formula = Callable[[Mapping[str, Any], _Shapes, _Shapes], int]


def _conv(weight: int) -> Formula:
    """Each output element takes one MAC per element of its filter, W[M, C/group, k...]; the layout does not
    matter."""
    return lambda _, x, y: math.prod(y[0]) * math.prod(x[weight][1:])


def _conv_transpose(_: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    """Each input element is multiplied with its filter, W[C, M/group, k...]."""
    return math.prod(x[0]) * math.prod(x[1][1:])


def _gemm(a: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    return math.prod(y[0]) * x[0][0 if a.get("transA") else 1]


def _matmul(a: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    left = x[0]
    if a.get("transA") and len(left) > 1:
        return math.prod(y[0]) * (left[0] if a.get("transBatchA") else left[-2])
    return math.prod(y[0]) * left[-1]


def _matmul_packed(a: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    """B[N, K] is held in blocks: its sizes are attributes."""
    return math.prod(x[0]) * int(a["N"])


def _einsum(a: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    """Operands are contracted from left to right, as ONNX Runtime does; a single one is summed, not
    multiplied."""
    equation = a["equation"]
    text = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    left, _, right = text.partition("->")
    terms = left.split(",")
    sizes: dict[str, int] = {}
    operands = [_labels(term, x[index], sizes) for index, term in enumerate(terms)]
    if "->" in text:
        result = _labels(right, y[0], sizes)
    else:
        letters = [label for operand in operands for label in operand]
        result = [label for label in sizes if letters.count(label) == 1 or label.isdigit()]
    total, done = 0, operands[0]
    for index, operand in enumerate(operands[1:], 1):
        labels = dict.fromkeys([*done, *operand])
        total += math.prod(sizes[label] for label in labels)
        later = {label for rest in operands[index + 1 :] for label in rest} | set(result)
        done = [label for label in labels if label in later]
    return total


def _labels(term: str, shape: Dims, sizes: dict[str, int]) -> list[str]:
    """One label per axis (those behind an ellipsis are numbers, counted from the right); notes the sizes of
    the axes."""
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise ValueError("equation does not fit the shapes")
    labels = [*before, *(str(number) for number in range(hidden, 0, -1)), *after]
    for label, size in zip(labels, shape, strict=True):
        sizes[label] = max(sizes.get(label, 1), size)
    return labels


def _recurrent(a: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    """Each of X's steps (sequence x batch) multiplies the input with W and the state with R, per
    direction."""
    return math.prod(x[0][:2]) * (math.prod(x[1]) + math.prod(x[2]))


def _attention(a: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    """ai.onnx Attention (opset 23): Q K^T, then the product with V; [B, heads, S, D] or [B, S, heads * D]."""
    if "num_heads" in a:
        return _attention_ms(a, x, y)
    query, key, value = x[0], x[1], x[2]
    past = x.get(4)
    if len(query) == 4:
        heads, steps, size, value_size, length = query[1], query[2], query[3], value[3], key[2]
    else:
        heads, steps = int(a["q_num_heads"]), query[1]
        size, value_size, length = query[2] // heads, value[2] // int(a["kv_num_heads"]), key[1]
    length += past[2] if past else 0
    return query[0] * heads * steps * length * (size + value_size)


def _attention_ms(a: Mapping[str, Any], x: _Shapes, y: _Shapes, past_index: int = 4) -> int:
    """com.microsoft Attention: X[B, S, I] times W[I, Q + K + V] first, then as above; past[2, B, heads, P,
    D]."""
    (batch, steps, _), weights, past = x[0], x[1], x.get(past_index)
    split = list(a.get("qkv_hidden_sizes") or [weights[1] // 3] * 3)
    length = steps + (past[3] if past else 0)
    return batch * steps * (math.prod(weights) + length * (split[0] + split[2]))


def _multi_head_attention(a: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    """com.microsoft MultiHeadAttention; query may hold all of Q, K, V [B, S, N, 3, D], key K and V [B, L, N,
    2, D]."""
    query, key, value = x[0], x.get(1), x.get(2)
    hidden = math.prod(query[2:]) // (3 if len(query) == 5 else 1)
    past = x.get(6)
    if not key:
        length, value_hidden = query[1], hidden
    elif len(key) == 4:
        length, value_hidden = key[2], value[1] * value[3]
    else:
        length, value_hidden = key[1], value[2] if value else hidden
    return query[0] * query[1] * (length + (past[2] if past else 0)) * (hidden + value_hidden)


def _group_query_attention(a: Mapping[str, Any], x: _Shapes, y: _Shapes) -> int:
    """com.microsoft GroupQueryAttention; without a key, query holds Q, K and V; past_key[B, heads, P, D]."""
    query, key, past = x[0], x.get(1), x.get(3)
    heads, shared = int(a["num_heads"]), int(a["kv_num_heads"])
    hidden = query[2] if key else query[2] // (heads + 2 * shared) * heads
    length = y[1][2] if len(y) > 1 else query[1] + (past[2] if past else 0)
    return query[0] * query[1] * length * 2 * hidden


_FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(
        ("Conv", "ConvInteger", "FusedConv", "NhwcConv", "NhwcFusedConv", "DeformConv"), _conv(1)
    ),
    "QLinearConv": _conv(3),
    **dict.fromkeys(("ConvTranspose", "ConvTransposeWithDynamicPads"), _conv_transpose),
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm", "GemmFloat8"), _gemm),
    **dict.fromkeys(
        (
            "MatMul",
            "MatMulInteger",
            "QLinearMatMul",
            "FusedMatMul",
            "TransposeMatMul",
            "FusedMatMulActivation",
        )
        + ("MatMulIntegerToFloat", "MatMulInteger16", "DynamicQuantizeMatMul"),
        _matmul,
    ),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "MatMulFpQ4"), _matmul_packed),
    "Einsum": _einsum,
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    "Attention": _attention,
    "QAttention": lambda a, x, y: _attention_ms(a, x, y, past_index=8),
    "MultiHeadAttention": _multi_head_attention,
    "GroupQueryAttention": _group_query_attention,
}
COUNTED = frozenset(_FORMULAS)
"""Operators that count MACs."""
