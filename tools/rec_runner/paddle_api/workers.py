"""Worker processes of ``paddle.io.DataLoader`` that end when their parent does, and not before.

Paddle's own look at the parent waits behind a queue that nobody fills any more. Private: how Paddle
2.6 to 3.3 name the shared memory in which a worker hands over a batch.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SHARED = Path("/dev/shm")
_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TELLS_SENDER = hasattr(signal, "sigtimedwait")  # on Linux


@contextmanager
def starting() -> Iterator[None]:
    """Context in which to start workers: SIGINT and SIGTERM do not end them, only this process.

    A terminal sends its Ctrl-C to all of them, ``timeout`` and others a SIGTERM; a worker that died
    of it would be an error of the data while this process saves.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS) if _TELLS_SENDER else None
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int, worker: int) -> None:
    """Let this process end soon after another, even one that was killed.

    Args:
        parent: the process that has started this one.
        worker: number of this one, as the DataLoader counts.
    """
    threading.Thread(target=_watch, args=(parent,), name=f"parent of {worker}", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        if _told_to_end(parent):
            os._exit(0)
    for file in _SHARED.glob(f"paddle_{os.getpid()}_*"):  # nobody is left to take them
        with suppress(OSError):
            file.unlink()
    os._exit(1)


def _told_to_end(parent: int) -> bool:
    """Wait a while; whether the parent itself has sent a signal meanwhile."""
    if not _TELLS_SENDER:
        time.sleep(_SECONDS)
        return False
    came = signal.sigtimedwait(_SIGNALS, _SECONDS)
    return came is not None and came.si_pid == parent
