"""Where rows of numbers to predict on have their features: all else in them is not looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace

from csv_layout import (
    MANY,
    MOST_NAMES,
    Layout,
    RowError,
    are_numbered,
    as_text,
    content,
    count_cells,
    header_names,
    hidden,
)
from csv_text import LINE_END, Text


@dataclass(frozen=True)
class FeatureLayout(Layout):
    """Columns of one file, of which the features are used.

    Attributes:
        called: the name that each column has in messages and in a request.
        alone: features of a row that has nothing else; 0: there is no such row.
        by_header: the file's header told it.
    """

    called: tuple[str, ...] = ()
    alone: int = 0
    by_header: bool = False

    @property
    def expected_columns(self) -> str:
        """How many columns a row should have, in a sentence."""
        if self.by_header:
            return f"{self.column_num} as the header has"
        if self.column_num == self.feature_size:
            return f"the {self.column_num} features alone, as other rows here have"
        return f"{self.column_num} as the training files have, or the {self.alone} features alone"

    def with_header(self, line: bytes) -> Layout | None:
        """As for training, but for a line that just numbers the columns: it tells nothing.

        Raises:
            RowError: as :meth:`of`.
        """
        names = header_names(line, self.column_num)
        if names:
            return self.of(names)
        if line.count(b",") >= max(self.column_num, MOST_NAMES):
            return None
        parts = hidden(line, self.column_num).split(b",")
        cells = tuple(as_text(content(part).strip()) for part in parts)
        ours = () if self.names else (self.called, self.features_alone().called)
        return self if are_numbered(cells) or (cells in ours and len(cells) >= MANY) else None

    def of(self, names: tuple[str, ...]) -> Layout:
        """The layout of a file with this header.

        Where the training files had no names, the columns are taken to be in their order: all of
        them, or just the features.

        Raises:
            RowError: a name is there twice, or that of a feature is missing; there are neither as
                many as the training files have nor as there are features.
        """
        if self.names:
            found = super().of(names)
            columns = found.feature_columns
            in_order = () if columns == sorted(columns) else found.features
            here = replace(self, features=in_order, ignored_columns=found.ignored_columns)
            return replace(here, names=names, called=names, by_header=True)
        if len(names) == self.column_num:
            return replace(self, names=names, called=names, by_header=True)
        if len(names) == self.feature_size:
            return replace(self.features_alone(), names=names, called=names, by_header=True)
        raise RowError(f"its header names {len(names)} columns, expected {self.expected_columns}")

    def features_alone(self) -> FeatureLayout:
        """The layout of rows that have the features, in their order, and nothing else."""
        columns = self.feature_columns
        names = tuple(self.names[column] for column in columns) if self.names else ()
        called = tuple(self.called[column] for column in columns)
        return FeatureLayout(self.feature_size, (), names=names, called=called)

    def of_rows(self, text: Text) -> FeatureLayout | None:
        """The layout of a file without a header, by its first row with a number of cells that fits.

        None where these lines have none such.
        """
        for line in LINE_END.split(text.data):
            if line.strip():
                cells = count_cells(line)
                if cells == self.column_num:
                    return self
                if cells == self.feature_size:
                    return self.features_alone()
        return None

    def column_called(self, column: int | None) -> str:
        """The name of a column of this file; empty where there is none."""
        return "".join(self.called[column : column + 1]) if column is not None else ""
