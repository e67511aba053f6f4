"""What all writers of predictions share: columns in, bytes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Union

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
        kept = [texts_of(cells) for cells in self.kept.values()]
        valid, rows = _validity(self.missing), len(self.values)
        numbers = [pa.py_buffer(np.ascontiguousarray(v, np.float32)) for v in self.values.T]
        return [*kept, *(pa.Array.from_buffers(pa.float32(), rows, [valid, n]) for n in numbers)]


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


# pa.array() and pa.scalar() would import pandas, wherever it is installed: half a second of a
# processor, and 40 MB.


def texts_of(cells: Sequence[str | None]) -> pa.Array:
    """Texts as an array; None is null, and a half of a surrogate pair a question mark."""
    data = [b"" if cell is None else cell.encode(errors="replace") for cell in cells]
    ends = np.zeros(len(data) + 1, np.int32)
    np.cumsum([*map(len, data)], out=ends[1:])
    missing = np.fromiter((cell is None for cell in cells), bool, len(data))
    buffers = [_validity(missing), pa.py_buffer(ends), pa.py_buffer(b"".join(data))]
    return pa.Array.from_buffers(pa.string(), len(data), buffers)


def _validity(missing: np.ndarray) -> pa.Buffer | None:
    return pa.py_buffer(np.packbits(~missing, bitorder="little")) if missing.any() else None


def text_scalar(text: str) -> pa.Scalar:
    """A text for all rows."""
    return texts_of([text])[0]


def joined_bytes(pieces: Sequence[object]) -> bytes:
    """Texts of each row after one another, and the rows after one another.

    Args:
        pieces: a text for all rows, or an array of one for each; at least one array, no nulls.
    """
    empty = text_scalar("").cast(pa.large_string())
    texts = [text_scalar(piece) if isinstance(piece, str) else piece for piece in pieces]
    rows = pc.binary_join_element_wise(*(pc.cast(t, pa.large_string()) for t in texts), empty)
    if not len(rows):
        return b""
    # The texts of an array's rows stand in memory one after another.
    offsets = np.frombuffer(rows.buffers()[1], np.int64)[rows.offset : rows.offset + len(rows) + 1]
    return rows.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes()
