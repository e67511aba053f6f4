"""Statistics of columns of numbers, learnt in one pass over rows that come in pieces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SAMPLE_SIZE = 1 << 17
PIECE_ROWS = 256


class ColumnStatistics:
    """Which of some columns hold anything but 0 and 1, and the statistics of these.

    Args:
        blanks: a NaN is a value that is not known and is left out; otherwise it is a number like
            any other.

    Attributes:
        numeric: index to statistics of each column that holds anything but 0 and 1.
    """

    def __init__(self, blanks: bool = False) -> None:
        self.numeric: dict[int, NumericColumn] = {}
        self._blanks = blanks
        self._ones: np.ndarray | None = None
        self._rows: np.ndarray = np.zeros(0, np.int64)  # known values of each column

    @property
    def size(self) -> int:
        """Number of columns; 0 before the first rows."""
        return 0 if self._ones is None else len(self._ones)

    @property
    def means(self) -> np.ndarray:
        """Mean of the known values of each column, 0 where there are none; float32."""
        assert self._ones is not None
        means = self._ones / np.maximum(self._rows, 1)
        for index, column in self.numeric.items():
            means[index] = column.mean
        return means.astype(np.float32)

    def add(self, features: np.ndarray) -> None:
        """Count some more rows, float32 ``[n, F]``."""
        if self._ones is None:
            self._ones = np.zeros(features.shape[1])
            self._rows = np.zeros(features.shape[1], np.int64)
        known = ~np.isnan(features) if self._blanks else None
        found = features if known is None else np.where(known, features, np.float32(0))
        numeric, sums = _look_through(found)
        for index in np.flatnonzero(numeric):
            if index not in self.numeric:
                self.numeric[index] = NumericColumn()
                ones = int(self._ones[index])
                earlier = np.repeat([0.0, 1.0], [self._rows[index] - ones, ones])
                self.numeric[index].add(earlier)
        for index, column in self.numeric.items():
            values = features[:, index]
            column.add(values if known is None else values[known[:, index]])
        self._ones += np.where(numeric, 0.0, sums)
        self._rows += len(features) if known is None else known.sum(axis=0)


def _look_through(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which columns hold anything but 0 and 1; sums of columns, exact for the others.

    Rows are taken few enough at a time to stay in the processor's cache between the two.
    """
    numeric = np.zeros(features.shape[1], np.bool_)
    sums = np.zeros(features.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(features), PIECE_ROWS):
            piece = features[start : start + PIECE_ROWS]
            numeric |= ((piece != 0) & (piece != 1)).any(axis=0)
            sums += piece.sum(axis=0)
    return numeric, sums


class NumericColumn:
    """Mean, deviation and a bounded sample of one column, fed in pieces."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0
        self._stride = 1
        self._pieces: list[np.ndarray] = []
        self._kept = 0

    @property
    def std(self) -> float:
        """Standard deviation of all values."""
        return float(np.sqrt(self._squares / self.count)) if self.count else 0.0

    @property
    def sample(self) -> np.ndarray:
        """Every ``stride``-th value, at most ``SAMPLE_SIZE`` of them."""
        return np.concatenate(self._pieces)

    def add(self, values: np.ndarray) -> None:
        """Count some more values, in the order of the rows."""
        if not len(values):
            return
        # Pairwise update of mean and squares (Chan, Golub, LeVeque 1983).
        values = values.astype(np.float64)
        mean, total = values.mean(), self.count + len(values)
        delta = mean - self.mean
        self._squares += ((values - mean) ** 2).sum() + delta**2 * self.count * len(values) / total
        self.mean += delta * len(values) / total
        piece = values[-self.count % self._stride :: self._stride].astype(np.float32)
        self.count = total
        self._pieces.append(piece)
        self._kept += len(piece)
        while self._kept > SAMPLE_SIZE:
            self._pieces = [self.sample[::2]]
            self._stride *= 2
            self._kept = len(self._pieces[0])


def place_bins(
    columns: Mapping[int, NumericColumn], bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share ``bins`` out among columns and place each column's by quantiles.

    A value that fills a tenth of a column or more, as zero does in amounts, counts once in the
    quantiles, so that the bins go where the values differ.

    Returns:
        column, start and scale of each bin, float32 ``[bins]``; bins that are left over are 0.
    """
    column, start, scale = np.zeros((3, bins), np.float32)
    values = {index: _thin(c.sample) for index, c in columns.items()}
    wanted = {index: len(np.unique(v)) - 1 for index, v in values.items()}
    used = 0
    # The columns that want least go first, so that what they leave goes to the others.
    for left, index in zip(range(len(wanted), 0, -1), sorted(wanted, key=lambda i: (wanted[i], i))):
        share = min(wanted[index], (bins - used) // left)
        if share == wanted[index]:
            borders = np.unique(values[index])
        else:
            shares = np.linspace(0, 1, share + 1)
            borders = np.unique(np.quantile(values[index], shares, method="nearest"))
        places = slice(used, used + len(borders) - 1)
        column[places], start[places] = index, borders[:-1]
        scale[places] = 1.0 / np.diff(borders)
        used += len(borders) - 1
    return column, start, scale


def _thin(sample: np.ndarray) -> np.ndarray:
    """The sample with each value that fills a tenth of it or more kept once."""
    distinct, counts = np.unique(sample, return_counts=True)
    heavy = counts >= 0.1 * len(sample)
    return np.repeat(distinct, np.where(heavy, 1, counts))
