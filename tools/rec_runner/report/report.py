"""What a person and a script see of a run: log lines, progress bar, summary, metrics.jsonl."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rec_runner.report.visualdl import Visual
from rec_runner.system.files import atomic_write
from rec_runner.system.log import warn
from rec_runner.system.signals import noted

Record = dict[str, Any]


class Report:
    """Log lines on stdout, a progress bar on a terminal, and the records of all epochs.

    Args:
        metrics_file: where every epoch writes the records, a JSON object a line; None writes none.
        visual: where scalars go too.
        make_folder: make the file's folder if it is gone.
    """

    def __init__(
        self, metrics_file: Path | None, visual: Visual | None = None, make_folder: bool = True
    ) -> None:
        self.metrics_file = metrics_file
        self.make_folder = make_folder
        self.visual = visual or Visual(None)
        self.records: list[Record] = []
        self._warned: set[str] = set()
        hidden = not sys.stderr.isatty()
        with noted():  # a bar that is half made complains when it is thrown away
            self._bar = tqdm(unit=" rows", unit_scale=True, leave=False, disable=hidden)

    def log(self, message: str) -> None:
        """One line with the time in front, as PaddleRec's logger writes it."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with self._bar.external_write_mode():
            print(f"{stamp} - INFO - {message}", flush=True)

    def warn_once(self, message: str) -> None:
        """Warn, but of the same thing only once."""
        if message not in self._warned:
            self._warned.add(message)
            with self._bar.external_write_mode():
                warn(message)

    def start_epoch(self, title: str, rows: int | None, done: int = 0) -> None:
        """Start the progress bar anew, ``done`` of ``rows`` rows being behind us."""
        self._bar.reset(total=rows)
        self._bar.update(done)
        self._bar.set_description(title)

    def advance(self, rows: int) -> None:
        """Move the progress bar on."""
        self._bar.update(rows)

    def batch_line(self, epoch: int, batch: int, values: Mapping[str, Any], cost: Cost) -> None:
        """The line PaddleRec writes every ``print_interval`` batches."""
        pairs = [f"{name}:{show(value)}" for name, value in values.items()]
        self.log(", ".join([f"epoch: {epoch}, batch_id: {batch}", *pairs, cost.text()]))

    def epoch_line(self, record: Record) -> None:
        """The line PaddleRec writes at the end of an epoch; the record is kept and written."""
        values = {**scores(record), **counts(record)}
        pairs = [f"{name}: {show(value)}" for name, value in values.items()]
        head = f"epoch: {record['epoch']} done"
        if record["phase"] == "valid":
            head = f"epoch: {record['epoch']} validated"
        self.log(", ".join([head, *pairs, f"epoch time: {record['seconds']:.2f} s"]))
        self.records.append(record)
        self._write()
        self.visual.add(f"{record['phase']}_epoch", record["epoch"], scores(record))

    def _write(self) -> None:
        if self.metrics_file is None:
            return
        with atomic_write(self.metrics_file, self.make_folder) as stream:
            stream.write("".join(_json_line(r) for r in self.records).encode())

    def summary(self) -> None:
        """A table of all epochs."""
        self._bar.close()
        self.visual.close()
        if not self.records:
            return
        columns = ["epoch", "phase", *scores(self.records[0]), "rows/s"]
        rows = [
            [
                str(record["epoch"]),
                str(record["phase"]),
                *(show(record[name]) if name in record else "-" for name in columns[2:-1]),
                f"{record['rows_per_second']:,.0f}",
            ]
            for record in self.records
        ]
        widths = [max(map(len, column)) for column in zip(columns, *rows)]
        for row in (columns, *rows):
            print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)), flush=True)


def _json_line(record: Record) -> str:
    """A record as a line of JSON, which has no NaN and no infinity: they become null."""
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Cost:
    """Time since the last log line, split into reading and the rest."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._reading = 0.0
        self._batches = self._rows = 0

    def add(self, reading: float, batches: int, rows: int) -> None:
        """Count a window: seconds spent waiting for it, its batches and rows."""
        self._reading += reading
        self._batches += batches
        self._rows += rows

    def text(self) -> str:
        """The end of a batch line; starts the count anew."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        batches = max(self._batches, 1)
        text = (
            f"avg_reader_cost: {self._reading / batches:.5f} sec, "
            f"avg_batch_cost: {seconds / batches:.5f} sec, "
            f"avg_samples: {self._rows / batches:.5f}, ips: {self._rows / seconds:.2f} ins/s"
        )
        self._restart()
        return text


def scores(record: Record) -> Record:
    """The loss and metrics of a record, without its bookkeeping."""
    rest = {"phase", "graph", "epoch", "rows", "seconds", "rows_per_second", *counts(record)}
    return {name: value for name, value in record.items() if name not in rest}


def counts(record: Record) -> Record:
    """How many rows of a task were known, and groups left out: see ``TaskMetrics.result``."""
    tasks = [name[len(kind) :] for kind in ("auc_", "mse_") for name in record if name[:4] == kind]
    names = [f"{what}_{task}" for what in ("rows", "left_out_groups") for task in tasks]
    return {name: record[name] for name in names if name in record and name != "rows_per_second"}


def show(value: Any) -> str:
    """A number as log lines write it; an undefined one says so.

    Errors of a regression have its target's unit: where six decimals would leave next to nothing
    of a number, or hide it among digits, there is an exponent.
    """
    if value is None:
        return "undefined"
    if isinstance(value, float):
        plain = not value or 1e-4 <= abs(value) < 1e12 or not math.isfinite(value)
        return f"{value:.6f}" if plain else f"{value:.6e}"
    return str(value)
