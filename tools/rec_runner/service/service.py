"""What the routes do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable
from urllib.parse import parse_qs

import numpy as np
from starlette.responses import Response

from rec_runner.service.answers import (
    CSV,
    JSON,
    BadRow,
    Refusal,
    busy,
    csv_answer,
    dump,
    json_answer,
)
from rec_runner.service.batcher import Batcher
from rec_runner.service.body import Bodies, Taken, is_large, kind_of, rows_of
from rec_runner.service.calls import Call
from rec_runner.service.limits import Limits
from rec_runner.service.models import Model, Models
from rec_runner.service.records import AccessLog, Metrics

MOST_LARGE = 16  # large bodies that wait for the thread that makes rows of them
MANY = 500  # rows of an answer that a thread writes


class Service:
    """What the routes share.

    Args:
        models: the model in use.
        limits: of a worker.
        metrics: what is counted.
        log: the access log.
        key: what clients have to send, or None.
        any_host: whether the header Host may name any host; else only this machine.

    Attributes:
        draining: whether the service stops.
        reloaded: called after ``POST /reload`` has put a new model to use.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits,
        metrics: Metrics,
        log: AccessLog,
        key: bytes | None,
        any_host: bool,
    ) -> None:
        self.models = models
        self.limits = limits
        self.metrics = metrics
        self.log = log
        self.key = key
        self.any_host = any_host
        self.draining = False
        self.batcher = Batcher(limits, metrics.scored)
        self.reloaded: Callable[[], None] = lambda: None
        self._bodies = Bodies(limits)
        self._thread = ThreadPoolExecutor(1, "large requests")
        self._large = 0

    async def predict(self, call: Call, receive: Callable[[], Any]) -> Response:
        """Answer ``POST /predict``.

        Raises:
            Refusal: there are no predictions for it.
            ClientGone: there is nobody left to answer.
        """
        kind = kind_of(call.headers)
        keep = _keeps_bad_rows(call.query)
        body = await self._bodies.read(call.headers, receive)
        model = self.models.now
        call.model = model.header
        if is_large(body):
            taken = await self._rows_aside(kind, body, model)
        else:
            taken = rows_of(kind, body, model.rows, self.limits)
        del body
        call.rows = len(taken.features)
        if taken.bad_rows:
            self.metrics.refused_rows(len(taken.bad_rows))
            if not keep:
                raise Refusal(422, taken.bad_rows[0].message, bad_rows=taken.bad_rows)
        scores = np.zeros((0, len(model.tasks)), np.float32)
        if len(taken.features):
            scores = await self.batcher.score(model.scorer, taken.features)
        csv = _is_csv(call, kind)
        if len(scores) < MANY:
            return _answer(csv, model, scores, taken.bad_rows)
        return await self._aside(_answer, csv, model, scores, taken.bad_rows)

    async def _aside(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do what takes long in a thread, one at a time."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, *arguments)

    async def _rows_aside(self, kind: str, body: bytes, model: Model) -> Taken:
        if self._large >= MOST_LARGE:
            raise busy("too many large requests wait; try again later")
        self._large += 1
        try:
            return await self._aside(rows_of, kind, body, model.rows, self.limits)
        finally:
            self._large -= 1

    def about(self) -> bytes:
        """What ``GET /model`` tells."""
        limits = {"rows": self.limits.rows, "body_bytes": self.limits.body}
        return dump({**self.models.now.about, "limits": limits})

    def counted(self) -> bytes:
        """What ``GET /metrics`` tells."""
        self.note_waiting()
        return self.metrics.text()

    def note_waiting(self) -> None:
        """Note in the metrics how many requests wait; of other workers, the last note counts."""
        self.metrics.waiting.set(self.batcher.waiting)

    async def reload(self) -> Response:
        """Answer ``POST /reload``.

        Raises:
            Refusal: there is no key to ask for, or the new export cannot be opened.
        """
        if self.key is None:
            raise Refusal(
                403,
                "a reload by HTTP needs a service with a key (SERVE_API_KEY); SIGHUP does without",
            )
        model = await self._reload_here()
        self.reloaded()
        return Response(dump({"model": model.name}), media_type=JSON)

    async def _reload_here(self) -> Model:
        try:
            model = await self.models.reload()
        except Exception as error:
            self.metrics.reloaded(False)
            said = " ".join(str(error).split())[:500]
            self.log.event("reload failed", model=self.models.now.name, error=said)
            raise Refusal(409, f"the model in use stays: {said}") from error
        self.metrics.reloaded(True)
        self.log.event("reloaded", model=model.name)
        return model

    async def reload_by_signal(self) -> None:
        """Answer SIGHUP; how it went is in the log."""
        try:
            await self._reload_here()
        except Refusal:
            pass

    def close(self) -> None:
        """Stop the threads."""
        self.batcher.stop()
        self._thread.shutdown(wait=False)


def _keeps_bad_rows(query: bytes) -> bool:
    """Whether ``on_bad=null`` was asked for."""
    if not query:
        return False
    wanted = parse_qs(query.decode("latin-1"), max_num_fields=20).get("on_bad", ["refuse"])[-1]
    if wanted not in ("null", "refuse"):
        raise Refusal(400, "on_bad should be null (bad rows get null) or refuse")
    return wanted == "null"


def _is_csv(call: Call, kind: str) -> bool:
    """Whether the client wants CSV: it says so, or sent some and does not say."""
    accepts = call.headers.get(b"accept", b"").lower()
    if b"text/csv" in accepts:
        return b"application/json" not in accepts or kind == "text/csv"
    return kind == "text/csv" and b"application/json" not in accepts


def _answer(csv: bool, model: Model, scores: np.ndarray, bad_rows: Sequence[BadRow]) -> Response:
    if csv:
        return Response(csv_answer(model.tasks, scores, bad_rows), media_type=CSV)
    return Response(json_answer(model.name, model.tasks, scores, bad_rows), media_type=JSON)
