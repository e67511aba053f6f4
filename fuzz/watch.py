"""What a changed file may not make its reader do: run code, take much memory or much time."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEMORY = 1 << 30
SECONDS = 10.0
NEVER = ("os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "subprocess.", "socket.")
NEVER += ("ctypes.dlopen", "exec", "compile", "import", "pickle.find_class", "pty.", "marshal.")


class Broken(BaseException):
    """A case did what none may; no ``except Exception`` of the code under test hides it."""


_armed: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _armed:
        return
    if event.startswith(NEVER):
        raise Broken(f"{event} {arguments!r:.200}")
    if event == "open" and not isinstance(arguments[0], int):
        name = os.path.abspath(os.fsdecode(arguments[0]))
        # A sentence about a directory's own code looks up the line that failed.
        if not name.startswith(_armed[0]) and not name.endswith(".py"):
            raise Broken(f"open {arguments!r:.200}")


@contextlib.contextmanager
def watched(folder: Path, code: bool = True) -> Iterator[None]:
    """Time is limited inside, what is said is thrown away, code and files are watched.

    Args:
        folder: where files may be opened.
        code: whether to watch; a tool that starts loads its model directory's code.
    """
    said = io.StringIO()
    if code:
        _armed.append(os.path.abspath(folder))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield
    finally:
        _armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit() -> None:
    """Limit this process's memory from now on; arm the clock and the watch."""

    def too_long(*_: object) -> None:
        raise Broken(f"more than {SECONDS:g} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    allowed = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (allowed, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, too_long)
    sys.addaudithook(_audit)
