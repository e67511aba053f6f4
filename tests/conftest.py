"""Fixtures of all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import numpy as np
import pytest

# Two cores, shared: Paddle's operators take one thread, as in the tools.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="module")
def _as_it_was() -> Iterator[None]:
    """No file of tests leaves the next one another environment, or Paddle in static mode."""
    before = dict(os.environ)
    yield
    for name in {*before, *os.environ} - {"PYTEST_CURRENT_TEST"}:
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]
    paddle = sys.modules.get("paddle")
    if paddle is not None:
        paddle.disable_static()


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(7)
