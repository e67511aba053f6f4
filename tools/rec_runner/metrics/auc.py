"""AUC and log loss, exact."""

from __future__ import annotations

import numpy as np


def auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve; a tie between a positive and a negative counts one half.

    Args:
        labels: ``[n]``, 0 or 1.
        scores: ``[n]``, any numbers; only their order counts.

    Returns:
        the area, or None where one class is missing and there is none.
    """
    positive = labels > 0.5
    negatives, positives = np.sort(scores[~positive]), np.sort(scores[positive])
    if not len(negatives) or not len(positives):
        return None
    # searchsorted is several times faster on sorted needles.
    below = np.searchsorted(negatives, positives, side="left").sum(dtype=np.float64)
    not_above = np.searchsorted(negatives, positives, side="right").sum(dtype=np.float64)
    return float((below + not_above) / 2 / len(positives) / len(negatives))


def log_loss(labels: np.ndarray, log_odds: np.ndarray) -> float | None:
    """Mean of ``-log p(label)``, from log-odds, so that no probability is ever clipped.

    Args:
        labels: ``[n]``, 0 or 1.
        log_odds: ``[n]``, logit of class 1. An infinite one costs nothing where it is right, and
            infinitely much where it is wrong.

    Returns:
        the mean, NaN where a logit is; None without rows.
    """
    if not len(labels):
        return None
    z = log_odds.astype(np.float64)
    with np.errstate(invalid="ignore"):
        losses = np.logaddexp(0.0, z) - labels * z
    certain = np.isinf(z)
    losses[certain] = np.where((z > 0) == (labels > 0.5), 0.0, np.inf)[certain]
    return float(np.mean(losses))


def probability(log_odds: np.ndarray) -> np.ndarray:
    """Probability of class 1, float64, exact for small ones too."""
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -log_odds.astype(np.float64)))
