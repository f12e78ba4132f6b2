"""Edits that other programs make on the whole graph: onnxslim, onnx's version converter, GraphSurgeon."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import onnx
import onnx_ir as ir

from ..errors import EditError
from ..model import Model, inferred, load
from ..model import proto as protos
from ..model.nodewise import first_error, strictly
from ..model.proto import encode
from ..model.save import INLINE_LIMIT
from ..model.scopes import tensors
from ..model.weights import same_data
from . import origins
from .base import Whole
from .content import Content, of_bytes

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

KEPT = "workbench-weight"
"""Location of the weights, in a graph that an edit carries, that are those of the model it is applied to."""


def full(model: ir.Model, what: str) -> onnx.ModelProto:
    """A model with all of its weights inside; EditError when they are too many."""
    if too_large(model):
        size = sum(int(tensor.nbytes) for tensor in tensors(model))
        raise EditError(
            f"cannot {what}: the model has {size / 1e9:.1f} GB of weights, expected at most 1.5 GB, because all of "
            "them must be in memory; use the other edits, which leave weights where they are"
        )
    return protos.serialize(model, lambda tensor, _: tensor)


def too_large(model: ir.Model) -> bool:
    """Whether the weights are too many to be all in memory in one proto."""
    return sum(int(tensor.nbytes) for tensor in tensors(model)) > INLINE_LIMIT


def _refuse_functions(model: ir.Model, what: str, why: str) -> None:
    if model.functions:
        raise EditError(
            f"cannot {what}: the model has functions of its own, {why}; put their bodies in their places with "
            "inline_functions first"
        )


def rebuilt(proto: onnx.ModelProto, before: ir.Model) -> ir.Model:
    """The graph in a proto, with origins noted and with the weights that did not change taken from ``before``."""
    made = load(encode(proto)).ir
    for name, value in made.graph.initializers.items():
        old = before.graph.initializers.get(name)
        if (
            old is not None
            and old.const_value is not None
            and value.const_value is not None
            and same_data(old.const_value, value.const_value)
        ):
            value.const_value = old.const_value
    origins.carry(before, made)
    return made


def check_whole(made: ir.Model, before: ir.Model) -> None:
    """Refuse a graph that fails onnx's checker or its strict inference, when the graph before did not."""
    reason = _unsound(made)
    if reason is not None and _unsound(before) is None:
        raise EditError(f"the result is not valid: {reason}")


def _unsound(model: ir.Model) -> str | None:
    try:
        onnx.checker.check_model(protos.for_checker(model))
        strictly(protos.skeleton(model).SerializeToString())
    except Exception as error:  # the answer
        return first_error(error)
    return None


@dataclass(frozen=True)
class Simplify(Whole):
    """Simplify the whole graph with onnxslim (shapes inferred, constants folded, subgraphs fused).

    With more than 1.5 GB of weights, those of more than 1024 elements are left out of it: nothing that would change
    them is folded or fused.
    """

    method: ClassVar[str] = "simplify"

    def replace(self, model: ir.Model) -> ir.Model:
        try:
            import onnxslim
        except ImportError:
            raise EditError("cannot simplify: onnxslim is not installed; pip install onnxslim") from None
        _refuse_functions(model, "simplify", "on which onnxslim fails")
        heavy = _heavy(model) if too_large(model) else {}
        given = _without(model, heavy) if heavy else full(model, "simplify")
        try:
            slim = onnxslim.slim(given)
        except Exception as error:
            raise EditError(f"cannot simplify: onnxslim failed: {error}; the model is unchanged") from error
        return _with(load(encode(slim)).ir, heavy, model) if heavy else rebuilt(slim, model)


@dataclass(frozen=True)
class ConvertOpset(Whole):
    """Convert the model to another version of the ONNX operator set (onnx's version converter).

    Args:
        version: of the domain ai.onnx.
    """

    method: ClassVar[str] = "convert_opset"
    version: int

    def replace(self, model: ir.Model) -> ir.Model:
        now = model.opset_imports.get("")
        newest = onnx.defs.onnx_opset_version()
        if type(self.version) is not int or not 1 <= self.version <= newest:
            raise EditError(
                f"cannot convert to operator set {self.version!r}; expected 1 to {newest} (now {now})"
            )
        _refuse_functions(model, "convert the operator set", "which onnx's converter drops")
        if now == self.version:
            raise EditError(f"cannot convert: the model uses operator set {now} already; nothing to do")
        heavy = _heavy(model)
        light = _without(model, heavy)
        try:
            made = onnx.version_converter.convert_version(light, self.version)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise EditError(f"cannot convert from operator set {now} to {self.version}: {reason}") from error
        made.graph.ClearField("metadata_props")
        made.graph.metadata_props.extend(light.graph.metadata_props)
        if not made.metadata_props:
            made.metadata_props.extend(light.metadata_props)
        _restore_notes(made.graph, light.graph)
        converted = load(encode(made)).ir
        return _with(converted, heavy, model)


def _heavy(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """The weights of more than 1024 elements in the main graph."""
    return {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and value.const_value.size > 1024
    }


def _without(model: ir.Model, heavy: dict[str, ir.TensorProtocol]) -> onnx.ModelProto:
    """The model with some weights as inputs, so that who works on it neither copies nor needs them."""
    proto = protos.serialize(model, _kept_by_name({id(tensor) for tensor in heavy.values()}))
    inputs = {info.name for info in proto.graph.input}
    for tensor in [tensor for tensor in proto.graph.initializer if tensor.name in heavy]:
        proto.graph.initializer.remove(tensor)
        if tensor.name not in inputs:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            proto.graph.input.append(info)
    return proto


def _kept_by_name(own: set[int]) -> protos.Place:
    """Writes the weights of these ids by name alone."""

    def place(tensor: ir.TensorProtocol, where: str) -> ir.TensorProtocol:
        return (
            protos.reference(tensor, KEPT, None, None) if where == "graph" and id(tensor) in own else tensor
        )

    return place


def _restore_notes(made: onnx.GraphProto, before: onnx.GraphProto) -> None:
    """The converter drops metadata of nodes: give it back by name."""
    notes = {node.name: node.metadata_props for node in before.node if node.metadata_props}
    for node in made.node:
        if node.name in notes and not node.metadata_props:
            node.metadata_props.extend(notes[node.name])


def _with(converted: ir.Model, heavy: dict[str, ir.TensorProtocol], before: ir.Model) -> ir.Model:
    graph = converted.graph
    inputs = {value.name: value for value in graph.inputs}
    were = {value.name for value in before.graph.inputs}
    for name, tensor in heavy.items():
        if name not in inputs:  # nothing reads it any more
            continue
        value = inputs[name]
        value.const_value = tensor
        graph.initializers.add(value)
        if name not in were:
            graph.inputs.remove(value)
    order = [name for name in before.graph.initializers if name in graph.initializers]
    data = graph.initializers.data
    graph.initializers.data = {
        name: data[name] for name in [*order, *(n for n in data if n not in set(order))]
    }
    origins.carry(before, converted)
    return converted


@dataclass(frozen=True)
class Surgery(Whole):
    """What a script did to the graph with GraphSurgeon (``Model.surgeon``), as its result.

    Args:
        graph: the resulting model; weights that the script left alone are not in it.
    """

    method: ClassVar[str] = "replace_graph"
    graph: Any

    def __post_init__(self) -> None:
        if not isinstance(self.graph, Content):
            object.__setattr__(self, "graph", of_bytes(bytes(self.graph), ".onnx"))

    def replace(self, model: ir.Model) -> ir.Model:
        if not self.graph.data:
            raise EditError("the graph is not in the history; replay a script that history.to_python wrote")
        proto = onnx.ModelProto.FromString(self.graph.data)
        kept = []
        for tensor in proto.graph.initializer:
            if any(entry.value == KEPT for entry in tensor.external_data):
                old = model.graph.initializers.get(tensor.name)
                if (
                    old is None
                    or old.const_value is None
                    or list(old.const_value.shape.numpy()) != list(tensor.dims)
                ):
                    raise EditError(
                        f"the graph needs the weight {tensor.name!r} of the model that it was made from; this one has "
                        "none of that name and shape; replay it on the original"
                    )
                kept.append((tensor.name, old.const_value, list(tensor.dims)))
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
                del tensor.dims[:]
                tensor.dims.append(0)
        made = load(encode(proto)).ir
        inferred.take(made)  # with the wrong shapes of these
        for name, weight, _ in kept:
            made.graph.initializers[name].const_value = weight
            made.graph.initializers[name].shape = ir.Shape(weight.shape.numpy())
        origins.carry(model, made)
        return made


def carried(made: ir.Model, before: ir.Model) -> bytes:
    """A graph as an edit carries it: unchanged weights only by name."""
    own = {id(value.const_value) for value in before.graph.initializers.values()}
    return encode(protos.serialize(made, _kept_by_name(own)))


@contextlib.contextmanager
def surgeon(model: Model, apply: Callable[[Model, Whole], Model]) -> Iterator[gs.Graph]:
    """See ``Model.surgeon``."""
    try:
        import onnx_graphsurgeon as gs
    except ImportError:
        raise EditError("GraphSurgeon is not installed; pip install onnx-graphsurgeon") from None
    large = too_large(model.ir)
    own = {id(tensor) for tensor in _heavy(model.ir).values()} if large else set()
    before = protos.serialize(model.ir, _kept_by_name(own))
    graph = gs.import_onnx(before)
    yield graph
    try:
        proto = gs.export_onnx(graph)
    except Exception as error:
        raise EditError(f"the script left a graph that GraphSurgeon cannot write: {error}") from error
    proto.metadata_props.extend(before.metadata_props[len(proto.metadata_props) :])
    _restore_notes(proto.graph, before.graph)
    now = model.ir
    graph_bytes = encode(proto) if large else carried(rebuilt(proto, now), now)
    graph.model = apply(model, Surgery(of_bytes(graph_bytes, ".onnx")))
