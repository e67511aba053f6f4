"""Batches of any reader that keeps the contract, through Paddle's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable

from paddle.io import DataLoader

from rec_runner.errors import UserError
from rec_runner.window import Window


class LoaderSource:
    """Batches of any ``RecDataset``, through ``paddle.io.DataLoader``.

    Args:
        make_dataset: builds the reader anew for every pass.
        batch_size: rows in a batch.
        name: what errors call the source.
        drop_last: leave out an incomplete last batch.
        num_workers: worker processes.
    """

    rows: int | None = None
    known_rows: int | None = None
    steps: int | None = None

    def __init__(
        self,
        make_dataset: Callable[[], Any],
        batch_size: int,
        name: str,
        drop_last: bool,
        num_workers: int,
    ) -> None:
        self.make_dataset = make_dataset
        self.batch_size = batch_size
        self.name = name
        self.drop_last = drop_last
        self.num_workers = num_workers
        self._skipped: tuple[int, list[str]] = (0, [])

    def take_skipped(self) -> tuple[int, list[str]]:
        """See :meth:`BlockSource.take_skipped`."""
        skipped, self._skipped = self._skipped, (0, [])
        return skipped

    def windows(
        self, epoch: int = 0, first_batch: int = 0, stops: Sequence[tuple[int, int]] = ()
    ) -> Iterator[Window]:
        """One window per batch; see :meth:`BlockSource.windows`."""
        dataset = self.make_dataset()
        loader = DataLoader(
            dataset,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            num_workers=self.num_workers,
            return_list=True,
        )
        batch = -1
        for batch, arrays in enumerate(loader):
            if batch >= first_batch:
                yield Window(batch, len(arrays[0]), arrays, len(arrays[0]))
        if hasattr(dataset, "skipped_rows"):  # worker processes keep their counts to themselves
            self._skipped = dataset.skipped_rows()
        if batch < 0:
            raise UserError(f"{self.name} holds no rows for a batch of {self.batch_size}")
