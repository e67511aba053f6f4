"""Whether a data file is still the same: a cheap answer and a full one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rec_runner.system.errors import RunError


def stat_fingerprint(file: str | Path) -> list[str | int]:
    """Path, size and time of change of a file: cheap, for what is kept on one machine.

    Raises:
        OSError: the file cannot be found.
    """
    stat = os.stat(file)
    return [str(Path(file).resolve()), stat.st_size, stat.st_mtime_ns]


def content_fingerprint(file: str | Path) -> str:
    """Size and checksum of a file: reads all of it, and holds wherever and whenever it is copied.

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
