"""What a request may cost, and how long it may take; open files up to what the system allows."""

from __future__ import annotations

import sys
from typing import NamedTuple

HEADER_BYTES = 64 << 10  # request line and headers
BODIES = 16  # largest bodies that may be held at once, all requests together
QUEUE_BYTES = 256 << 20  # features of all requests that wait
SPARE_FILES = 64  # descriptors for all else than connections


class Limits(NamedTuple):
    """Bounds of one worker.

    Attributes:
        body: bytes of a request's body.
        rows: rows of a request.
        seconds: for headers and body to come, and for an answer to be taken.
        queue: requests that wait to be scored.
        batch_rows: rows that are scored at once.
        batch_wait: seconds to wait for more rows to score with the first.
        drain: seconds from the signal to stop until new connections are refused.
    """

    body: int = 8 << 20
    rows: int = 10_000
    seconds: float = 30.0
    queue: int = 1024
    batch_rows: int = 256
    batch_wait: float = 0.0
    drain: float = 1.0


def raise_open_files() -> int | None:
    """Allow this process as many open files as the system lets it; how many, None if unknown."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 20
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS refuses more than its kernel's own limit
        return soft
    return wanted
