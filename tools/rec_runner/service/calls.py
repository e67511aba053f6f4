"""One request on its way: what every one gets, whatever it asks for."""

from __future__ import annotations

import hmac
import itertools
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, Callable

from starlette.responses import Response

from rec_runner.service.answers import Refusal
from rec_runner.service.body import ClientGone

if TYPE_CHECKING:
    from rec_runner.service.service import Service

SCRIPTS = ("/words.js", "/row.js", "/file.js", "/page.js")  # of the page
OPEN = {"/", *SCRIPTS, "/page.css", "/icon.svg", "/health", "/ready", "/docs", "/openapi.json"}
LOCKED = {"/predict", "/model", "/metrics", "/reload"}
_POSTED = {"/predict", "/reload"}
# What a browser takes for this machine, whatever a server of names says.
_HERE = re.compile(rb"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d*)?", re.IGNORECASE)
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PREFIX = secrets.token_hex(6)
_numbers = itertools.count(1)
GONE = 499  # in log and metrics: the client did not wait for its answer
_SAFE = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
_OF_PAGES = [
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
    (b"referrer-policy", b"no-referrer"),
]


class Call:
    """A request.

    Attributes:
        headers: by lower-case name; the last of a name.
        query: as it came.
        id: the client's, or one of ours.
        model: id of the model that answers.
        rows: how many it had, None where it did not come to that.
        status: of the answer, 0 while there is none.
    """

    __slots__ = ("headers", "query", "id", "model", "rows", "status")

    def __init__(self, scope: dict[str, Any], model: bytes, key: bytes | None) -> None:
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query: bytes = scope["query_string"]
        given = self.headers.get(b"x-request-id", b"")
        if not _ID.fullmatch(given) or (key is not None and key in given):
            given = f"{_PREFIX}-{next(_numbers)}".encode()
        self.id = given
        self.model = model
        self.rows: int | None = None
        self.status = 0


class Front:
    """Stands before the routes: the key, headers of every answer, metrics, access log.

    Args:
        app: the routes.
        service: what they share.
    """

    def __init__(self, app: Any, service: Service) -> None:
        self._app = app
        self._service = service
        self._key = service.key
        self._any_host = service.any_host

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        service = self._service
        call = scope["call"] = Call(scope, service.models.now.header, self._key)

        path, method = scope["path"], scope["method"]
        if path not in OPEN and path not in LOCKED:
            path = "other"

        async def reply(message: Any) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                extra = [(b"x-model", call.model), (b"x-request-id", call.id), *_SAFE]
                if path != "/predict":
                    extra += _OF_PAGES
                if service.draining:
                    extra.append((b"connection", b"close"))
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            if self._key is not None and path in LOCKED and not self._has_key(call):
                await self._locked(scope, receive, reply)
            elif not self._any_host and path in LOCKED and not _is_here(call):
                await _misdirected(scope, receive, reply)
            elif path == "/predict" and method == "POST":
                # Straight to it: the way through FastAPI takes as long as all the rest together.
                await self._predict(call, scope, receive, reply)
            elif method == "OPTIONS" and path != "other":
                allowed = "POST, OPTIONS" if path in _POSTED else "GET, HEAD, OPTIONS"
                await Response(None, 204, {"Allow": allowed})(scope, receive, reply)
            else:
                # Of an answer to HEAD, uvicorn sends all but the body.
                asked = {**scope, "method": "GET"} if method == "HEAD" else scope
                await self._app(asked, receive, reply)
        except ClientGone:
            call.status = call.status or GONE
        except Exception as error:
            await self._failed(error, call, scope, receive, reply)
        finally:
            seconds = time.perf_counter() - started
            service.metrics.answered(path, call.status, seconds)
            service.log.request(
                method=method,
                path=path if path != "other" else self._hidden(scope["path"]),
                status=call.status,
                rows=call.rows,
                ms=round(seconds * 1000, 3),
                model=call.model.decode(),
                request=call.id.decode(),
            )

    async def _predict(
        self, call: Call, scope: Any, receive: Any, reply: Callable[..., Any]
    ) -> None:
        try:
            answer = await self._service.predict(call, receive)
        except Refusal as refusal:
            answer = refusal.answer()
        await answer(scope, receive, reply)

    def _has_key(self, call: Call) -> bool:
        assert self._key is not None
        given = call.headers.get(b"x-api-key")
        if given is None:
            scheme, _, given = call.headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer":
                given = b""
        return hmac.compare_digest(given.strip(), self._key)

    async def _locked(self, scope: Any, receive: Any, reply: Callable[..., Any]) -> None:
        refusal = Refusal(
            401,
            "a key is needed, in the header X-API-Key or as Authorization: Bearer",
            {"WWW-Authenticate": "Bearer"},
        )
        await refusal.answer()(scope, receive, reply)

    async def _failed(
        self, error: Exception, call: Call, scope: Any, receive: Any, reply: Callable[..., Any]
    ) -> None:
        """A bug of ours, or a model that fails: a sentence for the client, the rest in the log."""
        self._service.log.event(
            "error", request=call.id.decode(), error=type(error).__name__, place=_place(error)
        )
        if not call.status:
            refusal = Refusal(500, f"the service failed; its log has request {call.id.decode()}")
            await refusal.answer()(scope, receive, reply)

    def _hidden(self, path: str) -> str:
        """A path for the log, without the key."""
        if self._key is not None:
            path = path.replace(self._key.decode("ascii"), "…")
        return path[:200]


def _is_here(call: Call) -> bool:
    """Whether a request was meant for this machine by name; programs may leave it out."""
    host = call.headers.get(b"host")
    return host is None or _HERE.fullmatch(host) is not None


async def _misdirected(scope: Any, receive: Any, reply: Callable[..., Any]) -> None:
    """Refuse what a page of strangers has a browser ask, whose host's name leads here of late."""
    refusal = Refusal(
        403,
        "a service without a key answers to localhost and 127.0.0.1 alone, as header Host has it; "
        "set SERVE_API_KEY, or say --no-key where something else keeps strangers away",
    )
    await refusal.answer()(scope, receive, reply)


def _place(error: BaseException) -> str:
    """Where an error came from: file and line; its message may have cells of a request."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
