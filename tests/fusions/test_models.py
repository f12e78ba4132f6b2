"""Whole models: the real ones stay equal within float rounding; in exported transformers every block is found."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import real_models

import workbench as wb
from workbench.inputs import feeds
from workbench.model import Model

SHAPES = {"batch": 2, "sequence": 8}
LIGHT = ("light_squeezenet",)  # the others have the same operators


def outputs(model: Model, feed: dict) -> list:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 2
    session = onnxruntime.InferenceSession(model.to_proto().SerializeToString(), options)
    return list(session.run(None, feed))


def error(before: list, after: list) -> float:
    """Largest error of any output, relative to its largest value where that is above 1."""
    found = 0.0
    for one, two in zip(before, after, strict=True):
        assert one.shape == two.shape and one.dtype == two.dtype
        if one.size and one.dtype.kind == "f":
            scale = max(1.0, float(np.abs(one).max()))
            found = max(found, float(np.abs(one.astype(np.float64) - two.astype(np.float64)).max()) / scale)
        else:
            np.testing.assert_array_equal(one, two)
    return found


# what a real model must give at least
FOUND = {
    "ppocr_det": {"identity": 147, "scale_shift": 77, "gelu": 13},
    "ppocr_rec": {
        "conv_batchnorm": 3,
        "scale_shift": 54,
        "gelu": 13,
        "silu": 5,
        "layer_norm": 5,
        "attention": 2,
    },
    "ppocr_cls": {"conv_batchnorm": 35, "hard_swish": 18},
    "minilm_int8": {"gelu": 6, "skip_norm": 13, "attention": 6},
    "magika": {"gelu": 2, "softmax": 1, "moments_norm": 1},  # its other norm is along dim 1
    "style_multi": {"layer_norm": 18},
    "mtcnn_rnet": {"matmul_add": 3},
    "residual_block": {"conv_batchnorm": 5},
    "light_squeezenet": {"dropout": 1},
}


@pytest.mark.parametrize("name", [*real_models.REAL_MODELS, *LIGHT])
def test_a_real_model_stays_equal(name):
    model = wb.load(real_models.find(name))
    made = model.fuse(progress=False)
    written = onnx.ModelProto.FromString(made.to_proto().SerializeToString())
    full = not name.startswith(("light", "silero", "style"))  # whose own types onnx's inference refuses
    if name != "needs_constraints":  # it states no shape for its output
        onnx.checker.check_model(written, full_check=full)
    feed = next(iter(feeds(model, None)))
    assert error(outputs(model, feed), outputs(made, feed)) < 1e-5
    assert {rule: made.report.counts.get(rule) for rule in FOUND.get(name, {})} == FOUND.get(name, {})


# a skip_norm more than there are skip connections in bert and gpt2: the position embeddings, one for the batch
BLOCKS = {
    "bert_tiny_script": {"layer_norm": 5, "skip_norm": 5, "gelu": 2, "attention": 2},
    "bert_tiny_dynamo": {"skip_norm": 5, "gelu": 2, "attention": 2},
    "gpt2_tiny_script": {"layer_norm": 5, "skip_norm": 5, "gelu": 2, "attention": 2},
    "gpt2_tiny_dynamo": {"skip_norm": 5, "gelu": 2, "attention": 2},
    "llama_tiny_script": {"rms_norm": 5, "skip_norm": 4, "swiglu": 2, "rotary": 4, "attention": 2},
    "llama_tiny_dynamo": {"rms_norm": 5, "skip_norm": 4, "swiglu": 2, "rotary": 4, "attention": 2},
}
LEFT = {"Erf", "Tanh", "Softmax", "Sigmoid", "ReduceMean", "Sqrt", "Neg", "Pow"}
"""Operators of the blocks, of which none may be left outside of one."""


@pytest.fixture(scope="module")
def fused() -> dict[str, tuple[Model, Model]]:
    return {
        name: ((m := wb.load(real_models.find(name))), m.fuse(shapes=SHAPES, progress=False))
        for name in BLOCKS
    }


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_of_a_transformer_is_found(name, fused):
    model, made = fused[name]
    assert {rule: made.report.counts.get(rule) for rule in BLOCKS[name]} == BLOCKS[name]
    main = Counter(node.op_type for node in made.ir.graph)
    assert not LEFT & set(main), main
    onnx.checker.check_model(onnx.ModelProto.FromString(made.to_proto().SerializeToString()), full_check=True)
    rng = np.random.default_rng(0)
    for batch, sequence in ((2, 8), (1, 5)):
        ids = rng.integers(0, 99, (batch, sequence))
        feed = {"input_ids": ids}
        if name.startswith("bert"):
            feed["attention_mask"] = (
                (np.arange(sequence) < sequence - 2)[None].repeat(batch, 0).astype(np.int64)
            )
        assert error(outputs(model, feed), outputs(made, feed)) < 1e-5


def test_blocks_are_operators_of_onnx_where_the_operator_set_has_them(fused):
    model = fused["bert_tiny_script"][0].convert_opset(23)
    made = model.fuse(functions=False, shapes=SHAPES, progress=False)
    counts = Counter(node.op_type for node in made.ir.graph)
    assert (counts["LayerNormalization"], counts["Gelu"], counts["Attention"]) == (5, 2, 2)
    assert not made.ir.functions and not LEFT & set(counts)
    ids = np.random.default_rng(0).integers(0, 99, (2, 8))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    assert error(outputs(model, feed), outputs(made, feed)) < 1e-5
    transposes = [node for node in made.ir.graph if node.op_type == "Transpose"]
    assert len(transposes) == 8  # the key's is one again: nothing is turned twice


def test_what_is_saved_is_counted(fused):
    table = fused["llama_tiny_script"][1].report.table.set_index("rule")
    # rotary on q: 7 nodes; cos and sin [1, 1, 8, 8], q [2, 4, 8, 8], all float32
    q, cache = 2 * 4 * 8 * 8 * 4, 8 * 8 * 4
    reads_and_makes = q + cache + q  # x cos
    reads_and_makes += 2 * (q // 2 + q // 2 + 4 * 8) + (q // 2 + q // 2)  # two slices with their bounds, Neg
    reads_and_makes += (q + q) + (q + cache + q) + 3 * q  # Concat, rotated sin, Add
    one_kernel = q + 2 * cache + q
    rows = table.loc["rotary"]
    assert rows.bytes_saved.max() == reads_and_makes - one_kernel
    assert (table.macs_saved.fillna(0) == 0).all()


def test_a_comparison_joins_the_fused_with_the_original(fused):
    model, made = fused["bert_tiny_script"]
    found = wb.compare(model, made, shapes=SHAPES, progress=False)
    assert found.ok and found.table.loc["output", "status"] == "compared"
    gone = {name for row in made.report.fused for name in row.outputs}
    kept = found.table.loc[[name for name in gone if name in found.table.index]]
    assert len(kept) >= 12 and set(kept.status) == {"compared"} and kept.error.max() < 1e-5
    inner = found.table.loc["/layer.0/attention/self/Softmax_output_0", "status"]
    assert inner == "only in the reference"


def test_a_profile_joins_the_fused_with_the_original(fused):
    model, made = fused["bert_tiny_dynamo"]
    before, after = (wb.profile(m, shapes=SHAPES, runs=1, progress=False) for m in (model, made))
    assert before.mapped > 0.9 and after.mapped > 0.9
