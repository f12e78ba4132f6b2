"""Model: one network, thin over ``onnx_ir.Model``."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from ..errors import ModelError
from . import load as _load
from . import proto as _proto
from . import save as _save
from .external import Folder
from .info import TensorInfo, from_value_info
from .names import name_nodes


def load(source: Any, *, base_dir: str | os.PathLike | None = None) -> Model:
    """Open a model.

    Args:
        source: a path; an encoded model (bytes); an ``onnx.ModelProto``; an ``onnx_ir.Model`` (taken over:
            its unnamed nodes get names); or a pair ``(torch.nn.Module, example_inputs)``, which is exported
            with ``torch.onnx.export(dynamo=True)``.
        base_dir: folder of the external data of a model that does not come from a path. What
            ``Model.to_proto`` returns is read with ``base_dir="/"``.

    Weights are memory-mapped where they lie in a file: opening takes no memory for them.

    Raises:
        ModelError: the source cannot be used as a model, with the exact reason.
    """
    if isinstance(source, Model):
        return source
    folder = Folder(Path(base_dir)) if base_dir is not None else None
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return Model(_load.read_file(path), path=path)
    if isinstance(source, onnx.ModelProto):
        source = _proto.encode(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return Model(_load.read_bytes(bytes(source), "cannot load the model", folder))
    if isinstance(source, ir.Model):
        return Model(source)
    raise ModelError(
        f"cannot load {type(source).__name__}: expected a path, bytes, onnx.ModelProto, onnx_ir.Model "
        "or (torch.nn.Module, example inputs)"
    )


class Model:
    """A network: its graph, and weights that are read from their file only when they are needed.

    A model is a value: nothing in Workbench changes one, every change makes a new one.

    Attributes:
        ir: the graph as ``onnx_ir.Model``, read-only by convention. Every node has a name, unique in the
            model.
        path: the file it was loaded from, or None.
    """

    def __init__(self, model: ir.Model, *, path: Path | None = None, name: str | None = None):
        name_nodes(model)
        self.ir, self.path, self._name = model, path, name
        self._cache: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Short name for display: the file's, or the graph's."""
        return self._name or (self.path.stem if self.path else "") or self.ir.graph.name or "model"

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What must be fed: the graph's inputs, without those that have a default (an initializer)."""
        graph = self.ir.graph
        return tuple(_info(value) for value in graph.inputs if value.name not in graph.initializers)

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """What the graph returns."""
        return tuple(_info(value) for value in self.ir.graph.outputs)

    def to_proto(self) -> onnx.ModelProto:
        """The model as an ``onnx.ModelProto`` that a runtime can load; do not change it.

        Every node is named. Weights in external data files stay references to them: ``location`` is the
        absolute path without the leading ``/`` (ONNX Runtime:
        ``session.model_external_initializers_file_folder_path="/"``,
        ``onnx.load_external_data_for_model(proto, "/")``). All other weights are inside.

        Raises:
            ModelError: a data file changed since the model was loaded.
        """
        if "proto" not in self._cache:
            self._cache["proto"] = _proto.runnable(self.ir)
        return self._cache["proto"]

    def save(self, path: str | os.PathLike, *, external: bool | None = None) -> Path:
        """Write the model to a file, completely or not at all.

        Whatever goes wrong (a full disk, an error, the end of the process), the file that was there before is
        as it was. No data file is ever overwritten: weights in external data files below the target's folder
        stay where they are and are referred to; those elsewhere are copied into ``<file name>.data`` beside
        the file, or ``<file name>.1.data`` and so on when that is there with other content.

        Args:
            path: the file to write; its folder must exist.
            external: True: put weights that are not in a data file yet into a new one; False: put all weights
                into the file itself; None: as they are now, unless the file would get more than 1.5 GB of
                weights (ONNX files end at 2 GB): then into a data file, with a warning.

        Returns:
            The file that was written, as an absolute path.

        Raises:
            ModelError: it could not be written, with the reason.
        """
        return _save.save(self.ir, Path(path), external)


def _info(value: ir.Value) -> TensorInfo:
    return from_value_info(ir.to_proto(value))
