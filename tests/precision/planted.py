"""Models with a known weakness in fp16, and the smallest sets by trying every set of nodes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from precision import small

import workbench as wb
from workbench.precision.trials import Trials, as_model


def softmax() -> wb.Model:
    """Scores of some thousand, of which the softmax takes differences; nodes before and after are harmless."""
    w = small.normal(8, 8, seed=1, scale=0.35)
    return small.model(
        """g (float[4, 8] x) => (float[4, 8] y) {
          a = MatMul(x, w)
          b = Tanh(a)
          c = MatMul(b, w)
          scores = Add(c, far)
          p = Softmax(scores)
          d = MatMul(p, w)
          e = Sigmoid(d)
          y = Mul(e, d)
        }""",
        w=w, far=np.float32([3000]),
    )  # fmt: skip


def residual() -> wb.Model:
    """A residual stream that holds a large number, which one branch never sees and the end subtracts."""
    return small.model(
        """g (float[4, 8] x) => (float[4, 8] y) {
          a = Tanh(x)
          r = Add(a, large)
          s = Add(r, one)
          f = Sigmoid(a)
          t = Add(s, f)
          u = Sub(t, large)
          v = MatMul(u, w)
          y = Tanh(v)
        }""",
        w=small.normal(8, 8, scale=0.35), large=np.float32([40000]), one=np.float32([1]),
    )  # fmt: skip


def variance() -> wb.Model:
    """A variance as E[x²] - E[x]², of values far from 0."""
    return small.model(
        """g (float[4, 16] x) => (float[4, 16] y) {
          h = Add(x, offset)
          square = Mul(h, h)
          mean_square = ReduceMean <axes = [1]> (square)
          mean = ReduceMean <axes = [1]> (h)
          squared = Mul(mean, mean)
          var = Sub(mean_square, squared)
          y = Sqrt(var)
        }""",
        offset=np.float32([10]),
    )  # fmt: skip


def overflow() -> wb.Model:
    """Two places that overflow, far from each other, and a mask whose overflow does no harm."""
    return small.model(
        """g (float[4, 8] x, float[4, 8] mask) => (float[4, 8] y) {
          b = Mul(x, big)
          c = Mul(b, little)
          hidden = Mul(mask, huge)
          e = Add(c, hidden)
          p = Softmax(e)
          far = Add(p, two)
          g1 = Mul(far, big)
          y = Mul(g1, little)
        }""",
        big=np.float32([60000]), little=np.float32([1 / 60000]), huge=np.float32([-60000]), two=np.float32([2]),
    )  # fmt: skip


def epsilon() -> wb.Model:
    """A norm that is kept from 0 by a number that fp16 does not have."""
    return small.model(
        """g (float[4, 8] x) => (float[4, 8] y) {
          a = Relu(x)
          b = Mul(a, a)
          c = ReduceMean <axes = [1]> (b)
          d = Add(c, tiny)
          e = Sqrt(d)
          f = Div(a, e)
          y = Tanh(f)
        }""",
        tiny=np.float32([1e-9]),
    )  # fmt: skip


PLANTED = {"epsilon": epsilon, "softmax": softmax, "residual": residual, "variance": variance, "overflow": overflow}
TOLERANCE = {"epsilon": 0.004, "softmax": 0.004, "residual": 0.004, "variance": 0.02, "overflow": 0.002}


def feeds(name: str) -> list[dict[str, np.ndarray]]:
    """Inputs of a planted model."""
    x = small.normal(4, 16 if name == "variance" else 8, seed=3) * (2 if name == "overflow" else 1)
    if name == "overflow":
        mask = np.zeros((4, 8), np.float32)
        mask[:, 5:] = 2
        return [{"x": x, "mask": mask}]
    if name == "epsilon":
        x[1] = -1  # a row of which nothing is left
    return [{"x": 1 / (1 + np.exp(-x))}] if name == "variance" else [{"x": x}]


def smallest(model: wb.Model, inputs: list, tolerance: float, at_most: int) -> list[frozenset[str]]:
    """All smallest sets within tolerance, by trying every set of up to ``at_most`` nodes."""
    feed = inputs[0]
    want = small.run(model, feed)["y"]
    with Trials(model, "float16", inputs) as trials:
        for size in range(at_most + 1):
            found = []
            for keep in map(frozenset, combinations(trials.roles.computing, size)):
                got = small.run(as_model(trials.simulated(sorted(keep))), feed)["y"]
                if np.nan_to_num(np.abs(got - want), nan=np.inf).max() <= tolerance * max(1, np.abs(want).max()):
                    found.append(keep)
            if found:
                return found
    return []
