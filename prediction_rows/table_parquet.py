"""Parquet files to rows of a table, good and bad ones in the order in which they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, Callable

import numpy as np
import pyarrow as pa

from csv_layout import RowError
from prediction_rows.rows import Fault, Rows
from raw_tables.cells import Cells, as_text, date_text, is_date, is_supported
from raw_tables.parquet import batch_rows, check_columns, open_parquet, told
from raw_tables.rows import faults as faults_of
from raw_tables.rows import place_of
from raw_tables.words import quoted


def parquet_jobs(
    name: str, file: str | BinaryIO, cells: Cells, keep: Sequence[str]
) -> Iterator[Callable[[], Rows]]:
    """What reads each batch of a file, see :func:`prediction_rows.rows.ahead`.

    Args:
        name: what messages call it.
        file: its path, or a seekable file.
        cells: what the columns mean that are features.
        keep: columns whose cells are wanted too.

    Raises:
        RowsError: a column is not there, there twice or of a type without a text; the file is
            damaged.
        OSError: it cannot be read.
    """
    with told(name), open_parquet(file) as opened:
        names = check_columns(opened, name, cells)
        fields = opened.schema_arrow
        for column in keep:
            kind = fields.field(place_of(column, fields.names, name)).type
            if not (is_supported(kind) or is_date(kind)):
                what = f"of type {' '.join(str(kind).split())[:60]}, which has no text to keep"
                raise RowError(f"{name}: column {quoted(column)} is {what}")
        size, wanted, start = batch_rows(opened), [*dict.fromkeys((*names, *keep))], 0
        for batch in opened.iter_batches(size, columns=wanted, use_threads=False):
            if len(batch):
                yield partial(_read, batch, name, start, cells, keep)
            start += len(batch)


def _read(batch: pa.RecordBatch, name: str, start: int, cells: Cells, keep: Sequence[str]) -> Rows:
    given = [batch.column(column.name) for column in cells.columns]
    with told(name):  # text may be no UTF-8
        arrays = cells.arrays(given)
        faults = {
            row: Fault(f"{name}: row {start + row + 1}", column.name, said)
            for row, column, said in faults_of(arrays, cells, given)
        }
        arrays.features[np.array(list(faults), np.intp)] = 0
        return Rows(arrays.features, faults, {n: _text(batch.column(n)) for n in keep})


def _text(array: pa.Array) -> list[Any]:
    return (date_text(array) if is_date(array.type) else as_text(array)).to_pylist()
