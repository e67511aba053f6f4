"""SIGINT and SIGTERM end a tool in order; where one is only noted, a second one ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has done so; exit status 128 + signal number.

    No ``Exception``: code that makes something else of errors, or passes over them, a model
    directory's or our own, does not see it.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_entered: list[RaisedSignals] = []  # a process has one handler of a signal, so its holder is one


class RaisedSignals:
    """Context in which SIGINT and SIGTERM raise :class:`Interrupted`.

    Whatever is made of that exception on its way, in the end ``Interrupted`` leaves the context.

    Attributes:
        received: number of the first signal that came, or None.
        noting: how many :func:`noted` are entered.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.noting = 0

    def __enter__(self) -> RaisedSignals:
        self._before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
        _entered.append(self)
        self._listen()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _entered.pop()
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        if not isinstance(error, Interrupted):
            self.check(error)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Signals wait until the end, where handlers that were put in the place of ours go.

        Importing Paddle does so.
        """
        self._mask("SIG_BLOCK")
        try:
            yield
            self._listen()
        finally:
            self._mask("SIG_UNBLOCK")

    def check(self, cause: BaseException | None = None) -> None:
        """Raise :class:`Interrupted` if a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received, "stopped by a signal") from cause

    def _listen(self) -> None:
        for signum in _SIGNALS:
            signal.signal(signum, self._receive)

    @staticmethod
    def _mask(how: str) -> None:
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            signal.pthread_sigmask(getattr(signal, how), _SIGNALS)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.noting:
            if self.received is not None:
                os._exit(128 + signum)
            self.received = signum
            return
        self.received = self.received or signum
        self.check()


@contextmanager
def noted() -> Iterator[None]:
    """What :class:`RaisedSignals` would raise inside is raised at the end; a second signal exits.

    For code that calls Paddle: its C++ code calls Python here and there, while it builds a graph
    for instance. What is raised there comes out as something else, or crashes the process. Signals
    come to the main thread; in others nothing is raised anyway.
    """
    if not _entered or threading.current_thread() is not threading.main_thread():
        yield
        return
    active = _entered[-1]
    active.noting += 1
    try:
        yield
    finally:
        active.noting -= 1
        if not active.noting:
            active.check()


class StopSignal:
    """Context in which the first SIGINT or SIGTERM is only noted.

    Attributes:
        received: number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for signum in _SIGNALS:
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + signum)
        self.received = signum

    def check(self, message: str) -> None:
        """Raise :class:`Interrupted` if a signal has come."""
        if self.received is not None:
            raise Interrupted(self.received, message)
