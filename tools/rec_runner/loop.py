"""The training loop and the evaluation loop, once for both graph paths and every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rec_runner.checkpoint import Checkpoints, Progress, Snapshot
from rec_runner.data import Source
from rec_runner.engine import Engine, Outcome
from rec_runner.errors import RunError
from rec_runner.meter import Meter
from rec_runner.report import Cost, Record, Report
from rec_runner.signals import StopSignal
from rec_runner.window import Window


@dataclass(frozen=True)
class Plan:
    """How long and how carefully to train.

    Attributes:
        epochs: number of epochs.
        print_interval: batches between two log lines.
        save_steps: batches between two mid-epoch checkpoints; 0 saves at ends of epochs only.
        monitor: validation metric that decides which epoch is best, see :func:`monitored`.
        patience: epochs without a better one after which training stops; None never stops early.
        skip_bad_batches: leave a batch out if its loss is not finite, rather than stop.
        facts: noted in every checkpoint, see :class:`Snapshot`.
    """

    epochs: int
    print_interval: int
    save_steps: int
    monitor: str
    patience: int | None
    skip_bad_batches: bool
    facts: Mapping[str, Any]

    @property
    def stops(self) -> list[tuple[int, int]]:
        """Where a window must end, see :meth:`BlockSource.windows`."""
        saves = [(self.save_steps, 0)] if self.save_steps else []
        return [(self.print_interval, 1), *saves]

    def done(self, progress: Progress) -> bool:
        """Whether there is nothing left to train."""
        if progress.batch == 0 and self.patience is not None and progress.best_epoch is not None:
            if progress.epoch - 1 - progress.best_epoch >= self.patience:
                return True
        return progress.epoch >= self.epochs


def train(
    engine: Engine,
    source: Source,
    valid_source: Source | None,
    plan: Plan,
    checkpoints: Checkpoints,
    report: Report,
    stop: StopSignal,
    start: Snapshot,
) -> None:
    """Train until the plan is done, saving every epoch.

    Args:
        engine: the graph path, ready to train, its state that of ``start``.
        source: training rows.
        valid_source: rows that each epoch is validated on, or None.
        plan: how long and how carefully.
        checkpoints: where to save.
        report: where progress goes.
        stop: says when a person wants the run to end.
        start: where to go on from; only its progress and meter count here.

    Raises:
        Interrupted: a signal came; the run is saved and can be resumed.
        RunError: a loss was not finite, or a checkpoint could not be written.
    """
    progress, meter_state = start.progress, start.meter
    report.records.extend(progress.records)
    while not plan.done(progress):
        meter = Meter(engine, "train", progress.epoch)
        if meter_state:
            meter.load_state_dict(meter_state)
            meter_state = {}
        progress = _train_epoch(engine, source, plan, checkpoints, report, stop, progress, meter)
        report.epoch_line(meter.record())
        progress = replace(progress, epoch=progress.epoch + 1, batch=0)
        if valid_source is not None:
            _, record = evaluate(engine, valid_source, meter.epoch, "valid", report)
            value = monitored(record, plan.monitor)
            if value is not None and _better(value, progress.best_value, plan.monitor):
                progress = replace(progress, best_epoch=meter.epoch, best_value=value)
        progress = replace(progress, records=list(report.records))
        _save(engine, plan, checkpoints, progress)
        stop.check(_stopped_after(f"epoch {meter.epoch}"))
    if progress.best_epoch is not None:
        report.log(f"best epoch: {progress.best_epoch}, {plan.monitor}: {progress.best_value:.6f}")
    if progress.skipped_batches:
        report.log(f"skipped batches with a loss that was not finite: {progress.skipped_batches}")


def _train_epoch(
    engine: Engine,
    source: Source,
    plan: Plan,
    checkpoints: Checkpoints,
    report: Report,
    stop: StopSignal,
    progress: Progress,
    meter: Meter,
) -> Progress:
    epoch = progress.epoch
    report.start_epoch(f"epoch {epoch}", source.known_rows, meter.rows)
    cost = Cost()
    for window in meter.timed(source.windows(epoch, progress.batch, plan.stops)):
        outcome, skipped = _train_window(engine, window, epoch, progress.step, plan)
        meter.add(window, outcome)
        progress = replace(
            progress,
            batch=window.end_batch,
            step=progress.step + window.batches,
            skipped_batches=progress.skipped_batches + skipped,
        )
        report.advance(window.rows)
        cost.add(meter.waited, window.batches, window.rows)
        if (progress.batch - 1) % plan.print_interval == 0:
            report.batch_line(epoch, progress.batch - 1, meter.running(), cost)
        due = plan.save_steps and progress.batch % plan.save_steps == 0
        if due or stop.received:
            _save(engine, plan, checkpoints, progress, meter)
            stop.check(_stopped_after(f"epoch {epoch}, batch {progress.batch - 1}"))
    return progress


def _train_window(
    engine: Engine, window: Window, epoch: int, step: int, plan: Plan
) -> tuple[Outcome, int]:
    """Train on a window; the number of batches left out because their loss was not finite."""
    before = engine.snapshot() if plan.skip_bad_batches else None
    outcome = engine.train(window, step)
    finite = np.isfinite(outcome.losses)
    if finite.all():
        return outcome, 0
    bad = int(np.argmin(finite))
    if before is None:
        where = f" (files: {', '.join(window.files)})" if window.files else ""
        raise RunError(
            f"loss is {outcome.losses[bad]} at epoch {epoch}, batch {window.first_batch + bad}"
            f"{where}; earlier checkpoints are intact; a lower learning rate or "
            "-o runner.skip_bad_batches=true may help"
        )
    # Go back, repeat what was good up to the bad batch, pass over it, and try the rest.
    engine.restore(before)
    outcomes, skipped = [], 1
    if bad:
        outcomes.append(engine.train(window.part(0, bad), step))
    if bad + 1 < window.batches:
        rest = window.part(bad + 1, window.batches)
        outcome, more = _train_window(engine, rest, epoch, step + bad + 1, plan)
        outcomes.append(outcome)
        skipped += more
    return Outcome.joined(outcomes), skipped


def evaluate(
    engine: Engine, source: Source, epoch: int, phase: str, report: Report
) -> tuple[Meter, Record]:
    """Score every row of a source and report the metrics.

    Args:
        engine: the graph path, weights loaded.
        source: test or validation rows.
        epoch: the epoch whose weights these are.
        phase: ``infer`` or ``valid``.
        report: where progress goes.

    Returns:
        the meter, which holds every label and log-odds, and its record.
    """
    meter = Meter(engine, phase, epoch)
    report.start_epoch(f"{phase} {epoch}", source.known_rows)
    for window in meter.timed(source.windows()):
        meter.add(window, engine.score(window))
        report.advance(window.rows)
    record = meter.record()
    report.epoch_line(record)
    return meter, record


def monitored(record: Record, monitor: str) -> float | None:
    """The value of a record that decides which epoch is best.

    Args:
        record: a validation record.
        monitor: name of a metric; ``auc`` and ``logloss`` are means over the tasks.

    Returns:
        the value, or None where it is undefined.

    Raises:
        RunError: there is no such metric.
    """
    if monitor in record:
        return record[monitor]
    values = [value for name, value in record.items() if name.startswith(f"{monitor}_")]
    if not values:
        known = ", ".join(name for name in record if name.startswith(("auc", "logloss", "loss")))
        raise RunError(f"runner.monitor: validation gives no {monitor}; it gives {known}")
    return None if None in values else float(np.mean(values))


def _better(value: float, best: float | None, monitor: str) -> bool:
    if best is None:
        return True
    return value < best if "loss" in monitor else value > best


def _save(
    engine: Engine,
    plan: Plan,
    checkpoints: Checkpoints,
    progress: Progress,
    meter: Meter | None = None,
) -> None:
    state = meter.state_dict() if meter else {}
    weights, optimizer = engine.snapshot()
    checkpoints.save(Snapshot(progress, weights, optimizer, state, plan.facts))


def _stopped_after(place: str) -> str:
    return f"stopped by a signal after {place}; go on with -o runner.resume=true"
