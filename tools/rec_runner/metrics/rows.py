"""The rows of a pass that metrics of tasks are counted of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rec_runner.system.errors import UserError


class TaskRows(NamedTuple):
    """Rows of one task, which count.

    Attributes:
        labels: bool ``[n]``; of a regression, float ``[n]``.
        scores: log-odds, or predictions, ``[n]``.
        weights: more than 0, ``[n]``, or None where rows have none.
        groups: int64 ``[n]``, or None.
    """

    labels: np.ndarray
    scores: np.ndarray
    weights: np.ndarray | None
    groups: np.ndarray | None


class Rows(NamedTuple):
    """Rows of all T tasks.

    Attributes:
        labels: bool ``[n, T]``; float32 where a label is NaN, not known, or a task a regression.
        log_odds: of binary tasks, else predictions: ``[n, T]``.
        weights: float ``[n]``, or None where rows have none.
        groups: int64 ``[n]``, or None.
    """

    labels: np.ndarray
    log_odds: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None

    def known(self) -> np.ndarray | None:
        """Of how many rows each task's label is known, ``[T]``; None where all are."""
        if self.labels.dtype == np.bool_ or not np.isnan(self.labels).any():
            return None
        return np.count_nonzero(~np.isnan(self.labels), axis=0)

    def of_task(self, task: int, regression: bool) -> TaskRows:
        """The rows of a task whose label is known and that weigh something."""
        labels, scores = self.labels[:, task], self.log_odds[:, task]
        counts = None if labels.dtype == np.bool_ else ~np.isnan(labels)
        if self.weights is not None:
            weighs = self.weights > 0
            counts = weighs if counts is None else counts & weighs
        rows = TaskRows(labels, scores, self.weights, self.groups)
        if counts is not None and not counts.all():
            rows = TaskRows._make(None if a is None else a[counts] for a in rows)
        if not regression and labels.dtype != np.bool_:
            rows = rows._replace(labels=rows.labels != 0)
        return rows

    def last(self, rows: int) -> Rows:
        """The last so many of them."""
        start = len(self.labels) - rows
        return Rows._make(None if array is None else array[start:] for array in self)


def join(pieces: Sequence[Rows], tasks: int) -> Rows:
    """Rows one after another.

    Args:
        pieces: as they were added.
        tasks: T.

    Raises:
        UserError: some have weights, or groups, and some have none.
    """
    if not pieces:
        return Rows(np.empty((0, tasks), np.bool_), np.empty((0, tasks), np.float32))
    joined = []
    for name, parts in zip(Rows._fields, zip(*pieces)):
        there = [part for part in parts if part is not None]
        if there and len(there) < len(parts):
            raise UserError(f"the reader gives {name} with some rows and none with others")
        joined.append(np.concatenate(there) if there else None)
    return Rows._make(joined)
