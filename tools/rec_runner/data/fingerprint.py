"""Whether a data file is still the same: a cheap answer and a full one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import numpy as np

from rec_runner.system.errors import RunError


def stat_fingerprint(file: str | Path) -> list[str | int]:
    """Path, size and time of change of a file: cheap, for what is kept on one machine.

    Raises:
        OSError: the file cannot be found.
    """
    stat = os.stat(file)
    return [str(Path(file).resolve()), stat.st_size, stat.st_mtime_ns]


class WatchedFiles:
    """Files that are not to change while a run reads them, pass after pass.

    Args:
        files: paths.

    Raises:
        RunError: one cannot be found.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._then = {file: _known(file) for file in files}

    def check(self, *files: str) -> None:
        """Compare files with what they were at first.

        Args:
            files: which of them; others are passed over, and none means all.

        Raises:
            RunError: one has another size or time of change, leads elsewhere, or is gone.
        """
        for file in files or self._then:
            then = self._then.get(file)
            now = _known(file) if then else None
            if then != now:
                raise RunError(
                    f"{file} was changed while the run was reading it: it had {_told(then)}, and "
                    f"has {_told(now)}"
                )


def _known(file: str) -> list[str | int]:
    try:
        return stat_fingerprint(file)
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error


def _told(fingerprint: list[str | int] | None) -> str:
    _, size, changed = fingerprint or ("", 0, 0)
    return f"{size} bytes of {np.datetime64(int(changed), 'ns')} UTC"


def content_fingerprint(file: str | Path, check: Callable[[], None] = lambda: None) -> str:
    """Size and checksum of a file: reads all of it, and holds wherever and whenever it is copied.

    Args:
        file: its path.
        check: called now and then; what it raises ends the reading.

    Raises:
        RunError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with open(file, "rb") as stream:
            while piece := stream.read(1 << 20):
                check()
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    return f"{size} bytes, sha256 {digest.hexdigest()[:16]}"
