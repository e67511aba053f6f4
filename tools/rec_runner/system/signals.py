"""SIGINT and SIGTERM end a tool in order; in training a second one ends it at once."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from rec_runner.system.errors import UserError


class Interrupted(UserError):
    """The run was asked to stop and has done so; exit status 128 + signal number."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RaisedSignals:
    """Context in which SIGINT and SIGTERM wait for :meth:`listen`, then raise ``Interrupted``.

    Importing Paddle puts a handler of its own in the place of any before it.
    """

    def __enter__(self) -> RaisedSignals:
        self._before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
        self._mask("SIG_BLOCK")
        return self

    def listen(self) -> None:
        """Raise from now on, at once if a signal is waiting."""
        for signum in _SIGNALS:
            signal.signal(signum, self._raise)
        self._mask("SIG_UNBLOCK")

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._mask("SIG_UNBLOCK")

    @staticmethod
    def _mask(how: str) -> None:
        if hasattr(signal, "pthread_sigmask"):  # not on Windows
            signal.pthread_sigmask(getattr(signal, how), _SIGNALS)

    @staticmethod
    def _raise(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum, "stopped by a signal")


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
