"""What all writers of predictions share: columns in, bytes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Union

import numpy as np
import pyarrow as pa

Cells = Mapping[str, Sequence[Union[str, None]]]


class Predicted(NamedTuple):
    """Consecutive rows of the input with what was predicted of them.

    Attributes:
        kept: cells of the input by the name of their column, as text; None where there is none.
        values: float32 ``[n, T]``.
        missing: bool ``[n]``: rows without a prediction, whose values mean nothing.
    """

    kept: Cells
    values: np.ndarray
    missing: np.ndarray

    def columns(self) -> list[pa.Array]:
        """Kept ones as text, then one of each task as float32; what is missing is null."""
        mask = self.missing if self.missing.any() else None
        kept = [pa.array(cells, pa.string()) for cells in self.kept.values()]
        return [*kept, *(pa.array(np.ascontiguousarray(v), mask=mask) for v in self.values.T)]


class Encoder(ABC):
    """Makes a file's bytes of predictions, piece by piece.

    Args:
        kept: names of the columns that are kept.
        tasks: names of the columns of predictions.
    """

    def __init__(self, kept: Sequence[str], tasks: Sequence[str]) -> None:
        self.kept = tuple(kept)
        self.tasks = tuple(tasks)

    def start(self) -> bytes:
        """What comes before the first row."""
        return b""

    @abstractmethod
    def rows(self, predicted: Predicted) -> bytes:
        """Some rows, at least one."""

    def end(self) -> bytes:
        """What comes after the last row."""
        return b""


def joined_bytes(pieces: Sequence[object]) -> bytes:
    """Texts of each row after one another, and the rows after one another.

    Args:
        pieces: a text for all rows, or an array of one for each; at least one array, no nulls.
    """
    import pyarrow.compute as pc

    texts = [
        pa.scalar(piece, pa.large_string())
        if isinstance(piece, str)
        else pc.cast(piece, pa.large_string())
        for piece in pieces
    ]
    empty = pa.scalar("", pa.large_string())
    rows = pc.binary_join_element_wise(*texts, empty)
    if not len(rows):
        return b""
    # The texts of an array's rows stand in memory one after another.
    offsets = np.frombuffer(rows.buffers()[1], np.int64)[rows.offset : rows.offset + len(rows) + 1]
    return rows.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes()
