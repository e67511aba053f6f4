"""Rows of numbers to predict on: text as the training files are, Parquet, JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from csv_text import told
from prediction_rows.json_lines import JsonLines, Wrong
from prediction_rows.number_cells import NumberCells
from prediction_rows.number_columns import NumberColumns
from prediction_rows.number_parquet import number_jobs
from prediction_rows.number_text import NumberText
from prediction_rows.rows import Fault, Rows, Source, ahead, joined
from prediction_rows.streams import JSON, PARQUET, as_file, look_at, text_of


class NumberRows:
    """Rows of a model that was trained on numbers, see :class:`rows.PredictionRows`.

    No cell may be blank. Text may have all columns of the training files or the features alone;
    with a header they are found by name. Where the training files had no names, a feature is called
    by the number of its column there, from 0.

    Args:
        columns: of the training files.
    """

    def __init__(self, columns: NumberColumns) -> None:
        self.names = columns.feature_names
        self.feature_size = len(self.names)
        self._layout = columns.layout()
        others = set(columns.called).difference(self.names)
        self._cells = NumberCells(self._layout.features_alone(), others)

    def read(self, source: Source, keep: Sequence[str] = ()) -> Iterator[Rows]:
        """Rows of a file or of standard input, see the protocol.

        Where rows have no names, a column to keep is named by its number, from 0.
        """
        with told(source.name, lambda: 1):
            content = look_at(source)
        keep = tuple(dict.fromkeys(keep))
        if content.kind == PARQUET:
            with as_file(source, content.stream) as file:
                jobs = number_jobs(source.name, file, self._layout, self._cells, keep)
                yield from ahead(jobs)
        elif content.kind == JSON:
            convert = self._cells.features
            lines = JsonLines(source.name, self.names, convert, keep, blanks=False)
            yield from ahead(lines.jobs(content.stream))
        else:
            yield from NumberText(self._layout, source.name, keep).read(content.stream)

    def objects(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows of a request, see the protocol; every feature has to be there."""
        return _numbered(*self._cells.features(rows, strict=True))

    def arrays(self, rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows of a request, see the protocol."""
        return _numbered(*self._cells.features(rows, strict=True))

    def text(self, data: bytes) -> Rows:
        """Rows of a request of text, see the protocol."""
        parts = NumberText(self._layout).read_at_once(text_of(data))
        return joined(parts, self.feature_size)

    def describe(self) -> list[dict[str, Any]]:
        """What a client may send for each feature, in order."""
        return [
            {"name": name, "kind": "number", "values": [], "other": False, "missing": False}
            for name in self.names
        ]


def _numbered(features: np.ndarray, wrong: Mapping[int, Wrong]) -> Rows:
    return Rows(features, {p: Fault(f"row {p + 1}", *what) for p, what in wrong.items()}, {})
