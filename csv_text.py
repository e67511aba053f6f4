"""Text files, plain or gzip, cut at line ends into pieces of a megabyte.

What a cell of a line holds, :mod:`csv_layout` says; here are bytes, line ends and line numbers.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import Callable, NamedTuple, Protocol

import numpy as np

from csv_layout import Layout, RowError, count_cells, header_names

BLOCK_BYTES = 1 << 20
HEAD_BYTES = 64 << 10
MAX_LINE_BYTES = 16 << 20
BOM = b"\xef\xbb\xbf"
LINE_END = re.compile(rb"\r\n|\n|\r")

# How files that are no text begin. Two begin with letters, as the names of a header may.
_FORMATS = {
    rb"PAR1(?![^\0-\x1f]*,)": "a Parquet file",
    rb"\xff\xfe|\xfe\xff": "text in UTF-16 (save it as UTF-8)",
    rb"PK(\x03\x04|\x05\x06)": "a zip archive or an Excel workbook (.xlsx)",
    rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook (.xls) or another OLE file",
    rb"\xfd7zXZ\0": "compressed with xz",
    rb"\x28\xb5\x2f\xfd": "compressed with zstd",
    rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)": "compressed with bzip2",
}


class Text(NamedTuple):
    """Whole lines of one file, or what is wrong with a line that was not kept.

    Attributes:
        file: path of the file.
        line: number of the first line, counted from 1.
        data: the lines.
        problem: what is wrong, or empty.
        layout: where the file has its columns; None: where they were expected.
    """

    file: str
    line: int
    data: bytes
    problem: str = ""
    layout: Layout | None = None


class Stream(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """The next ``size`` bytes, or fewer; none at the end."""


class Head(NamedTuple):
    """What the first line of a file tells.

    Attributes:
        names: of the columns; empty where the file has no header.
        column_num: columns of the first line; 0 where the file has none that can be read.
    """

    names: tuple[str, ...]
    column_num: int


def read_head(file: str) -> Head:
    """Look at the first line of a file.

    Raises:
        RowError, OSError: as :func:`read_texts`.
    """
    text = next(read_texts(file, Layout(0, ()), HEAD_BYTES), Text(file, 1, b""))
    lines = LINE_END.split(text.data)
    names = header_names(lines[0], 0) if text.line == 1 else ()
    first = next((line for line in lines if line.strip()), b"")
    return Head(names, len(names) or (count_cells(first) if first else 0))


def read_texts(file: str, layout: Layout, block_bytes: int = 0) -> Iterator[Text]:
    """Cut a file at line ends into pieces of about a megabyte.

    Args:
        file: plain or gzip, told by its content, with or without a byte-order mark.
        layout: the columns expected. Where it knows their names, a first line that names columns
            says where each of them is, otherwise only that there are as many; it is left out.
        block_bytes: how much is read at once, ``BLOCK_BYTES`` by default.

    Yields:
        pieces of at least one line each.

    Raises:
        RowError: a gzip file is damaged, the file is no text, or its header names a column twice
            or lacks one.
        OSError: it cannot be read.
    """
    with told(file, lambda: 1), open(file, "rb") as plain:
        stream = plain_or_gzip(plain)
        start = stream.read(64)
        refuse_other_formats(file, start)
        yield from cut_texts(file, stream, layout, start.removeprefix(BOM), block_bytes)


def cut_texts(
    file: str, stream: Stream, layout: Layout, start: bytes = b"", block_bytes: int = 0
) -> Iterator[Text]:
    """As :func:`read_texts`, of an open stream of text.

    Args:
        file: what messages call it.
        stream: it need not be seekable, and is not closed.
        layout: the columns expected.
        start: what has been read of it already.
        block_bytes: as there.
    """
    line, block_bytes = 1, block_bytes or BLOCK_BYTES
    with told(file, lambda: line):
        tail, read = start, b"some"
        while read:
            read = stream.read(block_bytes)
            cut = last_line_end(read)
            if cut:  # new memory for a megabyte takes longer than to fill it: only once
                whole, tail = b"".join((tail, memoryview(read)[:cut])), read[cut:]
            else:
                data = tail + read
                cut = last_line_end(data) if read else len(data)
                whole, tail = data[:cut], data[cut:]
            if whole and line == 1:
                header, *rest = LINE_END.split(whole, 1)
                matched = _matched(file, layout, header)
                if matched is not None:
                    layout, whole, line = matched, b"".join(rest), 2
            if whole:
                yield Text(file, line, whole, layout=layout)
                line += count_lines(whole)
            if len(tail) > MAX_LINE_BYTES:
                problem = f"line is longer than {MAX_LINE_BYTES >> 20} MB"
                yield Text(file, line, b"", problem, layout)
                while read and not last_line_end(tail):
                    read = stream.read(block_bytes)
                    tail = tail[-1:] + read
                tail = b"".join(LINE_END.split(tail, 1)[1:])
                line += 1


def plain_or_gzip(plain: BufferedReader) -> BufferedReader | gzip.GzipFile:
    """The text of an open file, gzip or not, told by its content."""
    return gzip.GzipFile(fileobj=plain) if plain.peek(2)[:2] == b"\x1f\x8b" else plain


@contextmanager
def told(file: str, line: Callable[[], int]) -> Iterator[None]:
    """Context in which errors of reading name the file.

    Args:
        file: its path.
        line: gives the number of the next line.

    Raises:
        RowError: a gzip file is damaged; names the last line that is whole.
        OSError: it cannot be read.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        where = f"after line {line() - 1}" if line() > 1 else "before the first line"
        raise RowError(f"{file}: damaged gzip {where}: {error}") from error
    except OSError as error:
        error.filename = error.filename or file
        raise


def _matched(file: str, layout: Layout, line: bytes) -> Layout | None:
    try:
        return layout.with_header(line)
    except RowError as error:
        raise RowError(f"{file}:1: {error}") from error


def refuse_other_formats(file: str, start: bytes, text: str = "comma-separated text") -> None:
    """Refuse a file that begins as those of formats do that are no text.

    Raises:
        RowError: it does; the message says that ``text`` was expected.
    """
    for pattern, what in _FORMATS.items():
        if re.match(pattern, start):
            raise RowError(f"{file}: is {what}, expected {text}, plain or gzip")


def last_line_end(data: bytes) -> int:
    """Length of the whole lines at the start of ``data``."""
    # A carriage return ends a line too, but one at the very end may be half of "\r\n".
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1


def count_lines(data: bytes) -> int:
    """Number of line ends in ``data``."""
    # Numpy counts a byte several times as fast as bytes.count does.
    feeds = np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    return feeds + (data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0)
