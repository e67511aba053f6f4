"""What every reader of rows to predict on gives: features, and what is wrong with which row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple, Optional, Protocol

import numpy as np


class Fault(NamedTuple):
    """What is wrong with a row.

    Attributes:
        place: where it is: ``file:line`` of text, ``file: row 7`` of Parquet, ``row 3`` of a
            request; all counted from 1.
        column: the column's name; empty where it is no single one.
        message: what is wrong, a clause that names the column and the value.
    """

    place: str
    column: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Rows(NamedTuple):
    """Consecutive rows in the order in which they came, good ones and bad ones.

    Attributes:
        features: float32 ``[n, feature_size]``; of a bad row zeros.
        faults: of each bad row, by its place in ``features``, what is wrong with it.
        kept: the cells of the columns that were asked for by name, ``n`` each, as text; None where
            one is missing, or the row is too damaged to have it.
    """

    features: np.ndarray
    faults: Mapping[int, Fault]
    kept: Mapping[str, Sequence[Optional[str]]]


class Source(NamedTuple):
    """A file or a stream to read rows from.

    Attributes:
        name: what messages call it.
        stream: its bytes, from where it stands; it need not be seekable, and is not closed here.
        path: where it is, of a file; its ending may tell what its content leaves open.
    """

    name: str
    stream: BinaryIO
    path: Optional[str] = None


class RowsError(ValueError):
    """Input of which no row can be read: no such format, a header that lacks a column."""

    user_error = True  # one sentence for the user, not a traceback


class PredictionRows(Protocol):
    """Rows by the columns that a model was trained on. Every method can be called at once.

    Attributes:
        feature_size: features of a row.
        names: the columns that are features, in the order in which the model takes them.
    """

    feature_size: int
    names: tuple[str, ...]

    def read(self, source: Source, keep: Sequence[str] = ()) -> Iterator[Rows]:
        """Rows of a file or of standard input, in order, with constant memory.

        Args:
            source: text (plain or gzip), Parquet or JSON lines, told by its content.
            keep: columns of the input whose cells are wanted too.

        Raises:
            RowsError: a format that cannot be read, a header without a feature or a kept column.
            OSError: it cannot be read.
        """

    def objects(self, rows: Sequence[Mapping[str, Any]]) -> Rows:
        """Rows of a request, each a JSON object by column name; an unknown name is a fault."""

    def arrays(self, rows: Sequence[Sequence[Any]]) -> Rows:
        """Rows of a request, each a JSON array of cells in the order of ``names``."""

    def text(self, data: bytes) -> Rows:
        """Rows of a request of delimited text, with or without a header.

        Raises:
            RowsError: it is no text, or its header lacks a column.
        """

    def describe(self) -> list[dict[str, Any]]:
        """What a client may send: of each feature, in order, a JSON object.

        ``name``; ``kind``, which is "number", "category" or "id"; ``values``, the texts of a
        category; ``other``, whether other texts may be sent as well; ``missing``, whether it may
        be left blank.
        """
