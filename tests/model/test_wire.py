"""Taking the weights out of an encoded model: what is left, with them put back, is the model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import real_models
from model import build
from onnx import TensorProto
from onnx import helper as h

from workbench.model import wire


def tensors(graph: onnx.GraphProto) -> list[TensorProto]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else []
            found += attribute.tensors
            for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                found += tensors(body)
    return found


def restored(data: bytes) -> tuple[onnx.ModelProto, int]:
    """The skeleton with the bytes that it refers to put back, and how many tensors these were."""
    proto = onnx.ModelProto.FromString(wire.skeleton(data))
    count = 0
    for tensor in tensors(proto.graph):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries.get("location") == wire.SELF:
            start, length = int(entries["offset"]), int(entries["length"])
            tensor.raw_data = data[start : start + length]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            count += 1
    return proto, count


def as_raw(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With the large lists of floats (as some exporters write them) as raw bytes."""
    for tensor in tensors(proto.graph):
        if len(tensor.float_data) * 4 > wire.THRESHOLD:
            tensor.raw_data = np.array(tensor.float_data, "<f4").tobytes()
            tensor.ClearField("float_data")
    return proto


@pytest.mark.parametrize("name", real_models.REAL_MODELS)
def test_real_models(real_model, name: str) -> None:
    data = real_model(name).read_bytes()
    proto, count = restored(data)
    assert proto == as_raw(onnx.ModelProto.FromString(data))
    assert len(wire.skeleton(data)) < len(data) or not count
    left = tensors(onnx.ModelProto.FromString(wire.skeleton(data)).graph)
    assert max((len(t.raw_data) for t in left), default=0) <= wire.THRESHOLD


def one(tensor: TensorProto) -> onnx.ModelProto:
    return build.model([h.make_node("Identity", ["w"], ["y"])], [], [build.value("y", None)], [tensor])


def test_typed_fields_that_are_raw_bytes_are_taken_too() -> None:
    numbers = list(range(1000))
    kinds = {TensorProto.FLOAT: 4000, TensorProto.DOUBLE: 8000, TensorProto.COMPLEX64: 8000}
    for dtype, size in kinds.items():
        tensor = h.make_tensor("w", dtype, [1000], numbers)
        assert not tensor.HasField("raw_data")
        proto = onnx.ModelProto.FromString(wire.skeleton(one(tensor).SerializeToString()))
        assert {e.key: e.value for e in proto.graph.initializer[0].external_data}["length"] == str(size)
    tensor = h.make_tensor("w", TensorProto.INT64, [1000], numbers)  # varints are another form
    data = one(tensor).SerializeToString()
    assert wire.skeleton(data) == data


@pytest.mark.parametrize(
    "extra", [{"int32_data": [1]}, {"float_data": [1.0]}, {"data_location": TensorProto.EXTERNAL}]
)
def test_ambiguous_tensors_are_left_alone(extra: dict) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[1000], raw_data=bytes(4000), **extra)
    data = one(tensor).SerializeToString()
    assert wire.skeleton(data) == data


def test_small_files_are_not_changed() -> None:
    data = build.branches().SerializeToString()
    assert wire.skeleton(data) == data


@pytest.mark.parametrize("data", [b"\x3a\xff", b"\x3a\x05ab", b"\xff" * 20, b"\x0b\x0c", b"\x3d\x00"])
def test_what_is_not_in_the_format(data: bytes) -> None:
    with pytest.raises(ValueError, match="bad varint|cut off|wire type"):
        wire.skeleton(data)


def test_a_graph_in_two_pieces_is_one() -> None:
    """Protobuf joins a message that comes in pieces; so it is here."""
    one_part, other = build.mlp(), onnx.ModelProto()
    other.graph.initializer.append(one_part.graph.initializer.pop(0))
    data = one_part.SerializeToString() + other.SerializeToString()
    proto, count = restored(data)
    assert count == 1 and proto == onnx.ModelProto.FromString(data)
    assert len(proto.graph.initializer) == 3


def test_a_single_tensor_in_two_pieces_is_not_touched() -> None:
    def attribute(raw: bytes) -> bytes:
        t = TensorProto(data_type=1, dims=[len(raw) // 4], raw_data=raw)
        return onnx.AttributeProto(name="value", t=t, type=onnx.AttributeProto.TENSOR).SerializeToString()

    merged = attribute(bytes(4000)) + attribute(bytes([1]) * 4000)
    node = b"\x22\x08Constant\x2a" + wire._varint(len(merged)) + merged  # noqa: SLF001
    graph = b"\x0a" + wire._varint(len(node)) + node  # noqa: SLF001
    with pytest.raises(ValueError, match="a field that must be single is there twice"):
        wire.skeleton(b"\x3a" + wire._varint(len(graph)) + graph)  # noqa: SLF001


def test_writing_in_pieces_is_the_encoding() -> None:
    proto = build.mlp()
    weights = list(proto.graph.initializer)
    data = b""
    for tensor in weights:
        header = TensorProto()
        header.CopyFrom(tensor)
        header.ClearField("raw_data")
        data += wire.open_tensor(header.SerializeToString(), len(tensor.raw_data)) + tensor.raw_data
    del proto.graph.initializer[:]
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    whole = proto.SerializeToString() + wire.open_graph(len(graph) + len(data)) + graph + data
    assert onnx.ModelProto.FromString(whole) == build.mlp()
