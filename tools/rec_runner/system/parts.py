"""Parts: what is written aside until it is whole, under names that nobody can foresee.

A part is made exclusively, so nothing that stands there is written to, a link's target least of
all. Its writer holds a lock on it, which ends with the writer: so the next run tells the part of
a killed run, which it removes, from one that is being written.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None  # type: ignore[assignment]

_PART = re.compile(r"\..+\.rec-[0-9a-f]{16}\.part", re.DOTALL)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_OLD = 7 * 24 * 3600  # seconds without a change, where there are no locks to tell


@contextmanager
def part_file(file: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file beside ``file``, open for writing, that goes at the end if it is still there.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        part = _name_beside(file)
        descriptor = os.open(part, _NEW | _NO_LINKS, 0o666)
        if _claimed(descriptor, part):
            break
        os.close(descriptor)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield part, stream
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def part_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, that goes at the end if it is still there.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        part, descriptor = _name_beside(folder), None
        os.mkdir(part)
        if _fcntl is None:
            break
        with suppress(FileNotFoundError):
            descriptor = os.open(part, os.O_RDONLY | _NO_LINKS)
            if _claimed(descriptor, part):
                break
            os.close(descriptor)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def finish_part(part: Path, stream: BinaryIO, file: Path) -> None:
    """Give a part file, all of it on disk, its name.

    Raises:
        OSError: it cannot be renamed.
    """
    if _fcntl is None:
        stream.close()  # Windows renames no open file; elsewhere the lock has to hold until then
    os.replace(part, file)


def remove_left_overs(folder: Path, within: bool = False) -> None:
    """Remove the parts of killed runs in a folder, as far as possible.

    Links are not followed, and what is no part, or is being written, stays.

    Args:
        folder: where to look; there need not be one.
        within: look into the folders in it too.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if _PART.fullmatch(name):
                with suppress(OSError):  # its writer, or another run, is quicker
                    _remove_left_over(Path(place, name))
        if not within or place != str(folder):
            folders.clear()


def _remove_left_over(part: Path) -> None:
    """Remove a part unless its writer lives."""
    status = os.lstat(part)
    is_folder = stat.S_ISDIR(status.st_mode)
    if not (is_folder or stat.S_ISREG(status.st_mode)):
        return
    # Some network file systems lock only what is open for writing.
    mode = os.O_RDONLY if is_folder else os.O_RDWR
    descriptor = None if _fcntl is None else os.open(part, mode | _NO_LINKS)
    try:
        if _is_abandoned(descriptor, status.st_mtime):
            if is_folder:
                shutil.rmtree(part)
            else:
                part.unlink()
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_abandoned(descriptor: int | None, changed: float) -> bool:
    """Whether a part's writer is gone: its lock tells, or where there is none the part's age."""
    try:
        if descriptor is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return time.time() - changed > _OLD


def _name_beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:40]}.rec-{secrets.token_hex(8)}.part")


def _claimed(descriptor: int, part: Path) -> bool:
    """Lock a new part; False if a run that removes left-overs has been quicker."""
    if _fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks
        _fcntl.flock(descriptor, _fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(part))
    except FileNotFoundError:
        return False
