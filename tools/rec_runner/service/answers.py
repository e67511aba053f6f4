"""What the service answers: predictions as JSON or CSV, and refusals in one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from starlette.responses import Response

JSON = "application/json"
CSV = "text/csv; charset=utf-8"
MOST_FAULTS = 10
_SHOWN = 100
_LONGEST = 500  # characters of a sentence


class BadRow(NamedTuple):
    """What is wrong with a row of a request.

    Attributes:
        message: a sentence.
        row: counted from 1.
        column: its name, or empty where it is no single one.
        value: what stood there, if that can be told.
    """

    message: str
    row: int
    column: str
    value: Any

    def as_json(self) -> dict[str, Any]:
        """It as a client gets it; what is long is cut."""
        return {
            "message": _cut(self.message, _LONGEST),
            "row": self.row,
            "column": self.column or None,
            "value": shown(self.value),
        }


class Refusal(Exception):
    """A request that gets no predictions.

    Args:
        status: of HTTP.
        message: a sentence for the client.
        headers: further headers of the answer.
        bad_rows: what is wrong with rows, where that is why.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        bad_rows: Sequence[BadRow] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self.bad_rows = bad_rows

    def answer(self) -> Response:
        """The response."""
        first: dict[str, Any] = {"message": _cut(self.message, _LONGEST)}
        body: dict[str, Any] = {"error": first}
        if self.bad_rows:
            body = {"error": self.bad_rows[0].as_json(), **faults(self.bad_rows)}
        return Response(dump(body), self.status, self.headers, JSON)


def busy(why: str, seconds: int = 1) -> Refusal:
    """A refusal of what may be tried again after some seconds."""
    return Refusal(503, why, {"Retry-After": str(seconds)})


def faults(bad_rows: Sequence[BadRow]) -> dict[str, Any]:
    """The first few bad rows, and how many there are."""
    first = [bad.as_json() for bad in bad_rows[:MOST_FAULTS]]
    return {"errors": first, "bad_rows": len(bad_rows)}


def shown(value: Any) -> Any:
    """A value of a request, short enough to be sent back."""
    if isinstance(value, str):
        return _cut(value, _SHOWN)
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return value


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def dump(value: Any) -> bytes:
    """A value as JSON; a float32 as the shortest number that reads back to it, NaN as null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def json_answer(
    model: str, tasks: Sequence[str], scores: np.ndarray, bad_rows: Sequence[BadRow]
) -> bytes:
    """Predictions as JSON.

    Args:
        model: its id.
        tasks: their names.
        scores: float32 ``[n, T]``.
        bad_rows: rows that get null.
    """
    rows: list[dict[str, Any] | None] = [dict(zip(tasks, row)) for row in scores]
    body: dict[str, Any] = {"model": model, "predictions": rows}
    if bad_rows:
        for bad in bad_rows:
            rows[bad.row - 1] = None
        body.update(faults(bad_rows))
    return dump(body)


def csv_answer(tasks: Sequence[str], scores: np.ndarray, bad_rows: Sequence[BadRow]) -> bytes:
    """Predictions as CSV: a header of the tasks, a line for each row; cells of bad rows are empty.

    Args:
        tasks: their names.
        scores: float32 ``[n, T]``.
        bad_rows: rows without a prediction.
    """
    lines = [",".join(map(_cell, tasks))]
    numbers = dump(np.ascontiguousarray(scores)).decode()[2:-2]
    if len(scores):
        lines += numbers.replace("null", "").split("],[")
    blank = "," * (len(tasks) - 1)
    for bad in bad_rows:
        lines[bad.row] = blank
    return ("\n".join(lines) + "\n").encode()


def _cell(text: str) -> str:
    quoted = any(c in text for c in ',"\r\n')
    return '"{}"'.format(text.replace('"', '""')) if quoted else text
