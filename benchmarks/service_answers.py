"""Requests, what is expected of them, and whether an answer is that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

TOLERANCE = 1e-6


class Request(NamedTuple):
    """A request and what is expected of it.

    Attributes:
        kind: what it is called.
        data: all that is sent, headers included.
        status: of its answer; 0: the client goes away before there is one.
        rows: which rows of the :class:`Truth` it has; None in the place of one that gets null.
        csv: whether its answer is CSV.
        bad_row: of one that is refused for a row, which one, counted from 1.
    """

    kind: str
    data: bytes
    status: int = 200
    rows: Sequence[int | None] = ()
    csv: bool = False
    bad_row: int | None = None


class Truth(NamedTuple):
    """What each model predicts of some rows.

    Attributes:
        tasks: their names.
        scores: by a model's id, a list for each row.
    """

    tasks: Sequence[str]
    scores: Mapping[str, Sequence[Sequence[float]]]


class Answer(NamedTuple):
    """An answer as it came; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def compare(request: Request, answer: Answer, truth: Truth) -> str | None:
    """What is wrong with an answer, None if nothing is."""
    if answer.status == 503:
        return None if "retry-after" in answer.headers else "503 without Retry-After"
    if answer.status != request.status:
        return f"{answer.status} for {request.status}: {answer.body[:200]!r}"
    model = answer.headers.get("x-model", "")
    if model not in truth.scores:
        return f"model {model!r} is none of those served"
    if request.status != 200:
        return _compare_refusal(request, answer)
    try:
        found = _csv(answer.body, truth) if request.csv else _json(answer.body, model, truth)
    except (ValueError, KeyError, TypeError) as error:
        return f"{error!r} in {answer.body[:200]!r}"
    if len(found) != len(request.rows):
        return f"{len(found)} predictions for {len(request.rows)} rows"
    scores = truth.scores[model]
    for place, (row, values) in enumerate(zip(request.rows, found), 1):
        if row is None or values is None:
            if row is not None or values is not None:
                return f"row {place}: {values} for {row}"
            continue
        for expected, value in zip(scores[row], values):
            if value is None or not abs(value - expected) <= TOLERANCE * max(1.0, abs(expected)):
                return f"row {place}: {values} for {scores[row]}, model {model[:8]}"
    return None


def _compare_refusal(request: Request, answer: Answer) -> str | None:
    try:
        error = json.loads(answer.body)["error"]
        if not error["message"] or "Traceback" in error["message"]:
            return f"message {error['message']!r}"
        if request.bad_row is not None and error["row"] != request.bad_row:
            return f"row {error['row']} for {request.bad_row}"
    except (ValueError, KeyError, TypeError) as error:
        return f"{error!r} in {answer.body[:200]!r}"
    return None


def _json(body: bytes, model: str, truth: Truth) -> list[list[float] | None]:
    told = json.loads(body)
    if told["model"] != model:
        raise ValueError(f"model {told['model']} in a body, {model} in its header")
    return [row and [row[task] for task in truth.tasks] for row in told["predictions"]]


def _csv(body: bytes, truth: Truth) -> list[list[float] | None]:
    head, *lines = body.decode().splitlines()
    if head != ",".join(truth.tasks):
        raise ValueError(f"header {head!r}")
    return [[float(c) for c in line.split(",")] if line.strip(",") else None for line in lines]
