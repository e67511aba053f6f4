"""Rows of requests that come together are scored together, by one thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Protocol

import numpy as np

from rec_runner.service.answers import busy
from rec_runner.service.limits import QUEUE_BYTES, Limits


class Scorer(Protocol):
    """What scores rows."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Scores float32 ``[n, T]`` of features float32 ``[n, F]``."""


class _Job:
    """The rows of one request.

    Attributes:
        done: how many have been taken.
        scores: of the pieces taken, in order.
    """

    __slots__ = ("model", "features", "future", "done", "scores")

    def __init__(
        self, model: Scorer, features: np.ndarray, future: asyncio.Future[np.ndarray]
    ) -> None:
        self.model, self.features, self.future = model, features, future
        self.done = 0
        self.scores: list[np.ndarray] = []


class _Piece(NamedTuple):
    job: _Job
    rows: int


class Batcher:
    """A queue of requests and the thread that scores them.

    A request of many rows is scored in pieces, and goes to the queue's end after each, so that the
    small ones need not wait for all of it.

    Args:
        limits: of the worker.
        scored: called in the thread after each batch with its rows and seconds.
    """

    def __init__(self, limits: Limits, scored: Callable[[int, float], None]) -> None:
        self._limits = limits
        self._scored = scored
        self._jobs: deque[_Job] = deque()
        self._come = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)
        self._bytes = 0
        self.waiting = 0

    def start(self) -> None:
        """Start the thread; called where the event loop runs."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread when the queue is empty, or leave it where it hangs."""
        with self._come:
            self._stopped = True
            self._come.notify()
        self._thread.join(timeout=5)

    async def score(self, model: Scorer, features: np.ndarray) -> np.ndarray:
        """Scores float32 ``[n, T]`` of features float32 ``[n, F]``, n at least 1.

        Raises:
            Refusal: the queue is full, or there are no scores in time.
        """
        size = features.nbytes
        if self.waiting >= self._limits.queue or (self._bytes and self._bytes + size > QUEUE_BYTES):
            raise busy(f"{self.waiting} requests wait already; try again later")
        future: asyncio.Future[np.ndarray] = self._loop.create_future()
        self.waiting += 1
        self._bytes += size
        timer = self._loop.call_later(self._limits.seconds, self._expire, future)
        try:
            with self._come:
                self._jobs.append(_Job(model, features, future))
                self._come.notify()
            return await future
        finally:
            timer.cancel()
            self.waiting -= 1
            self._bytes -= size

    def _expire(self, future: asyncio.Future[np.ndarray]) -> None:
        if not future.done():
            seconds = self._limits.seconds
            future.set_exception(
                busy(f"there were no scores within {seconds:g} s; try again later")
            )

    def _work(self) -> None:
        while True:
            with self._come:
                while not self._jobs and not self._stopped:
                    self._come.wait()
                if not self._jobs:
                    return
                if self._limits.batch_wait:
                    self._wait_for_more()
                pieces = self._take()
            if not pieces:
                continue
            started = time.perf_counter()
            result: np.ndarray | Exception
            try:
                result = self._predict(pieces)
            except Exception as error:
                result = error
            self._scored(sum(piece.rows for piece in pieces), time.perf_counter() - started)
            self._loop.call_soon_threadsafe(self._hand_out, pieces, result)

    def _wait_for_more(self) -> None:
        end = time.monotonic() + self._limits.batch_wait
        while sum(len(job.features) for job in self._jobs) < self._limits.batch_rows:
            left = end - time.monotonic()
            if left <= 0 or self._stopped:
                return
            self._come.wait(left)

    def _take(self) -> list[_Piece]:
        """What is scored next: rows of one model that somebody still waits for."""
        pieces: list[_Piece] = []
        room = self._limits.batch_rows
        model = self._jobs[0].model
        while self._jobs and room and self._jobs[0].model is model:
            job = self._jobs.popleft()
            if job.future.done():
                continue
            rows = min(room, len(job.features) - job.done)
            pieces.append(_Piece(job, rows))
            room -= rows
        return pieces

    def _predict(self, pieces: Sequence[_Piece]) -> np.ndarray:
        parts = [job.features[job.done : job.done + rows] for job, rows in pieces]
        features = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return pieces[0].job.model.predict(features)

    def _hand_out(self, pieces: Sequence[_Piece], result: Any) -> None:
        """In the loop: give each request its scores, or the error that scoring ended in."""
        start = 0
        for job, rows in pieces:
            start += rows
            if job.future.done():  # its client has gone
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
                continue
            job.scores.append(result[start - rows : start])
            job.done += rows
            if job.done < len(job.features):
                with self._come:
                    self._jobs.append(job)
                    self._come.notify()
            else:
                whole = job.scores[0] if len(job.scores) == 1 else np.concatenate(job.scores)
                job.future.set_result(whole)
