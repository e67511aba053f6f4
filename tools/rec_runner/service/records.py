"""What is kept of requests: Prometheus' metrics, and a line of JSON on stderr for each."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import Any

import prometheus_client as prometheus
from prometheus_client import multiprocess

from rec_runner.service.answers import dump

SHARED = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
_MOST_LINES = 20_000
_PAUSE = 0.1  # seconds between two writes
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """What is counted. Labels come from lists of ours, never from a request."""

    def __init__(self) -> None:
        self.shared = SHARED in os.environ
        self._registry = registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "serve_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self._seconds = prometheus.Histogram(
            "serve_request_seconds",
            "Seconds from a request's headers to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._rows = prometheus.Counter("serve_rows", "Rows scored.", registry=registry)
        self._bad = prometheus.Counter("serve_bad_rows", "Rows refused.", registry=registry)
        self._batches = prometheus.Histogram(
            "serve_batch_rows", "Rows scored at once.", buckets=_ROWS, registry=registry
        )
        self._scoring = prometheus.Counter(
            "serve_scoring_seconds", "Seconds the model took.", registry=registry
        )
        self.waiting = prometheus.Gauge(
            "serve_waiting_requests",
            "Requests that wait for scores.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._model = prometheus.Gauge(
            "serve_model",
            "1 for the model in use.",
            ["model"],
            registry=registry,
            multiprocess_mode="liveall",
        )
        self._reloads = prometheus.Counter(
            "serve_reloads", "Models opened anew.", ["result"], registry=registry
        )
        self._known: dict[tuple[str, int], tuple[prometheus.Counter, prometheus.Histogram]] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        pair = self._known.get((path, status))
        if pair is None:
            pair = self._requests.labels(path, str(status)), self._seconds.labels(path)
            self._known[path, status] = pair
        pair[0].inc()
        pair[1].observe(seconds)

    def scored(self, rows: int, seconds: float) -> None:
        """Count a batch."""
        self._rows.inc(rows)
        self._batches.observe(rows)
        self._scoring.inc(seconds)

    def refused_rows(self, rows: int) -> None:
        """Count bad rows."""
        self._bad.inc(rows)

    def model_in_use(self, model: str, before: str | None) -> None:
        """Say which model answers."""
        if before is not None and before != model:
            self._model.labels(before).set(0)
        self._model.labels(model).set(1)

    def reloaded(self, well: bool) -> None:
        """Count a reload."""
        self._reloads.labels("done" if well else "failed").inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        if not self.shared:
            return prometheus.generate_latest(self._registry)
        registry = prometheus.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return prometheus.generate_latest(registry)


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
