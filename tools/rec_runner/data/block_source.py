"""Batches of readers that have the ``blocks()`` hook, cut from large arrays."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Callable

import numpy as np

from rec_runner.contract.guard import iterate
from rec_runner.contract.hooks import call_hook
from rec_runner.data.prefetch import Prefetched, prefetch, run_ahead, run_now
from rec_runner.data.row_cache import CachedRows, RowCache
from rec_runner.data.rows import (
    Arrays,
    Block,
    Index,
    Source,
    Window,
    check_encoded,
    concatenate,
    named_block,
)
from rec_runner.system.errors import RunError, UserError

MAX_WINDOW_BYTES = 4 << 20
MAX_AHEAD_BYTES = 128 << 20


@dataclass(eq=False)
class BlockSource(Source):
    """Rows of a reader that has ``blocks()``, cut into windows of batches.

    The order of an epoch is a function of seed and epoch alone, the same with the rows cached
    or not: rows are shuffled within chunks of ``chunk_rows`` consecutive ones.

    Args:
        make_dataset: builds the reader anew for every pass.
        batch_size: rows in a batch.
        name: what errors call the source, such as a folder.
        shuffle_seed: seed of the order; None keeps the files' order.
        chunk_rows: rows that are shuffled together.
        cache_bytes: rows are kept in memory after the first pass if they fit.
        keep: from the index of a block's first row and its length to a mask of the rows that
            belong to this source; None keeps all.
        kept: what errors call the rows that ``keep`` keeps.
        disk: where parsed rows are kept between runs; None keeps none.
        check_files: called before, while and after the files are read, with the file that was, or
            with none for all; raises where one has changed. Rows that are kept are not read.
    """

    make_dataset: Callable[[], Any]
    batch_size: int
    name: str
    shuffle_seed: int | None = None
    chunk_rows: int = 1 << 15
    cache_bytes: int = 0
    keep: Callable[[int, int], np.ndarray] | None = None
    kept: str = ""
    disk: RowCache | None = None
    check_files: Callable[..., None] = lambda *files: None

    def __post_init__(self) -> None:
        self._encode: Callable[[np.ndarray, bool], np.ndarray] | None = None
        self._keep_encoded = False
        self._read = 0
        # Chunks in memory; None stands for one that is read from disk whenever it is wanted.
        self._cache: list[Block | None] | None = None
        self._stored: CachedRows | None = None
        self._begun: Prefetched[Block] | None = None
        self._first = threading.Event()  # the reader has given its first rows, or has none

    def begin(self) -> None:
        """Read on in the background, where the first pass finds the rows.

        Raises:
            UserError: what the reader says of the first rows. Anything else that keeps it from
                reading is told by the first pass.
        """
        errors: list[BaseException] = []

        def chunks() -> Iterator[Block]:
            try:
                yield from self._chunks()
            except BaseException as error:
                if not self._first.is_set():
                    errors.append(error)
                raise
            finally:
                self._first.set()

        # Rows that are going to be kept in memory may wait there, too.
        ahead = max(1, min(self.cache_bytes, MAX_AHEAD_BYTES))
        self._begun = Prefetched(chunks(), ahead, _size)
        self._first.wait()
        if errors and not isinstance(errors[0], RunError):
            raise errors[0]

    def close(self) -> None:
        """See :meth:`Source.close`."""
        if self._begun is not None:
            self._begun.close()

    def count(self, check: Callable[[], None] = lambda: None) -> int:
        """Batches in an epoch; the first call may have to read all rows."""
        if self.known_rows is None or self._begun is not None:
            for _ in self.features():
                check()
        assert self.known_rows is not None
        self.steps = -(-self.known_rows // self.batch_size)
        return self.steps

    def features(self) -> Iterator[np.ndarray]:
        """Raw features of all rows, in pieces float32 ``[n, F]``."""
        for arrays in self.raw_arrays():
            yield arrays["features"]

    def raw_arrays(self) -> Iterator[Arrays]:
        """See :meth:`Source.raw_arrays`."""
        for chunk in self._reading():
            yield chunk.arrays

    def encode_with(self, encode: Callable[[np.ndarray, bool], np.ndarray], keep: bool) -> None:
        """See :meth:`Source.encode_with`."""
        self._encode, self._keep_encoded = encode, keep

    def windows(
        self, epoch: int = 0, first_batch: int = 0, stops: Sequence[tuple[int, int]] = ()
    ) -> Iterator[Window]:
        """See :meth:`Source.windows`; shuffled rows are put together in the background."""
        planned = self._planned_windows(epoch, first_batch, stops)
        # Others are views, made in no time; and where memory is short, none is taken for speed.
        if self.shuffle_seed is None or self._cache is None:
            return run_now(planned)
        return run_ahead(planned)

    def _planned_windows(
        self, epoch: int, first_batch: int, stops: Sequence[tuple[int, int]]
    ) -> Iterator[Callable[[], Window]]:
        """What makes each window, of rows that are there."""
        parts: list[tuple[Block, Index]] = []
        files: dict[str, None] = {}
        have, batch, number, row_bytes = 0, first_batch, 0, 0
        skip = first_batch * self.batch_size
        for chunk in self._encoded_chunks():
            rows = chunk.rows
            row_bytes = row_bytes or self._row_bytes(chunk)
            start = min(skip, rows)
            skip -= start
            order = self._order(epoch, number, rows)
            number += 1
            while start < rows:
                want = self._window_batches(batch, stops, row_bytes) * self.batch_size
                end = min(rows, start + want - have)
                index = slice(start, end) if order is None else order[start:end]
                parts.append((chunk, index))
                files.update(dict.fromkeys(chunk.files))
                have += end - start
                start = end
                # Half a window ends with its chunk, where that parts two batches, for to put one
                # together of two chunks takes a copy.
                parts_batches = start == rows and have % self.batch_size == 0
                if have == want or (parts_batches and 2 * have >= want):
                    yield partial(self._window, batch, parts, have, tuple(files))
                    batch += have // self.batch_size
                    parts, files, have = [], {}, 0
            del chunk  # the next one is made without this one in memory
        if have:
            yield partial(self._window, batch, parts, have, tuple(files))

    def _encoded_chunks(self) -> Iterator[Block]:
        # The first pass may be filling the cache, with raw rows.
        own = self._keep_encoded and self.known_rows is not None
        encoded = partial(self._encoded_chunk, self._cache, own)
        return map(encoded, count(), self._chunks_ahead())  # holds on to none of them

    def _encoded_chunk(
        self, cache: list[Block | None] | None, own: bool, number: int, chunk: Block
    ) -> Block:
        if self._encode is None or chunk.encoded or cache is None:
            return chunk  # those that are not kept are encoded window by window, in less memory
        raw = chunk.arrays["features"]
        encoded = self._encode(raw, own)
        check_encoded(raw, encoded, chunk.files)
        chunk = chunk._replace(arrays={**chunk.arrays, "features": encoded}, encoded=True)
        fits = encoded.nbytes * len(cache) <= self.cache_bytes
        if self._keep_encoded and (fits or encoded is raw):
            cache[number] = chunk
        return chunk

    def _chunks_ahead(self) -> Iterator[Block]:
        """All rows; what has to be read is read in the background."""
        held = [chunk for chunk in self._cache or () if chunk is not None]
        if self._cache is not None and len(held) == len(self._cache):
            return iter(held)
        return self._reading()

    def _reading(self) -> Iterator[Block]:
        begun, self._begun = self._begun, None
        return iter(begun) if begun is not None else prefetch(self._chunks())

    def _order(self, epoch: int, number: int, rows: int) -> np.ndarray | None:
        if self.shuffle_seed is None:
            return None
        return np.random.default_rng([self.shuffle_seed, epoch, number]).permutation(rows)

    def _row_bytes(self, chunk: Block) -> int:
        """Bytes of the features of a row as windows hold them."""
        row = chunk.arrays["features"][:1]
        if self._encode is not None and not chunk.encoded:
            row = self._encode(row, False)
        return row.nbytes

    def _window_batches(self, batch: int, stops: Sequence[tuple[int, int]], row_bytes: int) -> int:
        room = max(1, MAX_WINDOW_BYTES // (row_bytes * self.batch_size))
        return min([room, *(every - (batch - after) % every for every, after in stops)])

    def _window(
        self, batch: int, parts: Sequence[tuple[Block, Index]], rows: int, files: tuple[str, ...]
    ) -> Window:
        arrays = concatenate([chunk.take(index).arrays for chunk, index in parts])
        if self._encode is not None and not parts[0][0].encoded:
            raw = arrays["features"]
            arrays = {**arrays, "features": self._encode(raw, False)}
            check_encoded(raw, arrays["features"], files)
        return Window(batch, self.batch_size, arrays, rows, files)

    def _chunks(self) -> Iterator[Block]:
        """All rows, from memory if they are there, else from the files."""
        if self._cache is None:
            self.check_files()
            if self.disk is not None:
                self._open_disk(self.disk)
        if self._cache is not None:
            for number, held in enumerate(self._cache):
                yield held or self._stored_chunk(number)
            return
        kept: list[Block | None] | None = [] if self.cache_bytes else None
        rows = size = 0
        for chunk in self._read_chunks():
            rows += chunk.rows
            size += _size(chunk)
            if kept is not None:
                kept = [*kept, chunk] if size <= self.cache_bytes else None
            yield chunk
        if not rows:
            if self._read:
                raise UserError(f"none of the {self._read} rows of {self.name} is left {self.kept}")
            raise UserError(f"{self.name} holds no rows{self._skipped_note()}")
        if self.known_rows not in (None, rows):
            raise RunError(f"{self.name} held {self.known_rows} rows before and holds {rows} now")
        self.known_rows, self._cache = rows, kept

    def _open_disk(self, disk: RowCache) -> None:
        """Take the rows from disk if they are there; not held in memory, they cost no budget."""
        self._stored = disk.load()
        if self._stored is None:
            return
        self.known_rows, self._skipped = self._stored.rows, self._stored.skipped
        self._cache = [None] * -(-self._stored.rows // self.chunk_rows)

    def _stored_chunk(self, number: int) -> Block:
        assert self._stored is not None
        return self._stored.block(number * self.chunk_rows, (number + 1) * self.chunk_rows)

    def _read_chunks(self) -> Iterator[Block]:
        """Blocks of the reader, joined or cut to ``chunk_rows`` rows."""
        room: dict[str, np.ndarray] | None = None
        filled = 0
        files: dict[str, None] = {}
        blocks = self._read_blocks()
        if self.disk is not None:
            blocks = self.disk.written(blocks, lambda: self._skipped)
        for block in blocks:
            start = 0
            while start < block.rows:
                if room is None:
                    # Pages that no row is written to never become resident.
                    room = {name: self._room(array) for name, array in block.arrays.items()}
                take = min(self.chunk_rows - filled, block.rows - start)
                for name, array in room.items():
                    array[filled : filled + take] = block.arrays[name][start : start + take]
                files.update(dict.fromkeys(block.files))
                filled += take
                start += take
                if filled == self.chunk_rows:
                    whole = [Block(room, tuple(files))]
                    room, filled, files = None, 0, {}
                    yield whole.pop()
        if room is not None:
            yield Block(room, tuple(files)).take(slice(filled))

    def _room(self, rows: np.ndarray) -> np.ndarray:
        """Memory for a chunk of rows such as these."""
        try:
            return np.empty((self.chunk_rows, *rows.shape[1:]), rows.dtype)
        except (MemoryError, ValueError) as error:
            raise UserError(
                f"runner.shuffle_buffer: there is no memory for {self.chunk_rows} rows of "
                f"{self.name}, set it lower"
            ) from error

    def _read_blocks(self) -> Iterator[Block]:
        self._read = 0
        dataset = self.make_dataset()
        try:
            blocks = call_hook(dataset, "blocks")
            named = (named_block(block, self.name) for block in blocks)
            for block in iterate(dataset, "blocks", named):
                self.check_files(*block.files)
                rows = block.rows
                if self.keep is not None:
                    block = block.take(np.flatnonzero(self.keep(self._read, rows)))
                self._read += rows
                self._first.set()
                yield block
            self._first.set()
        except OSError as error:
            name = error.filename or self.name
            raise RunError(f"{name} cannot be read: {error.strerror or error}") from error
        self.check_files()
        self._skipped = call_hook(dataset, "skipped_rows", default=self._skipped)


def _size(block: Block) -> int:
    return sum(array.nbytes for array in block.arrays.values())
