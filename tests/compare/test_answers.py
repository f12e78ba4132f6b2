"""The questions that a comparison answers: its table, verdicts, rankings, values, files and Polygraphy."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import pytest
import real_models
from compare import cases, oracle, small
from compare.small import mlp, node
from compare.test_odd import feeds

import workbench as wb
from workbench.errors import CompareError, NotInModelError
from workbench.metrics import MEASURES


@pytest.fixture(scope="module")
def comparison() -> wb.Comparison:
    return wb.compare(mlp(), mlp(1.1), feeds((3, 8), (2, 8)), progress=False)


def test_the_table_has_the_columns_that_scripts_rely_on(comparison):
    table = comparison.table
    assert table.index.name == "tensor"
    assert list(table.index) == ["h", "a", "r", "m", "y"]
    promised = "node op_type dtype shape status max_abs mean_abs max_rel mean_rel cosine snr_db nan inf ref_min ref_max"
    assert set(promised.split()) <= set(table.columns)
    assert {f"local_{measure}" for measure in MEASURES} <= set(table.columns)
    assert table.op_type.tolist() == ["MatMul", "Add", "Relu", "MatMul", "Softmax"]
    assert table.dtype.unique().tolist() == ["float32"]
    assert table["shape"]["y"] == (3, 8)
    assert table.order.tolist() == [0, 1, 2, 3, 4]
    assert table.depth.tolist() == [1, 2, 3, 4, 5]
    assert (table.nan.dtype, table.local_inf.dtype) == ("Int64", "Int64")


def test_tolerances(comparison):
    error = comparison.table.error
    assert comparison.table.ref_max["m"] > 1  # so the error is relative to it
    assert error["m"] == pytest.approx(
        comparison.table.max_abs["m"] / max(comparison.table.ref_max["m"], -comparison.table.ref_min["m"])
    )
    assert error["y"] == comparison.table.max_abs["y"]
    assert comparison.first_divergence().name == "m"
    assert comparison.first_divergence(error["m"]).name == "y" if error["y"] > error["m"] else True
    assert comparison.first_divergence(max(error)) is None
    assert comparison.first_divergence({"snr_db": 1000}) is not None
    assert comparison.first_divergence({"snr_db": 15, "cosine": 0.9}) is None
    assert comparison.first_divergence({"cosine": 1.0}) is not None
    assert comparison.first_divergence({"local_max_abs": 1e-6}).name == "m"
    with pytest.raises(
        CompareError, match="^no measure 'max' for a tolerance; use one of error, max_abs, mean_abs"
    ):
        comparison.first_divergence({"max": 1})


def test_the_verdict_follows_the_tolerance():
    assert not wb.compare(mlp(), mlp(1.1), feeds((3, 8)), progress=False).ok
    assert wb.compare(mlp(), mlp(1.1), feeds((3, 8)), tolerance=0.5, progress=False).ok
    assert wb.compare(mlp(), mlp(1.1), feeds((3, 8)), tolerance={"cosine": 0.9}, progress=False).ok


def test_worst(comparison):
    assert list(comparison.worst(2).index) == ["m", "y"]
    assert comparison.worst(1, by="snr_db").index[0] == comparison.table.snr_db.idxmin()
    assert comparison.worst(1, by="local_max_abs").index[0] == "m"
    assert comparison.worst(99, by="cosine").cosine.is_monotonic_increasing
    with pytest.raises(
        CompareError, match="^cannot rank tensors by 'node'; use one of error, max_abs, mean_abs"
    ):
        comparison.worst(3, by="node")


def test_values_of_a_tensor(comparison):
    values = [oracle.every_tensor(model, feeds((3, 8), (2, 8))) for model in (mlp(), mlp(1.1))]
    for item in (0, 1):
        pair = comparison.arrays("y", item)
        assert np.allclose(pair.reference, values[0][item]["y"], rtol=1e-6)
        assert np.allclose(pair.candidate, values[1][item]["y"], rtol=1e-6)
        assert np.array_equal(pair.local, pair.reference)
    assert np.abs(comparison["m"].candidate - comparison["m"].reference).max() > 0.1
    with pytest.raises(
        NotInModelError, match="^the comparison has no tensor 'nothing'; see .table.index for those that"
    ):
        comparison["nothing"]


def test_values_agree_with_the_table_on_a_real_model():
    name = "ppocr_cls"
    model, given = onnx.load(real_models.find(name)), cases.feeds(name, 2)
    comparison = wb.compare(model, cases.simplified(model), given, threads=1, progress=False)
    compared = comparison.table[comparison.table.status == "compared"]
    for tensor in compared.index[:: len(compared) // 6]:
        pairs = [comparison.arrays(tensor, item) for item in range(2)]
        row = compared.loc[tensor]
        expected = oracle.measures([(p.reference, p.candidate) for p in pairs])
        local = oracle.measures([(p.reference, p.local) for p in pairs])
        assert row.max_abs == pytest.approx(expected["max_abs"], rel=1e-6), tensor
        assert row.local_max_abs == pytest.approx(local["max_abs"], rel=1e-6), tensor


def test_json_and_back(comparison):
    text = comparison.to_json()
    data = json.loads(text)
    assert data["ok"] is False and data["outputs"] == ["y"]
    assert data["records"][0]["snr_db"] == "inf" and data["records"][0]["node"] == "first"
    again = wb.Comparison.from_json(text)
    assert again.table.equals(comparison.table)
    assert again.to_json() == text
    assert str(again) == str(comparison)
    assert again.first_divergence().name == "m"
    assert again.explain().startswith(
        "5 of 5 tensors were compared over 2 inputs. The models first part at 'm'"
    )
    with pytest.raises(
        CompareError, match="^the models of this comparison are not at hand .it was read from a file.: comp"
    ):
        again["y"]


def test_to_polygraphy_and_from_it(comparison, tmp_path):
    from polygraphy.comparator import Comparator

    results = comparison.to_polygraphy()
    assert [name for name, _ in results] == ["reference", "candidate"]
    assert [list(item) for item in results["candidate"]] == [["y"], ["y"]]
    assert not Comparator.compare_accuracy(results)
    results = comparison.to_polygraphy(["m", "y"])
    path = tmp_path / "outputs.json"
    results.save(str(path))
    for source in (results, path, str(path)):
        again = wb.Comparison.from_polygraphy(source)
        assert list(again.table.index) == ["m", "y"]
        for measure in MEASURES:
            assert np.allclose(
                again.table[measure].astype(float),
                comparison.table.loc[["m", "y"], measure].astype(float),
                rtol=1e-5,
            ), measure
        assert again.ok == comparison.ok
        assert again.meta["inputs"] == 2
    with pytest.raises(CompareError, match="^tensor 'nothing' is not in both models; see the column status"):
        comparison.to_polygraphy(["nothing"])
    path.write_text("{}")
    with pytest.raises(CompareError, match=f"^{path} is not a file of `polygraphy run --save-outputs`: "):
        wb.Comparison.from_polygraphy(path)


def test_runners_can_be_mixed_with_polygraphy_s_own(tmp_path):
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.comparator import Comparator

    from workbench.backends import Runner

    model = mlp(dims=(2, 8))
    theirs = OnnxrtRunner(SessionFromOnnx(model.SerializeToString()))
    results = Comparator.run(
        [Runner(model), theirs, Runner(mlp(1.1, dims=(2, 8)))], data_loader=feeds((2, 8))
    )
    assert Comparator.compare_accuracy(results, comparisons=[(0, 1)])
    assert not Comparator.compare_accuracy(results, comparisons=[(0, 2)])


def test_as_run_compares_the_graph_that_is_executed():
    name = "ppocr_cls"
    model, given = onnx.load(real_models.find(name)), cases.feeds(name, 1)
    comparison = wb.compare(model, model, given, as_run=True, progress=False)
    table = comparison.table
    compared = table[table.status == "compared"]
    assert 50 < len(compared) < len(table) / 1.5  # much is fused away
    assert comparison.ok
    assert 0 < compared.max_abs.max() < 1e-2  # it computes in another way
    seen = comparison.meta["observer"]
    assert seen["nodes"] < seen["nodes_marked"]
    assert seen["ms"] > 0 and seen["ms_marked"] > 0 and 0 <= seen["max_abs"] < 1e-3
    assert comparison.meta["as_run"] is True
    assert (table.status == "fused away: not in the graph that the runtime executes").sum() > 50
    assert (table.status == "made by the runtime's optimiser").sum() > 20


def test_several_outputs_share_the_blame():
    def make(k: float, m: float) -> onnx.ModelProto:
        nodes = [node("Mul", ["x", "k"], ["a"], "left"), node("Mul", ["x", "m"], ["b"], "right")]
        return small.model(nodes, {"x": [16]}, ["a", "b"], {"k": np.float32(k), "m": np.float32(m)})

    blamed = wb.compare(make(1, 100), make(1.3, 140), feeds((16,)), progress=False).blame()
    assert list(blamed.index) == ["right", "left"]  # each output counts relative to its size
    assert blamed.share.tolist() == pytest.approx([0.16 / 0.25, 0.09 / 0.25], rel=1e-4)
    assert blamed.tensor.tolist() == ["b", "a"]


def test_words_for_what_is_within_tolerance():
    text = wb.compare(mlp(), mlp(1.0001), feeds((3, 8)), progress=False).explain()
    assert text.startswith(
        "5 of 5 tensors were compared over 1 input. Every tensor is within tolerance 0.001; the largest"
    )
    assert "At the output the error is within tolerance" in text
    assert text.endswith("Taken alone, MatMul node 'second' makes 100% of the output's squared error.")


def test_words_for_an_error_that_is_inherited(comparison):
    text = comparison.explain()
    assert "The models first part at 'm', made by MatMul node 'second': error 0.1" in text
    assert "The node adds this itself: on the reference's values it gives the same error." in text
    assert f"It reaches the output 'y' as an error of {comparison.table.error['y']:.2g}" in text
    assert text.endswith("Taken alone, MatMul node 'second' makes 100% of the output's squared error.")


def test_what_was_run_is_stated(comparison):
    import onnxruntime

    meta = comparison.meta
    assert (meta["runtime"], meta["version"]) == ("onnxruntime", onnxruntime.__version__)
    assert (meta["inputs"], meta["optimize"], meta["as_run"]) == (2, "none", False)
    assert meta["seconds"] > 0 and meta["memory_budget"] == 128 << 20 and meta["segments"] == 1
    assert 0 < meta["peak_bytes"] < 1 << 20
    assert (
        "small | small: different (tolerance 0.001); 5 of 5 tensors compared; first divergence 'm' (node 'second', "
        in str(comparison)
    )


def test_generated_inputs():
    comparison = wb.compare(mlp(), mlp(1.1), shapes={"batch": 4}, count=3, seed=7, progress=False)
    again = wb.compare(mlp(), mlp(1.1), shapes={"batch": 4}, count=3, seed=7, progress=False)
    assert comparison.records == again.records
    assert comparison.meta["inputs"] == 3
    assert comparison.table["shape"]["y"] == (4, 8)
    other = wb.compare(mlp(), mlp(1.1), shapes={"batch": 4}, count=3, seed=8, progress=False)
    assert other.table.max_abs["y"] != comparison.table.max_abs["y"]
    assert not math.isnan(other.table.max_abs["y"])


@pytest.mark.parametrize("name", ["ppocr_rec", "style_multi", "light_squeezenet", "random_squeezenet"])
def test_as_run_only_rounds_differently(name: str):
    """Layouts of the runtime's own are never mistaken for the tensor whose name they carry."""
    light = name.replace("random", "light")
    model, given = onnx.load(real_models.find(light)), cases.feeds(light, 1)
    model = cases.randomized(model) if light != name else model
    comparison = wb.compare(model, model, given, as_run=True, local=False, progress=False)
    compared = comparison.table[comparison.table.status == "compared"]
    # how many keep their layout hangs on the processor: without AVX-512 the runtime's blocks fit more channels
    assert comparison.ok and len(compared) >= 2
    assert compared.snr_db.min() > 95
