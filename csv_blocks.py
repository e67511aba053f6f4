"""Rows of comma-separated numbers, read as blocks of arrays.

Text is cut into pieces of a megabyte at line ends (:mod:`csv_text`), and each is parsed by Arrow's
CSV engine (https://arrow.apache.org/docs/python/csv.html) in a small pool of threads, which hides
parsing behind whatever consumes the blocks. Where all rows of a piece end in a long run of single
digits, as one-hot columns do, Arrow is given only what stands before it (:mod:`csv_digits`). Memory
stays constant for files of any size. A piece that Arrow refuses, or that holds a value a model
cannot train on, is halved until only the lines around the bad one are left; these are read one by
one (:mod:`csv_line`) to name the file, line, column and value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from csv_digits import split_digits
from csv_line import BadRows, Layout, RowError, parse_row
from csv_text import BOM, LINE_END, Text, count_lines, last_line_end, read_texts

SLOW_BYTES = 64 << 10
WIDE = 10_000
# To find that rows do not end in digits takes about a tenth of the time that it saves if they do.
MISSES = 8


class Block(NamedTuple):
    """Consecutive rows of a file.

    Attributes:
        features: float32 ``[n, feature_size]``, row-major.
        labels: float32 ``[n, task_num]``, each 0 or 1, in the order of ``label_columns``.
        file: path of the file.
    """

    features: np.ndarray
    labels: np.ndarray
    file: str


class _Parsed(NamedTuple):
    """What a text gave.

    Attributes:
        blocks: its rows.
        bad: what is wrong with each row that cannot be used.
        not_digits: a column taken for small integers was not one.
        split: all rows ended in a run of single digits and were read by :func:`_parse_split`.
    """

    blocks: list[Block]
    bad: list[str]
    not_digits: bool = False
    split: bool = False


def read_blocks(
    files: Sequence[str | Path], layout: Layout, bad_rows: BadRows | None = None, threads: int = 2
) -> Iterator[Block]:
    """Parse files one after another, in the order given.

    Args:
        files: text files, plain or gzip, LF or CRLF, with or without a byte-order mark and a
            header line (a first line with a name, not a number, for every column, of which at
            least one begins with a letter). Names and numbers may be quoted, but no quoted one
            goes on in the next line.
        layout: the columns expected.
        bad_rows: a tally to skip bad rows into; None raises at the first.
        threads: parser threads.

    Yields:
        blocks of at least one row.

    Raises:
        RowError: a row with the wrong number of columns, a value that is not a number or not
            finite as float32, a label that is not 0 or 1 as float32, a line of more than about
            ``MAX_LINE_BYTES``, a gzip file cut short, a file that is no text.
        OSError: a file cannot be read.
    """
    bad_rows = bad_rows or BadRows()
    texts = (text for file in files for text in read_texts(str(file), layout))
    ahead: deque[Future[_Parsed]] = deque()
    digits: frozenset[int] | None = None
    misses = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="csv") as pool:
        while True:
            for text in islice(texts, threads + 1 - len(ahead)):
                job = (text, layout, bad_rows.cap, digits or frozenset(), misses < MISSES)
                ahead.append(pool.submit(_parse, *job))
            if not ahead:
                return
            parsed = ahead.popleft().result()
            for message in parsed.bad:
                bad_rows.add(message)
            misses = 0 if parsed.split else misses + 1
            if parsed.not_digits:
                digits = frozenset()
            elif digits is None and parsed.blocks:
                digits = _binary_columns(parsed.blocks, layout)
            yield from parsed.blocks


def _binary_columns(blocks: Sequence[Block], layout: Layout) -> frozenset[int]:
    """Columns that hold only 0 and 1 here, and so probably in the whole file.

    Read as small integers they are parsed a quarter faster; a text where that fails is read as
    decimal numbers, like every other.
    """
    binary = [((block.features == 0) | (block.features == 1)).all(axis=0) for block in blocks]
    columns = np.compress(np.all(binary, axis=0), layout.feature_columns)
    return frozenset([*columns.tolist(), *layout.label_columns])


def _parse(
    text: Text, layout: Layout, cap: int, digits: frozenset[int] = frozenset(), split: bool = False
) -> _Parsed:
    """Rows of a text; of those that cannot be used, at least ``cap`` + 1, are there so many.

    The rows are the same, to the last bit, with ``split``, which tries :func:`_parse_split` first.
    """
    if text.problem:
        return _Parsed([], [f"{text.file}:{text.line}: {text.problem}"])
    if split:
        blocks = _parse_split(text, layout, digits)
        if blocks is not None:
            return _Parsed(blocks, [], split=True)
    for integers in dict.fromkeys((digits, frozenset())):
        blocks = _parse_fast(text, layout, integers)
        if blocks is not None:
            return _Parsed(blocks, [], integers != digits)
    cut = last_line_end(text.data[: len(text.data) // 2])
    if len(text.data) <= SLOW_BYTES or not cut:
        return _parse_lines(text, layout, cap)
    first = _parse(text._replace(data=text.data[:cut]), layout, cap)
    line = text.line + count_lines(text.data[:cut])
    second = _parse(text._replace(line=line, data=text.data[cut:]), layout, cap)
    return _Parsed(first.blocks + second.blocks, first.bad + second.bad)


@lru_cache(maxsize=8)
def _columns(number: int, digits: frozenset[int]) -> tuple[list[str], pa.csv.ConvertOptions]:
    """Names that stand for the columns, and how to convert them; the same for every text."""
    types = {str(c): pa.int8() if c in digits else pa.float32() for c in range(number)}
    return list(types), pa.csv.ConvertOptions(column_types=types, null_values=[])


def _read(data: bytes, number: int, digits: frozenset[int]) -> list[pa.RecordBatch] | None:
    """All rows of whole lines: one batch, or none where all lines are blank.

    None where a row cannot be used or read this way.

    Args:
        data: the lines.
        number: columns of a row.
        digits: columns to read as small integers.
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
        ends = sum(data.count(b'"' + end) for end in (b",", b"\n", b"\r")) + data.endswith(b'"')
        if 2 * ends != data.count(b'"'):
            return None
    names, convert = _columns(number, digits)
    read = pa.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names)
    split = pa.csv.ParseOptions(quote_char='"' if quoted else False)
    try:
        table = pa.csv.read_csv(pa.BufferReader(data), read, split, convert)
    except pa.ArrowInvalid:
        return None
    return table.combine_chunks().to_batches()


def _parse_fast(text: Text, layout: Layout, digits: frozenset[int]) -> list[Block] | None:
    """All rows of a text, or None where any of them cannot be used or read this way.

    Args:
        text: whole lines.
        layout: the columns expected.
        digits: columns to read as small integers.
    """
    batches = _read(text.data, layout.column_num, digits)
    if batches is None:
        return None
    blocks = []
    for rows in batches:
        features, labels = (
            _matrix(rows, columns)
            for columns in (layout.feature_columns, list(layout.label_columns))
        )
        if not (_binary(labels) and np.isfinite(features).all()):
            return None
        blocks.append(Block(features, labels, text.file))
    return blocks


def _parse_split(text: Text, layout: Layout, digits: frozenset[int]) -> list[Block] | None:
    """As :func:`_parse_fast`, where all rows end in a run of single digits; otherwise None."""
    parts = split_digits(text.data, layout.column_num)
    if parts is None:
        return None
    heads, tails = parts
    number = layout.column_num - tails.shape[1]
    batches = _read(heads, number, digits.difference(range(number, layout.column_num)))
    if not batches or len(batches[0]) != len(tails):  # a head may be blank
        return None
    head = _matrix(batches[0], range(number))
    labels = np.empty((len(tails), len(layout.label_columns)), np.float32)
    for task, column in enumerate(layout.label_columns):
        labels[:, task] = head[:, column] if column < number else tails[:, column - number]
    if not (_binary(labels) and np.isfinite(head).all()):
        return None
    head = np.delete(head, [c for c in layout.label_columns if c < number], axis=1)
    more = [c - number for c in layout.label_columns if c >= number]
    features = np.empty((len(tails), layout.feature_size), np.float32)
    features[:, : head.shape[1]] = head
    features[:, head.shape[1] :] = np.delete(tails, more, axis=1) if more else tails
    return [Block(features, labels, text.file)]


def _matrix(rows: pa.RecordBatch, columns: Sequence[int]) -> np.ndarray:
    """Columns of a batch, float32, row-major."""
    matrix = rows.select(list(columns)).to_tensor(row_major=True).to_numpy()
    return matrix.astype(np.float32, copy=False)


def _binary(labels: np.ndarray) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _parse_lines(text: Text, layout: Layout, cap: int) -> _Parsed:
    """Read a text line by line: slow, but it knows where it is."""
    rows: list[np.ndarray] = []
    bad: list[str] = []
    for number, line in enumerate(LINE_END.split(text.data), start=text.line):
        if len(bad) > cap:
            break
        if line.strip():
            try:
                rows.append(parse_row(line, layout))
            except RowError as error:
                bad.append(f"{text.file}:{number}: {error}")
    if not rows:
        return _Parsed([], bad)
    matrix = np.array(rows)
    features, labels = (matrix.take(c, 1) for c in (layout.feature_columns, layout.label_columns))
    return _Parsed([Block(features, labels, text.file)], bad)
