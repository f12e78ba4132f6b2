"""What cannot be used as a model is refused at once, with a message that says what is wrong."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from model import build
from onnx import ModelProto
from onnx import helper as h

import workbench as wb
from workbench.errors import ModelError


def a_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", "x")
    return out.getvalue()


def an_npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.ones(3))
    return out.getvalue()


FILES = {
    b"\x89PNG\r\n\x1a\n" + bytes(50): "it looks like a PNG picture",
    b"hello, world\nthis is text": "it looks like text that begins with 'hello, world'",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:x": "it looks like a Git LFS pointer, not the file itself",
    b"<!DOCTYPE html><html>": "it looks like a web page (a download that needs a login?)",
    a_zip(): "it looks like a zip archive (a PyTorch checkpoint .pt, an .npz or a packed model); unpack or export it",
    an_npy(): "it looks like a NumPy array (.npy)",
    b"\x10\x00\x00\x00\x00\x00\x00\x00"
    + b'{"a":{"dtype":1}': "it looks like a safetensors file, which holds weights only",
    b"\x1c\x00\x00\x00TFL3" + bytes(40): "it looks like a TensorFlow Lite model",
    b"GGUF\x03\x00\x00\x00" + bytes(40): "it looks like a GGUF model (llama.cpp)",
    bytes(100): "it begins with zeros; the copy or download was not completed",
    b"\x80\x04\x95": "it looks like a Python pickle",
    b"\xff": "its bytes cannot be decoded; it may be cut off",
    b"\n\n text": "it looks like text that begins with 'text'",
    b"\xff\xff\xff\xff\xff": "its bytes cannot be decoded; it may be cut off or damaged, copy or export it again",
}


@pytest.mark.parametrize("data", FILES, ids=lambda data: FILES[data][:30])
def test_other_files_are_recognised(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(
        ModelError, match=f"^cannot load {path}: it is no ONNX model.*{re.escape(FILES[data])}"
    ):
        wb.load(path)


def test_no_file(tmp_path: Path) -> None:
    (tmp_path / "resnet50.onnx").touch()
    with pytest.raises(ModelError, match=r"there is no file .*resnet5.onnx; in .* there is resnet50.onnx$"):
        wb.load(tmp_path / "resnet5.onnx")
    with pytest.raises(ModelError, match=r"there is no file .*x.onnx \(nor a folder .*none\)$"):
        wb.load(tmp_path / "none" / "x.onnx")
    with pytest.raises(ModelError, match=r"is a folder; expected a file; in .* there is resnet50.onnx$"):
        wb.load(tmp_path)
    with pytest.raises(ModelError, match=r"cannot load .*resnet50.onnx: the file is empty \(0 bytes\)"):
        wb.load(tmp_path / "resnet50.onnx")
    with pytest.raises(ModelError, match="/dev/zero is no regular file"):
        wb.load("/dev/zero")
    with pytest.raises(ModelError, match="there are no bytes; expected an encoded ONNX model"):
        wb.load(b"")


def test_every_truncation_is_refused_or_sound(tmp_path: Path) -> None:
    data = build.mlp().SerializeToString()
    path = tmp_path / "m.onnx"
    refused = 0
    for length in range(1, len(data), 37):
        path.write_bytes(data[:length])
        try:
            wb.load(path).summary()
        except ModelError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 0.9 * len(data) / 37


def future(proto: ModelProto) -> None:
    proto.ir_version = onnx.IR_VERSION + 1


def no_version(proto: ModelProto) -> None:
    proto.ClearField("ir_version")


def odd_opset(proto: ModelProto) -> None:
    proto.opset_import[0].version = 1 << 40


def missing(proto: ModelProto) -> None:
    proto.graph.node[1].input[0] = "nowhere"


def cycle(proto: ModelProto) -> None:
    proto.graph.node[0].input[0] = "r"


def self_loop(proto: ModelProto) -> None:
    proto.graph.node[1].input[0] = "r"


def twice(proto: ModelProto) -> None:
    proto.graph.node[1].output[0] = "h"


def hidden(proto: ModelProto) -> None:
    proto.graph.node[1].output[0] = "w1"


def two_weights(proto: ModelProto) -> None:
    proto.graph.initializer[1].name = "w1"


def two_inputs(proto: ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


def nameless(proto: ModelProto) -> None:
    proto.graph.initializer[1].name = ""


def unmade(proto: ModelProto) -> None:
    proto.graph.output[0].name = "other"


def dims(*values: int) -> Callable[[ModelProto], None]:
    def change(proto: ModelProto) -> None:
        del proto.graph.initializer[0].dims[:]
        proto.graph.initializer[0].dims.extend(values)

    change.__name__ = f"dims{values}"
    return change


def short(proto: ModelProto) -> None:
    proto.graph.initializer[1].raw_data = bytes(4)


def unknown_type(proto: ModelProto) -> None:
    proto.graph.initializer[1].data_type = 99


def no_data(proto: ModelProto) -> None:
    proto.graph.initializer[1].ClearField("raw_data")


def sparse(proto: ModelProto) -> None:
    proto.graph.sparse_initializer.add().values.name = "s"


def training(proto: ModelProto) -> None:
    proto.training_info.add().algorithm.name = "sgd"


def attribute_twice(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.append(proto.graph.node[0].attribute[0])


def no_value(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.add(name="empty")


def no_tensor(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.add(name="empty", type=onnx.AttributeProto.TENSOR)


def no_body(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.add(name="empty", type=onnx.AttributeProto.GRAPH)


def two_functions(proto: ModelProto) -> None:
    function = h.make_function(
        "d", "f", ["a"], ["b"], [h.make_node("Relu", ["a"], ["b"])], [h.make_opsetid("", 17)]
    )
    proto.functions.extend([function, function])


def bad_function(proto: ModelProto) -> None:
    function = h.make_function(
        "d", "f", ["a"], ["b"], [h.make_node("Relu", ["q"], ["b"])], [h.make_opsetid("", 17)]
    )
    proto.functions.append(function)


UNSOUND = [
    (future, f"it has ONNX IR version {onnx.IR_VERSION + 1}; onnx {onnx.__version__} knows versions up to"),
    (no_version, "it has ONNX IR version 0; expected 1 to"),
    (odd_opset, "it has version 1099511627776 of opset 'ai.onnx'; it is damaged"),
    (missing, "the Relu node that makes 'r' reads the tensor 'nowhere', which nothing in the model makes"),
    (cycle, "the graph has a cycle: the Gemm node that makes 'h' -> the Relu node that makes 'r' -> the Gemm node"),
    (self_loop, "the graph has a cycle: the Relu node that makes 'r' -> the Relu node that makes 'r'"),
    (twice, "the name 'h' is used twice: for an output of the Gemm node that makes 'h' and for an output of the Relu"),
    (hidden, "the name 'w1' is used twice: for an initializer and for an output of the Relu node that makes 'w1'"),
    (two_weights, "the name 'w1' is used twice: for an initializer and for an initializer"),
    (two_inputs, "the name 'x' is used twice: for a graph input and for a graph input"),
    (nameless, "initializer number 1 has no name"),
    (unmade, "graph output 'other' is made by no node"),
    (dims(32, -64), "initializer 'w1' has a negative dim: [32, -64]"),
    (dims(1 << 60), "initializer 'w1' has the impossible shape [1152921504606846976]"),
    (dims(0, 1 << 60, 1 << 60), "initializer 'w1' has the impossible shape [0, "),
    (dims(64, 64), "tensor 'w1' float32[64, 64]: the file holds 8192 bytes of it, its shape needs 16384"),
    (short, "initializer 'b1' float32[32] holds 4 bytes, its shape needs 128; it is damaged"),
    (unknown_type, f"initializer 'b1' has the data type number 99, which onnx {onnx.__version__} lacks"),
    (no_data, "initializer 'b1' float32[32] holds 0 values (float_data), its shape needs 32"),
    (sparse, "initializer 's' is a sparse tensor, which Workbench cannot hold; store it as a dense one"),
    (training, "it holds training information, which Workbench would lose; export it for inference"),
    (attribute_twice, "the Gemm node that makes 'h' has an attribute twice"),
    (no_value, "attribute 'empty' at Gemm has no value"),
    (no_tensor, "attribute 'empty' at Gemm has no value"),
    (no_body, "attribute 'empty' at Gemm has no value"),
    (two_functions, "the model-local function d::f is defined twice"),
    (bad_function, "the Relu node that makes 'b' in the function d::f reads the tensor 'q', which nothing in"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), UNSOUND, ids=[change.__name__ for change, _ in UNSOUND])
def test_unsound_models_are_refused(change: Callable[[ModelProto], None], message: str) -> None:
    proto = build.mlp()
    change(proto)
    with pytest.raises(ModelError, match=f"^cannot load the model: {re.escape(message)}"):
        wb.load(proto.SerializeToString())


def test_unsound_bodies_are_refused() -> None:
    proto = build.branches()
    body = next(a.g for a in proto.graph.node[0].attribute if a.name == "else_branch")
    body.node[1].input[0] = "nowhere"
    with pytest.raises(
        ModelError, match="the Relu node that makes 'z' in the body If.else_branch reads the tensor"
    ):
        wb.load(proto)


def test_a_cycle_through_a_body_is_found() -> None:
    proto = build.branches()
    body = next(a.g for a in proto.graph.node[0].attribute if a.name == "else_branch")
    body.node[0].input[0] = "y"
    with pytest.raises(
        ModelError, match="the graph has a cycle: the If node that makes 'y' -> the If node that makes"
    ):
        wb.load(proto)


def test_nodes_out_of_order_are_sorted() -> None:
    proto = build.mlp()
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    assert [n.op_type for n in proto.graph.node] == ["MatMul", "Relu", "Gemm"]
    assert [n.op_type for n in wb.load(proto).to_proto().graph.node] == ["Gemm", "Relu", "MatMul"]
    assert wb.load(proto).fingerprint == wb.load(build.mlp()).fingerprint


def test_an_attribute_without_type_gets_it() -> None:
    """As ONNX files of IR version 1 have them."""
    node = h.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5, transB=1)
    for attribute in node.attribute:
        attribute.ClearField("type")
    m = wb.load(
        build.model([node], [build.value("x", [2, 4])], [build.value("y", [2, 3])], [build.array("w", 3, 4)])
    )
    kept = {a.name: h.get_attribute_value(a) for a in m.to_proto().graph.node[0].attribute}
    assert kept == {"alpha": 0.5, "transB": 1}


def test_impossible_dims_of_activations_allocate_nothing() -> None:
    huge = [1 << 60, 1 << 60]
    nodes = [
        h.make_node("MatMul", ["x", "x"], ["y"]),
        h.make_node("Shape", ["x"], ["s"]),
        h.make_node("ConstantOfShape", ["s"], ["z"]),
        h.make_node("Expand", ["y", "s"], ["e"]),
    ]
    m = wb.load(
        build.model(nodes, [build.value("x", huge)], [build.value("z", None), build.value("e", None)])
    )
    assert m.summary().macs == 1 << 180
    assert m.nodes.macs.isna().tolist() == [True, False, False, False]
    assert m.tensors["shape"]["e"] == (1 << 60, 1 << 60)


def test_functions_that_unfold_without_end_are_not_followed() -> None:
    """Each calls the next twice: 2^40 nodes when unfolded."""
    functions = [
        h.make_function(
            "d", f"f{i}", ["a"], ["c"],
            [h.make_node(f"f{i + 1}", ["a"], ["b"], domain="d"), h.make_node(f"f{i + 1}", ["b"], ["c"], domain="d")],
            [h.make_opsetid("", 17), h.make_opsetid("d", 1)],
        )
        for i in range(40)
    ]  # fmt: skip
    functions.append(
        h.make_function(
            "d", "f40", ["a"], ["c"], [h.make_node("Relu", ["a"], ["c"])], [h.make_opsetid("", 17)]
        )
    )
    nodes = [h.make_node("f0", ["x"], ["y"], domain="d", name="all")]
    proto = build.model(
        nodes, [build.value("x")], [build.value("y", None)], functions=functions, domains=[("d", 1)]
    )
    summary = wb.load(proto).summary()
    assert summary.uncounted == ("all",) and summary.nodes == 82


def test_a_function_that_calls_itself_ends() -> None:
    call = h.make_node("f", ["a"], ["b"], domain="d")
    function = h.make_function("d", "f", ["a"], ["b"], [call], [h.make_opsetid("d", 1)])
    nodes = [h.make_node("f", ["x"], ["y"], domain="d", name="call")]
    proto = build.model(
        nodes, [build.value("x")], [build.value("y")], functions=[function], domains=[("d", 1)]
    )
    assert wb.load(proto).summary().uncounted == ("call",)


def test_deep_nesting_is_refused() -> None:
    """An If in an If in an If ..., 200 deep: more than protobuf follows."""

    def field(number: int, data: bytes) -> bytes:
        length = len(data)
        return bytes([number << 3 | 2, length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]) + data

    graph = b""
    for _ in range(200):
        graph = field(
            1, field(4, b"If") + field(5, field(1, b"then_branch") + b"\xa0\x01\x05" + field(6, graph))
        )
    with pytest.raises(ModelError, match="it is no ONNX model, or a damaged one"):
        wb.load(b"\x08\x08" + field(7, graph))
