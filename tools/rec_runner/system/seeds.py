"""Random numbers that Python and NumPy draw, for readers and models that use either."""

from __future__ import annotations

import random

import numpy as np


def seed_all(seed: int) -> None:
    """Seed both at the start of a job."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))


def seed_readers(seed: int, epoch: int, scoring: bool = False) -> None:
    """Seed what readers may draw from, so that a pass gives the same rows whenever it is made.

    Args:
        seed: ``runner.seed``.
        epoch: the epoch that the pass trains, or whose weights it scores.
        scoring: its rows are only scored.
    """
    entropy = [seed % (1 << 32), epoch, int(scoring)]
    first, second = np.random.SeedSequence(entropy).generate_state(2)
    random.seed(int(first))
    np.random.seed(second)
