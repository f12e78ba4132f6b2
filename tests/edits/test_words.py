"""The words of text attributes: none forgotten, those of the right version, and custom domains that are imported."""

from __future__ import annotations

import onnx
import pytest
from edits.random_edits import content, runs
from edits.small import proto

import workbench as wb
from workbench.edits.schema import find
from workbench.edits.words import choices
from workbench.errors import EditError

FREE = {
    ("Cast", "to"), ("Constant", "value_string"), ("Constant", "value_strings"), ("Einsum", "equation"),
    ("RegexFullMatch", "pattern"), ("StringNormalizer", "locale"), ("StringNormalizer", "stopwords"),
    ("StringSplit", "delimiter"), ("TfIdfVectorizer", "pool_strings"), ("CategoryMapper", "cats_strings"),
    ("CategoryMapper", "default_string"), ("DictVectorizer", "string_vocabulary"), ("LabelEncoder", "classes_strings"),
    ("LabelEncoder", "default_string"), ("LabelEncoder", "keys_strings"), ("LabelEncoder", "values_strings"),
    ("LinearClassifier", "classlabels_strings"), ("OneHotEncoder", "cats_strings"),
    ("SVMClassifier", "classlabels_strings"), ("TreeEnsembleClassifier", "classlabels_strings"),
    ("ZipMap", "classlabels_strings"), ("Gradient", "xs"), ("Gradient", "y"), ("Gradient", "zs"),
}  # fmt: skip


def test_every_text_attribute_of_onnx_has_words_or_is_free_text_and_takes_its_default():
    without = set()
    for schema in onnx.defs.get_all_schemas_with_history():
        for name, attribute in schema.attributes.items():
            if attribute.type.name not in ("STRING", "STRINGS"):
                continue
            words = choices(schema, name)
            if not words:
                without.add((schema.name, name))
            elif attribute.default_value.HasField("s"):
                default = attribute.default_value.s.decode().replace("foward", "forward")  # as it is in GRU-1
                assert default in words, (schema.name, schema.since_version, name)
    assert without == FREE


@pytest.mark.parametrize(
    "op_type, name, version, word, known",
    [
        ("Pad", "mode", 18, "wrap", False),
        ("Pad", "mode", 19, "wrap", True),
        ("GridSample", "mode", 16, "bilinear", True),
        ("GridSample", "mode", 20, "bilinear", False),
        ("ScatterND", "reduction", 16, "max", False),
        ("Resize", "coordinate_transformation_mode", 13, "tf_half_pixel_for_nn", False),
        ("Resize", "coordinate_transformation_mode", 11, "tf_half_pixel_for_nn", True),
        ("Conv", "auto_pad", 11, "SAME_UPPER", True),
    ],
)
def test_words_are_those_of_the_version(op_type, name, version, word, known):
    assert (word in choices(find(op_type, "", version), name)) is known


def test_a_wrong_word_is_refused_with_those_that_are_right():
    new = wb.load(proto()).add_input("pads", "int64", (4,))
    before = content(new)
    with pytest.raises(EditError) as caught:
        new.insert_node("sum", "Pad", {"mode": "wrap"}, (None, "pads"))
    assert str(caught.value) == (
        "node 'Pad_sum' (Pad), attribute 'mode': got 'wrap', expected one of constant, reflect, edge"
    )
    assert content(new) == before
    runs(new.insert_node("sum", "Pad", {"mode": "edge"}, (None, "pads")))


def test_an_operator_of_another_domain_brings_its_import_and_takes_it_back():
    m = wb.load(proto())
    before = content(m)
    new = m.insert_node("relu", "Act", {"gain": 2.0}, domain="vendor")
    assert dict(new.ir.opset_imports) == {"": 17, "my": 1, "vendor": 1}
    onnx.checker.check_model(onnx.ModelProto.FromString(content(new)))
    assert content(wb.replay(new.history.to_json(), proto())) == content(new)
    assert content(new.history.undo()) == before

    inside = m.replace_op("double", "Act", domain="vendor")
    function = next(iter(inside.ir.functions.values()))
    assert dict(function.opset_imports) == {"": 17, "vendor": 1} and "vendor" not in inside.ir.opset_imports
    assert content(inside.history.undo()) == before

    ml = m.insert_node("x", "Scaler", {"offset": [0.0], "scale": [2.0]}, domain="ai.onnx.ml")
    assert ml.ir.opset_imports["ai.onnx.ml"] == 3  # what was released with ai.onnx 17
    runs(ml)
