"""The main job on a real model: read a line of text, change the model to int8, and see what that did.

The model is PP-OCRv6_rec_small, which reads one line of text from a picture 48 pixels high. It comes in the package
``rapidocr`` (Apache-2.0), which is only looked up, never imported. The picture is drawn here.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import ModelError, WorkbenchError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from .compare import Comparison
    from .model import Model

NAME = "PP-OCRv6_rec_small"
TEXT = "Which layer is to blame?"
INSTALL = "pip install --no-deps rapidocr==3.10.0"
TOLERANCE = 0.05
_HEIGHT = 48  # pixels that the model expects
_LINES = (
    "The quick brown fox jumps",
    "over the lazy dog, 12 times.",
    "0123456789 + ABC = xyz",
    "Where does the time go?",
    "Hello, World! (since 1972)",
    "Latency: 37.5 ms @ p95",
)  # what the int8 model is calibrated with


class Reading(NamedTuple):
    """What the model reads in a picture: the text, and the mean probability of its characters (0 to 1)."""

    text: str
    confidence: float


def find() -> Path:
    """The model's file in the installed package ``rapidocr``.

    Raises:
        ModelError: the package is not installed, or is another version without this model.
    """
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"cannot find the demo's model: the package rapidocr is not installed; {INSTALL}")
    path = Path(next(iter(spec.submodule_search_locations))) / "models" / f"{NAME}.onnx"
    if not path.is_file():
        raise ModelError(
            f"cannot find the demo's model: the installed rapidocr has no {path.name}; {INSTALL}"
        )
    return path


def picture(text: str = TEXT) -> Image:
    """A picture of a line of text, black on white, 48 pixels high."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise WorkbenchError(
            "cannot draw the demo's picture: Pillow is not installed; pip install pillow"
        ) from error
    font = ImageFont.load_default(_HEIGHT * 3 // 4)  # comes with Pillow: no font of the system is needed
    width = int(font.getlength(text)) + _HEIGHT // 2
    image = Image.new("RGB", (width, _HEIGHT), "white")
    ImageDraw.Draw(image).text((_HEIGHT // 4, _HEIGHT // 2), text, font=font, fill="black", anchor="lm")
    return image


def array(image: Image) -> np.ndarray:
    """A picture as the model takes it: float32 [1, 3, 48, width], channels BGR, values from -1 to 1."""
    if image.height != _HEIGHT:
        image = image.resize((max(1, round(image.width * _HEIGHT / image.height)), _HEIGHT))
    pixels = np.asarray(image.convert("RGB"), np.float32)[:, :, ::-1].transpose(2, 0, 1)
    return np.ascontiguousarray((pixels / 255 - 0.5) / 0.5)[None]


def characters(model: Model) -> list[str]:
    """What the model's classes stand for: class 0 is "nothing" (CTC's blank), the last one a space."""
    known = model.ir.metadata_props.get("character")
    if known is None:
        raise ModelError(
            f"{model.name!r} has no list of characters (metadata 'character'); expected a PP-OCR model"
        )
    return ["", *known.splitlines(), " "]


def read(model: Model, image: np.ndarray) -> Reading:
    """Run the model and decode what it read: the most likely class of each step, repeated and blank ones left out."""
    from .backends import Runner

    with Runner(model) as runner:
        probabilities = next(iter(runner.infer({model.inputs[0].name: image}).values()))[0]
    best = probabilities.argmax(-1)
    new = (best != 0) & (best != np.concatenate([[0], best[:-1]]))
    names = characters(model)
    certainty = probabilities.max(-1)[new]
    return Reading("".join(names[i] for i in best[new]), float(certainty.mean()) if new.any() else 0.0)


def int8(model: Model, *, keep: Sequence[str] = (), per_channel: bool = False) -> Model:
    """The model with convolutions and matrix products in 8 bits, a usual step of deployment.

    ONNX Runtime's static quantization with its default of one scale per tensor, calibrated with six drawn lines of
    text. Tensors and nodes keep their names.

    Args:
        keep: names of nodes to leave in float.
        per_channel: one scale per output channel of a weight instead; the model is converted to opset 13 for that.
    """
    import onnx

    from .model import load

    proto = onnx.ModelProto.FromString(
        model.to_proto().SerializeToString()
    )  # the quantizer changes what it is given
    if per_channel:
        from onnx import version_converter

        proto = version_converter.convert_version(proto, 13)
    with (
        tempfile.TemporaryDirectory(prefix="workbench-demo-", ignore_cleanup_errors=True) as folder,
        _quiet(),
    ):
        from onnxruntime import quantization as q

        class Lines(q.CalibrationDataReader):
            def __init__(self) -> None:
                self.items = iter([{model.inputs[0].name: array(picture(line))} for line in _LINES])

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self.items, None)

        target = os.path.join(folder, "int8.onnx")
        q.quantize_static(
            proto,
            target,
            Lines(),
            quant_format=q.QuantFormat.QDQ,
            per_channel=per_channel,
            nodes_to_exclude=list(keep),
            op_types_to_quantize=["Conv", "MatMul"],
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "WeightSymmetric": True},
        )
        changed = onnx.load(target)
    changed.graph.name = f"{model.name}_int8"
    return load(changed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that the quantizer writes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def run(
    output: str | os.PathLike[str] = "workbench-report.html",
    *,
    runs: int = 20,
    threads: int | None = 1,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> Path:
    """The whole demo; `say` gets its lines. Returns the path of the report that it wrote.

    One thread of the runtime unless told otherwise: other work on the machine disturbs the times less.

    Raises:
        ModelError: the model's package is not installed.
        WorkbenchError: something else that it needs is missing, or the report cannot be written.
    """
    from .compare import compare
    from .model import load
    from .profile import profile, profile_diff
    from .report import words, write

    model = load(find())
    image = picture()
    data = array(image)
    first = read(model, data)
    say(f"{model.name} reads the picture that was just drawn: {_quoted(first)}.")
    say("Changing it to int8 (ONNX Runtime's static quantization, calibrated with six other lines) ...")
    changed = int8(model)
    second = read(changed, data)
    say(f"{changed.name} reads {_quoted(second)}.")
    say("Comparing every tensor, then measuring every layer of both ...")
    comparison = compare(model, changed, data, tolerance=TOLERANCE, threads=threads, progress=progress)
    options: dict[str, Any] = {"inputs": data, "runs": runs, "threads": threads, "progress": progress}
    before, after = profile(model, **options), profile(changed, **options)
    blame = comparison.blame(8)
    say("")
    for line in (
        words.verdict(comparison),
        words.culprit(blame),
        f"Before the change, {words.where(before)}",
        words.speed(before, after),
        words.changes(profile_diff(before, after)),
    ):
        say(line)
    advice = _advice(model, data, comparison, blame, threads)
    say(advice)
    extra = [("Is the text still read?", _section(image, {model.name: first, changed.name: second}, advice))]
    path = write(
        output, comparison=comparison, before=before, after=after, model=model, candidate=changed, extra=extra
    )
    say("")
    say(f"The report, with all figures: {path}")
    return path


def _quoted(reading: Reading) -> str:
    return f"{reading.text!r} ({reading.confidence:.0%} sure)"


def _advice(
    model: Model, data: np.ndarray, comparison: Comparison, blame: pd.DataFrame, threads: int | None
) -> str:
    """Try what the blame suggests: the worst node in float."""
    from .compare import compare

    worst = str(blame["share"].idxmax())
    better = compare(model, int8(model, keep=[worst]), data, local=False, threads=threads, progress=False)
    was, now = (c.table.loc[c.outputs[0], "snr_db"] for c in (comparison, better))
    if now <= was:
        return f"Leaving {worst} alone in float does not help: the output's SNR goes from {was:.1f} to {now:.1f} dB."
    return f"With only {worst} left in float, the output's SNR rises from {was:.1f} to {now:.1f} dB."


def _section(image: Image, readings: dict[str, Reading], advice: str) -> str:
    """HTML for the report: the picture and what was read in it."""
    from .report.tables import table

    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    source = base64.b64encode(file.getvalue()).decode()
    rows = [(name, reading.text, f"{reading.confidence:.1%}") for name, reading in readings.items()]
    return (
        f'<p><img alt="{escape(TEXT, quote=True)}" src="data:image/png;base64,{source}">'
        + table(
            "What the models read in this picture",
            [("model", ""), ("text", ""), ("sure", "mean probability")],
            rows,
        )
        + f"<p>{escape(advice)}</p>"
    )
