"""Loss, metrics, rows and time of one pass over the data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from rec_runner.data.rows import Window
from rec_runner.engine.base import Engine, Outcome
from rec_runner.metrics.base import plain
from rec_runner.report.report import Record
from rec_runner.system.schema import refusing


class Meter:
    """Collects the outcomes of a pass.

    Args:
        engine: its metrics are reset, and count the rows of this pass.
        phase: ``train``, ``valid`` or ``infer``.
        epoch: which epoch.

    Attributes:
        rows: rows so far.
        waited: seconds that the last window took to come.
    """

    def __init__(self, engine: Engine, phase: str, epoch: int) -> None:
        self.engine = engine
        self.phase = phase
        self.epoch = epoch
        self.rows = 0
        self.waited = 0.0
        self._losses: list[np.ndarray] = []
        self._batch_rows: list[np.ndarray] = []
        self._values: Mapping[str, Any] = {}
        self._start = time.perf_counter()
        engine.metrics.reset()

    @property
    def seconds(self) -> float:
        """Seconds that the pass has taken, those before a resume included."""
        return time.perf_counter() - self._start

    def timed(self, windows: Iterable[Window]) -> Iterator[Window]:
        """Pass windows on and note how long each took to come."""
        iterator = iter(windows)
        while True:
            start = time.perf_counter()
            window = next(iterator, None)
            self.waited = time.perf_counter() - start
            if window is None:
                return
            yield window

    def add(self, outcome: Outcome) -> None:
        """Count what was trained on or scored of a window."""
        self.rows += int(outcome.rows.sum())
        self._batch_rows.append(outcome.rows)
        if len(outcome.losses):
            self._losses.append(outcome.losses)
        self._values = outcome.values

    def running(self) -> dict[str, Any]:
        """What a log line shows in mid-epoch."""
        loss = {"loss": float(self._losses[-1][-1])} if self._losses else {}
        return {**self.engine.metrics.running(), **loss, **plain(self._values, arrays=True)}

    def record(self) -> Record:
        """The pass as one record of ``metrics.jsonl``; its loss is the mean over rows."""
        loss = {}
        if self._losses:
            losses = np.concatenate(self._losses).astype(np.float64)
            loss = {"loss": float(np.average(losses, weights=_joined(self._batch_rows)))}
        seconds = self.seconds
        head = {"phase": self.phase, "graph": self.engine.graph, "epoch": self.epoch}
        return {
            **head,
            **plain(self._values),
            **self.engine.metrics.result(),
            **loss,
            **head,  # a model may print an "epoch" of its own
            "rows": self.rows,
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / max(seconds, 1e-9), 1),
        }

    def last_batch(self) -> dict[str, np.ndarray]:
        """What the last batch gave: labels and log-odds, or what the model itself names."""
        rows = _joined(self._batch_rows)
        return self.engine.metrics.last_batch(int(rows[-1]) if len(rows) else 0)

    def state_dict(self) -> dict[str, Any]:
        """What a mid-epoch checkpoint needs to go on with this pass."""
        losses = np.concatenate(self._losses) if self._losses else np.empty(0, np.float32)
        return {
            "seconds": self.seconds,
            "losses": losses,
            "batch_rows": _joined(self._batch_rows),
            "values": plain(self._values),
            "metrics": self.engine.metrics.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Args:
            state: as ``checkpoint/format.py`` reads it; what metrics hold is checked here.

        Raises:
            UserError: the metrics are not those of this engine, or not of these rows.
        """
        self._start = time.perf_counter() - state["seconds"]
        self._losses = [state["losses"]] if len(state["losses"]) else []
        self._batch_rows = [state["batch_rows"]]
        self._values = state["values"]
        self.rows = int(state["batch_rows"].sum())
        with refusing("the checkpoint's rec.pdstate is not of this run"):
            self.engine.metrics.load_state_dict(state["metrics"], self.rows)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)
