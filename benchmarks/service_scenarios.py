"""What the service is put through: load, capacity, slow and idle clients, its stop, new models."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, NamedTuple

import service_client as clients
from service_client import Mix, Tally
from service_process import KEY, Service, milliseconds, serving
from service_rows import Maker, Pool

PATIENCE = 60.0  # seconds for what is on its way when a scenario ends


class Setting(NamedTuple):
    """What all scenarios need.

    Attributes:
        exports: the export to serve, and perhaps another of the same columns.
        pool: rows, and what the exports predict of them.
        scratch: a folder.
        workers: processes that serve.
        clients: at once.
        seconds: of each scenario.
        bad_share: of requests that are malformed.
        connections: that are held open.
        reloads: how often a new model is put in place.
        least: answers that load goes on for, whatever the time.
        arguments: more of the service's command line.
    """

    exports: list[Path]
    pool: Pool
    scratch: Path
    workers: int = 1
    clients: int = 64
    seconds: float = 60.0
    bad_share: float = 0.1
    connections: int = 10_000
    reloads: int = 20
    least: int = 0
    max_body: int = 256 << 10
    max_rows: int = 1000
    arguments: tuple[object, ...] = ()

    @contextmanager
    def serving(self, *arguments: object, model: Path | None = None) -> Iterator[Service]:
        """A service with the limits that the requests are made for."""
        limits = ("--max-body", self.max_body, "--max-rows", self.max_rows)
        line = ("--workers", self.workers, *limits, *self.arguments, *arguments)
        with serving(model or self.exports[0], self.scratch, *line) as service:
            yield service

    def maker(self) -> Maker:
        """What makes requests."""
        return Maker(self.pool, KEY, self.max_body, self.max_rows)

    def mix(self) -> Mix:
        """All kinds of requests."""
        return Mix(self.maker().good(), self.maker().bad(), self.bad_share)

    def singles(self) -> Mix:
        """Rows by themselves, as objects."""
        return Mix(self.maker().singles(), {}, 0)


class Watch:
    """Measures a service over some time; its clients' processor too."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._started, self._cpu = time.perf_counter(), service.cpu()
        self._own = time.process_time()

    def figures(self, tally: Tally) -> dict[str, Any]:
        """What was counted and taken since the start."""
        seconds = time.perf_counter() - self._started
        answers = tally.answers
        each = [s for kind in tally.seconds.values() for s in kind]
        return {
            "seconds": seconds,
            "requests_per_second": answers / seconds,
            **milliseconds(each),
            "statuses": {str(status): n for status, n in sorted(tally.statuses.items())},
            "wrong": tally.wrong,
            "lost": tally.lost,
            "left": tally.left,
            "refused_connections": tally.refused,
            "said": tally.said,
            "service_cpu_us": (self._service.cpu() - self._cpu) / max(1, answers) * 1e6,
            "client_cpu_us": (time.process_time() - self._own) / max(1, answers) * 1e6,
            "memory_mb": self._service.memory(),
            "peak_mb": self._service.memory(peak=True),
        }


def for_seconds(seconds: float) -> Callable[[], bool]:
    """Whether they have not yet gone by."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


async def send_load(
    setting: Setting,
    service: Service,
    mix: Mix,
    tally: Tally,
    going: Callable[[], bool],
    number: int | None = None,
    pause: Callable[[], float] | None = None,
) -> None:
    """So many clients until it is time, and what they still wait for."""
    truth, port = setting.pool.truth, service.port
    runs = [
        clients.run_client(port, mix.requests(seed), truth, tally, going, pause)
        for seed in range(number or setting.clients)
    ]
    await clients.run_clients(runs, setting.seconds + PATIENCE, tally)


def load(setting: Setting) -> dict[str, Any]:
    """Many clients, some of whose requests are malformed; each answer is compared."""
    tally = Tally()
    with setting.serving() as service:
        watch = Watch(service)
        in_time = for_seconds(setting.seconds)
        going = lambda: in_time() or tally.answers < setting.least  # noqa: E731
        clients.run_loop(send_load(setting, service, setting.mix(), tally, going))
        found = watch.figures(tally)
        found["exit"] = service.stop()
        found["failures"] = failures(service)
    found["kinds"] = {kind: milliseconds(each) for kind, each in tally.seconds.items()}
    return found


def capacity(setting: Setting) -> dict[str, Any]:
    """Requests of one row each from one client, and from many."""
    found = {}
    with setting.serving() as service:
        mix = setting.singles()
        for number in (1, setting.clients):
            warm, tally = Tally(), Tally()
            clients.run_loop(send_load(setting, service, mix, warm, for_seconds(0.5), number))
            watch, going = Watch(service), for_seconds(setting.seconds)
            clients.run_loop(send_load(setting, service, mix, tally, going, number))
            found[f"{number} clients"] = watch.figures(tally)
    return found


def stop(setting: Setting) -> dict[str, Any]:
    """SIGTERM under load: clients go on until they are refused a connection."""
    tally, stopped = Tally(), False

    async def run(service: Service) -> None:
        nonlocal stopped

        def going() -> bool:
            return not (stopped and tally.refused >= setting.clients)

        dice = random.Random(7)
        mix = setting.mix()
        busy = send_load(
            setting, service, mix, tally, going, setting.clients - setting.clients // 2
        )
        calm = send_load(
            setting, service, mix, tally, going, setting.clients // 2, lambda: dice.random() / 20
        )
        both = asyncio.gather(busy, calm)
        await asyncio.sleep(min(setting.seconds, 5.0))
        if tally.refused:
            tally.complain(f"{tally.refused} connections were refused before the stop")
        service.process.send_signal(signal.SIGTERM)
        stopped = True
        await both

    with setting.serving() as service:
        watch = Watch(service)
        clients.run_loop(run(service))
        found = watch.figures(tally)
        found["exit"] = service.process.wait(60)
        found["failures"] = failures(service)
    return found


def reload(setting: Setting) -> dict[str, Any]:
    """New exports take the place of old ones under load, by SIGHUP and by request in turn."""
    folder, tally = setting.scratch / "export_in_use", Tally()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(setting.exports[0], folder)
    ids = list(setting.pool.truth.scores)
    waits: list[float] = []

    async def run(service: Service) -> None:
        done = False
        loading = asyncio.ensure_future(
            send_load(setting, service, setting.mix(), tally, lambda: not done)
        )
        await asyncio.sleep(0.5)
        for turn in range(1, setting.reloads + 1):
            which = turn % len(setting.exports)
            await asyncio.to_thread(_put_in_place, setting.exports[which], folder)
            started = time.monotonic()
            if turn % 2:
                service.process.send_signal(signal.SIGHUP)
            else:
                await _ask_to_reload(service, tally, ids[which])
            if not await _is_in_use(service, ids[which], setting.workers):
                tally.complain(f"reload {turn}: model {ids[which][:8]} is not in use")
            waits.append(time.monotonic() - started)
        await asyncio.sleep(0.5)
        done = True
        await loading

    with setting.serving("--batch-rows", 32, model=folder) as service:
        watch = Watch(service)
        clients.run_loop(run(service))
        found = watch.figures(tally)
        found["exit"] = service.stop()
        found["failures"] = failures(service)
    found["reloads"] = len(waits)
    found["reload_seconds"] = max(waits)
    found["answers_by_model"] = dict(tally.models)
    return found


def _put_in_place(export: Path, folder: Path) -> None:
    """Give a copy of an export the folder's name, as ``tools/export.py`` does."""
    from rec_runner.system.files import replace_folder

    part = folder.with_name("export_new")
    shutil.copytree(export, part)
    replace_folder(part, folder)


async def _ask_to_reload(service: Service, tally: Tally, model: str) -> None:
    connection = await clients.connect(service.port)
    line = (
        f"POST /reload HTTP/1.1\r\nHost: service\r\nX-API-Key: {KEY}\r\nContent-Length: 0\r\n\r\n"
    )
    connection.send(line.encode())
    answer = await connection.answer()
    if answer.status != 200 or answer.headers["x-model"] != model:
        tally.complain(f"POST /reload: {answer.status} {answer.body[:200]!r}")
    connection.close()


async def _is_in_use(service: Service, model: str, workers: int) -> bool:
    """Wait until all workers answer by a model: new connections go to any of them."""
    row, end = 0, time.monotonic() + 30
    while row < (1 if workers == 1 else 12):
        if time.monotonic() > end:
            return False
        connection = await clients.connect(service.port)
        connection.send(b"GET /health HTTP/1.1\r\nHost: service\r\n\r\n")
        answer = await connection.answer()
        connection.close()
        row = row + 1 if answer.headers["x-model"] == model else 0
        await asyncio.sleep(0.01)
    return True


def failures(service: Service) -> list[str]:
    """Lines of the log that tell of a failure."""
    signs = ('"event":"error"', '"event":"reload failed"', "Traceback", "lines dropped")
    return [line[:300] for line in service.text().splitlines() if any(s in line for s in signs)]
