"""The training loop and the evaluation loop, once for both graph paths and every model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from rec_runner.checkpoint import Checkpoints
from rec_runner.config import Config
from rec_runner.engine import Engine, Outcome
from rec_runner.metrics import TaskMetrics
from rec_runner.report import Cost, Record, Report


def train(
    engine: Engine, source: Any, config: Config, checkpoints: Checkpoints, report: Report
) -> None:
    """Train for ``runner.epochs`` epochs, saving each.

    Args:
        engine: the graph path.
        source: training windows.
        config: the run's config.
        checkpoints: where epochs are saved.
        report: where progress goes.
    """
    steps = getattr(source, "steps", None)
    engine.start_training(steps)
    step = 0
    for epoch in range(config.required("epochs")):
        meter = Meter(engine, "train", epoch)
        report.start_epoch(f"epoch {epoch}", getattr(source, "rows", None))
        cost = Cost()
        for window in meter.timed(source.windows(config.required("print_interval"))):
            meter.add(window, engine.train(window, step))
            step += window.batches
            report.advance(window.rows)
            cost.add(meter.waited, window.batches, window.rows)
            if (window.end_batch - 1) % config.required("print_interval") == 0:
                report.batch_line(epoch, window.end_batch - 1, meter.running(), cost)
        report.epoch_line(meter.record())
        checkpoints.save(epoch, engine.state_dict(), engine.optimizer_state())


def evaluate(engine: Engine, source: Any, epoch: int | str, phase: str, report: Report) -> Meter:
    """Score every row of a source and report the metrics.

    Args:
        engine: the graph path, weights loaded.
        source: test or validation windows.
        epoch: the epoch whose weights these are.
        phase: ``infer`` or ``valid``.
        report: where progress goes.

    Returns:
        the meter, which holds every label and log-odds.
    """
    meter = Meter(engine, phase, epoch)
    report.start_epoch(f"{phase} {epoch}", getattr(source, "_rows", None))
    for window in meter.timed(source.windows()):
        meter.add(window, engine.score(window))
        report.advance(window.rows)
    report.epoch_line(meter.record())
    return meter


class Meter:
    """Loss, metrics, rows and time of one pass over the data.

    Args:
        engine: whose metrics count where the model has no binary tasks.
        phase: ``train``, ``valid`` or ``infer``.
        epoch: which epoch.
    """

    def __init__(self, engine: Engine, phase: str, epoch: int | str) -> None:
        self.engine = engine
        self.phase = phase
        self.epoch = epoch
        self.tasks = TaskMetrics(engine.task_names) if engine.task_names is not None else None
        self.rows = 0
        self.waited = 0.0
        self._loss_sum = 0.0
        self._losses = 0
        self._last_loss = 0.0
        self._values: Mapping[str, Any] = {}
        self._start = time.perf_counter()
        engine.reset_metrics()

    def timed(self, windows: Any) -> Any:
        """Pass windows on; ``waited`` is the seconds that the last one took to come."""
        iterator = iter(windows)
        while True:
            start = time.perf_counter()
            window = next(iterator, None)
            self.waited = time.perf_counter() - start
            if window is None:
                return
            yield window

    def add(self, window: Any, outcome: Outcome) -> None:
        """Count a window."""
        self.rows += window.rows
        if self.tasks is not None:
            self.tasks.update(outcome.labels, outcome.log_odds)
        if len(outcome.losses):
            self._loss_sum += float(np.sum(outcome.losses, dtype=np.float64))
            self._losses += len(outcome.losses)
            self._last_loss = float(outcome.losses[-1])
        self._values = outcome.values

    def running(self) -> dict[str, Any]:
        """What a log line shows in mid-epoch."""
        metrics = self.tasks.running_auc() if self.tasks else self.engine.own_metrics()
        loss = {"loss": self._last_loss} if self._losses else {}
        return {**metrics, **loss, **_plain(self._values)}

    def record(self) -> Record:
        """The pass as one record of ``metrics.jsonl``."""
        seconds = time.perf_counter() - self._start
        metrics = self.tasks.result() if self.tasks else _plain(self.engine.own_metrics())
        loss = {"loss": self._loss_sum / self._losses} if self._losses else {}
        return {
            "phase": self.phase,
            "path": self.engine.path,
            "epoch": self.epoch,
            **metrics,
            **loss,
            "rows": self.rows,
            "seconds": round(seconds, 3),
            "rows_per_second": round(self.rows / max(seconds, 1e-9), 1),
        }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors and arrays as numbers or lists that JSON knows."""
    plain = {}
    for name, value in values.items():
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        plain[name] = array.item() if array.size == 1 else array.tolist()
    return plain
