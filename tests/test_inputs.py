"""Input data: generated values and sizes are right for every real model, given data is read and checked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from real_models import ALL_MODELS, LIGHT_MODELS, find

import workbench as wb
from workbench.errors import InputError
from workbench.inputs import feeds, load
from workbench.inputs.walk import Walk

PICTURE = (0.0, 1.0)
NORMAL = (-6.0, 6.0)

# model -> input -> (dtype, shape, smallest and largest value allowed)
GENERATED = {
    "ppocr_det": {"x": ("float32", (1, 3, 256, 256), PICTURE)},
    "ppocr_rec": {"x": ("float32", (1, 3, 48, 256), PICTURE)},
    "ppocr_cls": {"x": ("float32", (1, 3, 256, 256), PICTURE)},
    "silero_vad": {
        "input": ("float32", (1, 512), NORMAL),
        "state": ("float32", (2, 1, 128), NORMAL),
        "sr": ("int64", (), (16000, 16000)),
    },
    "silero_vad_16k_op15": {
        "input": ("float32", (1, 512), NORMAL),
        "state": ("float32", (2, 1, 128), NORMAL),
        "sr": ("int64", (), (16000, 16000)),
    },
    "silero_vad_16k_sequence": {
        "input": ("float32", (16, 576), NORMAL),
        "h": ("float32", (1, 1, 128), NORMAL),
        "c": ("float32", (1, 1, 128), NORMAL),
    },
    "silero_vad_half": {"input": ("float32", (1, 512), NORMAL), "state": ("float32", (2, 1, 128), NORMAL)},
    "silero_vad_ifless": {
        "input": ("float32", (1, 512), NORMAL),
        "sr": ("int64", (), (16000, 16000)),
        "state": ("float32", (2, 1, 128), NORMAL),
    },
    "silero_vad_openvino": {
        "input": ("float32", (1, 576), NORMAL),
        "state": ("float32", (2, 1, 128), NORMAL),
    },
    "minilm_int8": {
        "input_ids": ("int64", (1, 16), (0, 30521)),
        "attention_mask": ("int64", (1, 16), (1, 1)),
        "token_type_ids": ("int64", (1, 16), (0, 0)),
    },
    "style_predict": {"style_image": ("float32", (1, 256, 256, 3), PICTURE)},
    "style_transform": {
        "content_image": ("float32", (1, 384, 384, 3), PICTURE),
        "mobilenet_conv/Conv/BiasAdd": ("float32", (1, 1, 1, 100), NORMAL),
    },
    "style_multi": {
        "image": ("float32", (1, 3, 256, 256), PICTURE),
        "style_weights": ("float32", (26,), NORMAL),
    },
    "mtcnn_pnet": {"input_1": ("float32", (1, 256, 256, 3), PICTURE)},
    "mtcnn_rnet": {"input_2": ("float32", (1, 24, 24, 3), PICTURE)},
    "mtcnn_onet": {"input_3": ("float32", (1, 48, 48, 3), PICTURE)},
    "magika": {"bytes": ("int32", (1, 2048), (0, 256))},
    "loop": {"input_0": ("int32", (1,), (5, 5))},
    "needs_constraints": {"x": ("float32", (1, 1, 256, 256), PICTURE)},
    "residual_block": {"gpu_0/data_0": ("float32", (1, 3, 224, 224), PICTURE)},
}


def model(graph: str, opset: int = 18, **tensors: np.ndarray) -> wb.Model:
    """A model from ONNX's textual form; ``tensors`` become initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {graph}')
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()
    )
    return wb.load(proto)


def first(graph: str | wb.Model, inputs=None, shapes=None, **tensors: np.ndarray) -> dict[str, np.ndarray]:
    loaded = model(graph, **tensors) if isinstance(graph, str) else graph
    return next(iter(feeds(loaded, inputs, shapes=shapes)))


def refusal(graph: str | wb.Model, inputs=None, shapes=None, **tensors: np.ndarray) -> str:
    with pytest.raises(InputError) as caught:
        first(graph, inputs, shapes, **tensors)
    return str(caught.value)


@pytest.fixture(scope="module")
def pair() -> wb.Model:
    """Two inputs: ids [batch, 4] of int64 and x [batch, 3] of float32."""
    return model(
        """g (int64[batch, 4] ids, float[batch, 3] x) => (float y, float z) {
        y = Gather(table, ids) z = Neg(x) }""",
        table=np.zeros((7, 2), np.float32),
    )


@pytest.fixture(scope="module")
def single() -> wb.Model:
    return model("g (float[batch, 3] x) => (float[batch, 3] y) { y = Neg(x) }")


# --- real models


@pytest.mark.parametrize("name", ALL_MODELS)
def test_generated_inputs_run_on_every_real_model(name):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = find(name)
    loaded = wb.load(path)
    item = next(iter(feeds(loaded)))
    if name in LIGHT_MODELS:
        expected = {loaded.inputs[0].name: ("float32", (1, 3, 224, 224), PICTURE)}
    else:
        expected = GENERATED[name]
    assert {key: (value.dtype.name, value.shape) for key, value in item.items()} == {
        key: (dtype, shape) for key, (dtype, shape, _) in expected.items()
    }
    for key, (_, _, (low, high)) in expected.items():
        assert low <= item[key].min() and item[key].max() <= high, key
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    outputs = onnxruntime.InferenceSession(str(path), options).run(None, item)
    assert all(np.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize("length", [16, 180, 192, 512, 704, 720, 1024])
def test_the_walk_accepts_the_lengths_that_the_runtime_accepts(length):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = find("silero_vad")
    feed = {
        "input": np.zeros((1, length), np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    walk = Walk(onnx.load(path), {name: value.shape for name, value in feed.items()}, {"sr": feed["sr"]})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    try:
        shapes = [output.shape for output in session.run(None, feed)]
    except Exception:
        shapes = None
    assert (walk.refused is None) == (shapes is not None)
    if shapes is not None:
        assert [walk.shape("output"), walk.shape("stateN")] == shapes


def test_a_given_scalar_chooses_the_branch_whose_sizes_count():
    loaded = wb.load(find("silero_vad"))
    item = first(loaded, {"sr": 8000, "input": None, "state": None})
    assert item["input"].shape == (1, 256)  # 512 is refused by the branch for 8 kHz
    assert item["sr"] == 8000


def test_given_arrays_fix_the_sizes_of_generated_ones():
    loaded = wb.load(find("silero_vad"))
    item = first(loaded, {"sr": 8000, "input": None, "state": np.zeros((2, 4, 128))})
    assert item["input"].shape == (4, 256)


# --- generated values


def test_indices_stay_inside_the_smallest_table_that_they_index():
    graph = """g (int64[1, 500] ids) => (float a, float b) {
        flat = Reshape(ids, minus_one) narrow = Cast<to = 6>(flat)
        a = Gather(wide, narrow) b = Gather<axis = 1>(small, ids) }"""
    wide, small, minus_one = np.zeros((100, 2), np.float32), np.zeros((2, 9), np.float32), np.array([-1])
    ids = first(graph, wide=wide, small=small, minus_one=minus_one)["ids"]
    assert (ids.min(), ids.max()) == (0, 8)


def test_an_index_with_an_offset_stays_inside_its_table():
    graph = "g (int64[500] ids) => (float a) { shifted = Add(ids, two) a = Gather(table, shifted) }"
    ids = first(graph, table=np.zeros((10, 2), np.float32), two=np.array(2))["ids"]
    assert (ids.min(), ids.max()) == (0, 7)
    graph = "g (int64[500] ids) => (float a) { shifted = Sub(ids, two) a = Gather(table, shifted) }"
    ids = first(graph, table=np.zeros((10, 2), np.float32), two=np.array(2))["ids"]
    assert (ids.min(), ids.max()) == (2, 11)


@pytest.mark.parametrize(
    ("body", "largest"),
    [
        ("y = GatherElements<axis = 1>(table, ids)", 5),
        ("y = GatherND(table, ids)", 3),
        ("y = OneHot(ids, depth, values)", 10),
        ("y = ScatterElements<axis = 1>(table, ids, updates)", 5),
        ("t = Relu(table) y = Gather<axis = 1>(t, ids)", 5),  # a table that is computed
    ],
)
def test_operators_that_index(body, largest):
    ids = first(
        f"g (int64[4, 2] ids) => (float y) {{ {body} }}",
        table=np.zeros((4, 6), np.float32),
        depth=np.array(11),
        values=np.zeros(2, np.float32),
        updates=np.zeros((4, 2), np.float32),
    )["ids"]
    assert ids.min() >= 0 and ids.max() <= largest


def test_indices_inside_branches_loops_and_functions():
    branches = """g (bool flag, int64[300] ids) => (float y) {
        y = If(flag) <then_branch = t () => (float p) { p = Gather(table, ids) },
                      else_branch = e () => (float q) { q = Gather(table, ids) }> }"""
    assert first(branches, table=np.zeros((5, 2), np.float32))["ids"].max() == 4

    loop = """g (int64[300] ids) => (int64[300] y) {
        y = Loop(turns, , ids) <body = b (int64 i, bool c, int64[300] v) => (bool d, int64[300] w) {
            d = Identity(c) w = Gather(table, v) }> }"""
    assert first(loop, table=np.zeros(6, np.int64), turns=np.array(2))["ids"].max() == 5

    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 18, "my" : 1]>
        g (int64[300] ids) => (float y) { y = my.lookup(table, ids) }
        <domain: "my", opset_import: ["" : 18]> lookup (table, ids) => (y) { y = Gather(table, ids) }"""
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((8, 20000), np.float32), "table"))
    assert first(wb.load(proto))["ids"].max() == 7
    assert len(proto.graph.initializer[0].raw_data) == 8 * 20000 * 4  # the model given is not changed


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("same = Equal(n, c) y = Cast<to = 1>(same)", 44100),
        ("less = Less(n, c) y = Cast<to = 1>(less)", 22050),
        ("more = Greater(n, c) y = Cast<to = 1>(more)", 44101),
        ("more = Less(c, n) y = Cast<to = 1>(more)", 44101),
        ("as_float = Cast<to = 1>(n) flag = Equal(as_float, f) y = Cast<to = 1>(flag)", 7),
    ],
)
def test_a_scalar_that_is_compared_with_a_constant(body, value):
    item = first(f"g (int64 n) => (float y) {{ {body} }}", c=np.array(44100), f=np.array(7, np.float32))
    assert item["n"] == value and item["n"].shape == ()


def test_the_turns_of_a_loop_are_few():
    graph = """g (int64 turns, float[2] x) => (float[2] y) {
        y = Loop(turns, , x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w) {
            d = Identity(c) w = Neg(v) }> }"""
    assert first(graph)["turns"] == 3


def test_a_scalar_that_nothing_tells_is_asked_for_by_name():
    graph = "g (int64 level, float[2] x) => (int64 y, float[2] z) { y = Neg(level) z = Neg(x) }"
    assert re.sub("for .*?: no", "for M: no", refusal(graph)) == (
        "cannot make inputs for M: no value can be derived for the single integer level: int64[]; "
        "give it, for example inputs={'level': 1, 'x': None} (None: let it be generated)"
    )
    scaled = "g (int64 level, int64[2] x) => (int64 y) { y = Mul(level, x) }"  # not a mask: a single number
    assert "no value can be derived for the single integer level" in refusal(scaled)
    item = first(graph, {"level": 5, "x": None})
    assert item["level"] == 5 and item["level"].dtype == np.int64 and item["x"].shape == (2,)


def test_inputs_that_would_fill_the_memory_are_not_made(single):
    message = refusal(single, shapes={"batch": 1 << 40})
    assert message.endswith(
        "input 'x' of shape [1099511627776, 3] would take 1.3e+13 bytes, more than 1.1e+09; "
        "give the data, or other sizes in shapes="
    )


def test_a_sampling_rate_is_known_by_its_name():
    assert first("g (int64 sample_rate) => (int64 y) { y = Neg(sample_rate) }")["sample_rate"] == 16000


@pytest.mark.parametrize(
    "body",
    [
        "m = Cast<to = 9>(m_in) y = Where(m, x, zero)",
        "f = Cast<to = 1>(m_in) inverse = Sub(one, f) y = Add(x, inverse)",
        "f = Cast<to = 1>(m_in) y = Mul(x, f)",
    ],
)
def test_masks_are_ones_by_use(body):
    graph = f"g (int64[2, 3] m_in, float[2, 3] x) => (float y) {{ {body} }}"
    assert (first(graph, zero=np.float32(0), one=np.float32(1))["m_in"] == 1).all()


def test_masks_positions_segments_and_lengths_by_name():
    item = first(
        """g (int64[2, 5] position_ids, int64[2, 5] segment_ids, float[2, 5] pad_mask, int32[2] lengths,
        bool[3] b)
        => (float p, float s, float m, int32 l, bool c) {
        p = Gather(table, position_ids) s = Gather(table, segment_ids) m = Neg(pad_mask)
        l = Neg(lengths) c = Not(b)
        }""",
        table=np.zeros((3, 2), np.float32),
    )
    assert item["position_ids"].tolist() == [[0, 1, 2, 0, 1]] * 2  # the table has three rows
    assert not item["segment_ids"].any()
    assert (item["pad_mask"] == 1).all() and item["pad_mask"].dtype == np.float32
    assert item["lengths"].tolist() == [5, 5] and item["lengths"].dtype == np.int32
    assert item["b"].all()


def test_lengths_of_a_recurrent_layer_are_the_whole_length():
    graph = """g (float[time, 1, 4] x, int32[1] n) => (float y) { y = GRU<hidden_size = 2>(x, w, r, , n) }"""
    item = first(graph, w=np.zeros((1, 6, 4), np.float32), r=np.zeros((1, 6, 2), np.float32))
    assert item["x"].shape == (16, 1, 4) and item["n"].tolist() == [16]


def test_values_that_are_compared_with_a_table_come_from_it():
    graph = "g (int32[1, 400] n) => (bool y) { c = Unsqueeze(n, last) y = Equal(c, codes) }"
    values = first(graph, last=np.array([-1]), codes=np.array([3, 5, 9], np.int32))["n"]
    assert set(values.ravel().tolist()) == {3, 5, 9}


def test_floats_under_a_logarithm_are_positive():
    assert first("g (float[1000] x) => (float y) { y = Log(x) }")["x"].min() >= 0


@pytest.mark.parametrize(
    ("kind", "name", "low", "high"),
    [
        ("float16", "float16", -6, 6),
        ("bfloat16", "bfloat16", -6, 6),
        ("double", "float64", -6, 6),
        ("float8e4m3fn", "float8_e4m3fn", -6, 6),
        ("int8", "int8", -128, 127),
        ("uint8", "uint8", 0, 255),
        ("int64", "int64", 0, 1),
        ("bool", "bool", 1, 1),
    ],
)
def test_every_dtype(kind, name, low, high):
    value = first(f"g ({kind}[10, 50] x) => ({kind}[10, 50] y) {{ y = Identity(x) }}", opset=19)["x"]
    assert value.dtype.name == name and value.shape == (10, 50)
    wide = value.astype(np.float64)
    assert low <= wide.min() and wide.max() <= high
    assert name == "bool" or len(np.unique(wide)) > 1


def test_strings_are_words():
    words = first("g (string[20] x) => (string[20] y) { y = Identity(x) }")["x"]
    assert words.dtype == object and all(isinstance(word, str) and word for word in words)


def test_the_same_seed_gives_the_same_values_and_items_differ(single):
    def values(seed: int) -> list[np.ndarray]:
        return [item["x"] for item in feeds(single, count=3, seed=seed)]

    assert all(np.array_equal(a, b) for a, b in zip(values(1), values(1), strict=True))
    assert not np.array_equal(values(1)[0], values(1)[1])
    assert not np.array_equal(values(1)[0], values(2)[0])


def test_feeds_know_their_length_and_can_be_run_through_again(single):
    made = feeds(single, count=4)
    assert len(made) == 4
    assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(made, made, strict=True))


def test_what_is_no_tensor_cannot_be_fed():
    graph = "g (seq(float[2]) s) => (int64 n) { n = SequenceLength(s) }"
    assert "input 's' of " in refusal(graph) and "is a sequence(float32); only tensors can be fed" in refusal(
        graph
    )


# --- sizes


def test_symbolic_dims_are_filled_by_name(pair):
    item = first(pair, shapes={"batch": 5})
    assert item["ids"].shape == (5, 4) and item["x"].shape == (5, 3)


def test_a_shape_given_for_an_input_fixes_its_symbols_everywhere(pair):
    assert first(pair, shapes={"x": (2, 3)})["ids"].shape == (2, 4)
    assert first(pair, shapes={"x": (None, 3)})["ids"].shape == (1, 4)


def test_expressions_of_dims_follow():
    graph = """g (float[past, 2] cache, float[steps, 2] x, float["past + steps", 2] all) => (float y) {
        joined = Concat<axis = 0>(cache, x) y = Add(joined, all) }"""
    item = first(graph, shapes={"past": 3, "steps": 4})
    assert item["all"].shape == (7, 2)
    assert first(graph)["all"].shape == (24, 2)


def test_sizes_that_the_graph_requires_are_found():
    item = first(
        "g (float[n, features] x) => (float y) { y = MatMul(x, w) }", w=np.zeros((300, 7), np.float32)
    )
    assert item["x"].shape == (1, 300)
    fixed = first("g (float[n, k] x) => (float y) { y = Reshape(x, s) }", s=np.array([1, 6, 35]))
    assert fixed["x"].shape == (1, 210)
    conv = first(
        "g (float[n, c, h, w] x) => (float y) { y = Conv(x, k) }", k=np.zeros((8, 5, 3, 3), np.float32)
    )
    assert conv["x"].shape[1] == 5
    both = first(
        "g (float[n, a] x, float[m, b] z) => (float y) { p = MatMul(x, u) q = MatMul(z, v) y = Add(p, q) }",
        u=np.zeros((300, 7), np.float32),
        v=np.zeros((111, 7), np.float32),
    )
    assert both["x"].shape == (1, 300) and both["z"].shape == (1, 111)


def test_sizes_that_cannot_be_found_are_asked_for_by_name():
    graph = """g (float[n, steps] x) => (float y) {
        shape = Shape(x) length = Gather(shape, one) more = Add(length, odd) y = Reshape(x, more) }"""
    message = refusal(graph, one=np.array([1]), odd=np.array([100003]))
    assert re.match(
        r"cannot make inputs for .*: no size found for 'n', 'steps' in \d+ tries; at first ", message
    )
    assert message.endswith("give what you know, for example shapes={'n': 1, 'steps': 16}")


def test_unnamed_sizes_are_asked_for_by_shape():
    graph = """g (float[?, ?] x) => (float y) {
        shape = Shape(x) length = Gather(shape, one) more = Add(length, odd) y = Reshape(x, more) }"""
    message = refusal(graph, shapes={"x": (2, None)}, one=np.array([1]), odd=np.array([100003]))
    assert "no size found for x[1] in " in message and "(given: x[0]=2)" in message
    assert message.endswith("give what you know, for example shapes={'x': (2, 16)}")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {"bacth": 2},
            "shapes={'bacth': ...} for M: no such dim or input; symbolic dims are ['batch'], "
            "inputs are ['ids', 'x']; did you mean 'batch'?",
        ),
        ({"y": (2, 3)}, "symbolic dims are ['batch'], inputs are ['ids', 'x']"),
        ({"batch": 2.5}, "shapes of M: batch must be a whole number of 0 or more"),
        ({"batch": -1}, "shapes of M: batch must be a whole number of 0 or more"),
        ({"x": (2, 4)}, "shapes['x'] of M: axis 1 got 4, but the model fixes it: x: float32[batch, 3]"),
        ({"x": (2, 3, 4)}, "shapes['x'] of M: got (2, 3, 4) of rank 3, expected x: float32[batch, 3]"),
        ({"x": (2, 3), "batch": 4}, "shapes['batch'] of M: dim 'batch' got 4, but it is 2 already"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(pair, shapes, message):
    assert message.replace("M:", f"{pair.name}:") in refusal(pair, shapes=shapes)


def test_given_data_must_have_the_sizes_asked_for(single):
    assert refusal(single, np.zeros((4, 3)), {"batch": 2}).endswith(
        "input 'x': got shape [4, 3], expected [2, 3]"
    )


def test_a_model_that_does_not_say_the_rank():
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[2] x) => (float y) { y = Neg(x) }'
    )
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    loaded = wb.load(proto)
    assert "does not say the rank of input 'x'; give its shape, for example shapes={'x': (1, 16)}" in refusal(
        loaded
    )
    assert first(loaded, shapes={"x": (2, 5)})["x"].shape == (2, 5)
    assert first(loaded, np.zeros((3, 3, 3)))["x"].shape == (3, 3, 3)


# --- given data


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"x": x}, lambda x: [x], lambda x: [{"x": x}], lambda x: iter([x])]
)
def test_arrays_dicts_lists_and_iterators(single, wrap):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (item,) = feeds(single, wrap(x))
    assert np.array_equal(item["x"], x) and item["x"].flags.c_contiguous


def test_what_comes_from_torch_is_taken(single):
    torch = pytest.importorskip("torch")
    assert first(single, torch.ones(2, 3))["x"].sum() == 6


def test_npz_npy_and_folders(tmp_path, pair, single):
    items = [{"ids": np.full((1, 4), i), "x": np.full((1, 3), i, np.float32)} for i in range(12)]
    for i, item in enumerate(items):
        np.savez(tmp_path / f"item{i}.npz", **item)
    read = feeds(pair, tmp_path)
    assert len(read) == 12
    assert [int(item["ids"][0, 0]) for item in read] == list(range(12))  # item2 before item10
    assert [item["x"][0, 0] for item in feeds(pair, str(tmp_path / "item7.npz"))] == [7]

    arrays = tmp_path / "arrays"
    arrays.mkdir()
    np.save(arrays / "ids.npy", items[3]["ids"])
    np.save(arrays / "x.npy", items[3]["x"])
    assert [item["x"][0, 0] for item in feeds(pair, arrays)] == [3]

    several = tmp_path / "several"
    several.mkdir()
    for i in (2, 10):
        np.save(several / f"{i}.npy", items[i]["x"])
    assert [item["x"][0, 0] for item in feeds(single, several)] == [2, 10]
    np.savez(tmp_path / "unnamed.npz", items[5]["x"])
    assert [item["x"][0, 0] for item in feeds(single, tmp_path / "unnamed.npz")] == [5]


def test_names_with_slashes_in_a_folder_of_npy(tmp_path):
    loaded = model("g (float[2] x) => (float y) { y = Neg(x) }")
    proto = loaded.to_proto()
    renamed = onnx.ModelProto.FromString(proto.SerializeToString())
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "gpu_0/data"
    (tmp_path / "gpu_0").mkdir()
    np.save(tmp_path / "gpu_0" / "data.npy", np.ones(2, np.float32))
    assert first(wb.load(renamed), tmp_path)["gpu_0/data"].tolist() == [1, 1]


def test_inputs_saved_by_polygraphy(tmp_path, pair):
    from polygraphy.json import save_json

    items = [{"ids": np.full((1, 4), i), "x": np.full((1, 3), i, np.float32)} for i in range(3)]
    save_json(items, str(tmp_path / "inputs.json"))
    read = list(feeds(pair, tmp_path / "inputs.json"))
    assert [int(item["ids"][0, 0]) for item in read] == [0, 1, 2]


def test_files_that_cannot_be_read(tmp_path, single):
    assert (
        refusal(single, tmp_path / "none.npz") == f"inputs: no such file or folder: {tmp_path / 'none.npz'}"
    )
    (tmp_path / "data.txt").write_text("1 2 3")
    assert "cannot read" in refusal(single, tmp_path / "data.txt") and "expected .npz, .npy" in refusal(
        single, tmp_path / "data.txt"
    )
    assert refusal(single, tmp_path) == f"inputs: folder {tmp_path} holds no .npz or .npy file"
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    assert f"inputs: cannot read {tmp_path / 'broken.npz'}: " in refusal(single, tmp_path / "broken.npz")
    (tmp_path / "empty.npy").write_bytes(b"")
    assert f"inputs: cannot read {tmp_path / 'empty.npy'}: " in refusal(single, tmp_path / "empty.npy")
    (tmp_path / "other.json").write_text(json.dumps([1, 2]))
    assert "holds a list; expected Polygraphy's saved inputs" in refusal(single, tmp_path / "other.json")
    (tmp_path / "broken.json").write_text("{")
    assert "as Polygraphy's saved inputs: " in refusal(single, tmp_path / "broken.json")


@pytest.mark.parametrize(
    "save", [lambda f, a: np.savez(f, x=a), lambda f, a: np.save(f.with_suffix(".npy"), a)]
)
def test_pickled_objects_are_not_loaded(tmp_path, single, save):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    save(tmp_path / "trap.npz", np.array([Trap()], object))
    (tmp_path / "sprung").unlink(missing_ok=True)
    message = refusal(single, next(path for path in tmp_path.iterdir() if path.stem == "trap"))
    assert "holds pickled Python objects, which are not loaded because they can run code" in message
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_iterators_are_kept_and_can_be_run_through_again(monkeypatch, single, limit):
    monkeypatch.setattr(load, "_IN_MEMORY", limit or 1)
    drawn = []

    def draw():
        for i in range(5):
            drawn.append(i)
            yield np.full((1, 3), i, np.float32)

    data = feeds(single, draw())
    with pytest.raises(TypeError, match="the number of items is not known"):
        len(data)
    runs = zip(data, data, strict=True)  # two runs at once
    assert [(a["x"][0, 0], b["x"][0, 0]) for a, b in runs] == [(i, i) for i in range(5)]
    assert [item["x"][0, 0] for item in data] == [0, 1, 2, 3, 4]
    assert drawn == [0, 1, 2, 3, 4]


def test_callables_are_called_count_times_or_until_none(single):
    asked = []

    def make(index: int) -> np.ndarray | None:
        asked.append(index)
        return np.full((1, 3), index, np.float32) if index < 4 else None

    assert [item["x"][0, 0] for item in feeds(single, make, count=2)] == [0, 1]
    assert asked == [0, 1]
    assert [item["x"][0, 0] for item in feeds(single, make, count=100)] == [0, 1, 2, 3]


def test_an_error_of_the_users_own_iterator_is_left_alone(single):
    def draw():
        yield np.zeros((1, 3), np.float32)
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        list(feeds(single, draw()))


def test_what_cannot_be_used(single):
    assert refusal(single, object()).startswith("inputs: cannot use a object; expected None, arrays, a path")
    assert refusal(single, []) == "inputs: the list is empty; give at least one item"
    with pytest.raises(InputError, match="count=0: expected 1 or more items"):
        feeds(single, count=0)


# --- the check of one item


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ids": 1}, "missing ['x'], got ['ids']; give all inputs (None: let it be generated)"),
        (
            {"ids": 1, "xx": 1},
            "the model has no input 'xx', its inputs are ['ids', 'x']; did you mean 'x'?",
        ),
        (np.zeros(3), "got a single ndarray, but the model has inputs ['ids', 'x']; give a dict"),
        (
            {"ids": np.zeros((1, 4)), "x": None},
            "input 'ids': got float64[1, 4], expected int64 (the kind differs); "
            "convert it with .astype('int64')",
        ),
        (
            {"ids": None, "x": np.zeros((1, 3), np.int64)},
            "input 'x': got int64[1, 3], expected float32 (the kind differs); "
            "convert it with .astype('float32')",
        ),
        ({"ids": None, "x": np.full((1, 3), 1e300)}, "(a value is too large for float32)"),
        ({"ids": None, "x": np.array(["a"])}, "expected float32 (it holds no numbers)"),
        ({"ids": None, "x": np.zeros((1, 4))}, "input 'x': got shape [1, 4], expected [batch, 3]"),
        ({"ids": None, "x": np.zeros(3)}, "input 'x': got shape [3], expected [batch, 3]"),
        ({"ids": [[1, 2], [3]], "x": None}, "input 'ids': a list is no array: "),
    ],
)
def test_items_that_do_not_fit_are_refused(pair, given, message):
    fine = {"ids": np.zeros((1, 4), np.int64), "x": np.zeros((1, 3), np.float32)}
    with pytest.raises(InputError) as caught:
        list(feeds(pair, [fine, given]))
    assert str(caught.value).startswith(f"inputs[1] of {pair.name}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        (np.array([1.5, 2.5]), "float", [1.5, 2.5]),
        (np.array([1.5, 2.5], ">f8"), "float16", [1.5, 2.5]),
        (np.array([1, 255], np.uint8), "float", [1, 255]),
        (np.array([1, -2], np.int32), "int64", [1, -2]),
        (np.array([1, 127], np.int64), "int8", [1, 127]),
        (np.array([True, False]), "int64", [1, 0]),
        ([1, 2], "float", [1, 2]),
        ([1.0, 2.0], "int64", [1, 2]),
        (np.array([np.inf, np.nan]), "float", [np.inf, np.nan]),
    ],
)
def test_conversions_that_keep_the_values(given, kind, expected):
    item = first(f"g ({kind}[2] x) => ({kind}[2] y) {{ y = Identity(x) }}", {"x": given})
    assert np.array_equal(item["x"].astype(np.float64), expected, equal_nan=True)
    assert item["x"].dtype.isnative


@pytest.mark.parametrize(
    ("given", "kind", "why"),
    [
        (np.array([1, 128]), "int8", "a value does not fit int8"),
        (np.array([-1, 1]), "uint8", "a value does not fit uint8"),
        (np.array([0.5, 1.0]), "int64", "the kind differs"),
        (np.array([1j, 2]), "float", "the kind differs"),
        (np.array([0, 1]), "bool", "the kind differs"),
        ([0.5, 1.0], "int64", "a value does not fit int64"),
        (np.array([1e6, 1.0]), "float16", "a value is too large for float16"),
        (np.array([1, 2]), "string", "not all of it is text"),
        (np.array([b"a", b"b"]), "string", "not all of it is text"),
    ],
)
def test_conversions_that_would_change_values_are_refused(given, kind, why):
    assert f"({why})" in refusal(f"g ({kind}[2] x) => ({kind}[2] y) {{ y = Identity(x) }}", {"x": given})


def test_text_is_taken_as_objects():
    item = first("g (string[2] x) => (string[2] y) { y = Identity(x) }", np.array(["a", "bc"]))
    assert item["x"].dtype == object and item["x"].tolist() == ["a", "bc"]
