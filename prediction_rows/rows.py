"""What every reader of rows to predict on gives: features, and what is wrong with which row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, BinaryIO, Callable, NamedTuple, Protocol

import numpy as np

# Input of which no row can be read: no such format, a header that lacks a column.
from csv_layout import RowError as RowsError  # noqa: F401


class Fault(NamedTuple):
    """What is wrong with a row.

    Attributes:
        place: where it is: ``file:line`` of text and JSON lines, ``file: row 7`` of Parquet,
            ``row 3`` of a request, ``line 3`` of one of text; all counted from 1.
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
    kept: Mapping[str, Sequence[str | None]]


class Source(NamedTuple):
    """A file or a stream to read rows from.

    Attributes:
        name: what messages call it.
        stream: its bytes, from where it stands; it need not be seekable, and is not closed here.
        path: where it is, of a file; its ending may tell what its content leaves open.
    """

    name: str
    stream: BinaryIO
    path: str | None = None


class PredictionRows(Protocol):
    """Rows by the columns that a model was trained on. Threads may share one.

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
        category; ``other``, whether what is not among them has an input of its own (it may be sent
        anyhow); ``missing``, whether it may be left blank.
        """


def ahead(jobs: Iterator[Callable[[], Rows]], threads: int = 2) -> Iterator[Rows]:
    """What jobs give, in their order, made ahead in a few threads; nothing of those without rows.

    Args:
        jobs: each reads some rows; they are asked for one by one, as far ahead as there are
            threads.
        threads: how many work.
    """
    waiting: deque[Future[Rows]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="rows") as pool:
        while True:
            for job in islice(jobs, threads + 1 - len(waiting)):
                waiting.append(pool.submit(job))
            if not waiting:
                return
            rows = waiting.popleft().result()
            if len(rows.features):
                yield rows


def joined(parts: Sequence[Rows], feature_size: int) -> Rows:
    """Rows that follow each other, as one; those of none have no cells kept."""
    faults, start = {}, 0
    for part in parts:
        faults.update({start + place: fault for place, fault in part.faults.items()})
        start += len(part.features)
    features = [np.empty((0, feature_size), np.float32), *(part.features for part in parts)]
    kept = {
        n: [c for part in parts for c in part.kept[n]] for n in (parts[0].kept if parts else ())
    }
    return Rows(np.concatenate(features), faults, kept)
