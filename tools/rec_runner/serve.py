"""The job of ``tools/serve.py``: an export behind an HTTP address."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from rec_runner.cli import Parser, show_any_text, tell
from rec_runner.system.errors import RunError, UserError

if TYPE_CHECKING:
    from rec_runner.service.models import Model
    from rec_runner.service.workers import Parent

KEY = "SERVE_API_KEY"
SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"
PACKAGES = ("fastapi", "uvicorn", "httptools", "orjson", "prometheus_client")
Open = Callable[[Namespace], Callable[[], "Model"]]


def main(arguments: Sequence[str] | None = None, opener: Open | None = None) -> int:
    """Run the tool.

    Args:
        arguments: command line; by default the process's own.
        opener: makes what opens the model that the command line names; by default an export.

    Returns:
        exit status: 0 after a signal to stop, 2 for bad input, 1 for other failures.
    """
    show_any_text()
    options = _parser().parse_args(arguments)
    try:
        return serve(options, opener)
    except KeyboardInterrupt:  # while it starts; later it is a signal to stop
        print("error: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            raise
        return tell(error)


def _parser() -> Parser:
    parser = Parser(
        description="Answer requests for predictions with an export that tools/export.py made: "
        "POST /predict, GET /model, and a page at /. The environment variable "
        f"{KEY} holds the key that clients have to send, if it is set."
    )
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="the folder of the export")
    add("--host", default="127.0.0.1", help="the address to listen at (127.0.0.1)")
    add("--port", type=_whole(0, 65535), default=8000, help="the port; 0 takes a free one (8000)")
    add("--workers", type=_whole(1, 256), default=1, help="processes (1)")
    add("--no-key", action="store_true", help=f"no {KEY}, yet answer other machines and any Host")
    add("--max-body", type=_whole(1, 1 << 30), default=8 << 20, help="bytes of a request (8388608)")
    add("--max-rows", type=_whole(1, 10**7), default=10_000, help="rows of a request (10000)")
    add("--timeout", type=_seconds, default=30.0, help="seconds for a request to come (30)")
    add("--queue", type=_whole(1, 10**6), default=1024, help="requests that may wait (1024)")
    add("--batch-rows", type=_whole(1, 10**6), default=256, help="rows scored at once (256)")
    add("--batch-wait-ms", type=_wait, default=0.0, help="wait for more rows to score (0)")
    add("--drain-seconds", type=_wait, default=1.0, help="answer on after SIGTERM (1)")
    add("--runtime", choices=("auto", "onnx", "paddle"), default="auto", help="what scores (auto)")
    add("--threads", type=_whole(1, 256), default=1, help="threads of the runtime (1)")
    add("--quiet", action="store_true", help="no access log")
    add("--debug", action="store_true", help="show the full traceback of any error")
    return parser


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:20]) <= most:
            raise ValueError
        return int(text)

    number.__name__ = f"whole number from {least} to {most}"
    return number


def _seconds(text: str) -> float:
    value = _wait(text)
    if value <= 0:
        raise ValueError
    return value


def _wait(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise ValueError
    return value


_wait.__name__ = "number from 0 to 3600"
_seconds.__name__ = "number above 0, to 3600"


def serve(options: Namespace, opener: Open | None = None) -> int:
    """Serve until a signal to stop.

    Raises:
        UserError: the command line, the key or the export is not as it should be.
        RunError: the address cannot be had.
    """
    _check_packages()
    key = _key(options)
    make = opener or _of_export
    if options.workers > 1:
        return _serve_by_several(options, key, make)
    with _listen(options) as listener:
        return _work(options, key, make, listener, lambda: _tell_address(listener), None)


def _check_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join(name.replace("_", "-") for name in missing)
        raise UserError(f"serving needs some packages more: python -m pip install {packages}")


def _key(options: Namespace) -> bytes | None:
    """The key that clients have to send.

    Raises:
        UserError: it cannot be one, or there is none and other machines could connect.
    """
    key = os.environ.get(KEY)
    if key is not None:
        if not key.isascii() or not key.isprintable() or not key or " " in key:
            raise UserError(f"{KEY} should be printable ASCII characters without spaces")
        if options.no_key:
            raise UserError(f"--no-key, and {KEY} is set; one of the two")
        return key.encode()
    if not options.no_key and not _is_loopback(options.host):
        raise UserError(
            f"--host {options.host} lets other machines connect, and {KEY} is not set; set it, or "
            "say --no-key where something else keeps strangers away"
        )
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(options: Namespace) -> socket.socket:
    """The socket, bound; uvicorn listens.

    Raises:
        RunError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # there it would let others take the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise RunError(f"--host {options.host} --port {options.port}: {said}") from error
    listener.set_inheritable(True)
    return listener


def _tell_address(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving at http://{shown}:{port}", flush=True)


def _serve_by_several(options: Namespace, key: bytes | None, opener: Open) -> int:
    from rec_runner.service.workers import Workers, can_fork

    if not can_fork():
        raise UserError("--workers: this platform does not share sockets; 1 was expected")
    own = os.getpid()
    folder = tempfile.mkdtemp(prefix="serve-metrics-")
    os.environ[SHARED_METRICS] = folder
    try:
        with _listen(options) as listener:

            def work(parent: Parent) -> int:
                def ready() -> None:
                    if parent.ready is not None:
                        _tell_address(listener)
                    parent.tell_ready()

                try:
                    return _work(options, key, opener, listener, ready, parent)
                except Exception as error:
                    if options.debug:
                        raise
                    return tell(error)

            return Workers(
                options.workers, listener, options.drain_seconds, work, _forget_worker
            ).run()
    finally:
        if os.getpid() == own:
            shutil.rmtree(folder, ignore_errors=True)


def _forget_worker(pid: int) -> None:
    """What a worker that is no more had running counts no longer."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)


def _work(
    options: Namespace,
    key: bytes | None,
    opener: Open,
    listener: socket.socket,
    ready: Callable[[], None],
    parent: Parent | None,
) -> int:
    """What one worker does."""
    from rec_runner.service.limits import Limits
    from rec_runner.service.worker import run_worker

    limits = Limits(
        options.max_body,
        options.max_rows,
        options.timeout,
        options.queue,
        options.batch_rows,
        options.batch_wait_ms / 1000,
        options.drain_seconds,
    )
    open_model = opener(options)
    any_host = key is not None or options.no_key
    log_requests = not options.quiet
    return run_worker(open_model, limits, key, listener, ready, parent, log_requests, any_host)


def _of_export(options: Namespace) -> Callable[[], Model]:
    # Only where it is needed: the runtime starts threads, which a parent of workers must not have.
    from rec_runner.service.models import export_opener

    return export_opener(Path(options.model), options.runtime, options.threads)
