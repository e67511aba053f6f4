"""Rows of comma-separated numbers, read as blocks of arrays.

Text is cut into blocks of a few megabytes at line ends, and each block is parsed by Arrow's CSV
engine (https://arrow.apache.org/docs/python/csv.html) in a small pool of threads, which hides
parsing behind whatever consumes the blocks. Memory stays constant for files of any size. A block
that Arrow refuses, or that holds a value a model cannot train on, is halved until only the lines
around the bad one are left; these are read one by one to name the file, line, column and value.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
SLOW_BYTES = 64 << 10
_BOM = b"\xef\xbb\xbf"
# No two parts of it can match the same digits: on bad text it would take forever to try them all.
_NUMBER = re.compile(rb"[ \t]*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?[ \t]*")
_NOT_FINITE = re.compile(rb"[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_LINE_END = re.compile(rb"\r\n|\n|\r")


class RowError(ValueError):
    """A row that cannot be used; the message names file, line, column and value."""

    user_error = True  # one sentence for the user, not a traceback


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


@dataclass
class BadRows:
    """What to do with rows that cannot be used, and a count of those skipped.

    Attributes:
        cap: how many may be skipped before reading stops; 0 stops at the first.
        count: rows skipped so far.
        first: the messages of the first ten of them.
    """

    cap: int = 0
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Count one bad row.

        Raises:
            RowError: more rows were bad than ``cap`` allows.
        """
        if self.cap == 0:
            raise RowError(message)
        self.count += 1
        if len(self.first) < 10:
            self.first.append(message)
        if self.count > self.cap:
            raise RowError(
                f"{message} (and {self.cap} bad rows were skipped before it, the most allowed)"
            )


@dataclass(frozen=True)
class Layout:
    """Which columns a row has.

    Attributes:
        feature_size: number of feature columns: all that are not labels, in file order.
        label_columns: index of each task's label column, counted from 0.
    """

    feature_size: int
    label_columns: tuple[int, ...]

    @property
    def column_num(self) -> int:
        """Columns of a row, labels and features together."""
        return self.feature_size + len(self.label_columns)

    @property
    def feature_columns(self) -> list[int]:
        """Index of each feature column, counted from 0."""
        return [c for c in range(self.column_num) if c not in self.label_columns]


class _Text(NamedTuple):
    """Whole lines of one file, or what is wrong with a line that was not kept.

    Attributes:
        file: path of the file.
        line: number of the first line, counted from 1.
        data: the lines.
        problem: what is wrong, or empty.
    """

    file: str
    line: int
    data: bytes
    problem: str = ""


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
            header line (a first line with a name, not a number, for every column).
        layout: the columns expected.
        bad_rows: a tally to skip bad rows into; None raises at the first.
        threads: parser threads.

    Yields:
        blocks of at least one row.

    Raises:
        RowError: a row with the wrong number of columns, a value that is not a number or not
            finite as float32, a label that is not 0 or 1 as float32, a line of more than about
            ``MAX_LINE_BYTES``, a gzip file cut short.
        OSError: a file cannot be read.
    """
    bad_rows = bad_rows if bad_rows is not None else BadRows()
    texts = (text for file in files for text in _texts(Path(file), layout))
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


def _texts(file: Path, layout: Layout) -> Iterator[_Text]:
    """Cut a file at line ends into pieces of about ``BLOCK_BYTES``."""
    line, first = 1, True
    try:
        with _open(file) as stream:
            tail = stream.read(len(_BOM)).removeprefix(_BOM)
            while True:
                read = stream.read(BLOCK_BYTES)
                data = tail + read
                cut = _last_line_end(data) if read else len(data)
                whole, tail = data[:cut], data[cut:]
                if first and (whole or not read):
                    first = False
                    header, *rest = _LINE_END.split(whole, 1)
                    if _is_header(header, layout):
                        whole, line = (rest[0] if rest else b""), 2
                if whole:
                    yield _Text(str(file), line, whole)
                    line += _count_lines(whole)
                if not read:
                    return
                if len(tail) > MAX_LINE_BYTES:
                    problem = f"line is longer than {MAX_LINE_BYTES >> 20} MB"
                    yield _Text(str(file), line, b"", problem)
                    tail, first = _after_line(stream, tail[-1:]), False
                    line += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        where = f"after line {line - 1}" if line > 1 else "before the first line"
        raise RowError(f"{file}: damaged gzip {where}: {error}") from error
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def _is_header(line: bytes, layout: Layout) -> bool:
    """Whether a file's first line names the columns: every one of them, and none by a number."""
    cells = [cell.strip() for cell in line.split(b",")]
    return len(cells) == layout.column_num and not any(
        not cell or _NUMBER.fullmatch(cell) or _NOT_FINITE.fullmatch(cell) for cell in cells
    )


def _last_line_end(data: bytes) -> int:
    """Length of the whole lines at the start of ``data``."""
    # A carriage return ends a line too, but one at the very end may be half of "\r\n".
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1


def _after_line(stream: BinaryIO, read: bytes) -> bytes:
    """Read past the end of the current line.

    Args:
        stream: where from.
        read: the last byte that was read.

    Returns:
        what follows the line in the last read.
    """
    while read:
        if read.endswith(b"\r"):
            read += stream.read(1)
        end = _LINE_END.search(read)
        if end:
            return read[end.end() :]
        read = stream.read(BLOCK_BYTES)
    return b""


def _open(file: Path) -> BinaryIO:
    stream = open(file, "rb")
    if stream.read(2) == b"\x1f\x8b":
        stream.close()
        return gzip.open(file, "rb")  # type: ignore[return-value]
    stream.seek(0)
    return stream


def _count_lines(data: bytes) -> int:
    returns = data.count(b"\r")
    return data.count(b"\n") + returns - (data.count(b"\r\n") if returns else 0)


def _parse(text: _Text, layout: Layout, cap: int, digits: frozenset[int] | None = None) -> _Parsed:
    """Rows of a text; of those that cannot be used, at least ``cap`` + 1, are there so many."""
    if text.problem:
        return _Parsed(_empty(text.file, layout), [f"{text.file}:{text.line}: {text.problem}"])
    # Arrow takes "0x1" for an integer, and a byte-order mark in mid-file for nothing.
    plain = not text.data.startswith(_BOM)
    for integers in (digits, frozenset()) if digits else (frozenset(),):
        if plain and not (integers and (b"x" in text.data or b"X" in text.data)):
            block = _parse_fast(text, layout, integers)
            if block is not None:
                return _Parsed(block, [], integers != (digits or frozenset()))
    cut = _last_line_end(text.data[: len(text.data) // 2])
    if len(text.data) <= SLOW_BYTES or not cut:
        return _parse_lines(text, layout, cap)
    first = _parse(text._replace(data=text.data[:cut]), layout, cap)
    if len(first.bad) > cap:
        return first
    line = text.line + _count_lines(text.data[:cut])
    second = _parse(text._replace(line=line, data=text.data[cut:]), layout, cap)
    blocks = zip(first.block[:2], second.block[:2])
    return _Parsed(Block(*map(np.concatenate, blocks), text.file), first.bad + second.bad)


@lru_cache(maxsize=8)
def _columns(number: int, digits: frozenset[int]) -> tuple[list[str], pa.csv.ConvertOptions]:
    """Names that stand for the columns, and how to convert them; the same for every text."""
    types = {
        str(column): pa.int8() if column in digits else pa.float32() for column in range(number)
    }
    return list(types), pa.csv.ConvertOptions(column_types=types, null_values=[])


def _parse_fast(text: _Text, layout: Layout, digits: frozenset[int]) -> Block | None:
    """All rows of a text, or None where any of them cannot be used or read this way.

    Args:
        text: whole lines.
        layout: the columns expected.
        digits: columns to read as small integers.
    """
    names, convert_options = _columns(layout.column_num, digits)
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(text.data),
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=len(text.data) + 1, column_names=names
            ),
            parse_options=pa.csv.ParseOptions(quote_char=False, escape_char=False),
            convert_options=convert_options,
        )
    except pa.ArrowInvalid:
        return None
    rows = table.combine_chunks().to_batches()
    if not rows:
        return _empty(text.file, layout)
    features, labels = (
        rows[0].select(columns).to_tensor(row_major=True).to_numpy().astype(np.float32, copy=False)
        for columns in (layout.feature_columns, list(layout.label_columns))
    )
    binary = (labels == 0) | (labels == 1)
    usable = binary.all() and np.isfinite(features).all()
    return Block(features, labels, text.file) if usable else None


def _parse_lines(text: _Text, layout: Layout, cap: int) -> _Parsed:
    """Read a text line by line: slow, but it knows where it is."""
    rows: list[np.ndarray] = []
    bad: list[str] = []
    for number, line in enumerate(_LINE_END.split(text.data), start=text.line):
        if len(bad) > cap:
            break
        if line.strip():
            row = _row(line, layout)
            if isinstance(row, str):
                bad.append(f"{text.file}:{number}: {row}")
            else:
                rows.append(row)
    if not rows:
        return _Parsed(_empty(text.file, layout), bad)
    matrix = np.stack(rows)
    labels = np.ascontiguousarray(matrix[:, list(layout.label_columns)])
    features = np.ascontiguousarray(matrix[:, layout.feature_columns])
    return _Parsed(Block(features, labels, text.file), bad)


def _row(line: bytes, layout: Layout) -> np.ndarray | str:
    """All columns of a row, float32, or what is wrong with it."""
    columns = line.count(b",") + 1
    if columns != layout.column_num:
        return (
            f"row has {columns} columns, expected {layout.column_num} "
            f"({len(layout.label_columns)} labels and {layout.feature_size} features)"
        )
    cells = line.split(b",")
    for column, cell in enumerate(cells):
        if not _NUMBER.fullmatch(cell):
            word = _NOT_FINITE.fullmatch(cell.strip())
            return _bad_value(column, cell, "is not a finite number" if word else "is not a number")
    # Arrow's conversion here too: another's might round differently.
    stripped = pa.array([cell.strip() for cell in cells], pa.binary())
    values = stripped.cast(pa.string()).cast(pa.float32()).to_numpy(zero_copy_only=False)
    for column in np.flatnonzero(~np.isfinite(values)):
        return _bad_value(column, cells[column], "is too large for float32")
    for column in layout.label_columns:
        if values[column] not in (0, 1):
            return _bad_value(column, cells[column], "should be 0 or 1", "label")
    return values


def _bad_value(column: int, cell: bytes, problem: str, kind: str = "value") -> str:
    shown = cell[:40].decode("utf-8", "backslashreplace").strip()
    return f"column {column} (from 0): {kind} {shown!r} {problem}"


def _empty(file: str, layout: Layout) -> Block:
    features = np.empty((0, layout.feature_size), np.float32)
    return Block(features, np.empty((0, len(layout.label_columns)), np.float32), file)
