"""Rows on their way through a model: read, predicted, made bytes, written, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO, Callable, NamedTuple

import numpy as np

from rec_runner.contract.guard import iterate, told
from rec_runner.data.inputs import Input
from rec_runner.report.progress import Progress
from rec_runner.rows_out.table import Encoder, Predicted
from rec_runner.rows_out.target import Write
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.log import warn

AHEAD = 4  # blocks that are predicted, and made bytes, meanwhile
NAMED = 10  # bad rows, beside their number


class Model(NamedTuple):
    """A trained model and the reader of its rows.

    Attributes:
        name: for messages.
        tasks: names of the tasks.
        reader: ``PredictionRows`` of the model directory.
        make_source: its ``Source``.
        predict: float32 ``[n, F]`` to float32 ``[n, T]``.
    """

    name: str
    tasks: Sequence[str]
    reader: Any
    make_source: Any
    predict: Callable[[np.ndarray], np.ndarray]


class Flow:
    """Rows on their way from the inputs to the output.

    Reading, which parses ahead in threads of its own, predicting, and making bytes of what was
    predicted go on at the same time. Files are read and written here, where a signal can interrupt
    it.

    Args:
        model: what predicts them.
        keep: columns to hand on.
        keeps_bad: go on after a bad row.

    Attributes:
        rows: how many there were.
    """

    def __init__(self, model: Model, keep: Sequence[str], keeps_bad: bool) -> None:
        self.rows = 0
        self._model = model
        self._keep = keep
        self._keeps_bad = keeps_bad
        self._bad = 0
        self._first_bad: list[str] = []

    def through(self, inputs: Sequence[Input], encoder: Encoder, write: Write, shown: bool) -> None:
        """Read all inputs, predict, write.

        Raises:
            UserError: a row or a file cannot be used.
            RunError: a file cannot be read.
        """
        sizes = [one.size for one in inputs]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        progress = Progress(total, shown)
        predicting, encoding = (ThreadPoolExecutor(1, name) for name in ("predict", "rows"))
        ahead: deque[Future[bytes]] = deque([encoding.submit(encoder.start)])
        try:
            done = 0
            for one in inputs:
                with one.opened() as stream:
                    for start, rows in self._read(one, stream):
                        predicted = predicting.submit(self._predict, one, start, rows)
                        ahead.append(encoding.submit(lambda p: encoder.rows(p.result()), predicted))
                        while ahead and (len(ahead) > AHEAD or ahead[0].done()):
                            write(ahead.popleft().result())
                        progress.update(self.rows, done + _place(stream))
                done += one.size or 0
            ahead.append(encoding.submit(encoder.end))
            while ahead:
                write(ahead.popleft().result())
        finally:
            progress.close()
            for pool in (predicting, encoding):
                pool.shutdown(cancel_futures=True)

    def _read(self, one: Input, stream: BinaryIO) -> Iterator[tuple[int, Any]]:
        """Rows of an input, and how many there were before them."""
        reader, start = self._model.reader, 0
        source = self._model.make_source(one.name, stream, one.path)
        try:
            with told(reader, "read"):
                blocks = reader.read(source, self._keep)
            for rows in iterate(reader, "read", blocks, told):
                if len(rows.features):
                    yield start, rows
                    start += len(rows.features)
                    self.rows += len(rows.features)
        except OSError as error:
            raise RunError(f"{one.name} cannot be read: {error.strerror or error}") from error

    def _predict(self, one: Input, start: int, rows: Any) -> Predicted:
        values = self._model.predict(rows.features)
        missing = ~np.isfinite(values).all(axis=1)
        missing[list(rows.faults)] = True
        for row in np.flatnonzero(missing).tolist():
            fault = rows.faults.get(row)
            if fault is None:
                place = f"{one.name}: row {start + row + 1}"
                fault = f"{place}: {self._too_large(rows.features[row])}"
            self._add_bad(str(fault))
        return Predicted({name: rows.kept[name] for name in self._keep}, values, missing)

    def _too_large(self, row: np.ndarray) -> str:
        column = int(np.argmax(np.where(np.isnan(row), -1, np.abs(row))))
        name = self._model.reader.names[column]
        return f"the network makes no number of it; column {name!r} is {row[column]:g} there"

    def _add_bad(self, what: str) -> None:
        if not self._keeps_bad:
            raise UserError(f"{what}; --bad-rows keep goes on and leaves its predictions empty")
        self._bad += 1
        if len(self._first_bad) < NAMED:
            self._first_bad.append(what)

    def tell_bad(self) -> None:
        """Say how many rows could not be used, and what was wrong with the first."""
        if self._bad:
            warn(f"{self._bad:,} of {self.rows:,} rows have no predictions, the first of them:")
            for what in self._first_bad:
                warn(what)


def _place(stream: BinaryIO) -> int:
    with suppress(OSError, ValueError):
        return stream.tell()
    return 0
