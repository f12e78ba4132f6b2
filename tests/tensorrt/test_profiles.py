"""Optimisation profiles from what a user writes, checked against the model."""

from __future__ import annotations

import numpy as np
import pytest
import real_models
from onnx import helper
from small_engines import mlp, model

import workbench as wb
from workbench.errors import InputError
from workbench.tensorrt.profiles import make


def two() -> wb.Model:
    """Two inputs that share a dim, and one dim that is computed from two others."""
    nodes = [helper.make_node("Concat", ["past", "x"], ["all"], "cat", axis=1)]
    return model(
        nodes, {"past": ("batch", "p", 4), "x": ("batch", "s", 4), "mask": ("batch", "p + s")}, ["all"]
    )


def test_a_dim_by_name_a_whole_shape_and_a_shape_of_ranges_mean_the_same():
    wanted = {"x": ((1, 8), (4, 8), (32, 8))}
    for given in (
        {"batch": (1, 4, 32)},
        {"x": ((1, 4, 32), 8)},
        {"x": ((1, 8), (4, 8), (32, 8))},
        {"x": [[1, 8], [4, 8], [32, 8]]},
    ):
        (profile,) = make(mlp(), given)
        assert profile.shapes == wanted
    assert str(profile) == "x 1…4…32×8"
    assert profile.holds({"x": (32, 8)})
    assert not profile.holds({"x": (33, 8)})
    assert not profile.holds({"x": (8,)})


def test_dims_that_are_not_named_are_fixed_at_what_would_be_generated():
    (profile,) = make(mlp())
    assert profile.shapes == {"x": ((1, 8), (1, 8), (1, 8))}
    (profile,) = make(mlp(), {"batch": 3})
    assert profile.shapes == {"x": ((3, 8), (3, 8), (3, 8))}


def test_shared_and_computed_dims_follow():
    (profile,) = make(two(), {"batch": (1, 2, 4), "p": (0, 5, 9), "s": (1, 1, 3)})
    assert profile.shapes == {
        "past": ((1, 0, 4), (2, 5, 4), (4, 9, 4)),
        "x": ((1, 1, 4), (2, 1, 4), (4, 3, 4)),
        "mask": ((1, 1), (2, 6), (4, 12)),
    }


def test_several_profiles():
    one, many = make(mlp(), profiles=[{"batch": 1}, {"batch": (2, 8, 64)}])
    assert one.shapes["x"][2] == (1, 8)
    assert many.shapes["x"] == ((2, 8), (8, 8), (64, 8))


def test_values_of_inputs_that_may_be_shapes():
    path = real_models.find("silero_vad_ifless")
    (profile,) = make(wb.load(path))
    assert profile.values["sr"] == ((16000,), (16000,), (16000,))
    (profile,) = make(wb.load(path), values={"sr": 8000})
    assert profile.values["sr"] == ((8000,), (8000,), (8000,))
    (profile,) = make(wb.load(path), values={"sr": (8000, 16000, 16000)})
    assert profile.values["sr"] == ((8000,), (16000,), (16000,))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"batch": (8, 4, 32)}, r"shapes\['batch'\] of small: got \(8, 4, 32\), expected min <= opt <= max"),
        (
            {"batch": (1, 2)},
            r"shapes\['batch'\] of small: got \(1, 2\), expected a size or \(min, opt, max\)",
        ),
        ({"bach": 1}, r"no such dim or input.*did you mean 'batch'"),
        ({"x": ((1, 2, 3), 9)}, r"axis 1 got 9, but the model fixes it"),
        ({"x": ((1, 2, 3), 8, 1)}, r"of rank 3, expected"),
        ({"x": 3}, r"shapes\['x'\] of small: got 3, expected a shape, or three shapes"),
        ({"batch": (-1, 1, 2)}, r"a whole number of 0 or more"),
        (
            {"batch": (1, 8, 2**32)},
            r"the max shape of x of small is \[4294967296, 8\]; a dim of TensorRT is at most 2147483647",
        ),
        ([{"batch": 1}], r"got shapes=\[\{'batch': 1\}\], expected a dict .* several of them go into profiles="),
    ],
)
def test_what_does_not_fit_is_refused(given, text):
    with pytest.raises(InputError, match=text):
        make(mlp(), given)


def test_shapes_and_profiles_exclude_each_other():
    with pytest.raises(InputError, match="got shapes= and profiles=; give one of them"):
        make(mlp(), {"batch": 1}, [{"batch": 1}])
    with pytest.raises(InputError, match="profiles= is empty; leave it out"):
        make(mlp(), profiles=[])
    with pytest.raises(InputError, match=r"got profiles=\{'batch': 1\}, expected a list of dicts such as"):
        make(mlp(), profiles={"batch": 1})
    with pytest.raises(InputError, match=r"values\['y'\] of small: no such input; inputs are \['x'\]"):
        make(mlp(), values={"y": 1})


def test_sizes_with_which_a_node_cannot_work_name_it():
    weights = {"w": np.zeros((4, 3, 5, 5), "f4")}
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "stem")
    net = model([conv], {"x": (1, 3, "h", "w_")}, ["y"], weights)
    with pytest.raises(InputError, match=r"the min shapes of small \(x \[1, 3, 4, 64\]\) do not work.*stem"):
        make(net, {"h": (4, 64, 128), "w_": 64})
