"""Bytes of a file or of standard input, looked at before they are read.

What they are, their beginning tells; a stream need not be seekable for that.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

from csv_text import BLOCK_BYTES, BOM, HEAD_BYTES, LINE_END, MAX_LINE_BYTES, refuse_other_formats
from prediction_rows.json_text import parse_json
from prediction_rows.rows import RowsError, Source
from raw_tables.parquet import begins_as_parquet

TEXT, JSON, PARQUET = "text", "json", "parquet"
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
MOST_LINES = 1 << 15  # at a time
_EXPECTED = "delimited text, Parquet or JSON lines"


class Stream:
    """A stream whose beginning can be looked at without taking it out."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile) -> None:
        self._stream = stream
        self._head = b""
        self._ended = False

    def peek(self, size: int) -> bytes:
        """The next bytes, ``size`` at least if there are so many."""
        while len(self._head) < size and not self._ended:
            block = self._stream.read(size - len(self._head))
            self._ended = not block
            self._head += block
        return self._head

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """The next bytes: ``size`` of them, fewer only at the end."""
        parts = [self._head[:size]]
        self._head = self._head[size:]
        while (left := size - sum(map(len, parts))) and not self._ended:
            parts.append(self._stream.read(left))
            self._ended = not parts[-1]
        return b"".join(parts)


class Content(NamedTuple):
    """What a source holds.

    Attributes:
        kind: ``TEXT``, ``JSON`` or ``PARQUET``.
        stream: of text and JSON the text, unpacked, without a byte-order mark; of Parquet its
            bytes.
    """

    kind: str
    stream: Stream


def look_at(source: Source) -> Content:
    """Tell what a source holds, by its beginning, or by its ending where that may be two things.

    Errors of reading are as they come: read within :func:`csv_text.told`.

    Raises:
        RowsError: it is of a format that has no rows for us.
    """
    stream = Stream(source.stream)
    if begins_as_parquet(stream.peek(64)[:64]):
        return Content(PARQUET, stream)
    if stream.peek(2)[:2] == b"\x1f\x8b":
        packed: Any = stream  # which need not be sought in
        stream = Stream(gzip.GzipFile(fileobj=packed, mode="rb"))
        if begins_as_parquet(stream.peek(64)[:64]):
            raise RowsError(f"{source.name}: is Parquet inside gzip, expected it unpacked")
    start = stream.peek(64)[:64]
    if start.startswith(BOM):
        stream.read(len(BOM))
    if not start.startswith(b"PAR1"):  # a name, since this is no Parquet
        refuse_other_formats(source.name, start, _EXPECTED)
    is_json = _begins_as_json(source.name, stream)
    is_json = is_json or (source.path or "").lower().endswith(_JSON_ENDINGS)
    return Content(JSON if is_json else TEXT, stream)


def text_of(data: bytes) -> Stream:
    """The text of a request, without a byte-order mark; what is packed is not unpacked.

    Raises:
        RowsError: it is of another format.
    """
    if data.startswith(b"\x1f\x8b"):
        raise RowsError("the text: is compressed with gzip, expected it plain")
    refuse_other_formats("the text", data[:64], "delimited text")
    return Stream(BytesIO(data.removeprefix(BOM)))


def _begins_as_json(name: str, stream: Stream) -> bool:
    """Whether the first line with anything on it is a JSON object or array.

    Raises:
        RowsError: it is one that goes on over several lines, or has several rows.
    """
    size = HEAD_BYTES
    while True:
        head = stream.peek(size)
        text = head.lstrip()
        if text[:1] not in (b"{", b"[", b""):
            return False
        line, *more = LINE_END.split(text, 1)
        if (text and more) or len(head) < size:
            break
        if size > MAX_LINE_BYTES:
            return False
        size *= 4
    expected = "expected JSON lines: an object or array a line"
    if line.strip() in (b"[", b"{", b"[{", b"[["):
        raise RowsError(f"{name}: is JSON over several lines, {expected}")
    try:
        value = parse_json(line)
    except ValueError:
        return False
    if isinstance(value, list) and value and all(isinstance(one, (dict, list)) for one in value):
        raise RowsError(f"{name}: is a JSON array of rows, {expected}")
    return isinstance(value, (dict, list))


def lines_of(stream: Stream) -> Iterator[tuple[int, bytes]]:
    """Whole lines, about a megabyte of them at a time, and the number of the first, from 1.

    Of a line of more than ``MAX_LINE_BYTES`` only that it was there is told: by ``b""``.
    """
    tail, line, block = b"", 1, b"some"
    while block:
        block = stream.read(BLOCK_BYTES)
        data = tail + block
        cut = data.rfind(b"\n") + 1 if block else len(data)
        start = 0
        while start < cut:
            end = _after_lines(data, start, cut)
            yield line, data[start:end]
            line += data.count(b"\n", start, end)
            start = end
        tail = data[cut:]
        if len(tail) > MAX_LINE_BYTES:
            while (block := stream.read(BLOCK_BYTES)) and b"\n" not in block:
                pass
            yield line, b""
            tail, line, block = block.partition(b"\n")[2], line + 1, b"some"


def _after_lines(data: bytes, start: int, end: int) -> int:
    """Where not too many lines end: each becomes far more than its bytes."""
    while data.count(b"\n", start, end) > MOST_LINES:
        middle = data.find(b"\n", (start + end) // 2, end - 1)
        end = (middle if middle >= 0 else data.rindex(b"\n", start, end - 1)) + 1
    return end


@contextmanager
def as_file(source: Source, stream: Stream) -> Iterator[str | BinaryIO]:
    """A path or a seekable file with what is left of a stream, for formats that need one.

    A file is read where it lies; what has no place, or cannot be sought in, is copied to a
    temporary file first.

    Args:
        source: where the stream is from.
        stream: what :func:`look_at` gave for it.
    """
    if source.path is not None and os.path.isfile(source.path):
        yield source.path
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy, BLOCK_BYTES)
        copy.seek(0)
        yield copy
