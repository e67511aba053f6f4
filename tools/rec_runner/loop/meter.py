"""Loss, metrics, rows and time of one pass over the data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from rec_runner.data.rows import Window
from rec_runner.engine.base import Engine, Outcome
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.report.report import Record

MAX_SHOWN = 4


class Meter:
    """Collects the outcomes of a pass.

    Args:
        engine: whose own metrics count where the model has no binary tasks.
        phase: ``train``, ``valid`` or ``infer``.
        epoch: which epoch.

    Attributes:
        tasks: exact metrics of the binary tasks, or None.
        waited: seconds that the last window took to come.
    """

    def __init__(self, engine: Engine, phase: str, epoch: int) -> None:
        self.engine = engine
        self.phase = phase
        self.epoch = epoch
        self.tasks = TaskMetrics(engine.task_names) if engine.task_names is not None else None
        self.rows = 0
        self.waited = 0.0
        self._losses: list[np.ndarray] = []
        self._loss_rows: list[int] = []
        self._values: Mapping[str, Any] = {}
        self._last: tuple[Outcome, int] = (Outcome.joined([]), 1)
        self._start = time.perf_counter()
        engine.reset_metrics()

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

    def add(self, window: Window, outcome: Outcome) -> None:
        """Count a window, or what was trained on of it."""
        self.rows += window.rows if outcome.labels is None else len(outcome.labels)
        if self.tasks is not None:
            self.tasks.update(outcome.labels, outcome.log_odds)
        if len(outcome.losses):
            self._losses.append(outcome.losses)
            if self.phase != "train":  # where the last batch may be a small one
                self._loss_rows.append(window.rows)
        self._values = outcome.values
        self._last = outcome, window.batch_size

    def running(self) -> dict[str, Any]:
        """What a log line shows in mid-epoch."""
        if self.tasks is not None:
            metrics = self.tasks.running_auc()
        else:
            metrics = _plain(self.engine.running_metrics(), arrays=True)
        loss = {"loss": float(self._losses[-1][-1])} if self._losses else {}
        return {**metrics, **loss, **_plain(self._values, arrays=True)}

    def record(self) -> Record:
        """The pass as one record of ``metrics.jsonl``."""
        seconds = time.perf_counter() - self._start
        metrics = self.tasks.result() if self.tasks else _plain(self.engine.own_metrics())
        loss = {}
        if self._losses:
            losses = np.concatenate(self._losses).astype(np.float64)
            loss = {"loss": float(np.average(losses, weights=self._loss_rows or None))}
        return {
            "phase": self.phase,
            "path": self.engine.path,
            "epoch": self.epoch,
            **_plain(self._values),
            **metrics,
            **loss,
            "rows": self.rows,
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / max(seconds, 1e-9), 1),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a mid-epoch checkpoint needs to go on with this pass."""
        state: dict[str, Any] = {"rows": self.rows, "losses": _concatenated(self._losses)}
        if self.tasks is not None:
            state.update(labels=self.tasks.labels, log_odds=self.tasks.log_odds)
        else:
            state["own"] = self.engine.metrics_state()
            state["values"] = _plain(self._values)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.rows = state["rows"]
        self._losses = [state["losses"]] if len(state["losses"]) else []
        if self.tasks is not None:
            self.tasks.update(state["labels"], state["log_odds"])
        else:
            self.engine.set_metrics_state(state["own"])
            self._values = state.get("values", {})

    def last_batch(self) -> dict[str, np.ndarray]:
        """What the last batch gave: labels and log-odds, or what the model itself names."""
        if self.tasks is None:
            return self.engine.last_values()
        outcome, size = self._last
        first = (len(outcome.labels) - 1) // size * size
        return {"labels": outcome.labels[first:], "log_odds": outcome.log_odds[first:]}


def _concatenated(pieces: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)


def _plain(values: Mapping[str, Any], arrays: bool = False) -> dict[str, Any]:
    """Tensors, arrays and lists as numbers and lists that JSON knows.

    Args:
        values: by name.
        arrays: show larger arrays too, abbreviated to a line of text, rather than leave them out.
    """
    plain = {}
    for name, value in values.items():
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        if array.size == 1:
            number = array.item()
            undefined = isinstance(number, float) and np.isnan(number)
            plain[name] = None if undefined else number
        elif isinstance(value, (list, tuple)):
            plain[name] = array.tolist()
        elif arrays:
            text = np.array2string(array, threshold=MAX_SHOWN, edgeitems=1, precision=6)
            plain[name] = " ".join(text.split())
    return plain
