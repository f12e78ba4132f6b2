"""The words that text attributes of ONNX operators take, which schemas tell in prose only.

Taken from the descriptions in onnx.defs (https://onnx.ai/onnx/operators/); a test finds text attributes that are
neither here nor known to be free text.
"""

from __future__ import annotations

import onnx

Words = tuple[str, ...]

_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_ACTIVATIONS = (
    "Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu",
    "Softsign", "Softplus",
)  # fmt: skip
_LOSS, _ROUND = ("none", "sum", "mean"), ("up", "down", "nearest")
_SCATTER = {16: ("none", "add", "mul"), 18: ("none", "add", "mul", "max", "min")}
_RESIZE = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")

_ANY: dict[str, Words] = {
    "auto_pad": _PAD,
    "post_transform": ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"),
    "nodes_modes": ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF"),
    "kernel_type": ("LINEAR", "POLY", "RBF", "SIGMOID"),
    "round_mode": _ROUND,
}
"""Attributes that mean the same wherever they are."""

_OF: dict[tuple[str, str], Words | dict[int, Words]] = {
    ("BitShift", "direction"): ("LEFT", "RIGHT"),
    ("CastMap", "cast_to"): ("TO_FLOAT", "TO_STRING", "TO_INT64"),
    ("CastMap", "map_form"): ("DENSE", "SPARSE"),
    ("CausalConvWithState", "activation"): ("silu", "swish", "none"),
    ("DepthToSpace", "mode"): ("DCR", "CRD"),
    ("Gelu", "approximate"): ("none", "tanh"),
    ("GridSample", "mode"): {16: ("bilinear", "nearest", "bicubic"), 20: ("linear", "nearest", "cubic")},
    ("GridSample", "padding_mode"): ("zeros", "border", "reflection"),
    ("ImageDecoder", "pixel_format"): ("RGB", "BGR", "Grayscale"),
    ("LinearAttention", "update_rule"): ("linear", "gated", "delta", "gated_delta"),
    ("Momentum", "mode"): ("nesterov", "standard"),
    ("NegativeLogLikelihoodLoss", "reduction"): _LOSS,
    ("Normalizer", "norm"): ("MAX", "L1", "L2"),
    ("Pad", "mode"): {1: ("constant", "reflect", "edge"), 19: ("constant", "reflect", "edge", "wrap")},
    ("Resize", "coordinate_transformation_mode"): {
        11: (*_RESIZE, "tf_half_pixel_for_nn"), 13: _RESIZE, 19: (*_RESIZE, "half_pixel_symmetric"),
    },
    ("Resize", "keep_aspect_ratio_policy"): ("stretch", "not_larger", "not_smaller"),
    ("Resize", "mode"): {10: ("nearest", "linear", "bilinear"), 11: ("nearest", "linear", "cubic")},
    ("Resize", "nearest_mode"): ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    ("RoiAlign", "coordinate_transformation_mode"): ("half_pixel", "output_half_pixel"),
    ("RoiAlign", "mode"): ("avg", "max"),
    ("ScatterElements", "reduction"): _SCATTER,
    ("ScatterND", "reduction"): _SCATTER,
    ("SoftmaxCrossEntropyLoss", "reduction"): _LOSS,
    ("SpaceToDepth", "mode"): ("DCR", "CRD"),
    ("StringNormalizer", "case_change_action"): ("LOWER", "UPPER", "NONE"),
    ("TensorScatter", "mode"): ("linear", "circular"),
    ("TfIdfVectorizer", "mode"): ("TF", "IDF", "TFIDF"),
    ("TreeEnsembleRegressor", "aggregate_function"): ("AVERAGE", "SUM", "MIN", "MAX"),
    ("Upsample", "mode"): {1: ("nearest", "bilinear"), 7: ("nearest", "linear")},
}  # fmt: skip
for _op_type in ("RNN", "GRU", "LSTM"):
    _OF[_op_type, "direction"] = ("forward", "reverse", "bidirectional")
    _OF[_op_type, "activations"] = _ACTIVATIONS
"""(operator, attribute) -> words, or the words from a version of the operator on."""


def choices(schema: onnx.defs.OpSchema | None, attribute: str) -> Words:
    """The words that a text attribute of an operator takes, none for any text."""
    if schema is None or schema.domain not in ("", "ai.onnx.ml", "ai.onnx.preview.training"):
        return ()
    found = _OF.get((schema.name, attribute)) or _ANY.get(attribute, ())
    if isinstance(found, dict):
        since = max((version for version in found if version <= schema.since_version), default=min(found))
        return found[since]
    return found
