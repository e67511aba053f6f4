"""What a run must share with the one that it goes on from, and the lock on its output folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import paddle
import pyarrow
from filelock import FileLock, Timeout

from rec_runner.config import Config, warn
from rec_runner.data import list_files
from rec_runner.errors import RunError, UserError


def run_facts(config: Config) -> dict[str, Any]:
    """What decides a run's course, and so must not change before it is resumed.

    Raises:
        RunError: a data file cannot be read.
    """
    fixed = (
        "train_batch_size",
        "reader_type",
        "train_reader_path",
        "seed",
        "shuffle",
        "valid_share",
        "monitor",
    )
    facts = {f"runner.{name}": config.runner(name) for name in fixed}
    if config.runner("shuffle"):
        facts["runner.shuffle_buffer"] = config.runner("shuffle_buffer")
    facts.update({k: v for k, v in config.items() if k.startswith("hyper_parameters.")})
    required = "train_data_dir" if config.runner("reader_type") == "DataLoader" else None
    for key in ("train_data_dir", "valid_data_dir"):
        if key == required or config.runner(key) is not None:
            for file in map(Path, list_files(config, key)):
                facts[f"file {file.name} of runner.{key}"] = _content(file)
    return json.loads(json.dumps(facts, default=str))  # as a checkpoint will give them back


def _content(file: Path) -> str:
    """Size of a file and checksum of its ends; path and date may change, the content may not."""
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            digest = hashlib.sha256(stream.read(1 << 20))
            stream.seek(max(size - (1 << 20), 0))
            digest.update(stream.read(1 << 20))
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    return f"{size} bytes, sha256 {digest.hexdigest()[:16]}"


def check_facts(saved: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse a resume under other conditions; another optimizer setting is only pointed out.

    Raises:
        UserError: names the first difference.
    """
    for key in sorted({*saved, *now}):
        was, is_now = saved.get(key), now.get(key)
        if was == is_now:
            continue
        was, is_now = ("missing" if v is None else repr(v) for v in (was, is_now))
        message = f"{key} was {was} in the run in {folder} and is {is_now} now"
        if not key.startswith("hyper_parameters.optimizer."):
            raise UserError(f"resume refused: {message}; start afresh with -o runner.resume=false")
        warn(f"resume: {message}")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    return {
        "python": platform.python_version(),
        "paddlepaddle": paddle.__version__,
        "numpy": numpy.__version__,
        "pyarrow": pyarrow.__version__,
    }


class FolderLock:
    """Context that keeps other runs off an output folder; the lock dies with this process.

    Args:
        folder: ``runner.model_save_path``; made if need be.

    Raises:
        RunError: the folder cannot be made.
        UserError: another run has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        try:
            self._made = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(str(self.folder / ".lock"))
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"another run is writing to {self.folder}; give this one its own folder with "
                "-o runner.model_save_path=..."
            ) from error
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written to: {error.strerror}") from error

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if self._made and os.listdir(self.folder) == [".lock"]:
                shutil.rmtree(self.folder)  # nothing came of the run
        self._lock.release()
