"""Fixtures of all tests."""

from __future__ import annotations

import os

import numpy as np
import pytest

# Two cores, shared: Paddle's operators take one thread, as in the tools.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(7)
