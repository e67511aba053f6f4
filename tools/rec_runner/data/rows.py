"""What a source of rows hands to an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Window(NamedTuple):
    """Consecutive batches of an epoch.

    Attributes:
        first_batch: index in the epoch of the first one, counted from 0.
        batch_size: rows of each batch but perhaps the last.
        arrays: ``[features float32 [n, F], labels float32 [n, T]]`` from :class:`BlockSource`;
            what the DataLoader yielded, from :class:`LoaderSource`.
        rows: rows in all.
        files: names of the files that the rows may have come from, where that is known.
    """

    first_batch: int
    batch_size: int
    arrays: Sequence[Any]
    rows: int
    files: tuple[str, ...] = ()

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-self.rows // self.batch_size)

    @property
    def end_batch(self) -> int:
        """Index in the epoch of the batch after the last."""
        return self.first_batch + self.batches

    def part(self, first: int, end: int) -> Window:
        """Batches ``first`` to ``end - 1`` of this window, counted from its own start."""
        rows = slice(first * self.batch_size, min(end * self.batch_size, self.rows))
        arrays = [array[rows] for array in self.arrays]
        return Window(
            self.first_batch + first, self.batch_size, arrays, rows.stop - rows.start, self.files
        )


def skipped_note(count: int, first: Sequence[str]) -> str:
    """What to add to "holds no rows" where the reader left some out: how many, and why."""
    return f"; {count} bad rows were skipped, such as {'; '.join(first[:3])}" if count else ""
