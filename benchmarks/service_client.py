"""Clients of the service that cost little: bytes made before, an answer read in a few steps."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Callable

from service_answers import Answer, Request, Truth, compare

MOST_SHOWN = 10
HOST = "127.0.0.1"


class Lost(Exception):
    """The connection was closed, and there was no answer."""


class Connection(asyncio.Protocol):
    """A connection that is kept alive; one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._future: asyncio.Future[Answer] | None = None
        self.open = True
        self.answered = 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self.open = False
        if self._future is not None and not self._future.done():
            self._future.set_exception(Lost(str(exc) if exc else "closed"))

    def data_received(self, data: bytes) -> None:
        """Some of an answer came."""
        self._buffer = data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = data[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        size = end + 4 + int(headers.get("content-length", 0))
        if len(data) < size:
            return
        self._buffer = data[size:]
        self.answered += 1
        if self._future is not None and not self._future.done():
            body = data[end + 4 : size]
            self._future.set_result(Answer(int(lines[0].split(" ")[1]), headers, body))
        if headers.get("connection") == "close":
            self.close()

    def go_on(self, data: bytes) -> None:
        """Send some more of a request."""
        if self.open:
            self.transport.write(data)

    def send(self, data: bytes) -> None:
        """Send a request, or the first part of one."""
        self._future = asyncio.get_running_loop().create_future()
        if self.open:
            self.transport.write(data)
        else:
            self._future.set_exception(Lost("closed"))

    async def answer(self) -> Answer:
        """What is answered.

        Raises:
            Lost: nothing, and the connection is closed.
        """
        assert self._future is not None
        return await self._future

    def close(self) -> None:
        """Close it; who waits for an answer gets none."""
        self.open = False
        if self._future is not None and not self._future.done():
            self._future.cancel()
        self.transport.close()


async def connect(port: int) -> Connection:
    """A connection.

    Raises:
        OSError: there is none to be had.
    """
    _, made = await asyncio.get_running_loop().create_connection(Connection, HOST, port)
    return made


class Tally:
    """What clients saw.

    Attributes:
        seconds: each answer's, by the kind of request.
        statuses: how many of each.
        wrong: how many answers were not what was expected, and the first few of them as sentences.
        lost: requests that were sent whole, and whose connection was closed without an answer.
        left: requests whose client went away, as it was meant to.
        refused: connections that were not to be had.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self.statuses: Counter[int] = Counter()
        self.models: Counter[str] = Counter()
        self.wrong = 0
        self.said: list[str] = []
        self.lost = 0
        self.left = 0
        self.refused = 0

    @property
    def answers(self) -> int:
        """How many there were."""
        return (
            self.statuses.total()
            if hasattr(self.statuses, "total")
            else sum(self.statuses.values())
        )

    def note(self, request: Request, answer: Answer, seconds: float, truth: Truth) -> None:
        """Compare an answer with what is expected, and count it."""
        self.seconds[request.kind].append(seconds)
        self.statuses[answer.status] += 1
        self.models[answer.headers.get("x-model", "")] += 1
        said = compare(request, answer, truth)
        if said is not None:
            self.complain(f"{request.kind}: {said}")

    def complain(self, said: str) -> None:
        """Count what is wrong."""
        self.wrong += 1
        if len(self.said) < MOST_SHOWN:
            self.said.append(said)


class Mix:
    """Which request comes next.

    Args:
        good: the good ones by kind.
        bad: the others by kind.
        bad_share: how many are of the others.

    Attributes:
        kinds: both.
    """

    def __init__(
        self,
        good: Mapping[str, Sequence[Request]],
        bad: Mapping[str, Sequence[Request]],
        bad_share: float,
    ) -> None:
        self.kinds = (good, bad)
        self._lists = [list(good.values()), list(bad.values())]
        self._bad_share = bad_share if bad else 0.0

    def requests(self, seed: int) -> Iterable[Request]:
        """Requests without end; each kind is as frequent as the others of its sort."""
        dice = random.Random(seed)
        while True:
            kinds = self._lists[dice.random() < self._bad_share]
            yield dice.choice(dice.choice(kinds))


async def run_client(
    port: int,
    requests: Iterable[Request],
    truth: Truth,
    tally: Tally,
    going: Callable[[], bool],
    pause: Callable[[], float] | None = None,
) -> None:
    """Send one request after the other on a connection, a new one where it is closed.

    Args:
        port: of the service.
        requests: what to send.
        truth: what to expect.
        tally: counts.
        going: whether to go on.
        pause: seconds before each request; none without.
    """
    connection: Connection | None = None
    for request in requests:
        if not going():
            break
        if pause is not None:
            await asyncio.sleep(pause())
        if connection is None or not connection.open:
            try:
                connection = await connect(port)
            except OSError:
                tally.refused += 1
                connection = None
                if going():
                    await asyncio.sleep(0.01)
                continue
        started = time.perf_counter()
        connection.send(request.data)
        if not request.status:  # it goes away
            await asyncio.sleep(0)
            connection.close()
            tally.left += 1
            continue
        try:
            answer = await connection.answer()
        except Lost as error:
            tally.lost += 1
            if len(tally.said) < MOST_SHOWN:
                tally.said.append(f"{request.kind}: no answer ({error})")
            continue
        tally.note(request, answer, time.perf_counter() - started, truth)
    if connection is not None and connection.open:
        connection.close()


async def run_clients(clients: Sequence[Awaitable[None]], patience: float, tally: Tally) -> None:
    """Wait for all clients; those that hang are counted as lost.

    Args:
        clients: of :func:`run_client`.
        patience: seconds that they take at most.
        tally: counts.
    """
    tasks = [asyncio.ensure_future(client) for client in clients]
    done, hanging = await asyncio.wait(tasks, timeout=patience)
    for task in hanging:
        task.cancel()
        tally.lost += 1
        tally.said.append(f"a client still waited after {patience:g} s")
    for task in done:
        task.result()


def run_loop(main: Awaitable[Any]) -> Any:
    """Run an event loop, uvloop's where it is installed."""

    async def whole() -> Any:
        return await main

    try:
        import uvloop
    except ImportError:
        return asyncio.run(whole())
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(whole())
    finally:
        loop.close()
