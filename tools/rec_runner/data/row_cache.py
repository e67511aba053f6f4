"""Parsed rows on disk, so that a second run of the same files parses nothing.

They are read a chunk at a time, not mapped: a file that another process cuts short meanwhile would
end this one by a signal.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Callable, NamedTuple

import numpy as np

from rec_runner.data.fingerprint import stat_fingerprint
from rec_runner.data.rows import Block
from rec_runner.system.errors import RunError
from rec_runner.system.files import clear, open_file, sync_file, write_json
from rec_runner.system.parts import part_folder, remove_left_overs
from rec_runner.system.schema import COUNT, OBJECT, TEXT, Rule, check, check_each, read_json

_FLOAT, _WHOLE = "float32", "int64"  # of rows' groups, and whatever else a reader counts
_NAME = re.compile(r"[A-Za-z_]\w*")
_PIECE = 4 << 20
_RUN = Rule(
    "a file and its number of rows",
    lambda v: isinstance(v, list) and len(v) == 2 and TEXT.fits(v[0]) and COUNT.fits(v[1]),
)
_SHAPE = Rule(
    "a number of rows and perhaps one of columns",
    lambda v: (isinstance(v, list) and len(v) in (1, 2) and all(map(COUNT.fits, v)) and all(v[1:])),
)
_SKIPPED = Rule(
    "a number of rows and a list of texts",
    lambda v: (
        isinstance(v, list)
        and len(v) == 2
        and COUNT.fits(v[0])
        and isinstance(v[1], list)
        and all(map(TEXT.fits, v[1]))
    ),
)


class _Stored(NamedTuple):
    """An array of a cache: its open file, so that no other takes its place, and what a row is."""

    stream: BinaryIO
    dtype: np.dtype[Any]
    row: tuple[int, ...]

    @property
    def stride(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * math.prod(self.row)


class CachedRows:
    """What a cache holds.

    Args:
        path: its folder.
        arrays: by name, the files of arrays of equal length.
        files: runs of rows ``(file, number of rows)``, in the order of the rows.
        skipped: rows that the reader left out: how many, and what was wrong with the first ones.

    Attributes:
        rows: number of rows.
    """

    def __init__(
        self,
        path: Path,
        arrays: Mapping[str, _Stored],
        files: list[tuple[str, int]],
        skipped: tuple[int, list[str]],
    ) -> None:
        self.path = path
        self.files = files
        self.skipped = skipped
        self.rows = sum(rows for _, rows in files)
        self._arrays = arrays
        self._lock = threading.Lock()

    def block(self, start: int, end: int) -> Block:
        """Read the rows from ``start`` to ``end - 1``, or to the last.

        Raises:
            RunError: the files are no longer as they were when they were opened.
        """
        end = min(end, self.rows)
        found: dict[str, None] = {}
        first = 0
        for file, rows in self.files:
            if first < end and start < first + rows:
                found[file] = None
            first += rows
        with self._lock:  # a stream has one place to read at
            arrays = {name: self._read(file, start, end) for name, file in self._arrays.items()}
        return Block(arrays, tuple(found))

    def _read(self, file: _Stored, start: int, end: int) -> np.ndarray:
        rows = np.empty((end - start, *file.row), file.dtype)
        try:
            file.stream.seek(start * file.stride)
            whole = file.stream.readinto(rows.data.cast("B")) == rows.nbytes  # type: ignore[attr-defined]
        except OSError as error:
            raise RunError(f"cache {self.path} cannot be read: {error.strerror}") from error
        if not whole:
            raise RunError(f"cache {self.path} was cut short while in use; run again")
        return rows


class RowCache:
    """One folder of raw arrays, which counts only when its manifest, written last, says so.

    Args:
        folder: ``runner.cache_dir``.
        files: the data files; the cache is of their names, sizes and times of change.
        settings: whatever else decides what is parsed from them.
        labels_fit: whether labels ``[n, T]`` are such as a reader gives; rows with others are not
            cached, and a cache that holds them is not used.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[str],
        settings: Any,
        labels_fit: Callable[[np.ndarray], bool] = lambda labels: True,
    ) -> None:
        self.labels_fit = labels_fit
        fingerprint = [stat_fingerprint(file) for file in files]
        text = json.dumps([fingerprint, settings], sort_keys=True, default=str)
        self.path = folder / f"rows-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def load(self) -> CachedRows | None:
        """The rows; None where there is no whole cache, or any bit of it has changed."""
        with ExitStack() as stack:
            try:
                manifest = read_json(self.path / "manifest.json")
                if manifest["own_crc32"] != _own_checksum(manifest):
                    return None
                check(manifest, {"arrays": OBJECT, "files": [_RUN], "skipped": _SKIPPED})
                check_each(manifest["arrays"], {"shape": _SHAPE, "crc32": COUNT}, "arrays")
                files = [(file, rows) for file, rows in manifest["files"]]
                shapes = [entry["shape"] for entry in manifest["arrays"].values()]
                whole = {shape[0] for shape in shapes} == {sum(rows for _, rows in files)}
                if not whole or not _are_rows(manifest["arrays"]):
                    return None
                arrays = {}
                for name, entry in manifest["arrays"].items():
                    arrays[name] = self._opened(name, entry, stack)
            except (OSError, ValueError, LookupError, TypeError, RecursionError):
                return None
            stack.pop_all()  # the rows are read from them
        count, examples = manifest["skipped"]
        return CachedRows(self.path, arrays, files, (count, examples))

    def _opened(self, name: str, entry: dict[str, Any], stack: ExitStack) -> _Stored:
        """An array of the cache.

        Raises:
            OSError: it cannot be read, or is no plain file.
            ValueError: it is not what was written.
        """
        file, (rows, *row) = self.path / f"{name}.bin", entry["shape"]
        if entry["dtype"] not in (_FLOAT, _WHOLE) or not _NAME.fullmatch(name):
            raise ValueError(f"{file} is not of a type that is cached")
        stream = stack.enter_context(open_file(file))
        stored = _Stored(stream, np.dtype(entry["dtype"]), tuple(row))
        if os.fstat(stream.fileno()).st_size != rows * stored.stride:
            raise ValueError(f"{file} has another size")
        # Reading the file once, at gigabytes a second, costs a small part of an epoch.
        checksum = 0
        size = min(rows, max(1, _PIECE // stored.stride)) * stored.stride
        while piece := stream.read(size):  # a signal need not wait for all of it
            checksum = zlib.crc32(piece, checksum)
            labels = np.frombuffer(piece, stored.dtype).reshape(-1, *row)
            if name == "labels" and not self.labels_fit(labels):
                raise ValueError(f"{file} holds other labels than a reader gives")
        if checksum != entry["crc32"]:
            raise ValueError(f"{file} has changed")
        return stored

    def _holds(self, block: Block) -> bool:
        """Whether a cache can hold the rows of a block."""
        fits = all(_fits(name, array) for name, array in block.arrays.items())
        fits = fits and _are_rows({name: _entry(array) for name, array in block.arrays.items()})
        return fits and self.labels_fit(block.arrays["labels"])

    def written(
        self,
        blocks: Iterable[Block],
        skipped: Callable[[], tuple[int, list[str]]] = lambda: (0, []),
    ) -> Iterator[Block]:
        """Pass blocks on and write them; the cache counts once the last has been passed on.

        Args:
            blocks: the reader's. Where one holds more than matrices and columns of float32 or
                int64, all are passed on and leave no cache.
            skipped: asked at the end, see :class:`CachedRows`.

        Raises:
            RunError: the folder cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_left_overs(self.path.parent)
            with part_folder(self.path) as part:
                manifest = yield from _write_rows(part, blocks, self._holds)
                if manifest is not None:
                    count, examples = skipped()
                    manifest["skipped"] = [count, list(examples)]
                    signed = {**manifest, "own_crc32": _own_checksum(manifest)}
                    write_json(part / "manifest.json", signed)
                    _replace(part, self.path)
        except OSError as error:
            raise RunError(f"runner.cache_dir: {error.filename or self.path}: {error}") from error


def _write_rows(
    folder: Path, blocks: Iterable[Block], holds: Callable[[Block], bool]
) -> Generator[Block, None, dict[str, Any] | None]:
    """Pass blocks on and write their arrays.

    Returns:
        what the manifest says of them; None where they leave no cache.
    """
    entries: dict[str, dict[str, Any]] = {}
    files: list[list[Any]] = []
    fits = True
    with ExitStack() as stack:
        streams: dict[str, Any] = {}
        for block in blocks:
            fits = fits and holds(block)
            if fits:
                for name, array in block.arrays.items():
                    if name not in streams:
                        streams[name] = stack.enter_context(open(folder / f"{name}.bin", "xb"))
                        entries[name] = _entry(array)
                    _append(streams[name], array, entries[name])
                if not files or files[-1][0] != block.files[0]:
                    files.append([block.files[0], 0])
                files[-1][1] += block.rows
            yield block
        for stream in streams.values():
            sync_file(stream)
    return {"arrays": entries, "files": files} if fits else None


def _replace(part: Path, path: Path) -> None:
    """Give a whole cache its name, unless another run has just given it to the same rows."""
    clear(path)
    try:
        os.replace(part, path)
    except OSError:
        if path.is_symlink() or not (path / "manifest.json").is_file():
            raise


def _are_rows(entries: Mapping[str, Any]) -> bool:
    """Whether the arrays of a manifest hold features and labels, each a matrix of float32."""
    known = {name: (len(e["shape"]), e["dtype"]) for name, e in entries.items()}
    return all(known.get(name) == (2, _FLOAT) for name in ("features", "labels"))


def _fits(name: str, array: np.ndarray) -> bool:
    is_known = array.dtype in (_FLOAT, _WHOLE) and array.ndim in (1, 2) and all(array.shape[1:])
    return is_known and _NAME.fullmatch(name) is not None


def _entry(array: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(array.dtype), "shape": [0, *array.shape[1:]], "crc32": 0}


def _append(file: Any, array: np.ndarray, entry: dict[str, Any]) -> None:
    data = np.ascontiguousarray(array).data
    file.write(data)
    entry["shape"][0] += len(array)
    entry["crc32"] = zlib.crc32(data, entry["crc32"])


def _own_checksum(manifest: dict[str, Any]) -> int:
    rest = {key: value for key, value in manifest.items() if key != "own_crc32"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())
