"""The rows of a pass that metrics of tasks are counted of."""

from __future__ import annotations

import math
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np

from rec_runner.system.errors import UserError

CHUNK_ROWS = 1 << 16


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

    def known(self) -> np.ndarray:
        """Of how many rows each task's label is known, ``[T]``."""
        if self.labels.dtype == np.bool_:
            return np.full(self.labels.shape[1], len(self.labels))
        return np.count_nonzero(~np.isnan(self.labels), axis=0)

    def part(self, places: slice) -> Rows:
        """Some of them."""
        return Rows._make(None if array is None else array[places] for array in self)


class RowStore:
    """Rows that come a few at a time.

    They are kept in chunks: of many small arrays each would take memory besides, and one that grows
    would have to be copied.

    Args:
        tasks: their number T.
    """

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks
        self._chunks: list[Rows] = []  # all but the last one are full, or followed by another kind
        self._used: list[int] = []  # rows of each

    def __len__(self) -> int:
        return sum(self._used)

    def append(self, rows: Rows) -> None:
        """Keep a copy of rows.

        Raises:
            UserError: they have weights, or groups, and those before have none, or the reverse.
        """
        if not len(rows.labels):
            return
        for name, array, before in zip(rows._fields, rows, self._chunks[0] if len(self) else rows):
            if (array is None) != (before is None):
                raise UserError(f"the reader gives {name} with some rows and none with others")
        start = 0
        while start < len(rows.labels):
            if not (self._chunks and _alike(self._chunks[-1], rows)) or self._room() == 0:
                self._chunks.append(_empty_chunk(rows))
                self._used.append(0)
            end = min(start + self._room(), len(rows.labels))
            place = slice(self._used[-1], self._used[-1] + end - start)
            for kept, array in zip(self._chunks[-1], rows):
                if kept is not None and array is not None:
                    kept[place] = array[start:end]
            self._used[-1] = place.stop
            start = end

    def truncate(self, length: int) -> None:
        """Keep the first so many."""
        while len(self) > length:
            fewer = max(self._used[-1] - (len(self) - length), 0)
            if fewer:
                self._used[-1] = fewer
            else:
                del self._chunks[-1], self._used[-1]

    def rows(self, first: int = 0, end: int | None = None) -> Rows:
        """A copy of the rows from ``first`` to ``end - 1``, or to the last one."""
        pieces, start = [], 0
        end = len(self) if end is None else end
        for chunk in self._filled():
            size = len(chunk.labels)
            if first < start + size and start < end:
                pieces.append(chunk.part(slice(max(first - start, 0), end - start)))
            start += size
        if not pieces:
            return Rows(np.empty((0, self._tasks), np.bool_), np.empty((0, self._tasks), "f4"))
        return Rows._make(_joined(parts) for parts in zip(*pieces))

    def of_task(self, task: int, regression: bool) -> TaskRows:
        """The rows of a task whose label is known and that weigh something."""
        if not self._chunks:
            return of_task(self.rows(), task, regression)
        column = slice(task, task + 1)
        pieces = [
            chunk._replace(labels=chunk.labels[:, column], log_odds=chunk.log_odds[:, column])
            for chunk in self._filled()
        ]
        return of_task(Rows._make(_joined(parts) for parts in zip(*pieces)), 0, regression)

    def known(self) -> np.ndarray:
        """Of how many rows each task's label is known, ``[T]``."""
        counts = [chunk.known() for chunk in self._filled()]
        return np.sum(counts, axis=0) if counts else np.zeros(self._tasks, int)

    def _room(self) -> int:
        return len(self._chunks[-1].labels) - self._used[-1]

    def _filled(self) -> list[Rows]:
        return [chunk.part(slice(used)) for chunk, used in zip(self._chunks, self._used)]


def of_task(rows: Rows, task: int, regression: bool) -> TaskRows:
    """The rows of a task whose label is known and that weigh something."""
    labels, scores = rows.labels[:, task], rows.log_odds[:, task]
    counts = None if labels.dtype == np.bool_ else ~np.isnan(labels)
    if rows.weights is not None:
        weighs = rows.weights > 0
        counts = weighs if counts is None else counts & weighs
    found = TaskRows(labels, scores, rows.weights, rows.groups)
    if counts is not None and not counts.all():
        found = TaskRows._make(None if a is None else a[counts] for a in found)
    if not regression and labels.dtype != np.bool_:
        found = found._replace(labels=found.labels != 0)
    return found


def _alike(chunk: Rows, rows: Rows) -> bool:
    """Whether all arrays are of the same types."""
    return all(a is None or (b is not None and a.dtype == b.dtype) for a, b in zip(chunk, rows))


def _empty_chunk(rows: Rows) -> Rows:
    return Rows._make(
        None if a is None else own_pages((CHUNK_ROWS, *a.shape[1:]), a.dtype) for a in rows
    )


def own_pages(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array to be filled, whose pages go back to the system when it goes.

    The C library's heap would keep them: arrays that live for a pass, among many that live for a
    batch, leave holes in it which no later one fits into.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap(-1, max(size, 1)), dtype, math.prod(shape)).reshape(shape)


def _joined(parts: tuple[np.ndarray | None, ...]) -> np.ndarray | None:
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if there else None
