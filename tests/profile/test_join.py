"""Joining executed layers to the nodes that they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import real_models
from onnx import parser

import workbench as wb
from workbench.inputs import feeds
from workbench.profile.graph import Graph
from workbench.profile.join import EXACT, SHARED, Origin, _Match, join

from .conftest import SHAPES

LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def graph(text: str) -> Graph:
    """A graph from ONNX's text form; nodes are named after their first output."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1, "f": 1]> {text}')
    name(model.graph)
    return Graph(model)


def name(proto: onnx.GraphProto) -> None:
    for node in proto.node:
        node.name = node.name or f"n_{node.output[0]}"
        for attribute in node.attribute:
            name(attribute.g)


ORIGINAL = """g (float[1,8,4,4] x) => (float[1,8,4,4] y)
    <float[8,8,1,1] w, float[8,1,1] b> {
    c = Conv(x, w)
    d = Add(c, b)
    i = Identity(d)
    s = Add(i, x)
    r = Relu(s)
    t = Sigmoid(r)
    y = Mul(r, t)
}"""


def test_a_fused_layer_stands_for_the_nodes_between_its_tensors() -> None:
    fused = graph("""g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,8,1,1] w, float[8] b2> {
        r = com.microsoft.FusedConv(x, w, b2, x)
        y = com.microsoft.QuickGelu(r)
    }""")
    assert join([graph(ORIGINAL), fused]) == {
        (0, "n_r"): Origin(("n_c", "n_d", "n_i", "n_s", "n_r"), EXACT),
        (0, "n_y"): Origin(("n_t", "n_y"), EXACT),
    }


def test_renamed_tensors_and_inserted_moves() -> None:
    blocked = graph("""g (float[1,8,4,4] x) => (float[1,8,4,4] y) <float[8,8,1,1] w, float[8] b2> {
        z1 = com.microsoft.ReorderInput(x)
        [d_nchwc] z2 = com.microsoft.Conv<activation: string="Relu">(z1, w, b2, z1)
        z3 = com.microsoft.QuickGelu(z2)
        y = com.microsoft.ReorderOutput(z3)
    }""")
    origins = {name: origin for (_, name), origin in join([graph(ORIGINAL), blocked]).items()}
    chain = ("n_c", "n_d", "n_i", "n_s", "n_r")
    assert origins["n_z1"] == Origin(chain, "inserted before")
    assert origins["n_z3"] == Origin(("n_t", "n_y"), EXACT)
    assert origins["n_y"] == Origin(("n_t", "n_y"), "inserted after")


def test_layers_of_a_function_s_body_stand_for_the_call() -> None:
    calls = graph("""g (float[4] x) => (float[4] y) {
        a = f.twice(x)
        y = Relu(a)
    }
    <domain: "f", opset_import: ["": 17]> twice (p) => (q) {
        k = Abs(p)
        q = Neg(k)
    }""")
    inlined = graph("""g (float[4] x) => (float[4] y) {
        _inl_k = Abs(x)
        a = Neg(_inl_k)
        y = Relu(a)
    }""")
    assert join([calls, inlined]) == {
        (0, "n__inl_k"): Origin(("n_a",), SHARED),
        (0, "n_a"): Origin(("n_a",), EXACT),
        (0, "n_y"): Origin(("n_y",), EXACT),
    }


def test_folded_constants_belong_to_no_layer() -> None:
    original = graph("""g (float[2,3] x) => (float[3,2] y) {
        k = Constant<value_ints=[3, 2]>()
        k2 = Identity(k)
        y = Reshape(x, k2)
    }""")
    folded = graph("g (float[2,3] x) => (float[3,2] y) <int64[2] k2> { y = Reshape(x, k2) }")
    assert join([original, folded]) == {(0, "n_y"): Origin(("n_y",), EXACT)}


def test_what_cannot_be_joined_says_why() -> None:
    other = graph("g (float[1,8,4,4] x) => (float[1,8,4,4] v) { u = Foo(x) v = Bar(u) }")
    origins = join([graph(ORIGINAL), other])
    assert origins[0, "n_v"] == Origin(
        (), "the original graph has no tensor for its output 'v', nor do the layers that read it"
    )
    moved = graph("g (float[1,8,4,4] x) => (float[1,8,4,4] v) { v = Cast<to=1>(x) }")
    assert join([graph(ORIGINAL), moved])[0, "n_v"] == Origin(
        (), "inserted by the runtime to make 'v'; no layer beside it could be joined"
    )


def test_bodies_are_joined_to_bodies() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {{
        y = If (c) <
            then_branch = t () => (float[2] o) {{ {then} }},
            else_branch = e () => (float[2] o) {{ o = Neg(x) }}
        >
    }}"""
    before = graph(text.format(then="p = Abs(x) o = Relu(p)"))
    after = graph(text.format(then="o = Fused(x)"))
    assert join([before, after])[1, "n_o"].nodes == ("n_p", "n_o")
    assert join([before, after])[0, "n_y"] == Origin(("n_y",), EXACT)


@pytest.mark.parametrize(
    "name", ["ppocr_rec", "minilm_int8", "style_multi", "silero_vad_16k_op15", "mtcnn_onet"]
)
def test_joined_tensors_hold_the_same_values(name: str, tmp_path: Path) -> None:
    """The oracle: every tensor that the join says is an original one is computed, and has the same values.

    Memory layouts differ, so the values are compared without their order.
    """
    model = wb.load(real_models.find(name))
    feed = next(iter(feeds(model, shapes=SHAPES.get(name))))
    original = model.to_proto()
    stages = [original, optimised(original, "extended", tmp_path), optimised(original, "all", tmp_path)]
    renamed = 0
    for before, after in zip(stages, stages[1:], strict=False):
        match = _Match(Graph(before), Graph(after))
        pairs = [
            (theirs, mine)
            for mine, theirs in match.same.items()
            if mine[0] == theirs[0] == 0 and mine in match.b.producer and theirs in match.a.producer
        ]
        renamed += sum(theirs != mine for theirs, mine in pairs)
        expected = values(before, [theirs[1] for theirs, _ in pairs], feed)
        got = values(after, [mine[1] for _, mine in pairs], feed)
        for (_, theirs), (_, mine) in pairs:
            assert_same_content(expected[theirs], got[mine], f"{theirs} as {mine}")
    assert renamed > 2 or name == "silero_vad_16k_op15"


def optimised(proto: onnx.ModelProto, level: str, folder: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / f"{level}.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return onnx.load(folder / f"{level}.onnx")


def values(proto: onnx.ModelProto, names: list[str], feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    marked = onnx.ModelProto()
    marked.CopyFrom(proto)
    have = {o.name for o in marked.graph.output}
    for name in dict.fromkeys(names):
        if name not in have:
            marked.graph.output.add().name = name
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS["none"]
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        marked.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


def assert_same_content(expected: np.ndarray, got: np.ndarray, what: str) -> None:
    """The same values in any order; blocked layouts add channels that hold what an activation makes of 0."""
    a, b = (np.sort(np.ravel(array).astype(np.float64)) for array in (expected, got))
    assert a.size <= b.size < a.size + 16 * max(1, a.size), what
    if a.size != b.size:
        after = np.clip(np.searchsorted(b, a), 1, b.size - 1)
        b = np.where(a - b[after - 1] < b[after] - a, b[after - 1], b[after])  # the nearest of each
    scale = np.abs(a[np.isfinite(a)]).max(initial=1e-6)
    np.testing.assert_allclose(b, a, rtol=2e-2, atol=2e-3 * scale, err_msg=what)
