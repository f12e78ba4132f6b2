"""A cuda worker without a GPU: plugins' bodies on the CPU. What is around it can then be tested; `tests/gpu` has the
real one."""

from __future__ import annotations

import onnx
import onnxruntime as ort

ABOUT = {"name": "no GPU", "arch": "sm_90", "driver": 13000, "onnxruntime": ort.__version__, "nvrtc": "none"}


class Session:
    """The body on the CPU; a Triton kernel with ``wrong`` in its source gives one more."""

    def __init__(self, model: bytes, source: str):
        self.session, self.source = ort.InferenceSession(model), source

    def run(self, feeds):
        (y,) = self.session.run(["y"], feeds)
        return {"y": y + 1 if "wrong" in self.source else y}

    def profile(self, feeds, runs, **_):
        ms = [2.0 if self.source else 1.0] * runs
        return {"ms": ms, "gpu_ms": ms, "graph": ""}

    def close(self):
        pass


class Worker:
    """See above."""

    why = ""
    """That there is no Triton."""

    def __init__(self, *_, **__):
        self.version, self.timeout, self.loaded = "1", 0.0, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    close = __exit__

    def call(self, name, **options):
        return {"about": ABOUT, "no_triton": self.why, "copy_ms": [1.0]}[name]

    def load(self, model, *, triton=None, **options):
        onnx.checker.check_model(model)
        return Session(model, next(iter((triton or {}).values()), ""))
