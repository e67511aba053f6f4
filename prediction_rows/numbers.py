"""Rows of numbers to predict on: text as the training files are, Parquet, JSON."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from csv_text import BOM, refuse_other_formats
from prediction_rows.json_lines import Wrong
from prediction_rows.number_cells import NumberCells
from prediction_rows.number_columns import NumberColumns
from prediction_rows.number_text import NumberText
from prediction_rows.rows import Fault, Rows, Source, joined


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
        """Rows of a file or of standard input, see :class:`rows.PredictionRows`."""
        yield from NumberText(self._layout, source.name, keep).read(source.stream)

    def objects(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows of a request, each an object by column name."""
        return _of_request(*self._cells.features(rows))

    def arrays(self, rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows of a request, each an array of cells in the order of ``names``."""
        return _of_request(*self._cells.features(rows))

    def text(self, data: bytes) -> Rows:
        """Rows of a request of text."""
        refuse_other_formats("request", data[:64])
        stream = io.BytesIO(data[len(BOM) :] if data.startswith(BOM) else data)
        return joined(NumberText(self._layout).read_at_once(stream), self.feature_size)

    def describe(self) -> list[dict[str, Any]]:
        """What a client may send for each feature, in order."""
        return [
            {"name": name, "kind": "number", "values": [], "other": False, "missing": False}
            for name in self.names
        ]


def _of_request(features: np.ndarray, wrong: Mapping[int, Wrong]) -> Rows:
    """Rows whose place is their number in a request."""
    return Rows(features, {p: Fault(f"row {p + 1}", *what) for p, what in wrong.items()}, {})
