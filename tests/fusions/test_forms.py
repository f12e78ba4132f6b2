"""Every rule finds every form that it names, and leaves it alone when somebody needs what lies inside of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from fusions.places import _HALF, _HALVES, _TURN, CASES, FORMS, build, fused, operators, refused

import workbench as wb
from workbench import fusions
from workbench.edits import origins

STANDARD = {
    ("gelu", "erf_opset_20"): ["Gelu"],
    ("silu", "quick_gelu_opset_24"): ["Swish"],
    ("hard_swish", "hard_sigmoid"): ["HardSwish"],
    ("hard_swish", "clip_product"): ["HSwish"],  # operator set 13
    ("mish", "softplus"): ["MishTanh"],
    ("mish", "opset_18"): ["Mish"],
    ("layer_norm", "power"): ["LayerNorm"],  # operator set 14
    ("layer_norm", "product_and_reciprocal"): ["LayerNormalization"],
    ("layer_norm", "two_axes_opset_18"): ["LayerNormalization"],
    ("layer_norm", "bare"): ["LayerNorm"],
    ("rms_norm", "power"): ["RMSNorm"],
    ("rms_norm", "opset_23"): ["RMSNormalization"],
    ("attention", "scaled_and_masked"): ["ScaledDotProductAttention"],
    ("attention", "opset_23"): ["Transpose", "Attention"],
    ("skip_norm", "rms"): ["SkipRMSNorm"],
    ("skip_norm", "one_for_the_batch"): ["SkipLayerNorm"],
    ("moments_norm", "flax"): ["MomentsLayerNorm"],
    ("moments_norm", "flax_opset_18"): ["LayerNormalization"],
    ("moments_norm", "tensorflow"): ["LayerNormalization"],
    ("moments_norm", "keras_3"): ["MomentsLayerNorm"],
    ("group_norm", "any_size"): ["GroupNorm"],
    ("group_norm", "opset_21"): ["GroupNormalization"],
    ("softmax", "jax"): ["Softmax"],
    ("softmax", "opset_11"): ["Softmax"],
    ("conv_batchnorm", "transposed"): ["ConvTranspose"],
    ("pad_conv", "pads"): ["Conv"],
    ("matmul_add", "row"): ["Gemm"],
}


@pytest.mark.parametrize(("rule", "form"), CASES)
def test_it_is_found(rule, form):
    proto = FORMS[rule][form]
    made = fused(proto, rule)
    assert len(operators(made)) <= 2
    if (rule, form) in STANDARD:
        assert operators(made) == STANDARD[rule, form]
    (last,) = [node for node in made.ir.graph if node.outputs[0].name == "y"]
    assert last.metadata_props["workbench.fusion"] == rule
    assert [value.name for value in made.ir.graph.outputs] == ["y"]
    row = made.report.table.iloc[0]
    assert row.nodes_before == len(proto.graph.node) and row.status == "fused"


@pytest.mark.parametrize(("rule", "form"), CASES)
def test_origins_are_kept(rule, form):
    made = wb.load(FORMS[rule][form]).fuse([rule], progress=False)
    (last,) = [node for node in made.ir.graph if node.outputs[0].name == "y"]
    assert set(origins.of_node(last)) == {node.name for node in FORMS[rule][form].graph.node}


def inner(rule: str, form: str) -> str:
    """A tensor inside of a form without which nothing of it can be found."""
    nodes = FORMS[rule][form].graph.node
    return "s" if rule == "attention" else nodes[0].output[0]


SHARED = [(rule, form) for rule, form in CASES if rule != "skip_norm"]


@pytest.mark.parametrize(("rule", "form"), SHARED)
def test_a_shared_intermediate_is_left_alone(rule, form):
    proto = onnx.ModelProto()
    proto.CopyFrom(FORMS[rule][form])
    name = inner(rule, form)
    proto.graph.node.append(onnx.helper.make_node("Identity", [name], ["more"], name="other"))
    proto.graph.output.append(onnx.ValueInfoProto(name="more"))
    proto = onnx.shape_inference.infer_shapes(proto)
    made = wb.load(proto).fuse([rule], progress=False)
    assert not [item for item in made.report.fused if "y" in item.outputs]
    reasons = [item.reason for item in made.report.refusals if item.rule == rule]
    assert any("consumers: " in reason and "'other'" in reason for reason in reasons), reasons


@pytest.mark.parametrize(("rule", "form"), SHARED)
def test_a_graph_output_inside_is_left_alone(rule, form):
    proto = onnx.ModelProto()
    proto.CopyFrom(FORMS[rule][form])
    name = inner(rule, form)
    kept = [info for info in proto.graph.value_info if info.name == name]
    proto.graph.output.extend(kept)
    for info in kept:
        proto.graph.value_info.remove(info)
    made = wb.load(proto).fuse([rule], progress=False)
    assert not [item for item in made.report.fused if "y" in item.outputs]
    reasons = [item.reason for item in made.report.refusals]
    assert f"its output {name!r} is an output of the graph" in reasons


def test_a_function_that_is_not_wanted_is_not_made():
    for rule, forms in FORMS.items():
        for form, proto in forms.items():
            made = wb.load(proto).fuse([rule], functions=False, progress=False)
            assert not made.ir.functions, (rule, form)
    text = refused_without_functions("gelu", "erf_half_last")
    assert text == (
        "gelu at 'Mul_4': node 'Mul_4' (Mul): operator set 17 has no Gelu for it (20 has), and functions are not "
        "wanted; convert_opset first (all nodes found)"
    )


def refused_without_functions(rule: str, form: str) -> str:
    made = wb.load(FORMS[rule][form]).fuse([rule], functions=False, progress=False)
    return str(made.report.refusals[0])


def test_the_width_of_a_rotary_embedding_may_be_that_of_its_cosines():
    """Exporters lose the shape of what is turned in later layers."""
    ports = "float[2,3,5,d] x, float[2,1,5,4] cos, float[2,1,5,4] sin"
    made = wb.load(build(_HALVES + _TURN, ports, **_HALF)).fuse(["rotary"], progress=False)
    assert operators(made) == ["RotaryHalf"]
    odd = wb.load(build(_HALVES + _TURN, ports.replace("5,4", "5,e"), **_HALF)).fuse(
        ["rotary"], progress=False
    )
    (refused,) = odd.report.refusals
    assert refused.reason == "the last dim of 'x' is not known to be even: its shape is (2, 3, 5, 'd')"


def test_every_rule_has_forms_or_tests_of_its_own():
    elsewhere = {
        "identity", "dropout", "cast", "shape_folding", "constant_folding", "duplicates", "reshape", "transpose", "qdq",
    }  # test_simplify.py  # fmt: skip
    assert {rule.name for rule in fusions.RULES} == set(FORMS) | elsewhere
    assert all(len(rule.docs) > 80 for rule in fusions.RULES)


def test_why_not_of_a_look_alike_names_the_first_thing_that_broke_it():
    proto = FORMS["gelu"]["erf_half_last"]
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    for tensor in proto.graph.initializer:
        if tensor.name == "r":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(1.5, np.float32), "r"))
    assert refused(proto, "gelu", "Erf_1") == (
        "gelu at 'Mul_4': node 'Div_0' (Div): the constant is 1.5, expected 1.41421 (all nodes found)"
    )
