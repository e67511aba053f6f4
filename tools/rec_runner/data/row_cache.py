"""Parsed rows on disk, memory-mapped, so that a second run of the same files parses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.data.fingerprint import stat_fingerprint
from rec_runner.data.rows import Block, take
from rec_runner.system.errors import RunError
from rec_runner.system.files import sync_file, write_json
from rec_runner.system.parts import part_folder, remove_left_overs

_DTYPE = np.dtype(np.float32)
_NAME = re.compile(r"[A-Za-z_]\w*")
_PIECE = 16 << 20


class CachedRows(NamedTuple):
    """What a cache holds.

    Attributes:
        arrays: by name, float32 matrices of equal length, memory-mapped read-only.
        files: runs of rows ``(file, number of rows)``, in the order of the rows.
        skipped: rows that the reader left out: how many, and what was wrong with the first ones.
    """

    arrays: Mapping[str, np.ndarray]
    files: list[tuple[str, int]]
    skipped: tuple[int, list[str]]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.arrays["labels"])

    def block(self, start: int, end: int) -> Block:
        """The rows from ``start`` to ``end - 1``, or to the last."""
        found: dict[str, None] = {}
        first = 0
        for file, rows in self.files:
            if first < end and start < first + rows:
                found[file] = None
            first += rows
        return Block(take(self.arrays, slice(start, end)), tuple(found))


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
            arrays = {name: self._mapped(name, e) for name, e in manifest["arrays"].items()}
            files = [(file, rows) for file, rows in manifest["files"]]
            count, examples = manifest["skipped"]
            whole = {len(array) for array in arrays.values()} == {sum(rows for _, rows in files)}
            if not whole or not {"features", "labels"} <= arrays.keys():
                return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        return CachedRows(arrays, files, (count, examples))

    def _mapped(self, name: str, entry: dict[str, Any]) -> np.ndarray:
        """An array of the cache.

        Raises:
            ValueError: it is not what was written.
        """
        file, shape = self.path / f"{name}.bin", entry["shape"]
        plain = all(type(size) is int and size >= 0 for size in shape)  # noqa: E721 - no bool
        known = entry["dtype"] == str(_DTYPE) and _NAME.fullmatch(name)
        if not (known and plain and len(shape) == 2):
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
        blocks: Iterable[Block],
        skipped: Callable[[], tuple[int, list[str]]] = lambda: (0, []),
    ) -> Iterator[Block]:
        """Pass blocks on and write them; the cache counts once the last has been passed on.

        Args:
            blocks: the reader's. Ones that do not hold matrices of float32 only are passed on,
                and leave no cache.
            skipped: asked at the end, see :class:`CachedRows`.

        Raises:
            RunError: the folder cannot be written to.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_left_overs(self.path.parent)
            with part_folder(self.path) as part:
                manifest = yield from _write_rows(part, blocks)
                if manifest is not None:
                    count, examples = skipped()
                    manifest["skipped"] = [count, list(examples)]
                    signed = {**manifest, "own_crc32": _own_checksum(manifest)}
                    write_json(part / "manifest.json", signed)
                    _replace(part, self.path)
        except OSError as error:
            raise RunError(f"runner.cache_dir: {error.filename or self.path}: {error}") from error


def _write_rows(
    folder: Path, blocks: Iterable[Block]
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
            fits = fits and all(_fits(name, array) for name, array in block.arrays.items())
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
    shutil.rmtree(path, ignore_errors=True)
    try:
        os.replace(part, path)
    except OSError:
        if path.is_symlink() or not (path / "manifest.json").is_file():
            raise


def _fits(name: str, array: np.ndarray) -> bool:
    return array.dtype == _DTYPE and array.ndim == 2 and _NAME.fullmatch(name) is not None


def _entry(array: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(_DTYPE), "shape": [0, array.shape[1]], "crc32": 0}


def _append(file: Any, array: np.ndarray, entry: dict[str, Any]) -> None:
    data = np.ascontiguousarray(array).data
    file.write(data)
    entry["shape"][0] += len(array)
    entry["crc32"] = zlib.crc32(data, entry["crc32"])


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of an array, read in pieces so that a signal need not wait for all of it."""
    data, checksum = array.data.cast("B"), 0
    for start in range(0, len(data), _PIECE):
        checksum = zlib.crc32(data[start : start + _PIECE], checksum)
    return checksum


def _own_checksum(manifest: dict[str, Any]) -> int:
    rest = {key: value for key, value in manifest.items() if key != "own_crc32"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())
