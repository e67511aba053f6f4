"""AUC and log loss, exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIECE_ROWS = 1 << 16


def auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """Area under the ROC curve; a tie between a positive and a negative counts one half.

    Args:
        labels: ``[n]``, 0 or 1.
        scores: ``[n]``, any numbers; only their order counts.
        weights: ``[n]``, how often each row counts; None for once.

    Returns:
        the area, or None where one class is missing, or weighs nothing, and there is none.
    """
    positive = labels > 0.5
    if weights is not None:
        low, high = (sorted_run(scores[rows], weights[rows]) for rows in (~positive, positive))
        if not low.total or not high.total:
            return None
        return beaten(low, high) / 2 / high.total / low.total
    negatives, positives = scores[~positive], scores[positive]
    if not len(negatives) or not len(positives):
        return None
    negatives.sort()
    positives.sort()  # searchsorted is several times faster on sorted needles
    won = 0  # twice the number of pairs, so that a tie counts 1
    for start in range(0, len(positives), PIECE_ROWS):  # in little memory
        piece = positives[start : start + PIECE_ROWS]
        won += int(negatives.searchsorted(piece).sum())
        won += int(negatives.searchsorted(piece, side="right").sum())
    return won / 2 / len(positives) / len(negatives)


@dataclass(frozen=True)
class WeightedRun:
    """Scores in ascending order, and what they weigh.

    Attributes:
        scores: ``[n]``.
        weights: float64 ``[n]``.
        below: float64 ``[n + 1]``: what the first k scores weigh.
    """

    scores: np.ndarray
    weights: np.ndarray
    below: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def total(self) -> float:
        """What all scores weigh."""
        return float(self.below[-1])


def sorted_run(scores: np.ndarray, weights: np.ndarray) -> WeightedRun:
    """Scores ``[n]`` of any order and their weights ``[n]`` as a run."""
    order = np.argsort(scores)
    sorted_weights = weights[order].astype(np.float64)
    return WeightedRun(scores[order], sorted_weights, np.append(0.0, np.cumsum(sorted_weights)))


def beaten(run: WeightedRun, by: WeightedRun) -> float:
    """Twice the weight of the pairs in which a score of ``by`` exceeds one of the run; ties once.

    A pair weighs the product of its two weights.
    """
    less = run.scores.searchsorted(by.scores, side="left")
    not_more = run.scores.searchsorted(by.scores, side="right")
    return float(by.weights @ (run.below[less] + run.below[not_more]))


def log_loss(
    labels: np.ndarray, log_odds: np.ndarray, weights: np.ndarray | None = None
) -> float | None:
    """Mean of ``-log p(label)``, from log-odds, so that no probability is ever clipped.

    Args:
        labels: ``[n]``, 0 or 1.
        log_odds: ``[n]``, logit of class 1. An infinite one costs nothing where it is right, and
            infinitely much where it is wrong.
        weights: ``[n]``, more than 0, of each row in the mean; None for the same of all.

    Returns:
        the mean, NaN where a logit is; None without rows.
    """
    if not len(labels):
        return None
    losses = np.empty(len(labels))
    for start in range(0, len(labels), PIECE_ROWS):  # in little memory, however many rows there are
        piece = slice(start, start + PIECE_ROWS)
        losses[piece] = _losses(labels[piece], log_odds[piece].astype(np.float64))
    return float(np.average(losses, weights=weights))


def _losses(labels: np.ndarray, z: np.ndarray) -> np.ndarray:
    """What each row costs, from the float64 log-odds ``z``."""
    with np.errstate(invalid="ignore"):
        losses = np.logaddexp(0.0, z) - labels * z
    certain = np.isinf(z)
    losses[certain] = np.where((z > 0) == (labels > 0.5), 0.0, np.inf)[certain]
    return losses


def probability(log_odds: np.ndarray) -> np.ndarray:
    """Probability of class 1, float64, exact for small ones too."""
    with np.errstate(invalid="ignore"):
        return np.exp(-np.logaddexp(0.0, -log_odds.astype(np.float64)))
