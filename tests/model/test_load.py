"""Opening models from every kind of source, with the weights left where they are."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from model import build
from onnx import TensorProto
from onnx import helper as h

import workbench as wb
from workbench.model.info import BITS, DTYPES, TensorInfo, nbytes
from workbench.model.weights import FileTensor


def rss() -> int:
    """Bytes of memory that this process holds itself (without file pages)."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def weight(m: wb.Model, name: str) -> ir.TensorProtocol:
    tensor = m.ir.graph.initializers[name].const_value
    assert tensor is not None
    return tensor


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "mlp.onnx"
    path.write_bytes(build.mlp().SerializeToString())
    return path


def test_sources_give_the_same_model(saved: Path) -> None:
    proto = build.mlp()
    models = [
        wb.load(saved),
        wb.load(str(saved)),
        wb.load(saved.read_bytes()),
        wb.load(bytearray(saved.read_bytes())),
        wb.load(proto),
        wb.load(ir.from_proto(proto)),
    ]
    assert len({m.fingerprint for m in models}) == 1
    assert {wb.load(m.to_proto()).fingerprint for m in models} == {models[0].fingerprint}
    assert [m.name for m in models] == ["mlp", "mlp", "g", "g", "g", "g"]
    assert models[0].path == saved and models[2].path is None
    assert wb.load(models[0]) is models[0]


def test_a_proto_can_be_changed_after_loading() -> None:
    proto = build.mlp()
    m = wb.load(proto)
    before = m.fingerprint
    proto.graph.node[0].op_type = "Nonsense"
    proto.graph.initializer[0].raw_data = b""
    assert m.to_proto().graph.node[0].op_type == "Gemm" and wb.load(m.to_proto()).fingerprint == before


def test_inputs_and_outputs(saved: Path) -> None:
    m = wb.load(saved)
    assert m.inputs == (TensorInfo("x", "float32", ("batch", 64)),)
    assert m.outputs == (TensorInfo("y", "float32", ("batch", 8)),)
    assert str(m.inputs[0]) == "x: float32[batch, 64]"
    assert not m.inputs[0].concrete and m.inputs[0].bytes is None
    assert repr(m) == "<Model 'mlp': 3 nodes, x: float32[batch, 64] -> y: float32[batch, 8]>"


def test_an_input_with_a_default_need_not_be_fed(real_model) -> None:
    proto = build.mlp()
    proto.graph.input.append(build.value("w1", [32, 64]))
    assert [i.name for i in wb.load(proto).inputs] == ["x"]
    assert [i.name for i in wb.load(real_model("light_resnet50")).inputs] == ["gpu_0/data_0"]


def test_types_of_inputs() -> None:
    sequence = h.make_tensor_sequence_value_info("s", TensorProto.INT64, None)
    optional = h.make_value_info(
        "o", h.make_optional_type_proto(h.make_tensor_type_proto(TensorProto.BOOL, []))
    )
    unknown = onnx.ValueInfoProto(name="u")
    plain = [
        build.value("a", None),
        build.value("b", [-1, None, "n"], TensorProto.BFLOAT16),
        build.value("c", [], TensorProto.STRING),
        build.value("d", [2], TensorProto.FLOAT8E4M3FN),
    ]
    m = wb.load(
        build.model([h.make_node("Identity", ["a"], ["y"])], [*plain, sequence, optional, unknown], [])
    )
    assert [(i.name, i.dtype, i.shape) for i in m.inputs] == [
        ("a", "float32", None),
        ("b", "bfloat16", (None, None, "n")),
        ("c", "string", ()),
        ("d", "float8_e4m3fn", (2,)),
        ("s", "sequence(int64)", None),
        ("o", "optional(bool)", None),
        ("u", "", None),
    ]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != TensorProto.STRING], ids=lambda d: DTYPES[d])
@pytest.mark.parametrize("form", ["raw", "typed"])
def test_every_type_of_weight(tmp_path: Path, dtype: int, form: str) -> None:
    """Raw or typed, small or large (read from the file): the values are those that onnx reads."""
    for count in (12, 4000):
        bits = BITS[DTYPES[dtype]]
        data = np.random.default_rng(0).integers(0, 256, nbytes(DTYPES[dtype], (count,)), dtype=np.uint8)
        data = data & 1 if dtype == TensorProto.BOOL else data & 0x3F | 0x20  # no NaN, nothing tiny
        tensor = TensorProto(name="w", data_type=dtype, dims=[count], raw_data=data.tobytes())
        if form == "typed":
            values = onnx.numpy_helper.to_array(tensor)
            tensor = h.make_tensor("w", dtype, [count], values.tolist() if bits >= 32 else values)
        path = tmp_path / "w.onnx"
        proto = build.model(
            [h.make_node("Identity", ["w"], ["y"])], [], [build.value("y", None, dtype)], [tensor]
        )
        path.write_bytes(proto.SerializeToString())
        for m in (wb.load(path), wb.load(path.read_bytes())):
            assert weight(m, "w").tobytes() == data.tobytes()
            again = onnx.numpy_helper.to_array(m.to_proto().graph.initializer[0])
            assert again.tobytes() == onnx.numpy_helper.to_array(tensor).tobytes()


def test_strings() -> None:
    node = h.make_node("Constant", [], ["c"], value=h.make_tensor("c", TensorProto.STRING, [2], ["ä", "b"]))
    held = h.make_tensor("w", TensorProto.STRING, [1], ["x" * 2000])
    nodes = [node, h.make_node("Identity", ["w"], ["y"])]
    proto = build.model(nodes, [], [build.value(n, None, TensorProto.STRING) for n in ("c", "y")], [held])
    m = wb.load(proto)
    assert [w.dtype for w in m.summary().weights] == ["string"]
    assert m.to_proto().graph.initializer[0].string_data == [b"x" * 2000]
    assert wb.load(m.to_proto()).fingerprint == m.fingerprint


def test_weights_in_the_file_are_mapped_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    size = 64 << 20
    big = TensorProto(name="w", data_type=1, dims=[size // 4], raw_data=bytes(size))
    constant = h.make_node(
        "Constant", [], ["c"], value=TensorProto(data_type=1, dims=[size // 4], raw_data=bytes(size))
    )
    add = h.make_node("Add", ["w", "c"], ["y"])
    path.write_bytes(build.model([constant, add], [], [build.value("y", None)], [big]).SerializeToString())
    del big, constant
    gc.collect()
    before = rss()
    m = wb.load(path)
    assert m.bytes == 2 * size and m.summary().bytes == 2 * size
    assert weight(m, "w").numpy().sum() == 0 and m.fingerprint
    saved = m.save(tmp_path / "saved.onnx")
    assert saved.stat().st_size > 2 * size
    assert rss() - before < size, "the weights were copied"


def test_five_gigabytes_open_at_once(tmp_path: Path) -> None:
    count, each = 50, 100_000_000
    nodes = [h.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(count)]
    weights = []
    for i in range(count):
        tensor = TensorProto(name=f"w{i}", data_type=1, dims=[5000, 5000], data_location=TensorProto.EXTERNAL)
        for key, text in (("location", "big.data"), ("offset", str(i * each)), ("length", str(each))):
            tensor.external_data.add(key=key, value=text)
        weights.append(tensor)
    proto = build.model(
        nodes, [build.value("x0", ["n", 5000])], [build.value(f"x{count}", ["n", 5000])], weights
    )
    path = tmp_path / "big.onnx"
    path.write_bytes(proto.SerializeToString())
    (tmp_path / "big.data").touch()
    os.truncate(tmp_path / "big.data", count * each)  # a sparse file: takes no room
    before, start = rss(), time.perf_counter()
    m = wb.load(path)
    assert m.inputs[0].shape == ("n", 5000)
    assert time.perf_counter() - start < 1.0
    assert m.bytes == 5_000_000_000 and m.parameters == 1_250_000_000
    assert m.summary({"n": 2}).macs == count * 2 * 5000 * 5000
    assert len(m.to_proto().SerializeToString()) < 20_000
    assert weight(m, "w49").numpy()[4999, 4999] == 0
    copy = m.save(tmp_path / "copy.onnx")
    assert copy.stat().st_size < 20_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.data", "big.onnx", "copy.onnx"]
    assert rss() - before < 60 << 20


def test_one_map_serves_all_tensors(tmp_path: Path) -> None:
    names = [f"w{i}" for i in range(600)]
    nodes = [h.make_node("Sum", names, ["y"])]
    proto = build.model(nodes, [], [build.value("y", None)], [build.array(n, 300) for n in names])
    m = wb.load(build.save_external(proto, tmp_path / "m.onnx"))
    before = len(os.listdir("/proc/self/fd"))
    assert all(weight(m, name).numpy().shape == (300,) for name in names)
    assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_a_view_is_read_only(saved: Path) -> None:
    array = weight(wb.load(saved), "w1").numpy()
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_a_replaced_file_is_still_read(saved: Path) -> None:
    """What is mapped stays what it was, whatever takes its name."""
    m = wb.load(saved)
    expected = onnx.numpy_helper.to_array(build.mlp().graph.initializer[0])
    other = saved.with_name("other")
    other.write_bytes(bytes(saved.stat().st_size))
    os.replace(other, saved)
    assert np.array_equal(weight(m, "w1").numpy(), expected)
    m.save(saved)
    assert np.array_equal(weight(m, "w1").numpy(), expected)
    assert wb.load(saved).fingerprint == m.fingerprint


def test_a_file_changed_in_place_is_refused(saved: Path) -> None:
    m = wb.load(saved)
    with saved.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(bytes(50))
    for use in (
        lambda: weight(m, "w1").numpy(),
        lambda: weight(m, "w1").tobytes(),
        m.to_proto,
        lambda: m.fingerprint,
    ):
        with pytest.raises(
            wb.errors.ModelError, match="mlp.onnx: the file was changed in place since the model was"
        ):
            use()


@pytest.mark.parametrize("read_first", [False, True])
def test_changed_external_data_is_refused(tmp_path: Path, read_first: bool) -> None:
    m = wb.load(build.save_external(build.mlp(), tmp_path / "m.onnx"))
    data = tmp_path / "model.data"
    if read_first:
        assert m.to_proto() is not None and weight(m, "w1").numpy().shape == (32, 64)
    other = tmp_path / "other"
    other.write_bytes(bytes(data.stat().st_size))
    os.replace(other, data)
    with pytest.raises(
        wb.errors.ModelError, match="model.data: the file was replaced or changed since the model was"
    ):
        m.to_proto()
    if read_first:  # the map is of the old file
        assert np.array_equal(
            weight(m, "w1").numpy(), onnx.numpy_helper.to_array(build.mlp().graph.initializer[0])
        )
    else:
        with pytest.raises(wb.errors.ModelError, match="load the model again"):
            weight(m, "w1").numpy()
    data.unlink()
    with pytest.raises(
        wb.errors.ModelError, match=r"cannot be opened any more \(No such file or directory\)"
    ):
        m.to_proto()


def test_a_file_that_became_shorter_is_refused(tmp_path: Path) -> None:
    m = wb.load(build.save_external(build.mlp(), tmp_path / "m.onnx"))
    tensor = weight(m, "w1")
    assert isinstance(tensor, FileTensor) and tensor.numpy().any()
    os.truncate(tmp_path / "model.data", 100)
    with pytest.raises(wb.errors.ModelError, match="was changed in place since the model was loaded"):
        tensor.numpy()


def test_an_empty_graph(tmp_path: Path) -> None:
    proto = onnx.ModelProto(ir_version=9, opset_import=[h.make_opsetid("", 17)])
    proto.graph.SetInParent()
    m = wb.load(proto)
    assert (
        wb.load(m.to_proto()).fingerprint == wb.load(m.save(tmp_path / "m.onnx")).fingerprint == m.fingerprint
    )
    assert m.macs == 0 and len(m.nodes) == 0 and len(m.tensors) == 0
    assert m.summary().findings == ("onnx's checker: Field 'name' of 'graph' is required to be non-empty.",)


def test_other_types_are_refused() -> None:
    with pytest.raises(
        wb.errors.ModelError, match="cannot load int; expected a path, bytes, onnx.ModelProto"
    ):
        wb.load(3)


def test_nothing_beside_the_weights_is_lost() -> None:
    """Documentation, metadata and quantization annotations, of weights in every form."""
    proto = build.mlp()
    proto.doc_string, proto.model_version, proto.domain = "a model", 7, "org.x"
    proto.metadata_props.add(key="author", value="me")
    proto.graph.metadata_props.add(key="g", value="1")
    proto.graph.doc_string = "a graph"
    for node in proto.graph.node:
        node.doc_string = "a node"
        node.metadata_props.add(key="n", value="2")
    for tensor in proto.graph.initializer:
        tensor.doc_string = "a weight"
        tensor.metadata_props.add(key="w", value="3")
    proto.graph.quantization_annotation.add(tensor_name="h").quant_parameter_tensor_names.add(
        key="SCALE", value="s"
    )
    proto.graph.value_info.append(build.value("h", ["batch", 32]))
    made = wb.load(proto).to_proto()
    names = [node.name for node in made.graph.node]
    for node in made.graph.node:
        node.ClearField("name")
    kept = [
        info for info in made.graph.value_info if info.name == "h"
    ]  # onnx_ir adds the types of the weights
    del made.graph.value_info[:]
    made.graph.value_info.extend(kept)
    assert made == proto and names == ["Gemm_h", "Relu_r", "MatMul_y"]


@pytest.mark.parametrize(
    "name", ["ppocr_cls", "silero_vad", "style_predict", "light_densenet121", "residual_block"]
)
def test_real_models_go_round(real_model, name: str) -> None:
    """Through a proto and back nothing changes; node for node, weight for weight."""
    path = real_model(name)
    m, proto = wb.load(path), onnx.load(path)
    made = m.to_proto()
    assert [n.op_type for n in made.graph.node] == [n.op_type for n in proto.graph.node]
    assert [list(n.output) for n in made.graph.node] == [list(n.output) for n in proto.graph.node]
    for mine, theirs in zip(made.graph.initializer, proto.graph.initializer, strict=True):
        assert mine.name == theirs.name
        assert np.array_equal(onnx.numpy_helper.to_array(mine), onnx.numpy_helper.to_array(theirs))
    assert list(made.graph.input) == list(proto.graph.input)
    assert wb.load(made).fingerprint == m.fingerprint
