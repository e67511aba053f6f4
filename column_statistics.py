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
        self._weighed: np.ndarray | None = None  # what ones and known values of each column weigh

    @property
    def size(self) -> int:
        """Number of columns; 0 before the first rows."""
        return 0 if self._ones is None else len(self._ones)

    @property
    def means(self) -> np.ndarray:
        """Mean of the known values of each column, 0 where there are none; float32."""
        assert self._ones is not None
        if self._weighed is None:
            means = self._ones / np.maximum(self._rows, 1)
        else:
            ones, rows = self._weighed
            means = ones / np.where(rows > 0, rows, 1)
        for index, column in self.numeric.items():
            means[index] = column.mean
        return means.astype(np.float32)

    def add(self, features: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Count some more rows.

        Args:
            features: float32 ``[n, F]``.
            weights: ``[n]``, more than 0, how often each row counts; None, always or never, for
                once.
        """
        if self._ones is None:
            self._ones = np.zeros(features.shape[1])
            self._rows = np.zeros(features.shape[1], np.int64)
            self._weighed = None if weights is None else np.zeros((2, features.shape[1]))
        known = ~np.isnan(features) if self._blanks else None
        found = features if known is None else np.where(known, features, np.float32(0))
        numeric, sums = _look_through(found)
        for index in np.flatnonzero(numeric):
            if index not in self.numeric:
                self.numeric[index] = NumericColumn()
                self.numeric[index].add(*self._earlier(index))
        for index, column in self.numeric.items():
            own = slice(None) if known is None else known[:, index]
            column.add(features[own, index], None if weights is None else weights[own])
        self._ones += np.where(numeric, 0.0, sums)
        self._rows += len(features) if known is None else known.sum(axis=0)
        if weights is not None:
            assert self._weighed is not None
            self._weighed[0] += np.where(numeric, 0.0, _weigh(found, weights))
            rows = weights.sum(dtype=np.float64) if known is None else _weigh(known, weights)
            self._weighed[1] += rows

    def _earlier(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The values of a column as long as there were only 0 and 1, and what they weigh."""
        assert self._ones is not None
        ones = int(self._ones[index])
        counts = [self._rows[index] - ones, ones]
        values = np.repeat([0.0, 1.0], counts)
        if self._weighed is None:
            return values, None
        of_ones, of_all = self._weighed[:, index]
        return values, np.repeat([of_all - of_ones, of_ones] / np.maximum(counts, 1), counts)


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


def _weigh(matrix: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sums of columns, each row as often as it weighs; in pieces, for they are copied."""
    sums = np.zeros(matrix.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(matrix), PIECE_ROWS):
            piece = slice(start, start + PIECE_ROWS)
            sums += weights[piece].astype(np.float64) @ matrix[piece]
    return sums


class NumericColumn:
    """Mean, deviation and a bounded sample of one column, fed in pieces."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._weight = 0.0
        self._squares = 0.0
        self._stride = 1
        self._pieces: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._kept = 0

    @property
    def std(self) -> float:
        """Standard deviation of all values."""
        return float(np.sqrt(self._squares / self._weight)) if self.count else 0.0

    @property
    def sample(self) -> np.ndarray:
        """Every ``stride``-th value, at most ``SAMPLE_SIZE`` of them."""
        return np.concatenate(self._pieces)

    @property
    def sample_weights(self) -> np.ndarray | None:
        """What the values of the sample weigh; None where all weigh the same."""
        return np.concatenate(self._weights) if self._weights else None

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Count some more values, in the order of the rows.

        Args:
            values: ``[n]``.
            weights: ``[n]``, more than 0; None, always or never, for the same of all.
        """
        if not len(values):
            return
        # Pairwise update of mean and squares (Chan, Golub, LeVeque 1983).
        values = values.astype(np.float64)
        if weights is None:
            weight, mean = float(len(values)), values.mean()
            squares = ((values - mean) ** 2).sum()
        else:
            weights = weights.astype(np.float64)
            weight = float(weights.sum())
            mean = weights @ values / weight
            squares = weights @ (values - mean) ** 2
        total = self._weight + weight
        delta = mean - self.mean
        self._squares += squares + delta**2 * self._weight * weight / total
        self.mean += delta * weight / total
        self._weight = total
        sampled = slice(-self.count % self._stride, None, self._stride)
        self.count += len(values)
        self._pieces.append(values[sampled].astype(np.float32))
        if weights is not None:
            self._weights.append(weights[sampled])
        self._kept += len(self._pieces[-1])
        while self._kept > SAMPLE_SIZE:
            self._pieces = [self.sample[::2]]
            self._weights = [np.concatenate(self._weights)[::2]] if self._weights else []
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
    values = {index: _thin(c.sample, c.sample_weights) for index, c in columns.items()}
    wanted = {index: len(np.unique(v)) - 1 for index, (v, _) in values.items()}
    used = 0
    # The columns that want least go first, so that what they leave goes to the others.
    for left, index in zip(range(len(wanted), 0, -1), sorted(wanted, key=lambda i: (wanted[i], i))):
        share = min(wanted[index], (bins - used) // left)
        if share == wanted[index]:
            borders = np.unique(values[index][0])
        else:
            borders = np.unique(_quantiles(*values[index], np.linspace(0, 1, share + 1)))
        places = slice(used, used + len(borders) - 1)
        column[places], start[places] = index, borders[:-1]
        scale[places] = 1.0 / np.diff(borders)
        used += len(borders) - 1
    return column, start, scale


def _thin(sample: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The sample with each value that fills a tenth of it or more kept once.

    Where values weigh something, they are kept once each, and one that fills a tenth weighs as
    much as the rarest: a weight of 2 is a value that is there twice, whatever the weights' scale.
    """
    distinct, inverse, counts = np.unique(sample, return_inverse=True, return_counts=True)
    if weights is None:
        heavy = counts >= 0.1 * len(sample)
        return np.repeat(distinct, np.where(heavy, 1, counts)), None
    each = np.bincount(inverse.reshape(-1), weights)
    return distinct, np.where(each >= 0.1 * each.sum(), each.min(), each)


def _quantiles(values: np.ndarray, weights: np.ndarray | None, shares: np.ndarray) -> np.ndarray:
    """Values at which shares of all of them, or of their weight, are reached."""
    if weights is None:
        return np.quantile(values, shares, method="nearest")
    below = np.cumsum(weights)  # values with weights are in ascending order
    places = np.searchsorted(below, shares * below[-1])
    return values[np.minimum(places, len(values) - 1)]
