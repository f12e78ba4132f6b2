"""Shapes inferred without running, against the shapes that ONNX Runtime produces."""

from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime
import pytest
from model import build
from onnx import TensorProto
from onnx import helper as h
from onnx import numpy_helper as nh

import workbench as wb
from workbench.model.info import TensorInfo
from workbench.model.shapes import infer


def arrays(shapes: dict[str, tuple[int, ...]], m: wb.Model) -> dict[str, np.ndarray]:
    kinds = {i.name: i.dtype for i in m.inputs}
    return {name: np.ones(shape, kinds[name]) for name, shape in shapes.items()}


def run_all(m: wb.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor of the main graph as ONNX Runtime computes it."""
    proto = onnx.ModelProto()
    proto.CopyFrom(m.to_proto())
    given = {info.name for info in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name and name not in given]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


REAL = {
    "ppocr_det": {"x": (1, 3, 64, 96)},
    "ppocr_rec": {"x": (2, 3, 48, 160)},
    "ppocr_cls": {"x": (1, 3, 48, 192)},
    "silero_vad_16k_op15": {"input": (1, 576), "state": (2, 1, 128), "sr": ()},
    "silero_vad_half": {"input": (1, 576), "state": (2, 1, 128)},
    "minilm_int8": {"input_ids": (2, 7), "attention_mask": (2, 7), "token_type_ids": (2, 7)},
    "style_predict": {"style_image": (1, 256, 256, 3)},
    "style_multi": {"image": (1, 3, 32, 48), "style_weights": (26,)},
    "mtcnn_pnet": {"input_1": (1, 40, 30, 3)},
    "magika": {"bytes": (3, 2048)},
    "residual_block": {"gpu_0/data_0": (2, 3, 224, 224)},
    "light_shufflenet": {"gpu_0/data_0": (1, 3, 224, 224)},
}


@pytest.mark.parametrize("name", REAL)
def test_real_models(real_model, name: str) -> None:
    """Every shape and type is known, and is the one that the runtime gives."""
    m = wb.load(real_model(name))
    found = infer(m.to_proto(), REAL[name])
    ran = run_all(m, arrays(REAL[name], m))
    assert ran
    wrong = {
        key: (found.get(key), array.shape, array.dtype)
        for key, array in ran.items()
        if key not in found or found[key].shape != array.shape or found[key].dtype != array.dtype.name
    }
    assert not wrong


def test_nested_bodies_are_known(real_model) -> None:
    m = wb.load(real_model("silero_vad_16k_op15"))
    found = infer(m.to_proto(), REAL["silero_vad_16k_op15"])
    inside = {key: info for key, info in found.items() if ".then_branch/" in key or ".else_branch/" in key}
    assert len(inside) > 150 and all(info.concrete for info in inside.values())


def test_the_proto_is_not_changed(real_model) -> None:
    proto = wb.load(real_model("minilm_int8")).to_proto()
    before = proto.SerializeToString()
    infer(proto, REAL["minilm_int8"])
    assert proto.SerializeToString() == before


def test_speed(real_model) -> None:
    """1746 nodes; about 0.06 s where this was written."""
    proto = wb.load(real_model("light_densenet121")).to_proto()
    infer(proto, {})
    start = time.process_time()
    found = infer(proto, {})
    assert time.process_time() - start < 0.4
    assert all(info.concrete for info in found.values())


def test_symbols_are_filled_in_everywhere() -> None:
    nodes = [
        h.make_node("Relu", ["a"], ["b"]),
        h.make_node("Relu", ["c"], ["d"]),
        h.make_node("Relu", ["e"], ["f"]),
    ]
    shapes = {"a": ["n", "s"], "c": ["n", "2*s+1"], "e": ["other", "s//2"]}
    m = build.model(
        nodes, [build.value(k, v) for k, v in shapes.items()], [build.value(k, None) for k in "bdf"]
    )
    found = infer(m, {"a": (2, 10)})
    assert {k: found[k].shape for k in "bdf"} == {"b": (2, 10), "d": (2, 21), "f": (None, 5)}
    assert infer(m, {})["b"].shape == (None, None)


def test_stale_declarations_do_not_count() -> None:
    """Shapes that the file states for another batch size are dropped when the inputs contradict them."""
    proto = build.model(
        [h.make_node("Relu", ["x"], ["r"]), h.make_node("Custom", ["r"], ["y"], domain="d")],
        [build.value("x", [1, 4])], [build.value("y", [1, 9])], domains=[("d", 1)],
    )  # fmt: skip
    proto.graph.value_info.append(build.value("r", [1, 4]))
    assert infer(proto, {})["y"] == TensorInfo("y", "float32", (1, 9))
    found = infer(proto, {"x": (5, 4)})
    assert found["r"].shape == (5, 4) and "y" not in found


def test_custom_operators_have_what_is_declared() -> None:
    nodes = [h.make_node("Custom", ["x"], ["c"], domain="d"), h.make_node("Relu", ["c"], ["y"])]
    proto = build.model(nodes, [build.value("x", ["n", 4])], [build.value("y", None)], domains=[("d", 1)])
    assert infer(proto, {"x": (2, 4)}).get("y", TensorInfo("y", "", None)).shape is None
    proto.graph.value_info.append(build.value("c", ["n", 7]))
    assert infer(proto, {"x": (2, 4)})["y"] == TensorInfo("y", "float32", (2, 7))


def test_branches() -> None:
    proto = wb.load(build.branches()).to_proto()
    found = infer(proto, {"x": (3, 4), "flag": ()})
    assert found["y"].shape == (3, 4)
    assert found["If_y.else_branch/a"] == TensorInfo("a", "float32", (3, 4))
    assert found["If_y.then_branch/wt"].shape == (4, 4)


def test_branches_that_differ_agree_on_what_they_can() -> None:
    proto = build.branches()
    for attribute in proto.graph.node[0].attribute:
        if attribute.name == "then_branch":
            attribute.g.initializer[0].CopyFrom(build.array("wt", 4, 6))
    assert infer(proto, {"x": (3, 4)})["y"].shape == (3, 4), "as declared"
    proto.graph.output[0].CopyFrom(build.value("y", None))
    assert infer(proto, {"x": (3, 4)})["y"].shape == (3, None)


def test_a_branch_that_is_known_decides() -> None:
    proto = build.branches()
    for attribute in proto.graph.node[0].attribute:
        if attribute.name == "then_branch":
            attribute.g.initializer[0].CopyFrom(build.array("wt", 4, 6))
    proto.graph.output[0].CopyFrom(build.value("y", None))
    proto.graph.input.pop(0)
    proto.graph.initializer.append(nh.from_array(np.array(True), "flag"))
    assert infer(proto, {"x": (3, 4)})["y"].shape == (3, 6)


def test_loops() -> None:
    found = infer(build.loops(), {})
    assert {k: found[k].shape for k in ("looped", "all", "sum", "rows")} == {
        "looped": (5, 4),
        "all": (None, 5, 4),
        "sum": (4,),
        "rows": (5, 4),
    }
    assert found["loop.body/s2"].shape == (5, 4) and found["scan.body/row"].shape == (4,)


def test_state_that_grows_is_not_known() -> None:
    body = h.make_graph(
        [h.make_node("Concat", ["s", "s"], ["s2"], axis=0), h.make_node("Identity", ["c"], ["c2"])], "body",
        [build.value("i", (), TensorProto.INT64), build.value("c", (), TensorProto.BOOL), build.value("s", None)],
        [build.value("c2", (), TensorProto.BOOL), build.value("s2", None)],
    )  # fmt: skip
    loop = h.make_node("Loop", ["n", "go", "x"], ["y"], body=body)
    inputs = [
        build.value("n", (), TensorProto.INT64),
        build.value("go", (), TensorProto.BOOL),
        build.value("x", [2, 3]),
    ]
    assert infer(build.model([loop], inputs, [build.value("y", None)]), {})["y"].shape == (None, 3)


def test_values_of_the_first_turn_are_not_followed() -> None:
    """A loop's counter is 0 only in the first turn."""
    body = h.make_graph(
        [
            h.make_node("Add", ["s", "one"], ["s2"]), h.make_node("Expand", ["one", "s2"], ["big"]),
            h.make_node("Identity", ["c"], ["c2"]),
        ], "body",
        [build.value("i", (), TensorProto.INT64), build.value("c", (), TensorProto.BOOL),
         build.value("s", [1], TensorProto.INT64)],
        [build.value("c2", (), TensorProto.BOOL), build.value("s2", None), build.value("big", None)],
    )  # fmt: skip
    loop = h.make_node("Loop", ["n", "go", "one"], ["y", "all"], body=body, name="loop")
    held = [nh.from_array(np.array(a), n) for n, a in (("n", 3), ("go", True), ("one", np.array([1])))]
    found = infer(build.model([loop], [], [build.value("y", None), build.value("all", None)], held), {})
    assert found["y"].shape == (1,) and found["loop.body/big"].shape == (None,)


def test_functions() -> None:
    found = infer(wb.load(build.calls()).to_proto(), {})
    assert found["y"].shape == (2, 4) and found["my::Block/m"].shape == (2, 4)
    assert found["my::Scale/c"] == TensorInfo("c", "float32", ())


def test_shape_arithmetic_is_computed() -> None:
    """Reshape to [batch, -1 / 2, 2] by way of Shape, Gather, Div and Concat."""
    nodes = [
        h.make_node("Shape", ["x"], ["s"]),
        h.make_node("Gather", ["s", "zero"], ["n"]),
        h.make_node("Gather", ["s", "last"], ["c"]),
        h.make_node("Div", ["c", "two"], ["half"]),
        h.make_node("Concat", ["n", "half", "two"], ["shape"], axis=0),
        h.make_node("Reshape", ["x", "shape"], ["y"]),
    ]
    held = [nh.from_array(np.array([v]), k) for k, v in (("zero", 0), ("last", -1), ("two", 2))]
    proto = build.model(nodes, [build.value("x", ["n", "c"])], [build.value("y", None)], held)
    assert infer(proto, {"x": (3, 8)})["y"].shape == (3, 4, 2)


def test_old_operators_are_computed_in_their_own_version() -> None:
    """Unsqueeze had its axes as an attribute up to opset 12."""
    nodes = [
        h.make_node("Shape", ["x"], ["s"]), h.make_node("Gather", ["s", "one"], ["c"]),
        h.make_node("Unsqueeze", ["c"], ["u"], axes=[0]), h.make_node("ConstantOfShape", ["u"], ["y"]),
    ]  # fmt: skip
    held = [nh.from_array(np.array(1), "one")]
    proto = build.model(nodes, [build.value("x", ["n", 6])], [build.value("y", None)], held, opset=11)
    assert infer(proto, {"x": (3, 6)})["y"].shape == (6,)


@pytest.mark.parametrize(
    "node",
    [
        h.make_node("Reshape", ["x", "nothing"], ["y"]),
        h.make_node("Concat", [], ["y"], axis=99),
        h.make_node("MatMul", ["x"], ["y"]),
        h.make_node("If", ["x"], ["y"]),
        h.make_node("Loop", [], ["y"]),
        h.make_node("Scan", ["x"], ["y"]),
        h.make_node("Constant", [], ["y"]),
        h.make_node("NoSuch", ["x"], ["y"]),
        h.make_node("Relu", ["x"], ["y"], domain="nowhere"),
        h.make_node("Transpose", ["x"], ["y"], perm=[5, 6]),
        h.make_node("Shape", [], ["y"]),
    ],
    ids=lambda node: node.op_type,
)
def test_odd_nodes_are_unknown_and_raise_nothing(node: onnx.NodeProto) -> None:
    proto = build.model([node], [build.value("x", [2, 3])], [build.value("y", None)])
    found = infer(proto, {"x": (2, 3)})
    assert found["x"].shape == (2, 3) and not found.get("y", TensorInfo("y", "", None)).concrete
    assert infer(onnx.ModelProto(), {}) == {}
