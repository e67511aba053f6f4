"""Numbers behind the pictures of predictions: ROC, precision and recall, calibration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]


def roc_curve(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> Curve:
    """False and true positive rates, from the highest threshold to the lowest.

    Args:
        labels: bool ``[n]``, of both classes.
        probabilities: ``[n]``.
        weights: ``[n]``, more than 0: how often each row counts; None for once.

    Returns:
        two arrays ``[k + 1]`` for k distinct probabilities; both start at 0 and end at 1.
    """
    true, false = _counts(labels, probabilities, weights)
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def precision_recall_curve(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> Curve:
    """Recall and precision, from the highest threshold to the lowest.

    Args:
        labels: bool ``[n]``, of both classes.
        probabilities: ``[n]``.
        weights: as :func:`roc_curve` has them.

    Returns:
        two arrays ``[k]`` for k distinct probabilities; recall ends at 1.
    """
    true, false = _counts(labels, probabilities, weights)
    return true / true[-1], true / (true + false)


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean precision over recall, each step weighted by the recall it adds."""
    return float(np.diff(recall, prepend=0.0) @ precision)


def _counts(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None) -> Curve:
    """True and false positives at every distinct threshold, the highest first."""
    _, threshold = np.unique(-probabilities, return_inverse=True)
    classes = (labels, ~labels) if weights is None else (labels * weights, ~labels * weights)
    true, false = (np.cumsum(np.bincount(threshold, of_class)) for of_class in classes)
    return true, false


class Calibration(NamedTuple):
    """Rows by predicted probability, in equally wide bins; empty bins are left out.

    Attributes:
        predicted: mean probability of each bin.
        observed: share of positive rows of each bin.
        low: lower end of Wilson's 95 % interval of ``observed``.
        high: upper end.
        error: expected calibration error, mean of ``|observed - predicted|`` over rows.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: float


def calibration(
    labels: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
    bins: int = 10,
) -> Calibration:
    """Compare predicted probabilities with what happened.

    Args:
        labels: bool ``[n]``, n at least 1.
        probabilities: ``[n]``, in 0 … 1.
        weights: ``[n]``, more than 0; None for the same of all rows. An interval is that of as many
            rows as would say as much without weights: Kish's effective sample size.
        bins: number of bins over 0 … 1.
    """
    weight = np.ones(len(labels)) if weights is None else weights
    bin_of_row = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probabilities)
    _, place = np.unique(bin_of_row, return_inverse=True)
    whole = np.bincount(place, weight)
    predicted = np.bincount(place, probabilities * weight) / whole
    observed = np.bincount(place, labels * weight) / whole
    count = whole**2 / np.bincount(place, weight**2)
    z = 1.96
    centre = (observed + z * z / (2 * count)) / (1 + z * z / count)
    spread = observed * (1 - observed) / count + z * z / (4 * count * count)
    half = z * np.sqrt(spread) / (1 + z * z / count)
    error = float(np.abs(observed - predicted) @ whole / whole.sum())
    return Calibration(predicted, observed, centre - half, centre + half, error)
