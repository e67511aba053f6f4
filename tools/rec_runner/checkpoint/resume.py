"""What a run must share with the one that it goes on from, and the lock on its output folder."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import paddle
import pyarrow
from filelock import FileLock, Timeout

from rec_runner.checkpoint.store import RUN
from rec_runner.config import Config
from rec_runner.data.sources import list_files
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import plain_json
from rec_runner.system.log import warn

ATTEMPTS = 10
_OPTIMIZER = "hyper_parameters.optimizer."


def run_fingerprint(config: Config) -> dict[str, Any]:
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
    fingerprint = {f"runner.{name}": config.runner(name) for name in fixed}
    if config.runner("shuffle"):
        fingerprint["runner.shuffle_buffer"] = config.runner("shuffle_buffer")
    fingerprint.update({k: v for k, v in config.items() if k.startswith("hyper_parameters.")})
    required = "train_data_dir" if config.runner("reader_type") == "DataLoader" else None
    for key in ("train_data_dir", "valid_data_dir"):
        if key == required or config.runner(key) is not None:
            for file in map(Path, list_files(config, key)):
                fingerprint[f"file {file.name} of runner.{key}"] = content(file)
    return plain_json(fingerprint)  # as a checkpoint will give them back


def content(file: Path) -> str:
    """Size and checksum of a file; path and date may change before a resume, the content may not.

    Raises:
        RunError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with open(file, "rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    return f"{size} bytes, sha256 {digest.hexdigest()[:16]}"


def check_fingerprint(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    folder: Path,
    resolve: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> None:
    """Refuse a resume under other conditions; another optimizer setting is only pointed out.

    Args:
        saved: what the run had that is to be resumed.
        now: what there is now.
        folder: where that run is.
        resolve: the model's hook ``resolved_settings``, from hyper-parameters as they were given
            to what they mean; None takes them as given.

    Raises:
        UserError: names the first difference.
    """
    meant_then, meant_now = _resolved(resolve, saved), _resolved(resolve, now)
    for key in sorted({*saved, *now}):
        was, is_now = saved.get(key), now.get(key)
        known = key in meant_then and key in meant_now
        if was == is_now or (known and meant_then[key] == meant_now[key]):
            continue
        was, is_now = ("missing" if v is None else repr(v) for v in (was, is_now))
        message = f"{key} was {was} in the run in {folder} and is {is_now} now"
        if not key.startswith(_OPTIMIZER) or key == f"{_OPTIMIZER}class":
            raise UserError(f"resume refused: {message}; start afresh with -o runner.resume=false")
        warn(f"resume: {message}")


def _resolved(
    resolve: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None, fingerprint: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What hyper-parameters mean; empty where that is not known."""
    if resolve is None:
        return {}
    try:
        return resolve(fingerprint)
    except Exception:  # settings of an older version perhaps: they are compared as given
        return {}


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
            self._lock = FileLock(str(self.folder / ".lock"))
            self._acquire()
        except Timeout as error:
            raise UserError(
                f"another run is writing to {self.folder}; give this one its own folder with "
                "-o runner.model_save_path=..."
            ) from error
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written to: {error.strerror}") from error

    def _acquire(self) -> None:
        """Lock the file, anew if a run that ended has just removed it and the folder."""
        for _ in range(ATTEMPTS):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            descriptor = _descriptor(self._lock)
            with suppress(FileNotFoundError):
                named = os.stat(self.folder / ".lock")
                if descriptor is None or os.path.samestat(os.fstat(descriptor), named):
                    _held[self._lock] = descriptor
                    return
            self._lock.release()
        raise Timeout(self._lock.lock_file)

    def __exit__(self, *_: object) -> None:
        names = {".lock", RUN}
        with suppress(OSError):
            if self._made and names.issuperset(os.listdir(self.folder)):  # nothing came of the run
                (self.folder / RUN).unlink(missing_ok=True)
                (self.folder / ".lock").unlink()
                self.folder.rmdir()  # not if another run has come in the meantime
        _held.pop(self._lock, None)
        self._lock.release()


def _descriptor(lock: FileLock) -> int | None:
    """The open file of a lock that is held, where this version of filelock tells."""
    return getattr(getattr(lock, "_context", None), "lock_file_fd", None)


def _let_go() -> None:
    """Close the files of locks in a child process: each keeps its lock while any has it open."""
    for lock, descriptor in _held.items():
        if descriptor is not None:
            os.close(descriptor)  # to release it would take the lock from the parent
            lock._context.lock_file_fd = None
    _held.clear()


_held: dict[FileLock, int | None] = {}
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_let_go)
