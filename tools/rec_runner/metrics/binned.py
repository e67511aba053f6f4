"""AUC from counts in bins: quick, however many rows there are, for log lines in mid-pass."""

from __future__ import annotations

import numpy as np


class BinnedAuc:
    """Counts of negatives and positives in bins of their scores.

    Args:
        low: where the first bin starts; what lies below counts there.
        high: where the last bin ends; what lies above counts there.
        bins: number of bins.
    """

    def __init__(self, low: float, high: float, bins: int = 1 << 12) -> None:
        self.low = low
        self.scale = bins / (high - low)
        self.counts = np.zeros((2, bins), np.int64)

    def add(self, labels: np.ndarray, scores: np.ndarray) -> None:
        """Count rows: labels bool ``[n]``, scores ``[n]``."""
        bins = self.counts.shape[1]
        place = np.nan_to_num((scores - self.low) * self.scale)
        places = np.clip(place, 0, bins - 1).astype(np.int64)
        for counts, rows in zip(self.counts, (~labels, labels)):
            counts += np.bincount(places[rows], minlength=bins)

    def value(self) -> float | None:
        """AUC of the rows so far; None where a class is missing."""
        negatives, positives = self.counts.astype(np.float64)
        pairs = negatives.sum() * positives.sum()
        below = np.cumsum(negatives) - negatives
        return float(positives @ (below + negatives / 2) / pairs) if pairs else None
