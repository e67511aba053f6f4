"""One process that serves: the event loop, its signals, its start and its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from typing import Any, Callable

from rec_runner.service.connections import Server
from rec_runner.service.limits import SPARE_FILES, Limits, raise_open_files
from rec_runner.service.models import Model, Models
from rec_runner.service.records import AccessLog, Metrics
from rec_runner.service.service import Service
from rec_runner.service.workers import Parent

_PATIENCE = 5.0  # seconds to wait longer where a parent should say when to stop


def run_worker(
    open_model: Callable[[], Model],
    limits: Limits,
    key: bytes | None,
    listener: socket.socket,
    ready: Callable[[], None],
    parent: Parent | None,
    log_requests: bool,
    any_host: bool,
) -> int:
    """Serve until a signal to stop.

    Args:
        open_model: opens the model, at the start and for each reload.
        limits: of this worker.
        key: what clients have to send, or None.
        listener: a socket that is bound.
        ready: called when it listens.
        parent: of several workers; None where this is the only one.
        log_requests: whether there is an access log.
        any_host: whether requests may name any host; else only this machine.

    Returns:
        exit status.
    """
    early: list[int] = []
    if hasattr(signal, "SIGHUP"):  # from here on a model is opened, and may be too old by then
        signal.signal(signal.SIGHUP, lambda signum, frame: early.append(signum))
    metrics = Metrics()
    first = open_model()
    first.warm_up()
    models = Models(first, open_model, metrics.model_in_use)

    service = Service(models, limits, metrics, AccessLog(log_requests), key, any_host)
    if parent:
        service.reloaded = parent.tell_all
    # A thread that makes rows of a large request would keep the event loop waiting 5 ms each time.
    sys.setswitchinterval(0.0005)
    files = raise_open_files()
    most = files - SPARE_FILES if files else 1 << 20
    server = Server(service, most, shares=parent is not None)
    runner = _Runner(server, service, parent)
    _run_loop(runner.run(listener, ready, early))
    return 0


class _Runner:
    def __init__(self, server: Server, service: Service, parent: Parent | None) -> None:
        self._server = server
        self._service = service
        self._parent = parent
        self._stops = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(
        self, listener: socket.socket, ready: Callable[[], None], early: list[int]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        handlers: dict[int, Callable[[], Any]] = {signal.SIGTERM: self._stop}
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            handlers[signal.SIGINT] = self._stop
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._reload
        for signum, handler in handlers.items():
            self._listen(signum, handler)
        if early:
            self._reload()
        if self._parent is not None:
            self._loop.add_reader(self._parent.alive, self._orphaned)
        server = asyncio.ensure_future(self._server.serve([listener]))
        while not self._server.started and not server.done():
            await asyncio.sleep(0.005)
        if self._server.started:
            ready()
        await server

    def _listen(self, signum: int, handler: Callable[[], Any]) -> None:
        if sys.platform != "win32":
            self._loop.add_signal_handler(signum, handler)
        elif threading.current_thread() is threading.main_thread():
            signal.signal(signum, lambda *_: self._loop.call_soon_threadsafe(handler))

    def _stop(self) -> None:
        self._stops += 1
        if self._stops == 1:
            # A parent stops all at once, by another signal.
            seconds = self._service.limits.drain + (_PATIENCE if self._parent else 0)
            self._start(self._server.drain(seconds))
        elif self._stops == 2:  # a second signal does not wait for clients to notice
            self._server.should_exit = True
        else:
            self._server.force_exit = True

    def _orphaned(self) -> None:
        """The parent was killed, and nobody keeps this worker any more."""
        assert self._parent is not None
        self._loop.remove_reader(self._parent.alive)
        self._parent = None
        self._stop()

    def _reload(self) -> None:
        self._start(self._service.reload_by_signal())

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _run_loop(main: Any) -> None:
    """Run the loop: uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
