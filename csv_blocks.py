"""Rows of comma-separated numbers, read as blocks of arrays.

Text is cut into pieces of a megabyte at line ends (:mod:`csv_text`), and each is parsed by Arrow's
CSV engine (https://arrow.apache.org/docs/python/csv.html) in a small pool of threads, which hides
parsing behind whatever consumes the blocks. Memory stays constant for files of any size. A piece
that Arrow refuses, or that holds a value a model cannot train on, is halved until only the lines
around the bad one are left; these are read one by one (:mod:`csv_rows`) to name the file, line,
column and value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from csv_rows import BadRows, Layout, is_header, parse_row
from csv_text import BOM, LINE_END, Text, count_lines, last_line_end, read_texts

SLOW_BYTES = 64 << 10


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
    """What a text gave; ``not_digits`` if a column taken for small integers was not one."""

    block: Block
    bad: list[str]
    not_digits: bool = False


def read_blocks(
    files: Sequence[str | Path], layout: Layout, bad_rows: BadRows | None = None, threads: int = 2
) -> Iterator[Block]:
    """Parse files one after another, in the order given.

    Args:
        files: text files, plain or gzip, LF or CRLF, with or without a byte-order mark and a
            header line (a first line with a name, not a number, for every column). Names and
            numbers may be quoted, but no quoted one goes on in the next line.
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
    bad_rows = bad_rows if bad_rows is not None else BadRows()
    with_names = partial(is_header, layout=layout)
    texts = (text for file in files for text in read_texts(Path(file), with_names))
    pending: deque[Future[_Parsed]] = deque()
    digits: frozenset[int] | None = None
    with ThreadPoolExecutor(threads, thread_name_prefix="csv") as pool:
        try:
            for text in texts:
                pending.append(pool.submit(_parse, text, layout, bad_rows.cap, digits))
                if len(pending) > threads:
                    parsed = pending.popleft().result()
                    if digits is None:
                        digits = _binary_columns(parsed.block, layout)
                    elif parsed.not_digits:
                        digits = frozenset()
                    yield from _result(parsed, bad_rows)
            while pending:
                yield from _result(pending.popleft().result(), bad_rows)
        finally:
            for future in pending:
                future.cancel()


def _result(parsed: _Parsed, bad_rows: BadRows) -> Iterator[Block]:
    for message in parsed.bad:
        bad_rows.add(message)
    if len(parsed.block.labels):
        yield parsed.block


def _binary_columns(block: Block, layout: Layout) -> frozenset[int]:
    """Columns that hold only 0 and 1 here, and so probably in the whole file.

    Read as small integers they are parsed a quarter faster; a text where that fails is read as
    decimal numbers, like every other.
    """
    if not len(block.labels):
        return frozenset()
    binary = ((block.features == 0) | (block.features == 1)).all(axis=0)
    columns = [c for c, only_digits in zip(layout.feature_columns, binary) if only_digits]
    return frozenset([*columns, *layout.label_columns])


def _parse(text: Text, layout: Layout, cap: int, digits: frozenset[int] | None = None) -> _Parsed:
    """Rows of a text; of those that cannot be used, at least ``cap`` + 1, are there so many."""
    if text.problem:
        return _Parsed(_block([], text.file, layout), [f"{text.file}:{text.line}: {text.problem}"])
    # Arrow takes "0x1" for an integer, and a byte-order mark in mid-file for nothing.
    plain = not text.data.startswith(BOM)
    for integers in (digits, frozenset()) if digits else (frozenset(),):
        if plain and not (integers and (b"x" in text.data or b"X" in text.data)):
            block = _parse_fast(text, layout, integers)
            if block is not None:
                return _Parsed(block, [], integers != (digits or frozenset()))
    cut = last_line_end(text.data[: len(text.data) // 2])
    if len(text.data) <= SLOW_BYTES or not cut:
        return _parse_lines(text, layout, cap)
    first = _parse(text._replace(data=text.data[:cut]), layout, cap)
    if len(first.bad) > cap:
        return first
    line = text.line + count_lines(text.data[:cut])
    second = _parse(text._replace(line=line, data=text.data[cut:]), layout, cap)
    features, labels = map(np.concatenate, zip(first.block[:2], second.block[:2]))
    return _Parsed(Block(features, labels, text.file), first.bad + second.bad)


@lru_cache(maxsize=8)
def _columns(number: int, digits: frozenset[int]) -> tuple[list[str], pa.csv.ConvertOptions]:
    """Names that stand for the columns, and how to convert them; the same for every text."""
    types = {
        str(column): pa.int8() if column in digits else pa.float32() for column in range(number)
    }
    return list(types), pa.csv.ConvertOptions(column_types=types, null_values=[])


def _parse_fast(text: Text, layout: Layout, digits: frozenset[int]) -> Block | None:
    """All rows of a text, or None where any of them cannot be used or read this way.

    Args:
        text: whole lines.
        layout: the columns expected.
        digits: columns to read as small integers.
    """
    data, quoted = text.data, b'"' in text.data
    if quoted:
        data = data.replace(b', "', b',"')
        # Past the quote that ends a cell Arrow would read on, and take "1"2 for 12.
        ends = sum(data.count(b'"' + end) for end in (b",", b"\n", b"\r")) + data.endswith(b'"')
        if 2 * ends != data.count(b'"'):
            return None
    names, convert_options = _columns(layout.column_num, digits)
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=names
            ),
            parse_options=pa.csv.ParseOptions(quote_char='"' if quoted else False),
            convert_options=convert_options,
        )
    except pa.ArrowInvalid:
        return None
    rows = table.combine_chunks().to_batches()
    if not rows:
        return _block([], text.file, layout)
    features, labels = (
        rows[0].select(columns).to_tensor(row_major=True).to_numpy().astype(np.float32, copy=False)
        for columns in (layout.feature_columns, list(layout.label_columns))
    )
    binary = (labels == 0) | (labels == 1)
    usable = binary.all() and np.isfinite(features).all()
    return Block(features, labels, text.file) if usable else None


def _parse_lines(text: Text, layout: Layout, cap: int) -> _Parsed:
    """Read a text line by line: slow, but it knows where it is."""
    rows: list[np.ndarray] = []
    bad: list[str] = []
    for number, line in enumerate(LINE_END.split(text.data), start=text.line):
        if len(bad) > cap:
            break
        if line.strip():
            row = parse_row(line, layout)
            if isinstance(row, str):
                bad.append(f"{text.file}:{number}: {row}")
            else:
                rows.append(row)
    return _Parsed(_block(rows, text.file, layout), bad)


def _block(rows: Sequence[np.ndarray], file: str, layout: Layout) -> Block:
    """A block of rows of all columns; the fast parser makes its own."""
    matrix = np.array(rows, np.float32).reshape(-1, layout.column_num)
    features, labels = matrix[:, layout.feature_columns], matrix[:, list(layout.label_columns)]
    return Block(np.ascontiguousarray(features), np.ascontiguousarray(labels), file)
