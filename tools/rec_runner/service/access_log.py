"""A line of JSON on stderr for each request; who reads slowly holds up no request."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import Any

from rec_runner.service.answers import dump

_MOST_LINES = 20_000
_PAUSE = 0.1  # seconds between two writes


class AccessLog:
    """Lines wait here for a thread that writes them; when too many wait, the oldest are dropped.

    Args:
        on: whether requests are logged; events are in any case.
    """

    def __init__(self, on: bool) -> None:
        self._on = on
        self._lines: deque[dict[str, Any]] = deque(maxlen=_MOST_LINES)
        self._dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="access log", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits."""
        self._stop.set()
        self._thread.join(timeout=5)

    def request(self, **values: Any) -> None:
        """Log a request."""
        if self._on:
            self._add(values)

    def event(self, event: str, **values: Any) -> None:
        """Log something else."""
        self._add({"event": event, **values})

    def _add(self, values: dict[str, Any]) -> None:
        if len(self._lines) == _MOST_LINES:
            self._dropped += 1
        self._lines.append({"at": time.time(), **values})

    def _work(self) -> None:
        while not self._stop.wait(_PAUSE):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            lines.append({"at": time.time(), "event": "lines dropped", "lines": self._dropped})
            self._dropped = 0
        text = []
        for line in lines:
            at = line.pop("at")
            when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
            text.append(dump({"time": f"{when}.{int(at % 1 * 1000):03d}Z", **line}))
        if text:
            try:
                sys.stderr.buffer.write(b"\n".join([*text, b""]))
                sys.stderr.flush()
            except (OSError, ValueError):  # nobody reads it any more
                pass
