"""uvicorn's server and its protocol, with bounds on clients that send slowly or without end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Callable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rec_runner.service.answers import dump
from rec_runner.service.app import create_app
from rec_runner.service.calls import Front
from rec_runner.service.limits import HEADER_BYTES
from rec_runner.service.service import Service
from rec_runner.service.workers import take_no_more

_SWEEP = 0.5  # seconds between two looks at the connections that wait
_GRACE = 1.0  # seconds that a connection may wait even where too many are open
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_LAST = 1.0  # seconds for a request on a connection that was made in the last moment


class Waiting:
    """Connections whose next request has not come whole, the one that waits longest first.

    Args:
        service: whose connections they are.
        most: how many may be open.
    """

    def __init__(self, service: Service, most: int) -> None:
        self.service = service
        self.limits = service.limits
        self.most = most
        self.open = 0
        self.since: dict[Connection, float] = {}
        self.stalled: dict[Connection, float] = {}  # answers wait for their client to take them

    def add(self, connection: Connection) -> None:
        """Its time begins, or begins anew."""
        self.since.pop(connection, None)
        self.since[connection] = connection.loop.time()

    def sweep(self, now: float) -> None:
        """Close what has waited too long: for a request, or for its client to take an answer."""
        late = now - self.limits.seconds
        for connection, since in list(self.since.items()):
            if since > late:
                break
            connection.expire()
        for connection, since in list(self.stalled.items()):
            if since <= late:
                connection.transport.abort()

    def make_room(self, newcomer: Connection) -> None:
        """Where too many are open, close the one that has waited longest, or send one away."""
        if self.open <= self.most:
            return
        oldest, since = next(iter(self.since.items()))
        if newcomer.loop.time() - since > _GRACE:
            self.since.pop(oldest)
            oldest.transport.abort()
        else:
            newcomer.refuse(503, "too many connections are open; try again later")


class Connection(HttpToolsProtocol):
    """A connection; uvicorn's own has no bound on headers and on the time that they take."""

    waiting: Waiting

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client connected."""
        super().connection_made(transport)
        self._seen = 0
        self._in_body = False
        self.waiting.open += 1
        self.waiting.add(self)
        self.waiting.make_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self.waiting.open -= 1
        self.waiting.since.pop(self, None)
        self.waiting.stalled.pop(self, None)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Its client takes no answers."""
        super().pause_writing()
        self.waiting.stalled[self] = self.loop.time()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self.waiting.stalled.pop(self, None)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._seen += len(data)
        if not self._in_body and b"pgrade" in data:
            data = _without_upgrade(data)
        super().data_received(data)
        if not self._in_body:
            if self._seen > HEADER_BYTES:
                self.refuse(431, f"headers of at most {HEADER_BYTES} bytes are expected")
        # The rest of a body that was refused is read and dropped, within bounds; and the ends of
        # a chunked body, which may be without end, are kept.
        elif self._seen > 8 * self.waiting.limits.body + HEADER_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request's first byte."""
        super().on_message_begin()
        if self in self.waiting.since:
            self.waiting.add(self)

    def on_headers_complete(self) -> None:
        """Its headers are there."""
        self._in_body = True
        self._seen = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Its body is there."""
        self._in_body = False
        self._seen = 0
        if self.cycle.response_complete:  # it was refused before
            self.waiting.add(self)
        else:
            self.waiting.since.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It was answered."""
        super().on_response_complete()
        if not self.pipeline:
            self.waiting.add(self)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self.refuse(400, "this is no request of HTTP/1.1 that can be understood")

    def expire(self) -> None:
        """Close it: nothing came in time."""
        if self._in_body and not self.cycle.response_complete:
            return  # who reads the body has a clock, too, and answers
        self.waiting.since.pop(self, None)
        if self._seen and not self._in_body and not self.transport.is_closing():
            self.refuse(408, f"no request came within {self.waiting.limits.seconds:g} s")
        else:
            self.transport.abort()

    def refuse(self, status: int, message: str) -> None:
        """Answer without having asked the service, and close."""
        if self.transport.is_closing():
            return
        service = self.waiting.service
        service.metrics.answered("other", status, 0.0)
        service.log.request(status=status, message=message)
        body = dump({"error": {"message": message}})
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            f"x-model: {service.models.now.name}",
            *(["retry-after: 1"] if status == 503 else []),
            "connection: close\r\n\r\n",
        ]
        self.transport.write("\r\n".join(lines).encode() + body)
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """Headers that offer no other protocol.

    We speak none; and the parser takes what follows them, a body, for the other protocol's. Java's
    client offers HTTP/2 in each first request.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-grade:", head) + end + rest


class Server(uvicorn.Server):
    """uvicorn's server, whose stop loses no request.

    Args:
        service: what it serves.
        most: connections that may be open.
        shares: whether other processes listen at the same socket.
    """

    def __init__(self, service: Service, most: int, shares: bool) -> None:
        self.service = service
        self._shares = shares
        limits = service.limits
        self.waiting = waiting = Waiting(service, most)
        kind = type("Connection", (Connection,), {"waiting": waiting})
        super().__init__(
            uvicorn.Config(
                Front(create_app(service), service),
                http=kind,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=4096,
                timeout_keep_alive=min(75, max(5, int(limits.seconds))),
                timeout_graceful_shutdown=int(limits.seconds) + 5,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs this."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        self.service.log.start()
        self.service.batcher.start()
        self._sweeper = asyncio.create_task(self._sweep())
        await super().startup(sockets)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP)
            self.waiting.sweep(loop.time())
            self.service.note_waiting()

    async def drain(self, seconds: float) -> None:
        """Answer on for some seconds, so that clients notice, then stop."""
        self.service.draining = True
        await asyncio.sleep(seconds)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more, answer what has come, close."""
        self.service.draining = True
        listeners = sockets or []
        if not self._shares:
            for listener in listeners:
                take_no_more(listener)
        await _until(lambda: not select.select(listeners, [], [], 0)[0])
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        # uvicorn closes what has no request yet; one may be on its way on a connection just made.
        await _until(lambda: all(one.cycle is not None for one in self.waiting.since))
        await super().shutdown(sockets)
        self._sweeper.cancel()
        self.service.close()
        self.service.log.stop()


async def _until(done: Callable[[], bool]) -> None:
    """Wait for something, at most :data:`_LAST` seconds."""
    end = asyncio.get_running_loop().time() + _LAST
    while not done() and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)
