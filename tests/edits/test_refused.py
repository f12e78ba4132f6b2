"""Every refusal: the exact words, and the same bytes as before."""

from __future__ import annotations

import numpy as np
import pytest
from edits.random_edits import content
from edits.small import proto, tail

import workbench as wb
from workbench.errors import EditError, NotInModelError, WorkbenchError

REFUSED = [
    ("rename_node", ("relu", "a"), "there is no node 'relu' in the model; did you mean 'relu_node'?"),
    (
        "rename_node",
        ("add", "leaky"),
        "cannot rename node 'add': the name 'leaky' is taken by another node (LeakyRelu); give a free one",
    ),
    (
        "rename_node",
        ("add", ""),
        "cannot rename node 'add': got the name '', expected text of at least one character",
    ),
    (
        "rename_tensor",
        ("relu", "else_y"),
        "cannot rename tensor 'relu': the name 'else_y' is taken by another tensor; give a free one",
    ),
    (
        "rename_tensor",
        ("x", "image"),
        "cannot rename tensor 'x': it is an input of the model, which callers know by name; use rename_input",
    ),
    ("rename_input", ("sum", "a"), "the model has no input 'sum'; expected one of 'x', 'flag'"),
    ("rename_output", ("sum", "a"), "the model has no output 'sum'; expected one of 'y'"),
    (
        "delete",
        ("if",),
        "cannot bypass node 'if' (If): got the inputs 0: flag bool[], expected one input of the type of its output "
        "float32[n, 4]; delete it with how='cut'",
    ),
    (
        "delete",
        ("then_op", "cut"),
        "cannot cut node 'then_op' (Neg) out of 'if.then_branch': only the main graph can get new inputs; "
        "use how='bypass'",
    ),
    ("delete", ("leaky", "cut"), "cannot cut: the model would have no output left; add another output first"),
    ("delete", ("leaky", "away"), "cannot delete nodes: got how='away', expected 'bypass' or 'cut'"),
    (
        "set_attribute",
        ("leaky", "alhpa", 1.0),
        "node 'leaky' (LeakyRelu) has no attribute 'alhpa' in its schema (LeakyRelu-16); expected one of alpha; "
        "did you mean 'alpha'?",
    ),
    (
        "set_attribute",
        ("leaky", "alpha", "text"),
        "node 'leaky' (LeakyRelu), attribute 'alpha': got 'text', expected a float; give a value of that kind",
    ),
    (
        "set_attribute",
        ("if", "then_branch", 1),
        "node 'if' (If), attribute 'then_branch': got 1, expected a body; edit the nodes in it instead",
    ),
    (
        "remove_attribute",
        ("leaky", "beta"),
        "node 'leaky' (LeakyRelu) has no attribute 'beta' set; expected one of 'alpha'",
    ),
    (
        "replace_op",
        ("relu_node", "Relo"),
        "there is no operator 'Relo' in operator set 17 of domain 'ai.onnx'; did you mean Relu or PRelu?",
    ),
    (
        "replace_op",
        ("relu_node", "Add"),
        "node 'relu_node' (Add): got 1 inputs, expected 2; choose an operator that takes so many",
    ),
    (
        "replace_op",
        ("relu_node", "Transpose", {"perm": (0, 1, 2)}),
        None,
    ),
    (
        "insert_node",
        ("relu", "Add", {}, (None, "if.then_branch/then_c")),
        "node 'Add_relu' cannot read tensor 'if.then_branch/then_c': it is in another scope; expected one of "
        "'the main graph' or around it",
    ),
    (
        "insert_cast",
        ("sum", "int64"),
        "node 'else_add' (Add), input 1 (B): got float32 from tensor 'else_c', expected int64 as input 0; insert a "
        "Cast on one of them",
    ),
    (
        "insert_cast",
        ("mm", "float16"),
        "node 'add' (Add), input 1 (B): got float32 from tensor 'b', expected float16 as input 0; insert a Cast on one "
        "of them",
    ),
    (
        "insert_identity",
        ("relu", None, ("reshape",)),
        "there is no edge from tensor 'relu' to node 'reshape'; got 'reshape', expected one of 'else_add', 'then_add'",
    ),
    (
        "insert_qdq",
        ("flag", 0.1),
        "cannot quantize tensor 'flag': got bool[], expected a float type; choose another tensor",
    ),
    ("insert_qdq", ("sum", -1.0), "cannot quantize tensor 'sum': got the scale -1.0, expected it above 0"),
    (
        "replace_weight",
        ("relu", np.ones(3)),
        "tensor 'relu' is no weight: it is made by node 'relu_node' (Relu); expected an initializer or the output of a "
        "Constant",
    ),
    ("replace_weight", ("w", np.ones((5, 4), np.float32)), None),
    (
        "replace_weight",
        ("w", np.ones((4, 4))),
        "node 'matmul' (MatMul), input 1 (B): got float64 from tensor 'w', expected float32 as input 0; insert a Cast "
        "on one of them",
    ),
    (
        "set_weight_dtype",
        ("b", "float16"),
        "node 'add' (Add), input 1 (B): got float16 from tensor 'b', expected float32 as input 0; insert a Cast on one "
        "of them",
    ),
    (
        "reconnect",
        ("add", 0, "relu"),
        "node 'add' (Add) would read what follows from its own output: that is a cycle; connect a tensor that does not "
        "depend on it",
    ),
    ("reconnect", ("add", 5, "mm"), "node 'add' (Add) has no input 5; expected 0 to 2"),
    (
        "reconnect",
        ("add", 1, None),
        "node 'add' (Add): got 1 inputs, expected 2; choose an operator that takes so many",
    ),
    (
        "set_input",
        ("x", (-1, 4)),
        "cannot change input 'x': got the dim -1 in the shape (-1, 4), expected an int from 0, a name, or None for "
        "unknown",
    ),
    ("set_input", ("x", ("n", 5)), None),
    (
        "add_input",
        ("sum",),
        "cannot add an input: the name 'sum' is taken by another tensor; give a free one",
    ),
    ("remove_input", ("x",), "cannot remove input 'x': it is read by 'matmul'; reconnect these first"),
    ("add_output", ("y",), "cannot make tensor 'y' an output: it is one already; nothing to do"),
    (
        "add_output",
        ("if.then_branch/then_a",),
        "cannot make tensor 'if.then_branch/then_a' an output: it is in 'if.then_branch', expected a tensor of the "
        "main graph; make it an output of its body with surgeon",
    ),
    ("remove_output", ("y",), "cannot remove output 'y': it is the only one; add another output first"),
    (
        "extract",
        ("sum", "y"),
        "cannot extract from 'sum': the outputs depend on the input 'flag' too, by node 'if'; add it to inputs",
    ),
    (
        "extract",
        ("mm", "x"),
        "cannot extract from 'mm': the outputs depend on the input 'x' too, which is one of them; add it to inputs",
    ),
    (
        "reconnect",
        ("call", 1, "sum"),
        "node 'call' (Twice): got 2 inputs, expected 0 to 1; choose an operator that takes so many",
    ),
    (
        "append_model",
        (tail(), {"y": "q"}),
        "cannot append the model: got connect={'y': 'q'}, expected an output of ['y'] and an input of ['y']",
    ),
    (
        "prepend_model",
        (tail(), {"z": "flag"}),
        "cannot prepend the model: the output 'z' is float32[n, 4], the input 'flag' expects bool[]; insert a Cast or "
        "Reshape first",
    ),
    ("convert_opset", (17,), None),
    (
        "set_metadata",
        ("k", 5),
        "cannot set_metadata: got 5 as 'value', expected text or None; see help(Model.set_metadata)",
    ),
    ("set_scope", ("nothing", "a"), "there is no node 'nothing' in the model"),
]


@pytest.mark.parametrize(
    "method, given, message", REFUSED, ids=[f"{i}-{case[0]}" for i, case in enumerate(REFUSED)]
)
def test_refused(method, given, message):
    m = wb.load(proto())
    before = content(m)
    with pytest.raises((EditError, NotInModelError)) as caught:
        getattr(m, method)(*given)
    assert isinstance(caught.value, WorkbenchError)
    if message is not None:
        assert str(caught.value) == message
    assert content(m) == before
    assert not m.history.branches
    assert m.rename_node("add", "still works").nodes.loc["still works", "op_type"] == "Add"
    table = wb.load(proto()).tensors
    assert {key: set(row) for key, row in m.tensors["consumers"].items()} == {
        key: set(row) for key, row in table["consumers"].items()
    }


def test_shape_misfits_name_the_node_and_both_shapes():
    m = wb.load(proto())
    with pytest.raises(EditError) as caught:
        m.replace_weight("w", np.ones((5, 4), np.float32))
    text = str(caught.value)
    assert "node 'matmul' (MatMul)" in text and "x float32[n, 4]" in text and "w float32[5, 4]" in text


def test_a_wrong_input_shape_names_what_does_not_fit():
    with pytest.raises(EditError) as caught:
        wb.load(proto()).set_input("x", ("n", 5))
    assert str(caught.value) == (
        "node 'matmul' (MatMul) would not fit its inputs: got x float32[n, 5], w float32[4, 4]; Incompatible "
        "dimensions for matrix multiplication; change its inputs or attributes first"
    )


def test_a_call_of_a_function_whose_body_does_not_take_that_dtype():
    m = wb.load(proto()).insert_node("my::Twice/a", "Sigmoid")
    before = content(m)
    with pytest.raises(
        EditError, match="node 'call' .Twice. would not fit its inputs: got picked_cast int64"
    ):
        m.insert_cast("picked", "int64")
    assert content(m) == before


def test_a_script_that_leaves_no_valid_graph_is_refused():
    pytest.importorskip("onnx_graphsurgeon")
    m = wb.load(proto()).delete("call").clean_up()
    before = content(m)
    with (
        pytest.raises(EditError, match="replace_graph was refused: the result is not valid: .*relu_node"),
        m.surgeon() as graph,
    ):
        next(node for node in graph.nodes if node.name == "relu_node").op = "Add"
    assert content(m) == before and len(m.history) == 2


def test_a_word_that_the_operator_does_not_know_is_refused(real_model):
    m = wb.load(real_model("mtcnn_onet"))
    conv = m.nodes.index[m.nodes["op_type"] == "Conv"][0]
    before = content(m)
    with pytest.raises(EditError) as caught:
        m.set_attribute(conv, "auto_pad", "text")
    assert str(caught.value) == (
        f"node {conv!r} (Conv), attribute 'auto_pad': got 'text', expected one of NOTSET, SAME_UPPER, SAME_LOWER, VALID"
    )
    assert content(m) == before


def test_an_error_in_an_edit_itself_leaves_the_graph_alone(monkeypatch):
    from workbench.edits.types import Types

    m = wb.load(proto())
    before = content(m)
    monkeypatch.setattr(Types, "settle", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        m.insert_identity("relu")
    assert content(m) == before
