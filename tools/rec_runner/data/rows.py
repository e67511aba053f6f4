"""Rows, from the reader to the engine.

    block   what a reader gives at once: named arrays of equal length, ``features`` and ``labels``
            and whatever else it names
    chunk   blocks joined or cut to ``runner.shuffle_buffer`` rows: kept, shuffled, encoded together
    window  consecutive batches of an epoch, handed to an engine at once, so that nothing but
            training happens between them (Keras calls the idea ``steps_per_execution``)

Three sources give windows: ``BlockSource`` where reader and model have the hooks of whole blocks;
``LoaderSource`` of any other reader, and ``CustomSource`` of a static model's own loader, a batch a
window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Union

import numpy as np

from rec_runner.system.errors import RunError

Arrays = Mapping[str, np.ndarray]
Index = Union[slice, np.ndarray]


class Block(NamedTuple):
    """Consecutive rows.

    Attributes:
        arrays: by name, arrays of equal length; ``features`` float32 ``[n, F]`` and ``labels``
            float32 ``[n, T]`` are always there.
        files: names of the files that the rows may have come from.
        encoded: ``features`` are what ``Engine.encode`` made of the reader's.
    """

    arrays: Arrays
    files: tuple[str, ...] = ()
    encoded: bool = False

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.arrays["labels"])

    def take(self, index: Index) -> Block:
        """Some of the rows: a slice of them is a view, any other choice a copy."""
        return self._replace(arrays=take(self.arrays, index))


def take(arrays: Arrays, index: Index) -> dict[str, np.ndarray]:
    """The same rows of each of some named arrays."""
    if isinstance(index, slice):
        return {name: array[index] for name, array in arrays.items()}
    return {name: array.take(index, 0) for name, array in arrays.items()}


def are_labels(labels: np.ndarray, task_types: Sequence[str] = ()) -> bool:
    """Whether all labels ``[n, T]`` are such as tasks have: 0 or 1, or any finite number.

    NaN stands for one that is not known.

    Args:
        labels: they.
        task_types: what each task is, ``binary`` or ``regression``; by default all are binary.
    """
    right = (labels == 0) | (labels == 1) | np.isnan(labels)
    for task, kind in enumerate(task_types[: labels.shape[1]]):
        if kind == "regression":
            right[:, task] = ~np.isinf(labels[:, task])
    return bool(right.all())


def concatenate(parts: Sequence[Arrays]) -> Arrays:
    """Named arrays one after another."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def named_block(block: Any, name: str) -> Block:
    """What the hook ``blocks()`` yields, as a block.

    Args:
        block: a mapping of named arrays, in which ``file`` may name the file; or a tuple
            ``(features, labels)``, its file as a third item or attribute.
        name: what stands for the file where none is named.

    Raises:
        ValueError: it is neither, or its arrays are not equally long.
    """
    if isinstance(block, Mapping):
        arrays = {key: value for key, value in block.items() if key != "file"}
        file = block.get("file", name)
    elif isinstance(block, (tuple, list)) and len(block) >= 2:
        arrays = {"features": block[0], "labels": block[1]}
        file = getattr(block, "file", block[2] if len(block) > 2 else name)
    else:
        raise ValueError(f"it should yield named arrays, and yielded a {type(block).__name__}")
    shapes = {key: np.shape(array) for key, array in arrays.items()}
    fits = all(isinstance(array, np.ndarray) and array.ndim for array in arrays.values())
    fits = fits and {"features", "labels"} <= shapes.keys() and len(shapes["labels"]) == 2
    if not fits or len({shape[0] for shape in shapes.values()}) > 1:
        raise ValueError(
            "it should yield arrays, features, labels [n, T] and more, all equally long, and "
            f"yielded {shapes}"
        )
    return Block(arrays, (str(file),))


def check_encoded(features: np.ndarray, encoded: np.ndarray, files: Sequence[str]) -> None:
    """Refuse what overflowed in the encoding: a ReLU would turn it into a plausible score.

    Args:
        features: raw rows ``[n, F]``.
        encoded: what they became.
        files: that the rows may have come from.

    Raises:
        RunError: names the files, and of the raw row its largest value and that one's column, or
            the first column that is missing if the encoding only hands that on.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(encoded.sum()):  # several times faster than to look at each
            return
    bad = ~np.isfinite(encoded.reshape(len(encoded), -1)).all(axis=1)
    if bad.any():
        at = int(np.argmax(bad))
        row = features[at].ravel()
        missing = np.isnan(row)
        rows = features.reshape(len(features), -1)
        unknown = missing & ~np.isnan(rows[~bad]).any(
            axis=0
        )  # but where a row that came out well lacks it too
        if unknown.any() and not np.isinf(encoded[at]).any():
            raise RunError(
                f"{', '.join(files)}: feature {int(np.argmax(unknown))} (from 0) of a row is "
                "missing, and this network's encoding makes no finite number of it"
            )
        column = int(np.argmax(np.where(missing, -1, np.abs(row))))
        raise RunError(
            f"{', '.join(files)}: the value {row[column]:g} of feature {column} (from 0) is "
            "too large for this network, whose encoding of it is not a finite number"
        )


class Window(NamedTuple):
    """Consecutive batches of an epoch.

    Attributes:
        first_batch: index in the epoch of the first one, counted from 0.
        batch_size: rows of each batch but perhaps the last.
        arrays: named arrays, see :class:`Block`, from ``BlockSource``; what the DataLoader
            yielded, from ``LoaderSource``.
        rows: rows in all.
        files: names of the files that the rows may have come from, where that is known.
    """

    first_batch: int
    batch_size: int
    arrays: Any
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

    @property
    def batch_rows(self) -> np.ndarray:
        """Rows of each batch."""
        sizes = np.full(self.batches, self.batch_size)
        sizes[-1] = self.rows - (self.batches - 1) * self.batch_size
        return sizes

    @property
    def place(self) -> str:
        """The files, for a sentence about the window; empty where they are not known."""
        return f" (files: {', '.join(self.files)})" if self.files else ""

    def part(self, first: int, end: int) -> Window:
        """Batches ``first`` to ``end - 1`` of a window of named arrays, from its own start."""
        rows = slice(first * self.batch_size, min(end * self.batch_size, self.rows))
        return self._replace(
            first_batch=self.first_batch + first,
            arrays=take(self.arrays, rows),
            rows=rows.stop - rows.start,
        )


class Source(ABC):
    """Rows of a folder, given as the windows of one pass after another.

    Attributes:
        name: what errors call the source, such as its folder.
        known_rows: rows in a pass, None as long as that is not known.
        steps: batches in an epoch, None where the source cannot know.
    """

    name: str
    known_rows: int | None = None
    steps: int | None = None
    _skipped: tuple[int, list[str]] = (0, [])

    @abstractmethod
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

    def features(self) -> Iterator[np.ndarray]:
        """Raw features of all rows in pieces float32 ``[n, F]``, where rows come in blocks."""
        return iter(())

    def raw_arrays(self) -> Iterator[Arrays]:
        """All rows as the reader gives them, in pieces of named arrays, where it has blocks."""
        return iter(())

    def count(self, check: Callable[[], None]) -> int | None:
        """Read the rows, where they can be counted and have not been read.

        Args:
            check: called now and then; what it raises ends the reading.

        Returns:
            :attr:`steps`.
        """
        return self.steps

    def encode_with(  # noqa: B027 - may stay empty
        self, encode: Callable[[np.ndarray, bool], np.ndarray], keep: bool
    ) -> None:
        """Give features encoded, where rows come in blocks.

        Args:
            encode: float32 ``[n, F]`` to float32 ``[n, E]``; if the second argument is true, the
                raw rows are not needed any more and may be changed and given back.
            keep: ``encode`` will not change, so rows may be kept encoded.
        """

    def check_files(self, *files: str) -> None:  # noqa: B027 - may stay empty
        """Raise where a file, of these or of all, was changed since this source was made."""

    def close(self) -> None:  # noqa: B027 - may stay empty
        """End what runs in the background."""

    def take_skipped(self) -> tuple[int, list[str]]:
        """Rows that the reader left out of the last full pass over its files: count and examples.

        Readers say so by the optional hook ``skipped_rows()``. A pass is told of once only.
        """
        skipped, self._skipped = self._skipped, (0, [])
        return skipped

    def _skipped_note(self) -> str:
        """What to add to "holds no rows" where the reader left some out: how many, and why."""
        count, first = self._skipped
        return f"; {count} bad rows were skipped, such as {'; '.join(first[:3])}" if count else ""
