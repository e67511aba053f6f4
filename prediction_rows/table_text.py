"""Delimited text to rows of a table, good and bad ones in the order in which they stand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Callable

import numpy as np
import pyarrow as pa
import pyarrow.csv

from csv_layout import RowError, are_numbered
from csv_text import count_lines
from prediction_rows.json_lines import Wrong
from prediction_rows.rows import Fault, Rows, joined
from prediction_rows.table_cells import RowCells
from raw_tables.delimited import (
    MOST_COLUMNS,
    SLOW_BYTES,
    Layout,
    Unread,
    batch_arrays,
    numbered_rows,
    problem_of,
    read_columns,
    read_table,
    row_texts,
    whole_batches,
)
from raw_tables.rows import faults as faults_of
from raw_tables.rows import place_of, places_by_name
from raw_tables.schema import Schema
from raw_tables.text import Piece, blank_lines, read_row, whole_rows
from raw_tables.words import quoted

FEW_ROWS = 64  # of which Arrow would take longer to be told what the columns are
MOST_ROWS = (
    1 << 15
)  # of a piece: each may have a fault, which takes far more memory than a short row


@dataclass(frozen=True)
class TextLayout(Layout):
    """Which cells a row of one text has, and what a row without that many is told.

    Attributes:
        counts: how many cells a row should have; empty: as many as there are names.
        kept: places of cells that are wanted as they are.
    """

    counts: str = ""
    kept: tuple[int, ...] = ()

    @cached_property
    def options(self) -> dict[bool, pa.csv.ConvertOptions]:
        """How Arrow converts the cells; those that are only kept, not at all."""
        made = super().options
        for options in made.values():
            only_kept = {str(n): pa.binary() for n in self.kept if n not in self.places}
            options.column_types = {**options.column_types, **only_kept}
            options.include_columns = [*options.include_columns, *only_kept]
        return made

    @property
    def expected(self) -> str:
        """How many cells a row should have, as a sentence has it."""
        return self.counts or super().expected


class TextRows:
    """Pieces of one text to rows.

    Args:
        name: what messages call it; empty: it is a request.
        table: all columns of the training files.
        rows: what cells mean, of those that are features.
        keep: columns whose cells are wanted too.
    """

    def __init__(self, name: str, table: Schema, rows: RowCells, keep: Sequence[str] = ()) -> None:
        self._name = name
        self._table = table
        self._rows = rows
        self._cells = rows.cells
        self._keep = keep
        self._direct = True

    def jobs(self, pieces: Iterator[Piece]) -> Iterator[Callable[[], Rows]]:
        """What reads each piece, see :func:`prediction_rows.rows.ahead`.

        Raises:
            RowsError: a header lacks a column, or has one twice.
        """
        layout, delimiter = None, self._table.delimiter.encode()
        for piece in pieces:
            if layout is None:
                start = 0 if piece.problem else blank_lines(piece.data, delimiter)
                if start == len(piece.data):
                    continue
                line = piece.line + count_lines(piece.data[:start])
                layout, piece = self._begin(piece._replace(data=piece.data[start:], line=line))
            for part in _parts(piece, delimiter):
                yield partial(self._parse, part, layout)

    def _at(self, line: int) -> str:
        return f"{self._name}:{line}" if self._name else f"line {line}"

    def _begin(self, piece: Piece) -> tuple[TextLayout, Piece]:
        """The layout, told from the first row, and what follows the header if this is one."""
        where = self._at(piece.line)
        if piece.problem:
            if self._table.header:
                raise RowError(f"{where}: the header {piece.problem}")
            return self._without_names(0, where), piece
        row = read_row(piece.data, 0, self._table.delimiter.encode(), MOST_COLUMNS)
        names = tuple(cell.strip(b" \t").decode("utf-8", "backslashreplace") for cell in row.cells)
        is_header = self._is_header(names)
        if not (is_header or are_numbered(names)):
            return self._without_names(row.number, where), piece
        if row.number > MOST_COLUMNS:
            most = f"at most {MOST_COLUMNS} can be read"
            raise RowError(f"{where}: the header has {row.number} columns, {most}")
        line = piece.line + count_lines(piece.data[: row.end])
        rest = piece._replace(data=piece.data[row.end :], line=line)
        if not is_header:
            return self._without_names(row.number, where), rest
        return self._layout(names, f"{where}: header"), rest

    def _is_header(self, names: Sequence[str]) -> bool:
        """Whether the cells of a first row are names.

        One is enough where training files have a header; else half of the features, in capitals or
        not, so that a row with a cell that happens to be called like a column stays one.
        """
        if self._table.header and not {c.name for c in self._table.columns}.isdisjoint(names):
            return True
        there = {name.casefold() for name in names}
        found = sum(column.name.casefold() in there for column in self._cells.columns)
        return 2 * found >= len(self._cells.columns)

    def _without_names(self, number: int, where: str) -> TextLayout:
        """The layout of a text without a header, whose first row has so many cells."""
        names = tuple(column.name for column in self._table.columns)
        features = tuple(column.name for column in self._cells.columns)
        layout = self._layout(features if number == len(features) else names, where)
        if number in (len(names), len(features)):
            if self._table.header and self._name:
                said = "there is no header: its columns are taken to be in the order of training"
                warnings.warn(f"{self._name}: {said}", stacklevel=1)
            return layout
        both = f"{len(names)} as in training, or the {len(features)} features alone"
        between = f", with {quoted(self._table.delimiter)} between them" if number == 1 else ""
        return replace(layout, counts=both + between)

    def _layout(self, names: tuple[str, ...], where: str) -> TextLayout:
        places = places_by_name(names, self._cells, where)
        kept = tuple(place_of(name, names, where) for name in self._keep)
        return TextLayout(self._name, self._cells, names, tuple(places), kept=kept)

    def _parse(self, piece: Piece, layout: TextLayout) -> Rows:
        if piece.problem:
            why = problem_of(piece, layout)
            fault = Fault(self._at(piece.line), why.column, why.said)
            features = np.zeros((1, len(layout.places)), np.float32)
            return Rows(features, {0: fault}, {name: [None] for name in self._keep})
        if count_lines(piece.data) < FEW_ROWS:
            return self._parse_rows(piece, layout)
        rows = self._parse_at_once(piece, layout)
        if rows is not None:
            return rows
        halves = _halves(piece, layout.delimiter) if len(piece.data) > SLOW_BYTES else [piece]
        if len(halves) == 1:
            return self._parse_rows(piece, layout)
        return joined([self._parse(half, layout) for half in halves], len(layout.places))

    def _parse_at_once(self, piece: Piece, layout: TextLayout) -> Rows | None:
        """All rows of a piece; None where it has to be parted to name what is wrong."""
        # Arrow would take a line of blanks for a row of one cell.
        if len(layout.names) == 1 and any(
            line and not line.strip(b" \t") for line in piece.data.splitlines()
        ):
            return None
        if self._direct and self._cells.as_numbers:
            table = read_table(piece, layout, True)
            found = [batch_arrays(batch, layout) for batch in whole_batches(table)]
            good = [arrays.features for arrays in found if arrays and not arrays.bad]
            if table is not None and len(good) == len(found):
                return Rows(self._features(good), {}, self._kept(table, piece, layout))
        table = read_table(piece, layout, False)
        if table is None:
            return None
        lines = count_lines(piece.data) + (not piece.data.endswith((b"\n", b"\r")))
        numbered = b'"' not in piece.data and lines == len(table)
        features: list[np.ndarray] = []
        faults: dict[int, Fault] = {}
        for batch in whole_batches(table):
            given = [batch.column(str(place)) for place in layout.places]
            arrays = self._cells.arrays(given)
            if arrays.bad and not numbered:
                return None
            for row, column, said in faults_of(arrays, self._cells, given):
                faults[row] = Fault(self._at(piece.line + row), column.name, said)
                arrays.features[row] = 0
            features.append(arrays.features)
        if not faults:
            self._direct = False  # what Arrow takes for no number here, a mark say, is there again
        return Rows(self._features(features), faults, self._kept(table, piece, layout))

    def _features(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty((0, self._cells.schema.feature_size), np.float32), *parts])

    def _kept(
        self, table: pa.Table, piece: Piece, layout: TextLayout
    ) -> dict[str, Sequence[str | None]]:
        """The cells that are kept, of rows that were read at once."""
        kept: dict[str, Sequence[str | None]] = {}
        for name, place in zip(self._keep, map(str, layout.kept)):
            column = table.column(place)
            if pa.types.is_floating(column.type):  # whose texts are gone
                convert = pa.csv.ConvertOptions(
                    column_types={place: pa.binary()},
                    include_columns=[place],
                    strings_can_be_null=False,
                )
                again = read_columns(piece, layout, convert)
                assert again is not None  # which it was not with more columns
                column = again.column(place)
            kept[name] = _texts(column)
        return kept

    def _parse_rows(self, piece: Piece, layout: TextLayout) -> Rows:
        """Part a piece row by row: slow, but it knows where it is."""
        lines: list[int] = []
        texts: list[Any] = []
        kept: dict[str, list[str | None]] = {name: [] for name in self._keep}
        names = [column.name for column in self._cells.columns]
        for line, row in numbered_rows(piece, layout):
            found = row_texts(row, layout)
            if isinstance(found, Unread):
                texts.append(Wrong(found.column, found.said))
            else:
                texts.append(dict(zip(names, found)))
            lines.append(line)
            for cells, place in zip(kept.values(), layout.kept):
                whole = row.number == len(layout.names)
                cells.append(_text(row.cells[place]) if whole else None)
        features, bad = self._rows.convert(texts)
        faults = {place: Fault(self._at(lines[place]), *wrong) for place, wrong in bad.items()}
        return Rows(features, faults, kept)


def _halves(piece: Piece, delimiter: bytes) -> list[Piece]:
    """A piece as two, cut at the end of a row; one where that cannot be told."""
    cut = None if piece.wild else whole_rows(piece.data[: len(piece.data) // 2], delimiter)
    if not cut:
        return [piece]
    line = piece.line + count_lines(piece.data[:cut])
    return [piece._replace(data=piece.data[:cut]), piece._replace(line=line, data=piece.data[cut:])]


def _parts(piece: Piece, delimiter: bytes) -> Iterator[Piece]:
    """A piece in parts of not too many rows, nothing of an empty one."""
    few = count_lines(piece.data) <= MOST_ROWS
    parts = [piece] if few else _halves(piece, delimiter)
    if len(parts) == 1:
        yield from parts if piece.data else ()
    else:
        for part in parts:
            yield from _parts(part, delimiter)


def _text(cell: bytes) -> str:
    """A kept cell, without blanks around it."""
    return cell.decode("utf-8", "replace").strip(" \t")


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Cells as text, without blanks around them."""
    try:
        cells = column.cast(pa.string()).to_pylist()
    except pa.ArrowInvalid:  # it is not UTF-8
        return [_text(cell) for cell in column.to_pylist()]
    return [cell.strip(" \t") for cell in cells]
