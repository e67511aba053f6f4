"""Batches of any reader that keeps the contract, as Paddle's DataLoader makes them.

The DataLoader itself is used where ``runner.num_workers`` asks for worker processes.
"""

from __future__ import annotations

import gc
import inspect
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable

import numpy as np
import paddle
from paddle.io import BatchSampler, DataLoader, IterableDataset, Sampler

from rec_runner.contract.guard import foreign, iterate
from rec_runner.contract.hooks import call_hook
from rec_runner.data.rows import Source, Window
from rec_runner.paddle_api.collate import stack_rows
from rec_runner.paddle_api.workers import end_with, starting
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn


@dataclass(eq=False)
class LoaderSource(Source):
    """Batches of any ``RecDataset``, as ``paddle.io.DataLoader`` makes them.

    Args:
        make_dataset: builds the reader anew for every pass.
        batch_size: rows in a batch; None where the reader's items are whole batches.
        name: what errors call the source.
        drop_last: leave out an incomplete last batch.
        num_workers: worker processes.
        shuffle_seed: seed of the order of a map-style reader; None keeps the reader's.
        check_files: called as a pass over the files begins and ends; raises where one has changed.
    """

    make_dataset: Callable[[], Any]
    batch_size: int | None
    name: str
    drop_last: bool
    num_workers: int
    shuffle_seed: int | None = None
    check_files: Callable[..., None] = lambda *files: None

    def windows(
        self, epoch: int = 0, first_batch: int = 0, stops: Sequence[tuple[int, int]] = ()
    ) -> Iterator[Window]:
        """One window per batch; see :meth:`Source.windows`."""
        dataset = self.make_dataset()
        self.check_files()  # only now: it may have read all of them
        is_stream = isinstance(dataset, IterableDataset)
        member = "__iter__" if is_stream else "__getitem__"
        with foreign(dataset, member):
            batches = self._batches(dataset, is_stream, epoch)
        batch = -1
        for batch, arrays in enumerate(iterate(dataset, member, batches)):
            if batch >= first_batch:
                rows = _rows(arrays)
                yield Window(batch, max(self.batch_size or rows, rows), arrays, rows)
        self.check_files()
        # Worker processes keep their counts to themselves.
        self._skipped = call_hook(dataset, "skipped_rows", default=self._skipped)
        if batch < 0:
            size = f" for a batch of {self.batch_size}" if self.batch_size else ""
            raise UserError(f"{self.name} holds no rows{size}{self._skipped_note()}")

    def _batches(self, dataset: Any, is_stream: bool, epoch: int) -> Iterator[Any]:
        workers = self._workers(dataset)
        how: dict[str, Any]
        if is_stream:
            if self.shuffle_seed is not None:
                raise UserError(
                    "runner.shuffle needs a reader with blocks() or a map-style one, and "
                    f"{inspect.getfile(type(dataset))} is an IterableDataset without"
                )
            rows = dataset
            how = {"batch_size": self.batch_size, "drop_last": self.drop_last}
            if self.batch_size is None:
                how = {"batch_size": None}
        else:
            order = np.arange(len(dataset))
            if self.shuffle_seed is not None:
                order = np.random.default_rng([self.shuffle_seed, epoch]).permutation(len(dataset))
            rows = (dataset[index] for index in order.tolist())
            # Items that are whole batches are fetched one at a time, and their list taken off.
            batches = BatchSampler(
                sampler=_Order(order),
                batch_size=self.batch_size or 1,
                drop_last=self.drop_last and self.batch_size is not None,
            )
            how = {"batch_sampler": batches}
            if self.batch_size is None:
                how["collate_fn"] = _only
        if not workers:
            # Paddle's own loader would read in a thread, and wait for ever if the reader fails.
            return self._collated(iter(rows))
        # A worker crashes where its garbage collector comes upon Paddle's objects of this process.
        gc.collect()
        how["worker_init_fn"] = partial(end_with, os.getpid())
        with starting():
            return iter(DataLoader(dataset, return_list=True, num_workers=workers, **how))

    def _collated(self, rows: Iterator[Any]) -> Iterator[Any]:
        for batch in rows if self.batch_size is None else self._stacked(rows, self.batch_size):
            arrays = batch if isinstance(batch, (list, tuple, Mapping)) else [batch]
            yield _tensors(arrays) if paddle.in_dynamic_mode() else arrays

    def _stacked(self, rows: Iterator[Any], batch_size: int) -> Iterator[Any]:
        while True:
            items = list(itertools.islice(rows, batch_size))
            if not items or (self.drop_last and len(items) < batch_size):
                return
            yield stack_rows(items)

    def _workers(self, dataset: Any) -> int:
        """Every worker of an IterableDataset reads all rows, unless its code shares them out."""
        module = sys.modules[type(dataset).__module__]
        if self.num_workers <= 1 or not isinstance(dataset, IterableDataset):
            return self.num_workers
        if "get_worker_info" in inspect.getsource(module):
            return self.num_workers
        warn(
            f"runner.num_workers {self.num_workers}: 1 is used, because {module.__file__} does not "
            "ask get_worker_info() which rows are whose, and each worker would read all of them"
        )
        self.num_workers = 1
        return 1


@dataclass(eq=False)
class CustomSource(Source):
    """Batches of a loader that the static model itself makes.

    Args:
        make_loader: gives something to iterate over for every pass; its items are lists of
            arrays in the order of the feeds, or dicts of arrays by name of the feed.
        owner: the model, for error messages.
        drop_last: leave out an incomplete last batch, as far as it can be told: one with fewer
            rows than the first.
    """

    make_loader: Callable[[], Iterable[Any]]
    owner: Any
    drop_last: bool
    name: str = "create_data_loader"

    def windows(
        self, epoch: int = 0, first_batch: int = 0, stops: Sequence[tuple[int, int]] = ()
    ) -> Iterator[Window]:
        """One window per batch; see :meth:`Source.windows`."""
        batch, size = -1, 0
        for arrays in iterate(self.owner, self.name, self.make_loader()):
            # Paddle's own loaders give a list with a dict for each device.
            if not isinstance(arrays, Mapping) and isinstance(arrays[0], Mapping):
                arrays = arrays[0]
            rows = _rows(arrays)
            size = size or rows
            if self.drop_last and rows < size:
                continue
            batch += 1
            if batch >= first_batch:
                yield Window(batch, max(size, rows), arrays, rows)
        if batch < 0:
            raise UserError(f"the loader of {type(self.owner).__name__}.{self.name} gives no batch")


def padded(window: Window) -> Window:
    """An incomplete batch filled up to a whole one with copies of its last row."""
    missing = window.batch_size - window.rows

    def fill(values: Any) -> Any:
        if isinstance(values, Mapping):
            return {name: fill(value) for name, value in values.items()}
        if isinstance(values, (list, tuple)):
            return [fill(value) for value in values]
        array = np.asarray(values)
        if not array.ndim or len(array) != window.rows:
            return values
        array = np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
        return paddle.to_tensor(array) if isinstance(values, paddle.Tensor) else array

    return window._replace(arrays=fill(window.arrays), rows=window.batch_size)


class _Order(Sampler):
    """Given indices in their order."""

    def __init__(self, indices: np.ndarray) -> None:
        super().__init__(indices)
        self.indices = indices

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())

    def __len__(self) -> int:
        return len(self.indices)


def _only(items: Sequence[Any]) -> Any:
    """The item of a list of one."""
    return items[0]


def _tensors(batch: Any) -> Any:
    """Arrays in lists and dicts as Tensors."""
    if isinstance(batch, Mapping):
        return {name: _tensors(value) for name, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return [_tensors(value) for value in batch]
    return paddle.to_tensor(batch) if isinstance(batch, np.ndarray) else batch


def _rows(arrays: Any) -> int:
    """Rows of a batch: the length of its first array, however deep in lists and dicts."""
    first = arrays
    while isinstance(first, (Mapping, list, tuple)):
        first = next(iter(first.values())) if isinstance(first, Mapping) else first[0]
    shape = first.shape() if callable(getattr(first, "shape", None)) else np.shape(first)
    return int(shape[0]) if len(shape) else 1
