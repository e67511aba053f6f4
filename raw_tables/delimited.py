"""Pieces of delimited text to rows: by Arrow's CSV engine, or one by one to name a bad one.

Arrow reads numbers at once where it can. Where it cannot, they are read as text, as the cells of
other columns are, and looked at together; where one of them cannot be used, or where rows are not
as Arrow takes them, the piece is halved until few rows are left, which are parted one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Callable, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from csv_line import RowError
from csv_text import BOM, count_lines
from raw_tables.cells import Arrays, Cells, show
from raw_tables.rows import Parsed, block, parse_cells, places_by_name
from raw_tables.text import (
    Piece,
    Row,
    blank_lines,
    blanks_beside,
    read_pieces,
    read_row,
    whole_rows,
)
from raw_tables.words import quoted

SLOW_BYTES = 64 << 10
MOST_COLUMNS = 100_000


@dataclass(frozen=True)
class Layout:
    """Which cells a row of one file has.

    Attributes:
        file: path of the file.
        cells: what they mean.
        names: name of each cell.
        places: where each of ``cells.columns`` is.
    """

    file: str
    cells: Cells
    names: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def delimiter(self) -> bytes:
        """What parts the cells."""
        return self.cells.schema.delimiter.encode()

    @property
    def expected(self) -> str:
        """How many cells a row should have, as a sentence has it."""
        return str(len(self.names))

    @cached_property
    def options(self) -> dict[bool, pa.csv.ConvertOptions]:
        """How Arrow converts them, numbers to numbers (True) or to text."""
        marks = self.cells.schema.missing
        made = {}
        for direct in (True, False):
            types = {}
            for place, column in zip(self.places, self.cells.columns):
                number = pa.float32() if direct else pa.string()
                is_number = self.cells.reads_numbers(column)
                types[str(place)] = number if is_number else pa.dictionary(pa.int32(), pa.string())
            made[direct] = pa.csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                null_values=[*marks, *(f" {mark}" for mark in marks)] if direct else [],
                strings_can_be_null=False,
            )
        return made

    @cached_property
    def arrow_names(self) -> list[str]:
        """Names that stand for the cells: those in the file may be there twice."""
        return list(map(str, range(len(self.names))))


def read_text(file: str, cells: Cells) -> Iterator[Callable[[int, bool], Parsed]]:
    """What parses each piece of a file, given a cap of bad rows and whether to try numbers at once.

    Raises:
        RowError: the header lacks a column, or has one twice; the file is damaged or no text.
        OSError: it cannot be read.
    """
    schema = cells.schema
    layout = None
    if not schema.header:
        names = tuple(column.name for column in schema.columns)
        places = tuple(names.index(column.name) for column in cells.columns)
        layout = Layout(file, cells, names, places)
    for piece in read_pieces(file, schema.delimiter):
        if layout is None:
            start = 0 if piece.problem else blank_lines(piece.data, schema.delimiter.encode())
            if start == len(piece.data):
                continue
            line = piece.line + count_lines(piece.data[:start])
            rest = piece._replace(data=piece.data[start:], line=line)
            layout, piece = _read_header(file, rest, cells)
        if piece.data:
            yield partial(_parse, piece, layout)


def _read_header(file: str, piece: Piece, cells: Cells) -> tuple[Layout, Piece]:
    """The layout of a file, and what follows the header in its first piece."""
    where = f"{file}:{piece.line}"
    if piece.problem:
        raise RowError(f"{where}: the header {piece.problem}")
    row = read_row(piece.data, 0, cells.schema.delimiter.encode(), MOST_COLUMNS)
    if row.number > MOST_COLUMNS:
        most = f"at most {MOST_COLUMNS} can be read"
        raise RowError(f"{where}: the header has {row.number} columns, {most}")
    names = tuple(cell.strip(b" \t").decode("utf-8", "backslashreplace") for cell in row.cells)
    layout = Layout(file, cells, names, tuple(places_by_name(names, cells, f"{where}: header")))
    line = piece.line + count_lines(piece.data[: row.end])
    return layout, piece._replace(data=piece.data[row.end :], line=line)


def _parse(piece: Piece, layout: Layout, cap: int, direct: bool) -> Parsed:
    """Rows of a piece; of those that cannot be used, at least ``cap`` + 1, are there so many."""
    if piece.problem:
        return Parsed([], [f"{layout.file}:{piece.line}: {problem_of(piece, layout).said}"])
    # Arrow would not know a mark that is a number, where blanks stand around it.
    direct = direct and layout.cells.as_numbers
    for at_once in (True, False) if direct else (False,):
        blocks = parse_fast(piece, layout, at_once)
        if blocks is not None:
            return Parsed(blocks, [], direct and not at_once)
    cut = whole_rows(piece.data[: len(piece.data) // 2], layout.delimiter)
    if len(piece.data) <= SLOW_BYTES or piece.wild or not cut:
        return _parse_rows(piece, layout, cap)
    first = _parse(piece._replace(data=piece.data[:cut]), layout, cap, direct)
    if len(first.bad) > cap:
        return first
    line = piece.line + count_lines(piece.data[:cut])
    second = _parse(piece._replace(line=line, data=piece.data[cut:]), layout, cap, direct)
    return Parsed(first.blocks + second.blocks, first.bad + second.bad)


def parse_fast(piece: Piece, layout: Layout, direct: bool) -> list[dict[str, Any]] | None:
    """All rows of a piece, or None where one cannot be used or read this way."""
    table = read_table(piece, layout, direct)
    blocks = []
    for batch in whole_batches(table):
        arrays = batch_arrays(batch, layout)
        if arrays is None or arrays.bad:
            return None
        blocks.append(block(arrays, layout.file))
    return None if table is None else blocks


def whole_batches(table: pa.Table | None) -> list[pa.RecordBatch]:
    """The rows of a table: one batch, or none."""
    return table.combine_chunks().to_batches() if table else []


def batch_arrays(batch: pa.RecordBatch, layout: Layout) -> Arrays | None:
    """Rows of some columns of text; None where it has to be looked at how their cells are written.

    Args:
        batch: of what :func:`read_table` gave.
        layout: as it was given there.
    """
    given = [batch.column(str(place)) for place in layout.places]
    # Null is missing, but Arrow reads "nan" as a number.
    if any(pa.types.is_floating(a.type) and pc.any(pc.is_nan(a)).as_py() for a in given):
        return None
    return layout.cells.arrays(given)


def read_table(piece: Piece, layout: Layout, direct: bool) -> pa.Table | None:
    """The columns of a piece by Arrow's CSV engine, named by their places.

    Args:
        piece: whole rows.
        layout: which cells they have.
        direct: numbers as numbers; otherwise all cells as text, in dictionaries or not.

    Returns:
        None where the rows are not as Arrow takes them.
    """
    return read_columns(piece, layout, layout.options[direct])


def read_columns(piece: Piece, layout: Layout, convert: pa.csv.ConvertOptions) -> pa.Table | None:
    """As :func:`read_table`, of the columns and types that ``convert`` names."""
    data = _without_blanks(piece, layout.delimiter)
    # Arrow takes a byte-order mark in mid-file for nothing.
    if data is None or data.startswith(BOM):
        return None
    quotes = b'"' in data
    read = pa.csv.ReadOptions(
        use_threads=False, block_size=len(data) + 1, column_names=layout.arrow_names
    )
    split = pa.csv.ParseOptions(
        delimiter=layout.cells.schema.delimiter,
        quote_char='"' if quotes else False,
        newlines_in_values=quotes,
    )
    try:
        return pa.csv.read_csv(pa.BufferReader(data), read, split, convert)
    except pa.ArrowInvalid:
        return None


def _without_blanks(piece: Piece, delimiter: bytes) -> bytes | None:
    """A piece without blanks before cells in quotes, which Arrow takes for parts of the cells.

    None where it is not known which quotes these are.
    """
    if b'"' not in piece.data:  # which is found faster than two characters are
        return piece.data
    if b' "' not in piece.data and (delimiter == b"\t" or b'\t"' not in piece.data):
        return piece.data
    if piece.wild:
        return None
    text = np.frombuffer(piece.data, np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    openers = quotes[::2]
    openers = openers[openers > 0]
    blanks = [*blanks_beside(delimiter)]
    keep = np.ones(len(text), bool)
    places = openers - 1
    while len(places := places[(places >= 0) & np.isin(text[places], blanks)]):
        keep[places] = False
        places = places - 1
    return text[keep].tobytes()


def _parse_rows(piece: Piece, layout: Layout, cap: int) -> Parsed:
    """Part a piece row by row: slow, but it knows where it is."""
    lines, columns, bad = part_rows(piece, layout, cap)
    blocks: list[dict[str, Any]] = []
    if lines:
        given = [pa.array(column, pa.string()) for column in columns]
        blocks, faults = parse_cells(layout.cells, given, layout.file, cap)
        bad = sorted([*bad, *((lines[row], fault) for row, fault in faults)])
    return Parsed(blocks, [f"{layout.file}:{line}: {said}" for line, said in bad[: cap + 1]])


def part_rows(
    piece: Piece, layout: Layout, cap: int
) -> tuple[list[int], list[list[str]], list[tuple[int, str]]]:
    """Part a piece row by row.

    Args:
        piece: the text.
        layout: the columns expected.
        cap: after how many bad rows the next one is the last that is looked at.

    Returns:
        line of each row; its cells, column by column; line of each row that cannot be parted, or
        is no UTF-8 text, and what is wrong with it.
    """
    lines: list[int] = []
    columns: list[list[str]] = [[] for _ in layout.places]
    bad: list[tuple[int, str]] = []
    for line, row in numbered_rows(piece, layout):
        if len(bad) > cap:
            break
        texts = row_texts(row, layout)
        if isinstance(texts, Unread):
            bad.append((line, texts.said))
        else:
            lines.append(line)
            for kept, text in zip(columns, texts):
                kept.append(text)
    return lines, columns, bad


def numbered_rows(piece: Piece, layout: Layout) -> Iterator[tuple[int, Row]]:
    """Each row of a piece that is not blank, with its line."""
    place, line = 0, piece.line
    while place < len(piece.data):
        row = read_row(piece.data, place, layout.delimiter, len(layout.names))
        data = piece.data[place : row.end]
        if blank_lines(data, layout.delimiter) != len(data):
            yield line, row
        line += count_lines(data) if b'"' in data else 1
        place = row.end


class Unread(NamedTuple):
    """Why a row has no texts.

    Attributes:
        said: what is wrong with it.
        column: in which column; empty where it is no single one.
    """

    said: str
    column: str = ""


def problem_of(piece: Piece, layout: Layout) -> Unread:
    """Why a piece with a problem has no rows."""
    if piece.cell < 0:  # it begins with "row"
        return Unread(piece.problem)
    if piece.cell >= len(layout.names):
        return Unread(f"row has a column too many, which {piece.problem}")
    name = layout.names[piece.cell]
    return Unread(f"column {quoted(name)}: {piece.problem}", name)


def row_texts(row: Row, layout: Layout) -> list[str] | Unread:
    """The text of each of the columns that are used."""
    if row.number != len(layout.names):
        return Unread(f"row has {row.number} columns, expected {layout.expected}")
    texts = []
    for column, cell in zip(layout.cells.columns, layout.places):
        try:
            texts.append(row.cells[cell].decode())
        except UnicodeDecodeError:
            shown = row.cells[cell].strip(b" \t").decode("utf-8", "replace")
            fault = f"{show(shown)} is not UTF-8 text, expected the file to be saved as UTF-8"
            return Unread(f"column {quoted(column.name)}: {fault}", column.name)
    return texts
