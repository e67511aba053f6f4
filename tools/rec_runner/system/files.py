"""Files are whole or absent: written aside, flushed to disk, renamed."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rec_runner.system.errors import RunError
from rec_runner.system.parts import finish_part, part_file


@contextmanager
def atomic_write(file: Path, make_folder: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when all of it is on disk.

    Args:
        file: the path it shall have. A link that stands there is replaced, not written through.
        make_folder: make the folders above it if need be.

    Raises:
        RunError: the file cannot be written; what stood there before still does.
    """
    try:
        if make_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        with part_file(file) as (part, stream):
            yield stream
            sync_file(stream)
            finish_part(part, stream, file)
    except OSError as error:
        raise RunError(f"{file} cannot be written: {error.strerror or error}") from error


def write_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as ``.npz`` beside a checkpoint, whole or not at all.

    Raises:
        RunError: the file cannot be written, or its folder is not there.
    """
    with atomic_write(file, make_folder=False) as stream:
        np.savez(stream, **{name: np.asarray(array) for name, array in arrays.items()})


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    with atomic_write(file) as stream:
        stream.write(json.dumps(value).encode())


def open_file(file: Path) -> BinaryIO:
    """Open a file for reading that a stranger may have put there.

    Raises:
        OSError: there is none; or it is a link, a named pipe, a device, or anything else than a
            plain file, which is refused without waiting for it.
    """
    # O_NOFOLLOW refuses a link; without O_NONBLOCK the open itself waits for a pipe's writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if file.is_symlink():
        raise OSError(errno.EINVAL, "it is a link, a plain file is expected", str(file))
    descriptor = os.open(file, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(file))
    return os.fdopen(descriptor, "rb")


def read_file(file: Path) -> bytes:
    """All bytes of a file that a stranger may have put there, see :func:`open_file`."""
    with open_file(file) as stream:
        return stream.read()


def sync_file(stream: BinaryIO) -> None:
    """Flush what was written to a file to disk."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows does not open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_folder(new: Path, folder: Path) -> None:
    """Give a folder a name that another may hold, whose content goes.

    Where the system can exchange two names at once there is no moment without one of the two;
    elsewhere there is a short one.

    Raises:
        OSError: it cannot be renamed; what stood there before still does.
    """
    if not os.path.lexists(folder):
        os.rename(new, folder)
    elif _exchange(new, folder):
        clear(new)
    else:
        old = new.with_name(f"{new.name}.old")
        os.rename(folder, old)
        try:
            os.rename(new, folder)
        except OSError:
            os.rename(old, folder)
            raise
        clear(old)
    sync_folder(folder.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders at once; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def clear(path: Path) -> None:
    """Remove a folder, or what stands in its place, as far as possible; never a link's target."""
    with suppress(OSError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            path.unlink()  # rmtree would wait for a pipe's writer
            return
        shutil.rmtree(path, ignore_errors=True)


def plain_json(value: Any) -> Any:
    """A value as it comes back from JSON: keys are text, and what JSON does not know is too."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
