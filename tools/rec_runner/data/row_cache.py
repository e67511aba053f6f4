"""Parsed rows on disk, memory-mapped, so that a second run of the same files parses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.data.fingerprint import stat_fingerprint
from rec_runner.system.errors import RunError
from rec_runner.system.files import sync_file, write_json

_ARRAYS = ("features", "labels")
_DTYPE = np.dtype(np.float32)
_PIECE = 16 << 20


class CachedRows(NamedTuple):
    """What a cache holds.

    Attributes:
        features: float32 ``[n, F]``, memory-mapped read-only.
        labels: float32 ``[n, T]``, likewise.
        files: runs of rows ``(file, number of rows)``, in the order of the rows.
        skipped: rows that the reader left out: how many, and what was wrong with the first ones.
    """

    features: np.ndarray
    labels: np.ndarray
    files: list[tuple[str, int]]
    skipped: tuple[int, list[str]]

    def names(self, start: int, end: int) -> tuple[str, ...]:
        """Files of the rows from ``start`` to ``end - 1``."""
        found, first = {}, 0
        for file, rows in self.files:
            if first < end and start < first + rows:
                found[file] = None
            first += rows
        return tuple(found)


class RowCache:
    """One folder of raw arrays, which counts only when its manifest, written last, says so.

    Args:
        folder: ``runner.cache_dir``.
        files: the data files; the cache is of their names, sizes and times of change.
        settings: whatever else decides what is parsed from them.
    """

    def __init__(self, folder: Path, files: Sequence[str], settings: Any) -> None:
        fingerprint = [stat_fingerprint(file) for file in files]
        text = json.dumps([fingerprint, settings], sort_keys=True, default=str)
        self.path = folder / f"rows-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def load(self) -> CachedRows | None:
        """The rows; None where there is no whole cache, or any bit of it has changed."""
        try:
            manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
            if manifest["own_crc32"] != _own_checksum(manifest):
                return None
            arrays = [self._mapped(name, manifest[name]) for name in _ARRAYS]
            files = [(file, rows) for file, rows in manifest["files"]]
            count, examples = manifest["skipped"]
            if {len(array) for array in arrays} != {sum(rows for _, rows in files)}:
                return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return CachedRows(*arrays, files, (count, examples))

    def _mapped(self, name: str, entry: dict[str, Any]) -> np.ndarray:
        """An array of the cache.

        Raises:
            ValueError: it is not what was written.
        """
        file, shape = self.path / f"{name}.bin", entry["shape"]
        plain = all(type(size) is int and size >= 0 for size in shape)  # noqa: E721 - no bool
        if entry["dtype"] != str(_DTYPE) or len(shape) != 2 or not plain:
            raise ValueError(f"{file} is not a matrix of float32")
        if file.stat().st_size != shape[0] * shape[1] * _DTYPE.itemsize:
            raise ValueError(f"{file} has another size")
        array = np.memmap(file, _DTYPE, "r", shape=tuple(shape))
        # Reading the file once, at gigabytes a second, costs a small part of an epoch.
        if _checksum(array) != entry["crc32"]:
            raise ValueError(f"{file} has changed")
        return array

    def written(
        self,
        blocks: Iterable[tuple[np.ndarray, np.ndarray, str]],
        skipped: Callable[[], tuple[int, list[str]]] = lambda: (0, []),
    ) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
        """Pass blocks on and write them; the cache counts once the last has been passed on.

        Args:
            blocks: features, labels and their file. Ones that are not matrices of float32 are
                passed on, and leave no cache.
            skipped: asked at the end, see :class:`CachedRows`.

        Raises:
            RunError: the folder cannot be written to.
        """
        aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}")
        try:
            aside.mkdir(parents=True)
            entries: dict[str, Any] = {}
            files: list[list[Any]] = []
            fits = True
            with (
                open(aside / "features.bin", "wb") as features,
                open(aside / "labels.bin", "wb") as labels,
            ):
                for block in blocks:
                    fits = fits and all(_fits(array) for array in block[:2])
                    if fits:
                        for name, file, array in zip(_ARRAYS, (features, labels), block):
                            _append(file, array, entries.setdefault(name, _entry(array)))
                        if not files or files[-1][0] != str(block[2]):
                            files.append([str(block[2]), 0])
                        files[-1][1] += len(block[1])
                    yield block
                for file in (features, labels):
                    sync_file(file)
            if fits:
                count, examples = skipped()
                manifest = {**entries, "files": files, "skipped": [count, list(examples)]}
                manifest["own_crc32"] = _own_checksum(manifest)
                write_json(aside / "manifest.json", manifest)
                shutil.rmtree(self.path, ignore_errors=True)
                os.replace(aside, self.path)
        except OSError as error:
            raise RunError(f"runner.cache_dir: {error.filename or self.path}: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _fits(array: np.ndarray) -> bool:
    return array.dtype == _DTYPE and array.ndim == 2


def _entry(array: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(_DTYPE), "shape": [0, array.shape[1]], "crc32": 0}


def _append(file: Any, array: np.ndarray, entry: dict[str, Any]) -> None:
    data = np.ascontiguousarray(array).data
    file.write(data)
    entry["shape"][0] += len(array)
    entry["crc32"] = zlib.crc32(data, entry["crc32"])


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of an array, read in pieces so that a signal need not wait for all of it."""
    data, checksum = memoryview(array).cast("B"), 0
    for start in range(0, len(data), _PIECE):
        checksum = zlib.crc32(data[start : start + _PIECE], checksum)
    return checksum


def _own_checksum(manifest: dict[str, Any]) -> int:
    rest = {key: value for key, value in manifest.items() if key != "own_crc32"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())
