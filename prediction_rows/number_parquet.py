"""Parquet files to rows of numbers, good and bad ones in the order in which they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, Callable

import numpy as np
import pyarrow as pa

from csv_layout import RowError
from prediction_rows.number_cells import NumberCells
from prediction_rows.number_layout import FeatureLayout
from prediction_rows.rows import Fault, Rows
from raw_tables.cells import as_text, date_text, is_date, is_supported, numbers
from raw_tables.parquet import batch_rows, open_parquet, told
from raw_tables.rows import place_of


def number_jobs(
    name: str,
    file: str | BinaryIO,
    layout: FeatureLayout,
    cells: NumberCells,
    keep: Sequence[str],
) -> Iterator[Callable[[], Rows]]:
    """What reads each batch of a file, see :func:`prediction_rows.rows.ahead`.

    Args:
        name: what messages call it.
        file: its path, or a seekable file.
        layout: the columns of the training files.
        cells: what they mean that are features.
        keep: columns whose cells are wanted too, by name or by number from 0.

    Raises:
        RowError: a column is not there, there twice or of a type without a text; the file is
            damaged.
        OSError: it cannot be read.
    """
    with told(name), open_parquet(file) as opened:
        fields = opened.schema_arrow
        features = _features(tuple(fields.names), name, layout)
        kept = {column: _to_keep(column, fields.names, name) for column in keep}
        for column in (*features, *kept.values()):
            kind = fields.field(place_of(column, fields.names, name)).type
            if not (is_supported(kind) or (column not in features and is_date(kind))):
                what = "expected numbers" if column in features else "which has no text to keep"
                shown = " ".join(str(kind).split())[:60]
                raise RowError(f"{name}: column {column!r} is of type {shown}, {what}")
        size, start = batch_rows(opened), 0
        wanted = [*dict.fromkeys((*features, *kept.values()))]
        for batch in opened.iter_batches(size, columns=wanted, use_threads=False):
            if len(batch):
                yield partial(_Batch(name, start, features, kept, cells).read, batch)
            start += len(batch)


def _features(names: tuple[str, ...], file: str, layout: FeatureLayout) -> list[str]:
    """What the features are called in a file with these columns.

    Raises:
        RowError: one is not there.
    """
    alone = layout.features_alone()
    if not layout.names and set(alone.called) <= {*names}:
        return list(alone.called)
    try:
        here = layout.of(names)
    except RowError as error:
        raise RowError(f"{file}: {error}") from error
    return [names[column] for column in here.feature_columns]


def _to_keep(column: str, names: Sequence[str], file: str) -> str:
    if column not in names and column.isdecimal() and len(column) < 9 and int(column) < len(names):
        return names[int(column)]
    return names[place_of(column, names, file)]


class _Batch:
    """Rows of a file from one on."""

    def __init__(
        self,
        file: str,
        start: int,
        features: Sequence[str],
        kept: dict[str, str],
        cells: NumberCells,
    ) -> None:
        self._file = file
        self._start = start
        self._features = features
        self._kept = kept
        self._cells = cells

    def read(self, batch: pa.RecordBatch) -> Rows:
        """The rows of a batch."""
        with told(self._file):  # text may be no UTF-8
            return self._read(batch)

    def _read(self, batch: pa.RecordBatch) -> Rows:
        given = [batch.column(name) for name in self._features]
        features = np.empty((len(batch), len(given)), np.float32)
        for place, array in enumerate(given):
            features[:, place] = numbers(array, ()).values
        faults = {}
        finite = np.isfinite(features)
        for row in np.flatnonzero(~finite.all(axis=1)).tolist():
            place = int(np.argmin(finite[row]))
            wrong = self._cells.bad_cell(place, given[place][row].as_py(), self._features[place])
            faults[row] = Fault(f"{self._file}: row {self._start + row + 1}", *wrong)
            features[row] = 0
        return Rows(features, faults, {k: _text(batch.column(n)) for k, n in self._kept.items()})


def _text(array: pa.Array) -> list[Any]:
    return (date_text(array) if is_date(array.type) else as_text(array)).to_pylist()
