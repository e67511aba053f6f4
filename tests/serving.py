"""A service as a process, and clients of it: http.client's, and bare sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from helpers import ROOT, TOOLS

FAKE = Path(__file__).with_name("fake_service.py")
TOOL = TOOLS / "serve.py"


class Answer(NamedTuple):
    """An answer: names of headers in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class Running:
    """A service that runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        end = time.monotonic() + 60  # of a loaded machine
        while not (found := re.search(r"serving at http://127.0.0.1:(\d+)", self.text())):
            assert process.poll() is None and time.monotonic() < end, self.text()
            time.sleep(0.02)
        self.port = int(found[1])

    def text(self) -> str:
        """All that it has written, on stdout and stderr."""
        return self.log.read_text("utf-8")

    def lines(self, least: int = 1, wait: float = 10, **wanted: object) -> list[dict[str, Any]]:
        """Lines of the access log with some values, once there are so many."""
        end = time.monotonic() + wait
        while True:
            lines = [json.loads(line) for line in self.text().splitlines() if line[:1] == "{"]
            found = [line for line in lines if wanted.items() <= line.items()]
            if len(found) >= least or time.monotonic() >= end:
                return found
            time.sleep(0.02)

    def ask(
        self,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> Answer:
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            return ask(connection, path, body, headers, method)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def talk(self, *parts: bytes | float) -> bytes:
        """Send bytes on a connection of its own, pausing for each number; all that comes back."""
        with self.connect() as client:
            for part in parts:
                if isinstance(part, bytes):
                    client.sendall(part)
                else:
                    time.sleep(part)
            found = []
            with contextlib.suppress(ConnectionError):
                while data := client.recv(65536):
                    found.append(data)
            return b"".join(found)

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; its exit status."""
        self.process.send_signal(signum)
        return self.process.wait(60)


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
) -> Answer:
    """One request on a connection."""
    sent = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
    answer = connection.getresponse()
    found = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, found, answer.read())


@contextlib.contextmanager
def serving(
    log: Path, *arguments: object, program: Path = FAKE, **environment: str
) -> Iterator[Running]:
    """A service on a free port, killed at the end if it still runs.

    Args:
        log: where its output goes.
        arguments: its command line.
        program: the tool itself, or the one with a made-up model.
        environment: further environment variables.
    """
    command = [sys.executable, str(program), "--port", "0", *map(str, arguments)]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=settings)
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()
