"""How near the simulation of fp16 and bf16 is to a GPU: `python -m tests.bench.precision_gpu [FILE]`.

Needs onnxruntime-gpu. Converted models run on its CUDA provider, as they are and with its graph optimisations (which
fuse, and so leave out or move roundings); their simulation and the float32 original run on the CPU provider. FILE gets
the differences of all outputs (`data/precision/` holds such a file).
"""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import workbench as wb
from tests import real_models
from workbench.metrics import Measure

REAL = (
    "bert_tiny_script", "gpt2_tiny_script", "llama_tiny_script", "residual_block", "mtcnn_pnet", "ppocr_cls", "magika",
    "needs_constraints",
)  # fmt: skip
SEARCHED = ("magika", "needs_constraints")  # they overflow in fp16; what the search keeps is run, too
CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})


def operator(nodes: list[onnx.NodeProto], shape: tuple[int, ...], **weights: np.ndarray) -> wb.Model:
    """A model of a few nodes from x to y."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in (("x", shape), ("y", None))]
    held = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "operator", ports[:1], ports[1:], held)
    return wb.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def operators() -> dict[str, wb.Model]:
    """Long sums above all, because there the order and the width of additions count."""
    rng, node = np.random.default_rng(0), helper.make_node
    found = {
        f"op_matmul_k{k}": operator(
            [node("MatMul", ["x", "w"], ["y"], name="n")], (16, k), w=rng.normal(size=(k, 32)) / math.sqrt(k)
        )
        for k in (64, 512, 4096)
    }
    conv = node("Conv", ["x", "w"], ["y"], name="n", pads=[1, 1, 1, 1])
    found["op_conv_3x3_c256"] = operator([conv], (1, 256, 16, 16), w=rng.normal(size=(64, 256, 3, 3)) / 48)
    found["op_softmax_1024"] = operator([node("Softmax", ["x"], ["y"], name="n", axis=-1)], (64, 1024))
    norm = node("LayerNormalization", ["x", "w", "b"], ["y"], name="n")
    found["op_layernorm_1024"] = operator([norm], (64, 1024), w=np.ones(1024), b=np.zeros(1024))
    found["op_reducemean_4096"] = operator([node("ReduceMean", ["x"], ["y"], name="n", axes=[1])], (64, 4096))
    parts = (("Div", "x", "r", "a"), ("Erf", "a", None, "b"), ("Add", "b", "one", "c"), ("Mul", "x", "c", "d"),
             ("Mul", "d", "h", "y"))  # fmt: skip
    gelu = [node(op, [one, other] if other else [one], [out], name=out) for op, one, other, out in parts]
    found["op_gelu_erf"] = operator(gelu, (64, 1024), r=np.sqrt(2), one=np.ones(()), h=np.full((), 0.5))
    return found


def run(model: wb.Model, feeds: list, providers: list, level: str = "ORT_DISABLE_ALL") -> list[dict[str, Any]]:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    session = ort.InferenceSession(model.to_proto().SerializeToString(), options, providers)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]


def far(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """How far outputs are apart, by name."""
    found = {}
    for name in one[0]:
        measure = Measure()
        for a, b in zip(one, other, strict=True):
            measure.add(a[name], b[name])
        made = measure.result()
        snr = made["snr_db"] if math.isfinite(made["snr_db"]) else None
        largest = max(abs(made["ref_min"]), abs(made["ref_max"]))
        found[name] = {"max_abs": made["max_abs"], "largest": largest, "mean_abs": made["mean_abs"], "snr_db": snr}
    return found


def row(name: str, model: wb.Model, to: str, keep: tuple[str, ...], feeds: list, real: list) -> dict[str, Any]:
    """One model in one type."""
    cpu = ["CPUExecutionProvider"]
    base = run(model, feeds, cpu)
    simulated = run(wb.precision.simulate(model, to, keep=keep), feeds, cpu)
    converted = wb.precision.convert(model, to, keep=keep)
    found: dict[str, Any] = {"model": name, "to": to, "kept": len(keep), "inputs": len(feeds)}
    found["simulated from fp32"] = far(base, simulated)
    found["fp32 cuda from cpu"] = far(base, run(model, feeds, real))
    for level, note in (("ORT_DISABLE_ALL", ""), ("ORT_ENABLE_ALL", ", optimised")):
        outputs = run(converted, feeds, real, level)
        found |= {f"real from fp32{note}": far(base, outputs), f"real from simulated{note}": far(simulated, outputs)}
    return found


def measure(real: list, models: dict[str, wb.Model]) -> list[dict[str, Any]]:
    """All rows, printed as they come (SNR in dB of the first output)."""
    rows = []
    for name, model in models.items():
        feeds = [{k: np.asarray(v) for k, v in feed.items()} for feed in wb.inputs.feeds(model, count=2)]
        keeps: list[tuple[str, ...]] = [()]
        if name in SEARCHED:
            keeps.append(wb.precision.search(model, "fp16", inputs=feeds, tolerance=0.01, progress=False).keep)
        bf16: list = []
        if name.startswith(("op_matmul", "bert")):  # of operators that have bf16 in their operator set
            bf16 = [("bf16", ())]
        for to, keep in [*(("fp16", keep) for keep in keeps), *bf16]:
            rows.append(row(name, model, to, keep, feeds, real))
            kinds = ("simulated from fp32", "real from fp32", "real from simulated", "real from fp32, optimised")
            found = {kind: next(iter(rows[-1][kind].values()))["snr_db"] for kind in kinds}
            print(f"{name:22} {to}", found, flush=True)
    return rows


if __name__ == "__main__":
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        sys.exit("the CUDA provider of ONNX Runtime is not here: install onnxruntime-gpu on a machine with a GPU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = operators() | {name: wb.load(real_models.find(name)) for name in REAL}
        figures = {"date": time.strftime("%Y-%m-%d"), "onnxruntime": ort.__version__, "rows": measure([CUDA], every)}
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(figures, indent=1))
