"""The body of a request: read within bounds, then made rows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Callable, NamedTuple

import numpy as np
import orjson

from rec_runner.service.answers import BadRow, Refusal, busy
from rec_runner.service.limits import BODIES, Limits
from rec_runner.service.models import Reader, Rows

KINDS = ("application/json", "text/csv")
LARGE = 32 << 10  # bytes of a body from which on a thread makes rows of it
MANY = 256  # rows, from which on it does, too
MOST_BRACKETS = 16  # of a row, those in its texts among them: it is a list or an object without any
_LINE = re.compile(rb"[^ \r\n][^\r\n]*")  # that is not blank


class ClientGone(Exception):
    """The client closed the connection."""


class Taken(NamedTuple):
    """Rows of a request.

    Attributes:
        features: float32 ``[n, F]``.
        bad_rows: in order.
    """

    features: np.ndarray
    bad_rows: Sequence[BadRow]


def kind_of(headers: Mapping[bytes, bytes]) -> str:
    """The type of a body, one of :data:`KINDS`.

    Raises:
        Refusal: it is another, or encoded.
    """
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding not in (b"identity", b""):
        raise Refusal(
            415,
            "the body is encoded, and is expected as it is, without Content-Encoding",
            {"Accept-Encoding": "identity"},
        )
    kind, *parameters = headers.get(b"content-type", b"").decode("latin-1").lower().split(";")
    kind = kind.strip()
    if kind not in KINDS:
        raise Refusal(
            415, f"Content-Type should be {' or '.join(KINDS)}", {"Accept-Post": ", ".join(KINDS)}
        )
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise Refusal(415, "the charset of the body should be utf-8")
    return kind


class Bodies:
    """Reads bodies, all of them together within a bound.

    Args:
        limits: of the worker.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Callable[[], Any]) -> bytes:
        """All of a body.

        Raises:
            Refusal: it is too large, too slow, or too many are being read.
            ClientGone: there is nobody left to answer.
        """
        most = self._limits.body
        length = headers.get(b"content-length")
        if length is not None and (len(length) > 15 or int(length) > most):
            raise self._too_large()
        task = asyncio.current_task()
        assert task is not None
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            task.cancel()

        timer = asyncio.get_running_loop().call_later(self._limits.seconds, expire)
        held, parts = 0, []
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part = message.get("body", b"")
                held += len(part)
                self._held += len(part)
                if held > most:
                    raise self._too_large()
                if self._held > most * BODIES:
                    raise busy("too many large bodies are being read; try again later")
                parts.append(part)
                if not message.get("more_body", False):
                    break
        except asyncio.CancelledError:
            if not late:
                raise
            raise Refusal(
                408,
                f"the body did not come within {self._limits.seconds:g} s",
                {"Connection": "close"},
            ) from None
        finally:
            timer.cancel()
            self._held -= held
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> Refusal:
        return Refusal(413, f"a body of at most {self._limits.body} bytes is expected")


def is_large(body: bytes) -> bool:
    """Whether making rows of a body would keep others waiting; lists and lines tell how many."""
    return len(body) >= LARGE or sum(map(body.count, (b"\n", b"\r", b"[", b"{"))) > MANY


def rows_of(kind: str, body: bytes, reader: Reader, limits: Limits) -> Taken:
    """What a body holds.

    Raises:
        Refusal: it is no JSON, no rows, or too many.
    """
    _refuse_many(kind, body, limits)
    rows: Any = None
    if kind == "application/json":
        rows = _listed(_parsed(body))
        if len(rows) > limits.rows:
            raise _too_many(len(rows), limits)
    try:
        found = reader.text(body) if rows is None else _read(rows, reader)
    except Exception as error:
        if not getattr(error, "user_error", False):
            raise
        raise Refusal(422, " ".join(str(error).split())) from error
    if len(found.features) > limits.rows:
        raise _too_many(len(found.features), limits)
    return Taken(found.features, _bad_rows(found, rows, reader) if found.faults else ())


def _refuse_many(kind: str, body: bytes, limits: Limits) -> None:
    """Refuse too many rows before they are read: bad ones take far more than their bytes."""
    said = f"a request of at most {limits.rows} rows is expected, this has more"
    if kind == "text/csv":
        if _has_lines(body, limits.rows + 2):
            raise Refusal(413, f"{said} lines of text")
    elif body.count(b"[") + body.count(b"{") > MOST_BRACKETS * (limits.rows + 1):
        raise Refusal(413, f"{said} lists and objects")


def _has_lines(text: bytes, number: int) -> bool:
    """Whether so many lines of a text are not blank."""
    if text.count(b"\n") + text.count(b"\r") + 1 < number:
        return False
    return next(islice(_LINE.finditer(text), number - 1, None), None) is not None


def _too_many(rows: int, limits: Limits) -> Refusal:
    return Refusal(413, f"a request of at most {limits.rows} rows is expected, this has {rows}")


def _read(rows: list[Any], reader: Reader) -> Rows:
    kinds = {type(row) for row in rows}
    if kinds == {dict} or not rows:
        return reader.objects(rows)
    if kinds == {list}:
        return reader.arrays(rows)
    kind = type(rows[0])
    alike = kind in (dict, list)
    bad = next(i for i, row in enumerate(rows) if type(row) is not kind) if alike else 0
    expected = f"{_word(rows[0])} as the first" if alike else "an object or an array"
    message = f"row {bad + 1} is {_word(rows[bad])}, expected {expected}"
    raise Refusal(422, message, bad_rows=[BadRow(message, bad + 1, "", rows[bad])])


def _word(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def _bad_rows(found: Rows, rows: Any, reader: Reader) -> list[BadRow]:
    bad = []
    for index, fault in sorted(found.faults.items()):
        value = None
        row = rows[index] if rows is not None else None
        if isinstance(row, dict):
            value = row.get(fault.column)
        elif isinstance(row, list) and fault.column in reader.names:
            place = list(reader.names).index(fault.column)
            value = row[place] if place < len(row) else None
        bad.append(BadRow(f"row {index + 1}: {fault.message}", index + 1, fault.column, value))
    return bad


def _parsed(body: bytes) -> Any:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    if body.count(b":") != _keys(value):  # a name twice, or a colon in a text
        try:
            json.loads(body, object_pairs_hook=_unique)
        except RecursionError:
            raise Refusal(400, "the body is not JSON of rows: it is nested too deep") from None
    return value


def _keys(value: Any) -> int:
    """How many names the objects of a request have, as far as it is one."""
    if isinstance(value, dict):
        rows = value.get("rows")
        return len(value) + (_keys(rows) if isinstance(rows, list) else 0)
    if isinstance(value, list):
        return sum(len(row) for row in value if isinstance(row, dict))
    return 0


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore
        raise Refusal(400, f"the body is not JSON of rows: an object has {name[:100]!r} twice")
    return found


def _listed(value: Any) -> list[Any]:
    """The rows of a body."""
    if isinstance(value, dict):
        rows = value.get("rows")
        if len(value) == 1 and isinstance(rows, list):
            return rows
        return [value]
    if isinstance(value, list):
        return value
    raise Refusal(
        422,
        f"the body is {_word(value)}, expected an object, a list of objects, a list of arrays, or "
        '{"rows": such a list}',
    )
