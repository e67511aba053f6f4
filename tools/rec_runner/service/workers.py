"""Several processes that take connections from one socket, and the parent that keeps them going."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import Callable

from rec_runner.system.log import warn

_LEAST = 1.0  # seconds that a worker lives, or its successor waits
READY = b"1"


class Workers:
    """The parent of some workers. It imports nothing that starts threads: it forks again and again.

    Args:
        number: of workers.
        work: what a worker does, in the process forked; gets the descriptor to write
            :data:`READY` to; what it returns is the exit status.
    """

    def __init__(self, number: int, work: Callable[[int], int]) -> None:
        self._number = number
        self._work = work
        self._started: dict[int, float] = {}
        self._stopping = 0

    def run(self) -> int:
        """Keep the workers going until a signal to stop; exit status."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._stop)
        signal.signal(signal.SIGHUP, self._hand_on)
        status = self._first()
        if status is not None:
            return status
        while len(self._started) < self._number and not self._stopping:
            self._fork(None)
        while self._started:
            self._wait()
        return 0

    def _first(self) -> int | None:
        """Start one worker and wait until it is ready; the status that it ends with before."""
        ready, done = os.pipe()
        pid = self._fork(done, ready)
        os.close(done)
        with os.fdopen(ready, "rb", buffering=0) as stream:
            while not select.select([stream], [], [], 1)[0]:
                pass
            if stream.read(1) == READY:
                return None
        self._started.pop(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _fork(self, done: int | None, unused: int | None = None) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        blocked = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                if unused is not None:
                    os.close(unused)
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hands on a SIGTERM
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                status = self._work(-1 if done is None else done)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        self._started[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _wait(self) -> None:
        """Wait for the end of a worker, and start another in its place."""
        pid, status = os.waitpid(-1, 0)
        started = self._started.pop(pid, None)
        if started is None or self._stopping:
            return
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code}" if code < 0 else f"status {code}"
        warn(f"worker {pid} ended with {how}; another takes its place")
        time.sleep(max(0.0, min(_LEAST, started + _LEAST - time.monotonic())))
        if not self._stopping:
            self._fork(None)

    def _stop(self, signum: int, frame: object) -> None:
        self._stopping += 1
        self._tell(signal.SIGTERM if self._stopping == 1 else signal.SIGKILL)

    def _hand_on(self, signum: int, frame: object) -> None:
        self._tell(signal.SIGHUP)

    def _tell(self, signum: signal.Signals) -> None:
        for pid in list(self._started):
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                pass


def can_fork() -> bool:
    """Whether this platform has what several workers need."""
    return hasattr(os, "fork") and hasattr(signal, "SIGHUP")
