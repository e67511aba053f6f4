"""Rows of comma-separated numbers, read as blocks of arrays.

Text is cut into blocks of a few megabytes at line ends, and each block is parsed by Arrow's CSV
engine (https://arrow.apache.org/docs/python/csv.html) in a small pool of threads, which hides
parsing behind whatever consumes the blocks. Memory stays constant for files of any size. A block
that Arrow refuses, or that holds a value a model cannot train on, is read again line by line to
name the file, line, column and value.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(rb"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*")
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
    """Whole lines of one file; ``line`` is the number of the first, counted from 1."""

    file: str
    line: int
    data: bytes


class _Parsed(NamedTuple):
    block: Block
    bad: list[str]


def read_blocks(
    files: Sequence[str | Path], layout: Layout, bad_rows: BadRows | None = None, threads: int = 2
) -> Iterator[Block]:
    """Parse files one after another, in the order given.

    Args:
        files: text files, plain or gzip, LF or CRLF, with or without a header line (a first line
            in which no cell is a number) and a byte-order mark.
        layout: the columns expected.
        bad_rows: a tally to skip bad rows into; None raises at the first.
        threads: parser threads.

    Yields:
        blocks of at least one row.

    Raises:
        RowError: a row with the wrong number of columns, a value that is not a finite float32
            number, a label other than 0 and 1, a gzip file cut short.
        OSError: a file cannot be read.
    """
    bad_rows = bad_rows if bad_rows is not None else BadRows()
    texts = (text for file in files for text in _texts(Path(file), bad_rows))
    pending: deque[Future[_Parsed]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="csv") as pool:
        try:
            for text in texts:
                pending.append(pool.submit(_parse, text, layout))
                if len(pending) > threads:
                    yield from _result(pending.popleft(), bad_rows)
            while pending:
                yield from _result(pending.popleft(), bad_rows)
        finally:
            for future in pending:
                future.cancel()


def _result(future: Future[_Parsed], bad_rows: BadRows) -> Iterator[Block]:
    block, bad = future.result()
    for message in bad:
        bad_rows.add(message)
    if len(block.labels):
        yield block


def _texts(file: Path, bad_rows: BadRows) -> Iterator[_Text]:
    """Cut a file at line ends into pieces of about ``BLOCK_BYTES``."""
    with _open(file) as stream:
        line, tail, first = 1, b"", True
        while True:
            try:
                read = stream.read(BLOCK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                where = line + _count_lines(tail)
                raise RowError(f"{file}: damaged gzip after line {where - 1}: {error}") from error
            data = tail + read
            if first:
                data = data[len(_BOM) :] if data.startswith(_BOM) else data
            cut = data.rfind(b"\n") + 1 if read else len(data)
            if len(data) - cut > MAX_LINE_BYTES:
                yield from _whole_lines(file, line, data[:cut])
                line += _count_lines(data[:cut])
                bad_rows.add(f"{file}:{line}: line is longer than {MAX_LINE_BYTES >> 20} MB")
                tail, first = _skip_line(stream), False
                line += 1
                continue
            if first and (cut or not read):
                header, *rest = _LINE_END.split(data, 1)
                if header and not any(_NUMBER.fullmatch(cell) for cell in header.split(b",")):
                    rows = rest[0] if rest else b""
                    cut -= len(data) - len(rows)
                    data, line = rows, 2
                first = False
            if first:
                tail = data
                continue
            yield from _whole_lines(file, line, data[:cut])
            line += _count_lines(data[:cut])
            tail = data[cut:]
            if not read:
                return


def _whole_lines(file: Path, line: int, data: bytes) -> Iterator[_Text]:
    if data:
        yield _Text(str(file), line, data)


def _open(file: Path) -> BinaryIO:
    stream = open(file, "rb")
    if stream.read(2) == b"\x1f\x8b":
        stream.close()
        return gzip.open(file, "rb")  # type: ignore[return-value]
    stream.seek(0)
    return stream


def _skip_line(stream: BinaryIO) -> bytes:
    """Read past the end of the current line; what follows it in the last read."""
    while read := stream.read(BLOCK_BYTES):
        end = read.find(b"\n")
        if end >= 0:
            return read[end + 1 :]
    return b""


def _count_lines(data: bytes) -> int:
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _parse(text: _Text, layout: Layout) -> _Parsed:
    if not text.data.startswith(_BOM):
        try:
            block = _parse_fast(text, layout)
        except pa.ArrowInvalid:
            pass
        else:
            binary = (block.labels == 0) | (block.labels == 1)
            if binary.all() and np.isfinite(block.features).all():
                return _Parsed(block, [])
    return _parse_lines(text, layout)


def _parse_fast(text: _Text, layout: Layout) -> Block:
    names = [str(column) for column in range(layout.column_num)]
    table = pa.csv.read_csv(
        pa.BufferReader(text.data),
        read_options=pa.csv.ReadOptions(
            use_threads=False, block_size=len(text.data) + 1, column_names=names
        ),
        parse_options=pa.csv.ParseOptions(quote_char=False, escape_char=False),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.float32()), null_values=[]
        ),
    )
    rows = table.combine_chunks().to_batches()
    if not rows:
        return _empty(text.file, layout)
    return Block(
        rows[0].select(layout.feature_columns).to_tensor(row_major=True).to_numpy(),
        rows[0].select(list(layout.label_columns)).to_tensor(row_major=True).to_numpy(),
        text.file,
    )


def _parse_lines(text: _Text, layout: Layout) -> _Parsed:
    """Read a block line by line: slow, but it knows where it is."""
    rows: list[np.ndarray] = []
    bad: list[str] = []
    for number, line in enumerate(_LINE_END.split(text.data), start=text.line):
        if not line.strip():
            continue
        cells = line.split(b",")
        problem = _problem(cells, layout)
        if problem:
            bad.append(f"{text.file}:{number}: {problem}")
        else:
            rows.append(np.array(cells, dtype=np.float64).astype(np.float32))
    if not rows:
        return _Parsed(_empty(text.file, layout), bad)
    matrix = np.stack(rows)
    labels = np.ascontiguousarray(matrix[:, list(layout.label_columns)])
    features = np.ascontiguousarray(matrix[:, layout.feature_columns])
    return _Parsed(Block(features, labels, text.file), bad)


def _problem(cells: list[bytes], layout: Layout) -> str | None:
    if len(cells) != layout.column_num:
        return (
            f"row has {len(cells)} columns, expected {layout.column_num} "
            f"({len(layout.label_columns)} labels and {layout.feature_size} features)"
        )
    for column, cell in enumerate(cells):
        shown = cell[:40].decode("utf-8", "backslashreplace").strip()
        if not _NUMBER.fullmatch(cell):
            if re.fullmatch(rb"\s*[+-]?(nan|inf(inity)?)\s*", cell, re.IGNORECASE):
                return f"column {column} (from 0): value {shown!r} is not a finite number"
            return f"column {column} (from 0): value {shown!r} is not a number"
        if abs(float(cell)) > float(np.finfo(np.float32).max):
            return f"column {column} (from 0): value {shown!r} is too large for float32"
        if column in layout.label_columns and float(cell) not in (0, 1):
            return f"column {column} (from 0): label {shown!r} should be 0 or 1"
    return None


def _empty(file: str, layout: Layout) -> Block:
    features = np.empty((0, layout.feature_size), np.float32)
    return Block(features, np.empty((0, len(layout.label_columns)), np.float32), file)
