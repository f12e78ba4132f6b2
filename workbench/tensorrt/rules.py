"""What TensorRT is known to refuse or to be slow with, found in the graph alone: each with a reason and, where what the
model computes stays the same, with an edit.

A rule is a function of a `View`; the order of `RULES` is the order of the findings. What the parser refuses is seen by
the parser itself (`check`): its rules only bring the fix. What only the builder refuses was seen with TensorRT-RTX 1.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ..edits import DeleteNodes, SetAttribute, SetInput  # type: ignore[attr-defined]
from ..edits.base import Edit
from ..edits.weights import data
from ..errors import InputError
from ..inputs import feeds
from ..inputs.generate import inlined
from ..inputs.walk import Walk
from ..model import Model
from ..model.scopes import bodies, nested
from .fixes import (
    MOVES,
    BypassPair,
    CastToDequantize,
    DequantizeFirst,
    FakeQuantize,
    FoldNode,
    TakeBranch,
    cancel,
    dequantizers,
)

TYPES = frozenset(("float32", "float16", "bfloat16", "float64", "int64", "int32", "int8", "bool", "int4",
                   "float8_e4m3fn", "float4_e2m1fn"))  # fmt: skip
"""What tensors may be; uint8 only as an input or output of the model (measured with TensorRT-RTX 1.7)."""
_NARROWED = {"uint8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64"}
_QUANTIZED = frozenset(("int4", "float8_e4m3fn", "float4_e2m1fn"))
_RECURRENT = frozenset(("LSTM", "GRU", "RNN", "Loop", "Scan"))
_BY_VALUE = frozenset(("NonZero", "NonMaxSuppression", "Unique", "Compress"))
_PRODUCTS = frozenset(("Conv", "ConvTranspose", "MatMul", "Gemm"))
_CHANNELS = {(0, 3, 1, 2): "NHWC to NCHW", (0, 2, 3, 1): "NCHW to NHWC"}


@dataclass(frozen=True)
class Finding:
    """Something that TensorRT refuses or is slow with.

    Attributes:
        rule: which rule found it; ``parser`` for what only the parser itself knows.
        severity: ``error`` (no engine), ``warning`` (it computes something else), ``cost`` (it is slower or larger).
        node: name of the node, or of the input for rules on inputs.
        op_type: its operator; ``input`` for an input.
        reason: what is wrong.
        edit: what removes it and leaves what the model computes as it is; None where no edit does.
    """

    rule: str
    severity: str
    node: str
    op_type: str
    reason: str
    edit: Edit | None = None

    def fix(self, model: Model) -> Model:
        """The model with this finding's edit applied. EditError where it has none or it does not apply."""
        from ..errors import EditError

        if self.edit is None:
            raise EditError(
                f"node {self.node!r} ({self.op_type}): no edit is known for {self.rule}: {self.reason}"
            )
        return model.apply(self.edit)


class View:
    """What the rules look at."""

    def __init__(self, model: Model, inputs: Any = None, shapes: Mapping[str, Any] | None = None):
        self.model, self._inputs, self._shapes = model, inputs, shapes
        self.graph = model.ir.graph
        self.nodes = list(self.graph)

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """Tensor of the main graph -> dtype, where it is known."""
        table = self.model.tensors
        return {name: kind for name, kind in table.dtype.items() if isinstance(kind, str)}

    @cached_property
    def _feed(self) -> dict[str, np.ndarray]:
        try:
            return next(iter(feeds(self.model, self._inputs, shapes=self._shapes)))
        except InputError:
            return {}  # none can be made: nothing is known that follows from inputs

    @cached_property
    def _walk(self) -> Walk:
        shapes = {name: array.shape for name, array in self._feed.items()}
        small = {
            n: array for n, array in self._feed.items() if array.size <= 16 and array.dtype.kind in "iub"
        }
        return Walk(inlined(self.model.to_proto()), shapes, small)

    @property
    def example(self) -> str:
        """The inputs that conditions are judged for."""
        return ", ".join(
            f"{name}={array}"
            if array.size == 1 and array.dtype.kind in "iub"
            else f"{name} {list(array.shape)}"
            for name, array in self._feed.items()
        )

    @property
    def fixed(self) -> bool:
        """Whether all shapes of inputs are fixed, and none is a number that may decide something."""
        return all(
            info.shape and all(isinstance(dim, int) for dim in info.shape) and info.dtype.startswith("float")
            for info in self.model.inputs
        )

    def condition(self, node: ir.Node) -> bool | None:
        """The condition of an If, where it follows from the shapes and numbers of the inputs."""
        name = node.inputs[0].name if node.inputs[0] is not None else None
        value = self._walk.values.get(name or "")
        return None if value is None else bool(np.all(value))

    def dtype(self, value: ir.Value | None) -> str:
        """Dtype of a tensor, ``''`` where it is not known."""
        return self.dtypes.get(value.name or "", "") if value is not None else ""

    def constant(self, value: ir.Value | None) -> np.ndarray | None:
        """The data of a weight, None for other tensors."""
        if value is None or value.is_graph_input():
            return None
        maker = value.producer()
        if value.const_value is None and (maker is None or maker.op_type != "Constant" or maker.domain):
            return None
        array: np.ndarray = data(value).numpy()
        return array


Rule = Callable[[View], Iterator[Finding]]


def offset(view: View) -> Iterator[Finding]:
    """Zero points other than 0: the parser refuses them."""
    for node in view.nodes:
        if node.op_type == "QuantizeLinear" and len(node.inputs) > 2:
            zero = view.constant(node.inputs[2])
            if zero is not None and np.any(zero):
                fits = zero.size == 1 and dequantizers(node) is not None
                reason = f"its zero point is {zero.ravel()[0]}: TensorRT quantizes symmetrically"
                yield _found("offset", "error", node, reason, FakeQuantize(node.name or "") if fits else None)


def bias(view: View) -> Iterator[Finding]:
    """DequantizeLinear of 32-bit weights: the parser takes 8 and 4 bits only."""
    for node in view.nodes:
        source = view.constant(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
        if source is not None and source.dtype.name in ("int32", "int16", "uint16"):
            reason = f"it dequantizes a weight of type {source.dtype.name}: TensorRT takes 8 bits or less"
            yield _found("bias", "error", node, reason, FoldNode(node.name or ""))


def bare_int8(view: View) -> Iterator[Finding]:
    """int8 weights that anything but DequantizeLinear reads: the builder takes int8 constants for quantized ones."""
    for node in view.nodes:
        if node.op_type == "DequantizeLinear" or not node.inputs:
            continue
        source = view.constant(node.inputs[0])
        if source is None or source.dtype != np.int8:
            continue
        edit: Edit | None = None
        if node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.FLOAT and source.size > 1:
            edit = CastToDequantize(node.name or "")
        elif node.op_type == "Gather" and _one_dequantizer(view, node):
            edit = DequantizeFirst(node.name or "")
        reason = "it reads an int8 weight: TensorRT takes that for a quantized one, which DequantizeLinear must read"
        yield _found("bare_int8", "error", node, reason, edit)


def _one_dequantizer(view: View, node: ir.Node) -> bool:
    users = [user for user, _ in node.outputs[0].uses()]
    if len(users) != 1 or users[0].op_type != "DequantizeLinear" or node.outputs[0].is_graph_output():
        return False
    scale = view.constant(users[0].inputs[1])
    return scale is not None and scale.size == 1


def branches(view: View) -> Iterator[Finding]:
    """If with a recurrence inside, or with branches of different ranks: the builder fails with an internal error,
    unless the condition follows from shapes that are fixed, in the model or by the profile."""
    for node in view.nodes:
        if node.op_type != "If":
            continue
        inner = next((n.op_type for n in nested(node) if n.op_type in _RECURRENT), "")
        ranks = {tuple(_rank(value) for value in body.outputs) for _, body in bodies(node)}
        different = len(ranks) > 1 and not any(None in found for found in ranks)
        if not inner and not different and not any(n.op_type == "If" for n in nested(node)):
            continue
        why = f"{inner or 'If'} inside it" if not different else "its branches have different ranks"
        taken = view.condition(node)
        if taken is not None and view.fixed:
            continue
        known = "" if taken is None else f"; its condition is {taken} for the inputs {view.example}"
        edit = (
            None if taken is None else TakeBranch(node.name or "", "then_branch" if taken else "else_branch")
        )
        yield _found("branches", "error", node, f"{why}: TensorRT-RTX 1.7 fails to build that{known}", edit)


def _rank(value: ir.Value) -> int | None:
    if value.shape is not None:
        return len(value.shape)
    maker = value.producer()
    step = {"Squeeze": -1, "Unsqueeze": 1, "Identity": 0}.get(maker.op_type) if maker is not None else None
    source = maker.inputs[0] if maker is not None and step is not None else None
    rank = _rank(source) if source is not None else None
    return None if rank is None or step is None else rank + step


def casts(view: View) -> Iterator[Finding]:
    """Casts to types that TensorRT does not have, and casts that do nothing."""
    for node in view.nodes:
        if node.op_type != "Cast" or not node.outputs:
            continue
        to = _name(node.attributes.get_int("to"))
        out = node.outputs[0]
        edit: Edit | None = None
        if to not in TYPES and not (to == "uint8" and out.is_graph_output()):
            if to in _NARROWED and not out.is_graph_output():
                edit = SetAttribute(node.name or "", "to", int(_number(_NARROWED[to])))
            yield _found("cast_type", "error", node, f"it casts to {to}, which TensorRT does not have", edit)
        elif to in _QUANTIZED:
            yield _found(
                "cast_quantized", "error", node, f"TensorRT makes {to} by QuantizeLinear, not by Cast"
            )
        elif to == view.dtype(node.inputs[0]) and not out.is_graph_output():
            constant = view.constant(node.inputs[0]) is not None
            edit = FoldNode(node.name or "") if constant else DeleteNodes((node.name or "",))
            yield _found("no_cast", "cost", node, f"its input is {to} already", edit)


def _name(number: int | None) -> str:
    from ..model.info import DTYPES

    return DTYPES.get(number or 0, str(number))


def _number(name: str) -> int:
    return {"int32": onnx.TensorProto.INT32, "int64": onnx.TensorProto.INT64}[name]


def inputs(view: View) -> Iterator[Finding]:
    """Inputs of types that TensorRT does not have, and 64-bit ones."""
    for info in view.model.inputs:
        users = [user for user, _ in _input(view, info.name).uses()]
        edit: Edit | None = None
        if info.dtype not in TYPES and not (
            info.dtype == "uint8" and all(u.op_type == "Cast" for u in users)
        ):
            if info.dtype in _NARROWED and all(user.op_type == "Cast" for user in users):
                edit = SetInput(info.name, dtype=_NARROWED[info.dtype])
            yield _of_input("input_type", "error", info, f"TensorRT has no {info.dtype} inputs", edit)
        elif info.dtype == "int64" and info.shape != ():
            reason = "64-bit integers: twice the bytes to copy, and slower to compute with"
            edit = (
                SetInput(info.name, dtype="int32")
                if all(_any_integer(u, i) for u, i in _input(view, info.name).uses())
                else None
            )
            yield _of_input("int64_input", "cost", info, reason, edit)
        elif info.dtype == "float64":
            yield _of_input(
                "float64", "warning", info, "TensorRT computes it as float32, and wants float32 data", None
            )


def _any_integer(node: ir.Node, index: int) -> bool:
    """Whether a node takes int32 in the place of int64, without that its outputs change their type."""
    if node.op_type in ("Gather", "GatherElements"):
        return index == 1
    return node.op_type == "Cast" and node.domain == ""


def _input(view: View, name: str) -> ir.Value:
    return next(value for value in view.graph.inputs if value.name == name)


def domains(view: View) -> Iterator[Finding]:
    """Operators of other domains whose name ONNX has too: the parser does not look at the domain."""
    known = {(key[0], key[1]) for key in view.model.ir.functions}
    for node in view.nodes:
        if node.domain in ("", "ai.onnx") or (node.domain, node.op_type) in known:
            continue
        if onnx.defs.has(node.op_type):
            reason = (
                f"TensorRT's parser ignores the domain {node.domain!r} and takes it for ONNX's own {node.op_type}; "
                "give the operator a name that ONNX does not have"
            )
            yield _found("domain", "warning", node, reason)


def repeated(view: View) -> Iterator[Finding]:
    """Pairs of nodes of which the second undoes the first."""
    taken: set[str] = set()
    for node in view.nodes:
        first = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if first is None or node.domain or {node.name, first.name} & taken or first.graph is not node.graph:
            continue
        if node.op_type in ("Transpose", "DequantizeLinear") and cancel(first, node):
            taken.update((node.name or "", first.name or ""))
            what = "Transpose" if node.op_type == "Transpose" else "quantization"
            reason = f"it undoes {first.name!r}: both together change nothing and cost a pass over the tensor ({what})"
            yield _found("repeated", "cost", node, reason, BypassPair(first.name or "", node.name or ""))


def layouts(view: View) -> Iterator[Finding]:
    """Transposes between channels first and channels last that nothing undoes."""
    for node in view.nodes:
        perm = tuple(node.attributes.get_ints("perm") or ()) if node.op_type == "Transpose" else ()
        if perm in _CHANNELS and view.constant(node.inputs[0]) is None:
            reason = f"{_CHANNELS[perm]}: it moves the whole tensor, as a reformat of TensorRT's own does"
            yield _found("layout", "cost", node, reason)


def half_quantized(view: View) -> Iterator[Finding]:
    """Products of which one side alone is quantized: they run in floating point."""
    for node in view.nodes:
        if node.op_type in _PRODUCTS and len(node.inputs) > 1:
            sides = [_quantized(value) for value in node.inputs[:2]]
            if sides[0] != sides[1]:
                which = "the second" if sides[0] else "the first"
                reason = f"{which} of its inputs is not quantized: it runs in floating point"
                yield _found("half_quantized", "cost", node, reason)


def _quantized(value: ir.Value | None) -> bool:
    while value is not None and (maker := value.producer()) is not None:
        if maker.op_type == "DequantizeLinear":
            return True
        if maker.op_type not in MOVES:
            return False
        value = maker.inputs[0]
    return False


def by_value(view: View) -> Iterator[Finding]:
    """Operators whose output shape depends on values."""
    for node in view.nodes:
        if node.op_type in _BY_VALUE and not node.domain:
            reason = (
                "how large its output is depends on values: what follows cannot be planned nor fused with it"
            )
            yield _found("by_value", "cost", node, reason)


def _found(rule: str, severity: str, node: ir.Node, reason: str, edit: Edit | None = None) -> Finding:
    return Finding(rule, severity, node.name or "", node.op_type, reason, edit)


def _of_input(rule: str, severity: str, info: Any, reason: str, edit: Edit | None) -> Finding:
    return Finding(rule, severity, info.name, "input", reason, edit)


RULES: tuple[Rule, ...] = (
    inputs, offset, bias, bare_int8, branches, casts, domains, repeated, layouts, half_quantized, by_value,
)  # fmt: skip

SEEN_BY_PARSER = frozenset(("offset", "bias", "cast_type", "input_type"))
"""Rules whose findings are dropped where the parser accepts the node after all."""
SEEN_WITH_RTX = frozenset(("branches", "bare_int8", "cast_quantized"))
"""What the builder of TensorRT-RTX 1.7 refuses; other libraries have not been asked."""
CHANGES_INPUTS = frozenset(("int64_input",))
"""Rules whose fix asks for other input data, and that `Check.fix` leaves out unless they are named."""


def findings(model: Model, inputs: Any = None, shapes: Mapping[str, Any] | None = None) -> list[Finding]:
    """What all rules find in a model; conditions are judged for these inputs (see `workbench.inputs.feeds`)."""
    view = View(model, inputs, shapes)
    return [finding for rule in RULES for finding in rule(view)]
