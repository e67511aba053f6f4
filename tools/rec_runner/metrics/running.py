"""AUC of the rows so far, exact and quick however many there are, for log lines in mid-pass."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Callable, TypeVar

import numpy as np

from rec_runner.metrics.auc import WeightedRun, beaten, sorted_run
from rec_runner.metrics.rows import own_pages

# The higher, the fewer runs there are to search, and the more often scores are sorted again.
_GROWTH = 8
LONG = 1 << 16  # such a run is one of few
_Run = TypeVar("_Run", bound=Sized)


class RunningAuc:
    """Counts the pairs of a negative and a positive as their rows come.

    Rows already counted are kept as sorted runs of scores, each class for itself, a few long ones
    and then shorter ones. New rows are searched in those of the other class, and then sorted in:
    that takes a time which depends on the new rows, and hardly on all those before them.
    Bins would be quicker still, but there are none that are fine enough for every model's scores.
    """

    def __init__(self) -> None:
        self._negatives: list[np.ndarray] = []
        self._positives: list[np.ndarray] = []
        self._won = 0  # by positives, twice the number of pairs, so that a tie counts 1

    def add(self, labels: np.ndarray, scores: np.ndarray) -> None:
        """Count rows: labels bool ``[n]``, scores ``[n]``."""
        negatives, positives = np.sort(scores[~labels]), np.sort(scores[labels])
        for run in self._positives:
            self._won += 2 * len(run) * len(negatives) - _won(negatives, run)
        _sort_in(self._negatives, negatives, _sorted)
        for run in self._negatives:
            self._won += _won(positives, run)
        _sort_in(self._positives, positives, _sorted)

    def value(self) -> float | None:
        """AUC of the rows so far, that of ``auc.auc``; None where a class is missing."""
        negatives, positives = (sum(map(len, r)) for r in (self._negatives, self._positives))
        if not negatives or not positives:
            return None
        return self._won / 2 / positives / negatives


class WeightedRunningAuc:
    """The same for rows that have weights: runs hold the sums of theirs besides."""

    def __init__(self) -> None:
        self._negatives: list[WeightedRun] = []
        self._positives: list[WeightedRun] = []
        self._won = 0.0

    def add(self, labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> None:
        """Count rows: labels bool ``[n]``, scores ``[n]``, weights ``[n]``."""
        negatives = sorted_run(scores[~labels], weights[~labels])
        positives = sorted_run(scores[labels], weights[labels])
        for run in self._positives:
            self._won += 2 * run.total * negatives.total - beaten(run, negatives)
        _sort_in(self._negatives, negatives, _joined)
        for run in self._negatives:
            self._won += beaten(run, positives)
        _sort_in(self._positives, positives, _joined)

    def value(self) -> float | None:
        """AUC of the rows so far, but for rounding that of ``auc.auc``."""
        negatives, positives = (
            sum(run.total for run in runs) for runs in (self._negatives, self._positives)
        )
        if not negatives or not positives:
            return None
        return self._won / 2 / positives / negatives


def _won(scores: np.ndarray, run: np.ndarray) -> int:
    """Twice the number of pairs in which a score exceeds one of the run, ties once; both sorted."""
    if not len(run):
        return 0
    places = run.searchsorted(scores)
    # Ties are few, as a rule; one number is not greater than another where they are NaN, too.
    tied = scores[~(run.take(places, mode="clip") > scores)]
    ties = run.searchsorted(tied, side="right") - run.searchsorted(tied)
    return 2 * int(places.sum()) + int(ties.sum())


def _sort_in(runs: list[_Run], fresh: _Run, joined: Callable[[Sequence[_Run]], _Run]) -> None:
    """Append a run, made one with those before it that are not much longer."""
    pieces, size = [fresh], len(fresh)
    while runs and len(runs[-1]) < _GROWTH * size:
        pieces.append(runs.pop())
        size += len(pieces[-1])
    if len(pieces) > 1:
        fresh = joined(pieces)
    if len(fresh):
        runs.append(fresh)


def _sorted(runs: Sequence[np.ndarray]) -> np.ndarray:
    size = sum(map(len, runs))
    if size < LONG:
        return np.sort(np.concatenate(runs))
    joined = np.concatenate(runs, out=own_pages((size,), runs[0].dtype))
    joined.sort()
    return joined


def _joined(runs: Sequence[WeightedRun]) -> WeightedRun:
    scores, weights = (np.concatenate([getattr(r, k) for r in runs]) for k in ("scores", "weights"))
    return sorted_run(scores, weights)
