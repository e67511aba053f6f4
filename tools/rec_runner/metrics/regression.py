"""Errors of a regression task, in its target's own unit."""

from __future__ import annotations

import math

import numpy as np


class RunningErrors:
    """MSE, MAE and R2 of the rows so far, in a time that depends on the new ones alone."""

    def __init__(self) -> None:
        self._weight = self._mean = self._spread = 0.0  # spread: weighted squares about the mean
        self._squares = self._sizes = 0.0
        self._least, self._most = math.inf, -math.inf

    def add(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Count rows: targets, predictions and, perhaps, weights of more than 0, each ``[n]``."""
        if not len(targets):
            return
        wanted = targets.astype(np.float64)
        off = predictions.astype(np.float64) - wanted
        weight = np.ones(len(wanted)) if weights is None else weights.astype(np.float64)
        total = float(weight.sum())
        mean = float(weight @ wanted) / total
        # Chan's way to join the spreads about two means.
        whole = self._weight + total
        self._spread += float(weight @ (wanted - mean) ** 2)
        self._spread += (mean - self._mean) ** 2 * self._weight * total / whole
        self._mean += (mean - self._mean) * total / whole
        self._weight = whole
        self._squares += float(weight @ off**2)
        self._sizes += float(weight @ np.abs(off))
        self._least = min(self._least, float(wanted.min()))
        self._most = max(self._most, float(wanted.max()))

    def values(self) -> dict[str, float | None]:
        """``mse``, ``mae`` and ``r2``, None where one is undefined.

        R2 is the share of the targets' variance that the predictions explain, below 0 where their
        mean would be better; where all targets are the same, there is none to explain.
        """
        if not self._weight:
            return {"mse": None, "mae": None, "r2": None}
        # Rounding may keep the spread of equal targets from being 0.
        varied = self._least < self._most and self._spread > 0
        return {
            "mse": self._squares / self._weight,
            "mae": self._sizes / self._weight,
            "r2": 1 - self._squares / self._spread if varied else None,
        }


def errors(
    targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float | None]:
    """The same of some rows; for the arguments see :meth:`RunningErrors.add`."""
    running = RunningErrors()
    running.add(targets, predictions, weights)
    return running.values()
