"""Worker processes of ``paddle.io.DataLoader`` that end when their parent does.

Paddle's own look at the parent waits behind a queue that nobody fills any more. Private: how Paddle
2.6 to 3.3 name the shared memory in which a worker hands over a batch.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

_SHARED = Path("/dev/shm")
_SECONDS = 1.0


def end_with(parent: int, worker: int) -> None:
    """Let this process end soon after another, even one that was killed.

    Args:
        parent: the process that has started this one.
        worker: number of this one, as the DataLoader counts.
    """
    threading.Thread(target=_watch, args=(parent,), name=f"parent of {worker}", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    for file in _SHARED.glob(f"paddle_{os.getpid()}_*"):  # nobody is left to take them
        with suppress(OSError):
            file.unlink()
    os._exit(1)
