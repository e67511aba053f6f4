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

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple, TypeVar, Union

import numpy as np

from csv_arrow import matrix_of, read_cells
from csv_digits import split_digits
from csv_layout import Layout, RowError, no_header
from csv_line import BadRows, parse_row
from csv_text import LINE_END, Text, count_lines, last_line_end, read_texts

SLOW_BYTES = 64 << 10
# To find that rows do not end in digits takes about a tenth of the time that it saves if they do.
MISSES = 8


class Block(NamedTuple):
    """Consecutive rows of a file.

    Attributes:
        features: float32 ``[n, feature_size]``, row-major.
        labels: float32 ``[n, task_num]``, in the order of ``label_columns``: each 0 or 1; where the
            layout allows it, NaN for a blank, or any number.
        file: path of the file.
    """

    features: np.ndarray
    labels: np.ndarray
    file: str


class WeighedBlock(NamedTuple):
    """A :class:`Block` whose rows have weights.

    Attributes:
        features: as in a block.
        labels: as in a block.
        file: as in a block.
        weights: float32 ``[n]``, none of them negative.
    """

    features: np.ndarray
    labels: np.ndarray
    file: str
    weights: np.ndarray


AnyBlock = Union[Block, WeighedBlock]


@dataclass
class Parsed:
    """What a text gave.

    Attributes:
        blocks: its rows.
        bad: what is wrong with each row that cannot be used.
        not_digits: a column taken for small integers was not one.
        split: all rows ended in a run of single digits and were read by :func:`_parse_split`.
    """

    blocks: list[AnyBlock]
    bad: list[str]
    not_digits: bool = False
    split: bool = False


Piece = TypeVar("Piece", bound=Parsed)
# Reads a text that has this layout, these columns of small integers, and perhaps ends in digits.
Parse = Callable[[Text, Layout, frozenset[int], bool], Piece]


def read_blocks(
    files: Sequence[str | Path], layout: Layout, bad_rows: BadRows | None = None, threads: int = 2
) -> Iterator[AnyBlock]:
    """Parse files one after another, in the order given.

    Args:
        files: text files, plain or gzip, LF or CRLF, with or without a byte-order mark and a
            header line (a first line with a name, not a number, for every column, of which at
            least one begins with a letter). Names and numbers may be quoted, but no quoted one
            goes on in the next line.
        layout: the columns expected; where it knows their names, each file's header says where
            they are, and one without a header has them where they are expected.
        bad_rows: a tally to skip bad rows into; None raises at the first.
        threads: parser threads.

    Yields:
        blocks of at least one row.

    Raises:
        RowError: a row with the wrong number of columns, a value that is not a number or not
            finite as float32, a label that is not 0 or 1 as float32, a negative weight, a line of
            more than about ``MAX_LINE_BYTES``, a gzip file cut short, a file that is no text, a
            header that lacks a name or has one twice.
        OSError: a file cannot be read.
    """
    bad_rows = bad_rows or BadRows()
    texts = (text for file in files for text in read_texts(str(file), layout))

    def parse(text: Text, layout: Layout, digits: frozenset[int], split: bool) -> Parsed:
        return parse_text(text, layout, bad_rows.cap, digits, split)

    with closing(parse_ahead(texts, layout, parse, threads)) as pieces:
        for parsed in pieces:
            for message in parsed.bad:
                bad_rows.add(message)
            yield from parsed.blocks


def parse_ahead(
    texts: Iterator[Text], layout: Layout, parse: Parse[Piece], threads: int = 2
) -> Generator[Piece, None, None]:
    """Parse texts in a pool of threads, a few ahead of what is asked for.

    Args:
        texts: whole lines each.
        layout: the columns of a text that does not say where its own are.
        parse: as :func:`parse_text`, called in the threads.
        threads: how many.

    Yields:
        what each text gave, in order.
    """
    ahead: deque[Future[Piece]] = deque()
    binary: frozenset[int] | None = None
    misses, all_decimal = 0, False
    with ThreadPoolExecutor(threads, thread_name_prefix="csv") as pool:
        while True:
            for text in islice(texts, threads + 1 - len(ahead)):
                own = text.layout or layout
                known = binary is not None and not all_decimal
                digits = _digits(own, binary or frozenset()) if known else frozenset()
                ahead.append(pool.submit(parse, text, own, digits, misses < MISSES))
            if not ahead:
                return
            parsed = ahead.popleft().result()
            misses = 0 if parsed.split else misses + 1
            if parsed.not_digits:
                all_decimal = True
            elif binary is None and parsed.blocks:
                binary = _binary_features(parsed.blocks)
            yield parsed


def _binary_features(blocks: Sequence[AnyBlock]) -> frozenset[int]:
    """Features that hold only 0 and 1 here, and so probably in all files.

    Read as small integers they are parsed a quarter faster; a text where that fails is read as
    decimal numbers, like every other.
    """
    binary = [((block.features == 0) | (block.features == 1)).all(axis=0) for block in blocks]
    return frozenset(np.flatnonzero(np.all(binary, axis=0)).tolist())


def _digits(layout: Layout, binary: frozenset[int]) -> frozenset[int]:
    """Columns of binary features and labels."""
    free = layout.regression or repeat(False)
    labels = [column for column, any_number in zip(layout.label_columns, free) if not any_number]
    columns = layout.feature_columns
    return frozenset([*labels, *(columns[feature] for feature in binary)])


def parse_text(
    text: Text,
    layout: Layout,
    cap: int,
    digits: frozenset[int] = frozenset(),
    split: bool = False,
    by_line: Callable[[Text, Layout, int], Parsed] | None = None,
) -> Parsed:
    """Rows of a text; of those that cannot be used, at least ``cap`` + 1, are there so many.

    Args:
        text: whole lines, or a problem.
        layout: the columns expected.
        cap: how many bad rows may be skipped.
        digits: columns that probably hold small integers.
        split: rows may end in a run of single digits, see :func:`_parse_split`; they are the same,
            to the last bit.
        by_line: reads what the fast ways cannot; by default it leaves out bad rows.
    """
    by_line = by_line or _parse_lines
    if text.problem:
        return by_line(text, layout, cap)
    if split:
        blocks = _parse_split(text, layout, digits)
        if blocks is not None:
            return Parsed(blocks, [], split=True)
    for integers in dict.fromkeys((digits, frozenset())):
        blocks = _parse_fast(text, layout, integers)
        if blocks is not None:
            return Parsed(blocks, [], integers != digits)
    cut = last_line_end(text.data[: len(text.data) // 2])
    if len(text.data) <= SLOW_BYTES or not cut:
        return by_line(text, layout, cap)
    first = parse_text(text._replace(data=text.data[:cut]), layout, cap, by_line=by_line)
    line = text.line + count_lines(text.data[:cut])
    rest = text._replace(line=line, data=text.data[cut:])
    second = parse_text(rest, layout, cap, by_line=by_line)
    return Parsed(first.blocks + second.blocks, first.bad + second.bad)


def _parse_fast(text: Text, layout: Layout, digits: frozenset[int]) -> list[AnyBlock] | None:
    """All rows of a text, or None where any of them cannot be used or read this way.

    Args:
        text: whole lines.
        layout: the columns expected.
        digits: columns to read as small integers.
    """
    batches = read_cells(text.data, layout.column_num, digits, layout)
    if batches is None:
        return None
    blocks: list[AnyBlock] = []
    for rows in batches:
        matrix = partial(matrix_of, rows, layout)
        features = matrix(layout.feature_columns)
        block = _block(text.file, layout, features, matrix)
        if block is None or not np.isfinite(features).all():
            return None
        blocks.append(block)
    return blocks


def _parse_split(text: Text, layout: Layout, digits: frozenset[int]) -> list[AnyBlock] | None:
    """As :func:`_parse_fast`, where all rows end in a run of single digits; otherwise None."""
    parts = split_digits(text.data, layout.column_num)
    if parts is None:
        return None
    heads, tails = parts
    number = layout.column_num - tails.shape[1]
    digits = digits.difference(range(number, layout.column_num))
    batches = read_cells(heads, number, digits, layout)
    if not batches or len(batches[0]) != len(tails):  # a head may be blank
        return None

    def matrix(columns: Sequence[int]) -> np.ndarray:
        values = np.empty((len(tails), len(columns)), np.float32)
        at = np.asarray(columns, np.intp)
        in_head, in_tail = np.flatnonzero(at < number), np.flatnonzero(at >= number)
        values[:, in_head] = matrix_of(batches[0], layout, at[in_head].tolist())
        values[:, in_tail] = tails[:, at[in_tail] - number]
        return values

    columns = layout.feature_columns
    if layout.features:
        features = head = matrix(columns)
    else:  # they are in the file's order
        size = bisect_left(columns, number)
        head = matrix_of(batches[0], layout, columns[:size])
        others = np.setdiff1d(range(number, layout.column_num), columns[size:]) - number
        features = np.empty((len(tails), layout.feature_size), np.float32)
        features[:, :size] = head
        features[:, size:] = np.delete(tails, others, axis=1) if len(others) else tails
    block = _block(text.file, layout, features, matrix)
    return [block] if block is not None and np.isfinite(head).all() else None


def _block(
    file: str, layout: Layout, features: np.ndarray, matrix: Callable[[Sequence[int]], np.ndarray]
) -> AnyBlock | None:
    """Rows with the labels and weights that ``matrix`` gives; None where any of them is not one."""
    labels = matrix(layout.label_columns)
    fit = (labels == 0) | (labels == 1)
    if layout.regression:
        fit |= np.isfinite(labels) & np.array(layout.regression)
    if layout.blank_labels:
        fit |= np.isnan(labels)
    if not fit.all():
        return None
    if layout.weight_column is None:
        return Block(features, labels, file)
    weights = matrix([layout.weight_column])[:, 0]
    fits = (weights >= 0).all() and np.isfinite(weights).all()
    return WeighedBlock(features, labels, file, weights) if fits else None


def _parse_lines(text: Text, layout: Layout, cap: int) -> Parsed:
    """Read a text line by line: slow, but it knows where it is."""
    if text.problem:
        return Parsed([], [f"{text.file}:{text.line}: {text.problem}"])
    rows: list[np.ndarray] = []
    bad: list[str] = []
    for number, line in enumerate(LINE_END.split(text.data), start=text.line):
        if len(bad) > cap:
            break
        if line.strip():
            try:
                rows.append(parse_row(line, layout))
            except RowError as error:
                hint = no_header(line, layout.column_num) if number == 1 else ""
                bad.append(f"{text.file}:{number}: {error}{hint}")
    if not rows:
        return Parsed([], bad)
    matrix = np.array(rows)
    block = _block(
        text.file, layout, matrix.take(layout.feature_columns, 1), lambda c: matrix.take(c, 1)
    )
    assert block is not None
    return Parsed([block], bad)
