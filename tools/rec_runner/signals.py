"""SIGINT and SIGTERM end a run in order; a second one ends it at once."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from rec_runner.errors import UserError


class Interrupted(UserError):
    """The run was asked to stop and has done so; exit status 128 + signal number."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + signum


class StopSignal:
    """Context in which the first SIGINT or SIGTERM is only noted.

    Attributes:
        received: number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for signum in (signal.SIGINT, signal.SIGTERM):
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
