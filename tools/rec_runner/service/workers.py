"""Several processes that take connections from one socket, and the parent that keeps them going."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Callable, NamedTuple

from rec_runner.system.log import warn

READY = b"1"
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER of <asm/socket.h>
_LEAST = 1.0  # seconds that a worker lives, or its successor waits


def can_fork() -> bool:
    """Whether this platform has what several workers need."""
    return hasattr(os, "fork") and hasattr(signal, "SIGHUP")


class _Instruction(ctypes.Structure):
    """``struct sock_filter`` of <linux/filter.h>."""

    _fields_ = [
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    ]


class _Filter(ctypes.Structure):
    """``struct sock_fprog`` of <linux/filter.h>."""

    _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction))]


def take_no_more(listener: socket.socket) -> None:
    """Let no more connections come to a socket that listens; those that wait there are kept.

    Closing it would reset them, which their clients take for accepted, and may have sent a request
    on. A packet filter that takes nothing makes them try again in a second, and be refused then.
    Only Linux has it.
    """
    if sys.platform != "linux":
        return
    nothing = _Instruction(6, 0, 0, 0)  # return 0 bytes of the packet
    program = _Filter(1, ctypes.pointer(nothing))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, bytes(program))


class Parent(NamedTuple):
    """What a worker knows of its parent.

    Attributes:
        pid: its process.
        alive: a descriptor that is at its end when the parent is gone.
        ready: a descriptor to write :data:`READY` to; None for all workers but the first.
    """

    pid: int
    alive: int
    ready: int | None

    def tell_all(self) -> None:
        """Have all workers open the model anew."""
        os.kill(self.pid, signal.SIGHUP)

    def tell_ready(self) -> None:
        """Say that this worker serves."""
        if self.ready is not None:
            os.write(self.ready, READY)
            os.close(self.ready)


class Workers:
    """The parent of some workers. It imports nothing that starts threads: it forks again and again.

    Args:
        number: of workers.
        listener: the socket.
        drain: seconds from the signal to stop until connections are no longer taken.
        work: what a worker does, in the process forked; what it returns is the exit status.
        ended: called with the process id of each worker that is no more.
    """

    def __init__(
        self,
        number: int,
        listener: socket.socket,
        drain: float,
        work: Callable[[Parent], int],
        ended: Callable[[int], None],
    ) -> None:
        self._number = number
        self._listener = listener
        self._drain = drain
        self._work = work
        self._ended = ended
        self._started: dict[int, float] = {}
        self._stops = 0
        self._closed = False
        self._alive, self._keep = os.pipe()

    def run(self) -> int:
        """Keep the workers going until a signal to stop; exit status."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._stop)
        signal.signal(signal.SIGHUP, self._hand_on)
        signal.signal(signal.SIGALRM, self._close)
        status = self._first()
        if status is not None:
            return status
        while len(self._started) < self._number and not self._stops:
            self._fork()
        while self._started:
            self._wait()
        return 0

    def _first(self) -> int | None:
        """Start one worker and wait until it serves; else the status to end with.

        What is wrong with the model is said once so, and not by each worker.
        """
        read, write = os.pipe()
        pid = self._fork(write, read)
        os.close(write)
        with os.fdopen(read, "rb", buffering=0) as stream:
            while not select.select([stream], [], [], 1)[0]:
                pass
            if stream.read(1) == READY:
                return None
        self._started.pop(pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status < 0 and not self._stops:
            warn(f"the first worker ended with signal {-status} before it served")
        return 0 if self._stops else status if status > 0 else 1

    def _fork(self, ready: int | None = None, *unused: int) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        parent = Parent(os.getpid(), self._alive, ready)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                for descriptor in (self._keep, *unused):
                    os.close(descriptor)
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hands on a SIGTERM
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                status = self._work(parent)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        self._started[pid] = time.monotonic()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def _wait(self) -> None:
        """Wait for the end of a worker, and start another in its place."""
        pid, ended = os.waitpid(-1, 0)
        started = self._started.pop(pid, None)
        if started is None:
            return
        self._ended(pid)
        if self._stops:
            return
        status = os.waitstatus_to_exitcode(ended)
        how = f"signal {-status}" if status < 0 else f"status {status}"
        warn(f"worker {pid} ended with {how}; another takes its place")
        time.sleep(max(0.0, started + _LEAST - time.monotonic()))
        if not self._stops:
            self._fork()

    def _stop(self, signum: int, frame: object) -> None:
        """Have the workers drain; by a second signal stop, by a third leave requests unanswered."""
        self._stops += 1
        if self._stops == 2:
            self._close()
        else:
            self._tell(signal.SIGTERM if self._stops < 4 else signal.SIGKILL)
        if self._stops == 1:
            signal.setitimer(signal.ITIMER_REAL, max(self._drain, 0.001))

    def _close(self, *_: object) -> None:
        if not self._closed:
            self._closed = True
            take_no_more(self._listener)
            self._tell(signal.SIGTERM)

    def _hand_on(self, signum: int, frame: object) -> None:
        self._tell(signal.SIGHUP)

    def _tell(self, signum: signal.Signals) -> None:
        for pid in list(self._started):
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                pass
