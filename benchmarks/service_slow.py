"""Clients that send slowly, by halves, a lot or nothing, beside those that behave."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import service_client as clients
from service_answers import Request, Truth, compare
from service_client import Lost, Tally
from service_process import Service
from service_rows import OBJECT
from service_scenarios import PATIENCE, Setting, Watch, failures, for_seconds, send_load

SLOW = 100  # clients of each slow kind
LARGE = 10 << 20
LARGE_AT_ONCE = 8


class _Others:
    """Clients that do not behave, and what became of them.

    Attributes:
        open: connections that were made.
        statuses: by the kind of client, how many got which answer.
        tally: answers that were not what was expected.
    """

    def __init__(self, port: int, truth: Truth, tally: Tally) -> None:
        self._port = port
        self._truth = truth
        self._tasks: list[asyncio.Task[None]] = []
        self.open: list[clients.Connection] = []
        self.statuses: dict[str, Counter[str]] = defaultdict(Counter)
        self.tally = tally

    def start(self, request: Request, number: int, sent: int, pause: float = 0.0) -> None:
        """Clients that send some bytes of a request, or all, and then wait for an answer.

        Args:
            request: which; its status is what it should get.
            number: of clients.
            sent: bytes of it.
            pause: seconds after each byte; without, they are sent at once.
        """
        self._tasks += [
            asyncio.ensure_future(self._client(request, sent, pause)) for _ in range(number)
        ]

    async def _client(self, request: Request, sent: int, pause: float) -> None:
        how = "closed"
        try:
            connection = await clients.connect(self._port)
        except OSError:
            how = "refused"
        else:
            self.open.append(connection)
            with suppress(Lost):
                connection.send(request.data[: 1 if pause else sent])
                for place in range(1, sent) if pause else ():
                    await asyncio.sleep(pause)
                    if not connection.open or connection.answered:
                        break
                    connection.go_on(request.data[place : place + 1])
                answer = await connection.answer()
                how = str(answer.status)
                said = compare(request, answer, self._truth)
                if said is not None:
                    self.tally.complain(f"{request.kind}: {said}")
            connection.close()
        self.statuses[request.kind][how] += 1

    async def idle(self, number: int) -> None:
        """Open connections that send nothing."""
        for start in range(0, number, 200):
            wanted = [clients.connect(self._port) for _ in range(min(200, number - start))]
            made = await asyncio.gather(*wanted, return_exceptions=True)
            self.open += [one for one in made if isinstance(one, clients.Connection)]

    async def settle(self) -> None:
        """Wait until all have their answers."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)

    async def end(self) -> None:
        """Close them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self.open:
            if one.open:
                one.close()


def slow(setting: Setting) -> dict[str, Any]:
    """Slow, half-sent, large and idle: what clients that behave see beside them, in steps."""
    setting = setting._replace(max_body=LARGE + LARGE // 8, max_rows=10**6)
    with setting.serving("--timeout", max(3, round(2.5 * setting.seconds))) as service:
        stages, others = clients.run_loop(_slow_stages(setting, service))
        ended = {"exit": service.stop(), "failures": failures(service)}
        return {"stages": stages, "others": others, **ended}


async def _slow_stages(setting: Setting, service: Service) -> tuple[dict[str, Any], dict[str, Any]]:
    stages: dict[str, Any] = {}
    maker = setting.maker()
    row = maker.singles()[OBJECT][0].data
    others = _Others(service.port, setting.pool.truth, Tally())

    async def stage(name: str, beside: Awaitable[None] | None = None) -> None:
        others.tally = tally = Tally()
        watch, going = Watch(service), for_seconds(setting.seconds)
        behaving = send_load(setting, service, setting.singles(), tally, going, 4, lambda: 0.005)
        await asyncio.gather(behaving, *([beside] if beside is not None else []))
        stages[name] = {**watch.figures(tally), "open": sum(one.open for one in others.open)}

    await stage("none")
    others.start(Request("a byte a second", row, 408), SLOW, len(row), 1.0)
    others.start(Request("half a head", row, 408), SLOW, 40)
    others.start(Request("half a body", row, 408), SLOW, len(row) - 9)
    await stage("slow and half-sent")
    blanks = f"{round(2 * LARGE / 2**20)} MB of blanks"
    for request in (maker.large(LARGE), Request(blanks, maker.http(b" " * 2 * LARGE), 413)):
        others.start(request, LARGE_AT_ONCE, len(request.data))
    await stage("large bodies", others.settle())
    await stage("connections being opened", others.idle(setting.connections))
    await stage("connections open")
    await others.end()
    await stage("none any more")
    return stages, {kind: dict(counts) for kind, counts in others.statuses.items()}
