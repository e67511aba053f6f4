"""Text of comma-separated numbers as Arrow's CSV engine reads it, told to take no more than we do.

:mod:`csv_blocks` comes here with whole lines, or with the heads of lines that end in digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from csv_layout import Layout
from csv_text import BOM

WIDE = 10_000
_QUOTED = re.compile(rb'(?<![^,\n\r])"[^"\n\r]*"(?![^,\n\r])')


@lru_cache(maxsize=8)
def _conversion(
    number: int, digits: frozenset[int], ignored: frozenset[int], blanks: bool
) -> tuple[list[str], pa.csv.ConvertOptions]:
    """Names that stand for the columns, and how to convert them; the same for every text."""
    names = [str(column) for column in range(number)]
    types = {str(c): pa.int8() if c in digits else pa.float32() for c in range(number)}
    used = [str(column) for column in range(number) if column not in ignored] if ignored else None
    nulls = ["", " "] if blanks else []
    return names, pa.csv.ConvertOptions(column_types=types, null_values=nulls, include_columns=used)


def read_cells(
    data: bytes, number: int, digits: frozenset[int], layout: Layout
) -> list[pa.RecordBatch] | None:
    """All rows of whole lines: one batch, or none where all lines are blank.

    None where a row cannot be used or read this way.

    Args:
        data: the lines.
        number: columns of a row, the first of the layout's.
        digits: columns to read as small integers.
        layout: which columns to leave out, and whether labels may be blank.
    """
    quoted = b'"' in data
    # A config may claim more columns than could be named, where no row has so many.
    if number > WIDE and number > data.count(b",") + 1:
        return None
    # Arrow takes "0x1" for an integer, and a byte-order mark in mid-file for nothing.
    if data.startswith(BOM) or (digits and (b"x" in data or b"X" in data)):
        return None
    if quoted:
        data = data.replace(b', "', b',"')
        # Past the quote that ends a cell Arrow would read on, and take "1"2 for 12.
        if layout.ignored_columns:  # where there may be quotes of any kind
            if b'"' in _QUOTED.sub(b"", data):
                return None
        else:
            ends = sum(data.count(b'"' + end) for end in (b",", b"\n", b"\r"))
            if 2 * (ends + data.endswith(b'"')) != data.count(b'"'):
                return None
    ignored = frozenset(layout.ignored_columns)
    names, convert = _conversion(number, digits, ignored, layout.blank_labels)
    read = pa.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names)
    split = pa.csv.ParseOptions(quote_char='"' if quoted else False)
    try:
        table = pa.csv.read_csv(pa.BufferReader(data), read, split, convert)
    except pa.ArrowInvalid:
        return None
    return table.combine_chunks().to_batches()


def matrix_of(rows: pa.RecordBatch, layout: Layout, columns: Sequence[int]) -> np.ndarray:
    """Columns of a batch, float32, row-major; a blank is NaN, the text "nan" then infinite."""
    if not columns:
        return np.empty((len(rows), 0), np.float32)
    blanks = layout.blank_labels
    names: list[Any] = [*map(str, columns)] if layout.ignored_columns else [*columns]
    chosen = rows.select(names)
    matrix = chosen.to_tensor(null_to_nan=blanks, row_major=True).to_numpy()
    matrix = matrix.astype(np.float32, copy=False)
    if blanks:
        nan = np.isnan(matrix)
        if nan.sum() != sum(column.null_count for column in chosen.columns):
            matrix = np.where(nan, np.float32(np.inf), matrix)
    return matrix
