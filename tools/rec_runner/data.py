"""From a folder of files to the batches of an epoch.

Two sources share one shape, ``windows()``: a *window* is a run of consecutive batches that the
loop hands to an engine at once, so that nothing but training happens between its batches.

- :class:`BlockSource` serves readers that have the ``blocks()`` hook.
- :class:`LoaderSource` serves any ``RecDataset`` through Paddle's DataLoader, a batch a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.config import Config
from rec_runner.errors import UserError
from rec_runner.model_dir import ModelDir

MAX_WINDOW_BYTES = 32 << 20
CHUNK_ROWS = 1 << 15


class Window(NamedTuple):
    """Consecutive batches of an epoch.

    Attributes:
        first_batch: index in the epoch of the first one, counted from 0.
        batch_size: rows of each batch but perhaps the last.
        arrays: ``[features float32 [n, F], labels float32 [n, T]]`` from :class:`BlockSource`;
            what the DataLoader yielded, from :class:`LoaderSource`.
        rows: rows in all.
    """

    first_batch: int
    batch_size: int
    arrays: Sequence[Any]
    rows: int

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-self.rows // self.batch_size)

    @property
    def end_batch(self) -> int:
        """Index in the epoch of the batch after the last."""
        return self.first_batch + self.batches


def list_files(config: Config, key: str) -> list[str]:
    """Files of the folder that ``runner.<key>`` names, sorted; hidden ones are left out.

    Raises:
        UserError: no such folder, or no file in it.
    """
    folder = config.model_dir / config.required(key)
    if not folder.is_dir():
        raise UserError(f"runner.{key}: {folder} is not a folder")
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not files:
        raise UserError(f"runner.{key}: folder {folder} holds no data files")
    return [str(file) for file in files]


class BlockSource:
    """Rows of a reader that has ``blocks()``, cut into windows of batches.

    Args:
        make_dataset: builds the reader anew for every pass.
        batch_size: rows in a batch.
        name: what errors call the source, such as a folder.
    """

    def __init__(self, make_dataset: Callable[[], Any], batch_size: int, name: str) -> None:
        self.make_dataset = make_dataset
        self.batch_size = batch_size
        self.name = name
        self._rows: int | None = None

    @property
    def rows(self) -> int:
        """Number of rows; the first call may have to read them all."""
        if self._rows is None:
            for _ in self._chunks():
                pass
        assert self._rows is not None
        return self._rows

    @property
    def steps(self) -> int:
        """Number of batches in an epoch, the last incomplete one included."""
        return -(-self.rows // self.batch_size)

    def features(self) -> Iterator[np.ndarray]:
        """Features of all rows, in pieces float32 ``[n, F]``."""
        return (features for features, _ in self._chunks())

    def windows(self, log_every: int | None = None, first_batch: int = 0) -> Iterator[Window]:
        """Batches of one pass, in file order.

        Args:
            log_every: a window ends after each batch whose index this divides, so that a log
                line can follow it.
            first_batch: batches before this one are passed over.
        """
        parts: list[Sequence[np.ndarray]] = []
        have, batch = 0, first_batch
        skip = first_batch * self.batch_size
        for chunk in self._chunks():
            rows = len(chunk[0])
            start = min(skip, rows)
            skip -= start
            while start < rows:
                want = self._window_batches(batch, log_every, chunk[0]) * self.batch_size
                end = min(rows, start + want - have)
                parts.append([array[start:end] for array in chunk])
                have += end - start
                start = end
                if have == want:
                    yield self._window(batch, parts, have)
                    batch += have // self.batch_size
                    parts, have = [], 0
        if have:
            yield self._window(batch, parts, have)

    def _window_batches(self, batch: int, log_every: int | None, features: np.ndarray) -> int:
        room = max(1, MAX_WINDOW_BYTES // (features[:1].nbytes * self.batch_size))
        return min(room, log_every - (batch - 1) % log_every) if log_every else room

    def _window(self, batch: int, parts: list[Sequence[np.ndarray]], rows: int) -> Window:
        arrays = [a[0] if len(a) == 1 else np.concatenate(a) for a in zip(*parts)]
        return Window(batch, self.batch_size, arrays, rows)

    def _chunks(self) -> Iterator[Sequence[np.ndarray]]:
        rows = 0
        for block in self.make_dataset().blocks():
            rows += len(block[0])
            yield block
        if not rows:
            raise UserError(f"{self.name} holds no rows")
        self._rows = rows


class LoaderSource:
    """Batches of any ``RecDataset``, through ``paddle.io.DataLoader``.

    Args:
        make_dataset: builds the reader anew for every pass.
        batch_size: rows in a batch.
        name: what errors call the source.
        drop_last: leave out an incomplete last batch.
        num_workers: worker processes.
        as_tensors: yield Tensors rather than numpy arrays.
    """

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

    def windows(self, log_every: int | None = None, first_batch: int = 0) -> Iterator[Window]:
        """One window per batch."""
        from paddle.io import DataLoader

        loader = DataLoader(
            self.make_dataset(),
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            num_workers=self.num_workers,
            return_list=True,
        )
        batch = -1
        for batch, arrays in enumerate(loader):
            if batch >= first_batch:
                yield Window(batch, self.batch_size, arrays, len(arrays[0]))
        if batch < 0:
            raise UserError(f"{self.name} holds no rows for a batch of {self.batch_size}")


def open_source(config: Config, model_dir: ModelDir, phase: str, by_blocks: bool) -> Any:
    """The source of ``phase`` (``train`` or ``infer``).

    Args:
        config: the run's config.
        model_dir: where the reader module lies.
        phase: ``train`` or ``infer``.
        by_blocks: whether the model takes whole blocks; the reader must have ``blocks()`` too.
    """
    folder_key = {"train": "train_data_dir", "infer": "test_data_dir"}[phase]
    files = list_files(config, folder_key)
    reader = model_dir.load(config.runner(f"{phase}_reader_path"), "RecDataset")
    name = str(Path(files[0]).parent)
    batch_size = config.required(f"{phase}_batch_size")

    def make_dataset() -> Any:
        return reader(files, config)

    if by_blocks and hasattr(reader, "blocks"):
        return BlockSource(make_dataset, batch_size, name)
    return LoaderSource(
        make_dataset, batch_size, name, phase == "train", config.runner("num_workers")
    )
