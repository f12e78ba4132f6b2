"""Any of Workbench's runtimes as a Polygraphy runner, to be mixed with Polygraphy's own."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata

from ..model import Model, load
from ..model.operators import require_bodies
from .memory import dtype_of
from .process import Session, Worker


class Runner(BaseRunner):
    """A Polygraphy runner whose runtime lives in a worker process.

    Args:
        model: a Model, or anything that `workbench.load` takes.
        backend: name of the runtime.
        outputs: tensors to hand out: None for the model's outputs, ``"all"`` for every tensor, or names.
        timeout: seconds that a load or a run may take.
        name: the runner's name in Polygraphy's reports.
        options: the runtime's own, for example ``optimize="none"`` and ``threads=1`` of ONNX Runtime, or
            ``triton={plugin.name: plugin.triton}`` of cuda.
    """

    def __init__(
        self,
        model: Any,
        backend: str = "onnxruntime",
        *,
        outputs: str | list[str] | None = None,
        timeout: float = 600.0,
        name: str | None = None,
        **options: Any,
    ):
        super().__init__(name=name, prefix=f"workbench-{backend}")
        self.model = model if isinstance(model, Model) else load(model)
        self.backend, self.outputs, self.timeout, self.options = backend, outputs, timeout, options
        self._worker: Worker | None = None
        self._session: Session | None = None

    def activate_impl(self) -> None:
        from ..segments import with_outputs

        require_bodies(self.model, "run")
        proto = self.model.to_proto()
        if self.outputs is not None:
            proto = with_outputs(proto, self.outputs)
        self._worker = Worker(self.backend, timeout=self.timeout)
        try:
            self._session = self._worker.load(proto.SerializeToString(), name=self.model.name, **self.options)
            self._session.description  # noqa: B018 - a model that cannot be loaded fails here, not at the first run
        except BaseException:
            self.deactivate_impl()
            raise

    def get_input_metadata_impl(self) -> TensorMetadata:
        assert self._session is not None
        metadata = TensorMetadata()
        for name, dtype, shape in self._session.description["inputs"]:
            metadata.add(name, dtype_of(dtype), shape)
        return metadata

    def infer_impl(self, feed_dict: dict[str, np.ndarray]) -> OrderedDict:
        assert self._session is not None
        start = time.perf_counter()
        results = self._session.run(feed_dict)
        self.inference_time = time.perf_counter() - start
        return OrderedDict(results)

    def deactivate_impl(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = self._session = None
