"""Parsed rows on disk, memory-mapped, so that a second run of the same files parses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rec_runner.errors import RunError
from rec_runner.files import written_aside

_ARRAYS = ("features", "labels")


class RowCache:
    """One folder of raw arrays, which counts only when its manifest, written last, says so.

    Args:
        folder: ``runner.cache_dir``.
        files: the data files; the cache is of their names, sizes and times of change.
        settings: whatever else decides what is parsed from them.
    """

    def __init__(self, folder: Path, files: Sequence[str], settings: Any) -> None:
        stats = [(file, os.stat(file)) for file in files]
        identity = [[str(Path(f).resolve()), s.st_size, s.st_mtime_ns] for f, s in stats]
        text = json.dumps([identity, settings], sort_keys=True, default=str)
        self.path = folder / f"rows-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def load(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Features and labels, memory-mapped read-only; None where there is no whole cache."""
        try:
            manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
            arrays = []
            for name in _ARRAYS:
                file, shape = self.path / f"{name}.bin", tuple(manifest[name]["shape"])
                dtype = np.dtype(manifest[name]["dtype"])
                if file.stat().st_size != int(np.prod(shape)) * dtype.itemsize:
                    return None
                arrays.append(np.memmap(file, dtype, "r", shape=shape))
            return arrays[0], arrays[1]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def written(
        self, blocks: Iterable[tuple[np.ndarray, np.ndarray, Any]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
        """Pass blocks on and write them; the cache counts once the last has been passed on.

        Raises:
            RunError: the folder cannot be written to.
        """
        aside = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}")
        try:
            aside.mkdir(parents=True)
            manifest: dict[str, Any] = {}
            with (
                open(aside / "features.bin", "wb") as features,
                open(aside / "labels.bin", "wb") as labels,
            ):
                for block in blocks:
                    for name, file, array in zip(_ARRAYS, (features, labels), block):
                        file.write(np.ascontiguousarray(array).data)
                        entry = manifest.setdefault(
                            name, {"dtype": str(array.dtype), "shape": [0, *array.shape[1:]]}
                        )
                        entry["shape"][0] += len(array)
                    yield block
                for file in (features, labels):
                    file.flush()
                    os.fsync(file.fileno())
            with written_aside(aside / "manifest.json") as stream:
                stream.write(json.dumps(manifest).encode())
            shutil.rmtree(self.path, ignore_errors=True)
            os.replace(aside, self.path)
        except OSError as error:
            raise RunError(f"runner.cache_dir: {error.filename or self.path}: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
