"""The summary: what it counts, what it assumes and says so, what it finds odd, how it shows itself."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
import textwrap

import numpy as np
import onnx
import pytest
import real_models
from model import build
from onnx import TensorProto
from onnx import helper as h
from onnx import numpy_helper as nh

import workbench as wb
from workbench.errors import InputError, NotInModelError
from workbench.model import card
from workbench.model.content import Weights


def test_what_it_holds(real_model) -> None:
    s = wb.load(real_model("ppocr_cls")).summary({"x": (1, 3, 48, 192)})
    assert s.name == "ch_ppocr_mobile_v2.0_cls_mobile" and s.producer == "PaddlePaddle"
    assert s.ir_version == 7 and s.opsets == {"ai.onnx": 11}
    assert s.nodes == 566 and s.operators[:2] == (("Constant", 308), ("Conv", 53))
    assert s.assumed == {} and s.uncounted == () and s.findings == ()
    assert s.macs == 16_315_376
    assert s.heaviest[0].macs >= s.heaviest[1].macs > 0
    assert s.largest[0].bytes == max(info.bytes or 0 for info in s.largest)


def test_nodes_in_bodies_are_told() -> None:
    s = wb.load(real_models.ROOT / "data" / "onnx" / "loop.onnx").summary()
    assert (s.nodes, s.inside, s.once) == (10, 4, ("while_loop",))
    assert card.headline(s).startswith("10 nodes (4 in bodies and functions) · 4 parameters (24 B) · at least 0 MACs")


def test_weights_are_counted_wherever_they_are(real_model) -> None:
    """In Constant nodes, in bodies, and as initializers."""
    cls = wb.load(real_model("ppocr_cls"))
    assert not cls.ir.graph.initializers and cls.parameters == cls.summary().parameters
    sizes = [
        nh.to_array(n.attribute[0].t)
        for n in onnx.load(real_model("ppocr_cls")).graph.node
        if n.op_type == "Constant"
    ]
    assert cls.parameters == sum(a.size for a in sizes) and cls.bytes == sum(a.nbytes for a in sizes)
    assert wb.load(real_model("silero_vad")).summary().weights[0] == Weights(
        "float32", 34, 545_286, 2_181_144
    )
    assert wb.load(build.branches()).summary().weights == (Weights("float32", 2, 32, 128),)
    assert {w.dtype for w in wb.load(real_model("style_predict")).summary().weights} >= {
        "int8",
        "float32",
        "int32",
    }


def test_constants_of_every_form() -> None:
    forms = {
        "value_float": 1.0,
        "value_floats": [1.0, 2.0],
        "value_int": 3,
        "value_ints": [1, 2, 3],
        "value_string": "x",
    }
    nodes = [
        h.make_node("Constant", [], [f"c{i}"], **{key: value}) for i, (key, value) in enumerate(forms.items())
    ]
    nodes.append(h.make_node("Constant", [], ["t"], value=h.make_tensor("t", TensorProto.INT4, [5], [1] * 5)))
    m = wb.load(build.model(nodes, [], [build.value("c0", None)]))
    assert m.summary().weights == (
        Weights("int64", 2, 4, 32),
        Weights("float32", 2, 3, 12),
        Weights("int4", 1, 5, 3),
        Weights("string", 1, 1, 0),
    )


def test_assumptions_are_stated() -> None:
    m = wb.load(build.mlp())
    assert m.summary().assumed == {"batch": 1} and m.macs == 32 * 64 + 32 * 8
    assert "Costs and sizes assume batch = 1; give others with summary(shapes={'batch': ...})." in str(
        m.summary()
    )
    assert m.summary({"batch": 5}).macs == 5 * m.macs and m.summary({"batch": 5}).assumed == {}
    assert m.summary({"x": (7, 64)}).macs == 7 * m.macs
    assert "assume" not in str(m.summary({"x": (7, 64)}))
    shapes = {"p": [None, 3, "h", "w"], "q": ["n", None, "n+1"]}
    nodes = [h.make_node("Relu", [k], [k + "_"]) for k in shapes]
    m = wb.load(build.model(nodes, [build.value(k, v) for k, v in shapes.items()], []))
    assert m.summary().assumed == {"p[0]": 1, "h": 224, "w": 224, "n": 1, "q[1]": 128}
    assert m.summary({"q[1]": 9, "p": (None, None, 5, 6)}).assumed == {"p[0]": 1, "n": 1}


def test_names_that_are_not_there() -> None:
    m = wb.load(build.mlp())
    with pytest.raises(
        NotInModelError,
        match=r"shapes= names 'bacth' \(2\), which is no input and no dim of the model; it has x",
    ):
        m.summary({"bacth": 2})
    with pytest.raises(
        InputError, match=r"shapes= gives 'x' 3 axes; the model expects 2: x: float32\[batch, 64\]"
    ):
        m.summary({"x": (1, 2, 3)})
    with pytest.raises(InputError, match="shapes= gives 'batch' the size -1; expected an int of 0 or more"):
        m.summary({"batch": -1})


def test_findings() -> None:
    proto = build.mlp()
    proto.opset_import.append(h.make_opsetid("ai.onnx.ml", 2))
    proto.graph.initializer.append(build.array("idle", 300))
    proto.graph.node.append(h.make_node("Mystery", ["y"], ["z"], domain="com.acme"))
    proto.opset_import.append(h.make_opsetid("com.acme", 1))
    s = wb.load(proto).summary()
    assert s.findings == (
        "opset domains that no node uses: ai.onnx.ml",
        "operators that onnx does not define, so that their outputs have only the declared shapes: "
        "com.acme::Mystery (1) without a body",
        "weights that nothing reads: 1 (1.2 kB), among them 'idle'",
    )
    proto.graph.node[1].attribute.append(h.make_attribute("nonsense", 1))
    checked = wb.load(proto).summary().findings[0]
    assert checked.startswith("onnx's checker: Unrecognized attribute: nonsense for operator Relu")


def test_a_checker_that_says_nothing(monkeypatch) -> None:
    def refuse(_: onnx.ModelProto) -> None:
        raise onnx.checker.ValidationError("")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    assert wb.load(build.mlp()).summary().findings == ("onnx's checker: ValidationError",)


@pytest.mark.parametrize("name", real_models.ALL_MODELS)
def test_real_models(real_model, name: str) -> None:
    s = wb.load(real_model(name)).summary()
    assert not [finding for finding in s.findings if "checker" in finding] or name in (
        "residual_block",
        "needs_constraints",
    )
    assert s.nodes and s.moved > 0 and str(s).startswith(s.name)
    json.dumps(dataclasses.asdict(s))
    assert parsed(s._repr_html_())


def test_text() -> None:
    m = wb.load(build.mlp())
    assert str(m) == textwrap.dedent("""\
        g
        3 nodes · 2.34 k parameters (9.34 kB) · 2.3 k MACs · 10.1 kB moved
        opset ai.onnx 17 · IR 9

        input   x: float32[batch, 64]
        output  y: float32[batch, 8]

        operators
          Gemm    1  ████████████████████████
          Relu    1  ████████████████████████
          MatMul  1  ████████████████████████

        weights
          float32  2.34 k  9.34 kB  3 tensors

        heaviest nodes
          Gemm_h    Gemm    2.05 k MACs  88.9%
          MatMul_y  MatMul  256 MACs     11.1%

        largest activations
          h: float32[1, 32]  128 B
          r: float32[1, 32]  128 B
          y: float32[1, 8]   32 B

        Costs and sizes assume batch = 1; give others with summary(shapes={'batch': ...}).""")


class Tags(html.parser.HTMLParser):
    """Checks that tags are closed in order; collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return tags


def test_html_in_a_notebook() -> None:
    m = wb.load(build.mlp())
    bundle = m._repr_mimebundle_()
    assert bundle["text/plain"] == str(m)
    tags = parsed(bundle["text/html"])
    assert tags.seen == {"style", "div", "h3", "h4", "p", "table", "tr", "td", "i"}
    for words in (
        "3 nodes · 2.34 k parameters (9.34 kB)",
        "x: float32[batch, 64]",
        "Gemm_h",
        "Heaviest nodes",
    ):
        assert words in tags.text
    page = bundle["text/html"]
    assert "prefers-color-scheme:dark" in page and "var(--jp-content-font-color1" in page
    assert not re.search(r"https?://|<script|url\(", page)


def test_html_is_escaped() -> None:
    """Nothing that a file says becomes a tag, in any part of the card."""
    evil = "1<script>alert('x')</script>&\""
    node = h.make_node("Gemm", ["x" + evil, "w" + evil], ["y" + evil], name=evil)
    other = h.make_node(evil, ["y" + evil], ["z"], domain=evil)
    proto = build.model(
        [node, other], [build.value("x" + evil, [evil, 4])], [build.value("y" + evil, None)],
        [build.array("w" + evil, 4, 4), build.array("idle" + evil, 4)], domains=[(evil, 1)], name=evil,
    )  # fmt: skip
    proto.producer_name = evil
    page = wb.load(proto).summary()._repr_html_()
    tags = parsed(page)
    assert "script" not in tags.seen and tags.text.count("<script>") >= 8
    assert "<script" not in page


def test_many_ports_are_summed_up() -> None:
    names = [f"x{i}" for i in range(60)]
    node = h.make_node("Sum", names, ["y"])
    m = wb.load(build.model([node], [build.value(n) for n in names], [build.value("y")]))
    assert "        and 48 more inputs\n" in str(m)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (21_234_383, "21.2 MB"), (5 * 10**12, "5 TB")],
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert card.size(count) == words
    assert card.number(count) == words.removesuffix("B").strip()


def test_the_summary_reads_no_weights(tmp_path, monkeypatch) -> None:
    from workbench.model.weights import DataFile

    node = h.make_node("MatMul", ["x", "w"], ["y"])
    proto = build.model(
        [node], [build.value("x", [1, 64])], [build.value("y", None)], [build.array("w", 64, 64)]
    )
    m = wb.load(build.save_external(proto, tmp_path / "m.onnx"))
    monkeypatch.setattr(DataFile, "view", None)
    monkeypatch.setattr(DataFile, "chunks", None)
    assert m.summary().parameters == 4096 and m.nodes is not None and m.tensors is not None


def test_tables(real_model) -> None:
    m = wb.load(build.branches())
    nodes = m.nodes
    assert list(nodes.columns) == ["op_type", "domain", "inputs", "outputs", "scope", "macs", "bytes"]
    assert nodes.index.name == "node" and nodes.scope.to_dict() == {
        "If_y": "",
        "MatMul_a": "If_y.else_branch",
        "Relu_z": "If_y.else_branch",
        "MatMul_z": "If_y.then_branch",
    }
    assert nodes.loc["MatMul_a", "inputs"] == ("x", "we") and nodes.loc["MatMul_a", "outputs"] == ("a",)
    tensors = m.tensors
    assert list(tensors.columns) == ["dtype", "shape", "bytes", "kind", "producer", "consumers", "scope"]
    assert tensors.index.is_unique and tensors.index.name == "tensor"
    x = tensors.loc["x"]
    assert (x["shape"], x["kind"], x["producer"], x["consumers"]) == (
        ("n", 4),
        "input",
        "",
        ("MatMul_a", "MatMul_z"),
    )
    w = tensors.loc["If_y.else_branch/we"]
    assert (w["dtype"], w["shape"], w["bytes"], w["kind"]) == ("float32", (4, 4), 64, "initializer")
    assert tensors.loc["y", "producer"] == "If_y" and tensors.bytes.isna()["y"]
    rec = wb.load(real_model("ppocr_rec"))
    assert len(rec.nodes) == 480 and rec.nodes.macs.sum() == rec.macs
    assert rec.tensors.kind.value_counts().to_dict() == {"activation": 480, "initializer": 244, "input": 1}
    assert rec.tensors["shape"]["x"] == ("DynamicDimension.0", 3, 48, "DynamicDimension.1")
    cls = wb.load(real_model("ppocr_cls")).tensors
    assert cls.kind.value_counts().to_dict() == {"constant": 308, "activation": 258, "input": 1}


def test_tables_of_a_loop_add_up() -> None:
    m = wb.load(build.loops())
    main = m.nodes[m.nodes.scope == ""]
    assert main.macs.sum() == m.macs == 3 * 5 * 4 * 4
    assert m.tensors.index.is_unique


def test_the_fingerprint_is_of_the_content(tmp_path) -> None:
    m = wb.load(build.mlp())
    assert re.fullmatch("[0-9a-f]{64}", m.fingerprint)
    saved = build.save_external(m.to_proto(), tmp_path / "m.onnx")
    assert wb.load(saved).fingerprint == m.fingerprint
    other = build.mlp()
    raw = np.frombuffer(other.graph.initializer[2].raw_data, np.float32).copy()
    raw[17] = np.nextafter(raw[17], 2)
    other.graph.initializer[2].raw_data = raw.tobytes()
    assert wb.load(other).fingerprint != m.fingerprint
    renamed = build.mlp()
    renamed.graph.node[0].name = "first"
    assert wb.load(renamed).fingerprint != m.fingerprint
    typed = build.mlp()
    for tensor in typed.graph.initializer:
        numbers = nh.to_array(tensor)
        tensor.CopyFrom(h.make_tensor(tensor.name, TensorProto.FLOAT, numbers.shape, numbers.ravel()))
    assert wb.load(typed).fingerprint == m.fingerprint


def test_names_cannot_turn_the_text_of_the_card_around() -> None:
    name = "in\u202etuo\x1b[2J ש"
    m = wb.load(build.mlp()).rename_input(wb.load(build.mlp()).inputs[0].name, name)
    s = m.summary()
    for shown in (str(s), s._repr_html_()):
        assert "\u202e" not in shown and "\x1b" not in shown
        assert "in\\u202etuo\\x1b[2J ש" in shown


def test_dims_that_are_called_a_question_mark_are_unknown_and_not_equal(real_model) -> None:
    m = wb.load(real_model("ppocr_cls"))  # whose file names both '?'
    assert m.inputs[0].shape == (None, 3, None, None)
    assert set(m.summary().assumed) == {"x[0]", "x[2]", "x[3]"}
    shapes = {"x": (1, 3, 48, 192)}
    assert next(iter(wb.inputs.feeds(m, shapes=shapes)))["x"].shape == (1, 3, 48, 192)
