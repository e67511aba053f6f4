"""Text files, plain or gzip, cut at line ends into pieces of a megabyte.

What a cell of a line holds is :mod:`csv_rows`' affair; here are bytes, line ends and line numbers.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Callable, NamedTuple

from csv_rows import RowError

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
BOM = b"\xef\xbb\xbf"
LINE_END = re.compile(rb"\r\n|\n|\r")

# How files that are no text begin. Two begin with letters, as the names of a header may.
_FORMATS = {
    rb"PAR1(?![^\0-\x1f]*,)": "a Parquet file",
    rb"PK(\x03\x04|\x05\x06)": "a zip archive or an Excel workbook (.xlsx)",
    rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook (.xls) or another OLE file",
    rb"\xfd7zXZ\0": "compressed with xz",
    rb"\x28\xb5\x2f\xfd": "compressed with zstd",
    rb"BZh[1-9](?![^\0-\x1f]*,)": "compressed with bzip2",
}


class Text(NamedTuple):
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


def read_texts(file: Path, is_header: Callable[[bytes], bool]) -> Iterator[Text]:
    """Cut a file at line ends into pieces of about ``BLOCK_BYTES``.

    Args:
        file: plain or gzip, told by its content, with or without a byte-order mark.
        is_header: whether a first line is none of the rows.

    Yields:
        pieces of at least one line each.

    Raises:
        RowError: a gzip file is damaged, or the file is no text.
        OSError: it cannot be read.
    """
    line, first = 1, True
    try:
        with _open(file) as stream:
            _refuse_other_formats(file, stream.read(64))
            stream.seek(0)
            tail = stream.read(len(BOM)).removeprefix(BOM)
            while True:
                read = stream.read(BLOCK_BYTES)
                data = tail + read
                cut = last_line_end(data) if read else len(data)
                whole, tail = data[:cut], data[cut:]
                if first and (whole or not read):
                    first = False
                    header, *rest = LINE_END.split(whole, 1)
                    if is_header(header):
                        whole, line = (rest[0] if rest else b""), 2
                if whole:
                    yield Text(str(file), line, whole)
                    line += count_lines(whole)
                if not read:
                    return
                if len(tail) > MAX_LINE_BYTES:
                    problem = f"line is longer than {MAX_LINE_BYTES >> 20} MB"
                    yield Text(str(file), line, b"", problem)
                    tail, first = _after_line(stream, tail[-1:]), False
                    line += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        where = f"after line {line - 1}" if line > 1 else "before the first line"
        raise RowError(f"{file}: damaged gzip {where}: {error}") from error
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def _open(file: Path) -> BinaryIO:
    stream = open(file, "rb")
    if stream.read(2) == b"\x1f\x8b":
        stream.close()
        return gzip.open(file, "rb")  # type: ignore[return-value]
    stream.seek(0)
    return stream


def _refuse_other_formats(file: Path, start: bytes) -> None:
    for pattern, what in _FORMATS.items():
        if re.match(pattern, start):
            raise RowError(f"{file}: is {what}, expected comma-separated text, plain or gzip")


def last_line_end(data: bytes) -> int:
    """Length of the whole lines at the start of ``data``."""
    # A carriage return ends a line too, but one at the very end may be half of "\r\n".
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1


def count_lines(data: bytes) -> int:
    """Number of line ends in ``data``."""
    returns = data.count(b"\r")
    return data.count(b"\n") + returns - (data.count(b"\r\n") if returns else 0)


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
        end = LINE_END.search(read)
        if end:
            return read[end.end() :]
        read = stream.read(BLOCK_BYTES)
    return b""
