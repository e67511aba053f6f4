"""Where predictions go: a file that is whole or absent, or standard output; and in which format."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import Callable

from rec_runner.rows_out.parquet import ParquetEncoder
from rec_runner.rows_out.table import Encoder
from rec_runner.rows_out.text import CsvEncoder, Gzipped, JsonEncoder
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.files import atomic_write

Write = Callable[[bytes], object]
FORMATS = ("csv", "jsonl", "parquet")
_ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def format_of(out: str | None, wanted: str | None) -> tuple[str, bool]:
    """The format to write, and whether to compress it.

    Args:
        out: name of the file; None for standard output.
        wanted: one of :data:`FORMATS`, where a person says it.

    Raises:
        UserError: the name tells no format, or another one; or it cannot be compressed.
    """
    if out is None:
        return wanted or "csv", False
    name = Path(out).name.lower()
    compressed = name.endswith(".gz")
    told = _ENDINGS.get(Path(name.removesuffix(".gz")).suffix)
    if told == "parquet" and compressed:
        raise UserError(f"--out {out}: Parquet is compressed by itself; name it .parquet")
    if told is None and wanted is None:
        endings = ", ".join(_ENDINGS)
        raise UserError(
            f"--out {out}: its name tells no format, expected one that ends in {endings}, the text "
            "ones perhaps in .gz besides; --format names it otherwise"
        )
    if told and wanted and told != wanted:
        raise UserError(f"--format {wanted}: --out {out} is named as {told}")
    return wanted or told or "csv", compressed


def make_encoder(kind: str, compressed: bool, kept: Sequence[str], tasks: Sequence[str]) -> Encoder:
    """What makes the bytes of a format, see :func:`format_of`; columns as :class:`Encoder`'s."""
    of_kind: dict[str, Callable[..., Encoder]]
    of_kind = {"csv": CsvEncoder, "jsonl": JsonEncoder, "parquet": ParquetEncoder}
    encoder = of_kind[kind](kept, tasks)
    return Gzipped(encoder) if compressed else encoder


def check_target(out: str, inputs: Sequence[str]) -> None:
    """Whether a file for predictions may be there, before anything that takes time.

    Args:
        out: its name.
        inputs: files that are read, which it may not be.

    Raises:
        UserError: it may not.
    """
    file = Path(out)
    if file.is_dir():
        raise UserError(f"--out {out}: it is a folder, the name of a file is expected")
    if not file.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {file.parent}")
    if any(os.path.realpath(out) == os.path.realpath(name) for name in inputs):
        raise UserError(f"--out {out}: its rows are read; give another name")


@contextmanager
def opened(out: str) -> Iterator[Write]:
    """Open a file for predictions; it takes its name when all of it is on disk.

    Args:
        out: its name; or that of a device or a named pipe, which is written to as it is.

    Yields:
        what writes bytes to it.

    Raises:
        RunError: it cannot be written; what stood there before still does.
    """
    file = Path(out)
    if file.exists() and not file.is_file():
        with _named(file), open(file, "wb", buffering=0) as stream:
            yield partial(_write_all, stream)
        return
    with atomic_write(file, make_folder=False) as stream:
        yield stream.write


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Errors of what is no plain file, but for a pipe that nobody reads any longer."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"{file} cannot be written: {error.strerror or error}") from error


@contextmanager
def own_stdout() -> Iterator[Write]:
    """Keep standard output to oneself: what anything else prints meanwhile goes to stderr.

    Paddle's own code too prints now and then, and what it has not written out yet comes last of
    all: where standard output is the process's own, this holds until the process ends.

    Yields:
        what writes to it, or says that it is closed.
    """
    shown = sys.stdout
    if shown is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # in its place, so that no file is
        yield _write_nowhere
        return
    shown.flush()
    try:
        rows = open(os.dup(shown.fileno()), "wb", buffering=0)
        os.dup2(2, shown.fileno())
    except (OSError, ValueError):  # it is no file of the system's, in a notebook for instance
        with redirect_stdout(sys.stderr):
            yield lambda data: shown.write(data.decode())
        return
    with rows:
        yield partial(_write_all, rows)


def _write_nowhere(data: bytes) -> None:
    raise UserError("standard output is closed; --out names a file for the predictions")


def _write_all(stream: RawIOBase, data: bytes) -> None:
    left = memoryview(data)
    while left:
        done = stream.write(left)
        if done is None:  # a pipe that does not block, and is full
            time.sleep(0.01)
        left = left[done or 0 :]
