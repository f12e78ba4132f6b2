"""A model whose shapes and places are values that the runtime reads on the host: fed, or made and returned."""

from __future__ import annotations

import numpy as np
import onnx

import workbench as wb
from workbench.plugins import gelu

TEXT = """<ir_version: 8, opset_import: ["" : 18, "workbench": 1]>
g (float[6, 4] x, int64[1] starts, int64[1] ends, int64[2] to) => (float[n, m] out, int64[2] size)
{
 [e] e = Exp(x)
 [gelu] y = workbench.FusedGelu(e)
 [cut] c = Slice(y, starts, ends)
 [size] size = Shape(c)
 [reshape] out = Reshape(c, to)
}"""


def shapes_as_values() -> wb.Model:
    proto = onnx.parser.parse_model(TEXT)
    proto.functions.append(gelu.function)
    return wb.load(proto)


def values(starts: int = 0, to: tuple[int, int] = (4, 2)) -> dict[str, np.ndarray]:
    x = np.random.default_rng(starts).standard_normal((6, 4)).astype(np.float32)
    return {"x": x, "starts": np.array([starts]), "ends": np.array([starts + 2]), "to": np.array(to)}
