"""The encoding of a table's rows: numbers, codes of categories and of ids, as their schema says.

A row has one float32 for each column, see :mod:`raw_tables.schema`. It becomes

    numbers, standardised | indicators of missing ones | a 0/1 column for each value of each
    category | bins of piecewise_linear | codes of ids

so that a table of one-hot columns, made of the same rows beforehand, is encoded to the very same
numbers. Ids stay codes, which :mod:`id_embedding` looks up. As in :mod:`input_encoding`, what the
encoding needs are parameters that no optimizer touches, saved with the weights.

Indicators and categories are slots: a column of the row and the code that it has to have there. A
number that is missing has the code ``MISSING``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import paddle
from paddle import Tensor, nn

from column_statistics import ColumnStatistics
from input_encoding import BIN_NAMES, Statistics, add_statistics, learnt_state
from input_encoding import neutral_state as neutral_numbers
from raw_tables.schema import Schema

MISSING = float(np.finfo(np.float32).min)
PIECE_ROWS = 512  # few enough to stay in the processor's cache


class TableEncoding(nn.Layer):
    """The first, untrained step of the network: rows of a table to what ``logits`` takes.

    Args:
        table: their schema.
        kind: ``none``, ``standard`` or ``piecewise_linear``, for the numbers, see
            :class:`input_encoding.InputEncoding`.
        bins: bins B of ``piecewise_linear``; the numbers share them.
        statistics: what :func:`learnt_table` gave; those that are left out are neutral.

    Attributes:
        out_size: columns out, without the codes of ids.
    """

    def __init__(
        self, table: Schema, kind: str, bins: int, statistics: Statistics | None = None
    ) -> None:
        super().__init__()
        self.kind = kind
        self._numbers, self._ids = len(table.numbers), len(table.ids)
        neutral = neutral_state(table, kind, bins)
        self.out_size = encoded_size(table, kind, bins)
        add_statistics(self, {**neutral, **(statistics or {})})

    def forward(self, features: Tensor) -> Tensor:
        """float32 ``[N, F]`` to float32 ``[N, out_size + ids]``."""
        statistics = dict(self.named_parameters())
        statistics = {f"encoding.{name}": value for name, value in statistics.items()}
        parts = encoded_parts(features, statistics)
        if self._ids:
            parts.append(features[:, -self._ids :])
        return paddle.concat(parts, axis=1) if len(parts) > 1 else parts[0]


def encoded_parts(features: Tensor, statistics: Mapping[str, Tensor]) -> list[Tensor]:
    """The parts of encoded rows but for ids: numbers, slots, bins, as far as there are any.

    Args:
        features: float32 ``[N, F]``.
        statistics: the encoding's parameters, as the network's state dict names them.
    """
    parts = []
    known = features == features  # not NaN: Paddle 3.3's isnan refuses the old representation
    if "encoding.fill" in statistics:
        fill = statistics["encoding.fill"]
        count = fill.shape[0]
        numbers = features[:, :count]
        numbers = paddle.where(known[:, :count], numbers, paddle.zeros_like(numbers) + fill)
        standard = numbers
        if "encoding.mean" in statistics:
            standard = (numbers - statistics["encoding.mean"]) * statistics["encoding.scale"]
        parts.append(standard)
    if "encoding.slot_code" in statistics:
        codes = paddle.where(known, features, paddle.full_like(features, MISSING))
        column = statistics["encoding.slot_column"].astype("int32")
        found = paddle.index_select(codes, column, axis=1) == statistics["encoding.slot_code"]
        parts.append(found.astype("float32"))
    if BIN_NAMES[0] in statistics:
        column, start, scale = (statistics[name] for name in BIN_NAMES)
        chosen = paddle.index_select(numbers, column.astype("int32"), axis=1)
        parts.append(((chosen - start) * scale).clip(0.0, 1.0))
    return parts


def is_table(state: Mapping[str, object]) -> bool:
    """Whether a network, by the names of its state dict, takes rows of a table."""
    names = ("encoding.fill", "encoding.slot_code", "embedding.0.weight")
    return any(name in state for name in names)


def encoded_size(table: Schema, kind: str, bins: int) -> int:
    """Columns of encoded rows, without the codes of ids."""
    numbers = len(table.numbers)
    return numbers + len(slots(table)) + (bins if kind == "piecewise_linear" and numbers else 0)


def slots(table: Schema) -> list[tuple[int, float, str]]:
    """Column, code and name of each slot, in the order in which rows are encoded."""
    found = [
        (place, MISSING, f"{column.name} missing")
        for place, column in enumerate(table.numbers)
        if column.missing
    ]
    for place, column in enumerate(table.categories, start=len(table.numbers)):
        count = len(column.values)
        found += [
            (place, float(code), f"{column.name}={v}") for code, v in enumerate(column.values)
        ]
        found += [(place, float(count), f"{column.name} other")] * column.other
        found += [(place, float(count + 1), f"{column.name} missing")] * column.missing
    return found


def encoded_names(table: Schema) -> list[str]:
    """Names of the numbers and slots, the first columns of encoded rows."""
    return [*(column.name for column in table.numbers), *(name for _, _, name in slots(table))]


def neutral_state(table: Schema, kind: str, bins: int) -> dict[str, np.ndarray]:
    """Statistics that pass every number through, entries of the network's state dict.

    Args:
        table: schema of the rows.
        kind: as for :class:`TableEncoding`.
        bins: as for :class:`TableEncoding`.
    """
    state = {}
    numbers, found = len(table.numbers), slots(table)
    if numbers:
        state.update(neutral_numbers(numbers, kind, bins))
        state["encoding.fill"] = np.zeros(numbers, np.float32)
    if found:
        state["encoding.slot_column"] = np.array([column for column, _, _ in found], np.float32)
        state["encoding.slot_code"] = np.array([code for _, code, _ in found], np.float32)
    return state


def learnt_table(
    numbers: ColumnStatistics, table: Schema, kind: str, bins: int
) -> dict[str, np.ndarray]:
    """What has been learnt of a table's numbers, entries of the network's state dict.

    Args:
        numbers: statistics of the first columns of the rows; blanks left out.
        table: schema of the rows.
        kind: as for :class:`TableEncoding`.
        bins: as for :class:`TableEncoding`.
    """
    state = neutral_state(table, kind, bins)
    if numbers.size:
        state.update(learnt_state(numbers, kind, bins))
        state["encoding.fill"] = numbers.means
    return state


def encode_rows(features: np.ndarray, ids: int, state: Statistics) -> np.ndarray:
    """What :class:`TableEncoding` makes of rows, the same numbers without Paddle.

    But for the sign of a zero in a bin.

    Args:
        features: float32 ``[n, F]``.
        ids: how many of the columns, the last ones, are codes of ids.
        state: the encoding's parameters, as the network's state dict names them.

    Returns:
        float32 ``[n, E]``.
    """
    fill, code = state.get("encoding.fill", ()), state.get("encoding.slot_code", ())
    places, numbers = len(state.get(BIN_NAMES[0], ())), len(fill)
    first_bin = numbers + len(code)
    out = np.empty((len(features), first_bin + places + ids), np.float32)
    for start in range(0, len(features), PIECE_ROWS):
        rows, encoded = features[start : start + PIECE_ROWS], out[start : start + PIECE_ROWS]
        known = ~np.isnan(rows)
        filled = np.where(known[:, :numbers], rows[:, :numbers], fill)
        with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at what came out
            encoded[:, :numbers] = filled
            if "encoding.mean" in state:
                standard = (filled - state["encoding.mean"]) * state["encoding.scale"]
                encoded[:, :numbers] = standard
            if len(code):
                column = state["encoding.slot_column"].astype(np.int32)
                codes = np.where(known, rows, np.float32(MISSING))
                encoded[:, numbers:first_bin] = codes.take(column, axis=1) == code
            if places:
                column, begin, scale = (state[name] for name in BIN_NAMES)
                position = (filled.take(column.astype(np.int32), axis=1) - begin) * scale
                encoded[:, first_bin : first_bin + places] = position.clip(0.0, 1.0)
        encoded[:, first_bin + places :] = rows[:, rows.shape[1] - ids :]
    return out
