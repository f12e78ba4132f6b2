"""Small models that the tests of workbench/model are made with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto
from onnx import helper as h
from onnx import numpy_helper as nh


def value(name: str, shape: Sequence[int | str | None] | None = (1, 4), dtype: int = TensorProto.FLOAT):
    """A value info."""
    return h.make_tensor_value_info(name, dtype, shape)


def array(name: str, *shape: int, seed: int = 0, dtype: str = "float32") -> TensorProto:
    """An initializer of seeded random numbers."""
    numbers = np.random.default_rng(seed).normal(size=shape)
    return nh.from_array(numbers.astype(dtype), name)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
    *,
    opset: int = 17,
    ir_version: int = 9,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[tuple[str, int]] = (),
    name: str = "g",
) -> onnx.ModelProto:
    """A model proto."""
    graph = h.make_graph(list(nodes), name, list(inputs), list(outputs), list(initializers))
    opsets = [h.make_opsetid("", opset), *(h.make_opsetid(*domain) for domain in domains)]
    return h.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=list(functions))


def mlp(width: int = 64) -> onnx.ModelProto:
    """x[batch, 64] -> Gemm -> Relu -> MatMul -> y; weights of more than a kilobyte."""
    return model(
        [
            h.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
            h.make_node("Relu", ["h"], ["r"]),
            h.make_node("MatMul", ["r", "w2"], ["y"]),
        ],
        [value("x", ["batch", width])],
        [value("y", ["batch", 8])],
        [array("w1", 32, width), array("b1", 32, seed=1), array("w2", 32, 8, seed=2)],
    )


def branches() -> onnx.ModelProto:
    """An If whose branches multiply x[n, 4] with weights of their own, unnamed nodes throughout."""
    out = [value("z", None)]
    then = h.make_graph([h.make_node("MatMul", ["x", "wt"], ["z"])], "then", [], out, [array("wt", 4, 4)])
    other = h.make_graph(
        [h.make_node("MatMul", ["x", "we"], ["a"]), h.make_node("Relu", ["a"], ["z"])], "else", [], out,
        [array("we", 4, 4, seed=1)],
    )  # fmt: skip
    return model(
        [h.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other)],
        [value("flag", (), TensorProto.BOOL), value("x", ["n", 4])],
        [value("y", ["n", 4])],
    )


def loops() -> onnx.ModelProto:
    """A Loop that runs 3 times, then a Scan over the first axis of x[5, 4]; both multiply with w[4, 4]."""
    body = h.make_graph(
        [h.make_node("MatMul", ["s", "w"], ["s2"]), h.make_node("Identity", ["go"], ["go2"])], "body",
        [value("i", (), TensorProto.INT64), value("go", (), TensorProto.BOOL), value("s", None)],
        [value("go2", (), TensorProto.BOOL), value("s2", None), value("s2", None)],
    )  # fmt: skip
    body.output[2].name = "out"
    body.node.append(h.make_node("Identity", ["s2"], ["out"]))
    step = h.make_graph(
        [h.make_node("Add", ["acc", "row"], ["acc2"]), h.make_node("Relu", ["acc2"], ["scanned"])], "step",
        [value("acc", None), value("row", None)], [value("acc2", None), value("scanned", None)],
    )  # fmt: skip
    return model(
        [
            h.make_node("Loop", ["three", "yes", "x"], ["looped", "all"], body=body, name="loop"),
            h.make_node("Scan", ["start", "looped"], ["sum", "rows"], body=step, num_scan_inputs=1, name="scan"),
        ],
        [value("x", [5, 4])],
        [value("all", None), value("sum", None), value("rows", None)],
        [
            nh.from_array(np.array(3), "three"), nh.from_array(np.array(True), "yes"), array("w", 4, 4),
            array("start", 4),
        ],
    )  # fmt: skip


def _from_call(name: str, of_call: str) -> onnx.AttributeProto:
    return onnx.AttributeProto(name=name, ref_attr_name=of_call, type=onnx.AttributeProto.FLOAT)


def calls() -> onnx.ModelProto:
    """Two calls of a function my::Block that itself calls my::Scale; an attribute goes through."""
    constant = h.make_node("Constant", [], ["c"])
    constant.attribute.append(_from_call("value_float", "by"))
    scale = h.make_function(
        "my", "Scale", ["a"], ["b"], [constant, h.make_node("Mul", ["a", "c"], ["b"])],
        [h.make_opsetid("", 17)], ["by"],
    )  # fmt: skip
    call = h.make_node("Scale", ["m"], ["q"], domain="my")
    call.attribute.append(_from_call("by", "factor"))
    block = h.make_function(
        "my", "Block", ["p", "w"], ["q"], [h.make_node("MatMul", ["p", "w"], ["m"]), call],
        [h.make_opsetid("", 17), h.make_opsetid("my", 1)], ["factor"],
    )  # fmt: skip
    return model(
        [
            h.make_node("Block", ["x", "w"], ["t"], domain="my", factor=2.0),
            h.make_node("Block", ["t", "w"], ["y"], domain="my", factor=3.0),
        ],
        [value("x", [2, 4])],
        [value("y", [2, 4])],
        [array("w", 4, 4)],
        functions=[scale, block],
        domains=[("my", 1)],
    )


def save_external(proto: onnx.ModelProto, path: Path, data: str = "model.data", threshold: int = 256) -> Path:
    """Save a copy of a model with its weights in a data file."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    onnx.save(copy, str(path), save_as_external_data=True, location=data, size_threshold=threshold)
    return path
