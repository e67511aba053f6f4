"""Parquet files to rows, a batch at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, Callable

import pyarrow as pa
import pyarrow.parquet as pq

from csv_line import RowError
from raw_tables.cells import Cells, is_supported
from raw_tables.rows import Parsed, parse_cells, places_by_name
from raw_tables.words import quoted

BATCH_BYTES = 4 << 20
MOST_ROWS = 1 << 16
_PARQUET = re.compile(rb"PAR1(?![^\0-\x1f]*[,;\t|])")


def is_parquet(file: str) -> bool:
    """Whether a file begins as Parquet does, and as no text does.

    Raises:
        OSError: it cannot be read.
    """
    with open(file, "rb") as stream:
        return begins_as_parquet(stream.read(64))


def begins_as_parquet(start: bytes) -> bool:
    """Whether the first bytes of a file are those of Parquet, and of no text."""
    return _PARQUET.match(start) is not None


def read_parquet(file: str, cells: Cells) -> Iterator[Callable[[int, bool], Parsed]]:
    """What parses each batch of a file, given a cap of bad rows; the second argument is not used.

    Raises:
        RowError: a column is not there, there twice or of a type without a text; the file is
            damaged.
        OSError: it cannot be read.
    """
    with told(file), open_parquet(file) as opened:
        names, rows = check_columns(opened, file, cells), 0
    for batch in read_batches(file, names):
        yield partial(_parse, batch, file, rows, cells)
        rows += len(batch)


def read_batches(
    file: str, names: Sequence[str], texts: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Some columns of a file, a few megabytes at a time.

    Args:
        file: its path.
        names: the columns.
        texts: those that are wanted as dictionaries, where they are text; each batch has then that
            of all rows so far.

    Raises:
        RowError: the file is damaged.
        OSError: it cannot be read.
    """
    with told(file), open_parquet(file, read_dictionary=list(texts)) as opened:
        size = batch_rows(opened)
        yield from opened.iter_batches(size, columns=list(names), use_threads=False)


def open_parquet(file: str | BinaryIO, **options: Any) -> pq.ParquetFile:
    """A file whose columns are read a little at a time."""
    return pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False, **options)


@contextmanager
def told(file: str) -> Iterator[None]:
    """Errors of Arrow, told as what is wrong with a file.

    Raises:
        RowError: the file is damaged.
        OSError: it cannot be read.
    """
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = error.filename or file
            raise
        said = " ".join(str(error).split())[:300]
        said = said if said.isprintable() else ascii(said)[1:-1]
        raise RowError(f"{file}: damaged Parquet: {said}") from error


def check_columns(opened: pq.ParquetFile, file: str, cells: Cells) -> list[str]:
    """Names of the columns that are read.

    Raises:
        RowError: one is not there, there twice, or of a type without a text.
    """
    schema = opened.schema_arrow
    places = places_by_name(schema.names, cells, file)
    for place in places:
        field = schema.field(place)
        if not is_supported(field.type):
            expected = "numbers, text or true and false"
            kind = f"of type {' '.join(str(field.type).split())[:60]}"
            raise RowError(f"{file}: column {quoted(field.name)} is {kind}, expected {expected}")
    return [column.name for column in cells.columns]


def batch_rows(opened: pq.ParquetFile) -> int:
    """Rows of a batch, fewer where they are long."""
    groups = (opened.metadata.row_group(i) for i in range(opened.metadata.num_row_groups))
    longest = max((g.total_byte_size // max(g.num_rows, 1) for g in groups), default=1)
    return min(max(BATCH_BYTES // max(longest, 1), 1), MOST_ROWS)


def _parse(batch: pa.RecordBatch, file: str, start: int, cells: Cells, cap: int, _: bool) -> Parsed:
    if not len(batch):
        return Parsed([], [])
    given = [batch.column(column.name) for column in cells.columns]
    with told(file):  # text may be no UTF-8
        blocks, bad = parse_cells(cells, given, file, cap)
    return Parsed(blocks, [f"{file}: row {start + row + 1}: {said}" for row, said in bad])
