"""How far one array is from another: every measure in one blocked pass, numpy only.

`Measure` takes any number of (reference, candidate) pairs of one tensor and gives the measures over all of them.
Blocks are small enough to stay in the processor's cache; a block is measured in float32 where its dtype allows it and
again in float64 where float32 would overflow, underflow or meet NaN or Inf. Sums are kept in float64.
"""

from __future__ import annotations

import functools
import math

import numpy as np

BLOCK = 1 << 15  # elements
_TINY = 1e-30  # a float32 sum of squares below this may have lost terms to underflow
_ROW = 1 << 13  # elements of one dot product: OpenBLAS would start threads for 10,000
MEASURES = (
    "max_abs", "mean_abs", "max_rel", "mean_rel", "cosine", "snr_db", "nan", "inf", "ref_nan", "ref_inf",
    "ref_min", "ref_max", "cand_min", "cand_max",
)  # fmt: skip
_NARROW = {"float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16", "bool", "int4", "uint4"}
_FLOAT, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_LONG = (np.dtype(np.int64), np.dtype(np.uint64))
_SUMS = (
    "elements", "_finite", "_nonzero", "_d", "_dd", "_rel", "_aa", "_bb", "_ab", "_nan", "_inf", "_ref_nan", "_ref_inf",
)  # fmt: skip


class Measure:
    """The error of a tensor, accumulated over pairs of arrays of equal shape.

    With d = |candidate - reference| over elements that are finite in both:

    - ``max_abs``, ``mean_abs``: of d; ``max_abs`` is inf where one is NaN or Inf and the other is not the same.
    - ``max_rel``, ``mean_rel``: of d / |reference| over the elements with reference != 0.
    - ``cosine``: <reference, candidate> / (|reference| |candidate|); 1 where both are all zero, 0 where one is.
    - ``snr_db``: 10 log10(sum reference² / sum d²) in decibels; inf where d is all zero.
    - ``nan``, ``inf``: elements that are NaN, ±Inf in the candidate; ``ref_nan``, ``ref_inf`` in the reference.
    - ``ref_min`` … ``cand_max``: range of the finite elements.

    Integers and booleans are measured as numbers, strings as 0 (equal) or 1 (different).
    """

    def __init__(self) -> None:
        self.elements = 0
        self._finite = self._nonzero = 0
        self._d = self._dd = self._rel = self._aa = self._bb = self._ab = 0.0
        self._max_abs = self._max_rel = 0.0
        self._nan = self._inf = self._ref_nan = self._ref_inf = 0
        self._range = [math.inf, -math.inf, math.inf, -math.inf]
        self.same = True  # every pair: of one dtype and the same bytes

    @property
    def equal(self) -> bool:
        """Whether no difference has been seen."""
        return self._max_abs == 0.0

    def add(self, reference: np.ndarray, candidate: np.ndarray) -> None:
        """Measure one pair of arrays of the same shape."""
        if reference.shape != candidate.shape:
            raise ValueError(f"shapes differ: {reference.shape} and {candidate.shape}")
        self.same = self.same and reference.dtype == candidate.dtype
        if reference.dtype.kind in "OSU" or candidate.dtype.kind in "OSU":
            differ = (reference.astype(str) != candidate.astype(str)).astype(np.float32)
            reference, candidate = np.zeros_like(differ), differ
        if reference.dtype.kind == "c" or candidate.dtype.kind == "c":
            reference, candidate = (a.astype(np.complex128).view(np.float64) for a in (reference, candidate))
        if not reference.size:
            return
        if reference.dtype == candidate.dtype and reference.dtype in _LONG:
            apart = _apart(reference, candidate)
            self._max_abs, self.same = max(self._max_abs, apart), self.same and not apart
        if _is_one(reference) and _is_one(candidate):
            one = (0,) * reference.ndim
            a, b = (np.array([x[one]]) for x in (reference, candidate))
            self.same = self.same and a.tobytes() == b.tobytes()
            self._exact(a.astype(np.float64), b.astype(np.float64), reference.size)
            return
        kind = _FLOAT if _is_narrow(reference.dtype) and _is_narrow(candidate.dtype) else _DOUBLE
        first, second = _Blocks(reference, kind), _Blocks(candidate, kind)
        spare: tuple[np.ndarray, ...] = ()
        with np.errstate(all="ignore"):
            for start in range(0, reference.size, BLOCK):
                n = min(BLOCK, reference.size - start)
                a, b = first.block(start, n), second.block(start, n)
                if self.same and _bits(a, b):
                    done = self._repeated(a)
                else:
                    self.same = False
                    spare = spare or tuple(np.empty((2, n), kind))
                    done = self._quick(a, b, spare[0][:n], spare[1][:n])
                if not done:
                    self._exact(a.astype(np.float64), b.astype(np.float64), 1)

    def merge(self, other: Measure) -> None:
        """Add what another one has measured."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self._max_abs = max(self._max_abs, other._max_abs)
        self._max_rel = max(self._max_rel, other._max_rel)
        self.same = self.same and other.same
        self._widen(*other._range)

    def _repeated(self, a: np.ndarray) -> bool:
        """Measure a block that is the same in both, in its own precision; False where that would not be right."""
        aa, low, high = _dot(a, a), float(np.minimum.reduce(a)), float(np.maximum.reduce(a))
        nonzero = a.size if low > 0 or high < 0 else int(np.count_nonzero(a != 0))
        if not math.isfinite(aa) or (aa < _TINY and nonzero):
            return False
        self._aa, self._bb, self._ab = self._aa + aa, self._bb + aa, self._ab + aa
        self._nonzero += nonzero
        self._widen(low, high, low, high)
        self._finite += a.size
        self.elements += a.size
        return True

    def _quick(self, a: np.ndarray, b: np.ndarray, d: np.ndarray, r: np.ndarray) -> bool:
        """Measure a block in its own precision; False (and nothing done) where that would not be right."""
        aa, bb = _dot(a, a), _dot(b, b)
        np.subtract(b, a, out=d)
        np.abs(d, out=d)
        top, dd = float(np.maximum.reduce(d)), _dot(d, d)
        if not (math.isfinite(aa) and math.isfinite(bb) and math.isfinite(dd) and math.isfinite(top)):
            return False
        low, high = float(np.minimum.reduce(a)), float(np.maximum.reduce(a))
        n = a.size
        nonzero = n if low > 0 or high < 0 else int(np.count_nonzero(a != 0))
        if (aa < _TINY and nonzero) or (dd < _TINY and top) or (bb < _TINY and b.any()):
            return False
        np.abs(a, out=r)
        if nonzero < n:  # 0/1 where the reference is 0, without the slow masked assignment
            r += a == 0
            np.divide(d * (a != 0), r, out=r)
        else:
            np.divide(d, r, out=r)
        top_rel = float(np.maximum.reduce(r))
        if not math.isfinite(top_rel):
            return False
        self._aa, self._bb, self._ab = self._aa + aa, self._bb + bb, self._ab + _dot(a, b)
        self._dd += dd
        self._d += float(np.add.reduce(d))
        self._rel += float(np.add.reduce(r))
        self._max_abs, self._max_rel = max(self._max_abs, top), max(self._max_rel, top_rel)
        self._nonzero += nonzero
        self._widen(low, high, float(np.minimum.reduce(b)), float(np.maximum.reduce(b)))
        self._finite += n
        self.elements += n
        return True

    def _exact(self, a: np.ndarray, b: np.ndarray, times: int) -> None:
        """Measure a float64 block that may hold anything; each element counts `times` times."""
        self.elements += a.size * times
        if not (math.isfinite(a.sum()) and math.isfinite(b.sum())):
            a, b = self._finite_only(a, b, times)
            if not a.size:
                return
        self._widen(float(a.min()), float(a.max()), float(b.min()), float(b.max()))
        d = np.abs(b - a)
        nonzero = a != 0
        rel = d[nonzero] / np.abs(a[nonzero])
        self._finite += a.size * times
        self._nonzero += rel.size * times
        self._d += float(d.sum()) * times
        self._rel += float(rel.sum()) * times
        self._aa += float(a @ a) * times
        self._bb += float(b @ b) * times
        self._ab += float(a @ b) * times
        self._dd += float(d @ d) * times
        self._max_abs = max(self._max_abs, float(d.max()))
        self._max_rel = max(self._max_rel, float(rel.max(initial=0.0)))

    def _finite_only(self, a: np.ndarray, b: np.ndarray, times: int) -> tuple[np.ndarray, np.ndarray]:
        """Count NaN and Inf; the elements that are finite in both."""
        self._ref_nan += int(np.isnan(a).sum()) * times
        self._ref_inf += int(np.isinf(a).sum()) * times
        self._nan += int(np.isnan(b).sum()) * times
        self._inf += int(np.isinf(b).sum()) * times
        fine_a, fine_b = np.isfinite(a), np.isfinite(b)
        both = fine_a & fine_b
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if not (same | both).all():
            self._max_abs = math.inf
        for values, at in ((a[fine_a], 0), (b[fine_b], 2)):
            if values.size:
                self._range[at] = min(self._range[at], float(values.min()))
                self._range[at + 1] = max(self._range[at + 1], float(values.max()))
        return a[both], b[both]

    def _widen(self, low: float, high: float, low2: float, high2: float) -> None:
        r = self._range
        r[0], r[1], r[2], r[3] = min(r[0], low), max(r[1], high), min(r[2], low2), max(r[3], high2)

    @property
    def noise(self) -> float:
        """Square root of the sum of d² (the Euclidean length of the error); inf where max_abs is."""
        return math.inf if math.isinf(self._max_abs) else math.sqrt(self._dd)

    def result(self) -> dict[str, float | int]:
        """The measures by name; see the class."""
        low, high, low2, high2 = (x if math.isfinite(x) else math.nan for x in self._range)
        return {
            "max_abs": self._max_abs,
            "mean_abs": self._d / self._finite if self._finite else 0.0,
            "max_rel": self._max_rel,
            "mean_rel": self._rel / self._nonzero if self._nonzero else 0.0,
            "cosine": self._cosine(),
            "snr_db": self._snr(),
            "nan": self._nan,
            "inf": self._inf,
            "ref_nan": self._ref_nan,
            "ref_inf": self._ref_inf,
            "ref_min": low,
            "ref_max": high,
            "cand_min": low2,
            "cand_max": high2,
        }

    def _cosine(self) -> float:
        if self._aa == 0.0 or self._bb == 0.0:
            return 1.0 if self._aa == self._bb else 0.0
        if self._dd == 0.0:
            return 1.0
        return max(-1.0, min(1.0, self._ab / (math.sqrt(self._aa) * math.sqrt(self._bb))))

    def _snr(self) -> float:
        if self._dd == 0.0:
            return math.inf
        return 10.0 * math.log10(self._aa / self._dd) if self._aa else -math.inf


@functools.cache
def _is_narrow(dtype: np.dtype) -> bool:
    """Whether float32 holds every value of the dtype."""
    return dtype.name in _NARROW


def _bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two blocks of one float dtype are the same bit by bit."""
    kind = np.uint32 if a.itemsize == 4 else np.uint64
    return bool((a.view(kind) == b.view(kind)).all())


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of 64-bit integers: float64 does not tell neighbours above 2^53 apart."""
    difference = np.where(a > b, a - b, b - a)  # wraps around to what is right as an unsigned number
    return float(difference.astype(np.uint64).max())


class _Blocks:
    """An array as one-dimensional blocks of one dtype, copied only where that cannot be avoided."""

    def __init__(self, array: np.ndarray, kind: np.dtype):
        self.one = _is_one(array) and array.size > BLOCK
        if self.one:
            self.flat = np.full(BLOCK, array[(0,) * array.ndim]).astype(kind)
        else:
            self.flat = np.ascontiguousarray(array).reshape(-1)
        self.same = self.flat.dtype == kind
        self.buffer = None if self.same else np.empty(min(BLOCK, self.flat.size), kind)

    def block(self, start: int, n: int) -> np.ndarray:
        part = self.flat[:n] if self.one else self.flat[start : start + n]
        if self.buffer is None:
            return part
        self.buffer[:n] = part
        return self.buffer[:n]


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """<a, b> in pieces that are summed in float64."""
    whole = a.size // _ROW * _ROW
    rest = float(np.dot(a[whole:], b[whole:]))
    if not whole:
        return rest
    return (
        float(np.vecdot(a[:whole].reshape(-1, _ROW), b[:whole].reshape(-1, _ROW)).sum(dtype=np.float64))
        + rest
    )


def _is_one(array: np.ndarray) -> bool:
    """Whether the array is one element seen many times (a broadcast view)."""
    return array.size > 1 and not any(s for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
