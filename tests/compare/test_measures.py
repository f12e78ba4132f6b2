"""`metrics.Measure`, blocked and in float32 where it can, against the oracle's plain float64."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from compare.oracle import measures
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.metrics import BLOCK, MEASURES, Measure

SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 1e-30, 1e-20, 1e19, 3e38, -3e38, 1.0, -1.0])


def measured(*pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    measure = Measure()
    for reference, candidate in pairs:
        measure.add(reference, candidate)
    return measure.result()


def assert_same(
    got: dict[str, float], expected: dict[str, float], *, rtol: float = 1e-4, what: str = ""
) -> None:
    """Counts and ranges exact, largest values to float32's last digit, sums to `rtol`."""
    assert set(expected) <= set(got), what
    for name, value in expected.items():
        close = {
            "max_abs": 2e-7, "max_rel": 1e-6, "nan": 0, "inf": 0, "ref_nan": 0, "ref_inf": 0,
            "ref_min": 0, "ref_max": 0, "cand_min": 0, "cand_max": 0,
        }.get(name, rtol)  # fmt: skip
        absolute = {"snr_db": 2e-3, "cosine": 1e-6}.get(name, 0.0)
        assert got[name] == pytest.approx(value, rel=close, abs=absolute, nan_ok=True), f"{what} {name}"


def test_the_measures_are_those_that_the_table_promises():
    zeros = np.zeros(3, np.float32)
    assert tuple(measured((zeros, zeros))) == MEASURES
    assert set(measures([(zeros, zeros)])) == set(MEASURES)


def test_by_hand():
    reference = np.array([[1.0, -2.0], [0.0, 4.0]], np.float32)
    candidate = np.array([[1.5, -2.0], [1.0, 3.0]], np.float32)
    got = measured((reference, candidate))
    assert got["max_abs"] == 1.0
    assert got["mean_abs"] == 2.5 / 4
    assert got["max_rel"] == 0.5
    assert got["mean_rel"] == pytest.approx((0.5 + 0.0 + 0.25) / 3)
    assert got["cosine"] == pytest.approx((1.5 + 4 + 0 + 12) / math.sqrt(21 * (2.25 + 4 + 1 + 9)))
    assert got["snr_db"] == pytest.approx(10 * math.log10(21 / 2.25))
    assert (got["ref_min"], got["ref_max"], got["cand_min"], got["cand_max"]) == (-2, 4, -2, 3)
    assert (got["nan"], got["inf"], got["ref_nan"], got["ref_inf"]) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("reference", "candidate", "expected"),
    [
        ([], [], {"max_abs": 0, "mean_abs": 0, "cosine": 1, "snr_db": np.inf}),
        ([0, 0], [0, 0], {"max_abs": 0, "cosine": 1, "snr_db": np.inf}),
        ([0, 0], [1, 0], {"max_abs": 1, "max_rel": 0, "cosine": 0, "snr_db": -np.inf}),
        ([1, 2], [0, 0], {"max_abs": 2, "max_rel": 1, "cosine": 0, "snr_db": 0}),
        ([1, np.nan], [1, np.nan], {"max_abs": 0, "nan": 1, "ref_nan": 1, "cosine": 1, "snr_db": np.inf}),
        ([1, np.inf], [1, np.inf], {"max_abs": 0, "inf": 1, "ref_inf": 1, "ref_max": 1}),
        ([1, np.inf], [1, -np.inf], {"max_abs": np.inf, "mean_abs": 0, "inf": 1, "ref_inf": 1}),
        ([1, np.nan], [1, np.inf], {"max_abs": np.inf, "nan": 0, "inf": 1, "ref_nan": 1}),
        ([1, 2], [1, np.nan], {"max_abs": np.inf, "mean_abs": 0, "nan": 1, "ref_max": 2, "cand_max": 1}),
        ([1, np.nan], [1, 5], {"max_abs": np.inf, "nan": 0, "ref_nan": 1, "cand_max": 5, "ref_max": 1}),
        ([np.nan], [np.nan], {"max_abs": 0, "mean_abs": 0, "ref_min": np.nan, "cand_max": np.nan}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_edges(reference: list, candidate: list, expected: dict, dtype: type):
    pair = np.array(reference, dtype), np.array(candidate, dtype)
    got = measured(pair)
    assert_same({**got}, measures([pair]))
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, nan_ok=True), name


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from(["f4", "f8", "f2", "bf16", "i8", "u1", "?"])
)
def test_random_pairs_with_special_values(seed: int, count: int, kind: str):
    random = np.random.default_rng(seed)
    dtype = np.dtype(ml_dtypes.bfloat16) if kind == "bf16" else np.dtype(kind)
    pairs = []
    for _ in range(count):
        size = int(random.integers(0, 3 * BLOCK)) if random.random() < 0.2 else int(random.integers(0, 40))
        scale = 10.0 ** random.integers(-20, 19)
        reference = random.normal(0, 1, size) * scale
        candidate = reference * (1 + random.normal(0, 1, size) * 10.0 ** random.integers(-8, 1))
        if random.random() < 0.4:
            for array in (reference, candidate):
                at = random.random(size) < 0.1
                array[at] = random.choice(SPECIAL, at.sum())
        if dtype.kind in "iub":
            reference, candidate = (
                np.nan_to_num(a / scale * 20, posinf=99, neginf=9) for a in (reference, candidate)
            )
            reference, candidate = np.clip(reference, 0, 200), np.clip(candidate, 0, 200)
        with np.errstate(all="ignore"):
            pairs.append((reference.astype(dtype), candidate.astype(dtype)))
    assert_same(measured(*pairs), measures(pairs))


@pytest.mark.parametrize(
    ("scale_reference", "scale_candidate"),
    [
        (1e27, 1.001e27),
        (3e38, -3e38),
        (1e-25, 1.0),
        (1.0, 1e-25),
        (1e-30, 2e-30),
        (1e-44, 3e-44),
        (1e19, 1e-19),
    ],
)
def test_float32_whose_squares_overflow_or_vanish(scale_reference: float, scale_candidate: float):
    random = np.random.default_rng(0)
    reference = (random.random(BLOCK + 5) * scale_reference).astype(np.float32)
    candidate = (random.random(BLOCK + 5) * scale_candidate).astype(np.float32)
    assert_same(measured((reference, candidate)), measures([(reference, candidate)]))


def test_one_wrong_element_at_the_end_of_millions():
    reference = np.ones(3 * BLOCK + 7, np.float32)
    candidate = reference.copy()
    candidate[-1] = np.float32(1) + np.finfo(np.float32).eps
    got = measured((reference, candidate))
    assert got["max_abs"] == np.finfo(np.float32).eps
    assert got["mean_abs"] == pytest.approx(np.finfo(np.float32).eps / reference.size)
    assert got["snr_db"] == pytest.approx(10 * math.log10(reference.size / np.finfo(np.float32).eps ** 2))


def test_arrays_in_any_layout_and_broadcast_views():
    random = np.random.default_rng(0)
    base = random.random((300, 400)).astype(np.float32)
    view = np.broadcast_to(np.float32(0.25), (400, 300))
    for reference, candidate in [
        (base.T, np.ascontiguousarray(base.T) * np.float32(1.01)),
        (base[::2, ::-1], base[1::2]),
        (view, base.T),
        (base.T, view),
        (view, np.broadcast_to(np.float32(0.5), (400, 300))),
        (np.broadcast_to(np.float32(np.nan), (400, 300)), view),
        (np.array(3.0, np.float32), np.array(4.0, np.float32)),
    ]:
        assert_same(measured((reference, candidate)), measures([(reference, candidate)]))


def test_dtypes_that_differ():
    random = np.random.default_rng(0)
    reference = random.normal(0, 1, (64, 70)).astype(np.float32)
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8, np.int64):
        candidate = reference.astype(dtype)
        assert_same(measured((reference, candidate)), measures([(reference, candidate)]), what=str(dtype))
        assert_same(measured((candidate, reference)), measures([(candidate, reference)]), what=str(dtype))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_large_integers_that_float64_does_not_tell_apart(dtype: type):
    reference = np.array([1 << 60, 5], dtype)
    candidate = reference + np.array([1, 0], dtype)
    assert measured((reference, candidate))["max_abs"] == 1
    assert measured((candidate, reference))["max_abs"] == 1
    ends = np.array([np.iinfo(dtype).min], dtype), np.array([np.iinfo(dtype).max], dtype)
    assert measured(ends)["max_abs"] == measured(ends[::-1])["max_abs"] == 2.0**64


def test_pieces_can_be_merged():
    random = np.random.default_rng(0)
    pairs = [(random.normal(0, 1, 900), random.normal(0, 1, 900)) for _ in range(4)]
    pairs[1][1][3] = np.nan
    pairs[3] = pairs[3][0] * 100, pairs[3][1]
    whole = Measure()
    for pair in pairs:
        part = Measure()
        part.add(*pair)
        whole.merge(part)
    assert_same(whole.result(), measures(pairs))
    whole.merge(Measure())
    assert_same(whole.result(), measures(pairs))


def test_strings():
    a, b = np.array(["a", "b"], object), np.array(["a", "c"], object)
    assert measured((a, a))["max_abs"] == measures([(a, a)])["max_abs"] == 0
    assert measured((a, b))["max_abs"] == measures([(a, b)])["max_abs"] == 1


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"^shapes differ: \(2, 3\) and \(3, 2\)$"):
        Measure().add(np.zeros((2, 3)), np.zeros((3, 2)))
