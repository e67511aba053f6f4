"""Delimited text, plain or gzip: cut at the ends of rows into pieces, and rows into cells.

A cell may be quoted, as RFC 4180 has it: it then holds delimiters, line ends, and quotes that are
written twice. A quote opens a cell only where the cell begins, after blanks or none, and nothing
but blanks may follow the one that closes it; elsewhere a quote is a character like any other. A row
whose quotes are wrong costs its first line: what follows is read as if nothing had been before.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from csv_text import (
    BOM,
    LINE_END,
    count_lines,
    last_line_end,
    plain_or_gzip,
    refuse_other_formats,
    told,
)

BLOCK_BYTES = 1 << 20
MAX_ROW_BYTES = 16 << 20
TOO_LONG = "row is longer than {} MB"
UNCLOSED = "has a quote without its other half"
BEHIND = "has text behind the quote that closes it"


class Readable(Protocol):
    """Bytes, taken out one block after another."""

    def read(self, size: int = ..., /) -> bytes:
        """At most so many of the next bytes; none at the end."""


class Piece(NamedTuple):
    """Whole rows of one file, or a line with something wrong with it.

    Attributes:
        data: the rows; with a problem the line, or a line end that stands for it.
        line: number of the first line, counted from 1.
        wild: quotes may stand in the midst of cells.
        problem: what is wrong, or empty.
        cell: in which cell, counted from 0; -1 where it is none.
    """

    data: bytes
    line: int = 1
    wild: bool = False
    problem: str = ""
    cell: int = -1


class Row(NamedTuple):
    """One row of a text.

    Attributes:
        cells: its cells, without quotes around them; no more than were asked for.
        number: how many it has, or how many before the one with a problem.
        end: where the next row begins.
        problem: what is wrong with its quotes, or empty.
    """

    cells: list[bytes]
    number: int
    end: int
    problem: str = ""


def read_pieces(file: str, delimiter: str) -> Iterator[Piece]:
    """Cut a file at ends of rows into pieces of about ``BLOCK_BYTES``.

    Args:
        file: plain or gzip, told by its content, with or without a byte-order mark.
        delimiter: what parts its cells.

    Raises:
        RowError: a gzip file is damaged, or the file is no text.
        OSError: it cannot be read.
    """
    with told(file, lambda: 1), open(file, "rb") as plain:
        stream = plain_or_gzip(plain)
        start = stream.read(64)
        if not start.startswith(b"PAR1"):  # a name, since this is no Parquet
            refuse_other_formats(file, start, "delimited text or Parquet")
        yield from cut_pieces(file, stream, start.removeprefix(BOM), delimiter)


def cut_pieces(file: str, stream: Readable, start: bytes, delimiter: str) -> Iterator[Piece]:
    """Cut a text at ends of rows into pieces of about ``BLOCK_BYTES``.

    Args:
        file: what errors call it.
        stream: the text, but for its ``start``, which may only be empty if all of it is.
        start: see there.
        delimiter: what parts its cells.

    Raises:
        RowError: it is a gzip file that is damaged.
        OSError: it cannot be read.
    """
    line = 1
    with told(file, lambda: line):
        for piece in _cut_stream(stream, start, delimiter.encode()):
            yield piece._replace(line=line)
            line += count_lines(piece.data)


def _cut_stream(stream: Readable, data: bytes, delimiter: bytes) -> Iterator[Piece]:
    """Pieces of a stream that ``data`` was read from, without the numbers of their lines."""
    more = bool(data)
    while more:
        block = stream.read(BLOCK_BYTES)
        data, more = data + block, bool(block)
        data = yield from _cut(data, delimiter, not more)
        while len(data) > MAX_ROW_BYTES:
            line_end = LINE_END.search(data, 0, len(data) - 1)
            if line_end:  # one in quotes that have not been closed
                cell = read_row(data, 0, delimiter, 0).number
                yield Piece(data[: line_end.end()], problem=UNCLOSED, cell=cell)
                data = yield from _cut(data[line_end.end() :], delimiter, not more)
                continue
            while block and not last_line_end(data):
                block = stream.read(BLOCK_BYTES)
                data = data[-1:] + block
            yield Piece(b"\n", problem=TOO_LONG.format(MAX_ROW_BYTES >> 20))
            data = yield from _cut(b"".join(LINE_END.split(data, 1)[1:]), delimiter, not block)


def _cut(data: bytes, delimiter: bytes, last: bool) -> Generator[Piece, None, bytes]:
    """Pieces of all rows that are whole; returns the rest, nothing where the text ends here."""
    length = whole_rows(data, delimiter, last)
    if length is None:
        return (yield from _cut_wild(data, delimiter, last))
    if length:
        yield Piece(data[:length])
    return data[length:]


def _cut_wild(data: bytes, delimiter: bytes, last: bool) -> Generator[Piece, None, bytes]:
    """As :func:`_cut`, a row at a time, whatever the quotes are."""
    start = place = 0
    while place < len(data):
        row = read_row(data, place, delimiter, 0)
        # What comes next may belong to the line end, or to the quote, that is the last character.
        if not last and row.end == len(data) and not data.endswith(b"\n"):
            break
        if row.problem:
            if row.problem == UNCLOSED and not last:
                break
            if place > start:
                yield Piece(data[start:place], wild=True)
            yield Piece(data[place : row.end], problem=row.problem, cell=row.number)
            start = row.end
        place = row.end
    if place > start:
        yield Piece(data[start:place], wild=True)
    return data[place:]


def blanks_beside(delimiter: bytes) -> bytes:
    """Blanks that may stand around a cell: one that parts cells is none."""
    return b" \t".replace(delimiter, b"")


def blank_lines(data: bytes, delimiter: bytes) -> int:
    """Length of the lines at the start of a text that hold nothing but blanks."""
    rest = data.lstrip(blanks_beside(delimiter) + b"\r\n")
    blank = data[: len(data) - len(rest)]
    return max(blank.rfind(b"\n"), blank.rfind(b"\r")) + 1 if rest else len(data)


def whole_rows(data: bytes, delimiter: bytes, last: bool = False) -> int | None:
    """Length of the whole rows at the start of a text.

    Args:
        data: begins where a row does.
        delimiter: what parts its cells.
        last: the text ends here, so that all of it is whole.

    Returns:
        None where quotes stand elsewhere than where cells begin and end.
    """
    if b'"' not in data:
        return len(data) if last else last_line_end(data)
    text = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    openers, closers = quotes[::2], quotes[1::2]
    # One that is written twice closes the cell and opens it again.
    once = np.append(openers[1:] != closers[: len(openers) - 1] + 1, True)
    ends = np.zeros(256, bool)
    ends[[*delimiter, *b"\r\n"]] = True
    blank = np.zeros(256, bool)
    blank[[*blanks_beside(delimiter)]] = True
    for places, step, edge in (
        (np.append(openers[:1], openers[1:][once[:-1]]), -1, 0),
        (closers[once[: len(closers)]], 1, len(data) - 1),
    ):
        for _ in range(3):  # blanks
            places = places[places != edge] + step
            places = places[~ends[text[places]]]
            if not len(places):
                break
            if not blank[text[places]].all():
                return None
        else:
            return None
    if last:
        return len(data) if len(openers) == len(closers) else None
    # The last line end with an even number of quotes before it; a carriage return at the very end
    # may be half of one.
    feeds = np.flatnonzero((text == ord("\n")) | (text == ord("\r")))
    if len(feeds) and data.endswith(b"\r"):
        feeds = feeds[:-1]
    feeds = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
    return int(feeds[-1]) + 1 if len(feeds) else 0


def read_row(data: bytes, start: int, delimiter: bytes, most: int) -> Row:
    """The row that begins at ``start``, with its first ``most`` cells."""
    line = LINE_END.search(data, start)
    stop, end = line.span() if line else (len(data), len(data))
    if data.find(b'"', start, stop) < 0:
        count = data.count(delimiter, start, stop) + 1
        return Row(data[start:stop].split(delimiter, most)[:most], count, end)
    opener, cell_end = _patterns(delimiter)

    def end_of_cell(place: int) -> int:
        found = cell_end.search(data, place)
        return found.start() if found else len(data)

    cells: list[bytes] = []
    count, place = 0, start
    while True:
        opened = opener.match(data, place)
        if opened:
            close = _closing(data, opened.end())
            if close < 0:
                return Row(cells, count, end, UNCLOSED)
            stop = end_of_cell(close + 1)
            if data[close + 1 : stop].strip(b" \t"):
                return Row(cells, count, end, BEHIND)
        else:
            stop = end_of_cell(place)
        if count < most:
            inside = opened and data[opened.end() : close].replace(b'""', b'"')
            cells.append(data[place:stop] if inside is None else inside)
        count += 1
        place = stop + 1
        if data[stop:place] != delimiter:
            return Row(
                cells, count, stop + (2 if data[stop : stop + 2] == b"\r\n" else place <= len(data))
            )


@lru_cache(maxsize=8)
def _patterns(delimiter: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """How a quoted cell begins, and what a cell ends at."""
    blanks, escaped = blanks_beside(delimiter), re.escape(delimiter)
    return re.compile(b'[%s]*"' % blanks), re.compile(rb"[%s\r\n]" % escaped)


def _closing(data: bytes, start: int) -> int:
    """Where the quote is that closes a cell, or -1; one that is written twice does not."""
    place = data.find(b'"', start)
    while place >= 0 and data[place + 1 : place + 2] == b'"':
        place = data.find(b'"', place + 2)
    return place
