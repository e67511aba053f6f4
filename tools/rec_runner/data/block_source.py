"""Batches of readers that have the ``blocks()`` hook, cut from large arrays."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple, TypeVar

import numpy as np

from rec_runner.data.row_cache import RowCache
from rec_runner.data.rows import Window, skipped_note
from rec_runner.system.errors import RunError, UserError

MAX_WINDOW_BYTES = 4 << 20
Item = TypeVar("Item")


class Chunk(NamedTuple):
    """Rows that are held, and shuffled, together."""

    features: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...]
    encoded: bool = False


class BlockSource:
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

    Attributes:
        encode: applied to the features before they are cut into windows; None leaves them raw.
        keep_encoded: ``encode`` will not change, so cached rows may be kept encoded.
    """

    def __init__(
        self,
        make_dataset: Callable[[], Any],
        batch_size: int,
        name: str,
        shuffle_seed: int | None = None,
        chunk_rows: int = 1 << 15,
        cache_bytes: int = 0,
        keep: Callable[[int, int], np.ndarray] | None = None,
        kept: str = "",
        disk: RowCache | None = None,
    ) -> None:
        self.make_dataset = make_dataset
        self.batch_size = batch_size
        self.name = name
        self.shuffle_seed = shuffle_seed
        self.chunk_rows = chunk_rows
        self.cache_bytes = cache_bytes
        self.keep = keep
        self.kept = kept
        self.disk = disk
        self.encode: Callable[[np.ndarray], np.ndarray] | None = None
        self.keep_encoded = False
        self._rows: int | None = None
        self._read = 0
        self._skipped: tuple[int, list[str]] = (0, [])
        self._cache: list[Chunk] | None = None

    @property
    def known_rows(self) -> int | None:
        """Number of rows, None before the first pass."""
        return self._rows

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

    def take_skipped(self) -> tuple[int, list[str]]:
        """Rows that the reader left out of the last full pass over its files: count and examples.

        Readers say so by the optional hook ``skipped_rows()``. A pass is told of once only.
        """
        skipped, self._skipped = self._skipped, (0, [])
        return skipped

    def features(self) -> Iterator[np.ndarray]:
        """Features of all rows, in pieces float32 ``[n, F]``."""
        return (chunk.features for chunk in prefetch(self._chunks()))

    def windows(
        self, epoch: int = 0, first_batch: int = 0, stops: Sequence[tuple[int, int]] = ()
    ) -> Iterator[Window]:
        """Batches of one pass.

        Args:
            epoch: which order to shuffle to.
            first_batch: batches before this one are passed over.
            stops: pairs ``(every, after)``: a window ends where ``every`` divides the number of
                batches done less ``after``, so that a log line or a checkpoint can follow it.
        """
        parts: list[Sequence[np.ndarray]] = []
        files: dict[str, None] = {}
        have, batch = 0, first_batch
        skip = first_batch * self.batch_size
        for number, chunk in enumerate(self._encoded_chunks()):
            rows = len(chunk.labels)
            start = min(skip, rows)
            skip -= start
            order = self._order(epoch, number, rows)
            while start < rows:
                want = self._window_batches(batch, stops, chunk.features) * self.batch_size
                end = min(rows, start + want - have)
                if order is None:
                    parts.append([chunk.features[start:end], chunk.labels[start:end]])
                else:
                    picked = order[start:end]
                    parts.append([chunk.features.take(picked, 0), chunk.labels.take(picked, 0)])
                files.update(dict.fromkeys(chunk.files))
                have += end - start
                start = end
                if have == want:
                    yield self._window(batch, parts, have, tuple(files))
                    batch += have // self.batch_size
                    parts, files, have = [], {}, 0
        if have:
            yield self._window(batch, parts, have, tuple(files))

    def _encoded_chunks(self) -> Iterator[Chunk]:
        cache = self._cache
        for number, chunk in enumerate(prefetch(self._chunks()) if cache is None else cache):
            if self.encode is not None and not chunk.encoded:
                encoded = self.encode(chunk.features)
                _check_encoded(chunk, encoded)
                chunk = chunk._replace(features=encoded, encoded=True)
                if cache is not None and self._may_keep(chunk, len(cache)):
                    cache[number] = chunk
            yield chunk

    def _may_keep(self, chunk: Chunk, chunks: int) -> bool:
        return self.keep_encoded and chunk.features.nbytes * chunks <= self.cache_bytes

    def _order(self, epoch: int, number: int, rows: int) -> np.ndarray | None:
        if self.shuffle_seed is None:
            return None
        return np.random.default_rng([self.shuffle_seed, epoch, number]).permutation(rows)

    def _window_batches(
        self, batch: int, stops: Sequence[tuple[int, int]], features: np.ndarray
    ) -> int:
        room = max(1, MAX_WINDOW_BYTES // (features[:1].nbytes * self.batch_size))
        return min([room, *(every - (batch - after) % every for every, after in stops)])

    def _window(
        self, batch: int, parts: list[Sequence[np.ndarray]], rows: int, files: tuple[str, ...]
    ) -> Window:
        arrays = [a[0] if len(a) == 1 else np.concatenate(a) for a in zip(*parts)]
        return Window(batch, self.batch_size, arrays, rows, files)

    def _chunks(self) -> Iterator[Chunk]:
        """All rows, from memory if they are there, else from the files."""
        if self._cache is not None:
            yield from self._cache
            return
        if self.disk is not None and self._map_disk():
            yield from self._cache
            return
        kept: list[Chunk] | None = [] if self.cache_bytes else None
        rows = size = 0
        for chunk in self._read_chunks():
            rows += len(chunk.labels)
            size += chunk.features.nbytes + chunk.labels.nbytes
            if kept is not None:
                kept = [*kept, chunk] if size <= self.cache_bytes else None
            yield chunk
        if not rows:
            if self._read:
                raise UserError(f"none of the {self._read} rows of {self.name} is left {self.kept}")
            raise UserError(f"{self.name} holds no rows{skipped_note(*self._skipped)}")
        if self._rows not in (None, rows):
            raise RunError(f"{self.name} held {self._rows} rows before and holds {rows} now")
        self._rows, self._cache = rows, kept

    def _map_disk(self) -> bool:
        """Take the rows from disk if they are there; memory-mapped, they cost no budget."""
        cached = self.disk.load()
        if cached is None:
            return False
        self._rows, self._skipped = len(cached.labels), cached.skipped
        ends = range(self.chunk_rows, self._rows + self.chunk_rows, self.chunk_rows)
        pieces = [(end - self.chunk_rows, min(end, self._rows)) for end in ends]
        self._cache = [
            Chunk(cached.features[i:j], cached.labels[i:j], cached.names(i, j)) for i, j in pieces
        ]
        return True

    def _read_chunks(self) -> Iterator[Chunk]:
        """Blocks of the reader, joined or cut to ``chunk_rows`` rows."""
        features: np.ndarray | None = None
        labels = np.empty(0)
        filled, files = 0, {}
        blocks = self._read_blocks()
        if self.disk is not None:
            blocks = self.disk.written(blocks, lambda: self._skipped)
        for *block, file in blocks:
            start = 0
            while start < len(block[1]):
                if features is None:
                    # Pages that no row is written to never become resident.
                    features, labels = (self._room(array) for array in block)
                take = min(self.chunk_rows - filled, len(block[1]) - start)
                features[filled : filled + take] = block[0][start : start + take]
                labels[filled : filled + take] = block[1][start : start + take]
                files[file] = None
                filled += take
                start += take
                if filled == self.chunk_rows:
                    whole = [Chunk(features, labels, tuple(files))]
                    features, filled, files = None, 0, {}
                    yield whole.pop()
        if features is not None:
            yield Chunk(features[:filled], labels[:filled], tuple(files))

    def _room(self, rows: np.ndarray) -> np.ndarray:
        """Memory for a chunk of rows such as these."""
        try:
            return np.empty((self.chunk_rows, *rows.shape[1:]), rows.dtype)
        except (MemoryError, ValueError) as error:
            raise UserError(
                f"runner.shuffle_buffer: there is no memory for {self.chunk_rows} rows of "
                f"{self.name}, set it lower"
            ) from error

    def _read_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
        self._read = 0
        dataset = self.make_dataset()
        try:
            for block in dataset.blocks():
                rows = block[:2]
                if self.keep is not None:
                    mask = self.keep(self._read, len(block[1]))
                    rows = [array[mask] for array in rows]
                self._read += len(block[1])
                yield (*rows, getattr(block, "file", self.name))
        except OSError as error:
            name = error.filename or self.name
            raise RunError(f"{name} cannot be read: {error.strerror or error}") from error
        if hasattr(dataset, "skipped_rows"):
            self._skipped = dataset.skipped_rows()


def _check_encoded(chunk: Chunk, encoded: np.ndarray) -> None:
    """Refuse what overflowed in the encoding: a ReLU would turn it into a plausible score.

    Raises:
        RunError: names the files, the raw row's largest value and its column.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(encoded.sum()):  # several times faster than to look at each
            return
    bad = ~np.isfinite(encoded.reshape(len(encoded), -1)).all(axis=1)
    if bad.any():
        row = chunk.features[int(np.argmax(bad))].ravel()
        column = int(np.argmax(np.abs(row)))
        raise RunError(
            f"{', '.join(chunk.files)}: the value {row[column]:g} of feature {column} (from 0) is "
            "too large for this network, whose encoding of it is not a finite number"
        )


def prefetch(items: Iterable[Item], depth: int = 1) -> Iterator[Item]:
    """Make items in a background thread, at most ``depth`` ahead of the consumer."""
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    closed = threading.Event()

    def hand_over(kind: str, value: Any) -> bool:
        while not closed.is_set():
            try:
                ready.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not hand_over("item", item):
                    return
                del item  # the next one is made without this one in memory
            hand_over("end", None)
        except BaseException as error:  # raised again in the consumer
            hand_over("error", error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            # Handed over, not kept: a frame that waits in yield would hold on to the item.
            handed = [value]
            del value
            yield handed.pop()
    finally:
        closed.set()
        thread.join()
