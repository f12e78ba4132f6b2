"""The blocked measures against plain numpy in float64, and every special value."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from workbench.metrics import BLOCK, MEASURES, Measure


def plain(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    d = np.abs(b - a)
    nonzero = a != 0
    rel = d[nonzero] / np.abs(a[nonzero])
    return {
        "max_abs": d.max(),
        "mean_abs": d.mean(),
        "max_rel": rel.max(initial=0.0),
        "mean_rel": rel.mean() if rel.size else 0.0,
        "cosine": (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()),
        "snr_db": 10 * np.log10((a * a).sum() / (d * d).sum()),
        "ref_min": a.min(),
        "ref_max": a.max(),
        "cand_min": b.min(),
        "cand_max": b.max(),
    }


def measure(a, b) -> dict[str, float]:
    m = Measure()
    m.add(np.asarray(a), np.asarray(b))
    return m.result()


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ml_dtypes.bfloat16, "int8", "int32", "int64", "uint8"]
)
@pytest.mark.parametrize("size", [1, 7, BLOCK - 1, BLOCK, 2 * BLOCK + 12345])
def test_equals_plain_numpy(dtype, size):
    rng = np.random.default_rng(size)
    a = (rng.standard_normal(size) * 40).astype(dtype)
    b = (a.astype(np.float64) * 1.25 + 3).clip(-120, 120).astype(dtype)
    if dtype == "uint8":
        a, b = np.abs(rng.integers(0, 200, size)).astype(dtype), rng.integers(0, 200, size).astype(dtype)
    expected = plain(a, b)
    got = measure(a, b)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=2e-5), name
    assert got["max_abs"] == pytest.approx(expected["max_abs"], rel=1e-6)
    assert (got["nan"], got["inf"], got["ref_nan"], got["ref_inf"]) == (0, 0, 0, 0)


def test_several_arrays_measure_as_one():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 70_000)).astype(np.float32)
    m = Measure()
    for x, y in zip(a, b, strict=True):
        m.add(x, y)
    whole = measure(a, b)
    for name, value in m.result().items():
        assert value == pytest.approx(whole[name], rel=1e-6), name
    assert m.elements == 210_000


def test_merged_measures_measure_as_one():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 4, 1000)).astype(np.float32)
    b[2, 5], a[3, 7] = np.nan, np.inf
    whole, parts = Measure(), Measure()
    for x, y in zip(a, b, strict=True):
        part = Measure()
        part.add(x, y)
        parts.merge(part)
        whole.add(x, y)
    assert parts.result() == pytest.approx(whole.result(), rel=1e-12)
    assert (parts.elements, parts.equal) == (4000, False)
    parts.merge(Measure())
    assert parts.result() == pytest.approx(whole.result(), rel=1e-12)


def test_equal_arrays():
    a = np.linspace(-2, 5, 100_000, dtype=np.float32)
    got = measure(a, a.copy())
    assert got == {
        "max_abs": 0.0, "mean_abs": 0.0, "max_rel": 0.0, "mean_rel": 0.0, "cosine": 1.0, "snr_db": math.inf,
        "nan": 0, "inf": 0, "ref_nan": 0, "ref_inf": 0,
        "ref_min": -2.0, "ref_max": 5.0, "cand_min": -2.0, "cand_max": 5.0,
    }  # fmt: skip


def test_zeros_in_the_reference_are_left_out_of_relative_measures():
    got = measure(np.array([0, 0, 2, -4], "f4"), np.array([1, 0, 3, -4], "f4"))
    assert got["max_rel"] == 0.5
    assert got["mean_rel"] == 0.25
    assert got["max_abs"] == 1.0
    assert got["mean_abs"] == 0.5


@pytest.mark.parametrize(
    ("a", "b", "cosine", "snr"),
    [
        ([0, 0], [0, 0], 1.0, math.inf),
        ([0, 0], [1, 0], 0.0, -math.inf),
        ([1, 0], [0, 0], 0.0, 0.0),
        ([1, 2], [-1, -2], -1.0, None),
    ],
)
def test_degenerate_directions(a, b, cosine, snr):
    got = measure(np.array(a, "f4"), np.array(b, "f4"))
    assert got["cosine"] == pytest.approx(cosine)
    if snr is not None:
        assert got["snr_db"] == pytest.approx(snr)


def test_nan_and_inf_are_counted_and_mismatches_are_infinite():
    nan, inf = math.nan, math.inf
    a = np.array([1, nan, inf, -inf, 2, 3], "f4")
    same = measure(a, a.copy())
    assert (same["max_abs"], same["nan"], same["inf"], same["ref_nan"], same["ref_inf"]) == (0.0, 1, 2, 1, 2)
    assert (same["ref_min"], same["ref_max"]) == (1.0, 3.0)
    b = np.array([1, nan, inf, inf, 2, nan], "f4")
    got = measure(a, b)
    assert (got["max_abs"], got["nan"], got["inf"]) == (math.inf, 2, 2)
    assert got["mean_abs"] == 0.0
    nothing = measure(np.full(5, nan, "f4"), np.full(5, nan, "f4"))
    assert nothing["max_abs"] == 0.0
    assert math.isnan(nothing["ref_min"])


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e25, 1e38])
def test_values_whose_squares_leave_float32(scale):
    a = (np.linspace(0.5, 1, 50_000) * scale).astype("f4")
    b = a * np.float32(1.01)
    expected = plain(a, b)
    got = measure(a, b)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-4), name


def test_tiny_difference_between_ordinary_values():
    a = np.ones(1000, "f4")
    b = a.copy()
    b[17] = np.nextafter(np.float32(1), np.float32(2))
    got = measure(a, b)
    assert got["max_abs"] == float(b[17]) - 1.0
    assert got["snr_db"] == pytest.approx(10 * math.log10(1000 / (float(b[17]) - 1.0) ** 2))


def test_broadcast_views_are_measured_without_being_spread_out():
    shape = (1 << 14, 1 << 14, 64)  # 64 GB if it were written out
    a = np.broadcast_to(np.float32(2), shape)
    b = np.broadcast_to(np.float32(3), shape)
    got = measure(a, b)
    assert (got["max_abs"], got["mean_abs"], got["max_rel"], got["cosine"]) == (1.0, 1.0, 0.5, 1.0)
    assert got["snr_db"] == pytest.approx(10 * math.log10(4))
    mixed = measure(np.broadcast_to(np.float32(2), (3, 50_000)), np.full((3, 50_000), 3, "f4"))
    assert mixed["snr_db"] == pytest.approx(10 * math.log10(4), rel=1e-5)


def test_strings_booleans_complex_empty_scalar():
    assert measure(np.array(["a", "b"]), np.array(["a", "c"]))["max_abs"] == 1.0
    assert measure(np.array(["a", "b"], object), np.array(["a", "b"], object))["max_abs"] == 0.0
    assert measure(np.array([True, False]), np.array([True, True]))["mean_abs"] == 0.5
    assert measure(np.array([1 + 2j]), np.array([1 + 4j]))["max_abs"] == 2.0
    empty = measure(np.zeros((0, 3), "f4"), np.zeros((0, 3), "f4"))
    assert (empty["max_abs"], empty["cosine"], empty["snr_db"]) == (0.0, 1.0, math.inf)
    assert measure(np.float32(2), np.float32(2.5))["max_abs"] == 0.5


def test_strided_arrays():
    a = np.arange(120_000, dtype="f4").reshape(300, 400)
    assert measure(a.T, a.T + 1)["max_abs"] == 1.0
    assert measure(a[:, ::2], a[:, 1::2])["mean_abs"] == 1.0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"shapes differ: \(2,\) and \(3,\)"):
        measure(np.zeros(2), np.zeros(3))


def test_every_measure_is_named():
    assert tuple(measure(np.ones(3), np.ones(3))) == MEASURES
