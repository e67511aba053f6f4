"""The files, folders and patterns of a command line that rows are read from, or standard input."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rec_runner.data.files import find_files
from rec_runner.system.errors import RunError, UserError

STDIN = "-"


class Input(NamedTuple):
    """What rows are read from.

    Attributes:
        name: for messages.
        path: its path; None for standard input.
        size: its length in bytes; None where it is not known beforehand.
    """

    name: str
    path: str | None = None
    size: int | None = None

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Its bytes from the start.

        Raises:
            UserError: standard input is closed.
            RunError: it cannot be opened.
        """
        if self.path is None:
            if sys.stdin is None:
                raise UserError("standard input is closed; name the files of the rows")
            yield sys.stdin.buffer
            return
        try:
            stream = open(self.path, "rb")
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror or error}") from error
        with stream:
            yield stream


def find_inputs(names: Sequence[str]) -> list[Input]:
    """What a command line's names stand for, in their order; standard input where there are none.

    Args:
        names: files, folders, patterns, named pipes; ``-`` is standard input.

    Raises:
        UserError: there is no such file, or standard input is named twice.
    """
    names = list(names) or [STDIN]
    if names.count(STDIN) > 1:
        raise UserError(f"FILES: standard input ({STDIN}) can be read only once")
    found = []
    for name in names:
        if name == STDIN:
            found.append(Input("standard input"))
        elif _is_pipe(name):
            found.append(Input(name, name))
        else:
            files = find_files(Path(), name, "FILES")
            found += [Input(file, file, Path(file).stat().st_size) for file in files]
    return found


def _is_pipe(name: str) -> bool:
    """Whether it is a named pipe or a device, as a shell makes one of ``<(command)``."""
    with suppress(OSError, ValueError):
        mode = Path(name).stat().st_mode
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)
    return False
