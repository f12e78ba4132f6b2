"""Types that are looked up node by node are those that onnx infers for the whole model at once."""

from __future__ import annotations

import random

import graphs
import numpy as np
import onnx
import pytest
from edits.inferred import differences
from edits.random_edits import draft_of
from edits.small import proto
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from real_models import ALL_MODELS, TRANSFORMERS

import workbench as wb
from workbench.errors import EditError, WorkbenchError

DIMS = [1, 2, 3, 5, 32, 64, "n", "m", None]


def shapes(rng: random.Random, model: wb.Model) -> wb.Model:
    """A model after a random change of an input's shape, or of a small integer weight; the same where it refuses."""
    draft = draft_of(model)
    weights = [
        draft.key(value)
        for names in draft.values.values()
        for value in names.values()
        if value.const_value is not None
        and value.const_value.dtype.name == "INT64"
        and value.const_value.size <= 8
    ]
    try:
        if weights and rng.random() < 0.4:
            key = rng.choice(weights)
            old = draft.value(key).const_value.numpy()
            new = np.array(old)
            if new.size:
                new.reshape(-1)[rng.randrange(new.size)] = rng.choice([-1, 0, 1, 2, 3, 4, 8])
            return model.replace_weight(key, new)
        info = rng.choice(model.inputs)
        dims = tuple(rng.choice(DIMS) if rng.random() < 0.5 else dim for dim in info.shape or ())
        return model.set_input(info.name, dims)
    except EditError:
        return model


def check(model: wb.Model, seed: int, count: int) -> int:
    rng, accepted = random.Random(seed), 0
    assert differences(model) == []
    for _ in range(count):
        new = shapes(rng, model)
        if new is not model:
            accepted += 1
            assert differences(new) == [], new.history.edits[-1]
        if rng.random() < 0.3 and new.history.edits:
            new = new.history.undo()
        model = new
    return accepted


@pytest.mark.parametrize("name", [*ALL_MODELS, *TRANSFORMERS])
def test_types_of_real_models_whose_inputs_and_shapes_change(name, real_model):
    model = wb.load(real_model(name))
    assert check(model, 0, 12) or not model.inputs


@pytest.mark.parametrize("kind", ["masked", "moe", "plain"])
def test_types_of_transformers_whose_inputs_and_shapes_change(kind):
    assert check(wb.load(graphs.transformer(200, kind)), 1, 40) > 5


def test_types_of_a_model_with_bodies_and_functions():
    assert check(wb.load(proto()), 2, 60) > 5


def arithmetic(rng: random.Random) -> onnx.ModelProto:
    """A model that computes shapes from shapes in random ways, and reshapes by them."""
    nodes: list[onnx.NodeProto] = []
    floats, ints = ["x", "y"], ["given", "axes", "index", "three", "minus"]
    held = {"axes": [0], "index": 1, "three": [3], "minus": [-1], "first": 0, "two": [2], "big": [1 << 40]}

    def op(op_type: str, inputs: list[str], made: list[str], **attributes: object) -> None:
        name = f"{op_type}_{len(nodes)}"
        nodes.append(helper.make_node(op_type, inputs, [f"{name}_out"], name=name, **attributes))
        made.append(f"{name}_out")

    makers = [
        lambda: op("Shape", [rng.choice(floats)], ints, **rng.choice([{}, {"start": 1}, {"end": -1}])),
        lambda: op("Size", [rng.choice([*floats, *ints])], ints),
        lambda: op("Gather", [rng.choice(ints), rng.choice(["index", "first", "axes", "three"])], ints),
        lambda: op("Concat", rng.choices(ints, k=rng.randint(1, 3)), ints, axis=0),
        lambda: op("Slice", [rng.choice(ints), "axes", rng.choice(["two", "minus", "big"]), "axes"], ints),
        lambda: op("Unsqueeze", [rng.choice(ints), "axes"], ints),
        lambda: op("Squeeze", [rng.choice(ints), "axes"], ints),
        lambda: op(rng.choice(["Add", "Sub", "Mul", "Div"]), rng.choices(ints, k=2), ints),
        lambda: op("Cast", [rng.choice(ints)], ints, to=rng.choice([6, 7])),
        lambda: op("Identity", [rng.choice(ints)], ints),
        lambda: op("Reshape", [rng.choice(floats), rng.choice(ints)], floats),
        lambda: op("Expand", [rng.choice(floats), rng.choice(ints)], floats),
        lambda: op("ConstantOfShape", [rng.choice(ints)], floats),
        lambda: op("Add", rng.choices(floats, k=2), floats),
        lambda: op("Transpose", [rng.choice(floats)], floats),
        lambda: op("NonZero", [rng.choice(floats)], ints),
    ]
    for _ in range(rng.randint(4, 30)):
        rng.choice(makers)()
    info = helper.make_tensor_value_info
    inputs = [
        info("x", 1, [rng.choice([2, "n", None]), 4, 3]),
        info("y", 1, [rng.choice([2, "n", "m", None]), rng.choice([12, "k"])]),
        info("given", 7, [rng.choice([2, 3, "r"])]),
    ]
    weights = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in held.items()]
    out = helper.make_node("Identity", [floats[-1]], ["out"], name="out")
    graph = helper.make_graph([*nodes, out], "shapes", inputs, [onnx.ValueInfoProto(name="out")], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    found = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output[0].type
    graph.output[0].type.CopyFrom(
        found if found.HasField("tensor_type") else helper.make_tensor_type_proto(1, None)
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@settings(max_examples=150, derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 2**32 - 1))
@example(2342738735)  # a Reshape by the Size of floats
def test_types_where_shapes_are_computed(seed):
    rng = random.Random(seed)
    try:
        model = wb.load(arithmetic(rng))
    except WorkbenchError:
        return
    check(model, seed, 5)


def strided(*middle: onnx.NodeProto, order: int = 1) -> wb.Model:
    """A Conv with a stride on each side of some nodes from ``a`` to ``b``, and dims as torch's exporter writes them."""
    weight = numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), "w")
    conv = dict(strides=[2, 2], pads=[1, 1, 1, 1])
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], "before", **conv), *middle]
    nodes.append(helper.make_node("Conv", ["b", "w"], ["y"], "after", **conv))
    kinds = {
        name: helper.make_tensor_value_info(name, 1, ["batch", 4, *dims])
        for name, dims in {
            "x": ("h", "w"),
            "a": ("floor(h/2)", "floor(w/2)"),
            "b": ("floor(h/2)", "floor(w/2)")[::order],
            "y": ("floor(floor(h/2)/2)", "floor(floor(w/2)/2)")[::order],
        }.items()
    }
    graph = helper.make_graph(
        nodes, "strided", [kinds["x"]], [kinds["y"]], [weight], value_info=[kinds["a"], kinds["b"]]
    )
    return wb.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


def test_what_a_fusion_leaves_as_it_was_keeps_its_dims():
    silu = [
        helper.make_node("Sigmoid", ["a"], ["s"], "sigmoid"),
        helper.make_node("Mul", ["a", "s"], ["b"], "mul"),
    ]
    model = strided(*silu)
    fused = model.fuse(progress=False)
    assert [node.op_type for node in fused.ir.graph] == ["Conv", "SiLU", "Conv"]
    assert fused.outputs == model.outputs
    diff = wb.diff(model, fused)
    assert "changed type" not in set(diff.change)


def test_a_bypass_between_equal_tensors_keeps_dims_and_another_does_not():
    model = strided(helper.make_node("Relu", ["a"], ["b"], "relu"))
    assert model.delete("relu").outputs == model.outputs
    turned = strided(helper.make_node("Transpose", ["a"], ["b"], "turn", perm=[0, 1, 3, 2]), order=-1)
    assert turned.delete("turn").outputs[0].shape == ("batch", 4, None, None)


def test_an_attribute_that_changes_lets_go_of_dims_that_are_not_known():
    model = strided(helper.make_node("Transpose", ["a"], ["b"], "turn", perm=[0, 1, 3, 2]), order=-1)
    changed = model.set_attribute("after", "strides", [1, 1])
    assert changed.outputs[0].shape == ("batch", 4, None, None)


def test_an_attribute_that_decides_about_no_shape_keeps_dims():
    model = strided(helper.make_node("LeakyRelu", ["a"], ["b"], "leaky", alpha=0.5))
    for changed in (
        model.set_attribute("leaky", "alpha", 0.25),
        model.set_attribute("after", "auto_pad", "NOTSET"),
    ):
        assert changed.outputs == model.outputs
        assert changed.ir.graph.node("after").inputs[0].shape == ("batch", 4, "floor(h/2)", "floor(w/2)")


def test_nodes_of_an_appended_model_keep_dims_only_of_what_they_read_before():
    model = strided(helper.make_node("Relu", ["a"], ["b"], "relu"))
    joined = model.append_model(model, {"y": "x"}, prefix="second_")
    assert joined.outputs[0].shape == ("batch", 4, None, None)
