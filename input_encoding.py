"""Input statistics that live inside the network, so that it takes raw rows.

One-hot columns pass through as they are. Columns that hold anything but 0 and 1 are standardised
or, further, piecewise-linear encoded over quantile bins (Gorishniy et al. 2022, *On Embeddings
for Numerical Features in Tabular Deep Learning*). :func:`adapt` learns the statistics from the
training rows in one pass; they are parameters that no optimizer touches, saved with the weights.
Before ``adapt`` they are neutral: the network then sees the raw columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import paddle
from paddle import Tensor, nn

from column_statistics import ColumnStatistics, place_bins

Statistics = Mapping[str, np.ndarray]

BIN_NAMES = ("encoding.bin_column", "encoding.bin_start", "encoding.bin_scale")


class InputEncoding(nn.Layer):
    """The first, untrained step of the network: raw features to what the bottom sees.

    Args:
        feature_size: number of feature columns F.
        kind: ``none`` (raw columns), ``standard`` (``(x - mean) * scale`` for numeric columns) or
            ``piecewise_linear`` (standard, and the bins beside it).
        bins: bins B of ``piecewise_linear``; the numeric columns share them.
        statistics: what :func:`adapt` gave; those that are left out are neutral.

    Attributes:
        out_size: columns out: F, or F + B with ``piecewise_linear``.
    """

    def __init__(
        self, feature_size: int, kind: str, bins: int, statistics: Statistics | None = None
    ) -> None:
        super().__init__()
        self.kind = kind
        self.out_size = feature_size + (bins if kind == "piecewise_linear" else 0)
        add_statistics(self, {**neutral_state(feature_size, kind, bins), **(statistics or {})})

    def forward(self, features: Tensor) -> Tensor:
        """float32 ``[N, F]`` to float32 ``[N, out_size]``."""
        if self.kind == "none":
            return features
        standard = (features - self.mean) * self.scale
        if self.kind == "standard":
            return standard
        column = self.bin_column.astype("int32")
        position = (paddle.index_select(features, column, axis=1) - self.bin_start) * self.bin_scale
        return paddle.concat([standard, position.clip(0.0, 1.0)], axis=1)


def add_statistics(layer: nn.Layer, statistics: Statistics) -> None:
    """Give a layer parameters that no optimizer touches, called as ``encoding.<name>``."""
    for name, value in statistics.items():
        parameter = layer.create_parameter(
            [len(value)],
            attr=paddle.ParamAttr(trainable=False),
            default_initializer=nn.initializer.Assign(value),
        )
        layer.add_parameter(name.removeprefix("encoding."), parameter)


def split_product(state: Statistics, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Part the product of encoded rows and a weight, for :func:`encoded_product`.

    Args:
        state: a network's state dict.
        weight: what its encoded rows are multiplied by, ``[E, units]``.

    Returns:
        name to float32 array: the weight of the columns that pass through, and of those that do
        not, of which there may be none, what the encoding does to them and their weights.
    """
    mean, scale = state.get("encoding.mean"), state.get("encoding.scale")
    if mean is None or scale is None:
        return {"raw_weight": weight}
    size = len(mean)
    column, start, bin_scale = (state.get(name, mean[:0]) for name in BIN_NAMES)
    live = np.flatnonzero(bin_scale)  # others are 0 for every row
    bin_columns = column.astype(np.int64)[live]
    changed = np.union1d(np.flatnonzero((mean != 0) | (scale != 1)), bin_columns)
    if not len(changed):
        return {"raw_weight": weight[:size]}
    raw_weight = weight[:size].copy()
    raw_weight[changed] = 0
    parts = {
        "raw_weight": raw_weight,
        "column": changed.astype(np.float32),
        "mean": mean[changed],
        "scale": scale[changed],
        "weight": weight[changed],
    }
    if len(live):
        spread = changed[:, np.newaxis] == bin_columns  # a product with it is exact, and fast
        parts.update(spread=spread.astype(np.float32), minus_start=-start[live])
        parts.update(bin_scale=bin_scale[live], bin_weight=weight[size:][live])
    return parts


def encoded_product(features: Tensor, parts: Mapping[str, Tensor], bias: Tensor) -> Tensor:
    """The product of encoded rows and a weight, plus a bias, without the encoded rows.

    Few columns are encoded, the others stay where they are. The same columns go through the same
    arithmetic as in :class:`InputEncoding`; only the order in which products are added up differs.

    Args:
        features: float32 ``[N, F]``, raw rows.
        parts: what :func:`split_product` gave.
        bias: ``[units]``.

    Returns:
        float32 ``[N, units]``; not finite in all units where the encoded row is not finite.
    """
    if "column" in parts:
        changed = paddle.index_select(features, parts["column"].astype("int32"), axis=1)
        bias = paddle.addmm(bias, (changed - parts["mean"]) * parts["scale"], parts["weight"])
        if "spread" in parts:
            distance = paddle.addmm(parts["minus_start"], changed, parts["spread"])
            position = distance * parts["bin_scale"]
            bias = paddle.addmm(bias, position.clip(0.0, 1.0), parts["bin_weight"])
    return paddle.addmm(bias, features, parts["raw_weight"])


def neutral_state(feature_size: int, kind: str, bins: int) -> dict[str, np.ndarray]:
    """Statistics that pass every raw column through, entries of the network's state dict.

    Args:
        feature_size: number of feature columns F.
        kind: as for :class:`InputEncoding`.
        bins: as for :class:`InputEncoding`.
    """
    state = {}
    if kind != "none":
        state["encoding.mean"] = np.zeros(feature_size, np.float32)
        state["encoding.scale"] = np.ones(feature_size, np.float32)
    if kind == "piecewise_linear":
        state.update({name: np.zeros(bins, np.float32) for name in BIN_NAMES})
    return state


def encode_columns(
    features: np.ndarray, kind: str, state: Statistics
) -> tuple[np.ndarray, np.ndarray]:
    """What :class:`InputEncoding` makes of rows, but only the columns that differ from raw ones.

    Nearly all columns are one-hot, so that most of its work is to copy. The numbers are the same
    to the last bit, but for the sign of a zero in a bin.

    Args:
        features: float32 ``[n, F]``.
        kind: as for :class:`InputEncoding`.
        state: its parameters, as the network's state dict names them.

    Returns:
        the indices of ``k`` columns of the encoded rows, and float32 ``[n, k]``.
    """
    if kind == "none":
        return np.empty(0, np.int64), np.empty((len(features), 0), np.float32)
    mean, scale = state["encoding.mean"], state["encoding.scale"]
    columns = np.flatnonzero((mean != 0) | (scale != 1))
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at what came out
        values = (features[:, columns] - mean[columns]) * scale[columns]
        if kind == "standard":
            return columns, values
        column, start, bin_scale = (state[name] for name in BIN_NAMES)
        position = (features[:, column.astype(np.int32)] - start) * bin_scale
    bins = np.arange(len(mean), len(mean) + len(column))
    return np.append(columns, bins), np.append(values, position.clip(0.0, 1.0), axis=1)


def adapt(blocks: Iterable[np.ndarray], kind: str, bins: int) -> dict[str, np.ndarray]:
    """Learn the statistics of :class:`InputEncoding` in one pass over the training features.

    Args:
        blocks: float32 arrays ``[n, F]``.
        kind: as for :class:`InputEncoding`.
        bins: as for :class:`InputEncoding`.

    Returns:
        name to array, entries of the network's state dict. Columns of 0 and 1 keep ``mean`` 0
        and ``scale`` 1; a column that never changes becomes 0 and has no bins.
    """
    if kind == "none":
        return {}
    columns = ColumnStatistics()
    for features in blocks:
        columns.add(features)
    return learnt_state(columns, kind, bins)


def learnt_state(columns: ColumnStatistics, kind: str, bins: int) -> dict[str, np.ndarray]:
    """What has been learnt of columns, entries of the network's state dict, see :func:`adapt`."""
    state = neutral_state(columns.size, kind, bins)
    if kind == "none":
        return state
    for index, column in columns.numeric.items():
        state["encoding.mean"][index] = column.mean
        state["encoding.scale"][index] = 1.0 / column.std if column.std > 0 else 1.0
    if kind == "piecewise_linear":
        varying = {index: c for index, c in sorted(columns.numeric.items()) if c.std > 0}
        state.update(zip(BIN_NAMES, place_bins(varying, bins)))
    return state
