"""Model: one network, thin over ``onnx_ir.Model``."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import onnx
import onnx_ir as ir

from ..errors import ModelError
from . import assume, content, proto, save, summary, tables
from . import load as reading
from .collection import paused
from .costs import UNKNOWN
from .external import Folder
from .info import TensorInfo, from_value_info
from .names import name_nodes
from .scopes import tensors
from .source import Source
from .walk import Walk
from .weights import FileTensor

if TYPE_CHECKING:
    import pandas as pd

Tensor: TypeAlias = ir.TensorProtocol  # Model has a property of the name ir
Graph: TypeAlias = ir.Model
HISTORY = "workbench.history"
"""Key of the edits in the metadata of a saved model."""
CACHED = 1 << 28
"""Bytes of weights in a proto up to which it is kept; a larger one is made again for each caller."""


def load(source: Any, *, base_dir: str | os.PathLike[str] | None = None) -> Model:
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
    with paused():
        model = opened(source, base_dir=base_dir)
        _ = model.ir  # what is wrong with it must be said now
    return model


def opened(source: Any, *, base_dir: str | os.PathLike[str] | None = None) -> Model:
    """Like `load`, but the graph is made only when it is asked for; what onnx_ir refuses comes up then."""
    if isinstance(source, Model):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return Model(reading.read_file(path), path=path)
    if isinstance(source, onnx.ModelProto):
        source = proto.encode(source)
    if isinstance(source, bytes | bytearray | memoryview):
        folder = Folder(Path(base_dir)) if base_dir is not None else None
        return Model(reading.read_bytes(bytes(source), "cannot load the model", folder))
    if isinstance(source, ir.Model):
        return Model(reading.adopt(source))
    if isinstance(source, tuple) and len(source) == 2:
        from .torch_export import export

        return Model(reading.adopt(export(*source)), name=type(source[0]).__name__)
    raise ModelError(
        f"cannot load {type(source).__name__}; expected a path, bytes, onnx.ModelProto, onnx_ir.Model "
        "or (torch.nn.Module, example inputs)"
    )


class Model:
    """A network: its graph, and weights that are read from their file only when they are needed.

    A model is a value: nothing in Workbench changes one, every change makes a new one. ``str()`` of it, and
    showing it in a notebook, give the summary card.

    Attributes:
        ir: the graph as ``onnx_ir.Model``, read-only by convention. Every node has a name, unique in the
            model.
        path: the file it was loaded from, or None.
        version: its place in the tree of edits (``workbench.edits.history``), None for a model without edits.
        past: the edits that the file was saved with, as JSON, or None.

    Each kind of edit is a method that gives a new model (``m.rename_node("a", "b")``); ``workbench.edits`` adds them.
    """

    def __init__(self, model: ir.Model | Source, *, path: Path | None = None, name: str | None = None):
        self.past: str | None = None
        self.version: Any = None
        if isinstance(model, Source) and any(entry.key == HISTORY for entry in model.proto.metadata_props):
            model = model.build()
        self._source = model if isinstance(model, Source) else None
        self._made = None if isinstance(model, Source) else self._named(model)
        self.path, self._name = path, name
        self._start()

    def _start(self) -> None:
        self._proto: onnx.ModelProto | None = None
        self._spilled: dict[int, tuple[str, int]] = {}
        self._walks: dict[Any, Walk] = {}

    def _named(self, model: ir.Model) -> ir.Model:
        name_nodes(model)
        self.past = model.metadata_props.pop(HISTORY, None)
        return model

    @property
    def _graph(self) -> Graph:
        if self._made is None:
            assert self._source is not None
            self._made = self._named(self._source.build())
        return self._made

    @property
    def ir(self) -> Graph:
        """The graph. Models that came out of one another by edits share it: use what this gives before another of
        them is asked for its graph."""
        graph: Graph = self._graph if self.version is None else self.version.graph()
        return graph

    @property
    def name(self) -> str:
        """Short name for display: the file's, or the graph's."""
        return self._name or (self.path.stem if self.path else "") or self._title or "model"

    @property
    def _title(self) -> str:
        return self._unedited.proto.graph.name if self._unedited else self.ir.graph.name or ""

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What must be fed: the graph's inputs, without those that have a default (an initializer)."""
        if self._unedited is not None:
            return self._unedited.ports()[0]
        graph = self.ir.graph
        return tuple(_info(value) for value in graph.inputs if value.name not in graph.initializers)

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """What the graph returns."""
        if self._unedited is not None:
            return self._unedited.ports()[1]
        return tuple(_info(value) for value in self.ir.graph.outputs)

    @property
    def _unedited(self) -> Source | None:
        """What it was read from, if it is still that."""
        return self._source if self.version is None else None

    # -- what it is -----------------------------------------------------------------------------------------

    @cached_property
    def nodes(self) -> pd.DataFrame:
        """One row per node, those in bodies and functions included; index ``node``.

        Columns: ``op_type``, ``domain``, ``inputs``, ``outputs`` (tuples of names, ``''`` for a left-out
            one),
        ``scope`` (the body or function that it is in, ``''`` for the main graph), ``macs``, ``bytes`` (moved
        by one run; NA where a shape is not known). Costs are for the shapes that ``summary()`` states. A node
        with bodies, or that calls a function, has the costs of what is in it, so the main graph adds up to
        the total.
        """
        return tables.nodes(self, self.walk()[0])

    @cached_property
    def tensors(self) -> pd.DataFrame:
        """One row per tensor; index ``tensor``, which is ``<scope>/<name>`` in bodies and functions.

        Columns: ``dtype``, ``shape`` (ints, names of symbolic dims, None for an unknown dim; None when even
            the
        rank is unknown), ``bytes`` (NA when the shape is not known), ``kind`` (``input``, ``initializer``,
        ``activation``, ``constant``), ``producer``, ``consumers`` (names of nodes), ``scope``.
        """
        return tables.tensors(self, Walk(self._skeleton, {}, count=False))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run, for the shapes that ``summary()`` states."""
        walk, _ = self.walk()
        return sum(walk.nodes.get(node.name or "", UNKNOWN).macs or 0 for node in self.ir.graph)

    @property
    def parameters(self) -> int:
        """Number of elements of all constants, wherever the model holds them."""
        return sum(row.parameters for row in content.by_dtype(self.ir))

    @property
    def bytes(self) -> int:
        """Bytes of all constants, wherever the model holds them."""
        return sum(row.bytes for row in content.by_dtype(self.ir))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the content: equal for the same model in another file, or stored in another way."""
        return content.fingerprint(self.ir)

    def summary(self, shapes: assume.Given | None = None) -> summary.Summary:
        """The summary card.

        Args:
            shapes: sizes for symbolic dims, or shapes for inputs, to count costs with: ``{"batch": 2}`` or
                ``{"x": (2, 3, 224, 224)}``; what is left open is assumed, and the card says so.

        Raises:
            NotInModelError: shapes names what the model does not have.
        """
        return summary.summarize(self, shapes or {})

    def walk(self, shapes: assume.Given | None = None) -> tuple[Walk, dict[str, int]]:
        """Shapes and costs of everything for given input shapes, and the dims that were assumed for that."""
        given, assumed = assume.input_shapes(self.inputs, shapes or {})
        key = tuple(given.items())
        if key not in self._walks:
            self._walks[key] = Walk(self._skeleton, given)
        return self._walks[key], assumed

    @cached_property
    def _skeleton(self) -> onnx.ModelProto:
        return proto.skeleton(self.ir)

    # -- where it goes --------------------------------------------------------------------------------------

    def to_proto(self) -> onnx.ModelProto:
        """The model as an ``onnx.ModelProto`` that a runtime can load; do not change it.

        Every node is named. Weights in external data files stay references to them: ``location`` is the
        absolute path without the leading ``/`` (ONNX Runtime reads it with
        ``session.model_external_initializers_file_folder_path="/"``, onnx with
        ``onnx.load_external_data_for_model(proto, "/")``). All other weights are inside, unless that would be
        more than 1.5 GB: then they are put into a temporary file that lives as long as this object.

        Raises:
            ModelError: a data file changed since the model was loaded.
        """
        source = self._unedited
        if source is not None and source.weight_bytes <= save.INLINE_LIMIT:
            made = self._proto or source.runnable()
            self._proto = made if source.weight_bytes <= CACHED else None
            return made
        weights = list(tensors(self.ir))
        outside = {t.file for t in weights if isinstance(t, FileTensor) and not t.file.embedded}
        for file in outside:
            file.check_path()
        if self._proto is not None:
            return self._proto
        inside = [t for t in weights if getattr(t, "file", None) not in outside]
        size = sum(tensor.nbytes for tensor in inside)
        if size > save.INLINE_LIMIT and not self._spilled:
            self._spill(inside)
        made = proto.runnable(self.ir, self._spilled)
        if size <= CACHED or self._spilled:
            self._proto = made
        return made

    def _spill(self, weights: list[Tensor]) -> None:
        folder = Path(tempfile.mkdtemp(prefix="workbench-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        path = folder / "weights.data"
        offsets = save.spill([tensor for tensor in weights if save.large(tensor)], path)
        self._spilled = {key: (proto.location(path), offset) for key, offset in offsets.items()}

    def save(
        self, path: str | os.PathLike[str], *, external: bool | None = None, history: bool = True
    ) -> Path:
        """Write the model to a file, completely or not at all.

        Whatever goes wrong (a full disk, an error, the end of the process), the file that was there before is
        as it was. No data file is ever overwritten: weights in external data files below the target's folder
        stay where they are and are referred to; those elsewhere are copied into ``<file name>.data`` beside
        the file, or ``<file name>.1.data`` and so on when that is there with other content; which of them are
        still needed is for you to decide.

        Args:
            path: the file to write; its folder must exist.
            external: True: put weights that are not in a data file yet into a new one; False: put all weights
                into the file itself; None: as they are now, unless the file would get more than 1.5 GB of
                weights (ONNX files end at 2 GB): then into a data file, with a warning.
            history: write the edits into the model's metadata too (``workbench.history``).

        Returns:
            The file that was written, as an absolute path.

        Raises:
            ModelError: it could not be written, with the reason.
        """
        edits = self.past if self.version is None else _edits().recorded(self)
        model = self.ir
        if edits is None or not history:
            return save.save(model, Path(path), external)
        model.metadata_props[HISTORY] = edits
        try:
            return save.save(model, Path(path), external)
        finally:
            del model.metadata_props[HISTORY]

    # -- edits ----------------------------------------------------------------------------------------------

    def apply(self, edit: Any) -> Model:
        """The model that an edit (``workbench.edits``) makes of this one, which stays as it is.

        Raises:
            EditError: the edit was refused, with the reason; nothing has changed.
            NotInModelError: it names what the model does not have.
        """
        made: Model = _edits().apply(self, edit)
        return made

    @property
    def history(self) -> Any:
        """The edits up to this model, undo and redo: a ``workbench.edits.History``."""
        return _edits().History(self)

    def at(self, version: Any) -> Model:
        """The model of another version of the same tree; for ``workbench.edits``."""
        model = object.__new__(type(self))
        model._made, model._source = self._graph, self._source
        model.path, model._name = self.path, self._name
        model.past, model.version = self.past, version
        model._start()
        return model

    def __getattr__(self, name: str) -> Any:
        # the first use of an edit's method: importing workbench.edits adds them all to this class
        if not name.startswith("_") and name in _edits().METHODS:
            return getattr(self, name)
        raise AttributeError(f"'Model' object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_edits().METHODS})

    # -- how it shows itself --------------------------------------------------------------------------------

    def view(self, **options: Any) -> Any:
        """The graph as a ``GraphView``, to look at in a notebook cell.

        Args:
            options: those of ``GraphView``: overlay, local, hide, height.
        """
        from importlib import import_module  # widgets draw models; models do not depend on widgets

        return import_module("workbench.widgets").GraphView(self, **options)

    def netron(self, *, port: int = 0, height: int = 800) -> Any:
        """The model as it is now in the real Netron, on Netron's own server (on this machine, for this machine).

        Args:
            port: of the server; 0: any that is free.
            height: of the frame in a notebook, in pixels.

        Returns:
            A ``workbench.widgets.netron.Netron``: a notebook shows it; ``url``, ``open()``, ``stop()``.

        Raises:
            BackendNotInstalled: without the package netron.
            BackendCrashed, BackendTimeout: the server does not start.
        """
        from importlib import import_module

        return import_module("workbench.widgets.netron").netron(self, port=port, height=height)

    def __repr__(self) -> str:
        ports = f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"
        return f"<Model {self.name!r}: {len(self.ir.graph)} nodes, {ports}>"

    def __str__(self) -> str:
        return str(self.summary())

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        shown = self.summary()
        return {"text/plain": str(shown), "text/html": shown._repr_html_()}


def _edits() -> Any:
    """workbench.edits, which stands to the right of this package and is loaded only when it is asked for."""
    return importlib.import_module("workbench.edits")


def _info(value: ir.Value) -> TensorInfo:
    try:
        return from_value_info(ir.to_proto(value))
    except ir.serde.SerdeError as error:
        raise ModelError(f"cannot encode the type of {value.name!r}: {error}") from error
