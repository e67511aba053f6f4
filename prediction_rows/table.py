"""Rows to predict on of a person's own table, as a schema names its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from csv_text import told
from prediction_rows.json_lines import JsonLines, Wrong
from prediction_rows.rows import Fault, Rows, Source, ahead, joined
from prediction_rows.streams import JSON, PARQUET, as_file, look_at, text_of
from prediction_rows.table_cells import RowCells
from prediction_rows.table_parquet import parquet_jobs
from prediction_rows.table_text import TextRows
from raw_tables.cells import Cells
from raw_tables.schema import Schema
from raw_tables.text import cut_pieces
from raw_tables.words import FEATURES


class TableRows:
    """Rows by a schema, see :class:`prediction_rows.rows.PredictionRows`.

    Of the columns only the features are looked at, whatever else the training files had.

    Args:
        schema: what the columns of the training files are.
    """

    def __init__(self, schema: Schema) -> None:
        self._table = schema
        features = tuple(
            replace(column, group=False) for column in schema.columns if column.kind in FEATURES
        )
        self._cells = Cells.of(replace(schema, columns=features, tasks=()))
        others = (column.name for column in schema.columns if column.kind not in FEATURES)
        self._rows = RowCells(self._cells, others)
        self.feature_size = schema.feature_size
        self.names = schema.feature_names

    def read(self, source: Source, keep: Sequence[str] = ()) -> Iterator[Rows]:
        """Rows of a file or of standard input, see the protocol."""
        with told(source.name, lambda: 1):
            content = look_at(source)
        keep = tuple(dict.fromkeys(keep))
        if content.kind == PARQUET:
            with as_file(source, content.stream) as file:
                yield from ahead(parquet_jobs(source.name, file, self._cells, keep))
        elif content.kind == JSON:
            lines = JsonLines(source.name, self.names, self._rows.convert, keep)
            yield from ahead(lines.jobs(content.stream))
        else:
            rows = TextRows(source.name, self._table, self._rows, keep)
            start = content.stream.read(64)
            delimiter = self._table.delimiter
            yield from ahead(rows.jobs(cut_pieces(source.name, content.stream, start, delimiter)))

    def objects(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows of a request, see the protocol; a key that is not there is a missing value."""
        return _numbered(*self._rows.convert(rows, strict=True))

    def arrays(self, rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows of a request, see the protocol."""
        return _numbered(*self._rows.convert(rows, strict=True))

    def text(self, data: bytes) -> Rows:
        """Rows of a request of delimited text, see the protocol."""
        stream = text_of(data)
        start = stream.read(64)
        pieces = cut_pieces("the text", stream, start, self._table.delimiter)
        jobs = TextRows("", self._table, self._rows).jobs(pieces)
        return joined([job() for job in jobs], self.feature_size)

    def describe(self) -> list[dict[str, Any]]:
        """What a client may send, see the protocol; any cell may be left blank."""
        return [
            {
                "name": column.name,
                "kind": column.kind,
                "values": list(column.values),
                "other": column.other or column.kind == "id",
                "missing": True,
            }
            for column in self._table.features
        ]


def _numbered(features: Any, wrong: Mapping[int, Wrong]) -> Rows:
    faults = {place: Fault(f"row {place + 1}", *what) for place, what in wrong.items()}
    return Rows(features, faults, {})
