"""AUC and log loss per task, exact, the same for both graph paths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RUNNING_BINS = 1 << 12
RUNNING_LIMIT = 12.0


def auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve; a tie between a positive and a negative counts one half.

    Args:
        labels: ``[n]``, 0 or 1.
        scores: ``[n]``, any numbers; only their order counts.

    Returns:
        the area, or None where one class is missing and there is none.
    """
    positive = labels > 0.5
    return _area(np.sort(scores[~positive]), scores[positive])


def _area(sorted_negatives: np.ndarray, positives: np.ndarray) -> float | None:
    if not len(sorted_negatives) or not len(positives):
        return None
    positives = np.sort(positives)  # searchsorted is several times faster on sorted needles
    below = np.searchsorted(sorted_negatives, positives, side="left").sum(dtype=np.float64)
    not_above = np.searchsorted(sorted_negatives, positives, side="right").sum(dtype=np.float64)
    return float((below + not_above) / 2 / len(positives) / len(sorted_negatives))


def log_loss(labels: np.ndarray, log_odds: np.ndarray) -> float | None:
    """Mean of ``-log p(label)``, from log-odds, so that no probability is ever clipped.

    Args:
        labels: ``[n]``, 0 or 1.
        log_odds: ``[n]``, logit of class 1.
    """
    if not len(labels):
        return None
    z = log_odds.astype(np.float64)
    return float(np.mean(np.logaddexp(0.0, z) - labels * z))


def probability(log_odds: np.ndarray) -> np.ndarray:
    """Probability of class 1, float64, exact for small ones too."""
    return np.exp(-np.logaddexp(0.0, -log_odds.astype(np.float64)))


class TaskMetrics:
    """Collects labels and log-odds of an epoch; gives every task's AUC and log loss.

    Holds 4 bytes for a score and 1 for a label, per row and task.

    Args:
        task_names: names of the T tasks.
    """

    def __init__(self, task_names: Sequence[str]) -> None:
        self.task_names = tuple(task_names)
        self._labels: list[np.ndarray] = []
        self._log_odds: list[np.ndarray] = []
        shape = (len(self.task_names), RUNNING_BINS)
        self._positives = np.zeros(shape, np.int64)
        self._negatives = np.zeros(shape, np.int64)
        self._counted = 0

    def update(self, labels: np.ndarray, log_odds: np.ndarray) -> None:
        """Add rows: labels ``[n, T]`` and log-odds ``[n, T]``."""
        self._labels.append(labels.astype(np.bool_))
        self._log_odds.append(log_odds)

    @property
    def labels(self) -> np.ndarray:
        """Labels of all rows so far, bool ``[n, T]``."""
        return _joined(self._labels, len(self.task_names), np.bool_)

    @property
    def log_odds(self) -> np.ndarray:
        """Log-odds of all rows so far, float32 ``[n, T]``."""
        return _joined(self._log_odds, len(self.task_names), np.float32)

    def result(self) -> dict[str, float | None]:
        """``auc_<task>`` of every task, then ``logloss_<task>``; None where undefined."""
        labels, log_odds = self.labels, self.log_odds
        values: dict[str, float | None] = {}
        for task, name in enumerate(self.task_names):
            values[f"auc_{name}"] = auc(labels[:, task], log_odds[:, task])
        for task, name in enumerate(self.task_names):
            values[f"logloss_{name}"] = log_loss(labels[:, task], log_odds[:, task])
        return values

    def running_auc(self) -> dict[str, float | None]:
        """``auc_<task>`` over the rows so far, cheap enough for a log line.

        From a histogram of ``RUNNING_BINS`` bins, within about 1e-4 of :meth:`result`.
        """
        self._count()
        values: dict[str, float | None] = {}
        for name, positives, negatives in zip(self.task_names, self._positives, self._negatives):
            total = float(positives.sum()) * float(negatives.sum())
            below = np.cumsum(negatives) - negatives
            wins = float(positives @ below) + float(positives @ negatives) / 2
            values[f"auc_{name}"] = wins / total if total else None
        return values

    def _count(self) -> None:
        """Put the rows that came since the last call into the histograms."""
        for labels, log_odds in zip(self._labels[self._counted :], self._log_odds[self._counted :]):
            place = (log_odds + RUNNING_LIMIT) * (RUNNING_BINS / (2 * RUNNING_LIMIT))
            place = np.clip(np.nan_to_num(place), 0, RUNNING_BINS - 1).astype(np.int64)
            for task in range(len(self.task_names)):
                positive = labels[:, task]
                for histogram, rows in ((self._positives, positive), (self._negatives, ~positive)):
                    histogram[task] += np.bincount(place[rows, task], minlength=RUNNING_BINS)
        self._counted = len(self._labels)


def _joined(pieces: Sequence[np.ndarray], width: int, dtype: type) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty((0, width), dtype)
