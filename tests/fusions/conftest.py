"""The same random numbers for a test whatever ran before it."""

from __future__ import annotations

import numpy as np
import pytest
from fusions.places import RNG


@pytest.fixture(autouse=True)
def seeded() -> None:
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state
